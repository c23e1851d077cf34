//! A link that applies faults to the packets of some connections.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use lastack::link::{Capabilities, Cut, Link, complete_checksum};
use lastack_engine::{Instant, Received, Transmit, Verdict};
use lastack_wire::{IpHeader, IpPacket, TcpFlags, TcpHeader, ip, tcp};

use super::rule::Seq;
use super::table::{Look, Pieces, Table, Treatment, look};
use crate::comments::Comments;

/// The offset of a forged reset from the exact sequence number, inside or outside of the window.
const IN_WINDOW: u32 = 1000;
const OUTSIDE: u32 = 1 << 30;
/// The largest packet of most paths.
const PATH_MTU: usize = 1500;

/// Applies faults to the packets of `L`. Packets without faults pass unchanged.
#[derive(Debug)]
pub struct Faults<L> {
    inner: L,
    table: Arc<Mutex<Table>>,
    comments: Comments,
    began: std::time::Instant,
    held: BinaryHeap<Held>,
    serial: u64,
    /// Packets of the program that are due.
    arrived: VecDeque<(Vec<u8>, Received)>,
    packet: Vec<u8>,
    piece: Vec<u8>,
    /// The last packet that `recv` returned came directly from `inner`: a verdict on it can be passed on.
    last_is_inners: bool,
}

/// A delayed packet.
#[derive(Debug)]
struct Held {
    due: Instant,
    serial: u64,
    packet: Vec<u8>,
    way: Way,
}

/// The direction of a packet, and its metadata.
#[derive(Clone, Debug)]
enum Way {
    Up(Received),
    /// With the comment of the capture.
    Down(Transmit, Option<String>),
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    /// The packet that is due first is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.serial).cmp(&(self.due, self.serial))
    }
}

impl<L> Faults<L> {
    pub(super) fn new(
        inner: L,
        table: Arc<Mutex<Table>>,
        comments: Comments,
        began: std::time::Instant,
    ) -> Self {
        Self {
            inner,
            table,
            comments,
            began,
            held: BinaryHeap::new(),
            serial: 0,
            arrived: VecDeque::new(),
            packet: Vec::new(),
            piece: Vec::new(),
            last_is_inners: false,
        }
    }

    /// The treatment of a packet; `None`: unchanged. Also determines whether it must be segmented first.
    fn treatment(&self, packet: &[u8], up: bool, now: Instant) -> Option<Treatment> {
        let mut table = lock(&self.table);
        let mut header = TcpHeader::default();
        let look = look(packet, up, &mut header).filter(|look| table.knows(&look.flow))?;
        Some(table.treat(&look, up, now, self.began.elapsed()))
    }

    fn pieces(&self, packet: &[u8], up: bool) -> Option<Pieces> {
        let table = lock(&self.table);
        if table.is_empty() {
            return None;
        }
        let mut header = TcpHeader::default();
        let Look { flow, .. } = look(packet, up, &mut header)?;
        table.knows(&flow).then(|| table.pieces(&flow))
    }

    /// Where a segment has to be divided because a fault begins within it.
    fn division(&self, packet: &[u8], up: bool) -> Option<usize> {
        let mut header = TcpHeader::default();
        let look = look(packet, up, &mut header)?;
        lock(&self.table).division(&look, up)
    }

    fn say(&self, treatment: &Treatment, what: &str) {
        self.comments.next(self.comment(treatment, what));
    }

    /// The comment on a packet with this treatment.
    fn comment(&self, treatment: &Treatment, what: &str) -> String {
        let rules: Vec<String> = {
            let table = lock(&self.table);
            treatment.rules.iter().map(|&rule| table.text(rule).to_owned()).collect()
        };
        format!("{what} by lastack: --inject {}", rules.join(", --inject "))
    }

    fn hold(&mut self, due: Instant, packet: &[u8], way: Way) {
        self.serial += 1;
        self.held.push(Held { due, serial: self.serial, packet: packet.to_vec(), way });
    }
}

impl<L: Link> Faults<L> {
    /// Sends and delivers packets that are due.
    fn release(&mut self, now: Instant) {
        while self.held.peek().is_some_and(|held| held.due <= now) {
            let Some(held) = self.held.pop() else { return };
            match held.way {
                Way::Up(received) => self.arrived.push_back((held.packet, received)),
                Way::Down(transmit, comment) => {
                    if let Some(comment) = comment {
                        self.inner.flush(now);
                        self.comments.next(comment);
                    }
                    self.inner.send(now, &held.packet, &transmit);
                }
            }
        }
    }

