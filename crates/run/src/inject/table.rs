//! The connections with packet faults, and the decision on each packet, which the link carries out.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lastack::link::{Course, Damage, Direction as LinkDirection, Passage, Plan};
use lastack_engine::Instant;
use lastack_wire::{IpPacket, TcpFlags, TcpHeader, UdpHeader, ip};
use tokio::sync::Notify;

use super::replies::Replies;
use super::rule::{FaultRule, Kind, Seq};
use super::select::Direction;
use crate::report::Proto;

/// A connection or a flow of datagrams of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The protocol.
    pub proto: Proto,
    /// The program's end.
    pub local: SocketAddr,
    /// The other end, under the program's address for it.
    pub remote: SocketAddr,
}

/// All connections with packet faults.
#[derive(Debug)]
pub(super) struct Table {
    rules: Arc<[FaultRule]>,
    seed: u64,
    flows: HashMap<Flow, State>,
    /// The number of times each rule acted.
    pub acts: Vec<u64>,
    entered: u64,
}

/// The state of one of them.
#[derive(Debug, Default)]
struct State {
    faults: Vec<Fault>,
    up: Passed,
    down: Passed,
    /// The remote has lost its state.
    forgotten: Option<Forgotten>,
    acted: BTreeSet<usize>,
    /// Datagrams of the program that were lost.
    swallowed: u64,
    /// Datagrams to the program that were lost or damaged.
    lost: u64,
    /// Replies to pings of which there are copies.
    replies: Replies,
    /// The time of the last packet, since the run began.
    last: Option<Duration>,
}

/// A remote that has lost its state: segments of the program are answered with RST (RFC 9293 section 3.10.7.1).
#[derive(Debug)]
struct Forgotten {
    /// Bytes that the remote had sent before. Until the program has acknowledged them, its segments crossed the loss on their
    /// way.
    bytes: u64,
    /// It has, or has reset the connection.
    begun: bool,
    /// It has acknowledged them.
    all: bool,
    rule: usize,
    /// The time since the run began before which no answer reaches the program.
    earliest: Duration,
    /// Notified when the program has been answered, or has reset the connection itself.
    answered: Arc<Notify>,
}

impl Forgotten {
    /// A segment from the program (`up`) or to it: whether the remote does not know its connection any more.
    fn concerns(&mut self, up: bool, tcp: &TcpHeader, begin: Option<u32>) -> bool {
        let end = begin.map(|begin| begin.wrapping_add(self.bytes as u32));
        let all = end.is_none_or(|end| tcp.ack.wrapping_sub(end) < 1 << 31);
        let reset = tcp.flags.contains(TcpFlags::RST);
        self.all |= up && !reset && all;
        self.begun |= up && (reset || all);
        if up && self.begun {
            self.answered.notify_one();
        }
        self.begun
    }
}

/// What the faults did to a connection or flow that is over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    /// The rules that acted on it.
    pub rules: BTreeSet<usize>,
    /// Datagrams of the program that were lost.
    pub swallowed: u64,
    /// Datagrams to the program that were lost or damaged.
    pub lost: u64,
    /// The time of the last packet, since the run began.
    pub last: Option<Duration>,
}

/// A packet fault.
#[derive(Debug)]
struct Fault {
    rule: usize,
    up: Course,
    down: Course,
    /// A forged reset has been sent.
    done: bool,
}

/// Bytes that have passed in one direction, by sequence numbers: retransmissions do not count.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    begin: Option<u32>,
    bytes: u64,
}

/// A packet of a flow, as far as faults need it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look<'a> {
    pub flow: Flow,
    pub tcp: Option<&'a TcpHeader>,
    pub data: usize,
    pub len: usize,
    /// The sequence number of a ping.
    pub ping: Option<u16>,
}

