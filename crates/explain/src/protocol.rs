//! The first bytes of a direction: the protocol, TLS records and alerts, the last line of a program.

/// A protocol that is identified by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// An HTTP/1 request.
    HttpRequest,
    /// An HTTP/1 response.
    HttpResponse,
    /// The preface of HTTP/2 without TLS.
    Http2,
    /// A TLS record.
    Tls,
    /// A TLS alert in clear, before anything else.
    TlsAlert,
    /// An SSH version line.
    Ssh,
    /// A PROXY protocol header.
    Proxy,
    /// A greeting or command of SMTP or FTP.
    Mail,
    /// A MySQL greeting.
    MySql,
    /// Redis.
    Redis,
    /// Postgres start-up or answer.
    Postgres,
    /// POP3 or IMAP greeting.
    Mailbox,
    /// Remote desktop (TPKT).
    Rdp,
    /// SMB.
    Smb,
}

impl Protocol {
    /// The name users know.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HttpRequest | Self::HttpResponse => "HTTP",
            Self::Http2 => "HTTP/2",
            Self::Tls | Self::TlsAlert => "TLS",
            Self::Ssh => "SSH",
            Self::Proxy => "PROXY protocol",
            Self::Mail => "SMTP or FTP",
            Self::MySql => "MySQL",
            Self::Redis => "Redis",
            Self::Postgres => "Postgres",
            Self::Mailbox => "POP3 or IMAP",
            Self::Rdp => "RDP",
            Self::Smb => "SMB",
        }
    }

    /// Whether a client of `self` and a server of `other` can understand each other.
    #[must_use]
    pub fn agrees(self, other: Self) -> bool {
        use Protocol::{Http2, HttpRequest, HttpResponse, Mail, Mailbox, Proxy, Redis, Tls, TlsAlert};
        match (self, other) {
            // What follows the header is not known.
            (Proxy, _) => true,
            (HttpRequest, HttpResponse) | (Http2, Http2) | (Tls | TlsAlert, Tls | TlsAlert) => true,
            // USER is of FTP and of POP3, whose errors begin as those of Redis.
            (Mail, Mailbox | Redis) => true,
            // An upgrade, or an answer that is chunked in a way of its own.
            (HttpRequest | Http2 | Tls, _) => false,
            (a, b) => a == b,
        }
    }
}

/// As [`recognize`], where the snapshot length left only the first bytes of `len`.
#[must_use]
pub fn recognize_cut(data: &[u8], len: u32) -> Option<Protocol> {
    if data.len() >= 16 || data.len() as u64 == u64::from(len) {
        return recognize(data);
    }
    recognize(data).or_else(|| {
        let begins = |word: &[u8]| data.len() >= 2 && word.starts_with(data);
        Some(match data {
            _ if begins(b"PRI * HTTP/2.0") => Protocol::Http2,
            _ if METHODS.iter().any(|method| begins(method)) => Protocol::HttpRequest,
            _ if begins(b"HTTP/1.") => Protocol::HttpResponse,
            _ if begins(b"SSH-") => Protocol::Ssh,
            [20 | 22 | 23, 3, ..] => Protocol::Tls,
            [21, 3, ..] if len == 7 => Protocol::TlsAlert,
            _ if begins(b"220 ") || begins(b"220-") => Protocol::Mail,
            _ => return None,
        })
    })
}

