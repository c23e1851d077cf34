//! Observations of the data that a relay passes on, from which the cause of the connection's end is derived.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use lastack_explain::{Asked, HttpMessage, http_begins};

use crate::moment::Moment;
use crate::rate::Meter;
use crate::relay::Side;
use crate::report::{By, Facts, Message, Talk};

/// The types of TLS records for an alert, and for encrypted data (RFC 8446 section 5.1).
const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;
const HANDSHAKE: u8 = 22;
/// An encrypted alert of TLS 1.3 has 19 bytes (two, the type, the tag of 16), one of TLS 1.2 with CBC at most 48.
const MAX_ALERT: u16 = 48;

/// A call that is set later.
#[derive(Default)]
pub struct Announced(RefCell<Option<Box<dyn Fn()>>>);

impl Announced {
    /// Sets it.
    pub fn set(&self, call: impl Fn() + 'static) {
        *self.0.borrow_mut() = Some(Box::new(call));
    }

    fn call(&self) {
        if let Some(call) = &*self.0.borrow() {
            call();
        }
    }
}

impl fmt::Debug for Announced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Announced").finish_non_exhaustive()
    }
}

/// The data of a connection, both ways.
#[derive(Debug)]
pub struct Course {
    begun: Cell<Moment>,
    /// The time of the last data, and its side.
    last: Cell<Option<Moment>>,
    last_side: Cell<Side>,
    /// What that side has sent since the other sent begins with, and the number of bytes.
    head: Cell<Head>,
    run: Cell<u32>,
    tls: Cell<bool>,
    http2: Cell<bool>,
    /// What few connections have before they end, beside a response of HTTP that is not complete.
    noted: OnceCell<Box<Noted>>,
    /// The rates of both directions.
    pub sent: Meter,
    /// The same, of the remote's data.
    pub received: Meter,
}

/// What is noted when a connection begins to end, or of HTTP, and what few have before: on the heap, as most connections of
/// a run are open, and TLS.
#[derive(Debug, Default)]
struct Noted {
    /// What is done before the program announces a port of its own to the remote.
    announced: OnceCell<Rc<Announced>>,
    /// The data when the first FIN came, and when that was.
    first_fin: OnceCell<(Talk, Moment)>,
    /// The response of HTTP that has begun and is not complete.
    response: Incomplete,
    /// When one side had ended: the other side's data of before may be passed on after that.
    ended: OnceCell<Moment>,
    /// Bytes after the other side's FIN, and whether they began with a closing alert of TLS.
    late_from_program: Cell<u64>,
    late_from_remote: Cell<u64>,
    late_alert: Cell<bool>,
}

/// The beginning of what a side sends after the other has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    /// Not HTTP.
    Unknown,
    /// An HTTP request.
    Request(Asked),
    /// A complete HTTP response.
    Response,
    /// A closing alert of TLS came after it.
    Closed,
}

/// An HTTP response that has begun.
#[derive(Debug)]
struct Response {
    from: Side,
    message: HttpMessage,
}

/// The response that has begun, if there is one.
#[derive(Default)]
struct Incomplete(Cell<Option<Box<Response>>>);

impl fmt::Debug for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let response = self.0.take();
        let result = f.debug_tuple("Incomplete").field(&response).finish();
        self.0.set(response);
        result
    }
}

impl Response {
    fn new(from: Side, message: HttpMessage) -> Box<Self> {
        Box::new(Self { from, message })
    }
}

impl Head {
    /// Of data that is not an HTTP response.
    fn of(begin: &[u8]) -> Self {
        if http_begins(begin) { Self::Request(Asked::of(begin)) } else { Self::Unknown }
    }
}

impl Default for Course {
    fn default() -> Self {
        Self {
            begun: Cell::new(Moment::now()),
            last: Cell::default(),
            last_side: Cell::new(Side::Program),
            head: Cell::new(Head::Unknown),
            run: Cell::default(),
            tls: Cell::default(),
            http2: Cell::default(),
            noted: OnceCell::new(),
            sent: Meter::default(),
            received: Meter::default(),
        }
    }
}

impl Course {
    /// The connection is established: idle time counts from now on.
    pub fn begin(&self) {
        self.begun.set(Moment::now());
    }

