//! From the observations of both ends to one verdict.

use lastack_causes::{Cause, EndedBy, Severity};
use lastack_wire::TcpFlags;

use super::connection::{Connection, FirstFin, Reported, Side};
use super::counts::{idle, unacked, unread};
use super::{AWAIT_DESTROY, FOREIGN_AFTER, Id, Join, REMEMBER, SETTLE};
use crate::ended::{Alternative, Ended, Evidence, Role, SeenIcmp, SeenReset, Wire};
use crate::event::{Flow, Source, TcpState, Time};

/// Who ended it, as a local socket sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Local,
    Remote,
    Path,
    Nobody,
    Unknown,
}

impl By {
    /// In the words of the vocabulary, if the local socket has this role.
    const fn of(self, local: Role) -> EndedBy {
        match self {
            Self::Local => local.ended_by(),
            Self::Remote => local.other().ended_by(),
            Self::Path => EndedBy::Path,
            Self::Nobody => EndedBy::Nobody,
            Self::Unknown => EndedBy::Unknown,
        }
    }

    const fn mirrored(self) -> Self {
        match self {
            Self::Local => Self::Remote,
            Self::Remote => Self::Local,
            other => other,
        }
    }
}

/// How much information one end has about the end of the connection; the higher of two decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Nothing unusual happened here.
    Orderly,
    /// The other end did something to this one.
    Affected,
    /// This host answered a segment with a reset.
    Answered,
    /// This end acted.
    Acted,
}

/// The verdict of one end.
#[derive(Clone, Debug)]
pub(super) struct Opinion {
    pub(super) rank: Rank,
    pub(super) cause: Cause,
    pub(super) confidence: f32,
    pub(super) by: By,
    pub(super) by_confidence: f32,
    pub(super) severity: Option<Severity>,
    pub(super) detail: String,
    pub(super) alternatives: Vec<Alternative>,
    pub(super) also: Vec<Cause>,
    pub(super) evidence: Vec<Evidence>,
    pub(super) rules: Vec<&'static str>,
    pub(super) limits: Vec<String>,
}

impl Opinion {
    pub(super) fn new(rank: Rank, cause: Cause, confidence: f32, by: By) -> Self {
        Self {
            rank,
            cause,
            confidence,
            by,
            by_confidence: confidence.max(0.9),
            severity: None,
            detail: String::new(),
            alternatives: Vec::new(),
            also: Vec::new(),
            evidence: Vec::new(),
            rules: Vec::new(),
            limits: Vec::new(),
        }
    }

    pub(super) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    pub(super) fn or(mut self, cause: Cause, confidence: f32, settle: &'static str) -> Self {
        self.alternatives.push(Alternative { cause, confidence, settle });
        self
    }

    pub(super) fn also(mut self, cause: Cause) -> Self {
        self.also.push(cause);
        self
    }

    pub(super) fn because(
        mut self,
        kind: &'static str,
        value: impl ToString,
        text: impl Into<String>,
    ) -> Self {
        let supports = Some(self.cause);
        self.evidence.push(Evidence {
            kind,
            frame: None,
            value: value.to_string(),
            supports,
            text: text.into(),
        });
        self
    }

    pub(super) fn rule(mut self, rule: &'static str) -> Self {
        self.rules.push(rule);
        self
    }

    pub(super) fn severity(mut self, severity: Severity) -> Self {
        self.severity = Some(severity);
        self
    }
}