    /// A packet for the program, of wire size or with no treatment that requires it.
    fn send_one(&mut self, now: Instant, packet: &mut Vec<u8>, transmit: &Transmit) {
        let mut rest = std::mem::take(packet);
        while let Some(at) = self.division(&rest, false) {
            let mut piece = divide(&mut rest, at);
            self.send_part(now, &mut piece, &Transmit { partial_checksum: false, ..*transmit });
        }
        self.send_part(now, &mut rest, transmit);
        *packet = rest;
    }

    fn send_part(&mut self, now: Instant, packet: &mut [u8], transmit: &Transmit) {
        let Some(treatment) = self.treatment(packet, false, now) else {
            return self.inner.send(now, packet, transmit);
        };
        if treatment.forgotten {
            return;
        }
        if treatment.lost.is_some() {
            self.say(&treatment, "lost");
            return self.comments.unsent(now, packet);
        }
        let mut transmit = *transmit;
        if treatment.no_fin || treatment.no_window {
            change(packet, treatment.no_fin, treatment.no_window, !transmit.partial_checksum);
            self.inner.flush(now);
            self.say(&treatment, if treatment.no_fin { "FIN removed" } else { "window closed" });
        }
        if let Some(damage) = treatment.damage {
            if transmit.partial_checksum {
                complete_checksum(packet);
                transmit.partial_checksum = false;
            }
            damage.apply(packet);
        }
        let comment = treatment.damage.map(|_| self.comment(&treatment, "damaged"));
        match treatment.due {
            Some((due, copy)) => {
                self.hold(due, packet, Way::Down(transmit, comment.clone()));
                if let Some(copy) = copy {
                    self.hold(copy, packet, Way::Down(transmit, comment));
                }
            }
            None => self.inner.send(now, packet, &transmit),
        }
        if let Some(seq) = treatment.forged
            && let Some(reset) = forged(packet, seq)
        {
            self.release(now);
            self.inner.flush(now);
            self.say(&treatment, "forged");
            self.inner.send(now, &reset, &Transmit { header_len: reset.len() as u16, ..Transmit::default() });
        }
    }

    /// Handles a packet of the program.
    fn receive_one(&mut self, now: Instant, packet: &mut Vec<u8>, received: Received) {
        while let Some(at) = self.division(packet, true) {
            let mut piece = divide(packet, at);
            self.receive_part(now, &mut piece, received);
        }
        self.receive_part(now, packet, received);
    }

    fn receive_part(&mut self, now: Instant, packet: &mut Vec<u8>, mut received: Received) {
        let Some(treatment) = self.treatment(packet, true, now) else {
            return self.arrived.push_back((std::mem::take(packet), received));
        };
        if treatment.forgotten {
            return self.answer_without_state(now, packet, &treatment);
        }
        if treatment.lost.is_some() {
            return self.say(&treatment, "lost");
        }
        if treatment.no_fin {
            change(packet, true, false, !received.checksum_good);
            self.say(&treatment, "FIN removed");
        }
        if let Some(damage) = treatment.damage {
            if received.checksum_good {
                complete_checksum(packet);
                received.checksum_good = false;
            }
            damage.apply(packet);
            self.say(&treatment, "damaged");
        }
        match treatment.due {
            Some((due, copy)) => {
                self.hold(due, packet, Way::Up(received));
                if let Some(copy) = copy {
                    self.hold(copy, packet, Way::Up(received));
                }
            }
            None => self.arrived.push_back((std::mem::take(packet), received)),
        }
    }

    /// The remote does not know the connection: RST, according to RFC 9293 section 3.10.7.1.
    fn answer_without_state(&mut self, now: Instant, packet: &[u8], treatment: &Treatment) {
        let Some(reset) = unknown(packet) else { return };
        self.inner.flush(now);
        self.say(treatment, "answered as unknown to the remote");
        let transmit = Transmit { header_len: reset.len() as u16, ..Transmit::default() };
        match treatment.due {
            Some((due, _)) if due > now => self.hold(due, &reset, Way::Down(transmit, None)),
            _ => self.inner.send(now, &reset, &transmit),
        }
    }