    /// The time since it was established.
    pub fn age(&self) -> Duration {
        self.begun.get().elapsed()
    }

    /// One side's data is relayed: all of it, in pieces. `late`: the other side has closed.
    pub fn data(&self, from: Side, pieces: &[&[u8]], late: bool) {
        let bytes = pieces.iter().map(|piece| piece.len()).sum();
        if bytes == 0 {
            return;
        }
        let begin = first(pieces);
        if self.last.get().is_none() {
            self.tls.set(is_tls(begin));
            self.http2.set(begin.starts_with(b"PRI * HTTP/2"));
        }
        let now = self.moved(from, bytes, pieces, late);
        let meter = if from == Side::Program { &self.sent } else { &self.received };
        meter.add(bytes, now);
    }

    /// Sets what is done when the program announces a port for the remote to connect to, as FTP does (RFC 959, RFC 2428).
    pub fn announce_to(&self, announced: Rc<Announced>) {
        // It is the same for all connections of a run.
        let _same = self.noted().announced.set(announced);
    }

    /// The program's data, before it is sent: the remote may connect as soon as it has it.
    pub fn before(&self, data: &[u8]) {
        if (data.starts_with(b"PORT ") || data.starts_with(b"EPRT "))
            && let Some(announced) = self.noted.get().and_then(|noted| noted.announced.get())
        {
            announced.call();
        }
    }

    /// The same, without rates. There are no pieces if the data is not read. Returns the time.
    pub fn moved(&self, from: Side, bytes: usize, pieces: &[&[u8]], late: bool) -> Moment {
        let now = Moment::now();
        if bytes == 0 {
            return now;
        }
        let begin = first(pieces);
        let turn = self.last.get().is_none() || self.last_side.get() != from;
        let before = self.head.get();
        if turn {
            self.run.set(0);
            self.head.set(Head::of(begin));
        }
        self.follow(from, pieces, before, turn);
        if self.tls.get() && bytes <= usize::from(MAX_ALERT) + 5 && is_alert(begin) {
            self.head.set(Head::Closed);
        }
        self.run.set(self.run.get().saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX)));
        self.last.set(Some(now));
        self.last_side.set(from);
        if late {
            self.add_late(from, bytes, begin);
        }
        now
    }

    /// The other side had closed.
    fn add_late(&self, from: Side, bytes: usize, begin: &[u8]) {
        let noted = self.noted();
        let counter = if from == Side::Program { &noted.late_from_program } else { &noted.late_from_remote };
        if counter.get() == 0 {
            noted.late_alert.set(is_alert(begin));
        }
        counter.set(counter.get() + bytes as u64);
    }

    /// Follows the response that begins here, or has begun. `before`: what came before; `turn`: from the other side.
    fn follow(&self, from: Side, pieces: &[&[u8]], before: Head, turn: bool) {
        let begins = first(pieces).starts_with(b"HTTP/1.");
        let begun = self.take_response();
        let mut response = match before {
            Head::Request(asked) if begins && turn => Response::new(from, HttpMessage::new(asked)),
            _ if begins && turn => Response::new(from, HttpMessage::new(Asked::Other)),
            Head::Response if begins => Response::new(from, HttpMessage::pipelined()),
            _ => match begun {
                Some(begun) if begun.from == from => begun,
                other => return self.keep_response(other),
            },
        };
        for piece in pieces {
            response.message.read(piece);
        }
        if response.message.is_whole() {
            self.head.set(Head::Response);
        } else {
            self.head.set(Head::Unknown);
            self.keep_response(Some(response).filter(|response| !response.message.is_unknown()));
        }
    }

    fn take_response(&self) -> Option<Box<Response>> {
        self.noted.get()?.response.0.take()
    }

    fn keep_response(&self, response: Option<Box<Response>>) {
        if let Some(response) = response {
            self.noted().response.0.set(Some(response));
        }
    }

    /// The first FIN was received.
    pub fn first_fin(&self) {
        self.noted().first_fin.get_or_init(|| (self.talk(), Moment::now()));
    }

    /// One side has ended: the idle time no longer grows.
    pub fn ended(&self) {
        self.noted().ended.get_or_init(Moment::now);
    }

    fn noted(&self) -> &Noted {
        self.noted.get_or_init(Box::default)
    }

    /// The end, or now.
    fn end(&self) -> Moment {
        let ended = self.noted.get().and_then(|noted| noted.ended.get().copied());
        ended.unwrap_or_else(Moment::now)
    }

    /// The time between the first FIN and the end.
    pub fn since_first_fin(&self) -> Option<Duration> {
        let (_, at) = self.noted.get()?.first_fin.get()?;
        Some(self.end().since(*at))
    }

    /// How long it has been idle, since the last data or since [`begin`](Self::begin).
    pub fn idle(&self) -> Duration {
        self.last.get().unwrap_or(self.begun.get()).elapsed()
    }

    /// The data until now.
    pub fn talk(&self) -> Talk {
        let run = u64::from(self.run.get());
        let response = self.take_response();
        let begun = response.as_deref().filter(|response| response.from == self.last_side.get());
        let lacks = begun.and_then(|response| Some((response.message.bytes(), response.message.lacks()?)));
        self.keep_response(response);
        let message = match (self.head.get(), lacks) {
            (Head::Request(_), _) => Message::Request,
            (Head::Closed | Head::Response, _) => Message::Whole,
            (Head::Unknown, Some((bytes, lacks))) => Message::Cut { bytes, lacks },
            (Head::Unknown, None) => Message::Unknown,
        };
        let last = self.last.get().map(|_| By::from(self.last_side.get()));
        let idle = self.end().since(self.last.get().unwrap_or(self.begun.get()));
        Talk { last, idle, run, message }
    }

    /// The facts for a record.
    pub fn facts(&self) -> Facts {
        let noted = self.noted.get().map(|noted| &**noted);
        let late = |counter: fn(&Noted) -> &Cell<u64>| noted.map_or(0, |noted| counter(noted).get());
        Facts {
            established: true,
            late_from_remote: late(|noted| &noted.late_from_remote),
            late_from_program: late(|noted| &noted.late_from_program),
            late_alert: noted.is_some_and(|noted| noted.late_alert.get()),
            tls: self.tls.get(),
            http2: self.http2.get(),
            talk: self.talk(),
            before_fin: noted.and_then(|noted| noted.first_fin.get()).map(|(talk, _)| *talk),
            ..Facts::default()
        }
    }
}

