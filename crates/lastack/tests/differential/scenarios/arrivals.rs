//! Segments that a synchronized connection does not accept: S50 to S59.

use super::Row;

pub const SYN: &[Row] = &[
    ("SYN at RCV.NXT in ESTABLISHED", "S50 D2", "established; < S 1; < P. 1+5 ack 1; recv"),
    ("SYN left of the window in ESTABLISHED", "S50", "established; < S -90000"),
    ("SYN far away in ESTABLISHED", "S50", "established; < S 1073741824"),
    ("the SYN of the connection again in ESTABLISHED", "S50", "established; < S 0 mss"),
    ("SYN, ACK in ESTABLISHED", "S50", "established; < S. 1 ack 1"),
    ("SYN, ACK of the connection again", "S50", "connected; < S. 0 ack 1 mss"),
    ("SYN, FIN in ESTABLISHED", "S50", "established; < SF 1; recv"),
    ("SYN with data in ESTABLISHED", "S50", "established; < S 1+20; recv"),
    ("SYN with an old TSval in ESTABLISHED", "S50", "established ts; < S 1 ts=-4000"),
    ("SYN in FIN-WAIT-1", "S50 H14", "fin-wait-1; < S 1"),
    ("SYN in FIN-WAIT-2", "S50", "fin-wait-2; < S 1"),
    ("SYN in CLOSE-WAIT", "S50 H14", "close-wait; < S 2"),
    ("SYN in CLOSING", "S50 H14", "closing; < S 2"),
    ("SYN in LAST-ACK", "S50 H14", "last-ack; < S 2"),
    ("three SYNs at 0, 0.1 and 0.7 s", "S50 D4", "established; < S 1; < S 1; wait 500; < S 1"),
    (
        "RST + 5, SYN, bare ACK outside, data outside",
        "S50 S51 R2 D4 D5",
        "established; < R 6; < S 1; < . -90000 ack 1; < P. -90000+10 ack 1; < P. -90000+10 ack 1",
    ),
    (
        "challenge ACKs of two connections",
        "D4",
        "listen 8; < S 0 mss; < . 1 ack 1; < S 0 mss port=1; < . 1 ack 1 port=1; < S 1; < S 1; < S 1 port=1; < S 1 port=1",
    ),
];

pub const ACK: &[Row] = &[
    ("ACK > SND.NXT in ESTABLISHED", "S52", "established; < . 1 ack 1001"),
    ("ACK > SND.NXT with data in ESTABLISHED", "S52 D3", "established; < P. 1+3 ack 1001; recv"),
    ("ACK = SND.NXT + 1 in ESTABLISHED", "S52", "established; < . 1 ack 2"),
    ("ACK far behind with data in ESTABLISHED", "S53 D3", "established; < P. 1+3 ack -100000000; recv"),
    ("ACK = ISS with data in ESTABLISHED", "S53", "established; < P. 1+3 ack 0; recv"),
    (
        "old ACK with data, within the bytes acknowledged",
        "S53",
        "established; send 1000; < . 1 ack 1001; send 1000; < . 1 ack 2001; < P. 1+3 ack 2000; recv",
    ),
    (
        "old ACK with data, before the first byte",
        "S53",
        "established; send 1000; < . 1 ack 1001; send 1000; < . 1 ack 2001; < P. 1+3 ack -4; recv",
    ),
    (
        "bare old ACK, before the first byte",
        "S53",
        "established; send 1000; < . 1 ack 1001; send 1000; < . 1 ack 2001; < . 1 ack -4",
    ),
    (
        "bare old ACK, within the bytes acknowledged",
        "S53",
        "established; send 1000; < . 1 ack 1001; send 1000; < . 1 ack 2001; < . 1 ack 1500",
    ),
    (
        "ACK = ISS with data, after data in order",
        "S53 D3",
        "established; < P. 1+3 ack 1; < P. 4+1 ack 0; recv",
    ),
    ("ACK = ISS with data on a connection of ours", "S53", "connected; < P. 1+3 ack 0; recv"),
    ("ACK > SND.NXT in FIN-WAIT-1", "S52", "fin-wait-1; < . 1 ack 501"),
    ("ACK > SND.NXT in FIN-WAIT-2", "S52", "fin-wait-2; < . 1 ack 501"),
    ("ACK > SND.NXT in CLOSE-WAIT", "S52", "close-wait; < . 2 ack 501"),
    ("ACK > SND.NXT in CLOSING", "S52", "closing; < . 2 ack 501"),
    ("ACK > SND.NXT in LAST-ACK", "S52", "last-ack; < . 2 ack 501"),
    (
        "optimistic ACK of data in flight",
        "S52 D24",
        "established; send 1000; < . 1 ack 3001; < . 1 ack 1001; send 1000",
    ),
];

