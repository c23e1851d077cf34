//! The interface of a system under test.

use super::error::Problem;
use super::syntax::{Call, Span};
use lastack_engine::Instant;
use std::net::SocketAddr;
use std::time::Duration;

/// A system under test: it takes packets and calls, sends packets, and has a clock.
pub trait System {
    /// A pending call.
    type Operation;

    /// How long to wait for a packet that may come at any time, and for a call without a time to return
    /// at.
    const PATIENCE: Duration;

    /// The time since the start.
    fn now(&self) -> Instant;

    /// Advances time up to `limit`, or until something happens. `false`: nothing did.
    fn step(&mut self, limit: Instant, going_on: Option<&Self::Operation>) -> bool;

    /// Delivers a packet of the peer; returns the system's report on it.
    fn deliver(&mut self, packet: &[u8]) -> Option<String>;

    /// The next packet that was sent, if there is one.
    fn sent(&mut self) -> Option<Sent>;

    /// Starts a call.
    fn begin(&mut self, call: &Call) -> Result<Self::Operation, Problem>;

    /// The result of a call, once it has returned. It is not called again after that.
    fn attempt(&mut self, operation: &mut Self::Operation) -> Result<Option<Reply>, Problem>;

    /// The script's number for the descriptor that the last call opened; `None`: it has none.
    fn name(&mut self, number: Option<i64>);

    /// Whether the script has a descriptor of this number.
    fn is_open(&self, fd: i64) -> bool;

    /// The addresses of a socket as far as they are known.
    fn ends(&mut self, fd: i64) -> (Option<SocketAddr>, Option<SocketAddr>);

    /// Runs a shell command.
    fn command(&mut self, command: &str, span: &Span) -> Result<(), Problem>;

    /// The values of `tcp_info` and related options of a socket, by the names that snippets use.
    fn snapshot(&mut self, fd: i64) -> Result<Vec<(&'static str, i64)>, String>;
}

/// A packet that the system sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When it was sent.
    pub at: Instant,
    /// Its bytes, from the IP header on.
    pub bytes: Vec<u8>,
    /// The reason, if the system reports one.
    pub said: Option<String>,
}

/// The result of a call.
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
