//! `tcp_info` of the kernel.

use std::{io, os::fd::RawFd};

use super::sys;

/// Names, offsets in `struct tcp_info` (linux/tcp.h), and sizes in bytes. An older kernel returns only
/// the first part of it.
const FIELDS: &[(&str, usize, usize)] = &[
    ("tcpi_state", 0, 1),
    ("tcpi_ca_state", 1, 1),
    ("tcpi_retransmits", 2, 1),
    ("tcpi_probes", 3, 1),
    ("tcpi_backoff", 4, 1),
    ("tcpi_options", 5, 1),
    ("tcpi_rto", 8, 4),
    ("tcpi_ato", 12, 4),
    ("tcpi_snd_mss", 16, 4),
    ("tcpi_rcv_mss", 20, 4),
    ("tcpi_unacked", 24, 4),
    ("tcpi_sacked", 28, 4),
    ("tcpi_lost", 32, 4),
    ("tcpi_retrans", 36, 4),
    ("tcpi_fackets", 40, 4),
    ("tcpi_last_data_sent", 44, 4),
    ("tcpi_last_ack_sent", 48, 4),
    ("tcpi_last_data_recv", 52, 4),
    ("tcpi_last_ack_recv", 56, 4),
    ("tcpi_pmtu", 60, 4),
    ("tcpi_rcv_ssthresh", 64, 4),
    ("tcpi_rtt", 68, 4),
    ("tcpi_rttvar", 72, 4),
    ("tcpi_snd_ssthresh", 76, 4),
    ("tcpi_snd_cwnd", 80, 4),
    ("tcpi_advmss", 84, 4),
    ("tcpi_reordering", 88, 4),
    ("tcpi_rcv_rtt", 92, 4),
    ("tcpi_rcv_space", 96, 4),
    ("tcpi_total_retrans", 100, 4),
    ("tcpi_pacing_rate", 104, 8),
    ("tcpi_max_pacing_rate", 112, 8),
    ("tcpi_bytes_acked", 120, 8),
    ("tcpi_bytes_received", 128, 8),
    ("tcpi_segs_out", 136, 4),
    ("tcpi_segs_in", 140, 4),
    ("tcpi_notsent_bytes", 144, 4),
    ("tcpi_min_rtt", 148, 4),
    ("tcpi_data_segs_in", 152, 4),
    ("tcpi_data_segs_out", 156, 4),
    ("tcpi_delivery_rate", 160, 8),
    ("tcpi_busy_time", 168, 8),
    ("tcpi_rwnd_limited", 176, 8),
    ("tcpi_sndbuf_limited", 184, 8),
    ("tcpi_delivered", 192, 4),
    ("tcpi_delivered_ce", 196, 4),
    ("tcpi_bytes_sent", 200, 8),
    ("tcpi_bytes_retrans", 208, 8),
    ("tcpi_dsack_dups", 216, 4),
    ("tcpi_reord_seen", 220, 4),
    ("tcpi_rcv_ooopack", 224, 4),
    ("tcpi_snd_wnd", 228, 4),
    ("tcpi_rcv_wnd", 232, 4),
    ("tcpi_rehash", 236, 4),
    ("tcpi_total_rto", 240, 2),
    ("tcpi_total_rto_recoveries", 242, 2),
    ("tcpi_total_rto_time", 244, 4),
];

/// Bit fields: name, byte, lowest bit, and number of bits.
const BITS: &[(&str, usize, u32, u32)] = &[
    ("tcpi_snd_wscale", 6, 0, 4),
    ("tcpi_rcv_wscale", 6, 4, 4),
    ("tcpi_delivery_rate_app_limited", 7, 0, 1),
    ("tcpi_fastopen_client_fail", 7, 1, 2),
];

/// All values of a socket.
pub fn of(fd: RawFd) -> io::Result<Vec<(&'static str, i64)>> {
    let bytes = sys::option(fd, libc::SOL_TCP, libc::TCP_INFO, 512)?;
    let fields = FIELDS.iter().filter_map(|&(name, at, len)| Some((name, number(bytes.get(at..at + len)?))));
    let parts =
        BITS.iter().filter_map(|&(name, at, first, len)| Some((name, bits(*bytes.get(at)?, first, len))));
    Ok(fields.chain(parts).collect())
}

/// Bit fields are laid out in the byte order of the machine.
fn bits(byte: u8, first: u32, len: u32) -> i64 {
    let shift = if cfg!(target_endian = "little") { first } else { 8 - first - len };
    i64::from(byte >> shift) & ((1 << len) - 1)
}

fn number(bytes: &[u8]) -> i64 {
    let mut all = [0; 8];
    if cfg!(target_endian = "little") {
        all[..bytes.len()].copy_from_slice(bytes);
    } else {
        all[8 - bytes.len()..].copy_from_slice(bytes);
    }
    // The kernel reports the absence of a limit as the largest number.
    u64::from_ne_bytes(all).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastack_engine::TCP_INFO;

    #[test]
    fn every_field_that_the_stack_tells_is_read() {
        for field in TCP_INFO.iter().filter(|field| field.value.is_some()) {
            let known = FIELDS.iter().map(|(name, ..)| *name).chain(BITS.iter().map(|(name, ..)| *name));
            assert_eq!(known.filter(|name| *name == field.linux).count(), 1, "{}", field.linux);
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn scales_of_windows_share_a_byte() {
        assert_eq!((bits(0xa7, 0, 4), bits(0xa7, 4, 4), bits(0b110, 1, 2)), (7, 10, 3));
    }
}