const METHODS: [&[u8]; 9] =
    [b"GET ", b"POST ", b"HEAD ", b"PUT ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"PATCH ", b"TRACE "];

/// The protocol that these bytes begin, if they are typical of one.
#[must_use]
pub fn recognize(data: &[u8]) -> Option<Protocol> {
    let starts = |word: &[u8]| data.starts_with(word);
    Some(match data {
        _ if starts(b"PRI * HTTP/2.0") => Protocol::Http2,
        _ if METHODS.iter().any(|method| starts(method)) => Protocol::HttpRequest,
        _ if starts(b"HTTP/") && names_tls(data) => Protocol::Tls,
        _ if starts(b"HTTP/1.") || starts(b"HTTP/0.9") || is_bare_page(data) => Protocol::HttpResponse,
        // The SETTINGS frame with which an end of HTTP/2 begins.
        [0, 0, _, 4, 0 | 1, 0, 0, 0, 0, ..] => Protocol::Http2,
        [21, 3, 0..=4, 0, 2, 1 | 2, _, ..] => Protocol::TlsAlert,
        [22, 3, 0..=4, ..] | [20 | 21 | 23, 3, 1..=4, _, _, ..] => Protocol::Tls,
        _ if starts(b"SSH-") => Protocol::Ssh,
        _ if starts(b"PROXY TCP") || starts(b"PROXY UNKNOWN") || starts(b"\r\n\r\n\0\r\nQUIT\n") => {
            Protocol::Proxy
        }
        _ if starts(b"220 ")
            || starts(b"220-")
            || starts(b"EHLO ")
            || starts(b"HELO ")
            || starts(b"USER ") =>
        {
            Protocol::Mail
        }
        _ if starts(b"+OK") && data.get(3) == Some(&b' ') || starts(b"* OK") => Protocol::Mailbox,
        _ if starts(b"-ERR ") || starts(b"-NOAUTH") || starts(b"-DENIED") => Protocol::Redis,
        [b'*', b'1'..=b'9', b'\r', b'\n', b'$', ..] => Protocol::Redis,
        [_, _, 0, 0, 10, b'3'..=b'9' | b'1', b'.' | b'0'..=b'9', ..] => Protocol::MySql,
        [_, _, 0, 0, 0xff, ..] if data.len() > 7 => Protocol::MySql,
        [0, 0, _, _, 0, 3, 0, 0, ..] | [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f, ..] => Protocol::Postgres,
        [b'E', 0, 0, _, _, b'S', ..] => Protocol::Postgres,
        [3, 0, 0, _, _, 0xe0 | 0xd0, ..] => Protocol::Rdp,
        [0, _, _, _, 0xfe | 0xff, b'S', b'M', b'B', ..] => Protocol::Smb,
        _ => return None,
    })
}

/// A page without a head, with which servers of HTTP answer what they cannot read.
fn is_bare_page(data: &[u8]) -> bool {
    [b"<!doctype html" as &[u8], b"<html>"]
        .iter()
        .any(|tag| data.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag)))
}

/// Whether a payload that was captured whole begins an HTTP request and ends within its head.
#[must_use]
pub fn is_partial_request(data: &[u8], len: u32) -> bool {
    data.len() as u64 == u64::from(len)
        && METHODS.iter().any(|method| data.starts_with(method))
        && !data.windows(4).any(|end| end == b"\r\n\r\n")
}

/// Whether these bytes begin an HTTP/1 request, or an answer that is not an interim one.
#[must_use]
pub fn begins_http(data: &[u8]) -> bool {
    match data.first() {
        Some(b'H') if data.starts_with(b"HTTP/1.") => data.get(9) != Some(&b'1'),
        Some(b'C' | b'D' | b'G' | b'H' | b'O' | b'P' | b'T') => {
            METHODS.iter().any(|method| data.starts_with(method))
        }
        _ => false,
    }
}

/// The last TLS record that begins in these bytes: its type and length. `None` if they do not begin with one.
#[must_use]
pub fn last_record(data: &[u8], len: u32) -> Option<(u8, u16)> {
    let mut rest = data;
    let mut last = None;
    let mut left = len;
    // A segment holds few records; the count is bounded against hostile ones.
    for _ in 0..64 {
        let &[kind @ 20..=24, 3, 0..=4, a, b, ..] = rest else { break };
        let size = u16::from_be_bytes([a, b]);
        last = Some((kind, size));
        let whole = u32::from(size) + 5;
        if whole >= left || whole as usize >= rest.len() {
            break;
        }
        left -= whole;
        rest = &rest[whole as usize..];
    }
    last
}

/// Whether a TLS server reports, in HTTP without TLS, that it expects TLS: as nginx, Apache and Go's library do.
fn names_tls(data: &[u8]) -> bool {
    let says = |words: &[u8]| data.windows(words.len()).any(|window| window.eq_ignore_ascii_case(words));
    let words: [&[u8]; 3] = [
        b"plain HTTP request was sent to HTTPS port",
        b"speaking plain HTTP to an SSL-enabled server port",
        b"sent an HTTP request to an HTTPS server",
    ];
    data.get(9) == Some(&b'4') && words.into_iter().any(says)
}

