//! Who ended a connection, and how much it matters.

use core::fmt;

/// How much an end matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing was lost; usual traffic.
    Benign,
    /// Unusual, or data may have been lost.
    Suspicious,
    /// A request, data or a connection was lost.
    Harmful,
}

impl Severity {
    /// All, by how much they matter, most first.
    pub const ALL: [Self; 3] = [Self::Harmful, Self::Suspicious, Self::Benign];

    /// `benign`, `suspicious` or `harmful`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Benign => "benign",
            Self::Suspicious => "suspicious",
            Self::Harmful => "harmful",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Who ended a connection: not who sent the reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndedBy {
    /// The end that opened the connection.
    Client,
    /// The end that accepted it.
    Server,
    /// A device between the ends.
    Path,
    /// Both ends at the same time.
    Both,
    /// No end decided; the connection fell silent or is still open.
    Nobody,
    /// lastack, by a rule of the run or an injected fault; only `run` and its captures state it.
    Lastack,
    /// The host of the run, which could not or must not send; stated as before.
    Host,
    /// It could not be told.
    Unknown,
}

impl EndedBy {
    /// All.
    pub const ALL: [Self; 8] = [
        Self::Client,
        Self::Server,
        Self::Path,
        Self::Both,
        Self::Nobody,
        Self::Lastack,
        Self::Host,
        Self::Unknown,
    ];

    /// `client`, `server`, `path`, `both`, `nobody`, `lastack`, `host` or `unknown`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Path => "path",
            Self::Both => "both",
            Self::Nobody => "nobody",
            Self::Lastack => "lastack",
            Self::Host => "host",
            Self::Unknown => "unknown",
        }
    }

    /// As a noun of a sentence: `the client`, `a device on the path`, `nobody`.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Client => "the client",
            Self::Server => "the server",
            Self::Path => "a device on the path",
            Self::Both => "both ends",
            Self::Nobody => "nobody",
            Self::Lastack => "lastack",
            Self::Host => "the host of the run",
            Self::Unknown => "an unknown party",
        }
    }
}

impl fmt::Display for EndedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
