//! The order of data and reset: whether what one side had sent had reached the other when that sent its reset.
//!
//! A reset that crosses data on its way has another reason than that data. The acknowledgments tell them apart, else the
//! time: a reaction to data arrives a round trip after it at the earliest.

use std::time::Duration;

use crate::report::{Order, Path, Reached};

/// How late the end may be noticed, and how much a round trip may vary, at most.
const LATE: Duration = Duration::from_millis(1);

/// What is known of the direction towards the side that sent the reset.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Bytes that were sent to it.
    pub bytes: u64,
    /// Those of them that it acknowledged.
    pub acked: u64,
    /// The last of them, since it has sent something itself.
    pub unanswered: u64,
    /// Bytes that wait for room in its window.
    pub blocked: u64,
    /// The FIN was sent, and whether that is acknowledged.
    pub fin: Option<bool>,
    /// The time from the last data to the reset, and from the FIN.
    pub since_data: Duration,
    pub since_fin: Duration,
}

impl Sent {
    /// Whether the data, and the FIN, came first. `path`: the round trip, if it is known.
    pub fn order(&self, path: Option<Path>) -> Order {
        Order { data: self.data(path), fin: self.fin(path) }
    }

    fn data(&self, path: Option<Path>) -> Reached {
        let pending = self.bytes.saturating_sub(self.acked);
        match () {
            () if self.unanswered == 0 && pending == 0 => Reached::No,
            () if self.unanswered > pending => Reached::Yes,
            // A window is closed by data that is not read.
            () if self.blocked > 0 && self.acked > 0 => Reached::Yes,
            () => by_time(self.since_data, path),
        }
    }

    fn fin(&self, path: Option<Path>) -> Reached {
        match self.fin {
            None => Reached::No,
            Some(true) => Reached::Yes,
            Some(false) => by_time(self.since_fin, path),
        }
    }
}

fn by_time(since: Duration, path: Option<Path>) -> Reached {
    let (shortest, usual) = path.map_or((Duration::ZERO, Duration::ZERO), |path| (path.min_rtt, path.rtt));
    match () {
        () if since < shortest => Reached::No,
        () if since >= usual * 2 + LATE => Reached::Yes,
        () => Reached::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: Path =
        Path { rtt: Duration::from_millis(12), min_rtt: Duration::from_millis(10), retransmitted: 0 };

    fn data(sent: Sent) -> Reached {
        sent.order(Some(PATH)).data
    }

    #[test]
    fn acknowledged_data_has_arrived() {
        let request = Sent { bytes: 318, acked: 318, unanswered: 18, ..Sent::default() };
        assert_eq!(data(request), Reached::Yes);
        assert_eq!(data(Sent { acked: 305, ..request }), Reached::Yes, "a part of it");
        assert_eq!(data(Sent { acked: 300, ..request }), Reached::No, "only the request before it");
        assert_eq!(
            data(Sent { bytes: 300, acked: 300, unanswered: 0, ..request }),
            Reached::No,
            "all is answered"
        );
    }

    #[test]
    fn a_reset_sooner_than_a_round_trip_is_no_reaction() {
        let at = |millis| {
            let since_data = Duration::from_millis(millis);
            data(Sent { bytes: 18, unanswered: 18, since_data, ..Sent::default() })
        };
        assert_eq!(at(9), Reached::No);
        assert_eq!(at(11), Reached::Unknown, "a round trip may be longer than the shortest");
        assert_eq!(at(25), Reached::Yes);
        let sent = Sent { bytes: 18, unanswered: 18, ..Sent::default() };
        assert_eq!(sent.order(None).data, Reached::Unknown, "a path that was not measured");
    }

    #[test]
    fn a_closed_window_is_full_of_data() {
        let sent = Sent { bytes: 90_000, acked: 60_000, blocked: 30_000, ..Sent::default() };
        assert_eq!(data(sent), Reached::Yes);
    }

    #[test]
    fn a_fin_has_its_own_acknowledgment_and_time() {
        let fin = |fin, millis| Sent { fin, since_fin: Duration::from_millis(millis), ..Sent::default() };
        assert_eq!(fin(Some(true), 0).order(Some(PATH)).fin, Reached::Yes);
        assert_eq!(fin(Some(false), 5).order(Some(PATH)).fin, Reached::No);
        assert_eq!(fin(Some(false), 12).order(Some(PATH)).fin, Reached::Unknown);
        assert_eq!(fin(None, 50).order(Some(PATH)).fin, Reached::No);
    }
}
