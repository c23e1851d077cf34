//! The packets of an attacker with the addresses and ports of a connection, which guesses its sequence numbers.

use super::script::{FROM, PORT};
use lastack_sim::decode::Decoder;
use lastack_sim::trace::Trace;
use lastack_wire::ip::{self, IpHeader};
use lastack_wire::tcp::{self, TcpFlags, TcpHeader};
use std::net::{IpAddr, SocketAddr};

/// A reset in the name of the left host, `offset` bytes beyond the sequence number that the right one expects.
pub(super) fn reset(trace: &Trace, addresses: [IpAddr; 2], offset: u32) -> Result<Vec<u8>, String> {
    let mut decoder = Decoder::default();
    for packet in &trace.packets {
        decoder.read(packet);
    }
    let [a, b] = addresses;
    let exact = decoder
        .next_seq(SocketAddr::new(a, FROM), SocketAddr::new(b, PORT))
        .ok_or("the script forges a reset for a connection that does not exist")?;
    let header = IpHeader::new(a, b, ip::TCP);
    let segment = TcpHeader {
        src_port: FROM,
        dst_port: PORT,
        seq: exact.wrapping_add(offset),
        flags: TcpFlags::RST,
        ..TcpHeader::default()
    };
    let mut packet = Vec::new();
    header.emit(segment.len(), &mut packet);
    segment.emit(&mut packet);
    tcp::fill_checksum(&header, &mut packet[header.len()..]);
    Ok(packet)
}
