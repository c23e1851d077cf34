//! Packets in, verdicts out.

use crate::comment;
use crate::decap::{self, Ip};
use crate::icmp::IcmpSeen;
use crate::id::connection_id;
use crate::packet::Endpoint;
use crate::pattern::{self, Context, Group, Groups};
use crate::read::RawPacket;
use crate::renumber::Renumbering;
use crate::segment::Segment;
use crate::stated::Stated;
use crate::track::{Conn, Tracker};
use crate::translate::Translations;
use crate::verdict::{self, Also, Evidence, Kind, Verdict};
use lastack_causes::{Cause, EndedBy, Severity};
use std::collections::{BTreeMap, VecDeque};

/// Different ICMP errors that are kept.
const ICMP: usize = 10_000;
/// Flows of datagrams whose stated ends are kept.
const FLOWS: usize = 10_000;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Connections that are followed at a time.
    pub live: usize,
    /// Connections that wait for their companions before they are judged.
    pub kept: usize,
    /// Keep orderly ends, too.
    pub all: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { live: 100_000, kept: 20_000, all: false }
    }
}

/// A connection with its verdict.
#[derive(Debug)]
pub struct Explained {
    /// The observed value.
    pub conn: Box<Conn>,
    /// Its meaning.
    pub verdict: Verdict,
}

impl Explained {
    /// The connection's identifier, which does not depend on the file.
    #[must_use]
    pub fn id(&self) -> String {
        connection_id(&self.conn)
    }

    /// The client's address and port.
    #[must_use]
    pub fn client(&self) -> Endpoint {
        self.conn.sides[usize::from(self.verdict.client)].at
    }

    /// The server's address and port.
    #[must_use]
    pub fn server(&self) -> Endpoint {
        self.conn.sides[1 - usize::from(self.verdict.client)].at
    }

    /// The client and the server as another capture has them, if a NAT is between.
    #[must_use]
    pub fn translated(&self) -> Option<(Endpoint, Endpoint)> {
        let (first, second) = self.conn.views.as_deref()?.translated?;
        Some(if self.verdict.client == 0 { (first, second) } else { (second, first) })
    }

    /// Replaces the cause by one that is known for certain from elsewhere. What the packets show stays as evidence.
    pub fn decide(&mut self, known: Known) {
        let verdict = &mut self.verdict;
        let same = verdict.cause == known.cause;
        verdict.cause = known.cause;
        verdict.severity = known.severity;
        (verdict.confidence, verdict.ended_by_confidence) = (0.99, 0.99);
        verdict.ended_by = known.ended_by;
        verdict.alternatives.clear();
        if !same {
            (verdict.evidence, verdict.device, verdict.advice) = (Vec::new(), None, None);
        }
        verdict.also.retain(|also| also.cause != known.cause);
        if let Some(cause) = known.also {
            verdict.also.push(Also { cause, frames: Vec::new() });
        }
        verdict.evidence.insert(
            0,
            Evidence {
                kind: Kind::Kernel,
                frame: None,
                value: known.source.into(),
                expected: None,
                speaks_for: Some(known.cause),
                against: None,
                text: known.text,
            },
        );
    }

    /// Whether a list of ends omits it, except with `--all`.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let Verdict { cause, severity, .. } = &self.verdict;
        *cause == Cause::Orderly && *severity == Severity::Benign && self.conn.resets.is_empty()
    }
}

/// A cause that is known for certain: the relay between the ends, or the kernel of one of them, has decided it.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// The cause.
    pub cause: Cause,
    /// How much it matters.
    pub severity: Severity,
    /// Who ended it.
    pub ended_by: EndedBy,
    /// The mechanism.
    pub also: Option<Cause>,
    /// Its source.
    pub source: &'static str,
    /// The fact, as a sentence.
    pub text: String,
}

/// ICMP errors of one kind about one flow that is no TCP connection of the capture.
#[derive(Clone, Debug)]
pub struct IcmpError {
    /// The first one.
    pub seen: IcmpSeen,
    /// How many there are.
    pub count: u64,
    /// The last one's time.
    pub last: i64,
    /// It quotes a TCP segment that belongs to nothing here.
    pub unmatched: bool,
    /// How the flow ended, as `lastack run` has stated.
    pub stated: Option<Known>,
}

