//! A link that passes a copy of each packet to a sink.

use crate::{Capabilities, Cut, Link, checksum, lock};
use crate::{Direction, layout::is_udp};
use lastack_engine::{Instant, Received, Transmit, TransmitChecksum, Verdict};
use lastack_wire::{IpPacket, TcpFlags, TcpHeader, ip};
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

/// The destination of captured packets: a file, a timeline, a list in a test.
pub trait Sink {
    /// Records a packet with its comment.
    fn record(&mut self, at: Instant, direction: Direction, packet: &[u8], comment: Option<&str>);

    /// The end of a round: more packets come only in the next.
    fn flush(&mut self, _now: Instant) {}
}

impl<S: Sink + ?Sized> Sink for Box<S> {
    fn record(&mut self, at: Instant, direction: Direction, packet: &[u8], comment: Option<&str>) {
        (**self).record(at, direction, packet, comment);
    }

    fn flush(&mut self, now: Instant) {
        (**self).flush(now);
    }
}

impl<S: Sink + ?Sized> Sink for &mut S {
    fn record(&mut self, at: Instant, direction: Direction, packet: &[u8], comment: Option<&str>) {
        (**self).record(at, direction, packet, comment);
    }

    fn flush(&mut self, now: Instant) {
        (**self).flush(now);
    }
}

/// A sink that several links share, or that is read afterwards.
impl<S: Sink + ?Sized> Sink for Arc<Mutex<S>> {
    fn record(&mut self, at: Instant, direction: Direction, packet: &[u8], comment: Option<&str>) {
        lock(self).record(at, direction, packet, comment);
    }

    fn flush(&mut self, now: Instant) {
        lock(self).flush(now);
    }
}

/// A packet recorded by a `Vec<Record>` as [`Sink`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The time of capture.
    pub at: Instant,
    /// The direction.
    pub direction: Direction,
    /// The packet.
    pub packet: Vec<u8>,
    /// The comment.
    pub comment: Option<String>,
}

impl Sink for Vec<Record> {
    fn record(&mut self, at: Instant, direction: Direction, packet: &[u8], comment: Option<&str>) {
        self.push(Record { at, direction, packet: packet.to_vec(), comment: comment.map(Into::into) });
    }
}

/// A link that passes a copy of each packet to a sink.
///
/// The comment of a received packet is its [`Verdict`], unless it was simply accepted; that of a sent packet is the
/// rule that caused it. Super-segments are captured whole; partial checksums are completed.
#[derive(Debug)]
pub struct Capture<L, S: Sink> {
    inner: L,
    recorder: Recorder<S>,
}

impl<L: Link, S: Sink> Capture<L, S> {
    /// Captures the packets of `inner` into `sink`.
    pub fn new(inner: L, sink: S) -> Self {
        let recorder = Recorder {
            sink,
            arrival: Vec::new(),
            arrived: None,
            copy: Vec::new(),
            comment: String::new(),
            summed: inner.capabilities().checksums.transmit,
        };
        Self { inner, recorder }
    }

    /// The inner link.
    pub fn inner(&self) -> &L {
        &self.inner
    }

    /// The sink. It gets the last received packet only once its verdict is known.
    pub fn sink(&self) -> &S {
        &self.recorder.sink
    }
}

impl<L: Link, S: Sink> Link for Capture<L, S> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn send(&mut self, now: Instant, packet: &[u8], transmit: &Transmit) {
        self.recorder.arrival(None);
        self.recorder.sent(now, packet, transmit);
        self.inner.send(now, packet, transmit);
    }

    fn recv(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Received> {
        self.recorder.arrival(None);
        let received = self.inner.recv(now, packet)?;
        self.recorder.hold(now, packet, received);
        Some(received)
    }

    fn annotate(&mut self, now: Instant, verdict: &Verdict) {
        self.recorder.arrival(Some(verdict));
        self.inner.annotate(now, verdict);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.inner.poll_timeout()
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_readable(cx)
    }

    fn flush(&mut self, now: Instant) {
        self.recorder.arrival(None);
        self.recorder.sink.flush(now);
        self.inner.flush(now);
    }
}

#[derive(Debug)]
struct Recorder<S: Sink> {
    sink: S,
    /// The last received packet, held back until its verdict is known.
    arrival: Vec<u8>,
    arrived: Option<(Instant, Received)>,
    copy: Vec<u8>,
    comment: String,
    /// The content of the checksum fields on this link.
    summed: TransmitChecksum,
}

impl<S: Sink> Recorder<S> {
    fn hold(&mut self, now: Instant, packet: &[u8], received: Received) {
        self.arrival.clear();
        self.arrival.extend_from_slice(packet);
        self.arrived = Some((now, received));
    }

