//! Which state a connection may go to, by what has just happened (RFC 9293 section 3.3.2).

use lastack_engine::TcpState;

/// What has just happened to a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A packet arrived.
    Arrival,
    /// A user called.
    Call,
    /// A timer expired, or what was owed was sent.
    Time,
}

/// Whether a connection may be found in `to` that was in `from` one step before. One segment may take
/// it further than one arrow of the figure: text with FIN may complete a handshake. CLOSED: no
/// connection of that four-tuple. From every state a connection may be gone.
pub fn may_go(step: Step, from: TcpState, to: TcpState) -> bool {
    use TcpState::{
        CloseWait, Closed, Closing, Established, FinWait1, FinWait2, LastAck, SynReceived, SynSent, TimeWait,
    };
    if from == to || to == Closed {
        return true;
    }
    // A new SYN in TIME-WAIT that comes to nothing leaves the TIME-WAIT (RFC 6191).
    if (from, to) == (SynReceived, TimeWait) {
        return true;
    }
    let reachable: &[TcpState] = match (step, from) {
        // A SYN for a listener; a SYN cookie that comes back, with FIN perhaps.
        (Step::Arrival, Closed) => &[SynReceived, Established, CloseWait],
        (Step::Arrival, SynSent) => &[SynReceived, Established, CloseWait],
        // CLOSE is remembered until the handshake is complete (E2).
        (Step::Arrival, SynReceived) => &[Established, CloseWait, FinWait1, Closing, LastAck],
        (Step::Arrival, Established) => &[CloseWait],
        (Step::Arrival, FinWait1) => &[FinWait2, Closing, TimeWait],
        (Step::Arrival, FinWait2 | Closing) => &[TimeWait],
        (Step::Arrival, TimeWait) => &[SynReceived],
        (Step::Call, Closed | TimeWait) => &[SynSent],
        (Step::Call, Established) => &[FinWait1],
        (Step::Call, CloseWait) => &[LastAck],
        _ => &[],
    };
    reachable.contains(&to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use TcpState::{CloseWait, Closed, Established, FinWait1, FinWait2, LastAck, SynReceived, TimeWait};

    #[test]
    fn what_the_figure_does_not_have_is_not_allowed() {
        for (step, from, to) in [
            (Step::Arrival, Established, FinWait1),
            (Step::Arrival, CloseWait, Established),
            (Step::Arrival, FinWait2, FinWait1),
            (Step::Arrival, Established, LastAck),
            (Step::Call, FinWait1, FinWait2),
            (Step::Call, SynReceived, Established),
            (Step::Time, Established, CloseWait),
            (Step::Time, FinWait2, TimeWait),
            (Step::Time, Closed, SynReceived),
        ] {
            assert!(!may_go(step, from, to), "{step:?}: {from} to {to}");
        }
        assert!(may_go(Step::Arrival, FinWait1, TimeWait) && may_go(Step::Time, TimeWait, Closed));
    }
}
