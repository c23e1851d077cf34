//! A stack against a peer made by hand, in virtual time.

use crate::end::LostBytes;
use crate::tcp::table::Socket;
use crate::tcp::tests::notation::{Spec, show};
use crate::{
    Config, ConnId, DropReason, Ended, Event, Instant, ListenerId, Received, Stack, Tcp, TcpError, TcpState,
    Transmit, Verdict,
};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::task::Poll;
use core::time::Duration;
use lastack_wire::icmp::IcmpError;
use lastack_wire::ip::{self, IpHeader, IpPacket};
use lastack_wire::reset_reason::ResetReason;
use lastack_wire::tcp::{self, TcpFlags, TcpHeader, Timestamps};

/// Our port.
pub(super) const US: u16 = 80;
/// The peer's port, unless a segment says another.
pub(super) const THEM: u16 = 5000;
/// The peer's ISS: its numbers wrap soon.
pub(super) const IRS: u32 = 0xffff_fff0;
/// What the peer's timestamps start from.
const CLOCK: u32 = 5_000_000;

/// Runs a test for both families.
pub(super) fn both(test: impl Fn(bool)) {
    for v6 in [false, true] {
        test(v6);
    }
}

/// Which options the peer's SYN has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// MSS 1460 alone.
    Plain,
    /// MSS 1460, SACK, timestamps, and a window scale of 7.
    Full,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Plain, Self::Full];

    fn offer(self) -> &'static str {
        match self {
            Self::Plain => "mss=1460",
            Self::Full => "mss=1460 ws=7 sackok tsok",
        }
    }
}

/// A segment that the stack sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub at: Instant,
    pub bytes: Vec<u8>,
    pub transmit: Transmit,
    pub ip: IpHeader,
    /// `None` if it is no TCP.
    pub tcp: Option<(TcpHeader, Vec<u8>)>,
}

impl Sent {
    pub fn header(&self) -> TcpHeader {
        self.tcp.as_ref().expect("a TCP segment").0
    }

    pub fn data(&self) -> &[u8] {
        &self.tcp.as_ref().expect("a TCP segment").1
    }
}

/// The stack, and what the peer knows.
#[derive(Debug)]
pub(super) struct Peer {
    pub stack: Stack,
    pub now: Instant,
    pub v6: bool,
    pub us: IpAddr,
    pub them: IpAddr,
    /// The connection of the test.
    pub id: ConnId,
    pub listener: Option<ListenerId>,
    /// Numbers of the peer's next segment, unless it says others.
    pub seq: i64,
    pub ack: i64,
    /// Whether the peer's segments have timestamps.
    pub timestamps: bool,
    pub events: Vec<Event>,
    pub ended: Vec<Ended>,
    /// Everything that was sent, oldest first.
    pub sent: Vec<Sent>,
    /// ISS of our connection to each port of the peer.
    iss: BTreeMap<u16, u32>,
    heard_ts: u32,
    ends: BTreeSet<ConnId>,
}

impl Peer {
    /// A stack that has done nothing yet.
    pub fn new(v6: bool) -> Self {
        Self::with(v6, |_| {})
    }

    pub fn with(v6: bool, change: impl FnOnce(&mut Config)) -> Self {
        let addr = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut config = Config::new([addr("192.0.2.1"), addr("2001:db8::1")]);
        // When an ACK leaves is to be seen; quick ones have tests of their own (`ack_policy`).
        config.tcp.quick_acks = 0;
        change(&mut config);
        let [us, them] =
            if v6 { ["2001:db8::1", "2001:db8::2"] } else { ["192.0.2.1", "192.0.2.2"] }.map(addr);
        Self {
            stack: Stack::new(config, [7; 16]),
            now: Instant::from_millis(1000),
            v6,
            us,
            them,
            id: ConnId::default(),
            listener: None,
            seq: 0,
            ack: 0,
            timestamps: false,
            events: Vec::new(),
            ended: Vec::new(),
            sent: Vec::new(),
            iss: BTreeMap::new(),
            heard_ts: 0,
            ends: BTreeSet::new(),
        }
    }

