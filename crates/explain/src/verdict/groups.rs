//! Causes that one capture cannot distinguish, and the observation that would.

use super::types::Verdict;
use lastack_causes::Cause;

use Cause::{
    Abort, BacklogFull, ClientCancelled, CloseUnread, ConnectCancelled, DeliveryTimeout, FirewallReject,
    HealthCheck, IdleReset, Injected, InlineReset, KeepaliveRace, ListenerClosed, LostState, Refused, Scan,
    SilentDrop, StateExpired, Stray,
};

/// The highest confidence of a cause that has a fellow of its group among the alternatives.
const CAP: f32 = 0.6;

/// Causes that look the same from one place, and what settles it.
const GROUPS: &[(&[Cause], &str)] = &[
    (
        &[Refused, FirewallReject],
        "the host's own ruleset (`nft list ruleset`), or a connection from another client",
    ),
    (
        &[Abort, IdleReset, ClientCancelled],
        "the kernel's reason on that host (`perf trace -e tcp:tcp_send_reset`, `lastack watch`), the device's log, or several equal gaps",
    ),
    (
        &[CloseUnread, ListenerClosed],
        "the exit log of the process, and whether other connections died in the same instant",
    ),
    (&[KeepaliveRace, LostState, StateExpired], "a capture at the other end at the same time"),
    (&[SilentDrop, DeliveryTimeout], "captures at both ends: which one still sends"),
    (
        &[BacklogFull, SilentDrop],
        "`nstat -az TcpExtListenOverflows TcpExtListenDrops` on the server, and a capture there",
    ),
    (&[Injected, Abort], "captures at both ends: whether the host sent that reset"),
    (
        &[Scan, HealthCheck, ConnectCancelled, Stray],
        "more of these: their period, and how many ports they try",
    ),
];

/// What settles pairs that are in no group together.
const PAIRS: &[(Cause, &str)] = &[
    (Injected, "captures at both ends: a reset that only one of them sees being sent is forged"),
    (InlineReset, "a capture at the server: whether the data before the reset arrives there"),
    (CloseUnread, "TcpExtTCPAbortOnClose (`nstat -az`) on the host that sent the reset"),
    (Abort, "TcpExtTCPAbortOnData and the program's use of SO_LINGER on the host that sent the reset"),
    (ClientCancelled, "the client's log at that time"),
    (IdleReset, "the log of the device or proxy, and whether other connections die after the same idle time"),
    (StateExpired, "the device's connection table and its timer; a capture at the other end"),
    (LostState, "the uptime of that host, restarts and failovers at that time"),
    (SilentDrop, "captures at both ends"),
    (BacklogFull, "`nstat -az TcpExtListenOverflows TcpExtListenDrops` on the server"),
    (ListenerClosed, "when the server's listener was closed or restarted"),
    (Scan, "how many ports and hosts that client tried"),
    (HealthCheck, "whether it repeats with a fixed period"),
    (DeliveryTimeout, "whether the sender still retransmits, from a capture at its end"),
];

fn fellows(a: Cause, b: Cause) -> Option<&'static str> {
    GROUPS.iter().find(|(group, _)| group.contains(&a) && group.contains(&b)).map(|(_, settle)| *settle)
}

/// Fills in what would settle each alternative, caps what cannot be told apart, and keeps the sum at most 1.
pub(crate) fn settle(verdict: &mut Verdict) {
    let cause = verdict.cause;
    verdict.alternatives.retain(|alternative| alternative.cause != cause && alternative.confidence > 0.0);
    verdict.alternatives.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    verdict.alternatives.dedup_by_key(|alternative| alternative.cause);
    verdict.alternatives.truncate(3);
    let mut capped = false;
    for alternative in &mut verdict.alternatives {
        let group = fellows(cause, alternative.cause);
        capped |= group.is_some();
        let pair = || PAIRS.iter().find(|(of, _)| *of == alternative.cause).map(|(_, settle)| *settle);
        alternative.settle = group.or_else(pair).unwrap_or("captures at both ends at the same time");
    }
    verdict.confidence = verdict.confidence.clamp(0.0, if capped { CAP } else { cause.cap() });
    let room = 1.0 - verdict.confidence;
    let sum: f32 = verdict.alternatives.iter().map(|alternative| alternative.confidence).sum();
    if sum > room && sum > 0.0 {
        for alternative in &mut verdict.alternatives {
            alternative.confidence *= room / sum;
        }
    }
    for alternative in &mut verdict.alternatives {
        // Rounded down: the sum must not pass 1.
        alternative.confidence = (alternative.confidence * 100.0).floor() / 100.0;
    }
    verdict.confidence = (verdict.confidence * 100.0).round() / 100.0;
    verdict.ended_by_confidence = (verdict.ended_by_confidence.clamp(0.0, 0.99) * 100.0).round() / 100.0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_both_ways() {
        assert!(fellows(Refused, FirewallReject).is_some() && fellows(FirewallReject, Refused).is_some());
        assert!(fellows(Refused, Abort).is_none());
    }
}
