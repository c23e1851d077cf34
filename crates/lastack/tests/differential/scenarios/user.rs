//! The errors that the application gets, in which order and how often, and half-open connections.

use super::Row;

pub const ERRORS: &[Row] = &[
    ("RST: read first", "R14", "established; < R 1; recv; recv; recv; send 1; error"),
    ("RST: write first", "R14", "established; < R 1; send 1; send 1; recv; error"),
    ("RST: SO_ERROR first", "R14", "established; < R 1; error; error; recv; send 1"),
    ("RST: peek first", "R14", "established; < R 1; peek; peek; recv; send 1"),
    ("RST: shutdown first", "R14", "established; < R 1; shutdown; recv; error"),
    (
        "RST with unread data: read first",
        "R14",
        "established; < P. 1+5 ack 1; < R 6; recv; recv; recv; send 1",
    ),
    (
        "RST with unread data: peek first",
        "R14",
        "established; < P. 1+5 ack 1; < R 6; peek; peek; recv; recv; recv",
    ),
    (
        "RST with unread data: write first",
        "R14",
        "established; < P. 1+5 ack 1; < R 6; send 1; recv; recv; recv; send 1",
    ),
    (
        "RST with unread data: SO_ERROR first",
        "R14",
        "established; < P. 1+5 ack 1; < R 6; error; recv; recv; error",
    ),
    ("RST with data beyond a gap", "R14", "established; < P. 11+5 ack 1; < R 1; recv; recv"),
    ("RST after close, unread", "R14", "established; < P. 1+5 ack 1; < R 6; close"),
    ("RST in CLOSE-WAIT: write first", "R15", "close-wait; < R 2; send 1; send 1; recv; recv; error"),
    ("RST in CLOSE-WAIT: read first", "R15", "close-wait; < R 2; recv; recv; send 1; send 1; error"),
    ("RST in CLOSE-WAIT: SO_ERROR first", "R15", "close-wait; < R 2; error; error; recv; send 1"),
    (
        "RST in CLOSE-WAIT with unread data",
        "R15",
        "established; < PF. 1+5 ack 1; < R 7; recv; recv; recv; send 1; error",
    ),
    ("RST in CLOSING: read first", "R16", "closing; < R 2; recv; recv; send 1; error"),
    ("RST in CLOSING: write first", "R16", "closing; < R 2; send 1; recv; error"),
    ("RST in FIN-WAIT-2: write first", "R14", "fin-wait-2; < R 1; send 1; recv; error"),
    ("RST in FIN-WAIT-2: read first", "R14", "fin-wait-2; < R 1; recv; recv; send 1"),
    (
        "write after the peer's FIN, answered by RST",
        "R15 S4",
        "close-wait; send 5; < R 2; recv; send 1; error",
    ),
    ("write after shutdown", "E1", "established; shutdown; send 1; error; recv"),
    ("read after FIN", "E4", "close-wait; recv; recv; send 1; error"),
    (
        "after an orderly release: read and write",
        "E12",
        "last-ack; < . 2 ack 2; recv; send 1; error; shutdown",
    ),
    ("in TIME-WAIT: read and write", "E8", "time-wait; recv; send 1; error; shutdown"),
];

pub const CONNECT: &[Row] = &[
    ("connect refused: SO_ERROR first", "R11", "connect; < R. 0 ack 1; error; error; recv; send 1"),
    ("connect refused: write first", "R11", "connect; < R. 0 ack 1; send 1; recv; error; send 1"),
    ("connect refused: read first", "R11", "connect; < R. 0 ack 1; recv; recv; send 1"),
    ("connect refused: shutdown", "R11", "connect; < R. 0 ack 1; shutdown; error"),
    (
        "connected, then RST before the application looked",
        "R14",
        "connect; < S. 0 ack 1 mss; < R 1; error; recv; send 1",
    ),
];

pub const HALF_OPEN: &[Row] = &[
    (
        "the peer restarted and connects again",
        "H1 H11 T63",
        "established; < S 400 mss; < R 1; error; < S 400 mss; < . 401 ack 1; accept; error",
    ),
    (
        "we connect to a peer that still has the old connection",
        "H1 H14",
        "connect; < . 300 ack 100; < R 300; error; < S. 0 ack 1 mss; error",
    ),
    ("we write to a peer that restarted", "H2", "established; send 10; < R 1; error; recv; send 1"),
    (
        "an old SYN to a listener, its peer listening too",
        "H3",
        "listen 8; < S 0 mss; < R 1; accept; < S 5000 mss",
    ),
    ("our FIN reaches a peer that restarted", "H17", "orphan fin-wait-1; < R 1; < . 1 ack 1"),
    (
        "a new SYN in FIN-WAIT-2, closed; old SEQ",
        "H13",
        "orphan fin-wait-2; < S -5000 mss; < R 1; < S -5000 mss",
    ),
    (
        "a keep-alive probe finds a peer that restarted",
        "H6",
        "established; keepalive 1 1 2; wait 1100; < R 1; error; recv",
    ),
];
