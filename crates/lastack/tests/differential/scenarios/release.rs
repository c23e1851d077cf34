//! Orderly release: E1 to E17.

use super::Row;

pub const ORDER: &[Row] = &[
    ("we close first", "E1 E5 E8", "established; close; < . 1 ack 2; < F. 1 ack 2; < F. 1 ack 2"),
    (
        "we close first, the peer's FIN acknowledges ours",
        "E7",
        "established; close; < F. 1 ack 2; < F. 1 ack 2",
    ),
    (
        "the peer closes first",
        "E4 E10 E12",
        "established; < F. 1 ack 1; recv; close; < . 2 ack 2; < . 2 ack 2",
    ),
    ("both close at once", "E6 E11", "established; close; < F. 1 ack 1; < . 2 ack 2; < F. 1 ack 2"),
    ("shutdown, then close", "E1", "established; shutdown; < . 1 ack 2; close; < F. 1 ack 2"),
    ("shutdown twice", "E1", "established; shutdown; shutdown; < . 1 ack 2; shutdown"),
    ("data and FIN are sent together", "E1", "established; send 10; shutdown; < . 1 ack 11; < . 1 ack 12"),
    (
        "unsent data, then FIN",
        "E1",
        "listen 8; < S 0 mss; < . 1 ack 1 win=0; accept; send 10; shutdown; < . 1 ack 1 win=1000; < . 1 ack 12",
    ),
    (
        "our FIN waits for a closed window",
        "E1",
        "listen 8; < S 0 mss; < . 1 ack 1 win=0; accept; shutdown; < . 1 ack 1 win=100; < . 1 ack 2",
    ),
    ("data with the peer's FIN", "E4", "established; < PF. 1+5 ack 1; recv; recv; recv"),
    ("data after our FIN", "E9", "fin-wait-2; < P. 1+5 ack 2; recv; < PF. 6+5 ack 2; recv; recv"),
    ("data after our FIN, before its ACK", "E9", "fin-wait-1; < P. 1+5 ack 1; recv; < . 6 ack 2"),
    ("data that acknowledges our FIN", "E5 E9", "fin-wait-1; < P. 1+5 ack 2; recv; < F. 6 ack 2; recv"),
    ("data and FIN after our FIN", "E7", "fin-wait-1; < PF. 1+5 ack 2; recv; recv"),
    (
        "data and FIN, ours not acknowledged",
        "E6",
        "fin-wait-1; < PF. 1+5 ack 1; recv; < . 7 ack 2; < F. 6 ack 2",
    ),
    ("we write after the peer's FIN", "E4", "close-wait; send 10; < . 2 ack 11; close; < . 2 ack 12"),
    (
        "data, close, FIN in one segment or two",
        "E1",
        "established; send 10; close; < . 1 ack 12; < F. 1 ack 12",
    ),
    ("the same FIN in CLOSE-WAIT", "E14", "close-wait; < F. 1 ack 1"),
    ("the same FIN in CLOSING", "E14", "closing; < F. 1 ack 1"),
    ("the same FIN in LAST-ACK", "E14", "last-ack; < F. 1 ack 1"),
    ("the same FIN in LAST-ACK, closed", "E14", "orphan last-ack; < F. 1 ack 1; < . 2 ack 2"),
    (
        "the same data and FIN in CLOSE-WAIT",
        "E14",
        "established; < PF. 1+5 ack 1; < PF. 1+5 ack 1; recv; recv",
    ),
    ("LAST-ACK is acknowledged by the FIN again", "E12", "orphan last-ack; < F. 1 ack 2; < . 2 ack 2"),
    ("FIN-WAIT-1 keeps still on an old ACK", "E5", "fin-wait-1; < . 1 ack 1; < . 1 ack 2"),
    (
        "part of the data before our FIN is acknowledged",
        "E5",
        "established; send 10; shutdown; < . 1 ack 6; < . 1 ack 11; < F. 1 ack 12",
    ),
];

pub const EARLY: &[Row] = &[
    ("FIN before data", "E15", "established; < F. 6 ack 1; < P. 1+5 ack 1; recv; recv"),
    ("FIN before data, with SACK", "E15", "established sackok; < F. 6 ack 1; < P. 1+5 ack 1; recv; recv"),
    ("data and FIN beyond a gap", "E15", "established; < PF. 6+5 ack 1; < P. 1+5 ack 1; recv; recv"),
    (
        "FIN before data in FIN-WAIT-2",
        "E15 E8",
        "fin-wait-2; < F. 6 ack 2; < P. 1+5 ack 2; recv; recv; < F. 6 ack 2",
    ),
    (
        "FIN before data in FIN-WAIT-1",
        "E15 E6",
        "fin-wait-1; < F. 6 ack 1; < P. 1+5 ack 1; < . 7 ack 2; < F. 6 ack 2",
    ),
    (
        "an early FIN, then one in order",
        "E15",
        "established; < F. 101 ack 1; < PF. 1+5 ack 1; recv; recv; < P. 7+5 ack 1",
    ),
    (
        "an early FIN, then data in order beyond it",
        "E15",
        "established; < F. 6 ack 1; < P. 1+10 ack 1; recv; recv",
    ),
    (
        "an early FIN, then one before it",
        "E15",
        "established; < F. 101 ack 1; < F. 51 ack 1; < P. 1+50 ack 1; recv; recv; < P. 52+49 ack 1",
    ),
    (
        "an early FIN, then one after it",
        "E15",
        "established; < F. 51 ack 1; < F. 101 ack 1; < P. 1+50 ack 1; recv; recv; < P. 52+49 ack 1",
    ),
    (
        "an early FIN, then out-of-order data beyond it",
        "E15",
        "established; < F. 6 ack 1; < P. 11+5 ack 1; < P. 1+5 ack 1; recv; recv",
    ),
    (
        "out-of-order data, then an early FIN before it",
        "E15",
        "established; < P. 11+5 ack 1; < F. 6 ack 1; < P. 1+5 ack 1; recv; recv",
    ),
    (
        "out-of-order data, then a FIN in order",
        "E15",
        "established; < P. 11+5 ack 1; < F. 1 ack 1; recv; < P. 2+9 ack 1",
    ),
    ("FIN without ACK", "E17", "established; < F 1; < F. 1 ack 1; recv"),
    ("FIN without ACK in FIN-WAIT-1", "E17", "fin-wait-1; < F 1; < F. 1 ack 2"),
];
