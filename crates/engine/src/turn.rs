//! Whose turn it is to send when replies, TCP and UDP all have packets waiting.

/// A source of packets. The turn goes round, so that none waits behind an endless flow of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Replies that belong to no connection, and packets of other protocols.
    #[default]
    Replies,
    Tcp,
    Udp,
}

impl Turn {
    /// Number of sources.
    pub const COUNT: usize = 3;

    pub const fn next(self) -> Self {
        match self {
            Self::Replies => Self::Tcp,
            Self::Tcp => Self::Udp,
            Self::Udp => Self::Replies,
        }
    }
}
