//! The state transitions allowed by the last step (RFC 9293 section 3.3.2).

use lastack_engine::TcpState;

/// The last step of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A packet arrived.
    Arrival,
    /// An application made a call.
    Call,
    /// A timer fired, or pending packets were sent.
    Time,
}

/// Whether a connection in state `from` may be in `to` one step later. One segment may take
/// it along several arrows of the figure: data with FIN may complete a handshake. CLOSED: no
/// connection with that four-tuple. A connection may be removed from any state.
pub fn may_go(step: Step, from: TcpState, to: TcpState) -> bool {
    use TcpState::{
        CloseWait, Closed, Closing, Established, FinWait1, FinWait2, LastAck, SynReceived, SynSent, TimeWait,
    };
    if from == to || to == Closed {
        return true;
    }
    // A new SYN in TIME-WAIT whose connection is not established leaves the TIME-WAIT (RFC 6191).
    if (from, to) == (SynReceived, TimeWait) {
        return true;
    }
    let reachable: &[TcpState] = match (step, from) {
        // A SYN for a listener; an ACK with a SYN cookie, perhaps with FIN.
        (Step::Arrival, Closed) => &[SynReceived, Established, CloseWait],
        (Step::Arrival, SynSent) => &[SynReceived, Established, CloseWait],
        // CLOSE is deferred until the handshake is complete.
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
    fn transitions_outside_the_state_diagram_are_rejected() {
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