pub const TEXT: &[Row] = &[
    ("data in order", "S51", "established; < P. 1+5 ack 1; recv; recv"),
    ("data twice", "S51", "established; < P. 1+5 ack 1; < P. 1+5 ack 1; recv; recv"),
    ("bare ACK left of the window", "S51", "established; < . -89999 ack 1"),
    ("data left of the window", "S51", "established; < P. -9+3 ack 1; recv"),
    ("data right of the window", "S51", "established; < P. 70001+3 ack 1; recv"),
    ("bare ACK right of the window", "S51", "established; < . 70001 ack 1"),
    (
        "two bare ACKs outside the window",
        "S51 D5",
        "established; < . -89999 ack 1; < . -89999 ack 1; wait 400; < . -89999 ack 1",
    ),
    ("data that overlaps the left edge", "S51", "established; < P. -1+5 ack 1; recv"),
    ("FIN left of the window", "S51", "established; < F. -5000 ack 1; recv"),
    ("FIN right of the window", "S51 E16", "established; < F. 70001 ack 1; recv"),
    ("data beyond a gap", "S51", "established; < P. 11+5 ack 1; recv; < P. 1+10 ack 1; recv"),
    (
        "data beyond a gap, with SACK",
        "S51",
        "established sackok; < P. 11+5 ack 1; < P. 21+5 ack 1; < P. 1+10 ack 1; < P. 16+5 ack 1; recv",
    ),
    (
        "data twice, with SACK",
        "S51",
        "established sackok; < P. 1+5 ack 1; < P. 1+5 ack 1; < P. 1+10 ack 1; recv",
    ),
    ("no flags in ESTABLISHED", "S54", "established; < - 1"),
    ("data without flags in ESTABLISHED", "S54", "established; < - 1+3; recv"),
    ("FIN without ACK in ESTABLISHED", "S54 E17", "established; < F 1; recv"),
    ("PSH with data without ACK in ESTABLISHED", "S54", "established; < P 1+3; recv"),
    ("URG without ACK in ESTABLISHED", "S54", "established; < U 1+1 urg=1; recv"),
    ("bare ACK at the right edge", "S51", "established; < . edge ack 1"),
    ("bare ACK one right of the right edge", "S51", "established; < . edge@1 ack 1"),
    ("data at the right edge", "S51", "established; < P. edge+3 ack 1; recv"),
    ("data that overlaps the right edge", "S51 E16", "established sackok; < P. edge@-3+6 ack 1; recv"),
    ("FIN at the right edge", "S51 E16", "established; < F. edge ack 1; recv"),
    ("no flags left of the window", "S54", "established; < - -4"),
    ("data without ACK left of the window", "S54", "established; < P -9+3; recv"),
    ("FIN without ACK left of the window in CLOSE-WAIT", "S54", "close-wait; < F 1"),
    (
        "data that overlaps out-of-order data, with SACK",
        "S51",
        "established sackok; < P. 6+5 ack 1; < P. 1+8 ack 1; recv",
    ),
    (
        "data of ours beside out-of-order data, with SACK",
        "S51",
        "established sackok; < P. 11+5 ack 1; send 5",
    ),
    ("FIN without ACK in FIN-WAIT-2", "S54", "fin-wait-2; < F 1; recv"),
    ("keep-alive probe", "S59", "established; < . 0 ack 1"),
    ("keep-alive probe with a byte", "S59", "established; < . 0+1 ack 1"),
    (
        "keep-alive probe after data",
        "S59 H8",
        "established; < P. 1+5 ack 1; recv; < . 5 ack 1; < . 5+1 ack 1",
    ),
    ("data with URG", "S59", "established; < PU. 1+5 ack 1 urg=5; recv; recv"),
];

pub const TIMESTAMPS: &[Row] = &[
    ("data with an old TSval", "S55", "established ts; < P. 1+3 ack 1 ts=-4000; recv"),
    ("bare ACK with an old TSval", "S55", "established ts; < . 1 ack 1 ts=-4000"),
    ("FIN with an old TSval", "S55", "established ts; < F. 1 ack 1 ts=-4000; recv"),
    (
        "two data with old TSvals",
        "S55",
        "established ts; < P. 1+3 ack 1 ts=-4000; < P. 1+3 ack 1 ts=-4000; recv",
    ),
    ("two FINs with old TSvals", "S55", "established ts; < F. 1 ack 1 ts=-4000; < F. 1 ack 1 ts=-4000; recv"),
    ("old data with an old TSval", "S55", "established ts; < P. 1+5 ack 1 ts=10; < P. 1+5 ack 1 ts=5; recv"),
    ("data without timestamps on a connection that has them", "S56", "established ts; < P. 1+3 ack 1; recv"),
    (
        "data outside the window with a far TSval, then data",
        "S55 D23",
        "established ts; < P. 90000+3 ack 1 ts=1073741824; < P. 1+3 ack 1 ts=1; recv",
    ),
    (
        "bad ACK with a far TSval, then data",
        "S55 D23",
        "established ts; < P. 1+3 ack 1001 ts=1073741824; < P. 1+3 ack 1 ts=1; recv",
    ),
    ("timestamps that were not negotiated", "S56", "established; < P. 1+3 ack 1 ts; recv"),
];
