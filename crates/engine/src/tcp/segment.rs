//! A segment: as it arrives, and as it is written out.

use crate::end::Header;
use crate::seq::{RcvSeq, SndSeq};
use crate::{Config, FourTuple, Transmit, TransmitChecksum};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use lastack_wire::ip::{self, IpHeader};
use lastack_wire::tcp::{
    Checksum, HeaderTemplate, SegmentFields, TcpFlags, TcpHeader, TcpOptions, emit_headers, emit_packet,
};

/// A segment that has arrived, its checksum and header verified.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    pub ip: &'a IpHeader,
    pub tcp: &'a TcpHeader,
    pub payload: &'a [u8],
    /// Bytes of data in each of the segments that the link has merged into it; 0: it is one segment.
    pub segment_size: u16,
    /// The hash of its four-tuple; 0 if it goes to a synchronized connection, which needs none.
    pub hash: u32,
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
        self.payload.len() as u32 + controls
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
            len: self.payload.len() as u32,
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

/// The fields of a segment without a template: of a handshake or of TIME-WAIT, with rare options, or a reply without a
/// connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fields {
    pub seq: u32,
    /// The acknowledgment number, if the segment has one: the ACK flag is set then.
    pub ack: Option<u32>,
    /// The other flags.
    pub flags: TcpFlags,
    pub window: u16,
    pub options: TcpOptions,
}

impl Fields {
    /// The header of a segment sent on `flow`.
    #[inline(always)]
    pub fn header(self, flow: &FourTuple) -> TcpHeader {
        self.header_between(flow.local.port(), flow.remote.port())
    }

    /// The header of a segment from one port to another.
    #[inline(always)]
    pub fn header_between(self, src_port: u16, dst_port: u16) -> TcpHeader {
        let Self { seq, ack, mut flags, window, options } = self;
        flags.set(TcpFlags::ACK, ack.is_some());
        TcpHeader { src_port, dst_port, seq, ack: ack.unwrap_or(0), flags, window, urgent: 0, options }
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
    let header_len = emit_packet(ip, tcp, data, checksum(config), packet);
    transmit(config, header_len)
}

/// [`emit`] for a segment without data whose fields are not known where it is built: one copy of the code.
#[inline(never)]
pub(crate) fn emit_control(
    config: &Config,
    ip: &IpHeader,
    tcp: &TcpHeader,
    packet: &mut Vec<u8>,
) -> Transmit {
    emit(config, ip, tcp, [&[], &[]], packet)
}

/// The headers of the segments of a connection.
#[inline]
pub(crate) fn template(flow: &FourTuple, timestamps: bool) -> HeaderTemplate {
    let ip = IpHeader::new(flow.local.ip(), flow.remote.ip(), ip::TCP);
    HeaderTemplate::new(&ip, flow.local.port(), flow.remote.port(), timestamps)
}

/// Writes the headers of a segment of a connection whose options its template does not have. `ident`: the
/// identification of an IPv4 packet without DF. Returns their length.
#[cold]
pub(crate) fn emit_fields(
    flow: &FourTuple,
    fields: &SegmentFields,
    options: TcpOptions,
    ident: Option<u16>,
    data: [&[u8]; 2],
    checksum: Checksum,
    headers: &mut Vec<u8>,
) -> usize {
    let &SegmentFields { hop_limit, traffic_class, seq, ack, flags, window, timestamps: _ } = fields;
    let ack = flags.contains(TcpFlags::ACK).then_some(ack);
    let ip = IpHeader {
        hop_limit,
        traffic_class,
        ident: ident.unwrap_or_default(),
        dont_fragment: ident.is_none(),
        ..IpHeader::new(flow.local.ip(), flow.remote.ip(), ip::TCP)
    };
    let tcp = Fields { seq, ack, flags, window, options }.header(flow);
    emit_headers(&ip, &tcp, data, checksum, headers)
}

/// How far the link requires checksums to be computed.
pub(crate) const fn checksum(config: &Config) -> Checksum {
    match config.checksums.transmit {
        TransmitChecksum::Full => Checksum::Full,
        TransmitChecksum::Partial => Checksum::Partial,
        TransmitChecksum::None => Checksum::None,
    }
}

/// The metadata of a segment with headers of this length.
pub(crate) const fn transmit(config: &Config, header_len: usize) -> Transmit {
    let partial_checksum = matches!(config.checksums.transmit, TransmitChecksum::Partial);
    Transmit { segment_size: None, header_len: header_len as u16, partial_checksum, rule: None }
}

/// The IP header of segments sent on `flow`.
pub(crate) fn ip_header(config: &Config, flow: &FourTuple, dscp: u8) -> IpHeader {
    let ip = IpHeader::new(flow.local.ip(), flow.remote.ip(), ip::TCP);
    IpHeader { hop_limit: config.hop_limit, traffic_class: dscp << 2, ..ip }
}
