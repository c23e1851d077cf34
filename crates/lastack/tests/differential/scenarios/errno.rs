//! The errno matrix (RESETS 2.4): what each call of a socket gives, in which order and how often. Played on the sockets
//! of the library.

use super::{Row, Scenario};

const RESET: &[Row] = &[
    ("reset: read first", "R14 T76 T86", "established; < R 1; ready; recv; ready; recv; recv; send 1; error"),
    ("reset: write first", "R14 T78 T79", "established; < R 1; send 1; ready; send 1; recv; error"),
    ("reset: write nothing first", "R14", "established; < R 1; send 0; send 0; recv; error"),
    ("reset: read nothing first", "R14", "established; < R 1; recv 0; recv; recv 0; recv"),
    ("reset: peek first", "R14 T81", "established; < R 1; peek; peek; recv; send 1; error"),
    ("reset: take_error first", "R14 T80", "established; < R 1; error; ready; error; recv; send 1"),
    (
        "reset: shutdown and names first",
        "R14 T88",
        "established; < R 1; shutdown; shutdown-read; local-name; recv; shutdown; recv",
    ),
    ("reset: the peer's name", "R14 T88", "established; < R 1; peer-name"),
    (
        "reset with unread data: read first",
        "R14 T77 T86",
        "established; < P. 1+5 ack 1; ready; < R 6; ready; recv 2; ready; recv; ready; recv; ready; recv; send 1",
    ),
    (
        "reset with unread data: peek first",
        "R14 T77 T81",
        "established; < P. 1+5 ack 1; < R 6; peek; peek; recv; peek; recv; send 1",
    ),
    (
        "reset with unread data: write first",
        "R14 T78 T89",
        "established; < P. 1+5 ack 1; < R 6; send 1; recv; recv; send 1; error",
    ),
    (
        "reset with unread data: take_error first",
        "R14 T80 T89",
        "established; < P. 1+5 ack 1; < R 6; error; recv; recv; send 1; error",
    ),
    (
        "reset with unread data: read more than there is",
        "R14 T82",
        "established; < P. 1+5 ack 1; < R 6; recv-whole 10; recv; recv",
    ),
    (
        "reset while a read waits",
        "R14 T84",
        "established; begin-recv; awaited; < R 1; awaited; recv; send 1; error",
    ),
    (
        "reset after a write had room for a part",
        "R14 T84",
        "listen 8; < S 0 mss; < . 1 ack 1 win=0; accept; send 9000000; < R 1; send 1; send 1; recv; error",
    ),
];

const CLOSE_WAIT: &[Row] = &[
    ("FIN", "E4 T138", "close-wait; ready; recv; ready; recv; error; send 1"),
    (
        "FIN, then reset: read first",
        "R15 T83",
        "close-wait; < R 2; ready; recv; recv; ready; send 1; send 1; error",
    ),
    ("FIN, then reset: write first", "R15 T83", "close-wait; < R 2; send 1; ready; send 1; recv; error"),
    ("FIN, then reset: take_error first", "R15 T83", "close-wait; < R 2; error; ready; error; recv; send 1"),
    (
        "FIN, then reset, with unread data",
        "R15 T83",
        "established; < PF. 1+5 ack 1; < R 7; ready; recv; recv; recv; send 1; error",
    ),
    (
        "write after FIN, answered by reset",
        "R15 S4",
        "close-wait; send 5; < R 2; ready; recv; send 1; send 1; error",
    ),
    ("reset after our FIN", "R14", "fin-wait-2; ready; < R 1; ready; send 1; ready; recv; error"),
    ("reset after both FINs", "R16", "closing; ready; < R 2; ready; recv; recv; send 1; error"),
];

const RELEASE: &[Row] = &[
    ("our FIN", "E1 T138", "established; ready; shutdown; ready; send 1; error; recv; shutdown"),
    ("both FINs, theirs first", "E12", "last-ack; ready; < . 2 ack 2; ready; recv; send 1; error; shutdown"),
    ("both FINs, ours first", "E8", "time-wait; ready; recv; send 1; error; shutdown"),
];

