//! A segment: as it arrives, and as it is written out.

use crate::end::Header;
use crate::outbox;
use crate::seq::{RcvSeq, SndSeq};
use crate::{Config, FourTuple, Rule, Transmit};
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use lastack_wire::ip::{self, IpHeader};
use lastack_wire::tcp::{TcpFlags, TcpHeader};

/// A segment that has arrived, checksum and header tested.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    pub ip: &'a IpHeader,
    pub tcp: &'a TcpHeader,
    pub text: &'a [u8],
}

impl Hash for Arrival<'_> {
    /// As its four-tuple.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ports = (self.tcp.dst_port, self.tcp.src_port);
        FourTuple::hash_ends(&self.ip.dst, &self.ip.src, ports, state);
    }
}

impl Arrival<'_> {
    /// The connection it belongs to, seen from here.
    pub fn flow(&self) -> FourTuple {
        FourTuple { local: self.local(), remote: socket_addr(&self.ip.src, self.tcp.src_port) }
    }

    /// Where it is for.
    pub fn local(&self) -> SocketAddr {
        socket_addr(&self.ip.dst, self.tcp.dst_port)
    }

    /// Whether this is its four-tuple.
    pub fn is_of(&self, flow: &FourTuple) -> bool {
        is_at(&flow.local, &self.ip.dst, self.tcp.dst_port)
            && is_at(&flow.remote, &self.ip.src, self.tcp.src_port)
    }

    /// SEG.SEQ
    pub fn seq(&self) -> RcvSeq {
        RcvSeq(self.tcp.seq)
    }

    /// SEG.ACK; meaningful with the ACK flag.
    pub fn ack(&self) -> SndSeq {
        SndSeq(self.tcp.ack)
    }

    /// SEG.LEN: text, SYN and FIN.
    pub fn len(&self) -> u32 {
        let controls = u32::from(self.has(TcpFlags::SYN)) + u32::from(self.has(TcpFlags::FIN));
        self.text.len() as u32 + controls
    }

    pub fn has(&self, flag: TcpFlags) -> bool {
        self.tcp.flags.intersects(flag)
    }

    /// What is recorded of it.
    pub fn header(&self) -> Header {
        Header {
            flags: self.tcp.flags,
            seq: self.tcp.seq,
            ack: self.tcp.ack,
            window: self.tcp.window,
            len: self.text.len() as u32,
        }
    }
}

#[inline]
fn is_at(addr: &SocketAddr, ip: &IpAddr, port: u16) -> bool {
    let same = match (addr, ip) {
        (SocketAddr::V4(addr), IpAddr::V4(ip)) => addr.ip() == ip,
        (SocketAddr::V6(addr), IpAddr::V6(ip)) => addr.ip() == ip,
        _ => false,
    };
    same && addr.port() == port
}

/// [`SocketAddr::new`] without moving an address of sixteen octets where there are four.
#[inline]
fn socket_addr(ip: &IpAddr, port: u16) -> SocketAddr {
    match ip {
        IpAddr::V4(ip) => SocketAddr::V4(SocketAddrV4::new(*ip, port)),
        IpAddr::V6(ip) => SocketAddr::V6(SocketAddrV6::new(*ip, port, 0, 0)),
    }
}

/// A segment to be sent.
pub(crate) struct Outgoing<'a> {
    pub flow: &'a FourTuple,
    pub tcp: &'a TcpHeader,
    pub text: [&'a [u8]; 2],
    /// Eff.snd.MSS, where the text is longer than that and the link has to cut it.
    pub segment_size: Option<u16>,
    pub dscp: u8,
    /// Hop limit (TTL), instead of the stack's.
    pub hop_limit: Option<u8>,
    /// The ECN bits of the IP header.
    pub codepoint: u8,
    pub rule: Option<Rule>,
}

impl Outgoing<'_> {
    /// Writes it into `packet`, replacing what that held.
    pub fn emit(&self, config: &Config, packet: &mut Vec<u8>) -> Transmit {
        packet.clear();
        let ip = ip_header(config, self.flow, self.dscp);
        let hop_limit = self.hop_limit.unwrap_or(ip.hop_limit);
        let ip = IpHeader { traffic_class: ip.traffic_class | self.codepoint, hop_limit, ..ip };
        let [a, b] = self.text;
        ip.emit(self.tcp.len() + a.len() + b.len(), packet);
        self.tcp.emit(packet);
        let header_len = packet.len() as u16;
        packet.extend_from_slice(a);
        if !b.is_empty() {
            packet.extend_from_slice(b);
        }
        let partial_checksum = outbox::seal(config, &ip, &mut packet[ip.len()..]);
        Transmit { segment_size: self.segment_size, header_len, partial_checksum, rule: self.rule }
    }
}

/// The IP header of what we send on `flow`.
pub(crate) fn ip_header(config: &Config, flow: &FourTuple, dscp: u8) -> IpHeader {
    let ip = IpHeader::new(flow.local.ip(), flow.remote.ip(), ip::TCP);
    IpHeader { hop_limit: config.hop_limit, traffic_class: dscp << 2, ..ip }
}
