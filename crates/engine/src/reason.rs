//! Mapping of rules to other registries: the TCP failure causes (draft-ietf-tcpm-rst-diagnostic-payload) and Linux's
//! `sk_rst_reason`.

use crate::Rule;
use lastack_wire::reset_reason::ResetReason;

impl Rule {
    /// The cause sent in a reset by this rule, if the registry has one.
    pub const fn rst_reason(self) -> Option<ResetReason> {
        Some(match self {
            Self::RstUnreadDataAtClose | Self::RstDataAfterClose => ResetReason::DataUnread,
            Self::RstCloseInSynReceived
            | Self::RstAbort
            | Self::RstFinWait2Refused
            | Self::RstListenerClosed
            | Self::RstKilled
            | Self::RstListenerKilled
            | Self::RstIntercepted => ResetReason::Abort,
            Self::RstNoListener | Self::RstNoConnection | Self::RstNoConnectionNoAck => ResetReason::Closed,
            Self::RstAckToListener | Self::RstBadCookie => ResetReason::AckInListen,
            Self::RstBadAckInSynSent => ResetReason::AckInSynSent,
            Self::RstBadAckInSynReceived | Self::RstBadAckSimultaneousOpen => ResetReason::AckInSynReceived,
            Self::RstOtherSynInSynReceived => ResetReason::SynInWindow,
            Self::DropAckAcceptQueueFull
            | Self::LimitOrphansAtClose
            | Self::LimitOrphans
            | Self::LimitMemory => ResetReason::ResourceExceeded,
            Self::RstKeepaliveTimeout
            | Self::EndRetransmissionTimeout
            | Self::EndUserTimeout
            | Self::EndFinTimeout
            | Self::RstFinWait2Timeout => ResetReason::ConnectionTimeout,
            _ => return None,
        })
    }

    /// The reason that Linux's tracepoint `tcp_send_reset` shows for a reset by this rule.
    pub const fn linux(self) -> Option<&'static str> {
        Some(match self {
            Self::RstNoListener | Self::RstNoConnection | Self::RstNoConnectionNoAck => "NO_SOCKET",
            Self::RstAckToListener | Self::RstBadCookie | Self::RstBadAckInSynReceived => "TCP_FLAGS",
            Self::RstBadAckInSynSent => "TCP_INVALID_ACK_SEQUENCE",
            Self::RstOtherSynInSynReceived | Self::DropAckAcceptQueueFull => "INVALID_SYN",
            Self::RstBadAckSimultaneousOpen => "TCP_ACK_UNSENT_DATA",
            Self::RstCloseInSynReceived
            | Self::RstAbort
            | Self::RstListenerClosed
            | Self::RstFinWait2Timeout
            | Self::RstKilled
            | Self::RstListenerKilled => "TCP_STATE",
            Self::RstUnreadDataAtClose => "TCP_ABORT_ON_CLOSE",
            Self::RstDataAfterClose => "TCP_ABORT_ON_DATA",
            Self::RstFinWait2Refused => "TCP_ABORT_ON_LINGER",
            Self::LimitOrphansAtClose | Self::LimitOrphans => "TCP_ABORT_ON_MEMORY",
            Self::RstKeepaliveTimeout => "TCP_KEEPALIVE_TIMEOUT",
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules by which a reset is sent.
    const RESETS: &[&str] = &[
        "S1", "S4", "S5", "S10", "S11", "S20", "S30", "S32", "S37", "S40", "S44", "S60", "S64", "S71", "S80",
        "S90", "S91", "S92", "S93", "S95", "S97", "S99", "S100", "S103", "S106", "D26", "X1",
    ];

    /// T204: each of them, and no other rule, has a cause in the registry, and a name on Linux if Linux
    /// sends it too. The tests of the rules send them (`Peer::note` requires a rule for each reset).
    #[test]
    fn t204_every_reset_has_a_cause() {
        for rule in Rule::ALL {
            let resets = RESETS.contains(&rule.code());
            assert_eq!(rule.rst_reason().is_some(), resets, "{rule}");
            assert!(resets || rule.linux().is_none(), "{rule}");
        }
        // Linux gives up in silence, lets those stall who have a user, and intercepts nothing.
        let ours =
            RESETS.iter().filter_map(|id| id.parse::<Rule>().ok()).filter(|rule| rule.linux().is_none());
        let ours: alloc::vec::Vec<_> = ours.map(Rule::code).collect();
        assert_eq!(ours, ["S92", "S93", "S95", "D26", "X1"]);
    }
}
