//! An administrator ends connections: S103 to S106.

use super::Row;

pub const KILL: &[Row] = &[
    ("killed in ESTABLISHED", "S103", "established; kill; recv; recv; send 1; < . 1 ack 1"),
    ("killed in ESTABLISHED: write first", "S103", "established; kill; send 1; send 1; recv; error"),
    ("killed in ESTABLISHED: SO_ERROR first", "S103", "established; kill; error; error; recv; send 1"),
    ("killed in ESTABLISHED, shutdown after it", "S103", "established; kill; shutdown; recv; shutdown"),
    (
        "killed with unread data",
        "S103",
        "established; < P. 1+5 ack 1; kill; peek; recv 2; recv; recv; recv; send 1",
    ),
    ("killed with unread data: write first", "S103", "established; < P. 1+5 ack 1; kill; send 1; recv; recv"),
    ("killed with data beyond a gap", "S103", "established; < P. 101+5 ack 1; kill; recv; recv"),
    ("killed with data in flight", "S103", "established; send 500; kill; recv; < . 1 ack 501"),
    (
        "killed with data unsent",
        "S103",
        "listen 8; < S 0 mss; < . 1 ack 1 win=0; accept; send 500; kill; recv; recv",
    ),
    ("killed with timestamps", "S103", "established ts; kill; recv"),
    ("killed in CLOSE-WAIT", "S103", "close-wait; kill; recv; send 1; send 1; error"),
    (
        "killed in CLOSE-WAIT with unread data",
        "S103",
        "established; < PF. 1+5 ack 1; kill; recv; recv; send 1; send 1",
    ),
    ("killed in CLOSE-WAIT: SO_ERROR first", "S103", "close-wait; kill; error; error; recv; send 1"),
    ("killed in FIN-WAIT-1", "S103", "fin-wait-1; kill; recv; recv; send 1"),
    ("killed in FIN-WAIT-2", "S103", "fin-wait-2; kill; recv; recv; send 1"),
    ("killed in FIN-WAIT-1, closed", "S103", "orphan fin-wait-1; kill; < . 1 ack 2"),
    ("killed in FIN-WAIT-2, closed", "S103", "orphan fin-wait-2; kill; < F. 1 ack 2"),
    ("killed after simultaneous open", "S103", "simultaneous; kill; send 1; error; < . 1 ack 1"),
    (
        "killed before accept",
        "S103 R19",
        "listen 8; < S 0 mss; < P. 1+5 ack 1; kill; accept; recv; recv; recv",
    ),
    ("killed in SYN-SENT", "S104", "connect; kill; error; send 1; < S. 0 ack 1 mss"),
    ("killed in SYN-SENT: write first", "S104", "connect; kill; send 1; recv; error"),
    ("killed in CLOSING", "S104", "closing; kill; recv; send 1; error; < . 2 ack 2"),
    ("killed in LAST-ACK", "S104", "last-ack; kill; recv; send 1; error; < . 2 ack 2"),
    (
        "killed in LAST-ACK with unread data",
        "S104",
        "established; < PF. 1+5 ack 1; shutdown; kill; recv; recv",
    ),
    ("killed in CLOSING, closed", "S104", "orphan closing; kill; < . 2 ack 2"),
    ("killed in LAST-ACK, closed", "S104", "orphan last-ack; kill; < . 2 ack 2"),
    ("killed in SYN-RECEIVED", "S105", "syn-received; kill; < . 1 ack 1; accept"),
    ("killed in TIME-WAIT", "S105", "time-wait; kill; < F. 1 ack 2; recv"),
    ("a listener is killed", "S106", "listen 8; kill-listener; accept; < S 0 mss"),
    (
        "a listener is killed with connections waiting",
        "S106",
        "listen 8; < S 0 mss; < . 1 ack 1; < S 0 mss port=1; < P. 1+2 ack 1 port=1; < S 0 mss port=2; \
         < F. 1 ack 1 port=2; kill-listener; accept; < . 1 ack 1",
    ),
    ("a listener is killed in SYN-RECEIVED", "S106 S105", "syn-received; kill-listener; < . 1 ack 1; accept"),
    ("a listener is killed with one accepted", "S106", "established; kill-listener; < P. 1+5 ack 1; recv"),
];

/// How long FIN-WAIT-2 is waited in (`TCP_LINGER2`): S71, S96.
pub const LINGER2: &[Row] = &[
    ("close in FIN-WAIT-2, linger2 -1", "S71", "fin-wait-2; linger2 -1; close; < F. 1 ack 2"),
    ("close in ESTABLISHED, linger2 -1", "S71", "established; linger2 -1; close; < . 1 ack 2; < F. 1 ack 2"),
    (
        "close in ESTABLISHED, linger2 -1, FIN with the ACK",
        "S71",
        "established; linger2 -1; close; < F. 1 ack 2",
    ),
    (
        "close in ESTABLISHED, linger2 -1, data with the ACK",
        "S71 S81",
        "established; linger2 -1; close; < P. 1+3 ack 2",
    ),
    (
        "close in ESTABLISHED, linger2 -1, FIN first",
        "S71",
        "established; linger2 -1; close; < F. 1 ack 1; < . 2 ack 2",
    ),
    ("close in FIN-WAIT-1, linger2 -1", "S71", "fin-wait-1; linger2 -1; close; < . 1 ack 2"),
    ("close in CLOSE-WAIT, linger2 -1", "S71", "close-wait; linger2 -1; close; < . 2 ack 2"),
    (
        "shutdown in ESTABLISHED, linger2 -1",
        "S71",
        "established; linger2 -1; shutdown; < . 1 ack 2; < P. 1+3 ack 2; recv",
    ),
    (
        "close in FIN-WAIT-2, linger2 -1, unread data",
        "S71 S60",
        "fin-wait-2; < P. 1+3 ack 2; linger2 -1; close",
    ),
    ("close in FIN-WAIT-2, linger2 -1, linger 0", "S71 S64", "fin-wait-2; linger0; linger2 -1; close"),
    ("FIN in time, linger2 1", "S96 E8", "fin-wait-2; linger2 1; close; wait 700; < F. 1 ack 2"),
    ("FIN too late, linger2 1", "S96", "fin-wait-2; linger2 1; close; wait 1700; < F. 1 ack 2"),
];
