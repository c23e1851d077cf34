//! ICMP errors against connections: the table of RESETS 4.5, each code in each state.

use super::{Family, Row, Scenario, Settings};

/// Type, codes.
const V4: &[(u8, std::ops::RangeInclusive<u8>)] =
    &[(3, 0..=3), (3, 5..=15), (4, 0..=0), (5, 1..=1), (11, 0..=1), (12, 0..=0)];
const V6: &[(u8, std::ops::RangeInclusive<u8>)] = &[(1, 0..=8), (3, 0..=1), (4, 0..=3)];

const V4_ONLY: &[Row] = &[
    ("ICMP 3/4 in SYN-SENT", "I4 P6", "connect; icmp 3/4 seq 0 mtu=1400; error; < S. 0 ack 1 mss"),
    (
        "ICMP 3/4 in SYN-RECEIVED",
        "I4",
        "syn-received; icmp 3/4 seq 0 mtu=1400; < . 1 ack 1; accept; send 1400",
    ),
    ("ICMP 3/4 with data in flight", "I4 P4", "repeats; established; send 1400&; icmp 3/4 seq 1 mtu=1300"),
    ("ICMP 3/4 with MTU 100", "P1", "repeats; established; send 1000&; icmp 3/4 seq 1 mtu=100"),
    ("ICMP 3/4 with MTU 0", "P1", "repeats; established; send 1400&; icmp 3/4 seq 1 mtu=0"),
    ("ICMP 3/4 with a larger MTU", "P3", "repeats; established; send 1400&; icmp 3/4 seq 1 mtu=9000"),
    ("ICMP 3/4 outside the window", "P3 I11", "repeats; established; send 1000&; icmp 3/4 seq 99999 mtu=600"),
    ("ICMP 3/3 from the peer itself in SYN-SENT", "I2", "connect; icmp 3/3 seq 0 peer; error"),
    ("ICMP 3/3 about ISS + 1 in SYN-SENT", "I2", "connect; icmp 3/3 seq 1; error"),
    ("ICMP 3/3 about ISS - 1 in SYN-SENT", "I11", "connect; icmp 3/3 seq -1; error"),
    ("ICMP 3/3 with a wrong checksum in SYN-SENT", "I11", "connect; icmp 3/3 seq 0 badsum; error"),
    ("ICMP 3/3 about another connection in SYN-SENT", "I11", "connect; icmp 3/3 seq 0 port=1; error"),
    ("ICMP 3/1 about ISS + 1 in SYN-RECEIVED", "I11", "syn-received; icmp 3/1 seq 1; < . 1 ack 1; accept"),
    ("ICMP 3/3 beyond SND.NXT in ESTABLISHED", "I11", "established; send 10; icmp 3/3 seq 5000; error"),
    ("ICMP 3/3 before SND.UNA in ESTABLISHED", "I11", "established; icmp 3/3 seq 0; error"),
    ("ICMP 3/3 about nothing in flight in ESTABLISHED", "I2", "established; icmp 3/3 seq 1; error"),
    ("an ACK clears the soft error", "I2", "established; send 10; icmp 3/1 seq 1; < . 1 ack 11; error"),
    ("ICMP 3/1 in FIN-WAIT-2, closed", "I2", "orphan fin-wait-2; icmp 3/1 seq 2; < F. 1 ack 2"),
    ("ICMP 3/3 in TIME-WAIT", "I2", "time-wait; icmp 3/3 seq 1; < F. 1 ack 2"),
    ("ICMP 3/3 to a listener", "I2", "listen 8; icmp 3/3 seq 0; < S 0 mss"),
    ("ICMP 3/3 after simultaneous open", "I2", "simultaneous; icmp 3/3 seq 0; error"),
    ("ICMP 3/1, refused: read and write", "I1", "connect; icmp 3/1 seq 0; recv; recv; send 1; error"),
    (
        "keep-alive unanswered after ICMP 3/1",
        "S91 H7 H19 I2",
        "established; keepalive 1 1 2; wait 1300; icmp 3/1 seq 1; wait 2500; recv; recv",
    ),
    (
        "user timeout after ICMP 3/1",
        "S93 H19 I2",
        "established; user-timeout 1000; send 10; icmp 3/1 seq 1; wait 2500; recv; send 1",
    ),
];

