//! Bugs injected from outside, to test that the simulation detects them.

use super::world::World;
use crate::trace::{PacketKind, PacketRecord};
use lastack_engine::{Stack, TcpState};
use lastack_wire::ip::{IpPacket, TCP};
use lastack_wire::tcp::{self, TcpFlags, TcpHeader};

/// A bug that a stack must not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectedBug {
    /// A byte of data is changed, with a correct checksum.
    FlipByte,
    /// A FIN comes before the end of the stream.
    EarlyFin,
    /// A connection produces no [`End`](lastack_engine::End).
    DropEnd,
    /// A connection produces two.
    DoubleEnd,
    /// An end counts bytes that were not transferred.
    LieAboutBytes,
    /// A reset arrives that its sender did not report.
    ForgeReset,
    /// A window shrinks.
    ShrinkWindow,
    /// Data is acknowledged that was never sent.
    AcknowledgeTooMuch,
    /// A program never closes its connection.
    KeepOne,
    /// An end is reported as orderly although bytes are lost.
    FalsePeace,
}

impl InjectedBug {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::FlipByte,
        Self::EarlyFin,
        Self::DropEnd,
        Self::DoubleEnd,
        Self::LieAboutBytes,
        Self::ForgeReset,
        Self::ShrinkWindow,
        Self::AcknowledgeTooMuch,
        Self::KeepOne,
        Self::FalsePeace,
    ];

    /// Injects the bug where it can: into the reported ends, or into packets in flight.
    pub(super) fn strike(&mut self, world: &mut World) {
        match self {
            Self::DropEnd => drop(world.ends.pop()),
            Self::DoubleEnd => {
                if let [only] = &world.ends[..] {
                    world.ends.push(only.clone());
                }
            }
            Self::LieAboutBytes => {
                if let Some(end) = world.ends.last_mut().filter(|end| end.ended.bytes.received > 0) {
                    end.ended.bytes.received += 1;
                }
            }
            Self::FalsePeace => {
                if let Some(end) = world.ends.last_mut() {
                    end.ended.end.cause = lastack_engine::Cause::Orderly;
                }
            }
            Self::KeepOne => {}
            Self::ForgeReset => self.forge_reset(world),
            _ => self.tamper(world),
        }
    }

    /// Changes the packets that were just sent.
    fn tamper(&self, world: &mut World) {
        let sent = world.net.trace().packets.len();
        for index in world.invariants.seen_packets()..sent {
            let kind = world.net.trace().packets[index].kind;
            if let Some(bytes) = world.net.packet_in_flight(index)
                && kind == PacketKind::Sent
                && let Some(tampered) = self.changed(bytes)
            {
                *bytes = tampered;
            }
        }
    }

    fn changed(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let packet = IpPacket::parse(bytes).ok().filter(|packet| packet.header.protocol == TCP)?;
        let (mut tcp, text) = TcpHeader::parse(packet.payload).ok()?;
        if tcp.flags.intersects(TcpFlags::SYN | TcpFlags::RST) {
            return None;
        }
        let mut text = text.to_vec();
        match self {
            Self::FlipByte => *text.get_mut(3)? ^= 0x20,
            Self::EarlyFin if text.len() > 8 => {
                text.truncate(text.len() / 2);
                tcp.flags |= TcpFlags::FIN;
            }
            Self::ShrinkWindow if tcp.window > 20 => tcp.window /= 20,
            Self::AcknowledgeTooMuch => tcp.ack = tcp.ack.wrapping_add(2),
            _ => return None,
        }
        let mut changed = Vec::new();
        packet.header.emit(tcp.len() + text.len(), &mut changed);
        tcp.emit(&mut changed);
        changed.extend(text);
        tcp::fill_checksum(&packet.header, &mut changed[packet.header.len()..]);
        Some(changed)
    }

    /// Resets an established connection in the name of its peer, once.
    fn forge_reset(&mut self, world: &mut World) {
        let Some(record) = world.net.trace().packets.last().cloned() else { return };
        let Some((from, reset)) = reset_after(&record) else { return };
        let Some(victim) = crate::net::tcp_flow(&record.bytes) else { return };
        let Some(index) = world.hosts.iter().position(|host| host.id == record.from) else { return };
        let stack: &mut Stack = world.net.stack(world.hosts[index].id);
        if stack.tcp_state(&victim) == Some(TcpState::Established) {
            world.net.forge(from, reset);
        }
    }
}

/// A reset that the sender of this segment accepts as its peer's.
fn reset_after(record: &PacketRecord) -> Option<(crate::HostId, Vec<u8>)> {
    let packet = IpPacket::parse(&record.bytes).ok().filter(|packet| packet.header.protocol == TCP)?;
    let (tcp, _) = TcpHeader::parse(packet.payload).ok()?;
    let header = lastack_wire::ip::IpHeader::new(packet.header.dst, packet.header.src, TCP);
    let reset = TcpHeader {
        src_port: tcp.dst_port,
        dst_port: tcp.src_port,
        seq: tcp.ack,
        flags: TcpFlags::RST,
        ..TcpHeader::default()
    };
    let mut bytes = Vec::new();
    header.emit(reset.len(), &mut bytes);
    reset.emit(&mut bytes);
    tcp::fill_checksum(&header, &mut bytes[header.len()..]);
    Some((record.to?, bytes))
}
