//! Captures in other forms: cut, doubled, out of order, or with a part missing.

use lastack_explain::Frame;
use lastack_explain::read::{Capture, Merge, RawPacket};
use std::collections::HashMap;
use std::path::Path;

/// A packet of Ethernet.
#[derive(Clone)]
pub struct Packet {
    time: i64,
    link: u16,
    frame: u64,
    length: u32,
    data: Vec<u8>,
}

/// What is done to all packets of a capture.
pub type Form = fn(Vec<Packet>) -> Vec<Packet>;

impl Packet {
    pub fn raw(&self) -> RawPacket<'_> {
        RawPacket {
            frame: Frame::new(0, self.frame),
            time: self.time,
            timed: true,
            link: self.link,
            interface: 0,
            data: &self.data,
            length: self.length,
            comment: None,
            vantage: 0,
        }
    }

    /// The addresses and ports of its sender and its receiver, if it is of TCP.
    fn ends(&self) -> Option<[Vec<u8>; 2]> {
        let (ip, port) = (self.data.get(14..)?, |at: usize, ip: &[u8]| Some(ip.get(at..at + 2)?.to_vec()));
        let (addresses, size, tcp) = match ip.first()? >> 4 {
            4 => (12..20, 4, usize::from(ip[0] & 15) * 4),
            6 => (8..40, 16, 40),
            _ => return None,
        };
        let protocol = if size == 4 { ip[9] } else { ip[6] };
        let (src, dst) = ip.get(addresses)?.split_at(size);
        (protocol == 6).then_some(())?;
        Some([[src.to_vec(), port(tcp, ip)?].concat(), [dst.to_vec(), port(tcp + 2, ip)?].concat()])
    }
}

/// Reads a capture.
pub fn read(path: &Path) -> Vec<Packet> {
    let mut input = Merge::new(vec![Capture::open(path, 0).unwrap()]);
    let mut packets = Vec::new();
    while let Some(packet) = input.next_packet() {
        packets.push(Packet {
            time: packet.time,
            link: packet.link,
            frame: packet.frame.number(),
            length: packet.length,
            data: packet.data.to_vec(),
        });
    }
    packets
}

/// Each packet again after 3 us, one hop on.
pub fn twice(packets: Vec<Packet>) -> Vec<Packet> {
    let count = packets.len() as u64;
    let copy = |packet: &Packet| {
        let mut copy = packet.clone();
        (copy.time, copy.frame) = (copy.time + 3000, copy.frame + count);
        if copy.data.get(14) == Some(&0x45) {
            copy.data[22] -= 1;
        }
        copy
    };
    packets.into_iter().flat_map(|packet| [packet.clone(), copy(&packet)]).collect()
}

/// Every seventh packet changes its place with the next one, if that comes within a millisecond.
pub fn swapped(mut packets: Vec<Packet>) -> Vec<Packet> {
    for at in (0..packets.len().saturating_sub(1)).step_by(7) {
        let (first, second) = (packets[at].time, packets[at + 1].time);
        if second - first < 1_000_000 {
            packets.swap(at, at + 1);
            (packets[at].time, packets[at + 1].time) = (first, second);
        }
    }
    packets
}

fn cut(mut packets: Vec<Packet>, bytes: usize) -> Vec<Packet> {
    packets.iter_mut().for_each(|packet| packet.data.truncate(bytes));
    packets
}

pub fn cut_to_96(packets: Vec<Packet>) -> Vec<Packet> {
    cut(packets, 96)
}

pub fn cut_to_68(packets: Vec<Packet>) -> Vec<Packet> {
    cut(packets, 68)
}

/// Without the first four packets of each connection.
pub fn without_beginning(packets: Vec<Packet>) -> Vec<Packet> {
    let mut seen: HashMap<[Vec<u8>; 2], u32> = HashMap::new();
    let late = |packet: &Packet| {
        packet.ends().is_none_or(|mut ends| {
            ends.sort();
            let count = seen.entry(ends).or_default();
            *count += 1;
            *count > 4
        })
    };
    let mut late = late;
    packets.into_iter().filter(|packet| late(packet)).collect()
}

fn of_one_end(packets: Vec<Packet>, client: bool) -> Vec<Packet> {
    let mut clients: HashMap<[Vec<u8>; 2], Vec<u8>> = HashMap::new();
    let mut wanted = |packet: &Packet| {
        packet.ends().is_none_or(|ends| {
            let mut key = ends.clone();
            key.sort();
            let [sender, _] = ends;
            (*clients.entry(key).or_insert_with(|| sender.clone()) == sender) == client
        })
    };
    packets.into_iter().filter(|packet| wanted(packet)).collect()
}

/// Only what those sent that sent the first packet.
pub fn of_client(packets: Vec<Packet>) -> Vec<Packet> {
    of_one_end(packets, true)
}

/// Only what the others sent.
pub fn of_server(packets: Vec<Packet>) -> Vec<Packet> {
    of_one_end(packets, false)
}
