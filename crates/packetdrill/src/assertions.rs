//! Code snippets: the subset of Python in which assertions on `tcp_info` are written.

mod evaluate;

pub use evaluate::{Failure, Variables};

use super::calls::Fd;
use super::lastack::Lastack;
use lastack_engine::TCP_INFO;

/// The constants that snippets use.
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

/// The current values of a socket, by the names that snippets use.
pub fn snapshot(system: &mut Lastack, fd: i64) -> Vec<(&'static str, i64)> {
    // Bring the counters that depend on time up to date.
    system.stack.handle_timeout(system.clock);
    let id = system.fds.get(&fd).and_then(Fd::connection);
    let info = id.and_then(|id| system.stack.tcp(id)).map(|tcp| tcp.info()).unwrap_or_default();
    let number = |value| i64::try_from(value).unwrap_or(i64::MAX);
    let known = TCP_INFO.iter();
    known.filter_map(|field| Some((field.linux, number(field.value?(&info, system.clock))))).collect()
}
