//! The packets, judged by the tracker and the rules of `lastack explain`.
//!
//! With tracepoints the kernel's own reason decides what this host did. What the peer did, or a device on the path,
//! shows in the packets alone. Without the packets in between (only those that begin and end connections are read by
//! default) a part of the rules has nothing to go by; then only what shows in those few counts.

use lastack_causes::{Cause, EndedBy};
use lastack_explain::verdict::Verdict;
use lastack_explain::{Endpoint, Explained, Frame, Options, RawPacket};
use std::sync::Arc;

use super::judge::{By, Opinion, Rank};
use super::{Id, Join};
use crate::ended::{Alternative, Evidence};
use crate::event::Flow;

/// Packets begin with the IP header.
const LINKTYPE_RAW: u16 = 101;
/// Connections that are followed by their packets.
const LIVE: usize = 1 << 16;
/// Number of packets between two checks for forwarded connections, which have no socket here.
const SWEEP: u64 = 1 << 14;

pub(super) struct Explainer {
    inner: lastack_explain::Explainer,
    packets: u64,
}

impl std::fmt::Debug for Explainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Explainer").field("packets", &self.packets).finish_non_exhaustive()
    }
}

impl Default for Explainer {
    fn default() -> Self {
        let options = Options { live: LIVE, kept: 1024, all: false };
        Self { inner: lastack_explain::Explainer::new(options), packets: 0 }
    }
}

/// The verdict from the packets of one connection.
#[derive(Debug)]
pub(super) struct PacketVerdict(Arc<Explained>);

impl Explainer {
    fn packet(&mut self, packet: &crate::RawPacket<'_>) {
        self.packets += 1;
        let time = i64::try_from(packet.wall).unwrap_or(i64::MAX);
        self.inner.packet(&RawPacket {
            frame: Frame::new(0, self.packets),
            time,
            timed: true,
            link: LINKTYPE_RAW,
            interface: 0,
            data: packet.bytes,
            length: packet.len as u32,
            comment: None,
            vantage: 0,
        });
        if self.packets.is_multiple_of(SWEEP) {
            self.inner.judge_finished();
            self.inner.ready().for_each(drop);
        }
    }

    fn take(&mut self, flow: Flow, initial: Option<u32>) -> Option<Arc<Explained>> {
        self.inner.take(flow.local.into(), flow.remote.into(), initial).map(Arc::new)
    }
}

/// Causes that show in the packets that begin and end a connection, whatever was between them.
const fn shows_in_ends(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::Refused
            | Cause::FirewallReject
            | Cause::PortReuse
            | Cause::SynProxy
            | Cause::Injected
            | Cause::Mptcp
    )
}

/// Confidence below which the shape of the reset is as good evidence.
const WORTH: f32 = 0.3;

impl Join {
    /// Takes a packet as it was captured. It is also an event ([`crate::Event::Segment`]) if it begins or ends a
    /// connection.
    pub fn packet(&mut self, packet: &crate::RawPacket<'_>) {
        self.explainer.packet(packet);
    }

    /// What the packets add to what sockets show about the peer: another cause, or more evidence for the same.
    pub(super) fn with_packets(&self, mut own: Opinion, flow: Flow) -> Opinion {
        let Some(stated) = &self.packet_verdict else { return own };
        let mut stated = stated.opinion(flow, own.rank);
        if stated.cause == own.cause {
            own.confidence = own.confidence.max(stated.confidence);
            own.evidence.append(&mut stated.evidence);
            return own;
        }
        stated.evidence.append(&mut own.evidence);
        stated
    }

    /// The verdict from the packets of this connection, if it is reliable.
    pub(super) fn judge_packets(&mut self, id: Id) {
        let connection = self.connections.get(&id).filter(|connection| connection.wire.count > 0);
        let found = connection.map(|connection| {
            let initial = connection.wire.syn.map(|(_, syn)| syn.seq);
            (connection.key, initial)
        });
        self.packets_of = found.and_then(|(flow, initial)| self.explainer.take(flow, initial));
        self.packet_verdict = self.packets_of.clone().map(PacketVerdict).filter(|stated| {
            let Verdict { cause, confidence, .. } = stated.0.verdict;
            let known = !matches!(cause, Cause::Open | Cause::Orderly);
            known && confidence >= WORTH && (self.options.all_packets || shows_in_ends(cause))
        });
    }
}

impl PacketVerdict {
    /// The verdict as the local socket of this flow sees it.
    fn opinion(&self, flow: Flow, rank: Rank) -> Opinion {
        let verdict = &self.0.verdict;
        let is_client = self.0.client() == Endpoint::from(flow.local);
        let by = match verdict.ended_by {
            EndedBy::Client if is_client => By::Local,
            EndedBy::Server if !is_client => By::Local,
            EndedBy::Client | EndedBy::Server => By::Remote,
            EndedBy::Path => By::Path,
            EndedBy::Nobody => By::Nobody,
            _ => By::Unknown,
        };
        let mut opinion = Opinion::new(rank, verdict.cause, verdict.confidence, by)
            .detail("as the packets show")
            .severity(verdict.severity);
        opinion.by_confidence = verdict.ended_by_confidence;
        opinion.alternatives = verdict
            .alternatives
            .iter()
            .map(|other| Alternative {
                cause: other.cause,
                confidence: other.confidence,
                settle: other.settle,
            })
            .collect();
        opinion.also = verdict.also.iter().map(|also| also.cause).collect();
        opinion.evidence = verdict
            .evidence
            .iter()
            .map(|evidence| Evidence {
                kind: evidence.kind.name(),
                frame: evidence.frame.map(Frame::number),
                value: evidence.value.clone(),
                supports: evidence.speaks_for,
                text: evidence.text.clone(),
            })
            .collect();
        opinion.rules.clone_from(&verdict.rules);
        opinion.limits.clone_from(&verdict.limits);
        opinion
    }
}
