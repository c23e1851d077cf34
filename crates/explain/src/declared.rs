//! Reasons that a reset states: as payload, as an option, as a window code. Hints, not proof.

use crate::protocol::escape;
use crate::segment::Segment;
use lastack_causes::Cause;
use lastack_wire::ResetReason;

/// A stated reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Where it stood.
    pub source: &'static str,
    /// The text, safe to print.
    pub text: String,
    /// The number, where there is one.
    pub code: Option<String>,
    /// The cause that it means, if it means one of the vocabulary.
    pub cause: Option<Cause>,
    /// Whether a device on the path states it, according to the text.
    pub by_device: bool,
    /// It counts only together with another mark of a device.
    pub doubtful: bool,
}

/// NetScaler's window codes, as the vendor lists them (CTX200852).
const NETSCALER: &[(u16, &str, Option<Cause>)] = &[
    (8201, "no such connection", Some(Cause::LostState)),
    (8202, "expired SYN cookie", Some(Cause::LostState)),
    (8204, "bad handshake numbers", None),
    (8205, "bad handshake numbers", None),
    (8206, "segment of an old connection", Some(Cause::PortReuse)),
    (8207, "segment of an old connection", Some(Cause::PortReuse)),
    (8208, "too many retransmissions", Some(Cause::DeliveryTimeout)),
    (8209, "out of memory", None),
    (8211, "idle timeout", Some(Cause::IdleReset)),
    (8212, "stray SYN", None),
    (9100, "orphan request", None),
    (9300, "idle (zombie) connection", Some(Cause::IdleReset)),
    (9301, "idle (zombie) connection", Some(Cause::IdleReset)),
    (9302, "service down", None),
    (9303, "service down", None),
    (9304, "zero-window probes failed", Some(Cause::ZeroWindow)),
    (9310, "keep-alive failed", Some(Cause::KeepaliveTimeout)),
    (9400, "pool of connections flushed", None),
    (9401, "pool of connections flushed", None),
    (9700, "passed on from the other leg", None),
    (9701, "passed on from the other leg", None),
    (9702, "data after FIN", Some(Cause::DataAfterClose)),
    (9800, "monitor", Some(Cause::HealthCheck)),
    (9811, "TLS error", Some(Cause::ProtocolMismatch)),
    (9814, "policy", None),
    (9830, "ACL", None),
    (9838, "TLS error", Some(Cause::ProtocolMismatch)),
];

/// Words of the causes that BIG-IP and other devices print, and what they mean.
const WORDS: &[(&str, Cause)] = &[
    ("flow expired", Cause::IdleReset),
    ("idle timeout", Cause::IdleReset),
    ("idle time", Cause::IdleReset),
    ("inactivity", Cause::IdleReset),
    ("keep-alive", Cause::KeepaliveTimeout),
    ("keepalive", Cause::KeepaliveTimeout),
    ("retransmit timeout", Cause::DeliveryTimeout),
    ("zero window", Cause::ZeroWindow),
    ("ssl handshake", Cause::ProtocolMismatch),
    ("unsupported protocol", Cause::ProtocolMismatch),
    ("no local listener", Cause::Refused),
    ("no listener", Cause::Refused),
    ("no flow found", Cause::LostState),
    ("no connection", Cause::LostState),
    ("port denied", Cause::FirewallReject),
];

/// What the draft's codes mean in the vocabulary.
fn cause_of(reason: ResetReason) -> Option<Cause> {
    Some(match reason {
        ResetReason::Abort => Cause::Abort,
        ResetReason::DataUnread => Cause::CloseUnread,
        ResetReason::ConnectionTimeout => Cause::IdleReset,
        ResetReason::Closed => Cause::LostState,
        _ => return None,
    })
}

/// All reasons that this reset states.
pub fn of_reset(segment: &Segment<'_>) -> Vec<Declared> {
    let mut reasons = Vec::new();
    reasons.extend(of_mptcp(segment.options));
    reasons.extend(of_payload(segment.payload));
    let window = segment.pkt.window;
    if let Some(&(_, text, cause)) = NETSCALER.iter().find(|(code, ..)| *code == window) {
        reasons.push(Declared {
            source: "netscaler-window",
            text: format!("NetScaler {window}: {text}"),
            code: Some(window.to_string()),
            cause,
            by_device: true,
            doubtful: true,
        });
    }
    reasons
}