    /// Passes on the packet that is held back, if there is one.
    fn arrival(&mut self, verdict: Option<&Verdict>) {
        let Some((at, received)) = self.arrived.take() else {
            return;
        };
        if received.checksum_good {
            // Receive offload delivers partial checksums of the sender (NEEDS_CSUM).
            checksum::complete_if_wrong(&mut self.arrival);
        }
        if self.summed != TransmitChecksum::Full {
            checksum::complete_quoted(&mut self.arrival);
        }
        let verdict = verdict.filter(|verdict| **verdict != Verdict::Accepted);
        let comment = verdict.map(|verdict| note(&mut self.comment, format_args!("{verdict}")));
        self.sink.record(at, Direction::Received, &self.arrival, comment);
    }

    fn sent(&mut self, now: Instant, packet: &[u8], transmit: &Transmit) {
        let comment = transmit.rule.map(|rule| {
            let (word, text, section) = (word(packet), rule.text(), rule.section());
            note(&mut self.comment, format_args!("{word}: [{rule}] {text} ({section})"))
        });
        if transmit.segment_size.is_some() && is_udp(packet) {
            // One by one, since a reader of the capture would take them for one large datagram.
            let mut cut = Cut::new(packet, transmit);
            while cut.next(&mut self.copy).is_some() {
                self.sink.record(now, Direction::Sent, &self.copy, comment);
            }
            return;
        }
        let left_to_link = transmit.partial_checksum || self.summed == TransmitChecksum::None;
        let quotes = self.summed != TransmitChecksum::Full && is_icmp(packet);
        if !left_to_link && !quotes {
            self.sink.record(now, Direction::Sent, packet, comment);
            return;
        }
        self.copy.clear();
        self.copy.extend_from_slice(packet);
        if quotes {
            checksum::complete_quoted(&mut self.copy);
        } else {
            checksum::complete_checksum(&mut self.copy);
        }
        self.sink.record(now, Direction::Sent, &self.copy, comment);
    }
}

impl<S: Sink> Drop for Recorder<S> {
    fn drop(&mut self) {
        self.arrival(None);
    }
}

fn note<'a>(comment: &'a mut String, text: std::fmt::Arguments<'_>) -> &'a str {
    comment.clear();
    // Writing to a string cannot fail.
    let _ = comment.write_fmt(text);
    comment
}

fn is_icmp(packet: &[u8]) -> bool {
    IpPacket::parse(packet).is_ok_and(|parsed| checksum::is_icmp(&parsed))
}