impl Join {
    /// Looks at a connection that has begun to end, and reports it if enough is known.
    pub(super) fn conclude(&mut self, id: Id, now: Time) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.due.is_none_or(|due| due > now) {
            return;
        }
        connection.due = None;
        if connection.reported.is_some_and(|reported| now.since(reported.at) > REMEMBER * 1_000_000) {
            self.forget(id);
            return;
        }
        self.drop_foreign_side(id);
        self.book_reset(id);
        let broadcasts = self.has(Source::Destroyed);
        let later = self.connections.get(&id).and_then(|connection| {
            // Under load the broadcasts come late: nothing is taken for another's too early.
            let patience = if self.is_ours(connection) { AWAIT_DESTROY } else { FOREIGN_AFTER };
            wait_longer(connection, broadcasts, now, patience)
        });
        if let Some(later) = later {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.look_at(later);
                self.due.push(std::cmp::Reverse((later, id)));
            }
            return;
        }
        if self.adopt(id) {
            return;
        }
        let Some(connection) = self.connections.get(&id) else { return };
        if !has_ended(connection) {
            return;
        }
        if !self.is_ours(connection) {
            self.totals.foreign += 1;
            self.forget(id);
            return;
        }
        if let Some(reported) = connection.reported {
            self.amend(id, reported, now);
            self.forget_later(id, reported.at);
            return;
        }
        self.report(id, now, false);
    }

    /// A connection that was reported as ended cleanly, and after which a segment was answered with a reset.
    fn amend(&mut self, id: Id, reported: Reported, now: Time) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let later = connection.replies.iter().any(|reply| reply.at > reported.at);
        if reported.orderly && later {
            self.report(id, now, true);
        }
    }

    fn report(&mut self, id: Id, now: Time, amends: bool) {
        self.judge_packets(id);
        let Some(mut connection) = self.connections.remove(&id) else { return };
        let opinion = self.opinion(&connection);
        if let Some((side, opinion)) = opinion {
            let orderly = opinion.cause == Cause::Orderly;
            let ended = self.ended(&connection, side, opinion, amends);
            self.count(&ended, amends);
            self.ready.push_back(ended);
            connection.reported = Some(Reported { at: now, orderly });
            connection.shrink();
        }
        self.connections.insert(id, connection);
        self.forget_later(id, now);
    }

    /// A reported connection is kept for what may come after its end.
    fn forget_later(&mut self, id: Id, reported: Time) {
        let at = reported.plus_millis(REMEMBER + 1);
        if let Some(connection) =
            self.connections.get_mut(&id).filter(|connection| connection.reported.is_some())
        {
            connection.due = Some(at);
            self.due.push(std::cmp::Reverse((at, id)));
        }
    }

    fn count(&mut self, ended: &Ended, amends: bool) {
        if amends {
            if let Some(count) = self.totals.causes.get_mut(&Cause::Orderly) {
                *count -= 1;
            }
            if let Some(count) = self.totals.severities.get_mut(&Severity::Benign) {
                *count -= 1;
            }
        } else {
            self.totals.ended += 1;
        }
        self.totals.resets_seen += ended.resets.len() as u64;
        *self.totals.causes.entry(ended.cause).or_default() += 1;
        *self.totals.severities.entry(ended.severity).or_default() += 1;
    }

    /// A socket whose addresses the kernel had cleared may be the other end of a connection that is known.
    fn adopt(&mut self, id: Id) -> bool {
        let Some(connection) = self.connections.get(&id) else { return false };
        if connection.key.is_complete() || connection.reported.is_some() {
            return false;
        }
        let Some(stranger) = connection.sides().next() else { return false };
        let port = stranger.flow.local.port();
        let Some((ended, remote)) = stranger.over_at().map(|at| (at, stranger.flow.remote.ip())) else {
            return false;
        };
        let near =
            |at: Option<Time>| at.is_some_and(|at| at.since(ended).max(ended.since(at)) < 1_000_000_000);
        let fits = |side: &Side| {
            side.flow.remote.port() == port && side.flow.local.ip() == remote && near(side.over_at())
        };
        let found = self.connections.iter().find_map(|(&other, candidate)| {
            let side = candidate.sides().find(|side| fits(side))?;
            let empty = candidate.sides[candidate.place(side.flow.mirrored())].is_none();
            (other != id && candidate.reported.is_none() && empty).then_some((other, side.flow.mirrored()))
        });
        let Some((other, flow)) = found else { return false };
        let Some(mut connection) = self.connections.remove(&id) else { return false };
        self.by_flow.remove(&connection.key);
        let Some(mut side) = connection.sides.iter_mut().find_map(Option::take) else { return false };
        side.flow = flow;
        if let Some(cookie) = side.cookie {
            self.by_cookie.insert(cookie, flow);
        }
        if let Some(target) = self.connections.get_mut(&other) {
            let place = target.place(flow);
            target.sides[place] = Some(side);
        }
        true
    }

    /// The peer may be a socket of another network namespace of this machine. Tracepoints show that, but to us it is
    /// a remote peer: that the addresses are the same proves nothing.
    fn drop_foreign_side(&mut self, id: Id) {
        let Some(connection) = self.connections.get(&id) else { return };
        let ours = connection
            .sides
            .each_ref()
            .map(|side| side.as_ref().is_some_and(|side| self.is_our_side(connection, side)));
        let answered = connection.replies.iter().any(|reply| self.is_local(reply.flow.local.ip()));
        if !(ours[0] || ours[1] || answered || connection.wire.count > 0) {
            return;
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        for (side, ours) in connection.sides.iter_mut().zip(ours) {
            if !ours && side.take().is_some() {
                self.totals.foreign += 1;
            }
        }
    }

    fn is_our_side(&self, connection: &Connection, side: &Side) -> bool {
        // The end of a socket of this namespace would have been reported, too.
        let reported = self.has(Source::Destroyed) && !self.totals.lost.contains_key(&Source::Destroyed);
        if reported && side.sk == u64::MAX && !self.has_cookie(side) {
            return false;
        }
        let ip = side.flow.local.ip();
        let by_address = if ip.is_loopback() { connection.wire.count > 0 } else { self.local.contains(&ip) };
        self.has_cookie(side) || by_address
    }

    /// Whether the connection belongs to the network namespace that is watched.
    fn is_ours(&self, connection: &Connection) -> bool {
        let in_namespace = |source: &Source| !matches!(source, Source::Tracepoints | Source::Processes);
        let seen = connection.wire.count > 0
            || connection.sides().any(|side| side.sources.iter().any(in_namespace) || self.has_cookie(side));
        if seen {
            return true;
        }
        // Sources that would have seen it are there, and have lost nothing.
        let reliable = |source: Source| self.has(source) && !self.totals.lost.contains_key(&source);
        let expected =
            connection.sides().next().is_some() && reliable(Source::Destroyed) || reliable(Source::Packets);
        !expected && connection.replies.iter().all(|reply| self.is_local(reply.flow.local.ip()))
    }

    pub(super) fn has_cookie(&self, side: &Side) -> bool {
        side.listed.is_some() || side.destroyed.is_some()
    }

    /// The end with the most information, and its verdict.
    fn opinion(&mut self, connection: &Connection) -> Option<(Flow, Opinion)> {
        let mut opinions: Vec<(Option<Time>, Flow, Opinion)> = Vec::new();
        let mut sides: Vec<&Side> = connection.sides().filter(|side| side.is_over()).collect();
        // The end that shows marks of an abort of its own uses up the counters of it.
        sides.sort_by_key(|side| !side.shows_abort());
        for side in sides {
            let acted = opinions.iter().any(|(_, _, opinion)| opinion.rank == Rank::Acted);
            let opinion = if side.close.is_some() || side.active_reset.is_some() {
                self.by_kernel(connection, side)
            } else if acted {
                self.explained_by_peer(side);
                continue;
            } else {
                self.by_inference(connection, side)
            };
            opinions.push((side.over_at(), side.flow, opinion));
        }
        if let Some((at, flow, opinion)) = self.by_reply(connection) {
            opinions.push((Some(at), flow, opinion));
        }
        if opinions.is_empty() {
            opinions.extend(self.by_packets(connection).map(|(at, flow, opinion)| (Some(at), flow, opinion)));
        }
        // The highest rank; of two ends that acted, the one that did so first.
        opinions.sort_by_key(|(at, _, opinion)| (std::cmp::Reverse(opinion.rank), *at));
        let (_, flow, opinion) = opinions.into_iter().next()?;
        let mut opinion = self.add_signal(connection, flow, opinion);
        let sum: f32 = opinion.alternatives.iter().map(|alternative| alternative.confidence).sum();
        let room = 1.0 - opinion.confidence;
        if sum > room && sum > 0.0 {
            for alternative in &mut opinion.alternatives {
                alternative.confidence *= room / sum;
            }
        }
        Some((flow, opinion))
    }

    fn ended(&mut self, connection: &Connection, flow: Flow, mut opinion: Opinion, amends: bool) -> Ended {
        let mut flow = flow;
        if connection.sides[connection.place(flow)].is_none() && connection.sides().next().is_some() {
            // Seen from the socket that exists: the other end is only an answer of this host.
            flow = flow.mirrored();
            opinion.by = opinion.by.mirrored();
        }
        let place = connection.place(flow);
        let (near, far) = (connection.sides[place].as_ref(), connection.sides[1 - place].as_ref());
        let (local, roles_known) = self.role(connection, flow);
        let ended = ended_at(connection);
        let opened = connection.sides().filter_map(|side| side.opened).min();
        let mut limits = opinion.limits.clone();
        // The process of the end that acted comes first.
        let (acting, other) =
            if opinion.by == By::Remote && far.is_some() { (far, near) } else { (near, far) };
        let process = acting.and_then(|side| self.owner(side, ended));
        if process.is_none() && acting.is_some() {
            limits.push(
                "the process was not seen: the socket was gone before its owner could be looked up".into(),
            );
        }
        if !flow.is_complete() {
            limits.push("the kernel had cleared a part of the addresses when the socket was seen".into());
        }
        let peer_process = other.and_then(|side| self.owner(side, ended));
        self.ordinal += 1;
        let started = connection.wire.syn.map(|(at, _)| at).into_iter().chain(opened).min();
        Ended {
            ordinal: self.ordinal,
            flow,
            local,
            both_local: near.is_some() && far.is_some(),
            roles_known,
            started,
            ended,
            bytes: Self::bytes(connection, flow, local, &opinion),
            idle: near.or(far).and_then(idle),
            cause: opinion.cause,
            confidence: opinion.confidence,
            ended_by: opinion.by.of(local),
            ended_by_confidence: opinion.by_confidence,
            severity: opinion.severity.unwrap_or_else(|| opinion.cause.severity()),
            detail: opinion.detail,
            alternatives: opinion.alternatives,
            also: opinion.also,
            evidence: opinion.evidence,
            unread: unread(near, far, local, opinion.cause),
            unacked: by_role_of(local, near.and_then(unacked), far.and_then(unacked)),
            process,
            peer_process,
            kernel: lines(connection),
            sources: sources(connection),
            packets: connection.wire.count,
            resets: resets(connection, flow, local),
            icmp: icmp(connection),
            initial: initial(connection, flow, local),
            rules: opinion.rules,
            limits,
            amends,
            wire: self.packets_of.take().map(|explained| Wire { explained, whole: self.options.all_packets }),
        }
    }

    /// The role of the local socket, and whether it is known.
    pub(super) fn role(&self, connection: &Connection, flow: Flow) -> (Role, bool) {
        let role = |client: bool| if client { Role::Client } else { Role::Server };
        let side = |flow: Flow| connection.sides[connection.place(flow)].as_ref();
        if let Some(client) = side(flow).and_then(|side| side.client) {
            return (role(client), true);
        }
        if let Some(client) = side(flow.mirrored()).and_then(|side| side.client) {
            return (role(!client), true);
        }
        if let Some((_, syn)) = connection.wire.syn {
            return (role(syn.flow == flow), true);
        }
        if let Some((_, syn_ack)) = connection.wire.syn_ack {
            return (role(syn_ack.flow != flow), true);
        }
        if side(flow)
            .is_some_and(|side| side.listed.is_some_and(|(_, report)| report.state == TcpState::SynSent))
        {
            return (Role::Client, true);
        }
        if self.listeners.contains_key(&flow.local.port()) {
            return (Role::Server, true);
        }
        if self.listeners.contains_key(&flow.remote.port()) && self.is_local(flow.remote.ip()) {
            return (Role::Client, true);
        }
        (role(flow.local.port() > flow.remote.port() || flow.remote.port() == 0), false)
    }
}

