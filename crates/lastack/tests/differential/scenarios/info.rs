//! The numbers of a connection after a fixed exchange: `info()` beside `TCP_INFO`.

use super::{Row, Scenario};

/// Ten segments of 1000 bytes in flight, to a peer that takes no more, and what follows at once.
macro_rules! TEN {
    ($rest:literal) => {
        concat!(
            "listen 8; < S 0 sackok opt=020403e8; < . 1 ack 1; accept; nodelay; send 1000&; send 1000&; send 1000&; send 1000&; send 1000&; send 1000&; ",
            "send 1000&; send 1000&; send 1000&; send 1000&; ",
            $rest
        )
    };
}

const ROWS: &[Row] = &[
    ("info of a new connection", "", "established sackok ts ws=7; info"),
    ("info of a connection without options", "", "established; info"),
    ("info of a connection of ours", "", "connect; < S. 0 ack 1 mss sackok ws=3; connect-result; info"),
    ("info after data in order", "", "established sackok; < P. 1+5 ack 1; < P. 6+1000 ack 1; recv; info"),
    (
        "info after data in either direction",
        "",
        "established sackok; < P. 1+5 ack 1; recv; send 100&; < . 6 ack 101&; send 50&; info; < P. 6+7 ack 151; recv; \
      info",
    ),
    (
        "info after data out of order",
        "",
        "established sackok; < P. 101+10 ack 1; < P. 201+10 ack 1; info; < P. 1+100 ack 1; < P. 1+100 ack 1; info",
    ),
    (
        "info after out-of-order data that comes again",
        "",
        "established sackok; < P. 101+10 ack 1; < P. 101+10 ack 1; < P. 101+20 ack 1; info; < P. 1+100 ack 1; info",
    ),
    ("info with data in flight", "", TEN!("info; < . 1 ack 3001&; info; < . 1 ack 10001&; info")),
    ("info while a loss is repaired", "", TEN!("< . 1 ack 1 sack=1001-4001&; info; < . 1 ack 10001&")),
    (
        "info after a repair without success",
        "",
        TEN!(
            "< . 1 ack 1 sack=1001-4001&; < . 1 ack 4001&; < . 1 ack 4001 sack=1-1001&; info; < . 1 ack 10001&; info"
        ),
    ),
    ("info after a timeout", "", "established; send 10&; wait 340; info"),
    ("info at a shut window", "", "listen 8; < S 0 mss; < . 1 ack 1 win=0; accept; send 10&; wait 380; info"),
    ("info after FIN", "", "close-wait; info; send 5&; info"),
    ("info after our FIN", "", "established; send 5&; shutdown&; info; < . 1 ack 7&; info"),
    (
        "info after segments that are not acceptable",
        "",
        "established; < P. 9999999+5 ack 1; < R 9; < . 1 ack 999; < S 5; info",
    ),
];

pub fn scenarios() -> Vec<Scenario> {
    ROWS.iter().map(|row| Scenario::both(row).at_sockets()).collect()
}
