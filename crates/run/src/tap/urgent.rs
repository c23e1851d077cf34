//! Urgent data (RFC 9293 section 3.8.5). The stack carries urgent bytes in their place in the stream and leaves out the
//! mark. Here it is read from the program's segments and written to those for the program, so that it reaches the sockets
//! of both ends (`MSG_OOB`, `SIGURG`).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lastack_wire::ip::{self, IpPacket};
use lastack_wire::tcp::{TcpFlags, TcpHeader};

use super::headers::Flow;

/// Max connections with marks; those of others are left out.
const MAX_FLOWS: usize = 1024;
/// Max marks of a connection that wait to be passed on; the oldest is left out first.
const MAX_MARKS: usize = 64;
/// A mark is removed when this many bytes have been sent after it. It must be much less than 2^31.
const FORGET: u32 = 1 << 24;

/// The marks of all connections.
#[derive(Debug, Default)]
pub struct Urgent {
    /// Whether there has been any.
    any: AtomicBool,
    flows: Mutex<HashMap<Flow, Marks>>,
}

/// The marks of a connection, as sequence numbers of urgent bytes.
#[derive(Debug, Default)]
struct Marks {
    /// From the program, and not yet passed on.
    up: VecDeque<u32>,
    /// The last one for the program.
    down: Option<u32>,
}

impl Urgent {
    /// Whether there has been any mark.
    pub fn is_used(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Flow, Marks>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, flow: Flow, change: impl FnOnce(&mut Marks)) {
        let mut flows = self.lock();
        if flows.len() < MAX_FLOWS || flows.contains_key(&flow) {
            change(flows.entry(flow).or_default());
            self.any.store(true, Ordering::Relaxed);
        }
    }

    /// Reads the mark of a segment of the program.
    pub(super) fn look(&self, packet: &[u8]) {
        let Some((flow, tcp)) = parse(packet) else { return };
        // Linux, as BSD, points to the byte behind the urgent one.
        let mark = tcp.seq.wrapping_add(u32::from(tcp.urgent)).wrapping_sub(1);
        if tcp.urgent == 0 || tcp.flags.contains(TcpFlags::SYN) {
            return;
        }
        self.with(flow, |marks| {
            if marks.up.back() == Some(&mark) {
                return;
            }
            if marks.up.len() == MAX_MARKS {
                marks.up.pop_front();
            }
            marks.up.push_back(mark);
        });
    }

    /// The distance from this sequence number to the program's next urgent byte. Those before it are removed.
    pub fn next(&self, flow: Flow, seq: u32) -> Option<usize> {
        let mut flows = self.lock();
        let marks = flows.get_mut(&flow)?;
        while let Some(mark) = marks.up.front() {
            match mark.wrapping_sub(seq) as i32 {
                0.. => return Some(mark.wrapping_sub(seq) as usize),
                _ => marks.up.pop_front(),
            };
        }
        None
    }

    /// The byte with this sequence number, for the program, is urgent.
    pub fn mark(&self, flow: Flow, seq: u32) {
        self.with(flow, |marks| marks.down = Some(seq));
    }

    /// The connection has ended.
    pub fn forget(&self, flow: &Flow) {
        if self.is_used() {
            self.lock().remove(flow);
        }
    }

    /// A segment for the program with its mark; `None`: it has none.
    pub(super) fn marked(&self, packet: [&[u8]; 3], whole_checksum: bool) -> Option<Vec<u8>> {
        if !self.is_used() {
            return None;
        }
        let mut packet = packet.concat();
        let ((remote, program), tcp) = parse(&packet)?;
        let flow = (program, remote);
        let pointer = {
            let mut flows = self.lock();
            let down = &mut flows.get_mut(&flow)?.down;
            let behind = (*down)?.wrapping_add(1);
            let distance = behind.wrapping_sub(tcp.seq);
            if tcp.seq.wrapping_sub(behind) as i32 > FORGET as i32 {
                *down = None;
            }
            u16::try_from(distance).ok().filter(|pointer| *pointer > 0)?
        };
        if tcp.flags.intersects(TcpFlags::SYN | TcpFlags::RST) {
            return None;
        }
        set(&mut packet, pointer, whole_checksum);
        Some(packet)
    }
}

fn parse(packet: &[u8]) -> Option<(Flow, TcpHeader)> {
    let parsed = IpPacket::parse(packet).ok().filter(|parsed| parsed.header.protocol == ip::TCP)?;
    let (tcp, _) = TcpHeader::parse(parsed.payload).ok()?;
    let flow = ((parsed.header.src, tcp.src_port).into(), (parsed.header.dst, tcp.dst_port).into());
    Some((flow, tcp))
}