const V6_ONLY: &[Row] = &[
    ("ICMPv6 2/0 in SYN-SENT", "I10 P6", "connect; icmp 2/0 seq 0 mtu=1400; error; < S. 0 ack 1 mss"),
    (
        "ICMPv6 2/0 in SYN-RECEIVED",
        "I10",
        "syn-received; icmp 2/0 seq 0 mtu=1400; < . 1 ack 1; accept; send 1400",
    ),
    ("ICMPv6 2/0 with data in flight", "I10 P4", "repeats; established; send 1400&; icmp 2/0 seq 1 mtu=1300"),
    ("ICMPv6 2/0 with MTU 1000", "P2", "repeats; established; send 1400&; icmp 2/0 seq 1 mtu=1000"),
    (
        "ICMPv6 2/0 outside the window",
        "P3 I11",
        "repeats; established; send 1400&; icmp 2/0 seq 99999 mtu=1300",
    ),
    ("ICMPv6 1/4 about ISS - 1 in SYN-SENT", "I11", "connect; icmp 1/4 seq -1; error"),
    ("ICMPv6 1/4 with a wrong checksum in SYN-SENT", "I11", "connect; icmp 1/4 seq 0 badsum; error"),
    ("ICMPv6 1/4 about ISS + 1 in SYN-RECEIVED", "I11", "syn-received; icmp 1/4 seq 1; < . 1 ack 1; accept"),
    ("ICMPv6 1/4 beyond SND.NXT in ESTABLISHED", "I11", "established; send 10; icmp 1/4 seq 5000; error"),
    ("ICMPv6 1/4 in TIME-WAIT", "I9", "time-wait; icmp 1/4 seq 1; < F. 1 ack 2"),
    (
        "keep-alive unanswered after ICMPv6 1/0",
        "S91 H7 H19 I8",
        "established; keepalive 1 1 2; wait 1300; icmp 1/0 seq 1; wait 2500; recv; recv",
    ),
    (
        "user timeout after ICMPv6 1/0",
        "S93 H19 I8",
        "established; user-timeout 1000; send 10; icmp 1/0 seq 1; wait 2500; recv; send 1",
    ),
];

pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (family, name, kinds) in [(&[Family::V4], "ICMP", V4), (&[Family::V6], "ICMPv6", V6)] {
        for (kind, codes) in kinds {
            for code in codes.clone() {
                let what = format!("{kind}/{code}");
                let rule = rule(family[0], *kind, code);
                for (state, script) in [
                    ("SYN-SENT", format!("connect; icmp {what} seq 0; error; error; < S. 0 ack 1 mss")),
                    ("SYN-RECEIVED", format!("syn-received; icmp {what} seq 0; < . 1 ack 1; accept")),
                    (
                        "ESTABLISHED",
                        format!("established; send 10; icmp {what} seq 1; error; error; < . 1 ack 11; recv"),
                    ),
                ] {
                    let name = format!("{name} {what} in {state}");
                    all.push(Scenario::new(family, Settings::Usual, (&name, rule, &script)));
                }
            }
        }
    }
    all.extend(V4_ONLY.iter().map(Scenario::v4));
    all.extend(V6_ONLY.iter().map(Scenario::v6));
    all
}

/// The row of the table of RESETS 4.5.
fn rule(family: Family, kind: u8, code: u8) -> &'static str {
    match (family, kind, code) {
        (Family::V4, 3, 0 | 1) => "I1",
        (Family::V4, 3, 2 | 3) => "I2",
        (Family::V4, 3, _) => "I3",
        (Family::V4, 11, _) => "I5",
        (Family::V4, 12, _) => "I6",
        (Family::V4, _, _) => "I7",
        (Family::V6, 1, 0 | 2 | 3) | (Family::V6, 3, _) => "I8",
        (Family::V6, _, _) => "I9",
    }
}
