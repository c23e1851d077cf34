//! What was observed of one connection, before anything is concluded from it.

use std::sync::Arc;

use lastack_wire::TcpFlags;

use super::ledger::Claim;

use crate::event::{
    Context, Flow, IcmpReport, Segment, SocketReport, Source, TcpInfo, TcpState, Time, Trace,
};

/// A process in whose context something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Actor {
    pub(super) pid: u32,
    pub(super) comm: Arc<str>,
}

impl Actor {
    /// The process of an event, if the event happened in its context.
    pub(super) fn of(trace: &Trace) -> Option<Self> {
        let Context { pid, .. } = trace.context;
        trace.context.is_process().then(|| Self { pid, comm: trace.comm.clone() })
    }
}

/// The transition to CLOSE.
#[derive(Clone, Copy, Debug)]
pub(super) struct Close {
    pub(super) at: Time,
    pub(super) from: TcpState,
}

/// A reset that a socket sent of its own accord.
#[derive(Clone, Debug)]
pub(super) struct ActiveReset {
    /// The state in the event: CLOSE if the socket had left its state before.
    pub(super) state: Option<TcpState>,
    pub(super) reason: Option<Arc<str>>,
    pub(super) actor: Option<Actor>,
}

/// A reset that answered a segment.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) at: Time,
    /// The flow as this host sees it.
    pub(super) flow: Flow,
    pub(super) state: Option<TcpState>,
    pub(super) reason: Option<Arc<str>>,
}

/// Who sent the first FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstFin {
    Ours,
    Theirs,
}

/// Lines of tracepoints that a side keeps.
const MAX_LINES: usize = 10;

/// A socket of this host.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) flow: Flow,
    pub(super) sk: u64,
    pub(super) cookie: Option<u64>,
    pub(super) opened: Option<Time>,
    /// It connected (true) or was accepted (false).
    pub(super) client: Option<bool>,
    pub(super) established: bool,
    pub(super) opener: Option<Actor>,
    pub(super) closer: Option<Actor>,
    /// When a process closed it, as a tracepoint shows.
    pub(super) released: Option<Time>,
    /// The last list in which a file held it, and the first after that in which none did.
    pub(super) held: Option<Time>,
    pub(super) orphaned: Option<Time>,
    pub(super) holder: Option<u32>,
    pub(super) listed: Option<(Time, SocketReport)>,
    pub(super) destroyed: Option<(Time, SocketReport)>,
    pub(super) close: Option<Close>,
    pub(super) fin: Option<FirstFin>,
    pub(super) active_reset: Option<ActiveReset>,
    pub(super) received_reset: Option<Time>,
    pub(super) errno: Option<(Time, i32)>,
    /// The process that closed the listener by which this connection was never accepted.
    pub(super) listener_closed: Option<Actor>,
    /// A list of all sockets no longer had it, though no event reported that it was destroyed.
    pub(super) vanished: Option<Time>,
    /// The count of a reset that is booked for it, because it vanished while its program holds it.
    pub(super) reset: Option<Claim>,
    pub(super) lines: Vec<(Time, Trace)>,
    /// The last of them: when, and which thread was on the CPU.
    pub(super) last_line: Option<(Time, u32)>,
    pub(super) sources: Vec<Source>,
}

impl Side {
    pub(super) fn new(flow: Flow) -> Self {
        Self {
            flow,
            sk: 0,
            cookie: None,
            opened: None,
            client: None,
            established: false,
            opener: None,
            closer: None,
            released: None,
            held: None,
            orphaned: None,
            holder: None,
            listed: None,
            destroyed: None,
            close: None,
            fin: None,
            active_reset: None,
            received_reset: None,
            errno: None,
            listener_closed: None,
            vanished: None,
            reset: None,
            lines: Vec::new(),
            last_line: None,
            sources: Vec::new(),
        }
    }

    pub(super) fn used(&mut self, source: Source) {
        if !self.sources.contains(&source) {
            self.sources.push(source);
        }
    }