/// The first piece that is not empty.
fn first<'a>(pieces: &[&'a [u8]]) -> &'a [u8] {
    pieces.iter().find(|piece| !piece.is_empty()).copied().unwrap_or_default()
}

/// The head of a TLS record: its type and length.
fn record(data: &[u8]) -> Option<(u8, u16)> {
    let &[kind, 3, 0..=4, high, low, ..] = data else { return None };
    Some((kind, u16::from_be_bytes([high, low])))
}

/// Whether the connection's first bytes are a TLS handshake.
fn is_tls(data: &[u8]) -> bool {
    matches!(record(data), Some((HANDSHAKE, _)))
}

/// An alert, in clear or as short as an encrypted one.
fn is_alert(data: &[u8]) -> bool {
    matches!(record(data), Some((ALERT, 0..=MAX_ALERT) | (APPLICATION_DATA, 0..=19)))
}

#[cfg(test)]
mod tests {
    use lastack_explain::Lacks;

    use super::*;

    #[test]
    fn a_closing_alert_is_distinguished_from_data() {
        assert!(is_alert(b"\x17\x03\x03\0\x13................."), "TLS 1.3");
        assert!(is_alert(b"\x15\x03\x03\0\x1a................."), "TLS 1.2");
        assert!(!is_alert(b"\x17\x03\x03\x01\x13................"));
        assert!(!is_alert(b"HTTP/1.1 200 OK") && !is_alert(b"") && !is_alert(b"\x15\x03"));
        assert!(is_tls(b"\x16\x03\x01\x02\0\x01") && !is_tls(b"GET / HTTP/1.1"));
    }

    /// This side sends data.
    fn send(course: &Course, from: Side, data: &[u8]) {
        course.data(from, &[data], false);
    }

