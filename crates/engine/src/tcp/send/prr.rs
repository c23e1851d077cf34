//! Proportional rate reduction, PRR (RFC 6937, with the safe reduction bound of its successor): how much may be sent
//! during recovery, so that the data in flight shrinks to ssthresh smoothly.

/// The state during one recovery. All in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Prr {
    /// Bytes in flight when the recovery began.
    flight_at_start: u32,
    delivered: u32,
    sent: u32,
}

impl Prr {
    pub fn begin(flight: u32) -> Self {
        Self { flight_at_start: flight.max(1), delivered: 0, sent: 0 }
    }

    pub fn sent(&mut self, bytes: u32) {
        self.sent = self.sent.saturating_add(bytes);
    }

    /// The congestion window after an ACK that delivered `delivered` bytes. `progress`: SND.UNA moved
    /// and no further loss was found.
    pub fn window(&mut self, delivered: u32, pipe: u32, ssthresh: u32, mss: u32, progress: bool) -> u32 {
        self.delivered = self.delivered.saturating_add(delivered);
        let more = if pipe > ssthresh {
            let target = u64::from(self.delivered) * u64::from(ssthresh);
            (target.div_ceil(u64::from(self.flight_at_start)) as u32).saturating_sub(self.sent)
        } else {
            let mut limit = self.delivered.saturating_sub(self.sent).max(delivered);
            if progress {
                limit += mss;
            }
            limit.min(ssthresh - pipe)
        };
        // The first retransmission is sent in any case: it is the fast retransmit.
        let min = if self.sent == 0 { mss } else { 0 };
        pipe + more.max(min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_as_much_is_sent_as_arrives_until_the_flight_is_halved() {
        let (mss, ssthresh) = (1000, 10_000);
        let mut prr = Prr::begin(20_000);
        let (mut pipe, mut sent) = (19_000, 0);
        for _ in 0..19 {
            pipe -= mss;
            let window = prr.window(mss, pipe, ssthresh, mss, false);
            while window >= pipe + mss {
                pipe += mss;
                sent += mss;
                prr.sent(mss);
            }
        }
        assert_eq!((sent, pipe), (10_000, 10_000));
    }

    #[test]
    fn a_flight_below_the_threshold_grows_with_delivered_data() {
        let mut prr = Prr::begin(20_000);
        assert_eq!(prr.window(1000, 2000, 10_000, 1000, false), 3000);
        prr.sent(1000);
        assert_eq!(prr.window(1000, 2000, 10_000, 1000, true), 4000);
    }
}