    pub(super) fn line(&mut self, at: Time, trace: &Trace) {
        self.used(Source::Tracepoints);
        self.last_line = Some((at, trace.context.tid));
        if self.lines.len() < MAX_LINES {
            self.lines.push((at, trace.clone()));
        }
    }

    /// Whether the socket is over: CLOSE or destroyed.
    pub(super) fn is_over(&self) -> bool {
        self.close.is_some() || self.destroyed.is_some() || self.vanished.is_some()
    }

    /// Whether a process that ended between these times may have closed the socket by that. The kernel closes the sockets
    /// of a process shortly before it reports its exit.
    pub(super) fn fits_exit(&self, (alive, exit): (Time, Time), ended: Time) -> bool {
        let (from, to) = match self.released {
            Some(released) => (released, released),
            None => (self.held.unwrap_or(ended).min(ended), self.orphaned.unwrap_or(ended).min(ended)),
        };
        exit.plus_millis(50) >= from && alive <= to.plus_millis(1000)
    }

    /// When it was over.
    pub(super) fn over_at(&self) -> Option<Time> {
        let destroyed = self.destroyed.map(|(at, _)| at);
        self.close.map(|close| close.at).or(self.vanished).into_iter().chain(destroyed).min()
    }

    /// Whether it ended by anything but FINs.
    pub(super) fn is_abnormal(&self) -> bool {
        self.active_reset.is_some()
            || self.received_reset.is_some()
            || self.vanished.is_some()
            || self.errno.is_some_and(|(_, errno)| errno != 0)
    }

    /// The last report of sock_diag fits an abort by this end: unread data, or addresses cleared by a disconnect.
    pub(super) fn shows_abort(&self) -> bool {
        self.destroyed.is_some_and(|(_, report)| report.rqueue > 0 || !report.flow.is_complete())
    }

    /// Whether the peer acknowledged a FIN of this socket: more than the data and, of a client, the SYN. Then it did not
    /// abort.
    pub(super) fn fin_acked(&self, client: bool) -> Option<bool> {
        let info = self.destroyed.filter(|(_, report)| report.flow.is_complete())?.1.info?;
        Some(info.bytes_acked > info.data_sent? + u64::from(client))
    }

    /// Whether it ended with a FIN of its own that the peer had not acknowledged. The kernel counts it as a byte.
    pub(super) fn fin_unacked(&self) -> bool {
        let from = self.close.map(|close| close.from);
        matches!(from, Some(TcpState::FinWait1 | TcpState::Closing | TcpState::LastAck))
    }

    /// Milliseconds for which something had not happened when the socket was over, of the number in its last report.
    pub(super) fn idle(&self, since: fn(&TcpInfo) -> u32) -> Option<u64> {
        let (at, report) = self.destroyed.or(self.listed)?;
        let reported = Time::from_millis(since(&report.info?).into());
        let over = self.over_at().unwrap_or(at);
        Some(reported.plus_millis(over.since(at) / 1_000_000).since(Time(at.since(over))) / 1_000_000)
    }

    /// The last report of sock_diag about it.
    pub(super) fn report(&self) -> Option<&SocketReport> {
        self.destroyed.as_ref().or(self.listed.as_ref()).map(|(_, report)| report)
    }

    /// Bytes received and not read at the end, exactly. Unknown once the kernel has cleared the socket.
    pub(super) fn unread(&self) -> Option<u32> {
        let report = self.destroyed.map(|(_, report)| report).filter(|report| report.flow.is_complete())?;
        // The kernel counts a FIN that was not read as a byte.
        Some(report.rqueue.saturating_sub(u32::from(self.fin == Some(FirstFin::Theirs))))
    }
}

/// Resets of a connection that are kept.
const MAX_RESETS: usize = 8;

/// What the packet socket saw.
#[derive(Debug, Default)]
pub(super) struct Wire {
    pub(super) first: Option<Time>,
    pub(super) count: u64,
    /// The client's SYN.
    pub(super) syn: Option<(Time, Segment)>,
    pub(super) syn_ack: Option<(Time, Segment)>,
    /// The first FIN.
    pub(super) fin: Option<(Time, Segment)>,
    pub(super) resets: Vec<(Time, Segment)>,
    pub(super) icmp: Option<(Time, IcmpReport)>,
}

