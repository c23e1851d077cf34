//! What the counters of the kernel show of ends that no other source explains.
//!
//! Each increase is booked once: a connection that is explained by it uses it up.

use std::collections::VecDeque;

use crate::event::{Counters, Time};

/// The counters increased by `left` between two reads.
#[derive(Debug)]
struct Entry {
    from: Time,
    to: Time,
    left: Counters,
    /// Of these, those that counted a close with unread data, booked or not.
    closed_unread: u64,
    /// Ends that fell between the two reads.
    ends: Ends,
}

/// Ends between two reads.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    count: u32,
    /// Those with more than a byte unread, and those with exactly one, which may be a FIN.
    unread: u32,
    one_unread: u32,
}

/// Max increases that are kept.
const MAX_ENTRIES: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    last: Option<(Time, Counters)>,
    /// Ends since the last reading.
    ends: Ends,
    entries: VecDeque<Entry>,
}

/// A booked increase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// It could have been another connection: several ended between the two reads.
    pub(super) shared: bool,
}

impl Ledger {
    /// Adds a reading. Returns what increased since the one before.
    pub(super) fn read(&mut self, at: Time, counters: Counters) -> Counters {
        let ends = std::mem::take(&mut self.ends);
        let Some((from, before)) = self.last.replace((at, counters)) else { return Counters::default() };
        let left = counters.since(&before);
        let opens = Counters { active_opens: 0, passive_opens: 0, keep_alive: 0, ..left };
        if opens != Counters::default() {
            if self.entries.len() == MAX_ENTRIES {
                self.entries.pop_front();
            }
            let closed_unread = left.abort_on_close;
            self.entries.push_back(Entry { from, to: at, left, closed_unread, ends });
        }
        left
    }

    /// A connection ended at this time, for reasons known or unknown.
    pub(super) fn end(&mut self, at: Time) {
        if let Some(ends) = self.ends(at) {
            ends.count += 1;
        }
    }

    /// A socket was destroyed at this time with this number of bytes unread; a FIN that was not read counts as one.
    pub(super) fn unread(&mut self, at: Time, bytes: u32) {
        let Some(ends) = self.ends(at) else { return };
        match bytes {
            0 => {}
            1 => ends.one_unread += 1,
            _ => ends.unread += 1,
        }
    }

    /// The ends between the two readings around this time.
    fn ends(&mut self, at: Time) -> Option<&mut Ends> {
        if self.last.is_none_or(|(last, _)| at > last) {
            return Some(&mut self.ends);
        }
        let entry = self.entries.iter_mut().rev().find(|entry| entry.from <= at && at <= entry.to);
        entry.map(|entry| &mut entry.ends)
    }

    /// Whether several ends could explain an increase that was read at this time.
    pub(super) fn is_shared(&self, at: Time) -> bool {
        self.entries
            .iter()
            .rev()
            .find(|entry| entry.from <= at && at <= entry.to)
            .is_some_and(|entry| entry.ends.count > 1)
    }

    /// Whether a counter increased between the two times, and no end has used that up.
    pub(super) fn has(&self, field: fn(&mut Counters) -> &mut u64, since: Time, until: Time) -> bool {
        let increased = |entry: &Entry| *field(&mut entry.left.clone()) > 0;
        self.entries.iter().any(|entry| entry.to >= since && entry.from <= until && increased(entry))
    }

    /// Books one increase of a counter that was read between the two times: the nearest to `at`.
    pub(super) fn claim(
        &mut self,
        field: fn(&mut Counters) -> &mut u64,
        at: Time,
        period: (Time, Time),
    ) -> Option<Claim> {
        let entry = self.nearest(field, at, period)?;
        *field(&mut entry.left) -= 1;
        Some(Claim { shared: entry.ends.count > 1 })
    }

    /// As [`Ledger::claim`], for a socket that was destroyed with this number of bytes unread. If as many closes with unread data
    /// were counted as sockets had unread data, each of them is one.
    pub(super) fn claim_unread(&mut self, unread: u32, at: Time, period: (Time, Time)) -> Option<Claim> {
        let entry = self.nearest(|counters| &mut counters.abort_on_close, at, period)?;
        let Ends { unread: several, one_unread, .. } = entry.ends;
        let shared = match unread {
            0 => return None,
            // It may be a FIN, unless nothing else explains the count.
            1 if entry.closed_unread < u64::from(several) + u64::from(one_unread.max(1)) => return None,
            1 => false,
            _ => entry.closed_unread < several.into(),
        };
        entry.left.abort_on_close -= 1;
        Some(Claim { shared })
    }

