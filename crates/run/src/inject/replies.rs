//! Replies to pings of which a fault makes copies: one is lost only if all its copies are.

use std::collections::VecDeque;

/// Max sequence numbers that are kept.
const MAX: usize = 64;

/// The last sequence numbers, and whether a reply with that number has reached the program.
#[derive(Debug, Default)]
pub(super) struct Replies(VecDeque<(u16, bool)>);

impl Replies {
    /// A reply is delivered, or lost. Returns by how much this changes the number of lost replies.
    pub(super) fn count(&mut self, seq: u16, delivered: bool) -> i64 {
        if let Some((_, arrived)) = self.0.iter_mut().find(|(known, _)| *known == seq) {
            let first = delivered && !*arrived;
            *arrived |= delivered;
            return if first { -1 } else { 0 };
        }
        if self.0.len() >= MAX {
            self.0.pop_front();
        }
        self.0.push_back((seq, delivered));
        i64::from(!delivered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_of_which_a_copy_arrives_is_not_lost() {
        let lost = |replies: &[(u16, bool)]| {
            let mut all = Replies::default();
            replies.iter().map(|&(seq, delivered)| all.count(seq, delivered)).sum::<i64>()
        };
        assert_eq!(lost(&[(1, false), (1, true)]), 0);
        assert_eq!(lost(&[(1, true), (1, false)]), 0);
        assert_eq!(lost(&[(1, false), (1, false), (2, true), (2, true)]), 1);
        assert_eq!(lost(&[(1, false), (2, false), (1, true), (1, true), (2, false)]), 1);
        let mut all = Replies::default();
        (0..1000).for_each(|seq| assert_eq!(all.count(seq, false), 1));
        assert_eq!(all.0.len(), MAX);
    }
}
