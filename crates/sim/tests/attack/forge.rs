//! Packets that an attacker makes.

use lastack_engine::FourTuple;
use lastack_wire::icmp::{Icmp, IcmpError};
use lastack_wire::ip::{self, IpHeader};
use lastack_wire::tcp::{self, TcpFlags, TcpHeader, TcpOptions};
use std::net::IpAddr;

/// A segment without options from `flow.local` to `flow.remote`.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    pub flow: FourTuple,
    pub flags: TcpFlags,
    pub seq: u32,
    pub ack: u32,
    pub text: &'a [u8],
}

impl Segment<'_> {
    pub fn packet(self) -> Vec<u8> {
        self.with(TcpOptions::default(), 1000)
    }

    pub fn with(self, options: TcpOptions, window: u16) -> Vec<u8> {
        let ip = IpHeader::new(self.flow.local.ip(), self.flow.remote.ip(), ip::TCP);
        let header = TcpHeader {
            src_port: self.flow.local.port(),
            dst_port: self.flow.remote.port(),
            seq: self.seq,
            ack: if self.flags.contains(TcpFlags::ACK) { self.ack } else { 0 },
            flags: self.flags,
            window,
            urgent: 0,
            options,
        };
        let mut packet = Vec::new();
        ip.emit(header.len() + self.text.len(), &mut packet);
        header.emit(&mut packet);
        packet.extend_from_slice(self.text);
        tcp::fill_checksum(&ip, &mut packet[ip.len()..]);
        packet
    }
}

/// The ICMP error of a router about a segment of `flow` with this SEQ.
pub fn icmp_error(router: IpAddr, flow: FourTuple, seq: u32, error: IcmpError) -> Vec<u8> {
    let quoted = Segment { flow, flags: TcpFlags::ACK, seq, ack: 0, text: &[0; 100] }.packet();
    let protocol = if error.v6 { ip::ICMPV6 } else { ip::ICMP };
    let header = IpHeader::new(router, flow.local.ip(), protocol);
    let mut message = Vec::new();
    Icmp::Error { error, quoted: error.quote(&quoted) }.emit(&header, &mut message);
    raw(header, &message)
}

/// A packet of any protocol.
pub fn raw(header: IpHeader, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    header.emit(payload.len(), &mut packet);
    packet.extend_from_slice(payload);
    packet
}
