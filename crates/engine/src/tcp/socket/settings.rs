//! Socket options of a connection, and what its user waits for.

use crate::config::TcpConfig;
use crate::event::Event;
use crate::shared::Shared;
use crate::tcp::{ConnId, Keepalive};
use core::time::Duration;
use lastack_wire::reset_reason::ResetReason;

/// The field has six bits (RFC 2474 section 3).
pub(crate) const MAX_DSCP: u8 = 0x3f;

/// What the user has set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Settings {
    pub nodelay: bool,
    pub cork: bool,
    pub read_shutdown: bool,
    /// Nothing is sent, and nothing that arrives counts but a reset.
    pub muted: bool,
    /// Most text in a segment, either way (`TCP_MAXSEG`).
    pub max_segment: Option<u16>,
    /// Room for text to send, instead of what the path asks for.
    pub send_buffer: Option<usize>,
    pub linger: Option<Duration>,
    pub keepalive: Option<Keepalive>,
    pub user_timeout: Option<Duration>,
    /// What the peer is told of it (RFC 5482).
    pub advertised_user_timeout: Option<Duration>,
    /// How long the peer's FIN is waited for without a user, instead of as long as the stack says; zero:
    /// not at all (`Rule::RstFinWait2Refused`).
    pub fin_wait_2: Option<Duration>,
    /// What a reset that the user asks for says of its reason, whatever its rule.
    pub reset_reason: Option<ResetReason>,
    /// Differentiated services codepoint: six bits.
    pub dscp: u8,
    /// Hop limit (TTL), instead of the stack's.
    pub hop_limit: Option<u8>,
}

impl Settings {
    pub fn new(config: &TcpConfig) -> Self {
        Self {
            nodelay: config.nodelay,
            advertised_user_timeout: config.advertised_user_timeout,
            dscp: config.dscp & MAX_DSCP,
            ..Self::plain()
        }
    }

    /// Nothing is set.
    pub const fn plain() -> Self {
        Self {
            nodelay: false,
            cork: false,
            read_shutdown: false,
            muted: false,
            max_segment: None,
            send_buffer: None,
            linger: None,
            keepalive: None,
            user_timeout: None,
            advertised_user_timeout: None,
            fin_wait_2: None,
            reset_reason: None,
            dscp: 0,
            hop_limit: None,
        }
    }
}

/// What the user waits for, and is to be told once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UserInterest {
    pub read: bool,
    pub write: bool,
    pub drain: bool,
    /// A writer was turned away for want of room.
    pub blocked: bool,
}

impl UserInterest {
    /// The connection is over, and there is an error or an end to be told to who waits.
    pub fn wake(self, shared: &mut Shared, id: ConnId) {
        if self.read {
            shared.events.push(Event::Readable(id));
        }
        if self.write || self.drain {
            shared.events.push(Event::Writable(id));
        }
    }
}

impl Default for UserInterest {
    /// The first text is told without being asked for.
    fn default() -> Self {
        Self { read: true, write: true, drain: false, blocked: false }
    }
}
