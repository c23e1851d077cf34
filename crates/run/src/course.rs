//! Observations of the data that a relay passes on, from which the cause of the connection's end is derived.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::moment::Moment;
use crate::rate::Meter;
use crate::relay::Side;
use crate::report::{By, Facts};

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

impl std::fmt::Debug for Announced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
    tls: Cell<bool>,
    late_alert: Cell<bool>,
    /// How long the connection had been idle when the first FIN came.
    idle_before_fin: Cell<Duration>,
    /// Bytes after the other side's FIN.
    late_from_program: Cell<u64>,
    late_from_remote: Cell<u64>,
    /// The rates of both directions.
    pub sent: Meter,
    /// The same, of the remote's data.
    pub received: Meter,
    /// What is done before the program announces a port of its own to the remote.
    announced: OnceCell<Rc<Announced>>,
}

impl Default for Course {
    fn default() -> Self {
        Self {
            begun: Cell::new(Moment::now()),
            last: Cell::default(),
            last_side: Cell::new(Side::Program),
            tls: Cell::default(),
            late_alert: Cell::default(),
            idle_before_fin: Cell::default(),
            late_from_program: Cell::default(),
            late_from_remote: Cell::default(),
            sent: Meter::default(),
            received: Meter::default(),
            announced: OnceCell::new(),
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

    /// One side's data is relayed: the number of bytes, and the first of them. `late`: the other side has closed.
    pub fn data(&self, from: Side, begin: &[u8], bytes: usize, late: bool) {
        if bytes == 0 {
            return;
        }
        if self.last.get().is_none() {
            self.tls.set(is_tls(begin));
        }
        let now = self.moved(from);
        let meter = if from == Side::Program { &self.sent } else { &self.received };
        meter.add(bytes, now);
        if late {
            let counter =
                if from == Side::Program { &self.late_from_program } else { &self.late_from_remote };
            if counter.get() == 0 {
                self.late_alert.set(is_alert(begin));
            }
            counter.set(counter.get() + bytes as u64);
        }
    }

    /// Sets what is done when the program announces a port for the remote to connect to, as FTP does (RFC 959, RFC 2428).
    pub fn announce_to(&self, announced: Rc<Announced>) {
        // It is the same for all connections of a run.
        let _same = self.announced.set(announced);
    }

    /// The program's data, before it is sent: the remote may connect as soon as it has it.
    pub fn before(&self, data: &[u8]) {
        if (data.starts_with(b"PORT ") || data.starts_with(b"EPRT "))
            && let Some(announced) = self.announced.get()
        {
            announced.call();
        }
    }

    /// The same, of data that is not looked at. Returns the time.
    pub fn moved(&self, from: Side) -> Moment {
        let now = Moment::now();
        self.last.set(Some(now));
        self.last_side.set(from);
        now
    }

    /// The first FIN was received.
    pub fn first_fin(&self) {
        self.idle_before_fin.set(self.idle());
    }

    fn idle(&self) -> Duration {
        self.last.get().map_or(Duration::ZERO, Moment::elapsed)
    }

    /// How long it has been idle, since the last data or since [`begin`](Self::begin).
    pub fn idle_since_begin(&self) -> Duration {
        self.last.get().unwrap_or(self.begun.get()).elapsed()
    }

    /// The facts for a record.
    pub fn facts(&self) -> Facts {
        Facts {
            established: true,
            late_from_remote: self.late_from_remote.get(),
            late_from_program: self.late_from_program.get(),
            late_alert: self.late_alert.get(),
            tls: self.tls.get(),
            last_data: self.last.get().map(|_| match self.last_side.get() {
                Side::Program => By::Program,
                Side::Remote => By::Remote,
            }),
            idle: self.idle(),
            idle_before_fin: self.idle_before_fin.get(),
            ..Facts::default()
        }
    }
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
    use super::*;

    #[test]
    fn a_closing_alert_is_distinguished_from_data() {
        assert!(is_alert(b"\x17\x03\x03\0\x13................."), "TLS 1.3");
        assert!(is_alert(b"\x15\x03\x03\0\x1a................."), "TLS 1.2");
        assert!(!is_alert(b"\x17\x03\x03\x01\x13................"));
        assert!(!is_alert(b"HTTP/1.1 200 OK") && !is_alert(b"") && !is_alert(b"\x15\x03"));
        assert!(is_tls(b"\x16\x03\x01\x02\0\x01") && !is_tls(b"GET / HTTP/1.1"));
    }

    #[test]
    fn data_after_a_close_is_counted_separately() {
        let course = Course::default();
        course.data(Side::Program, b"\x16\x03\x01\x02\0\x01", 517, false);
        course.data(Side::Remote, b"\x17\x03\x03\0\x13", 24, true);
        course.data(Side::Remote, b"", 0, true);
        let facts = course.facts();
        assert!(facts.tls && facts.late_alert);
        assert_eq!((facts.late_from_remote, facts.late_from_program), (24, 0));
        assert_eq!(facts.last_data, Some(By::Remote));
    }
}