const SHUTDOWN_READ: &[Row] = &[
    (
        "shutdown of reading",
        "S73 T116",
        "established; shutdown-read; ready; recv; < P. 1+5 ack 1; ready; recv; recv; send 1; < . 6 ack 2; error",
    ),
    (
        "shutdown of reading while a read waits",
        "S73",
        "established; begin-recv; awaited; shutdown-read; awaited",
    ),
    (
        "shutdown of reading, then close with unread data",
        "S73 S60 T116",
        "established; < P. 1+5 ack 1; shutdown-read; recv; recv; < P. 6+5 ack 1; close",
    ),
    (
        "shutdown of reading, then FIN",
        "S73 E4",
        "established; shutdown-read; < F. 1 ack 1; ready; recv; send 1",
    ),
    (
        "shutdown of both: what was there is read",
        "S74 T115",
        "established; < P. 1+5 ack 1; shutdown-both; ready; recv; ready; recv; send 1; error",
    ),
    (
        "shutdown of both, then data: read first",
        "S74 S80 T115",
        "established; < P. 1+5 ack 1; shutdown-both; recv 2; < P. 6+5 ack 2; ready; recv; recv; recv; send 1; error",
    ),
    (
        "shutdown of both, then data: take_error first",
        "S74 S80 T115",
        "established; shutdown-both; < P. 1+5 ack 2; ready; error; ready; recv; send 1; error",
    ),
    (
        "shutdown of both, then FIN",
        "S74 E7",
        "established; shutdown-both; < F. 1 ack 2; ready; recv; send 1; error",
    ),
];

const OPENING: &[Row] = &[
    ("connect: refused", "R11 T85", "connect; connect-result; < R. 0 ack 1; connect-result"),
    (
        "connect: it works",
        "E0",
        "connect; connect-result; < S. 0 ack 1 mss; connect-result; ready; error; peer-name",
    ),
    (
        "connect: reset before it was looked at",
        "R14",
        "connect; < S. 0 ack 1 mss; < P. 1+5 ack 1; < R 6; connect-result; recv; recv; recv",
    ),
    (
        "accept: reset before it was accepted",
        "R19 T87",
        "listen 8; < S 0 mss; < . 1 ack 1; < P. 1+5 ack 1; < R 6; accept; ready; recv; recv; recv; accept",
    ),
    (
        "accept: reset before the handshake was over",
        "R12 T36",
        "listen 8; < S 0 mss; < R 1; accept; < . 1 ack 1",
    ),
];

const LINGER: &[Row] = &[
    (
        "close lingers: acknowledged in time",
        "S67 T108",
        "established; linger 2; send 5; begin-close; awaited; < . 1 ack 7; awaited",
    ),
    (
        "close lingers: the time is over",
        "S67 T108",
        "established; linger 1; send 5; begin-close; wait 500; awaited; wait 1000; awaited; < . 1 ack 7",
    ),
    (
        "close lingers: reset in that time",
        "S67",
        "established; linger 2; send 5; begin-close; awaited; < R 1; awaited",
    ),
    ("close lingers: unread data", "S60 S65", "established; < P. 1+5 ack 1; linger 2; begin-close; awaited"),
];

const ABORT: &[Row] =
    &[("our abort", "S64 S68 T109", "established; < P. 1+5 ack 1; abort; ready; recv; recv; send 1; error")];

