//! Transmission of datagrams.

use crate::shared::Shared;
use crate::udp::socket::{Outgoing, Socket};
use crate::udp::{UdpError, UdpId, UdpTable};
use crate::{Event, Instant, IpFields, Transmit, TransmitChecksum};
use alloc::vec::Vec;
use lastack_wire::ip::{self, IpHeader};
use lastack_wire::udp::UdpHeader;

/// Offset of the checksum in a UDP header.
const CHECKSUM_AT: usize = 6;

impl UdpTable {
    /// Writes the next datagram, or its first fragment, into `packet`.
    pub fn poll_transmit(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        packet: &mut Vec<u8>,
    ) -> Option<Transmit> {
        loop {
            let id = self.ready.pop_front()?;
            let Some(socket) = self.sockets.get_mut(id) else { continue };
            let Some(outgoing) = socket.unsent.pop_front() else { continue };
            socket.unblock(id, shared);
            let transmit = socket.emit(id, shared, now, outgoing, packet);
            if !socket.unsent.is_empty() {
                self.ready.push_back(id);
            } else if socket.is_closed() {
                self.sockets.remove(id);
            }
            if transmit.is_some() {
                shared.counters.udp_out_datagrams += 1;
                return transmit;
            }
        }
    }
}

impl Socket {
    /// Notifies the user of a socket whose send queue was full, once half of it is free, so that several
    /// sends succeed.
    fn unblock(&mut self, id: UdpId, shared: &mut Shared) {
        if self.blocked && self.unsent.len() <= shared.config.datagrams.send_queue / 2 {
            self.blocked = false;
            shared.events.push(Event::UdpWritable(id));
        }
    }

    /// `None`: it is too large for the path, and must not be fragmented.
    fn emit(
        &mut self,
        id: UdpId,
        shared: &mut Shared,
        now: Instant,
        outgoing: Outgoing,
        packet: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let Outgoing { flow, payload, segment_size, ip } = outgoing;
        let fields = ip.unwrap_or(IpFields {
            hop_limit: self.hop_limit.unwrap_or(shared.config.hop_limit),
            traffic_class: 0,
            dont_fragment: self.dont_fragment,
        });
        let mut ip = fields.apply(IpHeader::new(flow.local.ip(), flow.remote.ip(), ip::UDP));
        let udp = UdpHeader { src_port: flow.local.port(), dst_port: flow.remote.port() };
        let len = UdpHeader::LEN + payload.len();
        let path_mtu = shared.paths.mtu(ip.dst, shared.config.mtu, now);
        self.note_size(ip.dst, (ip.len() + len).min(path_mtu));
        if segment_size.is_some() || ip.len() + len <= path_mtu {
            shared.number(&mut ip);
            packet.clear();
            ip.emit(len, packet);
            let partial_checksum =
                emit_datagram(shared.config.checksums.transmit, &ip, udp, &payload, packet);
            let header_len = (ip.len() + UdpHeader::LEN) as u16;
            return Some(Transmit { header_len, partial_checksum, segment_size, ..Transmit::default() });
        }
        // A forwarding embedder cannot use an error that belongs to one of many flows.
        if self.dont_fragment {
            self.fail(id, UdpError::MessageTooLong, &mut shared.events);
            return None;
        }
        // Checksum offload is not possible across fragments.
        let mut whole = Vec::with_capacity(len);
        udp.emit(&ip, &payload, &mut whole);
        shared.emit_packet(now, ip, whole, None, packet)
    }
}

/// Appends header and payload with the checksum that the link requires; `true` if it is partial.
fn emit_datagram(
    checksum: TransmitChecksum,
    ip: &IpHeader,
    udp: UdpHeader,
    payload: &[u8],
    packet: &mut Vec<u8>,
) -> bool {
    match checksum {
        TransmitChecksum::Full => udp.emit(ip, payload, packet),
        TransmitChecksum::Partial => udp.emit_partial(ip, payload, packet),
        TransmitChecksum::None => {
            udp.emit_partial(ip, payload, packet);
            packet[ip.len() + CHECKSUM_AT..][..2].fill(0);
        }
    }
    checksum == TransmitChecksum::Partial
}
