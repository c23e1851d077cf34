//! Source E: a packet socket with a filter in the kernel, and a ring of memory shared with it (TPACKET_V3).
//!
//! Packets begin with the IP header, whatever the interface.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::sys::{self, Mapping};

const PACKET_RX_RING: i32 = 5;
const PACKET_VERSION: i32 = 10;
const TPACKET_V3: i32 = 2;
const TP_STATUS_USER: u32 = 1;
const BLOCK: usize = 1 << 18;
const BLOCKS: usize = 32;
/// Max number of milliseconds until a block is handed over.
const HAND_OVER: u32 = 20;
const PACKET_OUTGOING: u8 = 4;

// Offsets in `struct tpacket_block_desc` and `struct tpacket3_hdr`.
const BLOCK_STATUS: usize = 8;
const BLOCK_PACKETS: usize = 12;
const BLOCK_FIRST: usize = 16;
const NEXT: usize = 0;
const SECONDS: usize = 4;
const NANOSECONDS: usize = 8;
const CAPTURED: usize = 12;
const LENGTH: usize = 16;
const OFFSETS: usize = 24;
/// `struct sockaddr_ll` follows the header; the kind of packet is at its byte 10.
const KIND: usize = 48 + 10;

/// `struct tpacket_req3`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Request {
    block_size: u32,
    blocks: u32,
    frame_size: u32,
    frames: u32,
    retire_after: u32,
    private: u32,
    features: u32,
}

/// Which packets the kernel hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// TCP with SYN, FIN or RST, and ICMP errors.
    Ends,
    /// All TCP, and ICMP errors.
    All,
}

/// A packet as it was seen.
#[derive(Debug)]
pub(super) struct Captured<'a> {
    /// Nanoseconds since 1970.
    pub(super) wall: u64,
    pub(super) sent: bool,
    /// The packet's length; fewer bytes may be there.
    pub(super) len: usize,
    pub(super) bytes: &'a [u8],
}

#[derive(Debug)]
pub(super) struct Packets {
    socket: OwnedFd,
    ring: Mapping,
    block: usize,
    bytes: Vec<u8>,
}

