//! One connection as input of the rules: by roles, with what the rest of the capture shows.

use super::types::{Also, Alternative, Device, Evidence, Kind, Lost, Role, Verdict};
use crate::packet::{End, Frame, Pkt, ahead};
use crate::pattern::{Context, Marks};
use crate::protocol::is_farewell;
use crate::track::{Conn, Reset, Shape, Side};
use lastack_causes::{Cause, EndedBy};
use lastack_wire::TcpFlags;

/// A millisecond, in nanoseconds.
pub(crate) const MS: i64 = 1_000_000;
/// A second, in nanoseconds.
pub(crate) const SECOND: i64 = 1_000_000_000;

/// A connection under judgement.
pub(crate) struct Case<'a> {
    pub conn: &'a Conn,
    pub context: &'a Context,
    pub marks: Marks,
    pub client: usize,
    pub roles_known: bool,
}

impl<'a> Case<'a> {
    pub fn new(conn: &'a Conn, context: &'a Context) -> Self {
        let marks = context.marks(conn.ordinal);
        let (client, roles_known) = match conn.client {
            Some(client) => (usize::from(client), true),
            None => (guess_client(conn, context), false),
        };
        Self { conn, context, marks, client, roles_known }
    }

    pub fn server(&self) -> usize {
        1 - self.client
    }

