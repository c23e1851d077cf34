//! Fast retransmit and fast recovery by NewReno (RFC 5681 section 3.2, RFC 6582), and limited
//! transmit (RFC 3042).

use crate::seq::SndSeq;

/// Duplicate ACKs that are taken for a loss.
const THRESHOLD: u32 = 3;

/// Where a connection stands between a loss and its repair.
#[derive(Debug)]
pub(crate) struct Recovery {
    duplicates: u32,
    /// SND.MAX when the last loss was found: what is acknowledged beyond it ends the recovery, and
    /// duplicate ACKs before it tell of no new loss.
    recover: SndSeq,
    active: bool,
    /// Segments that have left the network, as duplicate ACKs tell, in octets.
    inflation: u32,
}

/// What an acknowledgment of something new means for the recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is no recovery.
    Normal,
    /// The next hole has to be filled as well.
    Partial,
    /// Everything up to `recover` has arrived.
    Complete,
}

impl Recovery {
    pub fn new(iss: SndSeq) -> Self {
        Self { duplicates: 0, recover: iss, active: false, inflation: 0 }
    }

    /// What duplicate ACKs add to cwnd: in recovery a segment each (RFC 5681 3.2 step 4), before it
    /// up to two segments (RFC 3042).
    pub fn inflation(&self) -> u32 {
        self.inflation
    }

    /// One more duplicate ACK; `true` if it is the one that shows a loss.
    pub fn duplicate_ack(&mut self, una: SndSeq, max: SndSeq, mss: u32) -> bool {
        self.duplicates += 1;
        if self.active || self.duplicates < THRESHOLD {
            self.inflation = self.inflation.saturating_add(mss);
            return false;
        }
        if self.duplicates > THRESHOLD || !una.after(self.recover) {
            return false;
        }
        self.active = true;
        self.recover = max;
        self.inflation = THRESHOLD * mss;
        true
    }

    /// Something new was acknowledged.
    pub fn acknowledged(&mut self, octets: u32, ack: SndSeq, mss: u32) -> Progress {
        self.duplicates = 0;
        if !self.active {
            self.inflation = 0;
            return Progress::Normal;
        }
        if ack.before(self.recover) {
            self.inflation = self.inflation.saturating_sub(octets).saturating_add(mss);
            return Progress::Partial;
        }
        self.active = false;
        self.inflation = 0;
        Progress::Complete
    }

    /// The retransmission timer expired (RFC 6582 section 3.2 step 4).
    pub fn timeout(&mut self, max: SndSeq) {
        *self = Self { duplicates: 0, recover: max, active: false, inflation: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_duplicate_starts_a_recovery_that_ends_at_recover() {
        let mut r = Recovery::new(SndSeq(0));
        let (una, max) = (SndSeq(100), SndSeq(10_100));
        assert!(!r.duplicate_ack(una, max, 1000));
        assert!(!r.duplicate_ack(una, max, 1000));
        assert_eq!(r.inflation(), 2000);
        assert!(r.duplicate_ack(una, max, 1000));
        assert!(!r.duplicate_ack(una, max, 1000));
        assert_eq!(r.inflation(), 4000);
        assert_eq!(r.acknowledged(2000, SndSeq(2100), 1000), Progress::Partial);
        assert_eq!(r.inflation(), 3000);
        assert_eq!(r.acknowledged(8000, SndSeq(10_100), 1000), Progress::Complete);
        assert_eq!(r.inflation(), 0);
    }

    #[test]
    fn duplicates_of_what_a_timeout_sent_again_start_nothing() {
        let mut r = Recovery::new(SndSeq(0));
        r.timeout(SndSeq(5000));
        assert!((0..5).all(|_| !r.duplicate_ack(SndSeq(5000), SndSeq(6000), 1000)));
    }
}