/// The treatment of a packet.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Treatment {
    /// It is dropped, by this rule.
    pub lost: Option<usize>,
    /// It is delivered at this time, and its copy at the second.
    pub due: Option<(Instant, Option<Instant>)>,
    /// A byte is corrupted.
    pub damage: Option<Damage>,
    /// Its FIN is removed.
    pub no_fin: bool,
    /// Its window is set to zero.
    pub no_window: bool,
    /// It is dropped, and answered with a reset, as by a host that does not know the connection.
    pub forgotten: bool,
    /// It is followed by a forged reset to the program, whose sequence number must not end the connection.
    pub forged: Option<Seq>,
    /// The rules that contributed.
    pub rules: Vec<usize>,
}

/// Parses a packet. `up`: it comes from the program. `None`: it belongs to no flow that faults support.
pub(super) fn look<'a>(packet: &[u8], up: bool, header: &'a mut TcpHeader) -> Option<Look<'a>> {
    // The first fragment of a datagram stands for all: without it, the others are dropped.
    let first = |parsed: &IpPacket<'_>| parsed.fragment.is_none_or(|fragment| fragment.offset == 0);
    let parsed = IpPacket::parse(packet).ok().filter(first)?;
    let mut ping = None;
    let (proto, src_port, dst_port, tcp, data) = match parsed.header.protocol {
        ip::TCP => {
            let data = header.read(parsed.payload).ok()?.len();
            (Proto::Tcp, header.src_port, header.dst_port, true, data)
        }
        ip::UDP => {
            let (udp, data) = UdpHeader::parse_unchecked(parsed.payload).ok()?;
            (Proto::Udp, udp.src_port, udp.dst_port, false, data.len())
        }
        ip::ICMP | ip::ICMPV6 => {
            let (ident, seq) = echo(parsed.header.protocol, up, parsed.payload)?;
            ping = Some(seq);
            let (src_port, dst_port) = if up { (ident, 0) } else { (0, ident) };
            (Proto::Udp, src_port, dst_port, false, parsed.payload.len())
        }
        _ => return None,
    };
    let (src, dst) = ((parsed.header.src, src_port).into(), (parsed.header.dst, dst_port).into());
    let (local, remote) = if up { (src, dst) } else { (dst, src) };
    let flow = Flow { proto, local, remote };
    Some(Look { flow, tcp: tcp.then_some(&*header), data, len: packet.len(), ping })
}

/// The identifier and the sequence number of an echo request of the program, or of a reply to it.
fn echo(protocol: u8, up: bool, message: &[u8]) -> Option<(u16, u16)> {
    let (&[kind, _, _, _, ident @ .., high, low], _) = message.split_first_chunk::<8>()?;
    let expected = match (protocol, up) {
        (ip::ICMP, true) => 8,
        (ip::ICMP, false) => 0,
        (_, true) => 128,
        (_, false) => 129,
    };
    (kind == expected).then(|| (u16::from_be_bytes(ident), u16::from_be_bytes([high, low])))
}

/// The packets to which the rules of a flow are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pieces {
    /// As they come, with many segments in one.
    Whole,
    /// The segments.
    Segments,
    /// Segments of the size that paths mostly have: at a low rate, one of 64 KiB would hold up the others for seconds.
    OfAPath,
}

impl Table {
    pub(super) fn new(rules: Arc<[FaultRule]>, seed: u64) -> Self {
        let acts = vec![0; rules.len()];
        Self { rules, seed, flows: HashMap::new(), acts, entered: 0 }
    }

    /// Adds a connection or flow to which these rules apply.
    pub(super) fn enter(&mut self, flow: Flow, chosen: &[usize]) {
        if chosen.is_empty() {
            return;
        }
        self.entered += 1;
        let of = |&rule: &usize| {
            let plan =
                Plan { seed: self.seed ^ (self.entered << 8) ^ rule as u64, ..plan(&self.rules[rule].kind) };
            Fault {
                rule,
                up: Course::new(plan, LinkDirection::Received),
                down: Course::new(plan, LinkDirection::Sent),
                done: false,
            }
        };
        let faults = chosen.iter().map(of).collect();
        self.flows.insert(flow, State { faults, ..State::default() });
    }

