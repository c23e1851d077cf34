//! The meaning of the peer's reset: its shape on the wire, and what happened before it.

use lastack_causes::{Cause, Severity};
use lastack_wire::TcpFlags;

use super::Join;
use super::connection::{Connection, FirstFin, Side};
use super::judge::{By, Opinion, Rank, first_fin};
use crate::event::{Flow, Segment, TcpInfo, TcpState, Time};

impl Join {
    /// The peer reset the connection.
    pub(super) fn reset_by_peer(
        &self,
        connection: &Connection,
        side: &Side,
        from: Option<TcpState>,
    ) -> Opinion {
        let seen = connection.wire.reset_from(side.flow.remote).map(|(_, segment)| segment);
        let opinion = match from {
            Some(TcpState::SynSent) => refused(connection, side, seen),
            Some(TcpState::CloseWait | TcpState::LastAck) => closed_before(connection, side),
            Some(TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing) => reset_for_fin(side),
            _ => aborted(side, seen),
        };
        match seen {
            Some(segment) => {
                let shape = if is_active(segment) { "active" } else { "reply" };
                let Segment { flags, seq, window, hop_limit, ident, .. } = segment;
                let value = format!("[{flags}] seq={seq} win={window} ttl={hop_limit} id={ident}");
                opinion.because("shape", value, format!("the peer's reset has the shape of {shape}"))
            }
            None => opinion.because("kernel", "tcp_receive_reset", "a reset of the peer was accepted"),
        }
    }

    /// A connection of which only packets are known: no socket of this host, or none that was seen.
    pub(super) fn by_packets(&self, connection: &Connection) -> Option<(Time, Flow, Opinion)> {
        let &(at, reset) = connection.wire.resets.first()?;
        let here =
            self.is_local(reset.flow.local.ip()) && (reset.sent || self.is_local(reset.flow.remote.ip()));
        let there = self.is_local(reset.flow.remote.ip());
        if !here && !there {
            return None;
        }
        let syn = connection.wire.syn.map(|(_, syn)| syn);
        let answers_syn = syn.is_some_and(|syn| syn.flow == reset.flow.mirrored());
        let flow = if here { reset.flow } else { reset.flow.mirrored() };
        let by = if here { By::Local } else { By::Remote };
        let rank = if here { Rank::Answered } else { Rank::Affected };

        let opinion = if answers_syn && connection.wire.syn_ack.is_none() {
            Opinion::new(rank, Cause::Refused, 0.9, by)
                .detail("nothing accepts connections at that port")
                .rule("S1")
        } else if is_active(&reset) {
            Opinion::new(rank, Cause::Abort, 0.5, by).or(
                Cause::CloseUnread,
                0.3,
                "the kernel's reason on the host that sent the reset",
            )
        } else {
            Opinion::new(rank, Cause::LostState, 0.5, by).or(
                Cause::DataAfterClose,
                0.3,
                "whether that host had closed the connection before",
            )
        };
        let text = "a reset was seen, and no socket of this host with it";
        Some((at, flow, self.with_packets(opinion.because("shape", reset.flags, text), flow)))
    }
}

/// The abort of a socket carries an acknowledgment; so does the answer to a SYN, but with sequence number 0.
fn is_active(segment: &Segment) -> bool {
    segment.flags.contains(TcpFlags::ACK) && segment.seq != 0
}

/// The SYN was answered with a reset. One that no host's stack makes comes from a filter on the way.
fn refused(connection: &Connection, side: &Side, seen: Option<&Segment>) -> Opinion {
    let odd = seen.is_some_and(|reset| {
        let copied = connection.wire.syn.is_some_and(|(_, syn)| reset.window == syn.window);
        reset.flags.contains(TcpFlags::ACK) && (reset.seq != 0 || reset.window != 0 && copied)
    });
    if odd {
        return Opinion::new(Rank::Affected, Cause::FirewallReject, 0.9, By::Path)
            .detail("the reset that answers the SYN is unlike those of a host's stack")
            .or(Cause::Refused, 0.08, "a capture at the server");
    }
    let confidence = if seen.is_some() { 0.95 } else { 0.9 };
    let mut opinion = Opinion::new(Rank::Affected, Cause::Refused, confidence, By::Remote)
        .detail("nothing accepts connections at that port")
        .rule("S1");
    if !side.flow.remote.ip().is_loopback() {
        opinion = opinion.or(Cause::FirewallReject, 0.04, "the rules of the host and of the hops before it");
    }
    opinion
}

/// The peer had sent its FIN, and got data after that.
fn closed_before(connection: &Connection, side: &Side) -> Opinion {
    let by = match first_fin(connection, side) {
        Some(FirstFin::Ours) => By::Local,
        _ => By::Remote,
    };
    Opinion::new(Rank::Affected, Cause::DataAfterClose, 0.85, by)
        .detail("the peer had closed; data that was sent to it after that was answered with a reset")
        .or(Cause::CloseUnread, 0.1, "whether the peer's FIN came before its program had read everything")
        .rule("S80")
}

/// This end had closed, and the peer answers with a reset in place of its own FIN.
fn reset_for_fin(side: &Side) -> Opinion {
    let undelivered = side.destroyed.map_or(0, |(_, report)| report.wqueue);
    let opinion = Opinion::new(Rank::Affected, Cause::ResetForFin, 0.8, By::Local)
        .detail("closed; the peer answered with a reset in place of its FIN")
        .or(Cause::CloseUnread, 0.15, "the kernel's reason on the peer's host");
    if undelivered > 1 { opinion.severity(Severity::Harmful) } else { opinion }
}

/// An abort so soon after data was sent may be a reaction to it, in milliseconds.
const UNANSWERED: u64 = 200;

/// The peer reset an established connection. What its program did shows in no packet for certain.
fn aborted(side: &Side, seen: Option<&Segment>) -> Opinion {
    const SETTLE: &str = "the kernel's reason on the peer's host (`lastack watch` there)";
    let info = side.report().and_then(|report| report.info);
    // It had got data a moment ago and did not answer it.
    let idle = |since: fn(&TcpInfo) -> u32| side.idle(since).unwrap_or(u64::MAX);
    let (sent, received) = (idle(|info| info.last_data_sent), idle(|info| info.last_data_recv));
    let unanswered = info.is_some_and(|info| info.bytes_acked > 1) && sent < received && sent < UNANSWERED;
    if seen.is_some_and(|reset| !is_active(reset)) {
        return Opinion::new(Rank::Affected, Cause::LostState, 0.5, By::Remote)
            .detail("the peer's host answered a segment with a reset: it no longer had the connection")
            .or(Cause::StateExpired, 0.3, "a capture at the peer's host")
            .or(Cause::DataAfterClose, 0.1, "whether the peer's FIN was lost")
            .rule("R1");
    }
    let opinion = if unanswered {
        Opinion::new(Rank::Affected, Cause::CloseUnread, 0.5, By::Remote)
            .detail("the peer aborted after data that it had not answered")
            .or(Cause::Abort, 0.4, SETTLE)
    } else {
        Opinion::new(Rank::Affected, Cause::Abort, 0.6, By::Remote)
            .detail("the peer aborted the connection")
            .or(Cause::CloseUnread, 0.2, SETTLE)
            .or(Cause::IdleReset, 0.1, "the log of the devices on the path")
    };
    opinion.rule("R1")
}