    fn nearest(
        &mut self,
        field: fn(&mut Counters) -> &mut u64,
        at: Time,
        (since, until): (Time, Time),
    ) -> Option<&mut Entry> {
        self.entries
            .iter_mut()
            .filter(|entry| entry.to >= since && entry.from <= until)
            .filter_map(|entry| (*field(&mut entry.left) > 0).then_some(entry))
            .min_by_key(|entry| entry.from.since(at).max(at.since(entry.to)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_increase_explains_one_end() {
        let mut ledger = Ledger::default();
        let at = Time::from_millis;
        ledger.read(at(0), Counters { abort_on_close: 5, ..Counters::default() });
        let delta = ledger.read(at(100), Counters { abort_on_close: 6, ..Counters::default() });
        assert_eq!(delta.abort_on_close, 1);
        ledger.read(at(200), Counters { abort_on_close: 6, active_opens: 1, ..Counters::default() });
        ledger.end(at(50));
        assert_eq!(
            ledger.claim(|c| &mut c.abort_on_close, at(150), (at(150), at(300))),
            None,
            "before that time"
        );
        assert_eq!(
            ledger.claim(|c| &mut c.abort_on_close, at(50), (at(50), at(60))),
            Some(Claim { shared: false })
        );
        assert_eq!(ledger.claim(|c| &mut c.abort_on_close, at(50), (at(50), at(60))), None, "used up");
    }

    #[test]
    fn an_increase_that_several_ends_could_explain_is_shared() {
        let mut ledger = Ledger::default();
        let at = Time::from_millis;
        ledger.read(at(0), Counters::default());
        ledger.end(at(40));
        ledger.read(at(100), Counters { estab_resets: 2, ..Counters::default() });
        // PacketVerdict late.
        ledger.end(at(41));
        assert_eq!(
            ledger.claim(|c| &mut c.estab_resets, at(40), (at(40), at(40))),
            Some(Claim { shared: true })
        );
    }

    #[test]
    fn a_close_with_unread_data_is_certain_if_each_was_counted() {
        let at = Time::from_millis;
        let claim = |unread: &[u32], counted: u64, mine: u32| {
            let mut ledger = Ledger::default();
            ledger.read(at(0), Counters::default());
            for &bytes in unread {
                ledger.end(at(40));
                ledger.unread(at(40), bytes);
            }
            ledger.read(at(100), Counters { abort_on_close: counted, ..Counters::default() });
            ledger.claim_unread(mine, at(40), (at(0), at(100))).map(|claim| claim.shared)
        };
        assert_eq!(claim(&[2990, 0, 0], 1, 2990), Some(false));
        assert_eq!(claim(&[2990, 2990], 2, 2990), Some(false));
        assert_eq!(claim(&[2990, 10], 1, 2990), Some(true), "one of two");
        assert_eq!(claim(&[2990, 1], 1, 1), None, "a FIN");
        assert_eq!(claim(&[2990, 1], 2, 1), Some(false), "a byte");
        assert_eq!(claim(&[1, 0], 1, 1), Some(false));
        assert_eq!(claim(&[1, 1], 1, 1), None, "a byte and a FIN: which is which is not known");
        assert_eq!(claim(&[0], 1, 0), None);
    }

    #[test]
    fn the_increase_that_is_nearest_is_booked() {
        let mut ledger = Ledger::default();
        let at = Time::from_millis;
        for (time, count) in [(0, 0), (100, 1), (200, 2), (300, 3)] {
            ledger.read(at(time), Counters { estab_resets: count, ..Counters::default() });
        }
        assert!(ledger.claim(|c| &mut c.estab_resets, at(150), (at(0), at(400))).is_some());
        let left: Vec<u64> = ledger.entries.iter().map(|entry| entry.left.estab_resets).collect();
        assert_eq!(left, [1, 0, 1]);
    }

    #[test]
    fn the_number_of_entries_is_bounded() {
        let mut ledger = Ledger::default();
        for n in 0..1000 {
            ledger.read(Time(n), Counters { out_resets: n, ..Counters::default() });
        }
        assert_eq!(ledger.entries.len(), MAX_ENTRIES);
    }
}