/// What a rule did by sending the packet.
fn word(packet: &[u8]) -> &'static str {
    let Ok(parsed) = IpPacket::parse(packet) else {
        return "sent";
    };
    match parsed.header.protocol {
        ip::ICMP | ip::ICMPV6 => "ICMP error",
        ip::TCP => match TcpHeader::parse(parsed.payload) {
            Ok((tcp, _)) if tcp.flags.contains(TcpFlags::RST) => "reset",
            _ => "sent",
        },
        _ => "sent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{datagram, partial, segment, segment_with, unreachable};
    use crate::{Pipe, pipe};
    use lastack_engine::{DropReason, Rule};

    type Shared = Arc<Mutex<Vec<Record>>>;

    const NOW: Instant = Instant::ZERO;
    const LATER: Instant = Instant::from_millis(5);

    fn captured(capabilities: Capabilities) -> (Capture<Pipe, Shared>, Pipe, Shared) {
        let (near, far) = pipe(capabilities);
        let shared = Shared::default();
        (Capture::new(near, Arc::clone(&shared)), far, shared)
    }

    fn comments(shared: &Shared) -> Vec<Option<String>> {
        lock(shared).iter().map(|record| record.comment.clone()).collect()
    }

    #[test]
    fn an_arrival_waits_for_its_verdict() {
        let (mut link, mut far, shared) = captured(Capabilities::new(1500));
        let packet = segment("192.0.2.1", "192.0.2.2", b"text");
        far.send(NOW, &packet, &Transmit::default());
        let mut got = Vec::new();
        assert!(link.recv(NOW, &mut got).is_some());
        assert_eq!(got, packet);
        assert!(lock(&shared).is_empty());
        link.annotate(LATER, &Verdict::Answered(Rule::RstNoListener));
        let comment = format!("answered: [rst-no-listener] {}", Rule::RstNoListener.text());
        let direction = Direction::Received;
        let expected = Record { at: NOW, direction, packet, comment: Some(comment) };
        assert_eq!(*lock(&shared), [expected]);
        link.flush(LATER);
        assert_eq!(lock(&shared).len(), 1);
    }

    #[test]
    fn an_arrival_without_a_verdict_is_not_lost_and_keeps_its_place() {
        let (mut link, mut far, shared) = captured(Capabilities::new(1500));
        let mut got = Vec::new();
        let mut arrive = |link: &mut Capture<Pipe, Shared>, text: &[u8]| {
            far.send(NOW, &segment("192.0.2.1", "192.0.2.2", text), &Transmit::default());
            assert!(link.recv(NOW, &mut got).is_some());
        };
        arrive(&mut link, b"1");
        link.annotate(NOW, &Verdict::Accepted);
        arrive(&mut link, b"2");
        arrive(&mut link, b"3");
        link.send(NOW, &segment("192.0.2.2", "192.0.2.1", b"4"), &Transmit::default());
        arrive(&mut link, b"5");
        link.flush(NOW);
        arrive(&mut link, b"6");
        drop(link);
        let order: Vec<_> = lock(&shared).iter().map(|record| *record.packet.last().unwrap()).collect();
        assert_eq!(order, *b"123456");
        assert!(comments(&shared).iter().all(Option::is_none));
    }

    #[test]
    fn drops_say_why() {
        let (mut link, mut far, shared) = captured(Capabilities::new(1500));
        far.send(NOW, b"?", &Transmit::default());
        assert!(link.recv(NOW, &mut Vec::new()).is_some());
        link.annotate(NOW, &Verdict::Dropped(DropReason::NoSpace));
        assert_eq!(comments(&shared), [Some("dropped: queue full".into())]);
    }

    #[test]
    fn a_packet_is_annotated_with_its_rule() {
        let (mut link, _far, shared) = captured(Capabilities::new(1500));
        let reset = TcpHeader { flags: TcpFlags::RST, ..TcpHeader::default() };
        let reset = segment_with("192.0.2.1", "192.0.2.2", reset, b"");
        let made_by = |rule| Transmit { rule: Some(rule), ..Transmit::default() };
        link.send(NOW, &reset, &made_by(Rule::RstUnreadDataAtClose));
        link.send(NOW, &segment("192.0.2.1", "192.0.2.2", b""), &made_by(Rule::AckChallengeSyn));
        let packet = unreachable("192.0.2.1", "192.0.2.2", &reset);
        link.send(NOW, &packet, &made_by(Rule::IcmpPortUnreachable));
        let comments: Vec<_> = comments(&shared).into_iter().map(Option::unwrap).collect();
        assert_eq!(
            comments[0],
            "reset: [rst-unread-data-at-close] close with unread data in the receive buffer: RST (RFC 9293 3.6.1)"
        );
        assert!(comments[1].starts_with("sent: [ack-challenge-syn] "), "{}", comments[1]);
        assert!(comments[2].starts_with("ICMP error: [icmp-port-unreachable] "), "{}", comments[2]);
    }

    #[test]
    fn checksums_left_to_others_are_complete_in_the_record_only() {
        let (mut link, mut far, shared) = captured(Capabilities::memory(1500));
        let whole = segment("2001:db8::1", "2001:db8::2", b"text");
        let left = Transmit { partial_checksum: true, ..Transmit::default() };
        link.send(NOW, &partial(&whole), &left);
        far.send(NOW, &partial(&whole), &left);
        let mut got = Vec::new();
        assert!(far.recv(NOW, &mut got).is_some());
        assert_eq!(got, partial(&whole));
        assert!(link.recv(NOW, &mut got).is_some());
        assert_eq!(got, partial(&whole));
        // A packet with an unverified checksum is shown as it came.
        far.send(NOW, &partial(&whole), &Transmit::default());
        assert!(link.recv(NOW, &mut got).is_some());
        link.flush(NOW);
        let packets: Vec<_> = lock(&shared).iter().map(|record| record.packet.clone()).collect();
        assert_eq!(packets, [whole.clone(), whole.clone(), partial(&whole)]);
    }

    #[test]
    fn quoted_checksums_are_complete_where_they_were_left_to_others() {
        for (capabilities, complete) in [(Capabilities::memory(1500), true), (Capabilities::new(1500), false)]
        {
            let (mut link, mut far, shared) = captured(capabilities);
            let whole = datagram("2001:db8::1", "2001:db8::2", b"text");
            let error = unreachable("2001:db8::2", "2001:db8::1", &partial(&whole));
            link.send(NOW, &error, &Transmit::default());
            far.send(NOW, &error, &Transmit::default());
            assert!(link.recv(NOW, &mut Vec::new()).is_some());
            link.flush(NOW);
            let shown = if complete { unreachable("2001:db8::2", "2001:db8::1", &whole) } else { error };
            assert!(lock(&shared).iter().all(|record| record.packet == shown));
            assert_eq!(lock(&shared).len(), 2);
        }
    }

    #[test]
    fn a_super_segment_is_one_record_and_a_batch_of_datagrams_several() {
        let (mut link, _far, shared) = captured(Capabilities::memory(1500));
        let large = Transmit { segment_size: Some(1000), header_len: 52, ..Transmit::default() };
        link.send(NOW, &segment("192.0.2.1", "192.0.2.2", &[7; 4000]), &large);
        link.send(NOW, &datagram("192.0.2.1", "192.0.2.2", &[7; 2500]), &large);
        let lens: Vec<_> = lock(&shared).iter().map(|record| record.packet.len()).collect();
        assert_eq!(lens, [4052, 1028, 1028, 528]);
    }
}