fn of_payload(payload: &[u8]) -> Option<Declared> {
    if payload.is_empty() {
        return None;
    }
    if lastack_wire::reset_reason::has_magic(payload) {
        // Another length or the reserved code: the payload is no reason (the draft, section 4).
        return ResetReason::from_payload(payload).map(of_draft);
    }
    let text = payload.strip_prefix(b"\0").unwrap_or(payload);
    let printable = text.iter().take(16).filter(|byte| byte.is_ascii_graphic() || **byte == b' ').count();
    if printable * 4 < text.len().min(16) * 3 || text.len() < 3 {
        return None;
    }
    let big_ip = text.starts_with(b"BIG-IP:");
    let lower = String::from_utf8_lossy(text).to_lowercase();
    let cause = WORDS.iter().find(|(word, _)| lower.contains(word)).map(|(_, cause)| *cause);
    Some(Declared {
        source: if big_ip { "bigip" } else { "text" },
        text: escape(text, 100),
        code: None,
        cause,
        by_device: big_ip,
        doubtful: false,
    })
}

fn of_draft(reason: ResetReason) -> Declared {
    let (code, pen) = (reason.code(), reason.pen());
    let mut text = match reason {
        ResetReason::Vendor { .. } => format!("code {code} of the vendor with PEN {pen}"),
        reason => format!("{} (code {code} in -03 of the draft)", reason.text()),
    };
    match reason.earlier_reading() {
        Some(earlier) if pen == 0 && earlier != reason.text() => {
            text.push_str(&format!("; in -00 to -02: {earlier}"));
        }
        _ => {}
    }
    Declared {
        source: "rst-diagnostic-payload",
        text,
        code: Some(format!("{code}/{pen}")),
        cause: cause_of(reason),
        by_device: false,
        doubtful: false,
    }
}

/// MP_TCPRST and MP_FASTCLOSE (RFC 8684 sections 3.6 and 3.5).
fn of_mptcp(mut options: &[u8]) -> Option<Declared> {
    loop {
        match *options {
            [1, ref rest @ ..] => options = rest,
            [30, len, subtype, ..] if len >= 3 && usize::from(len) <= options.len() => {
                let found = match (subtype >> 4, len) {
                    (8, 4) => Some((options[3], subtype & 1 != 0)),
                    (7, _) => None,
                    _ => {
                        options = &options[usize::from(len)..];
                        continue;
                    }
                };
                return Some(mptcp(found));
            }
            [0, ..] | [] | [_] => return None,
            [_, len, ..] if len >= 2 && usize::from(len) <= options.len() => {
                options = &options[usize::from(len)..];
            }
            _ => return None,
        }
    }
}

fn mptcp(reset: Option<(u8, bool)>) -> Declared {
    let (text, code) = match reset {
        None => ("MP_FASTCLOSE: the whole MPTCP connection is closed at once".into(), None),
        Some((reason, transient)) => {
            let name = match reason {
                0 => "unspecified error",
                1 => "MPTCP-specific error",
                2 => "lack of resources",
                3 => "administratively prohibited",
                4 => "too much outstanding data",
                5 => "unacceptable performance",
                6 => "middlebox interference",
                _ => "unassigned reason",
            };
            let tail = if transient { ", transient (T)" } else { "" };
            let code = format!("{reason}{}", if transient { " T" } else { "" });
            (format!("MP_TCPRST: {name} ({reason}){tail}"), Some(code))
        }
    };
    let cause = Some(Cause::Mptcp);
    Declared { source: "mptcp", text, code, cause, by_device: false, doubtful: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drafts_payload_is_read_in_both_numberings() {
        let said = of_payload(&[0x33, 0xaa, 0, 16, 0, 0, 0, 0]).unwrap();
        assert!(said.text.contains("connection timeout") && said.text.contains("unacceptable performance"));
        assert_eq!((said.code.as_deref(), said.cause), (Some("16/0"), Some(Cause::IdleReset)));
        assert_eq!(of_payload(&[0x33, 0xaa, 0, 3, 0, 0, 0, 0, 0]), None, "another length says nothing");
        assert_eq!(
            of_payload(&[0x33, 0xaa, 4, 210, 0, 0, 0x7e, 0xd9]).unwrap().code.as_deref(),
            Some("1234/32473")
        );
    }

    #[test]
    fn texts_are_quoted_and_options_are_read() {
        let said = of_payload(b"BIG-IP: [0x2b:1] {peer} TCP retransmit timeout").unwrap();
        assert_eq!((said.source, said.cause), ("bigip", Some(Cause::DeliveryTimeout)));
        assert_eq!(of_payload(&[1, 2, 3, 4]), None);
        let said = of_mptcp(&[1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 30, 4, 0x81, 3]).unwrap();
        assert_eq!(said.code.as_deref(), Some("3 T"));
        assert_eq!(of_mptcp(&[30, 0]), None);
    }
}
