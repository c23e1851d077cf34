//! Snippets of code: the part of Python that tests of `tcp_info` are written in.

mod evaluate;

pub use evaluate::{Failure, Variables};

use super::calls::{Fd, max_segment};
use super::lastack::Lastack;
use lastack_engine::{Repair, TcpInfo, TcpState};

/// The number of a state in Linux.
fn state_number(state: TcpState) -> i64 {
    match state {
        TcpState::Established => 1,
        TcpState::SynSent => 2,
        TcpState::SynReceived => 3,
        TcpState::FinWait1 => 4,
        TcpState::FinWait2 => 5,
        TcpState::TimeWait => 6,
        TcpState::Closed => 7,
        TcpState::CloseWait => 8,
        TcpState::LastAck => 9,
        TcpState::Listen => 10,
        TcpState::Closing => 11,
    }
}

/// Names of numbers that snippets use.
pub const CONSTANTS: [(&str, i64); 21] = [
    ("TCP_ESTABLISHED", 1),
    ("TCP_SYN_SENT", 2),
    ("TCP_SYN_RECV", 3),
    ("TCP_FIN_WAIT1", 4),
    ("TCP_FIN_WAIT2", 5),
    ("TCP_TIME_WAIT", 6),
    ("TCP_CLOSE", 7),
    ("TCP_CLOSE_WAIT", 8),
    ("TCP_LAST_ACK", 9),
    ("TCP_LISTEN", 10),
    ("TCP_CLOSING", 11),
    ("TCP_CA_Open", 0),
    ("TCP_CA_Disorder", 1),
    ("TCP_CA_CWR", 2),
    ("TCP_CA_Recovery", 3),
    ("TCP_CA_Loss", 4),
    ("TCPI_OPT_TIMESTAMPS", 1),
    ("TCPI_OPT_SACK", 2),
    ("TCPI_OPT_WSCALE", 4),
    ("TCPI_OPT_ECN", 8),
    ("TCPI_OPT_ECN_SEEN", 16),
];

/// `tcpi_ca_state`
fn ca_state(repair: Repair) -> i64 {
    match repair {
        Repair::Open => 0,
        Repair::Disorder => 1,
        Repair::Recovery => 3,
        Repair::Loss => 4,
    }
}

/// What `tcp_info` says, as far as the stack knows it.
fn numbers(info: &TcpInfo) -> Vec<(&'static str, i64)> {
    let segments = |octets: u32| i64::from(octets) / i64::from(info.mss.max(1));
    let micros = |time: std::time::Duration| time.as_micros() as i64;
    // A threshold that was never set is out of reach.
    let threshold = if info.ssthresh >= 1 << 30 { 0x7fff_ffff } else { segments(info.ssthresh) };
    vec![
        ("tcpi_state", state_number(info.state)),
        ("tcpi_snd_mss", i64::from(info.mss)),
        ("tcpi_snd_cwnd", segments(info.flight_limit)),
        ("tcpi_snd_ssthresh", threshold),
        ("tcpi_snd_wnd", i64::from(info.snd_wnd)),
        ("tcpi_rcv_wnd", i64::from(info.rcv_wnd)),
        ("tcpi_rto", micros(info.rto)),
        ("tcpi_rtt", info.srtt.map_or(0, micros)),
        ("tcpi_unacked", (info.unacked as i64 + i64::from(info.mss.max(1)) - 1) / i64::from(info.mss.max(1))),
        ("tcpi_sacked", segments(info.sacked)),
        ("tcpi_lost", segments(info.lost)),
        ("tcpi_ca_state", ca_state(info.repair)),
        ("tcpi_backoff", i64::from(info.backoffs)),
        ("tcpi_notsent_bytes", info.unsent as i64),
        ("tcpi_total_retrans", info.retransmissions as i64),
        ("tcpi_bytes_acked", info.octets_sent as i64 - info.unacked as i64),
        ("tcpi_bytes_received", info.octets_received as i64),
    ]
}

/// What is true of a socket now, by the names of snippets.
pub fn snapshot(system: &mut Lastack, fd: i64) -> Vec<(&'static str, i64)> {
    let found = system.fds.get(&fd);
    let id = found.and_then(Fd::connection);
    let asked = found.and_then(|fd| max_segment(&fd.options));
    let info = id.and_then(|id| system.stack.tcp(id)).map(|tcp| tcp.info());
    let headers = if system.setup.v6() { 60 } else { 40 };
    let advertised = (system.setup.mtu - headers).min(asked.map_or(usize::MAX, usize::from));
    let mut told = vec![("tcpi_advmss", advertised as i64)];
    if let Some(last) = info.and_then(|info| info.last_text) {
        told.push(("tcpi_last_data_recv", (system.clock - last).as_millis() as i64));
    }
    match info {
        Some(info) => told.extend(numbers(&info)),
        None => told.push(("tcpi_state", state_number(TcpState::Closed))),
    }
    told
}