    /// Removes it.
    pub(super) fn leave(&mut self, flow: &Flow) -> Effect {
        let effect = |state: State| {
            let State { acted: rules, swallowed, lost, last, .. } = state;
            Effect { rules, swallowed, lost, last }
        };
        self.flows.remove(flow).map(effect).unwrap_or_default()
    }

    /// Its packets have other addresses.
    pub(super) fn move_to(&mut self, from: &Flow, to: Flow) {
        if let Some(state) = self.flows.remove(from) {
            self.flows.insert(to, state);
        }
    }

    /// Counts an action of a rule that does not concern packets.
    pub(super) fn acted(&mut self, rule: usize) {
        self.acts[rule] += 1;
    }

    /// Counts an action of a rule on this connection.
    pub(super) fn acted_on(&mut self, flow: &Flow, rule: usize) {
        self.acts[rule] += 1;
        if let Some(state) = self.flows.get_mut(flow) {
            state.acted.insert(rule);
        }
    }

    /// From now on the remote does not know the connection, on which it has sent this number of bytes.
    /// `earliest`: the time since the run began before which no answer reaches the program.
    pub(super) fn forget(&mut self, flow: &Flow, rule: usize, bytes: u64, earliest: Duration) {
        if let Some(state) = self.flows.get_mut(flow) {
            let answered = Arc::default();
            state.forgotten = Some(Forgotten { bytes, begun: false, all: false, rule, earliest, answered });
        }
    }

    /// What is notified when such a remote has answered the program.
    pub(super) fn answered(&self, flow: &Flow) -> Option<Arc<Notify>> {
        let forgotten = self.flows.get(flow)?.forgotten.as_ref()?;
        Some(forgotten.answered.clone())
    }

    /// Whether the program had acknowledged all that such a remote had sent.
    pub(super) fn has_all(&self, flow: &Flow) -> bool {
        self.flows.get(flow).and_then(|state| state.forgotten.as_ref()).is_some_and(|forgotten| forgotten.all)
    }

    /// The packets to which the rules are applied.
    pub(super) fn pieces(&self, flow: &Flow) -> Pieces {
        let Some(state) = self.flows.get(flow) else { return Pieces::Whole };
        let rules = || state.faults.iter().map(|fault| &self.rules[fault.rule]);
        let is_whole = |kind: &Kind| matches!(kind, Kind::CutFin | Kind::ZeroWindow | Kind::Blackhole);
        if flow.proto == Proto::Tcp && rules().any(|rule| matches!(rule.kind, Kind::Rate(_))) {
            Pieces::OfAPath
        } else if rules().any(|rule| !is_whole(&rule.kind) || rule.select.after > 0) {
            Pieces::Segments
        } else {
            Pieces::Whole
        }
    }

