//! A RST as it stood when it came: its shape, whether it counted, what it may answer.

use crate::declared::Declared;
use crate::packet::{Pkt, ahead};
use lastack_engine::{ResetEffect, Rule};
use lastack_wire::TcpFlags;

/// The two shapes of a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Sent for a socket that existed: numbers of the connection, ACK set.
    Active,
    /// Sent in answer to a segment that met nothing usable.
    Reply,
}

/// What it did to its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Judged by the stack's own rules.
    Judged(ResetEffect),
    /// What the receiver expects is not in the capture.
    Unseen,
}

impl Effect {
    /// Whether it ended the connection for its receiver.
    pub fn is_accepted(self) -> bool {
        matches!(self, Self::Judged(ResetEffect::Accepted(_)))
    }

    /// The rule that decided.
    pub fn rule(self) -> Option<Rule> {
        match self {
            Self::Judged(
                ResetEffect::Accepted(rule) | ResetEffect::Challenged(rule) | ResetEffect::Ignored(rule),
            ) => Some(rule),
            Self::Unseen => None,
        }
    }

    /// As users see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Judged(ResetEffect::Accepted(_)) => "accepted",
            Self::Judged(ResetEffect::Challenged(_)) => "challenged",
            Self::Judged(ResetEffect::Ignored(_)) => "ignored",
            Self::Unseen => "unseen",
        }
    }
}

/// A reset, with what was known when it came.
#[derive(Clone, Debug)]
pub struct Reset {
    /// The packet; `side` is its sender.
    pub pkt: Pkt,
    /// Its shape.
    pub shape: Shape,
    /// What it did.
    pub effect: Effect,
    /// The same packet was captured before.
    pub copy: bool,
    /// The connection had its end already.
    pub late: bool,
    /// What it states.
    pub declared: Vec<Declared>,
    /// Bytes of payload.
    pub payload: u32,
    /// Whether its checksum is wrong.
    pub bad_checksum: bool,
    /// It has an MD5 or AO option.
    pub signed: bool,
    /// The hardware address it came from.
    pub mac: [u8; 6],
    /// The packet of the other end that it answers, or the last one.
    pub trigger: Option<Pkt>,
    /// Whether its numbers are those of an answer to that packet.
    pub answers: bool,
    /// The sender's packet before it.
    pub own: Option<Pkt>,
    /// The end of what its sender had sent (SND.NXT), if known.
    pub own_nxt: Option<u32>,
    /// The end of what the other end had sent.
    pub peer_nxt: Option<u32>,
    /// Hop limit of the sender's other packets.
    pub ttl_usual: Option<u8>,
    /// With several captures: the lowest and the highest hop limit of the sender's other packets in the one that has the reset first;
    /// 0 if there are none.
    pub ttl_there: Option<(u8, u8)>,
    /// The packet before it in the connection.
    pub before: Option<Pkt>,
    /// The sender's bytes since the other end's last payload.
    pub own_run: u64,
    /// The other end's bytes since the sender's last payload.
    pub peer_run: u64,
    /// Who sent payload last: the sender of the reset?
    pub own_spoke_last: Option<bool>,
    /// The sender's FIN came before.
    pub own_fin: bool,
    /// The other end's FIN came before.
    pub peer_fin: bool,
}

impl Reset {
    /// Distance from the number it should have.
    pub fn seq_offset(&self) -> Option<i32> {
        self.own_nxt.map(|nxt| ahead(self.pkt.seq, nxt))
    }

    /// Whether its ACK number covers `number`.
    pub fn covers(&self, number: u32) -> bool {
        self.pkt.has(TcpFlags::ACK) && ahead(self.pkt.ack, number) >= 0
    }
}
