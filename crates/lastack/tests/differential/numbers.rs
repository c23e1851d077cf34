//! The numbers of a connection: its `tcp_info`.

use std::{collections::BTreeMap, os::fd::AsRawFd};

use lastack::{Instant, TCP_INFO, TcpInfo};
use nix::errno::Errno;
use socket2::Socket;

/// The numbers by the names of Linux.
pub type Numbers = BTreeMap<&'static str, u64>;

/// Those that a fixed exchange fixes: no times, and nothing that hangs on the size of buffers.
const COMPARED: &[&str] = &[
    "state",
    "ca_state",
    "retransmits",
    "probes",
    "backoff",
    "options",
    "snd_wscale",
    "snd_mss",
    "unacked",
    "sacked",
    "lost",
    "retrans",
    "pmtu",
    "snd_ssthresh",
    "snd_cwnd",
    "advmss",
    "total_retrans",
    "bytes_acked",
    "bytes_received",
    "segs_out",
    "segs_in",
    "notsent_bytes",
    "data_segs_in",
    "data_segs_out",
    "delivered",
    "delivered_ce",
    "bytes_sent",
    "bytes_retrans",
    "dsack_dups",
    "reord_seen",
    "rcv_ooopack",
    "snd_wnd",
    "total_rto",
    "total_rto_recoveries",
];

/// The offset and size of each field in the struct of the kernel, in its order.
const LAYOUT: &[(&str, usize, usize)] = &[
    ("state", 0, 1),
    ("ca_state", 1, 1),
    ("retransmits", 2, 1),
    ("probes", 3, 1),
    ("backoff", 4, 1),
    ("options", 5, 1),
    ("snd_wscale", 6, 1),
    ("rto", 8, 4),
    ("ato", 12, 4),
    ("snd_mss", 16, 4),
    ("rcv_mss", 20, 4),
    ("unacked", 24, 4),
    ("sacked", 28, 4),
    ("lost", 32, 4),
    ("retrans", 36, 4),
    ("fackets", 40, 4),
    ("last_data_sent", 44, 4),
    ("last_ack_sent", 48, 4),
    ("last_data_recv", 52, 4),
    ("last_ack_recv", 56, 4),
    ("pmtu", 60, 4),
    ("rcv_ssthresh", 64, 4),
    ("rtt", 68, 4),
    ("rttvar", 72, 4),
    ("snd_ssthresh", 76, 4),
    ("snd_cwnd", 80, 4),
    ("advmss", 84, 4),
    ("reordering", 88, 4),
    ("rcv_rtt", 92, 4),
    ("rcv_space", 96, 4),
    ("total_retrans", 100, 4),
    ("pacing_rate", 104, 8),
    ("max_pacing_rate", 112, 8),
    ("bytes_acked", 120, 8),
    ("bytes_received", 128, 8),
    ("segs_out", 136, 4),
    ("segs_in", 140, 4),
    ("notsent_bytes", 144, 4),
    ("min_rtt", 148, 4),
    ("data_segs_in", 152, 4),
    ("data_segs_out", 156, 4),
    ("delivery_rate", 160, 8),
    ("busy_time", 168, 8),
    ("rwnd_limited", 176, 8),
    ("sndbuf_limited", 184, 8),
    ("delivered", 192, 4),
    ("delivered_ce", 196, 4),
    ("bytes_sent", 200, 8),
    ("bytes_retrans", 208, 8),
    ("dsack_dups", 216, 4),
    ("reord_seen", 220, 4),
    ("rcv_ooopack", 224, 4),
    ("snd_wnd", 228, 4),
    ("rcv_wnd", 232, 4),
    ("rehash", 236, 4),
    ("total_rto", 240, 2),
    ("total_rto_recoveries", 242, 2),
    ("total_rto_time", 244, 4),
];

/// The options that both stacks have: timestamps, SACK, window scaling, ECN.
const OPTIONS: u64 = 0xf;

/// A name without what all have.
fn short(name: &str) -> &str {
    name.strip_prefix("tcpi_").unwrap_or(name)
}

pub fn ours(info: &TcpInfo, now: Instant) -> Numbers {
    TCP_INFO.iter().filter_map(|field| Some((short(field.linux), field.value?(info, now)))).collect()
}

pub fn of_linux(socket: &Socket) -> Numbers {
    let mut bytes = [0_u8; 512];
    let mut len = bytes.len() as libc::socklen_t;
    let place = bytes.as_mut_ptr().cast();
    // SAFETY: the kernel writes at most `len` bytes to the array, which lives through the call, and the length.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, place, &raw mut len)
    };
    Errno::result(done).unwrap();
    let known = LAYOUT.iter().filter(|(_, at, size)| at + size <= len as usize);
    let mut numbers: Numbers =
        known.map(|(name, at, size)| (*name, number(&bytes[*at..at + size]))).collect();
    // Two fields in one byte, the first in its low half where the low byte of a number comes first.
    *numbers.get_mut("snd_wscale").unwrap() &= 0xf;
    *numbers.get_mut("options").unwrap() &= OPTIONS;
    numbers
}

fn number(bytes: &[u8]) -> u64 {
    let mut all = [0; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(all)
}

/// Those that are compared and not zero.
pub fn show(numbers: &Numbers) -> String {
    let shown = COMPARED.iter().filter_map(|name| Some((name, numbers.get(name).filter(|n| **n > 0)?)));
    shown.map(|(name, number)| format!("{name}={number}")).collect::<Vec<_>>().join(" ")
}

/// Every field of the kernel's struct is in our table, in its order.
#[test]
fn the_table_has_the_fields_of_linux() {
    let mut ours = TCP_INFO.iter().map(|field| short(field.linux));
    for (name, ..) in LAYOUT {
        assert!(ours.any(|known| known == *name), "{name} is missing, or out of order");
    }
    for name in COMPARED {
        let known = TCP_INFO.iter().any(|field| short(field.linux) == *name && field.value.is_some());
        assert!(known && LAYOUT.iter().any(|(there, ..)| there == name), "{name}");
    }
}