    /// The original text of a rule.
    pub(super) fn text(&self, rule: usize) -> &str {
        self.rules[rule].text()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Whether there are faults for the packets of this flow.
    pub(super) fn knows(&self, flow: &Flow) -> bool {
        self.flows.contains_key(flow)
    }

    /// Where a segment has to be divided: the number of its bytes that pass before a fault begins, if that is within it.
    pub(super) fn division(&self, look: &Look<'_>, up: bool) -> Option<usize> {
        let state = self.flows.get(&look.flow)?;
        let tcp = look.tcp?;
        let (way, passed, others) = match up {
            true => (Direction::Up, &state.up, &state.down),
            false => (Direction::Down, &state.down, &state.up),
        };
        let start = passed.offset(tcp)?;
        let before = |fault: &Fault| {
            let rule = &self.rules[fault.rule];
            let after = rule.select.after;
            let begun = rule.select.direction == Direction::Both && others.bytes >= after;
            let concerned = rule.is_of_packets() && rule.select.direction.includes(way) && !begun;
            let within = (start + 1..start + look.data as u64).contains(&after);
            (concerned && within && after > passed.bytes).then(|| (after - start) as usize)
        };
        state.faults.iter().filter_map(before).min()
    }

    /// The treatment of a packet. `run`: the time since the run began.
    pub(super) fn treat(&mut self, look: &Look<'_>, up: bool, now: Instant, run: Duration) -> Treatment {
        let mut treatment = Treatment::default();
        let Some(state) = self.flows.get_mut(&look.flow) else { return treatment };
        let way = if up { Direction::Up } else { Direction::Down };
        // A fault begins with the first packet after this number of bytes.
        let bytes = [state.up.bytes, state.down.bytes];
        let passed = if up { &mut state.up } else { &mut state.down };
        passed.count(look);
        state.last = Some(run);
        if let (Some(forgotten), Some(tcp)) = (&mut state.forgotten, look.tcp)
            && forgotten.concerns(up, tcp, state.down.begin)
        {
            treatment.forgotten = true;
            treatment.due = Some((now + forgotten.earliest.saturating_sub(run), None));
            treatment.rules.push(forgotten.rule);
            return treatment;
        }
        for fault in &mut state.faults {
            let rule = &self.rules[fault.rule];
            let select = &rule.select;
            let reached = match select.direction {
                Direction::Up => bytes[0],
                Direction::Down => bytes[1],
                Direction::Both => bytes[0].max(bytes[1]),
            } >= select.after;
            if rule.is_of_packets() && (!reached || !select.time(run)) {
                continue;
            }
            if fault.treat(&rule.kind, select.direction, way, look, now, &mut treatment) {
                treatment.rules.push(fault.rule);
                state.acted.insert(fault.rule);
                self.acts[fault.rule] += 1;
            }
            if treatment.lost.is_some() {
                break;
            }
        }
        let delivered = treatment.lost.is_none() && treatment.damage.is_none();
        let copied = |fault: &Fault| matches!(self.rules[fault.rule].kind, Kind::Duplicate(_));
        match look.ping.filter(|_| !up && state.faults.iter().any(copied)) {
            Some(seq) => state.lost = state.lost.saturating_add_signed(state.replies.count(seq, delivered)),
            None if look.tcp.is_some() || delivered => {}
            None if up => state.swallowed += 1,
            None => state.lost += 1,
        }
        treatment
    }
}

impl Fault {
    /// Whether the fault applies to this packet, and how.
    fn treat(
        &mut self,
        kind: &Kind,
        direction: Direction,
        way: Direction,
        look: &Look<'_>,
        now: Instant,
        treatment: &mut Treatment,
    ) -> bool {
        let flags = look.tcp.map(|tcp| tcp.flags).unwrap_or_default();
        let included = direction.includes(way);
        match kind {
            Kind::Blackhole if included => treatment.lost = Some(self.rule),
            Kind::MtuHole(size) if included && look.len > *size => treatment.lost = Some(self.rule),
            Kind::CutFin if included && flags.contains(TcpFlags::FIN) => treatment.no_fin = true,
            // The peer's window as advertised to the program.
            Kind::ZeroWindow if way == Direction::Down && direction.includes(Direction::Up) => {
                if flags.contains(TcpFlags::RST) {
                    return false;
                }
                treatment.no_window = true;
            }
            Kind::Rst { seq, .. } if *seq != Seq::Exact && way == Direction::Down && !self.done => {
                let opening = flags.intersects(TcpFlags::SYN | TcpFlags::RST);
                if opening {
                    return false;
                }
                self.done = true;
                treatment.forged = Some(*seq);
            }
            Kind::Delay(..)
            | Kind::Loss(_)
            | Kind::Reorder(_)
            | Kind::Duplicate(_)
            | Kind::Corrupt(_)
            | Kind::Rate(_)
                if included =>
            {
                return self.pass(way, look.len, now, treatment);
            }
            _ => return false,
        }
        true
    }

