//! Packets made by hand.

use lastack_wire::ip::{self, Fragment, IpHeader, IpPacket};
use lastack_wire::tcp::{self, SackBlocks, TcpFlags, TcpHeader, TcpOptions};
use std::net::SocketAddrV4;

/// The smallest MSS that lastack takes from a peer: the most segments for the bytes in flight.
pub const SMALL_MSS: u16 = 88;

/// From where, to where.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
}

impl Flow {
    pub fn header(self, protocol: u8) -> IpHeader {
        IpHeader::new((*self.from.ip()).into(), (*self.to.ip()).into(), protocol)
    }

    pub fn tcp(self, flags: TcpFlags, seq: u32, ack: u32, options: TcpOptions, data: &[u8]) -> Vec<u8> {
        self.tcp_with_window(flags, seq, ack, 65535, options, data)
    }

    pub fn tcp_with_window(
        self,
        flags: TcpFlags,
        seq: u32,
        ack: u32,
        window: u16,
        options: TcpOptions,
        data: &[u8],
    ) -> Vec<u8> {
        let ip = self.header(ip::TCP);
        let (src_port, dst_port) = (self.from.port(), self.to.port());
        let header = TcpHeader { src_port, dst_port, seq, ack, flags, window, urgent: 0, options };
        let mut packet = Vec::new();
        ip.emit(header.len() + data.len(), &mut packet);
        header.emit(&mut packet);
        packet.extend_from_slice(data);
        tcp::fill_checksum(&ip, &mut packet[ip.len()..]);
        packet
    }

    pub fn syn(self, seq: u32) -> Vec<u8> {
        let options = TcpOptions { mss: Some(1460), ..TcpOptions::default() };
        self.tcp(TcpFlags::SYN, seq, 0, options, b"")
    }

    pub fn fragment(self, fragment: Fragment, data: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        let header = IpHeader { dont_fragment: false, ..self.header(ip::UDP) };
        header.emit_fragment(fragment, data.len(), &mut packet);
        packet.extend_from_slice(data);
        packet
    }

    /// The segment in this packet, if it goes the other way.
    pub fn answer(self, packet: &[u8]) -> Option<(TcpHeader, usize)> {
        let parsed = IpPacket::parse(packet).ok()?;
        let reversed = parsed.header.src == *self.to.ip() && parsed.header.dst == *self.from.ip();
        if !reversed || parsed.header.protocol != ip::TCP {
            return None;
        }
        let (header, data) = TcpHeader::parse(parsed.payload).ok()?;
        let ports = (header.src_port, header.dst_port) == (self.to.port(), self.from.port());
        ports.then_some((header, data.len()))
    }
}

pub fn sack(blocks: [(u32, u32); 4]) -> TcpOptions {
    let mut sack = SackBlocks::new();
    for block in blocks {
        assert!(sack.push(block), "four fit");
    }
    TcpOptions { sack, ..TcpOptions::default() }
}

/// Numbers without a pattern, the same in each run (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u32) -> u32 {
        (self.next() % u64::from(bound)) as u32
    }
}