    /// One end, as it stood when the reset came that ended the connection, if one did.
    pub fn side(&self, index: usize) -> &'a Side {
        self.conn.at_reset.as_deref().map_or(&self.conn.sides[index], |sides| &sides[index])
    }

    pub fn end(&self, index: usize) -> End {
        if index == self.client { End::Client } else { End::Server }
    }

    pub fn by(&self, index: usize) -> EndedBy {
        match self.end(index) {
            End::Client => EndedBy::Client,
            End::Server => EndedBy::Server,
        }
    }

    pub fn is_client(&self, index: usize) -> bool {
        index == self.client
    }

    /// The first answer's delay: SYN to SYN|ACK, or SYN|ACK to ACK where that is longer.
    pub fn rtt(&self) -> Option<i64> {
        let syn = self.side(self.client).syn?;
        let answer = self.side(self.server()).syn.filter(|answer| answer.has(TcpFlags::ACK))?;
        let third = self.packets().find(|pkt| {
            usize::from(pkt.side) == self.client && pkt.time >= answer.time && !pkt.has(TcpFlags::SYN)
        });
        let there = (answer.time - syn.time).max(0);
        let back = third.map_or(0, |third| (third.time - answer.time).max(0));
        Some(there.saturating_add(back.min(SECOND)))
    }

    /// A time within which two events of this connection may cross.
    pub fn crossing(&self) -> i64 {
        self.rtt().unwrap_or(100 * MS).clamp(5 * MS, 2 * SECOND)
    }

    /// All packets that were kept, in order.
    pub fn packets(&self) -> impl Iterator<Item = &'a Pkt> + Clone {
        self.conn.kept()
    }

    /// Packets before this one, the latest first.
    pub fn before(&self, frame: Frame) -> impl Iterator<Item = &'a Pkt> {
        let kept: Vec<_> = self.packets().filter(|pkt| pkt.frame < frame).collect();
        kept.into_iter().rev()
    }

    /// Packets of `side` that are no resets, after this one.
    pub fn later(&self, side: usize, frame: Frame) -> impl Iterator<Item = &'a Pkt> {
        self.packets().filter(move |pkt| pkt.frame > frame && usize::from(pkt.side) == side && !pkt.is_rst())
    }

    /// The time without traffic before the burst in which `pkt` was sent: its repetitions, and packets close to it, count
    /// to the burst.
    pub fn quiet_before(&self, pkt: &Pkt) -> i64 {
        let mut start = pkt.time;
        for old in self.before(pkt.frame) {
            let repeats = old.side == pkt.side && old.seq == pkt.seq && old.len == pkt.len && pkt.len > 0;
            let probe = old.side == pkt.side && old.len <= 1 && ahead(old.seq, pkt.seq) == -1;
            if !repeats && !probe && !old.is_rst() {
                return (start - old.time).max(0);
            }
            start = start.min(old.time);
        }
        0
    }

    /// How the hop limit of a reset differs from the same end's other packets. `None`: it does not, or it is unknown.
    pub fn foreign_ttl(&self, reset: &Reset) -> Option<TtlGap> {
        let side = self.side(usize::from(reset.pkt.side));
        let (usual, range) = match reset.ttl_there {
            Some(range) => (range.1, range),
            None => (reset.ttl_usual.or_else(|| self.context.host_ttl(side.at.addr))?, side.ttl_range),
        };
        let stable = side.packets == 0 || range.0 == range.1;
        let seen = reset.pkt.ttl;
        // Packets for the next hop only do not show the host's usual value.
        if usual < 8 || seen < 8 {
            return None;
        }
        // Another initial value over the same number of hops is the host's own.
        if seen == usual || (hops(seen) == hops(usual) && hops(seen) > 0) {
            return None;
        }
        if side.packets > 0 && (range.0..=range.1).contains(&seen) {
            return None;
        }
        let distance = (i32::from(hops(seen)) - i32::from(hops(usual))).unsigned_abs();
        Some(TtlGap { seen, usual, distance: if stable { distance } else { distance.saturating_sub(1) } })
            .filter(|gap| gap.distance > 0)
    }

    /// Whether a reset came sooner after what it answers than its sender could: the delay, and that of the handshake.
    pub fn too_fast(&self, reset: &Reset) -> Option<(i64, i64)> {
        let asked = self.asked_at(reset)?;
        let (client, server) = (self.side(self.client).syn?, self.side(self.server()).syn?);
        let usual = if usize::from(reset.pkt.side) == self.server() {
            server.time - client.time
        } else {
            let third = self.packets().find(|pkt| {
                usize::from(pkt.side) == self.client && pkt.frame > server.frame && !pkt.has(TcpFlags::SYN)
            })?;
            third.time - server.time
        };
        let delay = reset.pkt.time - asked;
        // A retransmitted SYN would make the handshake look slow.
        let clean = self.side(self.client).syns == 1 && self.side(self.server()).syns == 1;
        let soon = clean && usual > 3 * MS && delay >= 0 && delay * 3 < usual;
        (soon && !self.acknowledged_sooner(reset, usual / 3)).then_some((delay, usual))
    }

    /// When that was captured which a reset answers: at the earliest, where several packets may be it.
    fn asked_at(&self, reset: &Reset) -> Option<i64> {
        let own = usize::from(reset.pkt.side);
        let mut data = self.packets().filter(|pkt| {
            usize::from(pkt.side) != own && pkt.frame < reset.pkt.frame && pkt.len > 0 && !pkt.is_rst()
        });
        if reset.answers {
            let trigger = reset.trigger?;
            let in_flight = |pkt: &&Pkt| pkt.ack == reset.pkt.seq && !self.side(own).has_acked(pkt.end());
            return match trigger.len {
                0 => Some(trigger.time),
                _ => Some(data.find(in_flight).map_or(trigger.time, |pkt| pkt.time)),
            };
        }
        // An abort answers nothing, but it cannot acknowledge what its sender has not received.
        let known = reset.shape == Shape::Active && reset.pkt.has(TcpFlags::ACK);
        data.find(|pkt| known && pkt.end() == reset.pkt.ack).map(|pkt| pkt.time)
    }

    /// Whether an end acknowledged data as soon as this before its reset: a proxy or a balancer completes the handshake late.
    fn acknowledged_sooner(&self, reset: &Reset, limit: i64) -> bool {
        let own = reset.pkt.side;
        let mut sent: Option<(u32, i64)> = None;
        self.packets().filter(|pkt| pkt.frame < reset.pkt.frame && !pkt.is_rst()).any(|pkt| {
            if pkt.side != own {
                if pkt.len > 0 && sent.is_none_or(|(end, _)| ahead(pkt.end(), end) > 0) {
                    sent = Some((pkt.end(), pkt.time));
                }
                return false;
            }
            sent.is_some_and(|(end, time)| pkt.ack == end && pkt.time - time < limit)
        })
    }

    /// Whether one direction was not captured although its packets must have been.
    pub fn missing_side(&self) -> Option<usize> {
        let missing = |index: usize| {
            let (there, other) = (&self.conn.sides[index], &self.conn.sides[1 - index]);
            there.packets == 0
                && other.packets > 1
                && (other.has_moved()
                    || other.syn.is_some_and(|syn| syn.has(TcpFlags::ACK)) && self.conn.established)
        };
        if missing(0) {
            Some(0)
        } else if missing(1) {
            Some(1)
        } else {
            None
        }
    }

    /// Bytes that this end said, as its packets or the other end's ACKs tell.
    pub fn said(&self, index: usize) -> u64 {
        self.side(index).bytes.max(self.side(1 - index).heard.bytes)
    }

    /// Whether this end's last request had no answer.
    pub fn is_unanswered(&self, index: usize) -> bool {
        self.conn.speaker == Some(index as u8) && !self.only_alerts(index)
    }

    /// Whether the last bytes of this end are no more than a TLS alert.
    pub fn only_alerts(&self, index: usize) -> bool {
        let side = self.side(index);
        side.run <= crate::protocol::FAREWELL
            && side.last_data.is_some_and(|pkt| pkt.tls.is_some_and(|record| is_farewell(record, pkt.len)))
    }

    /// Bytes that this end sent and the other did not acknowledge, as seen here.
    pub fn unacked(&self, index: usize) -> u64 {
        let side = self.side(index);
        match self.side(1 - index).ack {
            Some(ack) if side.started => {
                let fin = u32::from(side.fin_seq().is_some_and(|fin| ahead(side.max, fin) > 0));
                u64::try_from(ahead(side.max.wrapping_sub(fin), ack)).unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// Begins a verdict.
    pub fn verdict(&self, cause: Cause, confidence: f32, ended_by: EndedBy) -> Draft<'_> {
        Draft {
            case: self,
            verdict: Verdict {
                cause,
                confidence,
                ended_by,
                ended_by_confidence: confidence.max(0.5),
                severity: cause.severity(),
                client: self.client as u8,
                roles_known: self.roles_known,
                alternatives: Vec::new(),
                also: Vec::new(),
                evidence: Vec::new(),
                decisive: Vec::new(),
                roles: vec![Role::Echo; self.conn.resets.len()],
                declared: Vec::new(),
                idle: 0.0,
                lost: [Lost::default(); 2],
                rules: Vec::new(),
                limits: Vec::new(),
                device: None,
                advice: None,
            },
        }
    }
}

/// Two hop limits that differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TtlGap {
    pub seen: u8,
    pub usual: u8,
    /// By this number of hops.
    pub distance: u32,
}