    /// Simulates an imperfect link.
    fn pass(&mut self, way: Direction, len: usize, now: Instant, treatment: &mut Treatment) -> bool {
        let course = if way == Direction::Up { &mut self.up } else { &mut self.down };
        let start = treatment.due.map_or(now, |(due, _)| due);
        match course.pass(start, len) {
            Passage::Arrives { due, copy, damage, held_up } => {
                let changed = due > start || copy.is_some() || damage.is_some() || held_up;
                let before = treatment.due.and_then(|(_, copy)| copy);
                treatment.due = Some((due, copy.or(before)));
                treatment.damage = damage.or(treatment.damage);
                changed
            }
            _ => {
                treatment.lost = Some(self.rule);
                true
            }
        }
    }
}

impl Passed {
    /// Where the data of a segment begins in its direction; `None`: before anything that was counted.
    fn offset(&self, tcp: &TcpHeader) -> Option<u64> {
        let Some(begin) = self.begin else { return Some(0) };
        let ahead = tcp.seq.wrapping_sub(begin).wrapping_sub(self.bytes as u32) as i32;
        self.bytes.checked_add_signed(i64::from(ahead))
    }

    fn count(&mut self, look: &Look<'_>) {
        let Some(tcp) = look.tcp else {
            self.bytes += look.data as u64;
            return;
        };
        if tcp.flags.contains(TcpFlags::SYN) {
            self.begin = Some(tcp.seq.wrapping_add(1));
            return;
        }
        // The SYN was sent before the flow was registered.
        let begin = *self.begin.get_or_insert(tcp.seq);
        let end = tcp.seq.wrapping_add(look.data as u32).wrapping_sub(begin);
        let ahead = end.wrapping_sub(self.bytes as u32);
        if ahead < 1 << 31 {
            self.bytes += u64::from(ahead);
        }
    }
}

/// The packet fault of a rule.
fn plan(kind: &Kind) -> Plan {
    let perfect = Plan::default();
    match *kind {
        Kind::Delay(delay, jitter) => Plan { delay, jitter, ..perfect },
        Kind::Loss(loss) => Plan { loss, ..perfect },
        Kind::Reorder(reorder) => Plan { reorder, ..perfect },
        Kind::Duplicate(duplicate) => Plan { duplicate, ..perfect },
        Kind::Corrupt(corrupt) => Plan { corrupt, ..perfect },
        Kind::Rate(rate) => Plan { rate: Some(rate), ..perfect },
        _ => perfect,
    }
}

#[cfg(test)]
mod tests {
    use lastack_wire::IpHeader;

    use super::*;

    const NOW: Instant = Instant::ZERO;

    fn table(rules: &[&str]) -> (Table, Flow) {
        let rules: Vec<FaultRule> = rules.iter().map(|text| text.parse().unwrap()).collect();
        let chosen: Vec<usize> = (0..rules.len()).collect();
        let mut table = Table::new(rules.into(), 1);
        let flow = Flow {
            proto: Proto::Tcp,
            local: "10.0.2.100:40000".parse().unwrap(),
            remote: "192.0.2.7:80".parse().unwrap(),
        };
        table.enter(flow, &chosen);
        (table, flow)
    }

    fn segment(seq: u32, flags: TcpFlags) -> TcpHeader {
        TcpHeader { seq, flags, ..TcpHeader::default() }
    }

    /// Treats a segment with this amount of data.
    fn treat(table: &mut Table, flow: Flow, up: bool, tcp: &TcpHeader, data: usize) -> Treatment {
        let look = Look { flow, tcp: Some(tcp), data, len: data + 40, ping: None };
        table.treat(&look, up, NOW, Duration::ZERO)
    }

