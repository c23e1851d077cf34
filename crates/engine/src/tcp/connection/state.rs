//! The synchronized states and the transitions between them (RFC 9293 section 3.3.2).
//!
//! ```text
//!                 peer_fin                 close
//!   ESTABLISHED ───────────► CLOSE-WAIT ───────────► LAST-ACK ──fin_acked──► over
//!        │ close
//!        ▼        peer_fin                fin_acked
//!   FIN-WAIT-1 ────────────►  CLOSING  ─────────────────────┐
//!        │ fin_acked                                        ▼
//!        ▼        peer_fin                              TIME-WAIT
//!   FIN-WAIT-2 ───────────────────────────────────────────►─┘
//! ```

use crate::tcp::TcpState;

/// A synchronized state before TIME-WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
}

/// The target of a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    State(State),
    TimeWait,
    Closed,
}

use State::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck};

impl State {
    /// The application closed our direction.
    pub fn close(self) -> Self {
        match self {
            Established => FinWait1,
            CloseWait => LastAck,
            FinWait1 | FinWait2 | Closing | LastAck => self,
        }
    }

    /// The peer's FIN arrived in order.
    pub fn peer_fin(self) -> Next {
        match self {
            Established => Next::State(CloseWait),
            FinWait1 => Next::State(Closing),
            FinWait2 => Next::TimeWait,
            CloseWait | Closing | LastAck => Next::State(self),
        }
    }

    /// The peer acknowledged our FIN.
    pub fn fin_acked(self) -> Next {
        match self {
            FinWait1 => Next::State(FinWait2),
            Closing => Next::TimeWait,
            LastAck => Next::Closed,
            Established | FinWait2 | CloseWait => Next::State(self),
        }
    }

    /// Whether the application may still SEND.
    pub fn may_send(self) -> bool {
        matches!(self, Established | CloseWait)
    }

    /// Whether the peer may still send data.
    pub fn may_receive(self) -> bool {
        matches!(self, Established | FinWait1 | FinWait2)
    }

    /// Whether our FIN is to be sent, or sent but not yet acknowledged.
    pub fn fin_pending(self) -> bool {
        matches!(self, FinWait1 | Closing | LastAck)
    }

    /// The public name of the state.
    pub fn public(self) -> TcpState {
        match self {
            Established => TcpState::Established,
            FinWait1 => TcpState::FinWait1,
            FinWait2 => TcpState::FinWait2,
            CloseWait => TcpState::CloseWait,
            Closing => TcpState::Closing,
            LastAck => TcpState::LastAck,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends close, in every order of the three events that a side can see.
    #[test]
    fn every_order_of_events_ends_the_connection() {
        fn walk(at: Next, closed: bool, peer: bool, acked: bool) -> usize {
            let Next::State(state) = at else {
                assert!(closed && peer && acked, "ended early: {closed} {peer} {acked}");
                return 1;
            };
            assert_eq!((state.may_send(), state.may_receive()), (!closed, !peer));
            assert_eq!(state.fin_pending(), closed && !acked);
            let mut ends = 0;
            if !closed {
                ends += walk(Next::State(state.close()), true, peer, acked);
            }
            if !peer {
                ends += walk(state.peer_fin(), closed, true, acked);
            }
            if closed && !acked {
                ends += walk(state.fin_acked(), closed, peer, true);
            }
            ends
        }
        assert_eq!(walk(Next::State(Established), false, false, false), 3);
    }
}
