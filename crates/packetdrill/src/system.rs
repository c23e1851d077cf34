//! What a script is played against.

use super::error::Problem;
use super::syntax::{Call, Span};
use lastack_engine::Instant;
use std::net::SocketAddr;
use std::time::Duration;

/// A system under test: it takes packets and calls, sends packets, and has a clock.
pub trait System {
    /// A call that is going on.
    type Operation;

    /// How long is waited for a packet that may come at any time, and for a call of which the script does not say when
    /// it returns.
    const PATIENCE: Duration;

    /// The time since the start.
    fn now(&self) -> Instant;

    /// Lets time pass up to `limit`, or until something happened. `false`: nothing did.
    fn step(&mut self, limit: Instant, going_on: Option<&Self::Operation>) -> bool;

    /// Takes a packet of the peer; what there is to be said of it.
    fn deliver(&mut self, packet: &[u8]) -> Option<String>;

    /// The next packet that was sent, if there is one now.
    fn sent(&mut self) -> Option<Sent>;

    /// Begins a call.
    fn begin(&mut self, call: &Call) -> Result<Self::Operation, Problem>;

    /// Whether a call has returned, and with what. It is not asked again then.
    fn attempt(&mut self, operation: &mut Self::Operation) -> Result<Option<Reply>, Problem>;

    /// The script's number for the descriptor that the last call opened; `None`: it has none.
    fn name(&mut self, number: Option<i64>);

    /// Whether the script has a descriptor of this number.
    fn is_open(&self, fd: i64) -> bool;

    /// The ends of a socket as far as they are known.
    fn ends(&mut self, fd: i64) -> (Option<SocketAddr>, Option<SocketAddr>);

    /// Runs a command of the shell.
    fn command(&mut self, command: &str, span: &Span) -> Result<(), Problem>;

    /// What `tcp_info` and its like say of a socket, by the names that snippets use.
    fn snapshot(&mut self, fd: i64) -> Result<Vec<(&'static str, i64)>, String>;
}

/// A packet that the system sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When.
    pub at: Instant,
    /// From the IP header on.
    pub bytes: Vec<u8>,
    /// Why, if it is told.
    pub said: Option<String>,
}

/// What a call gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A number.
    Value(i64),
    /// -1, and the number of an error.
    Errno(i64),
    /// A descriptor, whose number the script chooses.
    Opened,
    /// A value, and what else differs from the script.
    Wrong(i64, String),
}
