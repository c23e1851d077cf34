//! The kernel's own words: lines of tracefs or of `perf script` about resets it sent (`tcp:tcp_send_reset`).
//!
//! ```text
//!     python3-1323  [001] ..s1.  4711.000123: tcp_send_reset: skbaddr=.. src=10.0.0.1:80 dest=10.0.0.2:5555 state=UNKNOWN reason=NO_SOCKET
//! ```

use crate::explainer::Explained;
use crate::packet::Endpoint;
use crate::verdict::{Also, Evidence, Kind};
use lastack_causes::Cause;
use std::collections::HashMap;
use std::net::SocketAddr;

/// Lines about one pair of ends that are kept.
const LISTED: usize = 32;

/// A reset that the kernel sent, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelReset {
    /// Who sent it.
    pub src: Endpoint,
    /// To whom.
    pub dst: Endpoint,
    /// The socket's state.
    pub state: String,
    /// The reason, such as `TCP_ABORT_ON_CLOSE`.
    pub reason: String,
    /// The line from the event's name on, without kernel addresses.
    pub line: String,
}

/// The events of a trace, by pairs of ends.
#[derive(Debug, Default)]
pub struct Trace {
    resets: HashMap<(Endpoint, Endpoint), Vec<KernelReset>>,
    lines: u64,
}

fn key(a: Endpoint, b: Endpoint) -> (Endpoint, Endpoint) {
    if a <= b { (a, b) } else { (b, a) }
}

fn endpoint(text: &str) -> Option<Endpoint> {
    let at: SocketAddr = text.parse().ok()?;
    Some(Endpoint { addr: at.ip().into(), port: at.port() })
}

impl KernelReset {
    /// Reads a line; `None` if it is about something else.
    #[must_use]
    pub fn read(line: &str) -> Option<Self> {
        let rest = &line[line.find("tcp_send_reset:")?..];
        let field = |name: &str| {
            let found = rest.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            found.map(|value| value.trim_end_matches(','))
        };
        let (src, dst) = (endpoint(field("src")?)?, endpoint(field("dest")?)?);
        let shown = rest.split_whitespace().filter(|word| !word.contains("addr="));
        Some(Self {
            src,
            dst,
            state: field("state").unwrap_or_default().into(),
            reason: field("reason").unwrap_or_default().into(),
            line: shown.collect::<Vec<_>>().join(" "),
        })
    }
}

impl Trace {
    /// Reads a whole trace.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut this = Self::default();
        for reset in text.lines().filter_map(KernelReset::read) {
            this.lines += 1;
            let list = this.resets.entry(key(reset.src, reset.dst)).or_default();
            if list.len() < LISTED {
                list.push(reset);
            }
        }
        this
    }

    /// How many lines it understood.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.lines
    }

    /// Whether it understood none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// The lines about a connection's ends.
    #[must_use]
    pub fn lines(&self, explained: &Explained) -> Vec<String> {
        let list = self.resets.get(&key(explained.client(), explained.server()));
        list.into_iter().flatten().map(|reset| reset.line.clone()).collect()
    }

    /// Lets the kernel decide the cause where it sent the reset that ended the connection.
    pub fn decide(&self, explained: &mut Explained) {
        let Some(list) = self.resets.get(&key(explained.client(), explained.server())) else { return };
        let decisive = explained
            .conn
            .resets
            .iter()
            .find(|reset| explained.verdict.decisive.contains(&reset.pkt.frame) && !reset.copy);
        let Some(reset) = decisive.or(explained.conn.resets.first()) else { return };
        let sender = explained.conn.sides[usize::from(reset.pkt.side)].at;
        let Some(said) = list.iter().find(|line| line.src == sender) else { return };
        let frame = reset.pkt.frame;
        let before = explained.verdict.cause;
        let Some((cause, also)) = cause_of(&said.reason, before) else { return };
        let verdict = &mut explained.verdict;
        if cause != before {
            verdict.severity = cause.severity();
            let sender_is_client = reset.pkt.side == verdict.client;
            verdict.ended_by = if sender_is_client {
                lastack_causes::EndedBy::Client
            } else {
                lastack_causes::EndedBy::Server
            };
            verdict.device = None;
        }
        verdict.cause = cause;
        verdict.confidence = 0.97;
        verdict.ended_by_confidence = verdict.ended_by_confidence.max(0.95);
        verdict.alternatives.clear();
        if let Some(also) = also
            && also != cause
            && !verdict.also.iter().any(|known| known.cause == also)
        {
            verdict.also.push(Also { cause: also, frames: vec![frame] });
        }
        verdict.also.retain(|also| also.cause != cause);
        verdict.evidence.insert(
            0,
            Evidence {
                kind: Kind::Kernel,
                frame: Some(frame),
                value: said.reason.clone(),
                expected: None,
                speaks_for: Some(cause),
                against: (cause != before).then_some(before),
                text: format!(
                    "the kernel that sent the reset gives the reason {} in state {}",
                    said.reason, said.state
                ),
            },
        );
    }
}