/// A flow of datagrams without an ICMP error, whose end `lastack run` has stated.
#[derive(Clone, Debug)]
pub struct Flow {
    /// The end that sent first.
    pub client: Endpoint,
    /// The other end.
    pub server: Endpoint,
    /// When the end was stated, in nanoseconds since 1970.
    pub time: i64,
    /// How it ended.
    pub stated: Known,
}

/// Sums over the whole input.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Packets.
    pub packets: u64,
    /// Packets that hold a TCP segment.
    pub tcp: u64,
    /// Connections.
    pub connections: u64,
    /// Connections by cause.
    pub causes: BTreeMap<Cause, u64>,
    /// Connections by severity.
    pub severities: BTreeMap<Severity, u64>,
    /// RST segments.
    pub rst_frames: u64,
    /// RST segments that stand in verdicts.
    pub rst_explained: u64,
    /// Connections that had to be dropped before their end.
    pub evicted: u64,
    /// Packets that could not be read as IP.
    pub unread_packets: u64,
    /// Bytes of packets that were not captured.
    pub cut_bytes: u64,
    /// Packets of link types that are not known.
    pub unknown_links: BTreeMap<u16, u64>,
    /// Packets whose time is before that of the packet before.
    pub backwards: u64,
    /// Connections that ended badly and are not listed because a baseline has them; the caller counts them.
    pub known: u64,
}

/// Follows connections and judges those that are over.
pub struct Explainer {
    options: Options,
    tracker: Tracker,
    translations: Translations,
    renumbering: Renumbering,
    context: Context,
    #[allow(clippy::vec_box, reason = "connections are large, and move from list to list")]
    waiting: Vec<Box<Conn>>,
    /// Connections that are judged when their verdicts are taken; `context` has the marks of these.
    judging: std::vec::IntoIter<Box<Conn>>,
    /// Verdicts of an earlier batch that were not taken.
    ready: VecDeque<Explained>,
    groups: Groups,
    icmp: BTreeMap<(Endpoint, Endpoint, u8, u8, u8), IcmpError>,
    flows: BTreeMap<(Endpoint, Endpoint), Flow>,
    summary: Summary,
    last_time: i64,
}

