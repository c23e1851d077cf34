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
            Self::S10 => ResetReason::AckInListen,
            Self::S20 => ResetReason::AckInSynSent,
            Self::S30 | Self::S40 => ResetReason::AckInSynReceived,
            Self::S32 => ResetReason::SynInWindow,
            Self::S37 | Self::S99 | Self::S100 => ResetReason::ResourceExceeded,
            Self::S91 | Self::S92 | Self::S93 | Self::S97 => ResetReason::ConnectionTimeout,
            _ => return None,
        })
    }

    /// What Linux's tracepoint `tcp_send_reset` calls a reset by this rule.
    pub const fn linux(self) -> Option<&'static str> {
        Some(match self {
            Self::S1 | Self::S4 | Self::S5 => "NO_SOCKET",
            Self::S10 | Self::S30 => "TCP_FLAGS",
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

    /// Every reset of ours that Linux sends too has a name there and a cause in the registry.
    #[test]
    fn the_tables_agree() {
        for rule in Rule::ALL {
            if rule.linux().is_some() {
                assert!(rule.declared().is_some(), "{rule} has a name on Linux and declares nothing");
            }
        }
    }
}
