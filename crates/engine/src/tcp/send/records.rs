//! Ends of records (`MSG_EOR`): no segment contains data from both sides of one, neither at first nor when it is sent
//! again.

use alloc::collections::VecDeque;

/// Max ends that are kept. Further ones are not: their records share segments, which the stream allows.
pub(crate) const MAX_RECORDS: usize = 1024;

/// The ends of records in the send buffer, as stream positions in order.
#[derive(Debug, Default)]
pub(crate) struct Records {
    ends: VecDeque<u64>,
}

impl Records {
    /// A record ends at `end`; all data before `una` is acknowledged.
    pub fn push(&mut self, end: u64, una: u64) {
        while self.ends.front().is_some_and(|end| *end <= una) {
            self.ends.pop_front();
        }
        if self.ends.len() < MAX_RECORDS && self.ends.back() != Some(&end) {
            self.ends.push_back(end);
        }
    }

    /// The first end after `start`.
    pub fn next_after(&self, start: u64) -> Option<u64> {
        self.ends.get(self.ends.partition_point(|end| *end <= start)).copied()
    }

    /// Whether a record ends here.
    pub fn ends_at(&self, at: u64) -> bool {
        self.ends.binary_search(&at).is_ok()
    }

    /// The last end before `end`.
    pub fn last_before(&self, end: u64) -> Option<u64> {
        self.ends.partition_point(|at| *at < end).checked_sub(1).map(|i| self.ends[i])
    }

    /// Bytes on the heap.
    pub fn memory(&self) -> usize {
        self.ends.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_lies_between_two_ends() {
        let mut records = Records::default();
        for end in [100, 100, 250, 400] {
            records.push(end, 0);
        }
        assert_eq!(
            [0, 99, 100, 399, 400].map(|at| records.next_after(at)),
            [Some(100), Some(100), Some(250), Some(400), None]
        );
        assert_eq!(
            [100, 101, 400, 401].map(|at| records.last_before(at)),
            [None, Some(100), Some(250), Some(400)]
        );
        // Ends of acknowledged data are removed.
        records.push(500, 250);
        assert_eq!(records.ends, [400, 500]);
    }

    #[test]
    fn ends_past_the_bound_are_not_kept() {
        let mut records = Records::default();
        for end in 1..=2 * MAX_RECORDS as u64 {
            records.push(end, 0);
        }
        assert_eq!((records.ends.len(), records.next_after(MAX_RECORDS as u64)), (MAX_RECORDS, None));
        assert!(records.memory() <= 8 * MAX_RECORDS.next_power_of_two());
    }
}