impl Explainer {
    /// Begins.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            tracker: Tracker::new(options.live),
            translations: Translations::default(),
            renumbering: Renumbering::default(),
            context: Context::default(),
            waiting: Vec::new(),
            judging: Vec::new().into_iter(),
            ready: VecDeque::new(),
            groups: Groups::default(),
            icmp: BTreeMap::new(),
            flows: BTreeMap::new(),
            summary: Summary::default(),
            last_time: i64::MIN,
        }
    }

    /// Takes the next packet.
    pub fn packet(&mut self, packet: &RawPacket<'_>) {
        self.summary.packets += 1;
        self.summary.cut_bytes += u64::from(packet.length.saturating_sub(packet.data.len() as u32));
        self.note_time(packet.time);
        let Some(ip) = decap::dissect(packet.link, packet.data, packet.length, packet.interface) else {
            self.summary.unread_packets += 1;
            if !decap::is_known(packet.link) {
                *self.summary.unknown_links.entry(packet.link).or_default() += 1;
            }
            return;
        };
        self.ip(&ip, packet);
        if let Some(comment) = packet.comment {
            self.comment(&ip, packet, comment);
        }
    }

    /// Records what the stack that wrote the capture states about a packet.
    fn comment(&mut self, ip: &Ip<'_>, packet: &RawPacket<'_>, text: &str) {
        let ends = if ip.protocol == TCP {
            Segment::read(ip, packet.time, packet.frame).map(|segment| (segment.src, segment.dst))
        } else {
            IcmpSeen::read(ip, packet.time, packet.frame).map(|icmp| (icmp.quoted.dst, icmp.quoted.src))
        };
        let conn = ends.and_then(|(from, to)| Some((self.tracker.between(from, to)?, to)));
        if let Some((conn, to)) = conn {
            comment::note(&mut conn.comments, text, packet.frame, to);
        }
    }

    /// Takes the end of a connection that the relay between the ends has stated, after the packets before it.
    pub fn state(&mut self, stated: &Stated) {
        let (client, server) = (Endpoint::from(stated.client), Endpoint::from(stated.server));
        if stated.udp {
            let of_flow = (client, server, UDP, 0, 0)..=(client, server, UDP, u8::MAX, u8::MAX);
            let mut has_error = false;
            for (_, error) in self.icmp.range_mut(of_flow) {
                error.stated = Some(stated.known.clone());
                has_error = true;
            }
            let is_listed = self.options.all || stated.known.severity != Severity::Benign;
            if !has_error && is_listed && self.flows.len() < FLOWS {
                let flow = Flow { client, server, time: stated.time, stated: stated.known.clone() };
                self.flows.insert((client, server), flow);
            }
        } else if let Some(conn) = self.tracker.between(client, server)
            && conn.first.0 <= stated.time
        {
            comment::state(&mut conn.comments, &stated.known, client);
        }
    }

    fn note_time(&mut self, time: i64) {
        if self.last_time == i64::MIN {
            (self.context.start, self.context.end) = (time, time);
        }
        self.summary.backwards += u64::from(time < self.last_time);
        self.last_time = time;
        self.context.end = self.context.end.max(time);
        self.context.start = self.context.start.min(time);
    }

    /// Takes an IP packet.
    fn ip(&mut self, ip: &Ip<'_>, packet: &RawPacket<'_>) {
        if ip.protocol == TCP {
            let Some(mut segment) = Segment::read(ip, packet.time, packet.frame) else {
                self.summary.unread_packets += 1;
                return;
            };
            // The receiver drops it: its ports, or its addresses, are not those of a connection.
            let is_damaged = packet.comment.is_some_and(comment::is_damaged);
            if is_damaged
                && segment.has_bad_checksum() != Some(false)
                && !self.tracker.follows(segment.src, segment.dst)
            {
                self.summary.tcp += 1;
                return;
            }
            if packet.vantage > 0 {
                segment.pkt.vantage = packet.vantage;
                self.translate(&mut segment);
            }
            self.segment(&segment);
        } else if let Some(icmp) = IcmpSeen::read(ip, packet.time, packet.frame) {
            self.icmp(icmp);
        }
    }

    /// Gives a segment the ends and the numbers under which another capture has its connection.
    fn translate(&mut self, segment: &mut Segment<'_>) {
        let own = (segment.src, segment.dst);
        let found = if let Some(other) = self.renumbering.ends_elsewhere(segment) {
            self.translations.learn(segment.pkt.vantage, own, other);
            Some(other)
        } else {
            let is_followed = self.tracker.follows(own.0, own.1);
            self.translations.find(segment, is_followed)
        };
        if let Some((src, dst)) = found {
            (segment.src, segment.dst) = (src, dst);
        }
        let renumbered = self.renumbering.apply(segment);
        if (found.is_some() || renumbered)
            && let Some(conn) = self.tracker.between(segment.src, segment.dst)
        {
            if found.is_some() {
                let ends = if conn.sides[0].at == segment.src { own } else { (own.1, own.0) };
                conn.is_translated(ends, &segment.pkt);
            }
            if renumbered {
                conn.is_renumbered();
            }
        }
    }

    /// Takes a TCP segment that was found by other means.
    pub fn segment(&mut self, segment: &Segment<'_>) {
        self.summary.tcp += 1;
        self.summary.rst_frames += u64::from(segment.pkt.is_rst());
        self.tracker.segment(segment);
        if self.tracker.has_finished() {
            self.collect();
        }
    }

    fn icmp(&mut self, icmp: IcmpSeen) {
        let quoted = icmp.quoted;
        if quoted.protocol == TCP
            && let Some(conn) = self.tracker.between(quoted.src, quoted.dst)
        {
            if conn.icmp.len() < 16 {
                conn.icmp.push(icmp);
            }
            return;
        }
        let key = (quoted.src, quoted.dst, quoted.protocol, icmp.kind, icmp.code);
        if let Some(known) = self.icmp.get_mut(&key) {
            known.count += 1;
            known.last = icmp.time;
        } else if self.icmp.len() < ICMP {
            let unmatched = quoted.protocol == TCP;
            self.icmp
                .insert(key, IcmpError { seen: icmp, count: 1, last: icmp.time, unmatched, stated: None });
        }
    }

    /// Takes over the connections that the tracker has finished.
    fn collect(&mut self) {
        for conn in self.tracker.finished() {
            self.context.observe(&conn);
            let plain = conn.resets.is_empty()
                && conn.icmp.is_empty()
                && conn.comments.is_empty()
                && conn.former_answer.is_none()
                && conn.sides.iter().all(|side| side.payloads.conflict.is_none())
                && conn.is_orderly()
                && conn.cut_answer().is_none();
            if plain && !self.options.all {
                *self.summary.causes.entry(Cause::Orderly).or_default() += 1;
                *self.summary.severities.entry(Severity::Benign).or_default() += 1;
            } else {
                self.waiting.push(conn);
            }
        }
        if self.waiting.len() >= self.options.kept {
            self.judge();
        }
    }

    /// Makes all waiting connections ready for a verdict, with what they show about each other.
    fn judge(&mut self) {
        while let Some(conn) = self.judging.next() {
            let explained = self.explain(conn);
            self.ready.push_back(explained);
        }
        let mut conns = std::mem::take(&mut self.waiting);
        conns.sort_by_key(|conn| conn.ordinal);
        let marks = pattern::mark(&conns, &self.context);
        self.context.set_marks(marks);
        self.judging = conns.into_iter();
    }

    fn explain(&mut self, conn: Box<Conn>) -> Explained {
        let verdict = verdict::judge(&conn, &self.context);
        let mut explained = Explained { conn, verdict };
        comment::decide(&mut explained);
        let verdict = &explained.verdict;
        *self.summary.causes.entry(verdict.cause).or_default() += 1;
        *self.summary.severities.entry(verdict.severity).or_default() += 1;
        self.summary.rst_explained += explained.conn.resets.len() as u64;
        if !explained.is_plain() && explained.verdict.cause != Cause::Open {
            let ended = explained.conn.last.0;
            self.groups.add(explained.server(), ended, || explained.id(), &explained.verdict);
        }
        explained
    }

    /// Judges the connections that are over by now, without waiting for companions: for a live view.
    pub fn judge_finished(&mut self) {
        self.judge();
    }

    /// Judges the connection between two ends as far as it was seen, and removes it: for a live view that knows by
    /// other means that it has ended. `initial`: a sequence number with which it began, if known, to distinguish it from a later one
    /// of the same ends. `None` if it is not followed.
    pub fn take(&mut self, a: Endpoint, b: Endpoint, initial: Option<u32>) -> Option<Explained> {
        let conn = self.tracker.take(a, b, initial)?;
        self.context.observe(&conn);
        let verdict = verdict::judge(&conn, &self.context);
        Some(Explained { conn, verdict })
    }

    /// Takes the verdicts that are ready. Without a call of [`Explainer::finish`] or [`Explainer::judge_finished`] there
    /// are some only when very many connections are over. The summary and the groups count a connection when its verdict
    /// is taken.
    pub fn ready(&mut self) -> impl Iterator<Item = Explained> + '_ {
        std::iter::from_fn(|| {
            self.ready.pop_front().or_else(|| self.judging.next().map(|conn| self.explain(conn)))
        })
    }

    /// Whether verdicts are ready.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty() || self.judging.len() > 0
    }

    /// The input has ended: all connections are judged.
    pub fn finish(&mut self) {
        self.tracker.finish();
        self.collect();
        self.judge();
        self.summary.connections = self.tracker.seen();
        self.summary.evicted = self.tracker.evicted();
    }

    /// The groups of ends.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        self.groups.finish(&self.context)
    }

    /// The groups of these ends, for verdicts that were replaced ([`Explained::decide`]).
    #[must_use]
    pub fn groups_of(&self, explained: &[Explained]) -> Vec<Group> {
        let mut groups = Groups::default();
        for one in explained.iter().filter(|one| !one.is_plain() && one.verdict.cause != Cause::Open) {
            groups.add(one.server(), one.conn.last.0, || one.id(), &one.verdict);
        }
        groups.finish(&self.context)
    }

    /// ICMP errors that belong to no TCP connection.
    pub fn icmp_errors(&self) -> impl Iterator<Item = &IcmpError> {
        self.icmp.values()
    }

    /// Flows of datagrams without an ICMP error, whose ends are stated: with [`Options::all`] the benign ones, too.
    pub fn flows(&self) -> impl Iterator<Item = &Flow> {
        self.flows.values()
    }

    /// The sums.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Facts from several connections.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }
}
