//! What the user ends, and what comes after: S60 to S90.

use super::Row;

pub const CLOSE: &[Row] = &[
    ("close in ESTABLISHED", "E1 S62", "established; close"),
    ("close in CLOSE-WAIT", "E10", "close-wait; close"),
    ("close in FIN-WAIT-1", "E13", "fin-wait-1; close"),
    ("close in FIN-WAIT-2", "E5", "fin-wait-2; close"),
    ("close in CLOSING", "E6", "closing; close"),
    ("close in LAST-ACK", "E10", "last-ack; close"),
    ("close with unread data in ESTABLISHED", "S60", "established; < P. 1+5 ack 1; close; < . 6 ack 1"),
    ("close with unread data in FIN-WAIT-1", "S60", "fin-wait-1; < P. 1+5 ack 1; close"),
    ("close with unread data in FIN-WAIT-2", "S60", "fin-wait-2; < P. 1+5 ack 2; close"),
    ("close with unread data in CLOSE-WAIT", "S60", "established; < PF. 1+5 ack 1; close"),
    ("close with unread data in CLOSING", "S60", "fin-wait-1; < PF. 1+5 ack 1; close"),
    ("close with unread data in LAST-ACK", "S60", "established; < PF. 1+5 ack 1; shutdown; close"),
    ("close with unread data, TIME-WAIT entered", "S60", "fin-wait-2; < PF. 1+5 ack 2; close; < F. 6 ack 2"),
    ("close with part of the data unread", "S60", "established; < P. 1+5 ack 1; recv 2; close"),
    ("close with unread data and data in flight", "S60", "established; send 500; < P. 1+5 ack 1; close"),
    (
        "close with unread data on a connection with timestamps",
        "S60",
        "established ts; < P. 1+5 ack 1 ts; close",
    ),
    ("close with data beyond a gap only", "S61", "established; < P. 101+5 ack 1; close"),
    ("close when all but the FIN is read", "S62", "established; < PF. 1+5 ack 1; recv; close"),
    ("close when only duplicates came", "S62", "established; < P. 1+5 ack 1; recv; < P. 1+5 ack 1; close"),
    ("close with an urgent byte unread", "S63", "established; < PU. 1+1 ack 1 urg=1; close"),
    ("close with all but an urgent byte read", "S63", "established; < PU. 1+5 ack 1 urg=5; recv; close"),
];

pub const ABORT: &[Row] = &[
    ("close with linger 0 in ESTABLISHED", "S64", "established; linger0; close; < . 1 ack 1"),
    ("close with linger 0 in CLOSE-WAIT", "S64", "close-wait; linger0; close"),
    ("close with linger 0 in FIN-WAIT-1", "S64", "fin-wait-1; linger0; close"),
    ("close with linger 0 in FIN-WAIT-2", "S64", "fin-wait-2; linger0; close"),
    ("close with linger 0 and unread data", "S65", "established; < P. 1+5 ack 1; linger0; close"),
    ("close with linger 0 in CLOSING", "S66", "closing; linger0; close; < . 2 ack 2"),
    ("close with linger 0 in LAST-ACK", "S66", "last-ack; linger0; close; < . 2 ack 2"),
    ("close with linger 0 in TIME-WAIT", "S66", "time-wait; linger0; close; < F. 1 ack 2"),
    ("close with linger 0, timestamps", "S64", "established ts; linger0; close"),
    ("close with linger 0, window scale", "S64", "established ws=7; linger0; close"),
    (
        "close with linger 0, 500 bytes unsent",
        "S64",
        "listen 8; < S 0 mss; < . 1 ack 1 win=0; accept; send 500; linger0; close",
    ),
    ("close with linger 0, 500 bytes in flight", "S64", "established; send 500; linger0; close"),
    (
        "close with linger 0 after the window shrank",
        "S64",
        "listen 8; < S 0 mss; < . 1 ack 1 win=5000; accept; send 1400; send 1400; send 1200; < . 1 ack 1001 win=1000; \
      linger0; close",
    ),
    ("abort in ESTABLISHED", "S68", "established; abort; < . 1 ack 1"),
    ("abort in CLOSE-WAIT", "S68", "close-wait; abort"),
    ("abort in FIN-WAIT-2", "S68", "fin-wait-2; abort"),
    ("the error after an abort", "S68", "established; abort; error"),
];

