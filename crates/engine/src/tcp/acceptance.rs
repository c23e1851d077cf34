//! Whether a RST is accepted, answered with a challenge ACK or ignored: the protection against blind reset attacks of
//! RFC 5961 section 3. A pure function of the receiver's state and the segment's SEQ and ACK. The stack calls it for each
//! RST that arrives; an observer of a connection can call it too.

use crate::Rule;
use crate::seq::{RcvSeq, SndSeq};
use crate::tcp::TcpState;

/// The effect of a RST on its receiver, and the rule that decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetEffect {
    /// It ends the connection.
    Accepted(Rule),
    /// It is answered with a challenge ACK; the connection goes on.
    Challenged(Rule),
    /// It is dropped without an answer.
    Ignored(Rule),
}

/// The state of the receiver of a RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReceiver {
    /// CLOSED or LISTEN: there is no connection.
    Closed,
    /// SYN-SENT.
    SynSent {
        /// The sequence number of its SYN (ISS).
        iss: SndSeq,
    },
    /// SYN-RECEIVED.
    SynReceived {
        /// The sequence number of the peer's SYN (IRS).
        irs: RcvSeq,
        /// The window it offered, in bytes.
        window: u32,
        /// It had sent a SYN of its own before (simultaneous open).
        active: bool,
    },
    /// ESTABLISHED to LAST-ACK.
    Synchronized {
        /// One of these states.
        state: TcpState,
        /// The next sequence number it expects (RCV.NXT).
        nxt: RcvSeq,
        /// Bytes from there to the right edge of the window it offered.
        window: u32,
        /// The end of the last range that it reported by SACK; `None` also if it accepts resets at RCV.NXT only.
        reported: Option<RcvSeq>,
        /// It accepts a reset with the sequence number of the peer's FIN (`Rule::PeerRstAtFin`).
        lenient: bool,
    },
    /// TIME-WAIT.
    TimeWait,
}

impl ResetReceiver {
    /// The effect of a RST with this SEG.SEQ, and this SEG.ACK if the ACK flag is set.
    #[must_use]
    pub fn judge(&self, seq: RcvSeq, ack: Option<SndSeq>) -> ResetEffect {
        match *self {
            Self::Closed => ResetEffect::Ignored(Rule::DropRstNoConnection),
            Self::TimeWait => ResetEffect::Ignored(Rule::DropRstInTimeWait),
            Self::SynSent { iss } => in_syn_sent(iss, ack),
            Self::SynReceived { irs, window, active } => in_syn_received(irs, window, active, seq),
            Self::Synchronized { state, nxt, window, reported, lenient } => {
                if let Some(rule) = exact(state, nxt, reported, lenient, seq) {
                    return ResetEffect::Accepted(rule);
                }
                by_window(nxt, window, seq)
            }
        }
    }
}

/// RFC 9293 section 3.10.7.3. SEQ cannot be checked: there is no RCV.NXT yet (`Rule::PeerRstRefused`).
fn in_syn_sent(iss: SndSeq, ack: Option<SndSeq>) -> ResetEffect {
    match ack {
        None => ResetEffect::Ignored(Rule::DropRstNoAckInSynSent),
        Some(ack) if ack == iss + 1 => ResetEffect::Accepted(Rule::PeerRstRefused),
        Some(_) => ResetEffect::Ignored(Rule::DropResetBadAckInSynSent),
    }
}

fn in_syn_received(irs: RcvSeq, window: u32, active: bool, seq: RcvSeq) -> ResetEffect {
    if seq == irs + 1 {
        return ResetEffect::Accepted(if active {
            Rule::PeerRstSimultaneousOpen
        } else {
            Rule::PeerRstInSynReceived
        });
    }
    by_window(irs + 1, window, seq)
}

/// RFC 5961 section 3.2, for a SEQ that is not RCV.NXT.
fn by_window(nxt: RcvSeq, window: u32, seq: RcvSeq) -> ResetEffect {
    if seq.within(nxt, window) {
        ResetEffect::Challenged(Rule::AckChallengeRst)
    } else {
        ResetEffect::Ignored(Rule::DropRstOutsideWindow)
    }
}

