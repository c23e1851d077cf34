//! Packet comments that lastack itself wrote: `run -w`, `lab -w` and the captures of a stack.
//!
//! The stack that sent or received a packet has recorded what other readers of a capture infer. Its comments are the rule by which a
//! packet was sent, what became of it, an injected fault, and on the last packet of a connection of `run` its cause:
//!
//! ```text
//! close-unread by the remote (rst-abort: abort, or close with SO_LINGER=0: RST)
//! lost by lastack: --inject blackhole:after=100
//! sent: [rst-no-listener] SYN to a port with no listener: RST (RFC 9293 3.10.7.1); its receiver: closed the connection: ..
//! forged: not sent by its source
//! ```

use crate::explainer::{Explained, Known};
use crate::kernel;
use crate::packet::{Endpoint, Frame};
use crate::verdict::{Also, Evidence, Kind, Role, Verdict};
use lastack_causes::{Cause, EndedBy, Severity};
use lastack_engine::Rule;

/// Comments that are kept of one connection.
const KEPT: usize = 32;
/// Frames that are kept of one comment that repeats itself.
const FRAMES: usize = 8;

/// The comment of a packet that a fault of `--inject` added.
const FORGED: &str = "forged by lastack: ";
/// The comment of a packet that a fault of `--inject` changed.
const DAMAGED: &str = "damaged by lastack: ";

/// The content of a comment.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    /// The report of `run` on the connection that this packet ends.
    End { cause: Cause, by: Party },
    /// The record of `run` on the connection, in a block of its own.
    Stated { cause: Cause, severity: Severity, by: EndedBy, also: Option<Cause> },
    /// A fault of `--inject` did this to the packet.
    Fault,
    /// The packet was sent by this rule of the stack.
    Sent(Rule),
    /// The packet did not come from the end whose address it has.
    Forged,
    /// The packet did not arrive.
    Lost,
}

/// Who ended a connection, in the words of `run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Party {
    Program,
    Remote,
    Network,
    Host,
    Lastack,
    Nobody,
}

/// A comment of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    said: Said,
    /// The whole comment.
    text: Box<str>,
    frames: Vec<Frame>,
    /// The receiver of the packet; for an ICMP error, the sender of what it quotes.
    to: Endpoint,
}

/// Parses a comment; `None` if it is not one of lastack's.
fn read(text: &str) -> Vec<Said> {
    if let Some(end) = read_end(text) {
        return vec![end];
    }
    text.split("; ").filter_map(read_part).collect()
}

fn read_part(part: &str) -> Option<Said> {
    if part.contains(" by lastack: --inject ") {
        return Some(Said::Fault);
    }
    if part == "forged: not sent by its source" {
        return Some(Said::Forged);
    }
    if part.starts_with("lost on the way") || part.starts_with("lost: ") {
        return Some(Said::Lost);
    }
    let named = part.strip_prefix("sent: [").or_else(|| part.strip_prefix("reset: ["))?;
    named.split(']').next()?.parse().ok().map(Said::Sent)
}

/// `CAUSE[ by PARTY][ (RULE: ..)][; --inject ..][; ..]`
fn read_end(text: &str) -> Option<Said> {
    let head = text.split([';', '(']).next()?.trim_end();
    let (cause, by) = match head.split_once(" by ") {
        Some((cause, by)) => (cause, Some(by)),
        None => (head, None),
    };
    let cause: Cause = cause.parse().ok().filter(|known: &Cause| known.name() == cause)?;
    let by = match by {
        Some("the program") => Party::Program,
        Some("the remote") => Party::Remote,
        Some("the network") => Party::Network,
        Some("this host") => Party::Host,
        Some("lastack") => Party::Lastack,
        Some(_) => return None,
        None => match cause {
            Cause::ClientCancelled | Cause::ConnectCancelled | Cause::HealthCheck => Party::Program,
            Cause::FaultInjected | Cause::PolicyDenied | Cause::NotCarried => Party::Lastack,
            cause if cause.is_icmp() => Party::Network,
            cause if cause.code().starts_with('L') => Party::Host,
            _ => Party::Nobody,
        },
    };
    Some(Said::End { cause, by })
}

/// Whether a fault changed the packet with this comment: its ports may be those of no connection.
pub(crate) fn is_damaged(text: &str) -> bool {
    text.split("; ").any(|part| part.starts_with(DAMAGED))
}