    /// A listener at our port.
    pub fn listening(v6: bool) -> Self {
        Self::new(v6).listen(8)
    }

    pub fn listen(mut self, backlog: usize) -> Self {
        self.listener = Some(self.stack.tcp_listen(SocketAddr::new(self.us, US), backlog).unwrap());
        self
    }

    /// SYN-SENT.
    pub fn syn_sent(v6: bool) -> Self {
        Self::new(v6).connect()
    }

    pub fn connect(mut self) -> Self {
        self.open();
        assert_eq!(self.out(), "S seq=0");
        self
    }

    /// Asks for a connection from our port to the peer's.
    pub fn open(&mut self) {
        let (us, them) = (SocketAddr::new(self.us, US), SocketAddr::new(self.them, THEM));
        self.id = self.stack.tcp_connect(Some(us), them).unwrap();
        (self.seq, self.ack) = (0, 1);
    }

    /// SYN-RECEIVED of a listener.
    pub fn syn_received(v6: bool, kind: Kind) -> Self {
        Self::listening(v6).receive_syn(kind)
    }

    pub fn receive_syn(mut self, kind: Kind) -> Self {
        self.timestamps = kind == Kind::Full;
        assert_eq!(self.on(&format!("S seq=0 {}", kind.offer())), "accepted | S. seq=0 ack=1");
        (self.seq, self.ack) = (1, 1);
        self
    }

    /// SYN-RECEIVED by simultaneous open.
    pub fn simultaneous(v6: bool, kind: Kind) -> Self {
        Self::syn_sent(v6).receive_syn(kind)
    }

    /// ESTABLISHED by a passive open, accepted.
    pub fn established(v6: bool, kind: Kind) -> Self {
        Self::listening(v6).establish(kind)
    }

    pub fn establish(self, kind: Kind) -> Self {
        let mut peer = self.receive_syn(kind);
        assert_eq!((peer.on(".").as_str(), peer.new_events().as_str()), ("accepted", "Incoming"));
        peer.accept();
        peer
    }

    /// ESTABLISHED by an active open.
    pub fn connected(v6: bool, kind: Kind) -> Self {
        Self::syn_sent(v6).complete(kind)
    }

    pub fn complete(mut self, kind: Kind) -> Self {
        self.timestamps = kind == Kind::Full;
        assert_eq!(self.on(&format!("S. seq=0 {}", kind.offer())), "accepted | . seq=1 ack=1");
        (self.seq, self.ack) = (1, 1);
        assert_eq!(self.new_events(), "Connected");
        self
    }

    /// A connection in a synchronized state; with or without a user.
    pub fn in_state(v6: bool, kind: Kind, state: TcpState, has_user: bool) -> Self {
        Self::established(v6, kind).lead_to(state, has_user)
    }

