//! Socket options of a connection, and the events that the application waits for.

use crate::config::TcpConfig;
use crate::event::Event;
use crate::shared::Shared;
use crate::tcp::{ConnId, Keepalive};
use alloc::boxed::Box;
use core::time::Duration;
use lastack_wire::reset_reason::ResetReason;

/// The field has six bits (RFC 2474 section 3).
pub(crate) const MAX_DSCP: u8 = 0x3f;

/// The socket options. Those that a segment depends on are at hand; the others exist once one is set.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub nodelay: bool,
    pub cork: bool,
    pub read_shutdown: bool,
    /// Nothing is sent, and nothing that arrives is processed but a RST.
    pub muted: bool,
    /// Size of the send buffer, instead of auto-tuning (`SO_SNDBUF`).
    pub send_buffer: Option<u32>,
    /// Size of the receive buffer, instead of auto-tuning (`SO_RCVBUF`).
    pub receive_buffer: Option<u32>,
    /// Max bytes of unsent data beyond what the windows allow (`TCP_NOTSENT_LOWAT`).
    pub not_sent_low_water: Option<u32>,
    /// IPv4 segments are sent without DF (`IP_PMTUDISC_DONT`).
    pub may_fragment: bool,
    /// Differentiated services codepoint: six bits.
    pub dscp: u8,
    /// Hop limit (TTL), instead of the stack's.
    pub hop_limit: Option<u8>,
    /// Max data in a segment, in both directions (`TCP_MAXSEG`). Who relays connections sets it for each, so that it takes no
    /// memory of its own.
    pub max_segment: Option<u16>,
    rare: Option<Box<RareSettings>>,
}

/// The socket options that no segment depends on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RareSettings {
    pub linger: Option<Duration>,
    pub keepalive: Option<Keepalive>,
    pub user_timeout: Option<Duration>,
    /// The USER TIMEOUT advertised to the peer (RFC 5482).
    pub advertised_user_timeout: Option<Duration>,
    /// Timeout of an orphan in FIN-WAIT-2, instead of the stack's; zero: no wait (`Rule::RstFinWait2Refused`).
    pub fin_wait_2: Option<Duration>,
    /// The reason that a RST caused by the application declares, whatever its rule.
    pub reset_reason: Option<ResetReason>,
}

/// No rare option is set.
static NO_RARE: RareSettings = RareSettings {
    linger: None,
    keepalive: None,
    user_timeout: None,
    advertised_user_timeout: None,
    fin_wait_2: None,
    reset_reason: None,
};

impl Settings {
    pub fn new(config: &TcpConfig) -> Self {
        let mut settings = Self::common(config.nodelay, config.dscp & MAX_DSCP, None);
        if config.advertised_user_timeout.is_some() {
            settings.rare_mut().advertised_user_timeout = config.advertised_user_timeout;
        }
        settings
    }

    /// The options that no segment depends on.
    #[inline]
    pub fn rare(&self) -> &RareSettings {
        self.rare.as_deref().unwrap_or(&NO_RARE)
    }

    /// The same, to change one.
    pub fn rare_mut(&mut self) -> &mut RareSettings {
        self.rare.get_or_insert_with(|| Box::new(NO_RARE.clone()))
    }

    /// Whether no option is set, apart from those of [`common`](Self::common).
    pub fn is_plain(&self) -> bool {
        let Self {
            nodelay: _,
            dscp: _,
            max_segment: _,
            rare: _,
            cork,
            read_shutdown,
            muted,
            may_fragment,
            ..
        } = self;
        let sizes =
            [self.send_buffer.is_some(), self.receive_buffer.is_some(), self.not_sent_low_water.is_some()];
        !(*cork || *read_shutdown || *muted || *may_fragment)
            && sizes == [false; 3]
            && self.hop_limit.is_none()
            && *self.rare() == NO_RARE
    }

    /// No option is set but these.
    pub const fn common(nodelay: bool, dscp: u8, max_segment: Option<u16>) -> Self {
        let mut settings = Self::plain();
        (settings.nodelay, settings.dscp, settings.max_segment) = (nodelay, dscp, max_segment);
        settings
    }

    /// No option is set.
    pub const fn plain() -> Self {
        Self {
            nodelay: false,
            cork: false,
            read_shutdown: false,
            muted: false,
            send_buffer: None,
            receive_buffer: None,
            not_sent_low_water: None,
            may_fragment: false,
            dscp: 0,
            hop_limit: None,
            max_segment: None,
            rare: None,
        }
    }
}

/// The events that the application waits for; each is reported once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UserInterest {
    pub read: bool,
    pub write: bool,
    pub drain: bool,
    /// A send call found no room.
    pub blocked: bool,
}

impl UserInterest {
    /// The application has shut down sending: wakes a send call that waits for room, which fails.
    pub fn fail_writer(&mut self, shared: &mut Shared, id: ConnId) {
        if core::mem::take(&mut self.blocked) {
            self.write = false;
            shared.events.push(Event::Writable(id));
        }
    }

    /// The connection has ended: wakes the waiting calls, which return the error or the end of the stream.
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
    /// The first readiness is reported without a preceding call.
    fn default() -> Self {
        Self { read: true, write: true, drain: false, blocked: false }
    }
}
