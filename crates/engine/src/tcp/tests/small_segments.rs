//! The peer's full segments are smaller than ours: the MTU of its path is, or its stack has a limit of its own.

use crate::tcp::tests::peer::{Kind, Peer, both};
use alloc::format;

/// In either case the user reads everything at once; with `held` it also allows the acknowledgment.
fn in_each_case(test: impl Fn(Exchange)) {
    both(|v6| {
        for held in [false, true] {
            let mut p = Peer::established(v6, Kind::Plain);
            if held {
                p.tcp().hold_acks();
            }
            test(Exchange { p, held, total: 0 });
        }
    });
}

/// A connection whose own MSS is 1460, or 1440 with IPv6.
struct Exchange {
    p: Peer,
    held: bool,
    total: u64,
}

impl Exchange {
    /// Whether this data, merged from segments of this size if there is one, is acknowledged at once.
    fn is_answered(&mut self, text: &str, len: u64, merged: Option<u16>) -> bool {
        let text = format!("{text} seq={} len={len}", self.total + 1);
        let first = match merged {
            Some(size) => self.p.on_merged(&text, size),
            None => self.p.on(&text),
        };
        self.total += len;
        self.p.tcp().consume(len as usize);
        let ack = format!(". seq=1 ack={}", self.total + 1);
        if !self.held {
            assert!(first == "accepted" || first == format!("accepted | {ack}"), "{first}");
            self.p.pass(5);
            return first != "accepted";
        }
        assert_eq!(first, "accepted");
        self.p.tcp().acknowledge(self.total, false);
        let later = self.p.run(5);
        assert!(later.is_empty() || later == format!("0: {ack}"), "{later}");
        !later.is_empty()
    }
}

/// A sender with a full congestion window waits for the acknowledgment, in each round trip.
#[test]
fn a_super_segment_of_small_segments_is_acknowledged_at_once() {
    in_each_case(|mut exchange| {
        assert!(exchange.is_answered("P.", 1400, Some(699)));
        assert!(!exchange.is_answered("P.", 100, None), "a part of a segment may wait");
        assert_eq!(exchange.p.run(40), "35: . seq=1 ack=1501");
    });
}

#[test]
fn every_second_small_segment_is_acknowledged() {
    in_each_case(|mut exchange| {
        // A segment without PSH is full: more data follows it.
        assert!(!exchange.is_answered(".", 600, None));
        assert!(exchange.is_answered(".", 600, None));
        assert!(!exchange.is_answered("P.", 1300, None), "now that many bytes are a full segment");
        assert!(exchange.is_answered("P.", 100, None));
    });
}

#[test]
fn the_end_of_a_write_is_not_taken_for_a_full_segment() {
    in_each_case(|mut exchange| {
        for flags in ["P.", "P."] {
            assert!(!exchange.is_answered(flags, 700, None));
        }
        // Nor is a small one.
        for _ in 0..3 {
            assert!(!exchange.is_answered(".", 10, None));
        }
        assert!(exchange.is_answered("P.", 40, None), "more than a full segment of ours");
    });
}