    pub fn lead_to(mut self, state: TcpState, has_user: bool) -> Self {
        use TcpState::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, TimeWait};
        let fin_first = matches!(state, FinWait1 | FinWait2 | Closing | TimeWait);
        if fin_first {
            self.finish(has_user);
        }
        if matches!(state, FinWait2 | TimeWait) {
            self.ack = 2;
            assert_eq!(self.on("."), "accepted");
        }
        if !matches!(state, Established | FinWait1 | FinWait2) {
            self.on("F.");
            self.seq = 2;
        }
        if state == LastAck {
            self.finish(has_user);
        }
        if matches!(state, Established | CloseWait) {
            assert!(has_user, "an orphan has closed");
        }
        assert_eq!(self.state(), state);
        self
    }

    fn finish(&mut self, has_user: bool) {
        if has_user {
            self.tcp().shutdown().unwrap();
        } else {
            self.tcp().close();
        }
        let out = self.out();
        assert!(out.starts_with("F. seq=1"), "{out}");
    }

    /// Takes the oldest complete connection.
    pub fn accept(&mut self) {
        self.id = self.stack.tcp_accept(self.listener.expect("a listener")).expect("a connection waits");
    }

    pub fn tcp(&mut self) -> Tcp<'_> {
        self.stack.tcp(self.id).expect("the connection has a name")
    }

    pub fn flow(&self) -> crate::FourTuple {
        crate::FourTuple { local: SocketAddr::new(self.us, US), remote: SocketAddr::new(self.them, THEM) }
    }

    /// The state, in whatever table the connection is; CLOSED if there is none.
    pub fn state(&self) -> TcpState {
        self.stack.tcp_state(&self.flow()).unwrap_or(TcpState::Closed)
    }

    /// Our ISS.
    pub fn iss(&self) -> u32 {
        self.iss.get(&THEM).copied().unwrap_or(0)
    }

    /// A packet from the peer.
    pub fn packet(&self, text: &str) -> Vec<u8> {
        let spec = Spec::parse(text);
        self.packet_from(IpHeader::new(self.them, self.us, ip::TCP), &spec)
    }

    pub fn packet_from(&self, ip: IpHeader, spec: &Spec) -> Vec<u8> {
        let port = spec.port.unwrap_or(THEM);
        let iss = self.iss.get(&port).copied().unwrap_or(0);
        let ack = if spec.flags.contains(TcpFlags::ACK) {
            iss.wrapping_add(spec.ack.unwrap_or(self.ack) as u32)
        } else {
            spec.ack.unwrap_or(0) as u32
        };
        let timestamps = ((self.timestamps && !spec.nots) || spec.tsok).then(|| Timestamps {
            val: (i64::from(CLOCK) + self.now.as_millis() as i64 + spec.ts) as u32,
            ecr: if spec.flags == TcpFlags::SYN { 0 } else { (i64::from(self.heard_ts) + spec.ecr) as u32 },
        });
        let header = TcpHeader {
            src_port: port,
            dst_port: US,
            seq: IRS.wrapping_add((spec.seq.unwrap_or(self.seq) + spec.at) as u32),
            ack,
            flags: spec.flags,
            window: spec.window.unwrap_or(65_535),
            urgent: 0,
            options: spec.options(iss, timestamps),
        };
        let first = spec.seq.unwrap_or(self.seq) + spec.at;
        let mut segment = Vec::new();
        header.emit(&mut segment);
        segment.extend((0..spec.len as i64).map(|i| byte(first + i)));
        tcp::fill_checksum(&ip, &mut segment);
        let mut packet = Vec::new();
        ip.emit(segment.len(), &mut packet);
        packet.extend(segment);
        packet
    }

    /// The peer sends this segment: what becomes of it, and what is sent in answer.
    pub fn on(&mut self, text: &str) -> String {
        let packet = self.packet(text);
        self.on_packet(&packet)
    }

    /// A super-segment, merged from segments of `size` bytes of data.
    pub fn on_merged(&mut self, text: &str, size: u16) -> String {
        let packet = self.packet(text);
        self.on_received(&packet, Received { segment_size: Some(size), ..Received::default() })
    }

    pub fn on_packet(&mut self, packet: &[u8]) -> String {
        self.on_received(packet, Received::default())
    }

    fn on_received(&mut self, packet: &[u8], received: Received) -> String {
        let verdict = self.stack.handle_owned_packet(self.now, &mut packet.to_vec(), received);
        let out = self.out();
        let bar = if out.is_empty() { "" } else { " | " };
        format!("{}{bar}{out}", show_verdict(verdict))
    }

    /// Several segments at once, before the stack can answer; the verdicts are not looked at.
    pub fn on_all(&mut self, texts: &[&str]) -> String {
        for text in texts {
            let packet = self.packet(text);
            let _ = self.stack.handle_packet(self.now, &packet, Received::default());
        }
        self.out()
    }

    /// An ICMP error about a packet that the stack sent, from a router.
    pub fn on_icmp(&mut self, about: &[u8], error: IcmpError) -> String {
        let packet = crate::testing::icmp_error(self.router(), about, error);
        self.on_packet(&packet)
    }

    pub fn router(&self) -> IpAddr {
        if self.v6 { "2001:db8::99" } else { "192.0.2.99" }.parse().unwrap()
    }

    /// What the stack has to send now.
    pub fn out(&mut self) -> String {
        let from = self.sent.len();
        self.drain();
        let shown: Vec<_> = self.sent[from..].iter().map(|sent| self.show(sent)).collect();
        shown.join(" | ")
    }

    /// Lets this many milliseconds pass: what is sent meanwhile, and when.
    pub fn run(&mut self, millis: u64) -> String {
        let (start, from) = (self.now, self.sent.len());
        let end = start + Duration::from_millis(millis);
        self.drain();
        while let Some(at) = self.stack.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at); // a call may ask for what is overdue
            self.stack.handle_timeout(self.now);
            self.drain();
            assert!(self.stack.poll_timeout().is_none_or(|next| next > self.now), "a timer that never rests");
        }
        self.now = end;
        let shown = self.sent[from..].iter();
        let shown: Vec<_> =
            shown.map(|sent| format!("{}: {}", (sent.at - start).as_millis(), self.show(sent))).collect();
        shown.join(" | ")
    }

    /// Time passes and nothing is due.
    pub fn pass(&mut self, millis: u64) {
        assert_eq!(self.run(millis), "");
    }

    fn drain(&mut self) {
        let mut bytes = Vec::new();
        while let Some(transmit) = self.stack.poll_transmit(self.now, &mut bytes) {
            self.note(core::mem::take(&mut bytes), transmit);
        }
        assert!(!self.stack.has_output(), "output is pending after poll_transmit returned None");
        while let Some(event) = self.stack.poll_event() {
            match event {
                Event::Ended(ended) => {
                    assert!(self.ends.insert(ended.id), "a connection ends once: {ended:?}");
                    self.ended.push(*ended);
                }
                other => self.events.push(other),
            }
        }
    }

    fn note(&mut self, bytes: Vec<u8>, transmit: Transmit) {
        let parsed = IpPacket::parse(&bytes).unwrap();
        let ip = parsed.header;
        let mut parsed_tcp = None;
        if ip.protocol == ip::TCP {
            assert!(tcp::checksum_ok(&ip, parsed.payload));
            let (header, data) = TcpHeader::parse(parsed.payload).unwrap();
            let port = header.dst_port;
            if header.flags.contains(TcpFlags::SYN) {
                self.iss.insert(port, header.seq);
            }
            if header.flags.contains(TcpFlags::RST) {
                let rule = transmit.rule.expect("a reset has a rule");
                assert!(rule.rst_reason().is_some(), "{rule} sends a reset, and has no cause (T204)");
                assert!(data.is_empty() || ResetReason::from_payload(data).is_some());
            }
            if let Some(timestamps) = header.options.timestamps {
                self.heard_ts = timestamps.val;
            }
            parsed_tcp = Some((header, data.to_vec()));
        }
        self.sent.push(Sent { at: self.now, bytes, transmit, ip, tcp: parsed_tcp });
    }

    fn show(&self, sent: &Sent) -> String {
        let Some((header, data)) = &sent.tcp else {
            return format!("protocol {}", sent.ip.protocol);
        };
        let iss = self.iss.get(&header.dst_port).copied().unwrap_or(0);
        let shown = show(header, data.len(), iss, IRS);
        if header.dst_port == THEM { shown } else { format!("{}: {shown}", header.dst_port) }
    }

    /// Bytes of memory that the buffers of the connection take.
    pub fn buffers(&self) -> usize {
        match self.stack.tcp.get(self.id) {
            Some(Socket::Open(connection)) => connection.incoming.capacity() + connection.outgoing.capacity(),
            _ => 0,
        }
    }

    /// The last segment sent.
    pub fn last(&self) -> &Sent {
        self.sent.last().expect("something was sent")
    }

    /// The events since this was asked last, `Ended` aside.
    pub fn new_events(&mut self) -> String {
        self.drain();
        let names = self.events.drain(..).map(|event| {
            let name = format!("{event:?}");
            name.split('(').next().unwrap_or_default().to_string()
        });
        names.collect::<Vec<_>>().join(" ")
    }

    /// The connections that ended since this was asked last, each as one line.
    pub fn ends(&mut self) -> String {
        self.drain();
        let lines: Vec<_> = self.ended.drain(..).map(|ended| show_end(&ended)).collect();
        lines.join(" | ")
    }

    /// The peer acknowledges everything and says nothing: is anything left over?
    pub fn assert_gone(&mut self) {
        self.drain();
        assert_eq!(self.state(), TcpState::Closed);
        assert_eq!(self.stack.poll_timeout(), None, "no timer is left");
        assert!(self.id == ConnId::default() || self.ends.contains(&self.id), "its end was reported");
    }

    /// RECEIVE with room for all: `5`, `0` (the end of the stream), `pending`, or the error. The data
    /// is tested.
    pub fn receive(&mut self) -> String {
        let before = self.tcp().info().bytes_received as i64 - self.tcp().info().unread as i64;
        let known = !matches!(self.state(), TcpState::Closed | TcpState::TimeWait);
        let mut buf = alloc::vec![0; 1 << 17];
        match self.tcp().receive(&mut buf) {
            Poll::Pending => "pending".to_string(),
            Poll::Ready(Ok(n)) => {
                let expected: Vec<_> = (0..n as i64).map(|i| byte(1 + before + i)).collect();
                assert!(!known || buf[..n] == expected, "the data is wrong");
                n.to_string()
            }
            Poll::Ready(Err(error)) => show_error(error),
        }
    }

    /// SEND of this many bytes: how many were taken, `pending`, or the error.
    pub fn send(&mut self, len: usize) -> String {
        match self.tcp().send(&alloc::vec![b'x'; len]) {
            Poll::Pending => "pending".to_string(),
            Poll::Ready(Ok(n)) => n.to_string(),
            Poll::Ready(Err(error)) => show_error(error),
        }
    }

    /// SO_ERROR, if the connection has a user.
    pub fn error_if_owned(&mut self) -> String {
        if self.stack.tcp(self.id).is_some() { self.error() } else { "none".to_string() }
    }

    /// SO_ERROR
    pub fn error(&mut self) -> String {
        self.tcp().take_error().map_or("none".to_string(), show_error)
    }
}

/// The flags of a segment in notation.
pub(super) fn flags_of(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}

/// What the peer sends at this place of its stream.
fn byte(at: i64) -> u8 {
    (at % 251) as u8
}

fn show_error(error: TcpError) -> String {
    format!("{error:?}")
}

fn show_verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::Accepted => "accepted".to_string(),
        Verdict::Answered(rule) => format!("answered {}", rule.code()),
        Verdict::Ended(rule) => format!("ended {}", rule.code()),
        Verdict::Dropped(DropReason::Rule(rule)) => format!("dropped {}", rule.code()),
        Verdict::Dropped(reason) => format!("dropped {reason:?}"),
    }
}

/// `reset by the peer in ESTABLISHED (R1), R seq=..; lost 1 unsent 2 unacked 3 unread`
fn show_end(ended: &Ended) -> String {
    let end = &ended.end;
    let mut line = format!("{} by {} in {} ({})", end.cause, end.by, end.state, end.rule.code());
    if let Some(header) = end.trigger {
        line += &format!(", {}", header.flags);
    }
    let LostBytes { unsent, unacked, unread } = end.lost;
    if !end.lost.is_nothing() {
        line += &format!(", lost {unsent}+{unacked}+{unread}");
    }
    line
}
