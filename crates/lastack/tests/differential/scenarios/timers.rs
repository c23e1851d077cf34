//! Ends that time brings: S36, S91 to S96, H6 to H9.

use super::Row;

pub const KEEPALIVE: &[Row] = &[
    (
        "keep-alive probes stay unanswered",
        "S91 H7",
        "established; keepalive 1 1 2; wait 3500; recv; recv; send 1; < . 1 ack 1",
    ),
    (
        "keep-alive probes are answered",
        "H8",
        "established; keepalive 1 1 2; wait 1100; < . 1 ack 1; wait 1500; error",
    ),
    (
        "keep-alive on a connection with timestamps",
        "S91",
        "established ts; keepalive 1 1 1; wait 2500; error",
    ),
    ("keep-alive probes in CLOSE-WAIT", "S91", "close-wait; keepalive 1 1 1; wait 2500; error; recv"),
    ("keep-alive probes in FIN-WAIT-2", "S91", "fin-wait-2; keepalive 1 1 1; wait 2500; error; recv"),
    (
        "keep-alive probes with unread data",
        "S91",
        "established; < P. 1+5 ack 1; keepalive 1 1 1; wait 2500; recv; recv; recv",
    ),
    (
        "keep-alive and user timeout",
        "S91 H10",
        "established; keepalive 1 1 5; user-timeout 2500; wait 4500; error",
    ),
];

pub const USER_TIMEOUT: &[Row] = &[
    (
        "user timeout with data in flight",
        "S93 H10",
        "established; user-timeout 1000; send 10; wait 2500; recv; recv; send 1; < . 1 ack 11",
    ),
    (
        "user timeout with nothing in flight",
        "S93",
        "established; user-timeout 500; wait 1500; error; send 10",
    ),
    ("user timeout in SYN-SENT", "S94", "connect; user-timeout 700; wait 1800; error; recv"),
    ("user timeout in FIN-WAIT-1", "S93", "established; user-timeout 700; shutdown; wait 2500; error"),
    (
        "user timeout with answered window probes",
        "S93 S98 H9",
        "listen 8; < S 0 mss; < . 1 ack 1 win=0; accept; user-timeout 1000; send 10; wait 350; < . 1 ack 1 win=0&; \
      wait 3500; error; < . 1 ack 1 win=0",
    ),
    (
        "answered window probes",
        "S98",
        "listen 8; < S 0 mss; < . 1 ack 1 win=0; accept; send 10; wait 350; < . 1 ack 1 win=0&; \
      wait 800; < . 1 ack 1 win=100; < . 1 ack 11",
    ),
    ("FIN-WAIT-2 of a user has no limit", "S96 E9", "fin-wait-2; wait 3500; < F. 1 ack 2"),
];

/// With few retries: `tcp_retries2` 3, `tcp_syn_retries` 1, `tcp_synack_retries` 1, `tcp_orphan_retries` 1,
/// `tcp_fin_timeout` 2, `tcp_abort_on_overflow` 1, `tcp_rfc1337` 1.
pub const SHORT: &[Row] = &[
    ("SYN, ACK stays unanswered", "S36", "syn-received; wait 4000; < . 1 ack 1; accept"),
    ("SYN stays unanswered", "S94", "connect; wait 4500; error; recv; < S. 0 ack 1 mss"),
    (
        "data stays unacknowledged",
        "S92 H4",
        "established; send 10; wait 8000; recv; recv; send 1; < . 1 ack 11",
    ),
    (
        "data stays unacknowledged after ICMP",
        "S92 H19 I2",
        "established; send 10; icmp 3/1 seq 1; wait 8000; recv; send 1",
    ),
    ("FIN stays unacknowledged, closed", "S95", "orphan fin-wait-1; wait 5000; < . 1 ack 2"),
    ("FIN stays unacknowledged in LAST-ACK, closed", "S95", "orphan last-ack; wait 5000; < . 2 ack 2"),
    ("FIN-WAIT-2, closed: FIN before its time", "S96", "orphan fin-wait-2; wait 1000; < F. 1 ack 2"),
    ("FIN-WAIT-2, closed: FIN after its time", "S96", "orphan fin-wait-2; wait 3500; < F. 1 ack 2"),
    (
        "final ACK when the accept queue is full and refuses",
        "S37",
        "listen 1; < S 0 mss; < S 0 mss port=1; < . 1 ack 1 port=1; < S 0 mss port=2; < . 1 ack 1 port=2; \
      < . 1 ack 1; < P. 1+5 ack 1; accept; accept; accept",
    ),
    (
        "SYN when the accept queue is full and refuses",
        "S17 S37",
        "listen 1; < S 0 mss port=1; < . 1 ack 1 port=1; < S 0 mss port=2; < . 1 ack 1 port=2; < S 0 mss",
    ),
    ("exact RST in TIME-WAIT, RFC 1337", "R17", "time-wait; < R 2; < F. 1 ack 2"),
];