    #[test]
    fn a_black_hole_opens_after_so_many_bytes() {
        let (mut table, flow) = table(&["blackhole:after=100:direction=down"]);
        let divided = |table: &Table, tcp: &TcpHeader, data: usize| {
            table.division(&Look { flow, tcp: Some(tcp), data, len: data + 40, ping: None }, false)
        };
        let first = segment(8, TcpFlags::ACK);
        assert_eq!(
            treat(&mut table, flow, false, &segment(7, TcpFlags::SYN | TcpFlags::ACK), 0),
            Treatment::default()
        );
        assert_eq!(divided(&table, &first, 100), None, "what ends there passes as it is");
        assert_eq!(treat(&mut table, flow, false, &first, 60), Treatment::default());
        // The same again is not more.
        assert_eq!(treat(&mut table, flow, false, &first, 60), Treatment::default());
        let next = segment(68, TcpFlags::ACK);
        assert_eq!(divided(&table, &next, 60), Some(40));
        assert_eq!(divided(&table, &first, 120), Some(100), "what is sent again may go further");
        assert_eq!(treat(&mut table, flow, false, &next, 40), Treatment::default());
        let rest = segment(108, TcpFlags::ACK);
        assert_eq!((divided(&table, &rest, 20), divided(&table, &next, 60)), (None, None));
        assert_eq!(treat(&mut table, flow, false, &rest, 20).lost, Some(0));
        assert_eq!(table.leave(&flow).rules, BTreeSet::from([0]));
        assert_eq!(table.acts, [1]);
    }

    #[test]
    fn datagrams_that_do_not_reach_the_program_are_counted() {
        for (rule, swallowed, lost) in [("loss=100%:direction=down", 0, 2), ("blackhole", 1, 2)] {
            let (mut table, flow) = table(&[rule]);
            let look = Look { flow, tcp: None, data: 10, len: 38, ping: None };
            for (number, up) in [true, false, false].into_iter().enumerate() {
                table.treat(&look, up, NOW, Duration::from_secs(number as u64));
            }
            let last = Some(Duration::from_secs(2));
            assert_eq!(table.leave(&flow), Effect { rules: BTreeSet::from([0]), swallowed, lost, last });
        }
    }

    #[test]
    fn a_lost_reply_of_which_a_copy_arrives_is_not_counted() {
        // Requests of which a fault makes copies have several replies; others do not, and the second is to another request.
        for (fault, lost) in [("duplicate=100%:direction=up", 0), ("delay=1ms:direction=up", 2)] {
            let (mut table, flow) = table(&[fault, "loss=100%:direction=down:until=1s"]);
            for (number, seq) in [(0, 1), (0, 2), (5, 1), (5, 2)] {
                let look = Look { flow, tcp: None, data: 8, len: 36, ping: Some(seq) };
                table.treat(&look, false, NOW, Duration::from_secs(number));
            }
            assert_eq!(table.leave(&flow).lost, lost, "{fault}");
        }
    }

    #[test]
    fn pings_are_looked_at() {
        let flow_of = |protocol, payload: &[u8], up| {
            let (program, remote) = ("10.0.2.100".parse().unwrap(), "192.0.2.7".parse().unwrap());
            let (src, dst) = if up { (program, remote) } else { (remote, program) };
            let mut packet = Vec::new();
            IpHeader::new(src, dst, protocol).emit(payload.len(), &mut packet);
            packet.extend_from_slice(payload);
            look(&packet, up, &mut TcpHeader::default()).map(|look| look.flow)
        };
        let ping = Flow::of_ping("10.0.2.100".parse().unwrap(), 7, "192.0.2.7".parse().unwrap());
        assert_eq!(flow_of(ip::ICMP, &[8, 0, 0, 0, 0, 7, 0, 1], true), Some(ping));
        assert_eq!(flow_of(ip::ICMP, &[0, 0, 0, 0, 0, 7, 0, 1], false), Some(ping));
        assert_eq!(flow_of(ip::ICMP, &[3, 0, 0, 0, 0, 7, 0, 1], false), None, "an error");
    }