/// Max bytes that TLS sends to close: an alert of any cipher suite, and HTTP/2's GOAWAY before it.
pub const FAREWELL: u64 = 128;

/// Whether a segment of this length, whose last TLS record is of this type and length, is only a closing alert.
#[must_use]
pub fn is_farewell(record: (u8, u16), len: u32) -> bool {
    u64::from(len) <= FAREWELL && matches!(record, (21 | 23, 1..=80))
}

/// Whether a message is the last of its protocol, after which the client closes without waiting for an answer: LDAP's
/// unbind, QUIT of mail, FTP and Redis, the Terminate of Postgres, COM_QUIT of MySQL, MQTT's DISCONNECT, the end of an XMPP stream.
#[must_use]
pub fn is_goodbye(data: &[u8]) -> bool {
    let unbind = |data: &[u8]| {
        let size = data.get(1).map(|size| usize::from(*size));
        data.first() == Some(&0x30) && size == data.len().checked_sub(2) && data.ends_with(&[0x42, 0])
    };
    let quit = |data: &[u8]| {
        data.len() <= 6 && data.to_ascii_uppercase().starts_with(b"QUIT") && data.ends_with(b"\n")
    };
    let others: [&[u8]; 5] =
        [b"X\0\0\0\x04", b"\x01\0\0\0\x01", b"\xe0\0", b"</stream:stream>", b"*1\r\n$4\r\nQUIT\r\n"];
    unbind(data) || quit(data) || others.contains(&data)
}

/// The name of a TLS alert (RFC 8446 section 6, and older ones).
#[must_use]
pub fn alert_name(code: u8) -> &'static str {
    match code {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        21 => "decryption_failed",
        22 => "record_overflow",
        30 => "decompression_failure",
        40 => "handshake_failure",
        41 => "no_certificate",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        100 => "no_renegotiation",
        109 => "missing_extension",
        110 => "unsupported_extension",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        _ => "an alert without a name",
    }
}

/// Whether an alert means that the two ends could not agree.
#[must_use]
pub fn is_disagreement(code: u8) -> bool {
    matches!(code, 10 | 20 | 40 | 42..=51 | 70 | 71 | 80 | 86 | 109 | 110 | 112 | 113 | 115 | 116 | 120)
}

/// A fatal alert in clear at the start of these bytes: its code. Warnings end nothing.
#[must_use]
pub fn clear_alert(data: &[u8]) -> Option<u8> {
    match *data {
        [21, 3, 0..=4, 0, 2, 2, code, ..] => Some(code),
        _ => None,
    }
}

/// Whether data begins with an HTTP request or response (HTTP/1).
#[must_use]
pub fn http_begins(data: &[u8]) -> bool {
    // Most data begins with something else.
    data.first().is_some_and(u8::is_ascii_uppercase)
        && (data.starts_with(b"HTTP/1.") || METHODS.iter().any(|method| data.starts_with(method)))
}