    #[test]
    fn data_after_a_close_is_counted_separately() {
        let course = Course::default();
        send(&course, Side::Program, b"\x16\x03\x01\x02\0\x01......");
        course.data(Side::Remote, &[b"\x17\x03\x03\0\x13", &[0; 19]], true);
        course.data(Side::Remote, &[b"", b""], true);
        let facts = course.facts();
        assert!(facts.tls && facts.late_alert);
        assert_eq!((facts.late_from_remote, facts.late_from_program), (24, 0));
        assert_eq!((facts.talk.last, facts.talk.run), (Some(By::Remote), 24));
    }

    const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

    /// What is known of the answer to a request, of which these parts have come.
    fn answer(request: &[u8], parts: &[&[u8]]) -> Message {
        let course = Course::default();
        send(&course, Side::Program, request);
        assert_eq!(course.facts().talk.message, Message::Request);
        parts.iter().for_each(|part| send(&course, Side::Remote, part));
        course.facts().talk.message
    }

    #[test]
    fn the_length_of_an_answer_shows_whether_it_is_whole() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
        let cut = |bytes| Message::Cut { bytes, lacks: Lacks::Length(49) };
        assert_eq!(answer(GET, &[head, b"12345"]), cut(44));
        assert_eq!(answer(GET, &[head, b"12345", b"67890"]), Message::Whole);
        assert_eq!(answer(GET, &[&head[..20], &head[20..], b"12345"]), cut(44), "the head in parts");
        assert_eq!(answer(b"HEAD / HTTP/1.1\r\n\r\n", &[head]), Message::Whole, "no body follows");
        let unchanged = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n";
        assert_eq!(answer(GET, &[unchanged]), Message::Whole);
        assert_eq!(answer(GET, &[b"220 ready"]), Message::Unknown);
    }

    #[test]
    fn the_last_chunk_of_an_answer_shows_whether_it_is_whole() {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let cut = Message::Cut { bytes: head.len() as u64 + 10, lacks: Lacks::LastChunk };
        assert_eq!(answer(GET, &[head, b"5\r\nhello\r\n"]), cut);
        assert_eq!(answer(GET, &[head, b"5\r\nhello\r\n", b"0\r\n\r\n"]), Message::Whole);
        let course = Course::default();
        send(&course, Side::Program, GET);
        course.data(Side::Remote, &[head, b"5\r\nhe"], false);
        course.data(Side::Remote, &[b"llo\r\n0", b"\r\n\r\n"], false);
        assert_eq!(course.facts().talk.message, Message::Whole, "both pieces are read");
        let course = Course::default();
        send(&course, Side::Program, GET);
        course.data(Side::Remote, &[b"", head, b"5\r\nhe"], false);
        course.data(Side::Remote, &[b"l", b"lo\r", b"\n0\r\n\r\n"], false);
        assert_eq!(course.facts().talk.message, Message::Whole, "all pieces are read");
    }

    #[test]
    fn a_request_that_is_sent_ahead_does_not_hide_the_end_of_an_answer() {
        let course = Course::default();
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
        [GET, GET].iter().for_each(|request| send(&course, Side::Program, request));
        send(&course, Side::Remote, head);
        send(&course, Side::Program, GET);
        assert_eq!(course.facts().talk.message, Message::Request);
        send(&course, Side::Remote, b"12345");
        assert_eq!(course.facts().talk.message, Message::Cut { bytes: 44, lacks: Lacks::Length(49) });
        send(&course, Side::Remote, b"67890");
        assert_eq!(course.facts().talk.message, Message::Whole);
        send(&course, Side::Remote, &[head, &b"1234567890"[..]].concat());
        assert_eq!(course.facts().talk.message, Message::Whole);
        send(&course, Side::Remote, &[head, &b"123"[..]].concat());
        assert_eq!(course.facts().talk.message, Message::Cut { bytes: 42, lacks: Lacks::Length(49) });
    }

    #[test]
    fn the_data_before_the_first_fin_is_remembered() {
        let course = Course::default();
        send(&course, Side::Program, b"question");
        course.first_fin();
        course.data(Side::Remote, &[b"late answer", b""], true);
        course.first_fin();
        let facts = course.facts();
        assert_eq!(facts.before_fin.map(|talk| (talk.last, talk.run)), Some((Some(By::Program), 8)));
        assert_eq!((facts.talk.last, facts.talk.run), (Some(By::Remote), 11));
    }
}
