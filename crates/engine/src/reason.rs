//! Other people's names for our rules, each derived in one table: the registry of TCP failure causes
//! (draft-ietf-tcpm-rst-diagnostic-payload) and Linux's `sk_rst_reason`.

use crate::Rule;
use lastack_wire::reset_reason::ResetReason;

impl Rule {
    /// The cause that a reset by this rule declares, if the registry has one.
    pub const fn declared(self) -> Option<ResetReason> {
        Some(match self {
            Self::S60 | Self::S80 => ResetReason::DataUnread,
            Self::S44 | Self::S64 | Self::S71 | Self::S90 | Self::S103 | Self::S106 | Self::X1 => {
                ResetReason::Abort
            }
            Self::S1 | Self::S4 | Self::S5 => ResetReason::Closed,
            Self::S10 | Self::S11 => ResetReason::AckInListen,
            Self::S20 => ResetReason::AckInSynSent,
            Self::S30 | Self::S40 => ResetReason::AckInSynReceived,
            Self::S32 => ResetReason::SynInWindow,
            Self::S37 | Self::S99 | Self::S100 | Self::D26 => ResetReason::ResourceExceeded,
            Self::S91 | Self::S92 | Self::S93 | Self::S95 | Self::S97 => ResetReason::ConnectionTimeout,
            _ => return None,
        })
    }

    /// What Linux's tracepoint `tcp_send_reset` calls a reset by this rule.
    pub const fn linux(self) -> Option<&'static str> {
        Some(match self {
            Self::S1 | Self::S4 | Self::S5 => "NO_SOCKET",
            Self::S10 | Self::S11 | Self::S30 => "TCP_FLAGS",
            Self::S20 => "TCP_INVALID_ACK_SEQUENCE",
            Self::S32 | Self::S37 => "INVALID_SYN",
            Self::S40 => "TCP_ACK_UNSENT_DATA",
            Self::S44 | Self::S64 | Self::S90 | Self::S97 | Self::S103 | Self::S106 => "TCP_STATE",
            Self::S60 => "TCP_ABORT_ON_CLOSE",
            Self::S80 => "TCP_ABORT_ON_DATA",
            Self::S71 => "TCP_ABORT_ON_LINGER",
            Self::S99 | Self::S100 => "TCP_ABORT_ON_MEMORY",
            Self::S91 => "TCP_KEEPALIVE_TIMEOUT",
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
    /// sends it too. The tests of the rules send them (`Peer::note` wants a rule of each reset).
    #[test]
    fn t204_every_reset_has_a_cause() {
        for rule in Rule::ALL {
            let resets = RESETS.contains(&rule.id());
            assert_eq!(rule.declared().is_some(), resets, "{rule}");
            assert!(resets || rule.linux().is_none(), "{rule}");
        }
        // Linux gives up in silence, lets those stall who have a user, and intercepts nothing.
        let ours =
            RESETS.iter().filter_map(|id| id.parse::<Rule>().ok()).filter(|rule| rule.linux().is_none());
        let ours: alloc::vec::Vec<_> = ours.map(Rule::id).collect();
        assert_eq!(ours, ["S92", "S93", "S95", "D26", "X1"]);
    }
}
