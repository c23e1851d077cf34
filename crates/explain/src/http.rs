//! HTTP/1 messages as they arrive: whether one is complete (RFC 9112 section 6).

use crate::protocol::http_begins;

/// Bytes of a line that are kept: enough for a status, a length or the name of a coding.
const LINE: usize = 48;

/// The request that a response answers, as far as its body depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// Any other, or not known.
    #[default]
    Other,
    /// HEAD: the response has no body.
    Head,
    /// CONNECT: what follows a response that accepts is not HTTP.
    Tunnel,
}

impl Asked {
    /// By the first bytes of the request.
    #[must_use]
    pub fn of(request: &[u8]) -> Self {
        match request {
            _ if request.starts_with(b"HEAD ") => Self::Head,
            _ if request.starts_with(b"CONNECT ") => Self::Tunnel,
            _ => Self::Other,
        }
    }
}

/// What an incomplete message lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacks {
    /// The end of its head, or the final response after an interim one.
    Head,
    /// The rest of its body. This is the length of the message with its head.
    Length(u64),
    /// The last chunk.
    LastChunk,
}

/// A message, or several that follow each other, whose bytes are read as they arrive. It allocates nothing, keeps at most a
/// part of a line, and skips the data of a body.
#[derive(Clone, Debug)]
pub struct HttpMessage {
    place: Place,
    asked: Asked,
    /// It may answer a HEAD: it is not the first response since the request, and none of its body has come.
    may_be_bodiless: bool,
    /// Bytes of the message until now.
    bytes: u64,
    /// Bytes of the body, or of the chunk, that have not come yet.
    left: u64,
    line: [u8; LINE],
    /// Bytes of the line until now, also those that are not kept.
    length: usize,
    head: Head,
}

/// Where the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The first line.
    Start,
    /// The first line of another message, which need not come: the one before is complete.
    Next,
    /// The other lines of the head.
    Field,
    /// The body, of a length that is known.
    Body,
    /// The size of a chunk, and its extensions.
    ChunkSize,
    ChunkData,
    /// The end of the line after the data of a chunk.
    ChunkEnd,
    /// The lines after the last chunk.
    Trailer,
    /// Something else: a body up to the end of the connection, another protocol, what is not understood.
    Unknown,
}

/// What the head says about the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Head {
    /// `None`: a request.
    status: Option<u16>,
    /// HTTP/1.0, which has no chunks.
    old: bool,
    length: Option<u64>,
    coding: Option<Coding>,
}

/// The last transfer coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Chunked,
    Other,
}

impl HttpMessage {
    /// One that begins. `asked`: the request, if it is a response.
    #[must_use]
    pub fn new(asked: Asked) -> Self {
        Self {
            place: Place::Start,
            asked,
            may_be_bodiless: false,
            bytes: 0,
            left: 0,
            line: [0; LINE],
            length: 0,
            head: Head::default(),
        }
    }

    /// One that follows a complete response without a request in between: requests were sent ahead (pipelining).
    #[must_use]
    pub fn pipelined() -> Self {
        Self { may_be_bodiless: true, ..Self::new(Asked::Other) }
    }

    /// The next bytes.
    pub fn read(&mut self, mut data: &[u8]) {
        while !data.is_empty() && self.place != Place::Unknown {
            if self.may_be_bodiless && self.has_only_head() && http_begins(data) {
                *self = Self::pipelined();
            }
            let used = match self.place {
                Place::Body | Place::ChunkData => {
                    let used = usize::try_from(self.left).unwrap_or(usize::MAX).min(data.len());
                    self.skip(used as u64);
                    used
                }
                _ => self.read_line(data),
            };
            data = &data[used..];
        }
    }

    /// The number of bytes that follow and can be passed over with [`skip`](Self::skip), since they are body data.
    #[must_use]
    pub fn skippable(&self) -> u64 {
        self.left
    }