fn ended_at(connection: &Connection) -> Time {
    let socket = connection.sides().filter_map(Side::over_at).min();
    let reply = connection.replies.first().map(|reply| reply.at);
    let reset = connection.wire.resets.first().map(|(at, _)| *at);
    socket.or(reply).or(reset).unwrap_or_default()
}

pub(super) fn by_role_of<T>(local: Role, near: T, far: T) -> [T; 2] {
    match local {
        Role::Client => [near, far],
        Role::Server => [far, near],
    }
}

/// Whether an end of it has ended in a way that ends the connection: a socket that sent its FIN and was left to the
/// kernel may still have a peer on this host that sends.
fn has_ended(connection: &Connection) -> bool {
    let mut sides = connection.sides();
    let answered = !connection.replies.is_empty();
    let abnormal = connection.sides().any(|side| side.is_over() && side.is_abnormal());
    let all_over = connection.sides().next().is_some() && sides.all(Side::is_over);
    let seen_only = connection.sides().next().is_none() && !connection.wire.resets.is_empty();
    answered && connection.sides().all(Side::is_over) || abnormal || all_over || seen_only
}

/// A socket that the network closed is destroyed when its program closes it, and then its counts are known; and the other
/// end on this host may have more information. Until when to wait, if that helps.
fn wait_longer(connection: &Connection, broadcasts: bool, now: Time, patience: u64) -> Option<Time> {
    if connection.reported.is_some() || !broadcasts {
        return None;
    }
    let waiting = connection.sides().filter(|side| side.destroyed.is_none() && side.is_over());
    let until = waiting.filter_map(Side::over_at).map(|at| at.plus_millis(patience)).max()?;
    (until > now).then(|| until.min(now.plus_millis(SETTLE)))
}