/// Hops that a packet has made, if it began with one of the usual values.
pub(crate) fn hops(ttl: u8) -> u8 {
    match ttl {
        0..=64 => 64 - ttl,
        65..=128 => 128 - ttl,
        _ => 255 - ttl,
    }
}

/// Registered ports above 1023 on which servers usually listen, in order.
const SERVICES: &[u16] = &[
    1080, 1433, 1494, 1521, 1723, 1863, 1883, 2049, 2181, 2222, 2404, 3000, 3128, 3260, 3268, 3269, 3306,
    3389, 3690, 5000, 5060, 5061, 5190, 5222, 5269, 5432, 5601, 5672, 5900, 5985, 5986, 6379, 6443, 6667,
    6881, 8000, 8008, 8080, 8081, 8088, 8443, 8883, 8888, 9000, 9042, 9092, 9100, 9200, 9300, 9443, 11211,
    20000, 27017, 44818, 50051,
];

/// Which end is the client where no SYN shows it: known listeners, the first data, and ports.
fn guess_client(conn: &Conn, context: &Context) -> usize {
    let [a, b] = &conn.sides;
    // Replies to a SYN are the server's.
    let answers_syn = |reset: &&Reset| reset.pkt.has(TcpFlags::ACK) && reset.pkt.seq == 0;
    if conn.packets == conn.resets.len() as u64
        && let Some(reset) = conn.resets.iter().find(answers_syn)
    {
        return 1 - usize::from(reset.pkt.side);
    }
    match (context.listens(a.at), context.listens(b.at)) {
        (true, false) => return 1,
        (false, true) => return 0,
        _ => {}
    }
    use crate::protocol::Protocol;
    let asks = |side: &Side| {
        matches!(side.protocol, Some(Protocol::HttpRequest | Protocol::Http2 | Protocol::Proxy))
    };
    let serves = |side: &Side| matches!(side.protocol, Some(Protocol::HttpResponse));
    if asks(a) || serves(b) {
        return 0;
    }
    if asks(b) || serves(a) {
        return 1;
    }
    let well_known = |port: u16| port > 0 && port < 1024;
    let of_service = |port: u16| SERVICES.binary_search(&port).is_ok();
    for known in [&well_known as &dyn Fn(u16) -> bool, &of_service] {
        match (known(a.at.port), known(b.at.port)) {
            (true, false) => return 1,
            (false, true) => return 0,
            _ => {}
        }
    }
    usize::from(a.at.port < b.at.port)
}

impl Side {
    /// Whether what it acknowledges, or sends, advances: the other end answers, seen or not.
    fn has_moved(&self) -> bool {
        let repeats = self.stuck.sends >= 3 || self.fins >= 2;
        self.heard.last.is_some() || !repeats && (self.bytes > 0 || self.syn.is_none() && self.packets > 1)
    }
}

