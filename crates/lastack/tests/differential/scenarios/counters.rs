//! What is counted: each scenario in a namespace of its own.

use super::{Row, Scenario};

const ROWS: &[Row] = &[
    (
        "counters of a reset to a closed port",
        "S1 N2 N1",
        "< S 1000 mss; < . 1000 ack 5000; < R 1000; < S 1000 badsum; counters",
    ),
    (
        "counters of a connection",
        "E0",
        "established; < P. 1+5 ack 1; recv; send 10&; < . 6 ack 11; shutdown&; < F. 6 ack 12; counters",
    ),
    ("counters of a connection of ours", "R11", "connect; < S. 0 ack 1 mss; counters"),
    ("counters of a refused attempt", "R11", "connect; < R. 0 ack 1; counters"),
    ("counters of a reset", "R1", "established; < R 1; counters"),
    ("counters of a reset in SYN-RECEIVED", "R12", "syn-received; < R 1; counters"),
    ("counters of challenges", "R2 S50", "established; < R 9; wait 600; < S 5; < R 9; counters"),
    ("counters of an ACK that is too new", "S52", "established; < . 1 ack 9; counters"),
    (
        "counters of data out of order",
        "E15",
        "established; < P. 101+10 ack 1; < P. 201+10 ack 1; < P. 1+100 ack 1; counters",
    ),
    ("counters of an old timestamp", "S55", "established ts; < P. 1+5 ack 1 ts=-1000; counters"),
    ("counters of an abort", "S64", "established; linger0; close; counters"),
    ("counters of a close with unread data", "S60", "established; < P. 1+5 ack 1; close; counters"),
    ("counters of data after close", "S80", "orphan fin-wait-1; < P. 1+5 ack 1; counters"),
    (
        "counters of a full accept queue",
        "S17",
        "listen 1; < S 0 mss; < . 1 ack 1; < S 0 mss port=1; < . 1 ack 1 port=1; < S 0 mss port=2; counters",
    ),
    ("counters of keep-alive", "S91", "established; keepalive 1 1 1; wait 2500; counters"),
    ("counters of a user timeout", "S93", "established; user-timeout 1000; send 10; wait 2500; counters"),
    ("counters of a timeout", "S92", "established; send 10&; wait 340; counters"),
    ("counters of a tail loss probe", "S92", "established sackok; send 10&; wait 260; counters"),
    (
        "counters of a shut window",
        "S98",
        "listen 8; < S 0 mss; < . 1 ack 1 win=0; accept; send 10&; wait 380; counters",
    ),
    ("counters of a SYN that is sent again", "S94", "connect; wait 1300; counters"),
    (
        "counters of an ICMP error that is not about us",
        "I11",
        "established; send 5&; icmp 3/1 seq 99; counters",
    ),
    (
        "counters of segments that acknowledge nothing",
        "S10 S13",
        "listen 8; < . 1000 ack 5000; < F 1000; counters",
    ),
];

pub fn scenarios() -> Vec<Scenario> {
    ROWS.iter().map(|row| Scenario { alone: true, ..Scenario::v4(row) }).collect()
}