    /// Takes the next packet of the link below.
    fn pull(&mut self, now: Instant) -> bool {
        let mut packet = std::mem::take(&mut self.packet);
        let Some(received) = self.inner.recv(now, &mut packet) else {
            self.packet = packet;
            return false;
        };
        self.last_is_inners = false;
        let mtu = self.inner.capabilities().mtu;
        match self.pieces(&packet, true) {
            None => {
                self.last_is_inners = true;
                self.arrived.push_back((std::mem::take(&mut packet), received));
            }
            Some(Pieces::Whole) => self.receive_one(now, &mut packet, received),
            Some(pieces) => {
                let size = if pieces == Pieces::OfAPath { mtu.min(PATH_MTU) } else { mtu };
                let mut cut = Cut::to_mtu(&packet, size);
                if cut.is_needed() {
                    let mut piece = Vec::new();
                    while cut.next(&mut piece).is_some() {
                        self.receive_one(now, &mut piece, received);
                    }
                } else {
                    self.receive_one(now, &mut packet, received);
                }
            }
        }
        packet.clear();
        self.packet = packet;
        true
    }
}

impl<L: Link> Link for Faults<L> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn send(&mut self, now: Instant, packet: &[u8], transmit: &Transmit) {
        self.release(now);
        let Some(pieces) = self.pieces(packet, false) else {
            return self.inner.send(now, packet, transmit);
        };
        let mut piece = std::mem::take(&mut self.piece);
        let size = match pieces {
            Pieces::Whole => None,
            Pieces::OfAPath if packet.len() > PATH_MTU => {
                let max = (PATH_MTU as u16).saturating_sub(transmit.header_len);
                Some(transmit.segment_size.unwrap_or(max).min(max))
            }
            Pieces::Segments | Pieces::OfAPath => transmit.segment_size,
        };
        if size.is_some() {
            let mut cut = Cut::new(packet, &Transmit { segment_size: size, ..*transmit });
            while let Some(transmit) = cut.next(&mut piece) {
                self.send_one(now, &mut piece, &transmit);
            }
        } else {
            piece.clear();
            piece.extend_from_slice(packet);
            self.send_one(now, &mut piece, transmit);
        }
        self.piece = piece;
        self.release(now);
    }

    fn recv(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Received> {
        self.release(now);
        loop {
            if let Some((arrived, received)) = self.arrived.pop_front() {
                self.packet = std::mem::replace(packet, arrived);
                return Some(received);
            }
            // A lost or delayed packet does not end the round: the next may have arrived already.
            if !self.pull(now) {
                return None;
            }
            self.release(now);
        }
    }

    fn annotate(&mut self, now: Instant, verdict: &Verdict) {
        if self.last_is_inners {
            self.inner.annotate(now, verdict);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.held.peek().map(|held| held.due), self.inner.poll_timeout()].into_iter().flatten().min()
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_readable(cx)
    }

    fn flush(&mut self, now: Instant) {
        self.release(now);
        self.inner.flush(now);
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the first `at` bytes of data from a segment, as a segment of its own. Both have complete checksums.
fn divide(packet: &mut Vec<u8>, at: usize) -> Vec<u8> {
    let mut cut = Cut::at(packet, at);
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    cut.next(&mut first);
    cut.next(&mut rest);
    *packet = rest;
    first
}

/// The offset of the TCP header in a packet.
fn transport(packet: &[u8]) -> Option<usize> {
    let parsed = IpPacket::parse(packet).ok()?;
    (parsed.header.protocol == ip::TCP && parsed.fragment.is_none()).then_some(parsed.unfragmentable)
}

/// Removes the FIN of a segment, closes its window, and updates the checksum.
fn change(packet: &mut [u8], no_fin: bool, no_window: bool, whole_checksum: bool) {
    let Some(at) = transport(packet) else { return };
    if no_fin {
        packet[at + 13] &= !(TcpFlags::FIN.bits() as u8);
    }
    if no_window {
        packet[at + 14..at + 16].fill(0);
    }
    // A partial checksum (pseudo-header only) does not cover the changed fields.
    if whole_checksum {
        complete_checksum(packet);
    }
}

/// The addresses, header and data length of a segment.
fn parse(packet: &[u8]) -> Option<(IpHeader, TcpHeader, usize)> {
    let parsed = IpPacket::parse(packet).ok().filter(|parsed| parsed.header.protocol == ip::TCP)?;
    let (header, data) = TcpHeader::parse(parsed.payload).ok()?;
    Some((parsed.header, header, data.len()))
}

/// A reset from `ip.src`.
fn reset(ip: &IpHeader, header: &TcpHeader) -> Vec<u8> {
    let mut segment = Vec::new();
    header.emit(&mut segment);
    tcp::fill_checksum(ip, &mut segment);
    let mut packet = Vec::new();
    ip.emit(segment.len(), &mut packet);
    packet.extend_from_slice(&segment);
    packet
}

/// A reset that could have followed this segment, with a sequence number that must not end the connection.
fn forged(packet: &[u8], seq: Seq) -> Option<Vec<u8>> {
    let (ip, header, data) = parse(packet)?;
    let next = header.seq.wrapping_add(data as u32);
    let off = match seq {
        Seq::Exact => 0,
        Seq::Window => IN_WINDOW,
        Seq::Outside => OUTSIDE,
    };
    let forged = TcpHeader {
        seq: next.wrapping_add(off),
        flags: TcpFlags::RST | TcpFlags::ACK,
        options: lastack_wire::TcpOptions::default(),
        window: 0,
        ..header
    };
    Some(reset(&IpHeader::new(ip.src, ip.dst, ip::TCP), &forged))
}

/// The answer to a segment for which there is no connection (RFC 9293 section 3.10.7.1); none to a reset.
fn unknown(packet: &[u8]) -> Option<Vec<u8>> {
    let (ip, header, data) = parse(packet)?;
    if header.flags.contains(TcpFlags::RST) {
        return None;
    }
    let ports = TcpHeader { src_port: header.dst_port, dst_port: header.src_port, ..TcpHeader::default() };
    let answer = if header.flags.contains(TcpFlags::ACK) {
        TcpHeader { seq: header.ack, flags: TcpFlags::RST, ..ports }
    } else {
        let control =
            u32::from(header.flags.contains(TcpFlags::SYN)) + u32::from(header.flags.contains(TcpFlags::FIN));
        let ack = header.seq.wrapping_add(data as u32 + control);
        TcpHeader { ack, flags: TcpFlags::RST | TcpFlags::ACK, ..ports }
    };
    Some(reset(&IpHeader::new(ip.dst, ip.src, ip::TCP), &answer))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lastack::link::{Pipe, pipe};

    use super::super::{Flow, Injector};
    use super::*;
    use crate::report::Proto;

    const LOCAL: &str = "10.0.2.100:40000";
    const REMOTE: &str = "192.0.2.7:80";

    fn segment(from: &str, to: &str, seq: u32, flags: TcpFlags, data: &[u8]) -> Vec<u8> {
        let (from, to): (std::net::SocketAddr, std::net::SocketAddr) =
            (from.parse().unwrap(), to.parse().unwrap());
        let ip = IpHeader::new(from.ip(), to.ip(), ip::TCP);
        let header = TcpHeader {
            src_port: from.port(),
            dst_port: to.port(),
            seq,
            ack: 77,
            flags,
            window: 500,
            ..TcpHeader::default()
        };
        let mut segment = Vec::new();
        header.emit(&mut segment);
        segment.extend_from_slice(data);
        tcp::fill_checksum(&ip, &mut segment);
        let mut packet = Vec::new();
        ip.emit(segment.len(), &mut packet);
        packet.extend_from_slice(&segment);
        packet
    }

    /// A link with these faults, the far end, and the injector.
    fn link(rules: &[&str]) -> (Faults<Pipe>, Pipe, Injector) {
        link_of(1500, rules)
    }

    fn link_of(mtu: usize, rules: &[&str]) -> (Faults<Pipe>, Pipe, Injector) {
        let injector = Injector::new(rules.iter().map(|text| text.parse().unwrap()).collect(), 1);
        let (near, far) = pipe(Capabilities::new(mtu));
        let flow = Flow::new(Proto::Tcp, LOCAL.parse().unwrap(), REMOTE.parse().unwrap());
        injector.connection(flow, None, None);
        (injector.around(near, Comments::default()), far, injector)
    }

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1000)
    }

    fn received(link: &mut impl Link, now: Instant) -> Vec<TcpHeader> {
        let mut packet = Vec::new();
        std::iter::from_fn(|| {
            link.recv(now, &mut packet).map(|_| {
                let parsed = IpPacket::parse(&packet).unwrap();
                assert!(tcp::checksum_ok(&parsed.header, parsed.payload));
                TcpHeader::parse(parsed.payload).unwrap().0
            })
        })
        .collect()
    }

    fn send(link: &mut impl Link, now: Instant, packet: &[u8]) {
        link.send(now, packet, &Transmit { header_len: 40, ..Transmit::default() });
        link.flush(now);
    }

    #[test]
    fn a_delay_holds_packets_both_ways_and_other_connections_pass() {
        let (mut link, mut far, _) = link(&["delay=100ms"]);
        let (down, up) = (
            segment(REMOTE, LOCAL, 1, TcpFlags::ACK, b"down"),
            segment(LOCAL, REMOTE, 1, TcpFlags::ACK, b"up"),
        );
        send(&mut link, at(0), &down);
        send(&mut far, at(0), &up);
        assert!(received(&mut far, at(99)).is_empty() && received(&mut link, at(99)).is_empty());
        assert_eq!(link.poll_timeout(), Some(at(100)));
        send(&mut link, at(99), &segment("192.0.2.7:81", LOCAL, 9, TcpFlags::ACK, b"other"));
        assert_eq!(received(&mut far, at(99))[0].seq, 9);
        link.flush(at(200));
        assert_eq!(received(&mut far, at(200)).len(), 1);
        assert_eq!(received(&mut link, at(200)).len(), 1);
    }

    #[test]
    fn a_black_hole_swallows_both_directions() {
        let (mut link, mut far, injector) = link(&["blackhole"]);
        send(&mut link, at(0), &segment(REMOTE, LOCAL, 1, TcpFlags::ACK, b"down"));
        send(&mut far, at(0), &segment(LOCAL, REMOTE, 1, TcpFlags::ACK, b"up"));
        assert!(received(&mut far, at(9)).is_empty() && received(&mut link, at(9)).is_empty());
        assert_eq!(injector.summary()[0].acted, 2);
    }

    #[test]
    fn a_fault_begins_at_the_byte_that_it_names() {
        let data = |link: &mut dyn Link| {
            let (mut packet, mut bytes) = (Vec::new(), 0);
            while link.recv(at(1), &mut packet).is_some() {
                let parsed = IpPacket::parse(&packet).unwrap();
                assert!(tcp::checksum_ok(&parsed.header, parsed.payload));
                bytes += TcpHeader::parse(parsed.payload).unwrap().1.len();
            }
            bytes
        };
        for rule in ["blackhole", "loss=100%", "mtu-hole=68", "rate=1"] {
            let (mut link, mut far, _) = link(&[&format!("{rule}:after=2500")]);
            let down = segment(REMOTE, LOCAL, 1, TcpFlags::ACK, &[0; 7000]);
            let large = Transmit { header_len: 40, segment_size: Some(1000), ..Transmit::default() };
            link.send(at(0), &down, &large);
            link.flush(at(1));
            assert_eq!(data(&mut far), 2500, "{rule}, down");
            let (mut link, mut far, _) = self::link(&[&format!("{rule}:after=2500:direction=up")]);
            send(&mut far, at(0), &segment(LOCAL, REMOTE, 1, TcpFlags::ACK, &[0; 1200]));
            send(&mut far, at(0), &segment(LOCAL, REMOTE, 1201, TcpFlags::ACK, &[0; 1400]));
            assert_eq!(data(&mut link), 2500, "{rule}, up");
        }
    }

    #[test]
    fn a_rate_passes_a_large_segment_bit_by_bit() {
        let (mut link, mut far, _) = link_of(65_520, &["rate=15000"]);
        send(&mut link, at(0), &segment(REMOTE, LOCAL, 1, TcpFlags::ACK, &[0; 14_600]));
        send(&mut far, at(0), &segment(LOCAL, REMOTE, 1, TcpFlags::ACK, &[0; 14_600]));
        let mut arrived = [0, 0];
        for (millis, packets) in [(0, 0), (99, 0), (100, 1), (550, 5), (1000, 10)] {
            link.flush(at(millis));
            arrived[0] += received(&mut far, at(millis)).len();
            arrived[1] += received(&mut link, at(millis)).len();
            assert_eq!(arrived, [packets, packets], "after {millis} ms");
        }
    }

    #[test]
    fn a_fin_is_cut_and_the_data_before_it_arrives() {
        let (mut link, mut far, _) = link(&["cut-fin"]);
        send(&mut link, at(0), &segment(REMOTE, LOCAL, 1, TcpFlags::ACK | TcpFlags::FIN, b"last"));
        send(&mut far, at(0), &segment(LOCAL, REMOTE, 1, TcpFlags::ACK | TcpFlags::FIN, b"last"));
        assert_eq!(received(&mut far, at(0))[0].flags, TcpFlags::ACK);
        assert_eq!(received(&mut link, at(0))[0].flags, TcpFlags::ACK);
    }

    #[test]
    fn a_window_is_closed() {
        let (mut link, mut far, _) = link(&["zero-window"]);
        send(&mut link, at(0), &segment(REMOTE, LOCAL, 1, TcpFlags::ACK, b"data"));
        assert_eq!(received(&mut far, at(0))[0].window, 0);
    }

    #[test]
    fn forged_resets_have_numbers_that_end_nothing() {
        for (rule, off) in [("rst:seq=window", IN_WINDOW), ("rst:seq=outside", OUTSIDE)] {
            let (mut link, mut far, _) = link(&[rule]);
            send(&mut link, at(0), &segment(REMOTE, LOCAL, 100, TcpFlags::ACK, b"data"));
            let heard = received(&mut far, at(0));
            assert_eq!(heard.len(), 2, "{heard:?}");
            assert!(heard[1].flags.contains(TcpFlags::RST));
            assert_eq!(heard[1].seq, 104 + off);
        }
    }

    #[test]
    fn a_connection_without_state_is_answered_by_a_reset_as_in_the_rfc() {
        let (mut link, mut far, injector) = link(&["half-open"]);
        let flow = Flow::new(Proto::Tcp, LOCAL.parse().unwrap(), REMOTE.parse().unwrap());
        injector.table().forget(&flow, 0, 0, std::time::Duration::ZERO);
        send(&mut far, at(0), &segment(LOCAL, REMOTE, 1, TcpFlags::ACK, b"hello?"));
        assert!(received(&mut link, at(0)).is_empty());
        let heard = received(&mut far, at(0));
        assert_eq!((heard[0].flags, heard[0].seq), (TcpFlags::RST, 77));
        send(&mut link, at(0), &segment(REMOTE, LOCAL, 1, TcpFlags::RST, b""));
        assert!(received(&mut far, at(0)).is_empty(), "nothing of us is heard");
    }

    #[test]
    fn large_packets_vanish_in_a_hole_of_the_path_mtu() {
        let (mut link, mut far, _) = link(&["mtu-hole=600"]);
        send(&mut link, at(0), &segment(REMOTE, LOCAL, 1, TcpFlags::ACK, &[0; 500]));
        send(&mut link, at(0), &segment(REMOTE, LOCAL, 501, TcpFlags::ACK, &[0; 1000]));
        assert_eq!(received(&mut far, at(0)).iter().map(|header| header.seq).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn shares_of_packets_are_lost_doubled_and_damaged() {
        let count = |rule: &str| {
            let (mut link, mut far, _) = link(&[rule]);
            for number in 0..200 {
                send(
                    &mut link,
                    at(number),
                    &segment(REMOTE, LOCAL, number as u32 * 4, TcpFlags::ACK, b"data"),
                );
            }
            link.flush(at(10_000));
            let mut packet = Vec::new();
            let (mut all, mut good) = (0, 0);
            while far.recv(at(10_000), &mut packet).is_some() {
                all += 1;
                let whole = IpPacket::parse(&packet).is_ok_and(|p| tcp::checksum_ok(&p.header, p.payload));
                good += i32::from(whole);
            }
            (all, good)
        };
        let (all, good) = count("loss=30%");
        assert!((110..170).contains(&all) && good == all, "{all}");
        let (all, _) = count("duplicate=30%");
        assert!((230..290).contains(&all), "{all}");
        let (all, good) = count("corrupt=30%");
        assert!(all == 200 && (110..180).contains(&good), "{good}");
    }

    #[test]
    fn a_rate_spreads_packets_over_time() {
        let (mut link, mut far, _) = link(&["rate=10k"]);
        for number in 0..10 {
            send(&mut link, at(0), &segment(REMOTE, LOCAL, number * 984, TcpFlags::ACK, &[0; 984]));
        }
        assert_eq!(received(&mut far, at(0)).len(), 0);
        link.flush(Instant::ZERO + Duration::from_millis(500));
        assert_eq!(received(&mut far, at(500)).len(), 5);
        link.flush(at(1000));
        assert_eq!(received(&mut far, at(1000)).len(), 5);
    }
}