impl Packets {
    pub(super) fn open(selection: Selection) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Without a protocol nothing is received before filter and ring are in place.
        let socket = socket(AddressFamily::Packet, SockType::Datagram, flags, None)?;
        let fd = socket.as_fd();
        sys::attach_filter(fd, &filter(selection))?;
        sys::set_option(fd, libc::SOL_PACKET, PACKET_VERSION, &TPACKET_V3)?;
        let request = Request {
            block_size: BLOCK as u32,
            blocks: BLOCKS as u32,
            frame_size: 2048,
            frames: (BLOCK * BLOCKS / 2048) as u32,
            retire_after: HAND_OVER,
            private: 0,
            features: 0,
        };
        sys::set_option(fd, libc::SOL_PACKET, PACKET_RX_RING, &request)?;
        let ring = Mapping::new(fd, BLOCK * BLOCKS)?;
        sys::bind_packets(fd, (libc::ETH_P_ALL as u16).to_be())?;
        Ok(Self { socket, ring, block: 0, bytes: Vec::new() })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Returns every packet that waits, and how many were dropped since the last call.
    pub(super) fn read(&mut self, mut take: impl FnMut(Captured<'_>)) -> io::Result<u64> {
        // No more than all blocks at once: others wait too.
        for _ in 0..BLOCKS {
            let start = self.block * BLOCK;
            if self.ring.load_u32(start + BLOCK_STATUS) & TP_STATUS_USER == 0 {
                break;
            }
            self.read_block(start, &mut take);
            self.ring.store_u32(start + BLOCK_STATUS, 0);
            self.block = (self.block + 1) % BLOCKS;
        }
        Ok(u64::from(sys::packet_statistics(self.socket.as_fd())?[1]))
    }

    fn read_block(&mut self, start: usize, take: &mut impl FnMut(Captured<'_>)) {
        let word = |at: usize| self.ring.load_u32(start + at);
        let mut at = word(BLOCK_FIRST) as usize;
        for _ in 0..word(BLOCK_PACKETS) {
            if at + KIND >= BLOCK {
                return;
            }
            // The offsets of the link header and of the network header, 16 bits each.
            let [_, _, low, high] = word(at + OFFSETS).to_ne_bytes();
            let network = usize::from(u16::from_ne_bytes([low, high]));
            self.bytes.clear();
            self.ring.copy(start + at + network, word(at + CAPTURED) as usize, &mut self.bytes);
            let kind = word(at + KIND - 2).to_ne_bytes()[2];
            take(Captured {
                wall: u64::from(word(at + SECONDS)) * 1_000_000_000 + u64::from(word(at + NANOSECONDS)),
                sent: kind == PACKET_OUTGOING,
                len: word(at + LENGTH) as usize,
                bytes: &self.bytes,
            });
            match word(at + NEXT) as usize {
                0 => return,
                next => at += next,
            }
        }
    }
}

/// Bytes of a packet that are kept: headers, and enough of the data to recognize its protocol.
const SNAP: u32 = 256;

/// A classic BPF program under construction: jumps name labels that are placed later.
#[derive(Default)]
struct Program {
    code: Vec<libc::sock_filter>,
    /// (instruction, label if true, label if false)
    jumps: Vec<(usize, Label, Label)>,
    places: Vec<(Label, usize)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Label {
    Next,
    Ip4,
    Ip6,
    Tcp4,
    Flags,
    Icmp4,
    Icmp6,
    Accept,
    Reject,
}

impl Program {
    fn statement(&mut self, code: u32, k: u32) {
        self.code.push(libc::sock_filter { code: code as u16, jt: 0, jf: 0, k });
    }

    fn jump(&mut self, code: u32, k: u32, yes: Label, no: Label) {
        self.jumps.push((self.code.len(), yes, no));
        self.statement(libc::BPF_JMP | code | libc::BPF_K, k);
    }

    fn place(&mut self, label: Label) {
        self.places.push((label, self.code.len()));
    }

    fn finish(mut self) -> Vec<libc::sock_filter> {
        for (at, yes, no) in self.jumps {
            let offset = |label: Label| match self.places.iter().find(|place| place.0 == label) {
                Some((_, place)) => (place - at - 1) as u8,
                None => 0,
            };
            (self.code[at].jt, self.code[at].jf) = (offset(yes), offset(no));
        }
        self.code
    }
}

/// Load something of the packet that is not in its bytes.
const ANCILLARY: u32 = -0x1000i32 as u32;
const ANCILLARY_PACKET_KIND: u32 = ANCILLARY + 4;
const ANCILLARY_HARDWARE: u32 = ANCILLARY + 28;
const LOOPBACK: u32 = libc::ARPHRD_LOOPBACK as u32;
const SYN_FIN_RST: u32 = 0x07;

fn filter(selection: Selection) -> Vec<libc::sock_filter> {
    use Label as L;
    use libc::*;
    let byte = |at: u32| (BPF_LD | BPF_B | BPF_ABS, at);
    let mut p = Program::default();
    // On the loopback interface each packet passes twice; the one that is received stays.
    p.statement(BPF_LD | BPF_W | BPF_ABS, ANCILLARY_HARDWARE);
    p.jump(BPF_JEQ, LOOPBACK, L::Next, L::Ip4);
    p.statement(BPF_LD | BPF_W | BPF_ABS, ANCILLARY_PACKET_KIND);
    p.jump(BPF_JEQ, PACKET_OUTGOING.into(), L::Reject, L::Next);
    p.place(L::Ip4);
    let (code, k) = byte(0);
    p.statement(code, k);
    p.statement(BPF_ALU | BPF_RSH | BPF_K, 4);
    p.jump(BPF_JEQ, 6, L::Ip6, L::Next);
    p.jump(BPF_JEQ, 4, L::Next, L::Reject);
    let (code, k) = byte(9);
    p.statement(code, k);
    p.jump(BPF_JEQ, 6, L::Tcp4, L::Next);
    p.jump(BPF_JEQ, 1, L::Icmp4, L::Reject);
    p.place(L::Tcp4);
    // The first fragment only: others have no header.
    p.statement(BPF_LD | BPF_H | BPF_ABS, 6);
    p.jump(BPF_JSET, 0x1fff, L::Reject, L::Next);
    p.statement(BPF_LDX | BPF_MSH | BPF_B, 0);
    p.statement(BPF_LD | BPF_B | BPF_IND, 13);
    p.jump(BPF_JGE, 0, L::Flags, L::Flags);
    p.place(L::Ip6);
    let (code, k) = byte(6);
    p.statement(code, k);
    p.jump(BPF_JEQ, 58, L::Icmp6, L::Next);
    // Extension headers are left to the reader.
    p.jump(BPF_JEQ, 6, L::Next, L::Accept);
    let (code, k) = byte(40 + 13);
    p.statement(code, k);
    p.place(L::Flags);
    match selection {
        Selection::Ends => p.jump(BPF_JSET, SYN_FIN_RST, L::Accept, L::Reject),
        Selection::All => p.jump(BPF_JGE, 0, L::Accept, L::Accept),
    }
    p.place(L::Icmp4);
    p.statement(BPF_LDX | BPF_MSH | BPF_B, 0);
    p.statement(BPF_LD | BPF_B | BPF_IND, 0);
    // Unreachable, and time exceeded.
    p.jump(BPF_JEQ, 3, L::Accept, L::Next);
    p.jump(BPF_JEQ, 11, L::Accept, L::Reject);
    p.place(L::Icmp6);
    let (code, k) = byte(40);
    p.statement(code, k);
    // Errors are below 128.
    p.jump(BPF_JGE, 128, L::Reject, L::Accept);
    p.place(L::Accept);
    p.statement(BPF_RET | BPF_K, SNAP);
    p.place(L::Reject);
    p.statement(BPF_RET | BPF_K, 0);
    p.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel does (the instructions that occur here). The packet is received, not on lo.
    fn run(program: &[libc::sock_filter], packet: &[u8], hardware: u32, kind: u32) -> u32 {
        let (mut a, mut x, mut at) = (0u32, 0u32, 0);
        loop {
            let now = program[at];
            at += 1;
            let code = u32::from(now.code);
            let load = |place: u32, len: usize| {
                let bytes = packet.get(place as usize..place as usize + len)?;
                Some(bytes.iter().fold(0u32, |sum, &byte| sum << 8 | u32::from(byte)))
            };
            let taken = match code {
                0x20 if now.k == ANCILLARY_HARDWARE => {
                    a = hardware;
                    continue;
                }
                0x20 if now.k == ANCILLARY_PACKET_KIND => {
                    a = kind;
                    continue;
                }
                0x30 | 0x28 | 0x50 => {
                    let place = if code == 0x50 { now.k + x } else { now.k };
                    let Some(value) = load(place, if code == 0x28 { 2 } else { 1 }) else { return 0 };
                    a = value;
                    continue;
                }
                0xb1 => {
                    let Some(value) = load(now.k, 1) else { return 0 };
                    x = 4 * (value & 0xf);
                    continue;
                }
                0x74 => {
                    a >>= now.k;
                    continue;
                }
                0x06 => return now.k,
                0x15 => a == now.k,
                0x35 => a >= now.k,
                0x45 => a & now.k != 0,
                _ => panic!("instruction {code:#x}"),
            };
            at += usize::from(if taken { now.jt } else { now.jf });
        }
    }

    fn tcp(v6: bool, flags: u8) -> Vec<u8> {
        let mut packet = if v6 { vec![0x60; 40] } else { vec![0x46; 24] };
        packet[if v6 { 6 } else { 9 }] = 6;
        if !v6 {
            packet[6..8].copy_from_slice(&[0x40, 0]);
        }
        packet.extend_from_slice(&[0; 20]);
        let at = packet.len() - 7;
        packet[at] = flags;
        packet
    }

    fn icmp(v6: bool, kind: u8) -> Vec<u8> {
        let mut packet = if v6 { vec![0x60; 40] } else { vec![0x45; 20] };
        packet[if v6 { 6 } else { 9 }] = if v6 { 58 } else { 1 };
        packet.push(kind);
        packet
    }

    #[test]
    fn the_filter_passes_segments_that_begin_and_end_connections() {
        let ends = filter(Selection::Ends);
        let all = filter(Selection::All);
        let takes = |program: &[libc::sock_filter], packet: &[u8]| run(program, packet, 1, 0) != 0;
        for v6 in [false, true] {
            for flags in 0..=255 {
                let packet = tcp(v6, flags);
                assert_eq!(takes(&ends, &packet), flags & 7 != 0, "{v6} {flags:#x}");
                assert!(takes(&all, &packet));
            }
            assert!(takes(&ends, &icmp(v6, if v6 { 1 } else { 3 })));
            assert!(!takes(&ends, &icmp(v6, if v6 { 128 } else { 8 })));
        }
        let mut fragment = tcp(false, 4);
        fragment[7] = 1;
        assert!(!takes(&ends, &fragment));
        let mut udp = tcp(false, 4);
        udp[9] = 17;
        assert!(!takes(&all, &udp));
        assert!(!takes(&all, &[0x30; 60]) && !takes(&all, &[]));
    }

    #[test]
    fn on_loopback_only_received_packets_count() {
        let program = filter(Selection::Ends);
        let packet = tcp(false, 4);
        assert_eq!(run(&program, &packet, LOOPBACK, 0), SNAP);
        assert_eq!(run(&program, &packet, LOOPBACK, PACKET_OUTGOING.into()), 0);
        assert_eq!(run(&program, &packet, 1, PACKET_OUTGOING.into()), SNAP);
    }
}