fn lines(connection: &Connection) -> Vec<String> {
    let mut lines: Vec<_> =
        connection.sides().flat_map(|side| &side.lines).chain(&connection.lines).collect();
    lines.sort_by_key(|(at, _)| *at);
    lines.into_iter().map(|(_, trace)| trace.to_string()).collect()
}

fn sources(connection: &Connection) -> Vec<Source> {
    let mut sources: Vec<Source> = connection.sides().flat_map(|side| side.sources.iter().copied()).collect();
    if connection.wire.count > 0 {
        sources.push(Source::Packets);
    }
    if !connection.lines.is_empty() {
        sources.push(Source::Tracepoints);
    }
    sources.sort_unstable();
    sources.dedup();
    sources
}

fn resets(connection: &Connection, flow: Flow, local: Role) -> Vec<SeenReset> {
    let accepted = |segment: &crate::event::Segment| {
        let receiver = connection.sides[connection.place(segment.flow.mirrored())].as_ref()?;
        receiver.close.map(|_| receiver.received_reset.is_some())
    };
    let seen = connection.wire.resets.iter().enumerate();
    seen.map(|(n, &(at, segment))| SeenReset {
        at,
        from: if segment.flow == flow { local } else { local.other() },
        active: segment.flags.contains(TcpFlags::ACK) && segment.seq != 0,
        accepted: accepted(&segment),
        decision: n == 0,
        segment,
    })
    .collect()
}

