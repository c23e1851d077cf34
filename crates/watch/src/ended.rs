//! The output of the join: how a connection ended.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lastack_causes::{Cause, EndedBy, Severity};

use crate::event::{Flow, Segment, Source, Time};

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The end that opened the connection.
    Client,
    /// The end that accepted it.
    Server,
}

impl Role {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    /// `client` or `server`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    /// Who ended it, if it was this end.
    #[must_use]
    pub const fn ended_by(self) -> EndedBy {
        match self {
            Self::Client => EndedBy::Client,
            Self::Server => EndedBy::Server,
        }
    }
}

/// The process that owned a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub comm: Arc<str>,
    /// Its arguments, as far as they could be read.
    pub command: Arc<str>,
    /// Its user.
    pub uid: Option<u32>,
    /// The path of its control group.
    pub cgroup: Arc<str>,
    /// How it is known: `close` (it closed the socket), `connect` (it opened it), `fd` (it held the descriptor),
    /// `listener` (it closed the listener).
    pub how: &'static str,
    /// The signal that ended it, if one did at that time.
    pub killed_by: Option<i32>,
}

/// An alternative cause.
#[derive(Clone, Debug, PartialEq)]
pub struct Alternative {
    /// The cause.
    pub cause: Cause,
    /// How likely.
    pub confidence: f32,
    /// The observation that would settle it.
    pub settle: &'static str,
}

/// One observation on which a verdict rests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Of the closed list of kinds: `kernel`, `unread`, `shape`, `handshake` ..
    pub kind: &'static str,
    /// The packet that shows it, by its number.
    pub frame: Option<u64>,
    /// What was observed.
    pub value: String,
    /// The cause that it supports.
    pub supports: Option<Cause>,
    /// A sentence.
    pub text: String,
}

/// A reset on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenReset {
    /// When.
    pub at: Time,
    /// Which end's address it carried as its sender.
    pub from: Role,
    /// It carries an acknowledgment, as the abort of a socket does; else it answers a segment.
    pub active: bool,
    /// The receiving socket took it: `None` if that is not known.
    pub accepted: Option<bool>,
    /// The first of the connection; the others follow from it.
    pub decision: bool,
    /// The segment.
    pub segment: Segment,
}

/// An ICMP error about the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenIcmp {
    /// Who sent it.
    pub from: IpAddr,
    /// 4 or 6.
    pub version: u8,
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// In words.
    pub text: &'static str,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// A number that no other end of this watch has.
    pub ordinal: u64,
    /// The addresses as the local socket sees them (the client's, if both ends are local).
    pub flow: Flow,
    /// Which end the local socket is.
    pub local: Role,
    /// The other end is a socket of this host, too.
    pub both_local: bool,
    /// The roles are known, not guessed from ports.
    pub roles_known: bool,
    /// When it began; unknown if that was before the watch.
    pub started: Option<Time>,
    /// When it ended.
    pub ended: Time,
    /// Bytes of payload that the client and the server sent.
    pub bytes: [Option<u64>; 2],
    /// Seconds without data before the end.
    pub idle: Option<f64>,
    /// Why it ended.
    pub cause: Cause,
    /// How sure that is, 0 to 1.
    pub confidence: f32,
    /// Who ended it.
    pub ended_by: EndedBy,
    /// How sure that is, 0 to 1.
    pub ended_by_confidence: f32,
    /// How much it matters.
    pub severity: Severity,
    /// What happened, as part of a sentence; may be empty.
    pub detail: String,
    /// Alternative causes, the likeliest first.
    pub alternatives: Vec<Alternative>,
    /// Further causes that apply.
    pub also: Vec<Cause>,
    /// The evidence, the strongest first.
    pub evidence: Vec<Evidence>,
    /// Bytes that the client and the server had received and not read.
    pub unread: [Option<u32>; 2],
    /// Bytes that the client and the server had written and the other end had not acknowledged.
    pub unacked: [Option<u32>; 2],
    /// The process that owned the socket of the end that ended the connection, else of the local end.
    pub process: Option<Owner>,
    /// The process at the other end, if that is on this host.
    pub peer_process: Option<Owner>,
    /// The lines of the kernel's tracepoints.
    pub kernel: Vec<String>,
    /// The sources that contributed.
    pub sources: Vec<Source>,
    /// Packets seen.
    pub packets: u64,
    /// Resets seen.
    pub resets: Vec<SeenReset>,
    /// An ICMP error, if one was seen.
    pub icmp: Option<SeenIcmp>,
    /// Initial sequence numbers of client and server, if seen.
    pub initial: [Option<u32>; 2],
    /// Ids of the rules of TCP (docs/resets.md) that the end follows.
    pub rules: Vec<&'static str>,
    /// Observations that were not possible.
    pub limits: Vec<String>,
    /// An earlier record of this connection reported that it ended cleanly.
    pub amends: bool,
    /// Its packets, as far as they were seen. They are numbered in the order in which the watch read them.
    pub wire: Option<Wire>,
}

/// What the packets of a connection show.
#[derive(Clone, Debug)]
pub struct Wire {
    /// The packets, and their verdict.
    pub explained: Arc<lastack_explain::Explained>,
    /// All packets were read, not only those that begin and end connections.
    pub whole: bool,
}

impl PartialEq for Wire {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.explained, &other.explained)
    }
}

impl Ended {
    /// The client's address.
    #[must_use]
    pub const fn client(&self) -> SocketAddr {
        match self.local {
            Role::Client => self.flow.local,
            Role::Server => self.flow.remote,
        }
    }

    /// The server's address.
    #[must_use]
    pub const fn server(&self) -> SocketAddr {
        match self.local {
            Role::Client => self.flow.remote,
            Role::Server => self.flow.local,
        }
    }

    /// The owners of both ends, as far as they are on this host and known.
    pub fn owners(&self) -> impl Iterator<Item = &Owner> {
        self.process.iter().chain(&self.peer_process)
    }
}

/// Counts of a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections that ended, reported or folded.
    pub ended: u64,
    /// By cause.
    pub causes: BTreeMap<Cause, u64>,
    /// By severity: benign, suspicious, harmful.
    pub severities: BTreeMap<Severity, u64>,
    /// Resets seen on the wire.
    pub resets_seen: u64,
    /// Resets that this host sent, by its own count.
    pub resets_sent: u64,
    /// Handshakes dropped because an accept queue was full.
    pub listen_overflows: u64,
    /// Sockets of other network namespaces that tracepoints showed.
    pub foreign: u64,
    /// Connections that were dropped because too many were tracked.
    pub evicted: u64,
    /// Events that sources lost.
    pub lost: BTreeMap<Source, u64>,
}