    #[test]
    fn times_and_sizes_are_looked_at_packet_by_packet() {
        let (mut table, flow) = table(&["mtu-hole=1000", "blackhole:from=5s:until=6s"]);
        let ack = segment(1, TcpFlags::ACK);
        assert_eq!(treat(&mut table, flow, true, &ack, 900).lost, None);
        assert_eq!(treat(&mut table, flow, true, &ack, 1400).lost, Some(0));
        let look = Look { flow, tcp: Some(&ack), data: 10, len: 50, ping: None };
        let at =
            |table: &mut Table, seconds| table.treat(&look, true, NOW, Duration::from_secs(seconds)).lost;
        assert_eq!([at(&mut table, 4), at(&mut table, 5), at(&mut table, 7)], [None, Some(1), None]);
    }

    #[test]
    fn a_fin_is_cut_and_nothing_else() {
        let (mut table, flow) = table(&["cut-fin:direction=down"]);
        let fin = segment(1, TcpFlags::FIN | TcpFlags::ACK);
        assert!(treat(&mut table, flow, false, &fin, 3).no_fin);
        assert!(!treat(&mut table, flow, true, &fin, 3).no_fin);
        assert!(!treat(&mut table, flow, false, &segment(1, TcpFlags::ACK), 3).no_fin);
    }

    #[test]
    fn a_window_is_closed_towards_the_program() {
        let (mut table, flow) = table(&["zero-window:after=10:direction=up"]);
        let ack = segment(1, TcpFlags::ACK);
        assert!(!treat(&mut table, flow, false, &ack, 0).no_window);
        assert!(!treat(&mut table, flow, true, &ack, 10).no_window);
        assert!(treat(&mut table, flow, false, &ack, 0).no_window);
    }

    #[test]
    fn delay_and_loss_add_up() {
        let (mut table, flow) = table(&["delay=100ms", "delay=50ms:direction=up"]);
        let ack = segment(1, TcpFlags::ACK);
        let due = |treatment: Treatment| treatment.due.unwrap().0 - NOW;
        assert_eq!(due(treat(&mut table, flow, true, &ack, 1)), Duration::from_millis(150));
        assert_eq!(due(treat(&mut table, flow, false, &ack, 1)), Duration::from_millis(100));
        let (mut table, flow) = self::table(&["loss=100%", "delay=1s"]);
        let treatment = treat(&mut table, flow, true, &ack, 1);
        assert_eq!((treatment.lost, treatment.due), (Some(0), None));
    }

    #[test]
    fn a_forged_reset_follows_one_segment() {
        let (mut table, flow) = table(&["rst:seq=window"]);
        let ack = segment(1, TcpFlags::ACK);
        assert_eq!(treat(&mut table, flow, false, &segment(0, TcpFlags::SYN), 0).forged, None);
        assert_eq!(treat(&mut table, flow, false, &ack, 0).forged, Some(Seq::Window));
        assert_eq!(treat(&mut table, flow, false, &ack, 0).forged, None);
    }

    #[tokio::test]
    async fn a_half_open_connection_is_answered_when_it_sends() {
        let (mut table, flow) = table(&["half-open"]);
        assert!(table.answered(&flow).is_none());
        let data = segment(101, TcpFlags::ACK);
        treat(&mut table, flow, false, &data, 10);
        table.forget(&flow, 0, 10, Duration::ZERO);
        let ack = |ack| TcpHeader { ack, ..segment(1, TcpFlags::ACK) };
        assert!(!treat(&mut table, flow, true, &ack(106), 0).forgotten, "it lacks data of before");
        assert!(!treat(&mut table, flow, false, &data, 10).forgotten);
        let treatment = treat(&mut table, flow, true, &ack(111), 0);
        assert_eq!(
            (treatment.forgotten, treatment.rules),
            (true, vec![0]),
            "an acknowledgment alone is answered"
        );
        assert!(treat(&mut table, flow, false, &data, 0).forgotten, "nothing of us reaches it");
        table.answered(&flow).unwrap().notified().await;
        assert!(table.has_all(&flow));
    }
}