    /// Bytes of these have come.
    pub fn skip(&mut self, bytes: u64) {
        let bytes = bytes.min(self.left);
        self.bytes += bytes;
        self.left -= bytes;
        self.may_be_bodiless &= bytes == 0;
        match self.place {
            Place::Body if self.left == 0 => self.finish(),
            Place::ChunkData if self.left == 0 => self.place = Place::ChunkEnd,
            _ => {}
        }
    }

    /// Bytes of the message until now, with its head.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is missing; `None`: nothing, or it is not known.
    #[must_use]
    pub fn lacks(&self) -> Option<Lacks> {
        let lacks = match self.place {
            Place::Start | Place::Field => return Some(Lacks::Head),
            Place::Next => return (self.length > 0).then_some(Lacks::Head),
            Place::Body => Lacks::Length(self.bytes + self.left),
            Place::ChunkSize | Place::ChunkData | Place::ChunkEnd => Lacks::LastChunk,
            Place::Trailer | Place::Unknown => return None,
        };
        (!self.may_be_bodiless).then_some(lacks)
    }

    /// Whether it is complete. Trailers need not come.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        match self.place {
            Place::Next => self.length == 0,
            Place::Trailer => true,
            _ => self.may_be_bodiless && self.has_only_head(),
        }
    }

    /// Whether it is not an HTTP message whose end can be found.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.place == Place::Unknown
    }

    /// The head is complete, and nothing of the body has come.
    fn has_only_head(&self) -> bool {
        matches!(self.place, Place::Body | Place::ChunkSize) && self.length == 0
    }

    /// The message is complete.
    fn finish(&mut self) {
        *self = Self { place: Place::Next, bytes: self.bytes, ..Self::pipelined() };
    }

    /// Reads up to the end of a line. Returns the bytes that were used.
    fn read_line(&mut self, data: &[u8]) -> usize {
        let end = data.iter().position(|&byte| byte == b'\n');
        let used = end.map_or(data.len(), |end| end + 1);
        if self.place == Place::Next {
            (self.place, self.bytes) = (Place::Start, 0);
        }
        self.bytes += used as u64;
        let kept = self.length.min(LINE);
        let more = data[..end.unwrap_or(data.len())].len().min(LINE - kept);
        self.line[kept..kept + more].copy_from_slice(&data[..more]);
        self.length += used;
        if self.place == Place::ChunkSize {
            self.may_be_bodiless = false;
        }
        if end.is_some() {
            let (line, kept) = (self.line, (kept + more).min(LINE));
            let cut = self.length > LINE;
            self.length = 0;
            let line = &line[..kept];
            self.line(line.strip_suffix(b"\r").unwrap_or(line), cut);
        }
        used
    }

    /// A line has come, without its end. `cut`: it may be longer.
    fn line(&mut self, line: &[u8], cut: bool) {
        let next = match self.place {
            Place::Start | Place::Next => self.start(line),
            Place::Field if line.is_empty() => return self.body(),
            Place::Field => self.field(line, cut),
            Place::ChunkSize => self.chunk(line),
            Place::ChunkEnd => line.is_empty().then_some(Place::ChunkSize),
            Place::Trailer if line.is_empty() => return self.finish(),
            place => Some(place),
        };
        self.place = next.unwrap_or(Place::Unknown);
    }

    /// The first line of a message.
    fn start(&mut self, line: &[u8]) -> Option<Place> {
        self.head = Head::default();
        if let Some(version) = line.strip_prefix(b"HTTP/1.") {
            let (minor, rest) = version.split_first()?;
            let status = std::str::from_utf8(rest.trim_ascii_start().get(..3)?).ok()?;
            self.head.status = Some(status.parse().ok()?);
            self.head.old = *minor == b'0';
            return Some(Place::Field);
        }
        http_begins(line).then_some(Place::Field)
    }

    /// A line of the head. `None`: it makes the length doubtful.
    fn field(&mut self, line: &[u8], cut: bool) -> Option<Place> {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { return Some(Place::Field) };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value).ok()?.parse().ok().filter(|_| !cut)?;
            if self.head.length.is_some_and(|before| before != length) {
                return None;
            }
            self.head.length = Some(length);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let last = value.rsplit(|&byte| byte == b',').next()?.trim_ascii();
            let chunked = last.eq_ignore_ascii_case(b"chunked");
            self.head.coding = Some(if chunked && !cut { Coding::Chunked } else { Coding::Other });
        }
        Some(Place::Field)
    }

    /// The head is complete: what follows (RFC 9112 section 6.3).
    fn body(&mut self) {
        let Head { status, old, length, coding } = self.head;
        self.place = match (status, coding, length) {
            (Some(101), ..) => Place::Unknown,
            (Some(200..=299), ..) if self.asked == Asked::Tunnel => Place::Unknown,
            // An interim response: another one follows.
            (Some(100..=199), ..) => Place::Start,
            (Some(204 | 304), ..) => return self.finish(),
            (Some(_), ..) if self.asked == Asked::Head => return self.finish(),
            (_, Some(Coding::Chunked), _) if !old => Place::ChunkSize,
            (_, Some(_), _) => Place::Unknown,
            (_, None, Some(0)) | (None, None, None) => return self.finish(),
            (_, None, Some(length)) => {
                self.left = length;
                Place::Body
            }
            // Up to the end of the connection.
            (Some(_), None, None) => Place::Unknown,
        };
    }

    /// The size of a chunk. `None`: it is none.
    fn chunk(&mut self, line: &[u8]) -> Option<Place> {
        let size = line.split(|&byte| byte == b';').next()?.trim_ascii();
        let digits = size.len() <= 16 && size.iter().all(u8::is_ascii_hexdigit);
        let size = u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok().filter(|_| digits)?;
        self.left = size;
        Some(if size == 0 { Place::Trailer } else { Place::ChunkData })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = "HTTP/1.1 200 OK\r\n";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nServer: x\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// A message of which these bytes have come, however they were divided.
    fn read(asked: Asked, data: &str) -> HttpMessage {
        let data = data.as_bytes();
        let mut whole = HttpMessage::new(asked);
        whole.read(data);
        for size in [1, 2, 3, 7, 20] {
            let mut parts = HttpMessage::new(asked);
            data.chunks(size).for_each(|part| parts.read(part));
            let of = |message: &HttpMessage| (message.lacks(), message.is_whole(), message.is_unknown());
            assert_eq!(of(&parts), of(&whole), "in parts of {size}: {}", data.escape_ascii());
        }
        whole
    }

    fn lacks(data: &str) -> Option<Lacks> {
        let message = read(Asked::Other, data);
        assert!(message.lacks().is_some() || message.is_whole(), "not understood: {data}");
        message.lacks()
    }

    fn is_unknown(data: &str) -> bool {
        let message = read(Asked::Other, data);
        assert!(!message.is_unknown() || message.lacks().is_none() && !message.is_whole());
        message.is_unknown()
    }

    #[test]
    fn a_length_tells_where_a_message_ends() {
        let head = format!("{OK}content-LENGTH:10 \r\n\r\n");
        let size = head.len() as u64 + 10;
        assert_eq!(lacks(&head), Some(Lacks::Length(size)));
        assert_eq!(lacks(&format!("{head}123456789")), Some(Lacks::Length(size)));
        assert_eq!(lacks(&format!("{head}1234567890")), None);
        assert_eq!(lacks(&head[..head.len() - 1]), Some(Lacks::Head));
        assert_eq!(lacks("HTTP/1.1 2"), Some(Lacks::Head));
        assert_eq!(lacks(&format!("{OK}Content-Length: 0\r\n\r\n")), None);
        assert_eq!(lacks("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"), Some(Lacks::Length(41)));
        assert_eq!(lacks("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), None);
    }

    #[test]
    fn a_chunked_message_ends_with_its_last_chunk() {
        let body = "5\r\nhello\r\n1a;name=\"value\"\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nA: trailer\r\n\r\n";
        let end = body.find("\r\n0\r\n").unwrap() + 5;
        for at in 0..=body.len() {
            let expected = (at < end).then_some(Lacks::LastChunk);
            assert_eq!(lacks(&format!("{CHUNKED}{}", &body[..at])), expected, "{:?}", &body[..at]);
        }
        let both = format!("{OK}Content-Length: 5\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n");
        assert_eq!(lacks(&format!("{both}5\r\nhello")), Some(Lacks::LastChunk), "the coding counts");
        assert_eq!(lacks(&format!("{CHUNKED}5 \nhello\n0\n\n")), None, "lines that end with LF");
    }

    #[test]
    fn the_data_of_a_body_is_skipped() {
        let mut message = HttpMessage::new(Asked::Other);
        message.read(CHUNKED.as_bytes());
        message.read(b"ffffffff\r\nab");
        assert_eq!(message.skippable(), 0xffff_ffff - 2);
        message.skip(0xffff_ffff - 2);
        assert_eq!((message.skippable(), message.lacks()), (0, Some(Lacks::LastChunk)));
        message.read(b"\r\n0\r\n");
        assert!(message.is_whole());
        assert_eq!(message.bytes(), CHUNKED.len() as u64 + 10 + 0xffff_ffff + 5);
        assert!(size_of::<HttpMessage>() <= 144, "{}", size_of::<HttpMessage>());
    }

    #[test]
    fn responses_without_a_body_end_with_their_head() {
        for status in ["204 No Content", "304 Not Modified"] {
            assert_eq!(lacks(&format!("HTTP/1.1 {status}\r\nContent-Length: 10\r\n\r\n")), None);
        }
        let head = format!("{OK}Content-Length: 10\r\n\r\n");
        assert!(read(Asked::Head, &head).is_whole() && read(Asked::Head, CHUNKED).is_whole());
        let interim = "HTTP/1.1 100 Continue\r\n\r\n";
        assert_eq!(lacks(interim), Some(Lacks::Head), "the final response is missing");
        assert_eq!(lacks(&format!("{interim}{head}1234567890")), None);
        assert!(read(Asked::Head, &format!("HTTP/1.1 103 Early Hints\r\n\r\n{head}")).is_whole());
    }

    #[test]
    fn responses_to_requests_that_were_sent_ahead() {
        let one = format!("{OK}Content-Length: 3\r\n\r\n123");
        assert_eq!(lacks(&format!("{one}{one}")), None);
        assert_eq!(lacks(&format!("{one}{}", &one[..one.len() - 1])), Some(Lacks::Length(one.len() as u64)));
        assert_eq!(lacks(&format!("{one}{CHUNKED}3\r\n123\r\n")), Some(Lacks::LastChunk));
        let head = format!("{OK}Content-Length: 3\r\n\r\n");
        assert_eq!(lacks(&format!("{one}{head}")), None, "perhaps the request was HEAD");
        assert_eq!(lacks(&format!("{one}HTTP/1.1 2")), Some(Lacks::Head));
        let mut both = HttpMessage::new(Asked::Other);
        [&one, &head, &one].iter().for_each(|part| both.read(part.as_bytes()));
        assert!(both.is_whole());
    }

    #[test]
    fn what_is_not_understood_is_not_judged() {
        assert!(is_unknown(&format!("{OK}\r\nup to the end")));
        assert!(is_unknown("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"));
        assert!(is_unknown(&format!("{OK}Transfer-Encoding: gzip\r\n\r\nxx")));
        assert!(is_unknown("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\u{1}\n"));
        assert!(is_unknown(&format!("{OK}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello")));
        assert!(is_unknown(&format!("{OK}Content-Length: -5\r\n\r\nhello")));
        for body in ["what\r\n", "\r\n", "10000000000000000\r\n", "-5\r\n", "+5\r\n", "5\r\nhello!\r\n"] {
            assert!(is_unknown(&format!("{CHUNKED}{body}")), "{body}");
        }
        assert!(is_unknown(&format!("{OK}Content-Length: 2\r\n\r\nok\u{1}binary\n")));
        let accepted = format!("{OK}Content-Length: 7\r\n\r\n\u{16}");
        assert!(read(Asked::Tunnel, &accepted).is_unknown());
        assert!(is_unknown("SSH-2.0-x\r\n"));
    }
}