/// Records the comment of a packet to `to`.
pub(crate) fn note(comments: &mut Vec<Comment>, text: &str, frame: Frame, to: Endpoint) {
    for said in read(text) {
        let known = comments.iter_mut().find(|known| known.said == said && *known.text == *text);
        if let Some(known) = known {
            if known.frames.len() < FRAMES {
                known.frames.push(frame);
            }
        } else if comments.len() < KEPT || matches!(said, Said::End { .. }) && comments.len() < 2 * KEPT {
            comments.push(Comment { said, text: text.into(), frames: vec![frame], to });
        }
    }
}

/// Records the end of a connection that its relay has stated.
pub(crate) fn state(comments: &mut Vec<Comment>, known: &Known, client: Endpoint) {
    let Known { cause, severity, ended_by, also, ref text, .. } = *known;
    comments.retain(|comment| !matches!(comment.said, Said::Stated { .. }));
    let said = Said::Stated { cause, severity, by: ended_by, also };
    comments.push(Comment { said, text: text.as_str().into(), frames: Vec::new(), to: client });
}

/// The end of a connection, if comments have decided it: as the relay has stated it, or as it was concluded from comments of
/// packets.
pub(crate) fn known(explained: &Explained) -> Option<Known> {
    let stated = explained.conn.comments.iter().rev().find_map(|comment| match comment.said {
        Said::Stated { cause, severity, by, also } => Some((cause, severity, by, also, &*comment.text)),
        _ => None,
    });
    let verdict = &explained.verdict;
    let concluded = || {
        let evidence = verdict.evidence.iter().find(|evidence| evidence.kind == Kind::Comment)?;
        let also = verdict.also.first().map(|also| also.cause);
        Some((verdict.cause, verdict.severity, verdict.ended_by, also, evidence.value.as_str()))
    };
    let (cause, severity, ended_by, also, text) = stated.or_else(concluded)?;
    Some(Known { cause, severity, ended_by, also, source: "lastack run", text: text.to_owned() })
}

/// Lets the comments of a connection decide what its packets leave open.
pub(crate) fn decide(explained: &mut Explained) {
    if explained.conn.comments.is_empty() {
        return;
    }
    let comments = std::mem::take(&mut explained.conn.comments);
    if let Some(comment) = comments.iter().rev().find(|comment| matches!(comment.said, Said::Stated { .. })) {
        stated(explained, comment);
    } else if let Some((comment, cause, by)) = comments.iter().rev().find_map(Comment::end) {
        end(explained, comment, cause, by);
    } else if !forged(explained, &comments) {
        sent(explained, &comments);
    }
    for (said, cause) in [(Said::Fault, Cause::FaultInjected), (Said::Lost, Cause::SilentDrop)] {
        let mut of_kind = comments.iter().filter(|comment| comment.said == said);
        // A forged packet may be ignored: one that was lost or changed explains more.
        if let Some(comment) = of_kind.clone().find(|comment| !comment.is_forged()).or_else(|| of_kind.next())
        {
            happened(explained, comment, cause);
        }
    }
    explained.conn.comments = comments;
}

impl Comment {
    /// Whether lastack added the packet, instead of losing or changing one.
    fn is_forged(&self) -> bool {
        self.said == Said::Fault && self.text.split("; ").any(|part| part.starts_with(FORGED))
    }

    fn end(&self) -> Option<(&Self, Cause, Party)> {
        match self.said {
            Said::End { cause, by } => Some((self, cause, by)),
            _ => None,
        }
    }

    fn evidence(&self, cause: Cause, before: Cause) -> Evidence {
        Evidence {
            kind: Kind::Comment,
            frame: self.frames.first().copied(),
            value: self.text.to_string(),
            expected: None,
            speaks_for: Some(cause),
            against: (cause != before).then_some(before),
            text: format!("the stack that wrote the capture says: {}", self.text),
        }
    }
}

/// The record of `run`.
fn stated(explained: &mut Explained, comment: &Comment) {
    let Said::Stated { cause, severity, by, also } = comment.said else { return };
    let verdict = &mut explained.verdict;
    let before = verdict.cause;
    replace(verdict, cause, by);
    verdict.severity = severity;
    let mechanism = (before != cause && !matches!(before, Cause::Open | Cause::Orderly)).then_some(before);
    also.into_iter().chain(mechanism).for_each(|cause| add(verdict, cause, &[]));
    verdict.evidence.insert(0, comment.evidence(cause, before));
}

