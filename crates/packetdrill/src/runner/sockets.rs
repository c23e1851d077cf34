//! The effect of calls on the sockets of the script.

use super::Runner;
use crate::arguments::{self, Arguments};
use crate::constants;
use crate::syntax::Call;
use crate::system::System;
use crate::translate::{Phase, Record};

impl<S: System> Runner<'_, S> {
    /// A call is about to start.
    pub fn note_begun(&mut self, call: &Call) {
        let Some(fd) = first_number(call).filter(|_| names_peer(call)) else { return };
        if let Some(record) = self.exchange.record_of(fd).filter(|record| record.phase == Phase::New) {
            // A socket whose connection failed may connect again: the old record is replaced.
            *record = Record::of(fd, Phase::Connecting);
        }
    }

    /// A call has opened the descriptor with this number.
    pub fn note_opened(&mut self, call: &Call, fd: i64) {
        match call.name.as_str() {
            "socket" => self.exchange.add_record(Record::of(fd, Phase::New)),
            "accept" | "accept4" => {
                let remote = self.system.ends(fd).1;
                if let Some(record) = self.exchange.unnamed(remote) {
                    record.fd = Some(fd);
                }
            }
            _ => {}
        }
    }

    /// A call has returned.
    pub fn note_returned(&mut self, call: &Call, errno: Option<i64>) {
        let Some(record) = first_number(call).and_then(|fd| self.exchange.record_of(fd)) else { return };
        let goes_on = || {
            ["EINPROGRESS", "EALREADY", "EISCONN", "EINTR"]
                .into_iter()
                .any(|name| constants::value(name) == errno)
        };
        match (call.name.as_str(), errno) {
            ("listen", None) if record.phase == Phase::New => record.phase = Phase::Listening,
            ("close", None) => record.fd = None,
            // The socket is new again. Packets of its old connection are still examined.
            ("connect", None) if !names_peer(call) => record.phase = Phase::New,
            ("connect", Some(_)) if !goes_on() => record.phase = Phase::New,
            _ => {}
        }
    }
}

fn first_number(call: &Call) -> Option<i64> {
    Arguments::new(call).number(0).ok()
}

/// Whether a call gives a peer to connect to or to send to.
fn names_peer(call: &Call) -> bool {
    let arguments = Arguments::new(call);
    match call.name.as_str() {
        "connect" => !arguments.at(1).is_ok_and(arguments::is_unspecified),
        "sendto" => arguments.at(4).is_ok_and(|name| arguments::number(name) != Ok(0)),
        "sendmsg" => arguments.at(1).and_then(arguments::fields).is_ok_and(|fields| {
            arguments::field(fields, "msg_name").is_some_and(|name| arguments::number(name) != Ok(0))
        }),
        _ => false,
    }
}