/// The cause that a reason of Linux means, beside what the packets show; and the mechanism, if that is another.
pub(crate) fn cause_of(reason: &str, seen: Cause) -> Option<(Cause, Option<Cause>)> {
    let keep = |which: &[Cause], otherwise: Cause| if which.contains(&seen) { seen } else { otherwise };
    Some(match reason {
        "NO_SOCKET" | "TCP_FLAGS" => {
            let known = [
                Cause::Refused,
                Cause::LostState,
                Cause::StateExpired,
                Cause::DeliveryTimeout,
                Cause::DataAfterClose,
                Cause::CloseNotifyRace,
                Cause::KeepaliveRace,
                Cause::ClientCancelled,
                Cause::ConnectCancelled,
                Cause::Stray,
                Cause::Scan,
                Cause::BacklogFull,
                Cause::Injected,
            ];
            let otherwise = if seen == Cause::FirewallReject { Cause::Refused } else { Cause::LostState };
            (keep(&known, otherwise), None)
        }
        "TCP_ABORT_ON_CLOSE" => {
            let known = [
                Cause::ClientCancelled,
                Cause::ProtocolMismatch,
                Cause::ZeroWindow,
                Cause::SilentDrop,
                Cause::HealthCheck,
            ];
            (keep(&known, Cause::CloseUnread), Some(Cause::CloseUnread))
        }
        "TCP_STATE" | "TCP_ABORT_ON_LINGER" | "TCP_DISCONNECT_WITH_DATA" => {
            let known = [
                Cause::ListenerClosed,
                Cause::HealthCheck,
                Cause::Scan,
                Cause::ResetForFin,
                Cause::ProtocolMismatch,
                Cause::ZeroWindow,
                Cause::SilentDrop,
                Cause::ClientCancelled,
            ];
            (keep(&known, Cause::Abort), Some(Cause::Abort))
        }
        "TCP_TIMEWAIT_SOCKET" | "TCP_ABORT_ON_DATA" => {
            let known = [
                Cause::CloseNotifyRace,
                Cause::KeepaliveRace,
                Cause::ClientCancelled,
                Cause::DeliveryTimeout,
            ];
            (keep(&known, Cause::DataAfterClose), Some(Cause::DataAfterClose))
        }
        "TCP_KEEPALIVE_TIMEOUT" => (Cause::KeepaliveTimeout, None),
        "TCP_INVALID_ACK_SEQUENCE" => (keep(&[Cause::PortReuse, Cause::Stray], Cause::PortReuse), None),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_are_read() {
        let tracefs = "  python3-1323 [001] ..s1. 47.1: tcp_send_reset: skbaddr=00000000 skaddr=0 src=10.78.0.1:8199 dest=10.78.0.2:59922 state=UNKNOWN reason=NO_SOCKET";
        let read = KernelReset::read(tracefs).unwrap();
        assert_eq!((read.src.to_string().as_str(), read.reason.as_str()), ("10.78.0.1:8199", "NO_SOCKET"));
        assert!(!read.line.contains("skaddr"));
        let perf = "swapper 0 [001] 88.1: tcp:tcp_send_reset: skbaddr=0xff skaddr=0xfe src=[fd77:2::2]:80 dest=[fd77:1::2]:9 state=0x7 reason=TCP_ABORT_ON_CLOSE";
        let read = KernelReset::read(perf).unwrap();
        assert_eq!((read.dst.to_string().as_str(), read.state.as_str()), ("[fd77:1::2]:9", "0x7"));
        assert_eq!(KernelReset::read("tcp_receive_reset: sport=1"), None);
        assert_eq!(Trace::read(&format!("{tracefs}\nnonsense\n{perf}\n")).len(), 2);
    }
}
