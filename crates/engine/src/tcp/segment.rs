//! A segment: as it arrives, and as it is written out.

use crate::end::Header;
use crate::seq::{RcvSeq, SndSeq};
use crate::{Config, FourTuple, Rule, Transmit, TransmitChecksum};
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use lastack_wire::ip::{self, IpHeader};
use lastack_wire::tcp::{Checksum, TcpFlags, TcpHeader, emit_packet};

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
    #[inline(always)]
    pub fn emit(&self, config: &Config, packet: &mut Vec<u8>) -> Transmit {
        let ip = IpHeader {
            hop_limit: self.hop_limit.unwrap_or(config.hop_limit),
            traffic_class: self.dscp << 2 | self.codepoint,
            ..IpHeader::new(self.flow.local.ip(), self.flow.remote.ip(), ip::TCP)
        };
        let transmit = emit(config, &ip, self.tcp, self.text, packet);
        Transmit { segment_size: self.segment_size, rule: self.rule, ..transmit }
    }
}

/// Writes a segment of whatever kind into `packet`, replacing what that held, its checksum as the link wants it.
#[inline(always)]
pub(crate) fn emit(
    config: &Config,
    ip: &IpHeader,
    tcp: &TcpHeader,
    data: [&[u8]; 2],
    packet: &mut Vec<u8>,
) -> Transmit {
    let checksum = match config.checksums.transmit {
        TransmitChecksum::Full => Checksum::Full,
        TransmitChecksum::Partial => Checksum::Partial,
        TransmitChecksum::None => Checksum::None,
    };
    let header_len = emit_packet(ip, tcp, data, checksum, packet) as u16;
    let partial_checksum = checksum == Checksum::Partial;
    Transmit { segment_size: None, header_len, partial_checksum, rule: None }
}

/// The IP header of what we send on `flow`.
pub(crate) fn ip_header(config: &Config, flow: &FourTuple, dscp: u8) -> IpHeader {
    let ip = IpHeader::new(flow.local.ip(), flow.remote.ip(), ip::TCP);
    IpHeader { hop_limit: config.hop_limit, traffic_class: dscp << 2, ..ip }
}
