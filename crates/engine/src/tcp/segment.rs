//! A segment: as it arrives, and as it is written out.

use crate::end::Header;
use crate::isn::FlowHasher;
use crate::seq::{RcvSeq, SndSeq};
use crate::{Config, FourTuple, Rule, Transmit, TransmitChecksum};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use lastack_wire::ip::{self, IpHeader};
use lastack_wire::tcp::{Checksum, TcpFlags, TcpHeader, emit_packet};

/// A segment that has arrived, its checksum and header verified.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    pub ip: &'a IpHeader,
    pub tcp: &'a TcpHeader,
    pub text: &'a [u8],
    /// The hash of its four-tuple.
    pub hash: u32,
}

impl<'a> Arrival<'a> {
    pub fn new(ip: &'a IpHeader, tcp: &'a TcpHeader, text: &'a [u8], hasher: &FlowHasher) -> Self {
        let hash = hasher.hash(&ip.dst, &ip.src, (tcp.dst_port, tcp.src_port));
        Self { ip, tcp, text, hash }
    }
}

impl Arrival<'_> {
    /// The four-tuple of its connection, from our side.
    pub fn flow(&self) -> FourTuple {
        FourTuple { local: self.local(), remote: socket_addr(&self.ip.src, self.tcp.src_port) }
    }

    /// Its destination address and port.
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

    /// SEG.LEN: data, SYN and FIN.
    pub fn len(&self) -> u32 {
        let controls = u32::from(self.has(TcpFlags::SYN)) + u32::from(self.has(TcpFlags::FIN));
        self.text.len() as u32 + controls
    }

    pub fn has(&self, flag: TcpFlags) -> bool {
        self.tcp.flags.intersects(flag)
    }

    /// The header fields that are recorded.
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

/// [`SocketAddr::new`], without copying sixteen bytes for an address of four.
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
    /// Eff.snd.MSS, if the data is longer and the link has to segment it (TSO).
    pub segment_size: Option<u16>,
    pub dscp: u8,
    /// Hop limit (TTL) that overrides the stack's.
    pub hop_limit: Option<u8>,
    /// The ECN bits of the IP header.
    pub codepoint: u8,
    pub rule: Option<Rule>,
}

impl Outgoing<'_> {
    /// Writes it into `packet`, replacing its contents.
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

/// Writes any segment into `packet`, replacing its contents, with the checksum computed as far as the link requires.
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

/// The IP header of segments sent on `flow`.
pub(crate) fn ip_header(config: &Config, flow: &FourTuple, dscp: u8) -> IpHeader {
    let ip = IpHeader::new(flow.local.ip(), flow.remote.ip(), ip::TCP);
    IpHeader { hop_limit: config.hop_limit, traffic_class: dscp << 2, ..ip }
}