/// The line of a program that reports an error, if these bytes contain one: SMTP and FTP 4xx and 5xx, HTTP status, SSH,
/// MySQL, Postgres and Redis errors.
#[must_use]
pub fn error_line(data: &[u8]) -> Option<String> {
    let begins =
        matches!(data, [b'H' | b'4' | b'5' | b'-' | b'P' | b'I' | b'E' | b'N', ..] | [_, _, 0, _, 0xff, ..]);
    if !begins {
        return None;
    }
    let data = &data[..data.len().min(512)];
    let line = data.split(|&byte| byte == b'\r' || byte == b'\n').next()?;
    let digits = |class: &[u8]| {
        line.len() >= 4
            && class.contains(&line[0])
            && line[1].is_ascii_digit()
            && line[2].is_ascii_digit()
            && (line[3] == b' ' || line[3] == b'-')
    };
    if line.starts_with(b"HTTP/1.") && line.get(9).is_some_and(|class| (b'4'..=b'5').contains(class)) {
        return Some(escape(line, 100));
    }
    if digits(b"45") || line.starts_with(b"-ERR") || line.starts_with(b"-NOAUTH") {
        return Some(escape(line, 100));
    }
    if [b"Protocol mismatch" as &[u8], b"Invalid SSH", b"Exceeded MaxStartups", b"Not allowed at this time"]
        .iter()
        .any(|words| line.starts_with(words))
    {
        return Some(escape(line, 100));
    }
    match *data {
        // A MySQL error packet: length, sequence, 0xff, code, text.
        [_, _, 0, _, 0xff, _, _, ref text @ ..] if text.len() > 3 => Some(escape(text, 100)),
        // A Postgres ErrorResponse: severity, code, text as fields that end with 0.
        [b'E', 0, 0, _, _, ref fields @ ..] if fields.first() == Some(&b'S') => {
            let fields: Vec<_> = fields.split(|&byte| byte == 0).take(6).collect();
            let text = fields.iter().find(|field| field.first() == Some(&b'M'))?;
            Some(escape(&text[1..], 100))
        }
        _ => None,
    }
}

/// Bytes as text that is safe to print: printable ASCII as it is, the rest as `\xNN`, cut at `most` bytes.
#[must_use]
pub fn escape(data: &[u8], most: usize) -> String {
    let mut text = String::new();
    for &byte in data.iter().take(most) {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(byte)),
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    if data.len() > most {
        text.push_str("..");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_known_by_their_first_bytes() {
        assert_eq!(recognize(b"GET / HTTP/1.1\r\n"), Some(Protocol::HttpRequest));
        assert_eq!(recognize(b"SSH-2.0-OpenSSH_9"), Some(Protocol::Ssh));
        assert_eq!(recognize(&[22, 3, 1, 2, 0, 1]), Some(Protocol::Tls));
        assert_eq!(recognize(&[21, 3, 3, 0, 2, 2, 40]), Some(Protocol::TlsAlert));
        assert_eq!(recognize(b"<!DOCTYPE HTML>\n<html>"), Some(Protocol::HttpResponse));
        assert_eq!(recognize(b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64"), Some(Protocol::Http2));
        assert_eq!(recognize(b"anything"), None);
        assert!(Protocol::HttpRequest.agrees(Protocol::HttpResponse));
        assert!(
            !Protocol::HttpRequest.agrees(Protocol::Ssh) && !Protocol::Tls.agrees(Protocol::HttpResponse)
        );
    }

    #[test]
    fn a_goodbye_is_whole() {
        let goodbyes: [&[u8]; 4] = [b"0\x05\x02\x01\x02B\0", b"quit\r\n", b"X\0\0\0\x04", b"\xe0\0"];
        for data in goodbyes {
            assert!(is_goodbye(data));
            assert!((0..data.len()).all(|end| !is_goodbye(&data[..end])), "{data:?}");
        }
        assert!(!is_goodbye(b"QUIT NOW\r\n") && !is_goodbye(b"0"));
    }

    #[test]
    fn the_last_record_of_a_segment_is_found() {
        let mut data = vec![23, 3, 3, 0, 4, 1, 2, 3, 4];
        data.extend([21, 3, 3, 0, 26]);
        data.extend([0; 26]);
        assert_eq!(last_record(&data, data.len() as u32), Some((21, 26)));
        assert!(is_farewell((21, 26), 31) && is_farewell((23, 19), 24) && !is_farewell((23, 500), 505));
        assert_eq!(last_record(b"hello", 5), None);
    }

    #[test]
    fn lines_that_report_an_error() {
        assert_eq!(error_line(b"HTTP/1.1 403 Forbidden\r\nX: 1"), Some("HTTP/1.1 403 Forbidden".into()));
        assert_eq!(error_line(b"HTTP/1.1 200 OK\r\n"), None);
        assert_eq!(error_line(b"550 no such user\r\n"), Some("550 no such user".into()));
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(escape(b"a\x1b[31m\n", 100), "a\\x1b[31m\\n");
        assert_eq!(escape(b"abcdef", 3), "abc..");
    }
}