/// The rule by which a reset with this SEQ ends the connection, if it does. RCV.NXT includes data that is not
/// acknowledged yet, and SEQ = RCV.NXT is accepted at a zero window too.
fn exact(state: TcpState, nxt: RcvSeq, reported: Option<RcvSeq>, lenient: bool, seq: RcvSeq) -> Option<Rule> {
    let open = matches!(state, TcpState::Established | TcpState::FinWait1 | TcpState::FinWait2);
    if seq == nxt {
        return Some(match state {
            _ if open => Rule::PeerRstExact,
            TcpState::CloseWait => Rule::PeerRstAfterFin,
            _ => Rule::PeerRstAfterFins,
        });
    }
    if lenient && !open && seq + 1 == nxt {
        return Some(Rule::PeerRstAtFin);
    }
    (reported == Some(seq)).then_some(Rule::PeerRstAfterSack)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn established(reported: Option<RcvSeq>) -> ResetReceiver {
        let (nxt, window) = (RcvSeq(u32::MAX), 10);
        ResetReceiver::Synchronized { state: TcpState::Established, nxt, window, reported, lenient: true }
    }

    #[test]
    fn in_synchronized_states_the_number_alone_decides() {
        let judge = |seq: u32| established(None).judge(RcvSeq(seq), None);
        assert_eq!(judge(u32::MAX), ResetEffect::Accepted(Rule::PeerRstExact));
        assert_eq!(judge(8), ResetEffect::Challenged(Rule::AckChallengeRst));
        assert_eq!(judge(9), ResetEffect::Ignored(Rule::DropRstOutsideWindow));
        assert_eq!(judge(u32::MAX - 1), ResetEffect::Ignored(Rule::DropRstOutsideWindow));
        assert_eq!(
            established(Some(RcvSeq(5))).judge(RcvSeq(5), None),
            ResetEffect::Accepted(Rule::PeerRstAfterSack)
        );
    }

    #[test]
    fn a_reset_with_the_number_of_the_fin_counts_after_the_fin() {
        let after_fin = |lenient| ResetReceiver::Synchronized {
            state: TcpState::CloseWait,
            nxt: RcvSeq(100),
            window: 0,
            reported: None,
            lenient,
        };
        assert_eq!(after_fin(true).judge(RcvSeq(99), None), ResetEffect::Accepted(Rule::PeerRstAtFin));
        assert_eq!(
            after_fin(false).judge(RcvSeq(99), None),
            ResetEffect::Ignored(Rule::DropRstOutsideWindow)
        );
        assert_eq!(after_fin(true).judge(RcvSeq(100), None), ResetEffect::Accepted(Rule::PeerRstAfterFin));
    }

    #[test]
    fn before_the_connection_and_after_it() {
        let sent = ResetReceiver::SynSent { iss: SndSeq(7) };
        assert_eq!(sent.judge(RcvSeq(0), Some(SndSeq(8))), ResetEffect::Accepted(Rule::PeerRstRefused));
        assert_eq!(
            sent.judge(RcvSeq(0), Some(SndSeq(9))),
            ResetEffect::Ignored(Rule::DropResetBadAckInSynSent)
        );
        assert_eq!(sent.judge(RcvSeq(0), None), ResetEffect::Ignored(Rule::DropRstNoAckInSynSent));
        let received = ResetReceiver::SynReceived { irs: RcvSeq(20), window: 5, active: false };
        assert_eq!(received.judge(RcvSeq(21), None), ResetEffect::Accepted(Rule::PeerRstInSynReceived));
        assert_eq!(received.judge(RcvSeq(25), None), ResetEffect::Challenged(Rule::AckChallengeRst));
        assert_eq!(
            ResetReceiver::Closed.judge(RcvSeq(0), None),
            ResetEffect::Ignored(Rule::DropRstNoConnection)
        );
        assert_eq!(
            ResetReceiver::TimeWait.judge(RcvSeq(0), None),
            ResetEffect::Ignored(Rule::DropRstInTimeWait)
        );
    }
}