/// The report of `run`, which relayed the connection and recorded its end.
fn end(explained: &mut Explained, comment: &Comment, cause: Cause, by: Party) {
    // The comment is on a packet to the program.
    let program_is_client = explained.client() == comment.to;
    let by = match by {
        // The causes that name the client are about whichever end opened the connection.
        _ if matches!(cause, Cause::ClientCancelled | Cause::ConnectCancelled | Cause::HealthCheck) => {
            EndedBy::Client
        }
        Party::Program if program_is_client => EndedBy::Client,
        Party::Program => EndedBy::Server,
        Party::Remote if program_is_client => EndedBy::Server,
        Party::Remote => EndedBy::Client,
        Party::Network => EndedBy::Path,
        Party::Host => EndedBy::Host,
        Party::Lastack => EndedBy::Lastack,
        Party::Nobody => EndedBy::Nobody,
    };
    let verdict = &mut explained.verdict;
    let before = verdict.cause;
    replace(verdict, cause, by);
    if verdict.decisive.is_empty() {
        verdict.decisive.extend(comment.frames.first());
    }
    // What the packets alone look like is the mechanism.
    if before != cause && !matches!(before, Cause::Open | Cause::Orderly) {
        add(verdict, before, &[]);
    }
    verdict.evidence.insert(0, comment.evidence(cause, before));
}

/// A reset that its source did not send, as recorded by `lab`.
fn forged(explained: &mut Explained, comments: &[Comment]) -> bool {
    let is_forged = |frame: Frame| {
        comments.iter().find(|comment| comment.said == Said::Forged && comment.frames.contains(&frame))
    };
    let verdict = &mut explained.verdict;
    for (reset, role) in explained.conn.resets.iter().zip(&mut verdict.roles) {
        if is_forged(reset.pkt.frame).is_some() {
            *role = Role::Injected;
        }
    }
    let ending = explained.conn.reset_by.map(|index| explained.conn.resets[index].pkt.frame);
    let Some((frame, comment)) = ending.and_then(|frame| Some((frame, is_forged(frame)?))) else {
        return false;
    };
    let before = verdict.cause;
    replace(verdict, Cause::Injected, EndedBy::Path);
    verdict.decisive = vec![frame];
    verdict.evidence.insert(0, comment.evidence(Cause::Injected, before));
    true
}

/// The rule by which the reset was sent that ended the connection.
fn sent(explained: &mut Explained, comments: &[Comment]) {
    let resets = explained.conn.resets.iter().filter(|reset| !reset.copy);
    let decisive = &explained.verdict.decisive;
    let rule_of = |frame: Frame| {
        comments.iter().find_map(|comment| match comment.said {
            Said::Sent(rule) if comment.frames.contains(&frame) => Some((comment, rule)),
            _ => None,
        })
    };
    let found = resets
        .filter(|reset| decisive.contains(&reset.pkt.frame))
        .find_map(|reset| Some((reset, rule_of(reset.pkt.frame)?)));
    let Some((reset, (comment, rule))) = found else { return };
    let (frame, side) = (reset.pkt.frame, reset.pkt.side);
    let verdict = &mut explained.verdict;
    let before = verdict.cause;
    let Some((cause, also)) = cause_of(rule, before) else { return };
    if cause == before {
        verdict.confidence = 0.99;
        verdict.alternatives.clear();
    } else {
        let by = if side == verdict.client { EndedBy::Client } else { EndedBy::Server };
        replace(verdict, cause, by);
    }
    verdict.ended_by_confidence = verdict.ended_by_confidence.max(0.95);
    if let Some(also) = also {
        add(verdict, also, &[frame]);
    }
    if !verdict.rules.contains(&rule.code()) {
        verdict.rules.insert(0, rule.code());
    }
    verdict.evidence.insert(0, comment.evidence(cause, before));
}