/// Sets the urgent pointer of a segment.
fn set(packet: &mut [u8], pointer: u16, whole_checksum: bool) {
    let at = if packet[0] >> 4 == 4 { usize::from(packet[0] & 0x0f) * 4 } else { 40 };
    let tcp = &mut packet[at..];
    let word = |tcp: &[u8], at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    let (flags, urgent) = (word(tcp, 12), word(tcp, 18));
    tcp[13] |= TcpFlags::URG.bits() as u8;
    tcp[18..20].copy_from_slice(&pointer.to_be_bytes());
    if whole_checksum {
        // RFC 1624 section 3, equation 3.
        let mut sum = u32::from(!word(tcp, 16));
        for (before, after) in [(flags, word(tcp, 12)), (urgent, pointer)] {
            sum += u32::from(!before) + u32::from(after);
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        tcp[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use lastack_wire::ip::IpHeader;
    use lastack_wire::tcp;

    use super::*;

    const ENDS: [(&str, &str); 2] =
        [("10.0.2.100:5000", "192.0.2.1:80"), ("[fd00::100]:5000", "[2001:db8::1]:80")];

    fn flow((program, remote): (&str, &str)) -> Flow {
        (program.parse().unwrap(), remote.parse().unwrap())
    }

    fn segment((src, dst): Flow, seq: u32, urgent: u16, data: &[u8]) -> Vec<u8> {
        let flags = TcpFlags::ACK | if urgent > 0 { TcpFlags::URG } else { TcpFlags::empty() };
        let header = TcpHeader {
            src_port: src.port(),
            dst_port: dst.port(),
            seq,
            flags,
            urgent,
            ..TcpHeader::default()
        };
        let mut segment = Vec::new();
        header.emit(&mut segment);
        segment.extend_from_slice(data);
        let ip = IpHeader::new(src.ip(), dst.ip(), ip::TCP);
        tcp::fill_checksum(&ip, &mut segment);
        let mut packet = Vec::new();
        ip.emit(segment.len(), &mut packet);
        packet.extend_from_slice(&segment);
        packet
    }

    #[test]
    fn a_mark_of_the_program_is_passed_on_once() {
        for ends in ENDS {
            let (urgent, flow) = (Urgent::default(), flow(ends));
            assert_eq!(urgent.next(flow, 0), None);
            let begin = u32::MAX - 1;
            for _ in 0..2 {
                urgent.look(&segment(flow, begin, 3, b"ab!"));
            }
            assert_eq!(urgent.next(flow, begin), Some(2));
            assert_eq!(urgent.next(flow, begin.wrapping_add(2)), Some(0));
            assert_eq!(urgent.next(flow, begin.wrapping_add(3)), None);
            assert_eq!(urgent.next(flow, begin), None);
        }
    }

    #[test]
    fn segments_up_to_the_urgent_byte_are_marked() {
        for ends in ENDS {
            let (urgent, flow) = (Urgent::default(), flow(ends));
            let back = (flow.1, flow.0);
            let send = |seq: u32, data: &[u8]| {
                let packet = segment(back, seq, 0, data);
                let (headers, data) = packet.split_at(packet.len() - data.len());
                urgent.marked([headers, data, &[]], true)
            };
            assert_eq!(send(100, b"ab!"), None);
            urgent.mark(flow, 102);
            assert_eq!(
                send(100, b"ab!"),
                Some(segment(back, 100, 3, b"ab!")),
                "the checksum is that of the whole"
            );
            assert_eq!(send(102, b"!"), Some(segment(back, 102, 1, b"!")));
            assert_eq!(send(103, b"cd"), None);
            assert_eq!(send(102u32.wrapping_sub(70_000), b""), None, "too far ahead for the pointer");
            assert_eq!(send(103 + FORGET + 1, b""), None);
            assert_eq!(send(100, b"ab!"), None, "forgotten");
            urgent.mark(flow, 200);
            urgent.forget(&flow);
            assert_eq!(send(200, b"!"), None);
        }
    }

    #[test]
    fn marks_are_bounded() {
        let urgent = Urgent::default();
        for port in 1..=2000 {
            let flow: Flow = (([10, 0, 2, 100], port).into(), ([192, 0, 2, 1], 80).into());
            for number in 0..100 {
                urgent.look(&segment(flow, number * 10, 1, b"!"));
            }
        }
        let flows = urgent.lock();
        assert_eq!(flows.len(), MAX_FLOWS);
        assert!(flows.values().all(|marks| marks.up.len() <= MAX_MARKS));
    }
}