pub const AFTER_CLOSE: &[Row] = &[
    ("data after close, FIN acknowledged", "S82", "orphan fin-wait-2; < P. 1+3 ack 2; < . 4 ack 2"),
    ("data after close, FIN not acknowledged", "S80", "orphan fin-wait-1; < P. 1+3 ack 1; < . 4 ack 1"),
    ("data after close that acknowledges the FIN", "S81", "orphan fin-wait-1; < P. 1+3 ack 2; < . 4 ack 2"),
    ("data and FIN after close that acknowledge the FIN", "S81", "orphan fin-wait-1; < PF. 1+3 ack 2"),
    ("data and FIN after close, FIN not acknowledged", "S80", "orphan fin-wait-1; < PF. 1+3 ack 1"),
    ("FIN behind a hole after close", "S81", "orphan fin-wait-1; < F. 101 ack 2"),
    ("data beyond a gap after close, FIN not acknowledged", "S80", "orphan fin-wait-1; < P. 101+3 ack 1"),
    ("data beyond a gap after close, FIN acknowledged", "S82", "orphan fin-wait-2; < P. 101+3 ack 2"),
    ("data and FIN after close, FIN acknowledged", "S82", "orphan fin-wait-2; < PF. 1+3 ack 2"),
    ("FIN beyond a gap after close, FIN acknowledged", "S82", "orphan fin-wait-2; < F. 101 ack 2"),
    ("old data after close, FIN acknowledged", "S82", "orphan fin-wait-2; < P. 0+1 ack 2; < F. 1 ack 2"),
    ("keep-alive probe after close, FIN acknowledged", "S82 S59", "orphan fin-wait-2; < . 0 ack 2"),
    (
        "data with a bogus ACK after close, FIN acknowledged",
        "S82 D7",
        "orphan fin-wait-2; < P. 1+3 ack 100000; < F. 1 ack 2",
    ),
    ("data with an old ACK after close, FIN acknowledged", "S82", "orphan fin-wait-2; < P. 1+3 ack 1"),
    (
        "FIN with a bogus ACK after close, FIN acknowledged",
        "S82 D7",
        "orphan fin-wait-2; < F. 1 ack 100000; < F. 1 ack 2",
    ),
    ("FIN without ACK after close, FIN acknowledged", "S82", "orphan fin-wait-2; < F 1; < F. 1 ack 2"),
    ("bare ACK outside after close, FIN acknowledged", "S82", "orphan fin-wait-2; < . 200001 ack 2"),
    ("bare ACK after close, FIN acknowledged", "S82", "orphan fin-wait-2; < . 1 ack 2"),
    (
        "data outside after close, FIN acknowledged",
        "S82",
        "orphan fin-wait-2; < P. 200001+5 ack 2; < F. 1 ack 2",
    ),
    ("SYN in the window after close, FIN acknowledged", "S83 H13", "orphan fin-wait-2; < S 11; < F. 1 ack 2"),
    (
        "SYN left of the window after close, FIN acknowledged",
        "S83 H13",
        "orphan fin-wait-2; < S -5000; < F. 1 ack 2",
    ),
    ("SYN after close, FIN not acknowledged", "S50 H14", "orphan fin-wait-1; < S 11"),
    ("data beyond the FIN in CLOSE-WAIT", "S84", "close-wait; < P. 2+3 ack 1; recv"),
    ("another FIN beyond the FIN in CLOSE-WAIT", "S84", "close-wait; < F. 2 ack 1; recv"),
    ("data from before the FIN to beyond it in CLOSE-WAIT", "S84", "close-wait; < P. 1+5 ack 1; recv"),
    ("data beyond the FIN in CLOSING", "S84", "closing; < P. 2+3 ack 1; recv"),
    ("data beyond the FIN in LAST-ACK", "S84", "last-ack; < P. 2+3 ack 1; recv"),
    ("data beyond the FIN, closed", "S84", "orphan closing; < P. 2+3 ack 1"),
    (
        "data beyond the FIN that acknowledges ours in LAST-ACK",
        "S84",
        "orphan last-ack; < P. 2+3 ack 2; < . 5 ack 2",
    ),
    ("anything after LAST-ACK", "S85 S10", "orphan last-ack; < . 2 ack 2; < . 2 ack 2; < F. 1 ack 2"),
    ("anything after LAST-ACK, no listener", "S85 S4", "orphan last-ack; < . 2 ack 2; unlisten; < . 2 ack 2"),
    ("data from before our FIN, after its ACK", "S53 E9", "fin-wait-2; < P. 1+3 ack 1; recv"),
    (
        "data after shutdown",
        "S72 E9",
        "established; shutdown; < . 1 ack 2; < P. 1+3 ack 2; recv; send 1; shutdown",
    ),
];

pub const LISTENER: &[Row] = &[
    (
        "the listener closes with a connection waiting",
        "S90",
        "listen 8; < S 0 mss; < . 1 ack 1; unlisten; < . 1 ack 1",
    ),
    ("the listener closes with data waiting", "S90", "listen 8; < S 0 mss; < P. 1+2 ack 1; unlisten"),
    ("the listener closes with a FIN waiting", "S90", "listen 8; < S 0 mss; < F. 1 ack 1; unlisten"),
    (
        "the listener closes with two waiting",
        "S90",
        "listen 8; < S 0 mss; < . 1 ack 1; < S 0 mss port=1; < . 1 ack 1 port=1; unlisten",
    ),
    ("the listener closes with one accepted", "S90", "established; unlisten; < P. 1+5 ack 1; recv"),
    (
        "the listener closes with a reset connection waiting",
        "S90 R19",
        "listen 8; < S 0 mss; < . 1 ack 1; < R 1; unlisten",
    ),
];