/// A verdict while it is made.
pub(crate) struct Draft<'a> {
    case: &'a Case<'a>,
    pub verdict: Verdict,
}

impl Draft<'_> {
    pub fn alternative(mut self, cause: Cause, confidence: f32) -> Self {
        self.verdict.alternatives.push(Alternative { cause, confidence, settle: "" });
        self
    }

    pub fn also(mut self, cause: Cause, frames: &[Frame]) -> Self {
        if !self.verdict.also.iter().any(|also| also.cause == cause) && cause != self.verdict.cause {
            self.verdict.also.push(Also { cause, frames: frames.to_vec() });
        }
        self
    }

    pub fn also_if(self, when: bool, cause: Cause, frames: &[Frame]) -> Self {
        if when { self.also(cause, frames) } else { self }
    }

    pub fn evidence(
        mut self,
        kind: Kind,
        frame: Option<Frame>,
        value: impl Into<String>,
        text: impl Into<String>,
    ) -> Self {
        let cause = self.verdict.cause;
        self.verdict.evidence.push(Evidence {
            kind,
            frame,
            value: value.into(),
            expected: None,
            speaks_for: Some(cause),
            against: None,
            text: text.into(),
        });
        self
    }

    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        if let Some(last) = self.verdict.evidence.last_mut() {
            last.expected = Some(expected.into());
        }
        self
    }

    /// The cause that the last evidence contradicts.
    pub fn against(mut self, cause: Cause) -> Self {
        if let Some(last) = self.verdict.evidence.last_mut() {
            last.against = Some(cause);
        }
        self
    }

    pub fn decisive(mut self, frame: Frame) -> Self {
        if !self.verdict.decisive.contains(&frame) {
            self.verdict.decisive.push(frame);
        }
        self
    }

    pub fn rule(mut self, rule: &'static str) -> Self {
        if !self.verdict.rules.contains(&rule) {
            self.verdict.rules.push(rule);
        }
        self
    }

    pub fn by_confidence(mut self, confidence: f32) -> Self {
        self.verdict.ended_by_confidence = confidence;
        self
    }

    pub fn severity(mut self, severity: lastack_causes::Severity) -> Self {
        self.verdict.severity = severity;
        self
    }

    /// The hop limit of a reset is not that of the end whose address it has: a device made it.
    pub fn foreign(self, reset: &Reset, gap: TtlGap, against: Cause) -> Self {
        let name = self.case.end(usize::from(reset.pkt.side)).name();
        let text = format!("the reset's TTL is {}, the {name}'s other packets have {}", gap.seen, gap.usual);
        self.evidence(Kind::Ttl, Some(reset.pkt.frame), gap.seen.to_string(), text)
            .expected(gap.usual.to_string())
            .against(against)
            .device(gap.seen)
    }

    pub fn device(mut self, ttl: u8) -> Self {
        let hops = hops(ttl);
        self.verdict.device = Some(Device { ttl: Some(ttl), hops: Some(hops), address: None });
        self
    }

    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.verdict.advice = Some(advice.into());
        self
    }

    pub fn done(self) -> Verdict {
        self.verdict
    }

    /// Notes the idle time in nanoseconds, and a timer that fits it.
    pub fn idle(mut self, idle: i64, frame: Frame) -> Self {
        self.verdict.idle = seconds(idle);
        if idle < SECOND {
            return self;
        }
        let text = match crate::timers::fitting(seconds(idle)) {
            Some(timer) => {
                format!(
                    "{} without traffic before; that fits {} ({} s)",
                    span(idle),
                    timer.whose,
                    timer.seconds
                )
            }
            None => format!("{} without traffic before", span(idle)),
        };
        self.evidence(Kind::Idle, Some(frame), format!("{:.3} s", seconds(idle)), text)
    }
}

pub(crate) fn seconds(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// A time span for people: `12 us`, `4.2 ms`, `3.10 s`, `12 min`.
pub(crate) fn span(nanoseconds: i64) -> String {
    let n = nanoseconds.max(0);
    match n {
        0..1_000_000 => format!("{} us", n / 1000),
        1_000_000..1_000_000_000 => format!("{:.1} ms", n as f64 / 1e6),
        1_000_000_000..600_000_000_000 => format!("{:.2} s", seconds(n)),
        600_000_000_000..36_000_000_000_000 => format!("{:.0} min", seconds(n) / 60.0),
        _ => format!("{:.1} h", seconds(n) / 3600.0),
    }
}