/// The cause that a rule of the stack means, beside what the packets show; and the mechanism, if that is another.
fn cause_of(rule: Rule, seen: Cause) -> Option<(Cause, Option<Cause>)> {
    let reason = match rule {
        Rule::RstNoListener | Rule::RstNoConnection | Rule::RstNoConnectionNoAck => "NO_SOCKET",
        Rule::RstAckToListener => "TCP_FLAGS",
        Rule::RstBadAckInSynSent => "TCP_INVALID_ACK_SEQUENCE",
        Rule::RstUnreadDataAtClose => "TCP_ABORT_ON_CLOSE",
        Rule::RstAbort | Rule::RstKilled => "TCP_STATE",
        Rule::RstDataAfterClose => "TCP_TIMEWAIT_SOCKET",
        Rule::RstKeepaliveTimeout => "TCP_KEEPALIVE_TIMEOUT",
        Rule::RstListenerClosed | Rule::RstListenerKilled => return Some((Cause::ListenerClosed, None)),
        _ => return None,
    };
    kernel::cause_of(reason, seen)
}

/// What happened to packets of the connection, as a cause of its own if the connection ended badly without another reason.
fn happened(explained: &mut Explained, comment: &Comment, cause: Cause) {
    let verdict = &mut explained.verdict;
    let before = verdict.cause;
    let has_comment = verdict.evidence.iter().any(|evidence| evidence.kind == Kind::Comment);
    match before {
        // A forged reset that was not accepted did nothing. The acknowledgment of the last FIN is often not captured.
        Cause::ResetIgnored if explained.conn.sides.iter().all(|side| side.fin.is_some()) => {
            replace(verdict, Cause::Orderly, verdict.ended_by);
            add(verdict, before, &[]);
            add(verdict, cause, &comment.frames);
        }
        Cause::Orderly | Cause::Open => add(verdict, cause, &comment.frames),
        Cause::ResetIgnored if comment.is_forged() => add(verdict, cause, &comment.frames),
        _ if has_comment || cause != Cause::FaultInjected || verdict.severity == Severity::Benign => {
            add(verdict, cause, &comment.frames);
        }
        _ => {
            let by = if cause == Cause::FaultInjected { EndedBy::Lastack } else { EndedBy::Path };
            replace(verdict, cause, by);
            add(verdict, before, &[]);
        }
    }
    let cause = verdict.cause;
    verdict.evidence.push(comment.evidence(cause, before));
}

fn replace(verdict: &mut Verdict, cause: Cause, by: EndedBy) {
    if verdict.cause != cause {
        verdict.severity = cause.severity();
        (verdict.device, verdict.advice) = (None, None);
    }
    verdict.cause = cause;
    verdict.ended_by = by;
    (verdict.confidence, verdict.ended_by_confidence) = (0.99, 0.99);
    verdict.alternatives.clear();
    verdict.also.retain(|also| also.cause != cause);
}

fn add(verdict: &mut Verdict, cause: Cause, frames: &[Frame]) {
    if verdict.cause != cause && !verdict.also.iter().any(|also| also.cause == cause) {
        verdict.also.push(Also { cause, frames: frames.to_vec() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_comments_of_run_and_lab_are_read() {
        let end = |text| match read(text).as_slice() {
            [Said::End { cause, by }] => Some((*cause, *by)),
            _ => None,
        };
        assert_eq!(
            end("close-unread by the remote (rst-abort: abort: RST); 3 bytes"),
            Some((Cause::CloseUnread, Party::Remote))
        );
        assert_eq!(end("fault-injected; --inject rst"), Some((Cause::FaultInjected, Party::Lastack)));
        assert_eq!(end("silent-drop"), Some((Cause::SilentDrop, Party::Nobody)));
        assert_eq!(read("lost by lastack: --inject loss=1"), [Said::Fault]);
        let lab =
            "scenario refused; sent: [rst-no-listener] SYN (RFC 9293 3.10.7.1); its receiver: dropped: [x] y";
        assert_eq!(read(lab), [Said::Sent(Rule::RstNoListener)]);
        assert_eq!(read("reset: [rst-abort] abort"), [Said::Sent(Rule::RstAbort)]);
        assert_eq!(read("forged: not sent by its source; lost: the path is cut"), [Said::Forged, Said::Lost]);
    }

    #[test]
    fn other_comments_are_ignored() {
        let own = "close-unread by the server, confidence 0.60: reset within 2 ms [1:x#1]";
        for text in ["", "looks bad", "abort by my boss", "C06 by the remote", own, "sent: [nonsense] x"] {
            assert_eq!(read(text), [], "{text}");
        }
    }
}
