//! Socket options of a connection, and the events that the application waits for.

use crate::config::TcpConfig;
use crate::event::Event;
use crate::shared::Shared;
use crate::tcp::{ConnId, Keepalive};
use core::time::Duration;
use lastack_wire::reset_reason::ResetReason;

/// The field has six bits (RFC 2474 section 3).
pub(crate) const MAX_DSCP: u8 = 0x3f;

/// The socket options.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Settings {
    pub nodelay: bool,
    pub cork: bool,
    pub read_shutdown: bool,
    /// Nothing is sent, and nothing that arrives is processed but a RST.
    pub muted: bool,
    /// Max data in a segment, in both directions (`TCP_MAXSEG`).
    pub max_segment: Option<u16>,
    /// Size of the send buffer, instead of auto-tuning (`SO_SNDBUF`).
    pub send_buffer: Option<usize>,
    /// Size of the receive buffer, instead of auto-tuning (`SO_RCVBUF`).
    pub receive_buffer: Option<u32>,
    /// Max bytes of unsent data beyond what the windows allow (`TCP_NOTSENT_LOWAT`).
    pub not_sent_low_water: Option<u32>,
    /// IPv4 segments are sent without DF (`IP_PMTUDISC_DONT`).
    pub may_fragment: bool,
    pub linger: Option<Duration>,
    pub keepalive: Option<Keepalive>,
    pub user_timeout: Option<Duration>,
    /// The USER TIMEOUT advertised to the peer (RFC 5482).
    pub advertised_user_timeout: Option<Duration>,
    /// Timeout of an orphan in FIN-WAIT-2, instead of the stack's; zero: no wait (`Rule::RstFinWait2Refused`).
    pub fin_wait_2: Option<Duration>,
    /// The reason that a RST caused by the application declares, whatever its rule.
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

    /// No option is set.
    pub const fn plain() -> Self {
        Self {
            nodelay: false,
            cork: false,
            read_shutdown: false,
            muted: false,
            max_segment: None,
            send_buffer: None,
            receive_buffer: None,
            not_sent_low_water: None,
            may_fragment: false,
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