fn icmp(connection: &Connection) -> Option<SeenIcmp> {
    let (_, report) = connection.wire.icmp?;
    Some(SeenIcmp {
        from: report.from,
        version: if report.error.v6 { 6 } else { 4 },
        kind: report.error.kind,
        code: report.error.code,
        text: report.error.describe(),
    })
}

fn initial(connection: &Connection, flow: Flow, local: Role) -> [Option<u32>; 2] {
    let number = |segment: Option<(Time, crate::event::Segment)>| segment.map(|(_, segment)| segment);
    let mut numbers = [None, None];
    for segment in [number(connection.wire.syn), number(connection.wire.syn_ack)].into_iter().flatten() {
        let from = if segment.flow == flow { local } else { local.other() };
        numbers[usize::from(from == Role::Server)] = Some(segment.seq);
    }
    numbers
}

/// Who sent the first FIN of the connection, as this socket sees it.
pub(super) fn first_fin(connection: &Connection, side: &Side) -> Option<FirstFin> {
    let other = connection.sides[1 - connection.place(side.flow)].as_ref();
    let by_other = other.and_then(|other| other.fin).map(|fin| match fin {
        FirstFin::Ours => FirstFin::Theirs,
        FirstFin::Theirs => FirstFin::Ours,
    });
    let by_packet = connection
        .wire
        .fin
        .map(|(_, fin)| if fin.flow == side.flow { FirstFin::Ours } else { FirstFin::Theirs });
    side.fin.or(by_other).or(by_packet)
}
