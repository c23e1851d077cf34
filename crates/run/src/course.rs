//! Observations of the data that a relay passes on, from which the cause of the connection's end is derived.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

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
#[derive(Debug, Default)]
pub struct Course {
    last: Cell<Option<(Side, Instant)>>,
    tls: Cell<bool>,
    /// How long the connection had been idle when the first FIN came.
    idle_before_fin: Cell<Option<Duration>>,
    /// Bytes after the other side's FIN.
    late_from_program: Cell<u64>,
    late_from_remote: Cell<u64>,
    late_alert: Cell<bool>,
    /// The rates of both directions.
    pub sent: Meter,
    /// The same, of the remote's data.
    pub received: Meter,
    /// What is done before the program announces a port of its own to the remote.
    announced: RefCell<Option<Rc<Announced>>>,
}

impl Course {
    /// One side's data is relayed: the number of bytes, and the first of them. `late`: the other side has closed.
    pub fn data(&self, from: Side, begin: &[u8], bytes: usize, late: bool) {
        if bytes == 0 {
            return;
        }
        if self.last.get().is_none() {
            self.tls.set(is_tls(begin));
        }
        let now = Instant::now();
        self.last.set(Some((from, now)));
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
        *self.announced.borrow_mut() = Some(announced);
    }

    /// The program's data, before it is sent: the remote may connect as soon as it has it.
    pub fn before(&self, data: &[u8]) {
        if (data.starts_with(b"PORT ") || data.starts_with(b"EPRT "))
            && let Some(announced) = &*self.announced.borrow()
        {
            announced.call();
        }
    }

    /// The same, of data that is not looked at.
    pub fn moved(&self, from: Side) {
        self.last.set(Some((from, Instant::now())));
    }

    /// The first FIN was received.
    pub fn first_fin(&self) {
        self.idle_before_fin.set(Some(self.idle()));
    }

    fn idle(&self) -> Duration {
        self.last.get().map_or(Duration::ZERO, |(_, at)| at.elapsed())
    }

    /// The same; since this time if no data was relayed.
    pub fn idle_since(&self, begun: Instant) -> Duration {
        self.last.get().map_or_else(|| begun.elapsed(), |(_, at)| at.elapsed())
    }

    /// The facts for a record.
    pub fn facts(&self) -> Facts {
        Facts {
            established: true,
            late_from_remote: self.late_from_remote.get(),
            late_from_program: self.late_from_program.get(),
            late_alert: self.late_alert.get(),
            tls: self.tls.get(),
            last_data: self
                .last
                .get()
                .map(|(side, _)| if side == Side::Program { By::Program } else { By::Remote }),
            idle: self.idle(),
            idle_before_fin: self.idle_before_fin.get().unwrap_or_default(),
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