/// An administrator's doing: `Host::kill`, SOCK_DESTROY.
const KILL: &[Row] = &[
    (
        "killed, with unread data: read first",
        "S103 T119",
        "established; < P. 1+5 ack 1; kill; ready; recv; recv; recv; send 1; error",
    ),
    ("killed: write first", "S103 T119", "established; kill; send 1; ready; send 1; recv; error"),
    ("killed: take_error first", "S103 T119", "established; kill; error; error; recv; send 1"),
    (
        "killed after FIN: read first",
        "S103 T119",
        "close-wait; kill; ready; recv; recv; send 1; send 1; error",
    ),
    ("killed after FIN: write first", "S103 T119", "close-wait; kill; send 1; send 1; recv; error"),
    ("killed after our FIN", "S103 T119", "fin-wait-2; kill; ready; recv; recv; send 1; error"),
    ("killed after both FINs", "S104 T119", "closing; kill; ready; recv; recv; send 1; error"),
    ("connect: killed", "S104 T119", "connect; kill; connect-result"),
    (
        "accept: the listener is killed",
        "S106 T119",
        "listen 8; < S 0 mss; < . 1 ack 1; kill-listener; accept; accept",
    ),
    (
        "accept: killed before it was accepted",
        "S103 T119",
        "listen 8; < S 0 mss; < . 1 ack 1; kill; accept; recv; recv",
    ),
];

const TIME: &[Row] = &[
    (
        "keep-alive probes without success",
        "S91 T95",
        "established; < P. 1+5 ack 1; keepalive 1 1 1; wait 2600; ready; recv; recv; recv; send 1; error",
    ),
    (
        "user timeout, write first",
        "S93 T98",
        "established; user-timeout 1000; send 10; wait 2500; ready; send 1; send 1; recv; error",
    ),
];

const TIME_SHORT: &[Row] = &[
    ("connect: no answer", "S94", "connect; wait 2000; connect-result; wait 2500; connect-result"),
    (
        "retransmissions without success",
        "S92 T99",
        "established; send 10; wait 8000; ready; recv; recv; send 1; error",
    ),
];

const NETWORK_V4: &[Row] = &[
    ("connect: host unreachable", "I1", "connect; icmp 3/1 seq 0; connect-result"),
    ("connect: network unreachable", "I1", "connect; icmp 3/0 seq 0; connect-result"),
    ("connect: port unreachable", "I2", "connect; icmp 3/3 seq 0; connect-result"),
    ("connect: protocol unreachable", "I2", "connect; icmp 3/2 seq 0; connect-result"),
    ("connect: prohibited", "I3", "connect; icmp 3/13 seq 0; connect-result"),
    (
        "host unreachable in ESTABLISHED",
        "I2 T172",
        "established; send 5; icmp 3/1 seq 1; ready; error; error; recv; < . 1 ack 6; send 1",
    ),
    (
        "host unreachable in ESTABLISHED, then an acknowledgment",
        "I2 T177",
        "established; send 5; icmp 3/1 seq 1; < . 1 ack 6; error; recv",
    ),
];

const NETWORK_V6: &[Row] = &[
    ("connect: address unreachable", "I8", "connect; icmp 1/3 seq 0; connect-result"),
    ("connect: no route", "I8", "connect; icmp 1/0 seq 0; connect-result"),
    ("connect: port unreachable, ICMPv6", "I9", "connect; icmp 1/4 seq 0; connect-result"),
    ("connect: prohibited, ICMPv6", "I9", "connect; icmp 1/1 seq 0; connect-result"),
    (
        "address unreachable in ESTABLISHED",
        "I8 T172",
        "established; send 5; icmp 1/3 seq 1; ready; error; error; recv; < . 1 ack 6; send 1",
    ),
];

/// With few retries.
const NETWORK_SHORT_V4: &[Row] = &[(
    "retransmissions without success, and host unreachable",
    "S92 I2 T177",
    "established; send 10; icmp 3/1 seq 1; wait 8000; ready; recv; recv; send 1; error",
)];

pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for rows in [RESET, CLOSE_WAIT, RELEASE, SHUTDOWN_READ, OPENING, LINGER, ABORT, KILL, TIME] {
        all.extend(rows.iter().map(Scenario::both));
    }
    all.extend(TIME_SHORT.iter().map(Scenario::short));
    all.extend(NETWORK_V4.iter().map(Scenario::v4));
    all.extend(
        NETWORK_SHORT_V4
            .iter()
            .map(|row| Scenario { families: &[super::Family::V4], ..Scenario::short(row) }),
    );
    all.extend(NETWORK_V6.iter().map(Scenario::v6));
    all.into_iter().map(Scenario::at_sockets).collect()
}
