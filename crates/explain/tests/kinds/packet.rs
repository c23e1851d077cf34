//! Packets of TCP over IPv4, written field by field, and the records of a capture of them.

use lastack_explain::record::Writer;
use lastack_explain::{Explainer, Frame, Options, RawPacket};
use serde_json::Value;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

/// A packet with one segment. A SYN has the usual options.
pub struct Tcp<'a> {
    /// Address and port.
    pub src: ([u8; 4], u16),
    pub dst: ([u8; 4], u16),
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub ttl: u8,
    pub ident: u16,
    pub tsval: Option<u32>,
    pub sack: Option<[u32; 2]>,
    pub payload: &'a [u8],
}

fn options(packet: &Tcp<'_>) -> Vec<u8> {
    let mut options = Vec::new();
    if packet.flags & SYN != 0 {
        options.extend([2, 4, 5, 180, 4, 2, 1, 3, 3, 7]);
    }
    if let Some(value) = packet.tsval {
        options.extend([1, 1, 8, 10]);
        options.extend(value.to_be_bytes());
        options.extend([0; 4]);
    }
    if let Some(edges) = packet.sack {
        options.extend([1, 1, 5, 10]);
        edges.iter().for_each(|edge| options.extend(edge.to_be_bytes()));
    }
    options.resize(options.len().next_multiple_of(4), 0);
    options
}

fn sum(bytes: impl Iterator<Item = u8>) -> [u8; 2] {
    let mut total = 0_u32;
    for (index, byte) in bytes.enumerate() {
        total += u32::from(byte) << (8 * (1 - index % 2));
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    (!(total as u16)).to_be_bytes()
}

/// The packet as raw IP.
pub fn write(packet: &Tcp<'_>) -> Vec<u8> {
    let options = options(packet);
    let mut tcp = Vec::new();
    tcp.extend(packet.src.1.to_be_bytes());
    tcp.extend(packet.dst.1.to_be_bytes());
    tcp.extend(packet.seq.to_be_bytes());
    tcp.extend(packet.ack.to_be_bytes());
    tcp.extend([((20 + options.len()) << 2) as u8, packet.flags]);
    tcp.extend(packet.window.to_be_bytes());
    tcp.extend([0; 4]);
    tcp.extend(options);
    tcp.extend_from_slice(packet.payload);
    let head = [0, 6, (tcp.len() >> 8) as u8, tcp.len() as u8];
    let pseudo = packet.src.0.into_iter().chain(packet.dst.0).chain(head);
    let checksum = sum(pseudo.chain(tcp.iter().copied()));
    tcp[16..18].copy_from_slice(&checksum);
    let mut ip = vec![0x45, 0];
    ip.extend((20 + tcp.len() as u16).to_be_bytes());
    ip.extend(packet.ident.to_be_bytes());
    ip.extend([0x40, 0, packet.ttl, 6, 0, 0]);
    ip.extend(packet.src.0);
    ip.extend(packet.dst.0);
    let checksum = sum(ip.iter().copied());
    ip[10..12].copy_from_slice(&checksum);
    ip.extend(tcp);
    ip
}

/// What is done to the packets, by their place; `false` drops a packet.
pub type Change = fn(usize, &mut (i64, Vec<u8>)) -> bool;

/// A capture of these packets, read to its end.
pub fn explained(packets: &[(i64, Vec<u8>)], change: Change) -> Explainer {
    let mut explainer = Explainer::new(Options { all: true, ..Options::default() });
    for (place, packet) in packets.iter().enumerate() {
        let mut packet = packet.clone();
        let length = packet.1.len() as u32;
        if change(place, &mut packet) {
            explainer.packet(&RawPacket {
                frame: Frame::new(0, place as u64 + 1),
                time: packet.0,
                timed: true,
                link: 101,
                interface: 0,
                data: &packet.1,
                length,
                comment: None,
                vantage: 0,
            });
        }
    }
    explainer.finish();
    explainer
}

/// The records of all connections.
pub fn records(packets: &[(i64, Vec<u8>)], change: Change) -> Vec<Value> {
    let writer = Writer { digits: 6, ..Writer::default() };
    let ready: Vec<_> = explained(packets, change).ready().collect();
    ready.iter().map(|explained| serde_json::to_value(writer.connection(explained, &[])).unwrap()).collect()
}