impl Wire {
    pub(super) fn add(&mut self, at: Time, segment: Segment) {
        self.first.get_or_insert(at);
        self.count += 1;
        let flags = segment.flags;
        if flags.contains(TcpFlags::RST) {
            // The same packet on two interfaces is one reset.
            let copy = |(then, other): &(Time, Segment)| {
                at.since(*then) < 1_000_000
                    && Segment { hop_limit: segment.hop_limit, sent: segment.sent, ..*other } == segment
            };
            if self.resets.len() < MAX_RESETS && !self.resets.iter().any(copy) {
                self.resets.push((at, segment));
            }
        } else if flags.contains(TcpFlags::SYN | TcpFlags::ACK) {
            self.syn_ack.get_or_insert((at, segment));
        } else if flags.contains(TcpFlags::SYN) {
            self.syn.get_or_insert((at, segment));
        } else if flags.contains(TcpFlags::FIN) {
            self.fin.get_or_insert((at, segment));
        }
    }

    /// The first reset from this address.
    pub(super) fn reset_from(&self, address: std::net::SocketAddr) -> Option<&(Time, Segment)> {
        self.resets.iter().find(|(_, segment)| segment.flow.local == address)
    }
}

/// One connection: its two ends, of which one or both are sockets of this host.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) key: Flow,
    /// The socket whose flow is the key, and the one whose flow is its mirror image.
    pub(super) sides: [Option<Side>; 2],
    pub(super) wire: Wire,
    pub(super) replies: Vec<Reply>,
    /// The tracepoints of the replies.
    pub(super) lines: Vec<(Time, Trace)>,
    /// When it is looked at again.
    pub(super) due: Option<Time>,
    /// It was reported: when it ended, and whether in order.
    pub(super) reported: Option<Reported>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Reported {
    pub(super) at: Time,
    pub(super) orderly: bool,
}

impl Connection {
    pub(super) fn new(flow: Flow) -> Self {
        Self {
            key: flow.undirected(),
            sides: [None, None],
            wire: Wire::default(),
            replies: Vec::new(),
            lines: Vec::new(),
            due: None,
            reported: None,
        }
    }

    /// The place of the socket with this flow.
    pub(super) fn place(&self, flow: Flow) -> usize {
        usize::from(flow != self.key)
    }

    pub(super) fn line(&mut self, at: Time, trace: &Trace) {
        if self.lines.len() < MAX_LINES {
            self.lines.push((at, trace.clone()));
        }
    }

    /// Drops what is not needed once it is reported.
    pub(super) fn shrink(&mut self) {
        self.lines = Vec::new();
        for side in self.sides.iter_mut().flatten() {
            side.lines = Vec::new();
            side.sources.shrink_to_fit();
        }
        self.wire.resets.shrink_to_fit();
    }

    pub(super) fn sides(&self) -> impl Iterator<Item = &Side> {
        self.sides.iter().flatten()
    }

    /// Something ended: look at it once all sources had the time to report.
    pub(super) fn look_at(&mut self, at: Time) {
        // Once it is reported, it only has to be removed.
        let due = self.due.filter(|_| self.reported.is_none());
        self.due = Some(due.map_or(at, |due| due.max(at)));
    }

    /// The last sign of its end whose time is exact. Reports of destroyed sockets have the time at which they are read.
    pub(super) fn last_sign(&self) -> Option<Time> {
        let resets = self.wire.resets.iter().map(|(at, _)| *at);
        let replies = self.replies.iter().map(|reply| reply.at);
        let closes = self.sides().filter_map(|side| side.close).map(|close| close.at);
        closes.chain(replies).chain(resets).max()
    }

    /// Whether every known end is over or it was reported.
    pub(super) fn is_over(&self) -> bool {
        self.reported.is_some()
            || self.sides().next().is_some() && self.sides().all(Side::is_over)
            || self.sides().next().is_none() && (!self.replies.is_empty() || !self.wire.resets.is_empty())
    }
}
