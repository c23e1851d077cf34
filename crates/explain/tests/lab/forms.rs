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

/// A file of these packets.
pub fn pcap(packets: &[Packet]) -> Vec<u8> {
    let link = packets.first().map_or(1, |packet| packet.link);
    let mut file = Vec::new();
    for word in [0xa1b2_3c4d_u32, 4 << 16 | 2, 0, 0, 262_144, u32::from(link)] {
        file.extend(word.to_le_bytes());
    }
    for packet in packets {
        let time = [packet.time / 1_000_000_000, packet.time % 1_000_000_000].map(|part| part as u32);
        for word in [time[0], time[1], packet.data.len() as u32, packet.length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(&packet.data);
    }
    file
}

/// The clock that captured them is 7 s ahead.
pub fn ahead(mut packets: Vec<Packet>) -> Vec<Packet> {
    packets.iter_mut().for_each(|packet| packet.time += 7_000_000_000);
    packets
}

/// A firewall has chosen other sequence numbers for each direction.
pub fn renumbered(mut packets: Vec<Packet>) -> Vec<Packet> {
    for packet in &mut packets {
        let Some([src, dst]) = packet.ends() else { continue };
        let shift = |ends: &[u8]| {
            ends.iter().fold(77_u32, |hash, byte| hash.wrapping_mul(16_777_619) ^ u32::from(*byte))
        };
        renumber(&mut packet.data, shift(&src), shift(&dst));
    }
    packets
}

/// Adds to the sequence numbers of a TCP segment and to those that it acknowledges, its SACK blocks included.
fn renumber(data: &mut [u8], own: u32, peer: u32) {
    let tcp = 14 + if data[14] >> 4 == 4 { usize::from(data[14] & 15) * 4 } else { 40 };
    let Some(head) = data.get(tcp..tcp + 20) else { return };
    let (ack, end) = (head[13] & 16 != 0, tcp + usize::from(head[12] >> 4) * 4);
    // A refusal has a number of its own.
    let refusal = head[13] & 20 == 20 && head[4..8] == [0; 4];
    let mut numbers = Vec::new();
    if !refusal {
        numbers.push((4, own));
    }
    if ack {
        numbers.push((8, peer));
    }
    let mut at = 20;
    while let Some(&[kind, size]) = data.get(tcp + at..tcp + at + 2).filter(|_| tcp + at < end) {
        let size = usize::from(size);
        at += match kind {
            0 => break,
            1 => 1,
            _ if size < 2 => break,
            5 => {
                numbers.extend((at + 2..at + size).step_by(4).map(|edge| (edge, peer)));
                size
            }
            _ => size,
        };
    }
    for (at, shift) in numbers {
        let Some(field) = data.get_mut(tcp + at..tcp + at + 4) else { continue };
        let old = u32::from_be_bytes(field.try_into().unwrap());
        let new = old.wrapping_add(shift);
        field.copy_from_slice(&new.to_be_bytes());
        // RFC 1624, with the halves exchanged where the field begins at an odd place.
        let turn = |word: u32| if at % 2 == 1 { word.rotate_left(8) } else { word };
        let halves = |word: u32| [(word >> 16) as u16, word as u16];
        let sum = u16::from_be_bytes([data[tcp + 16], data[tcp + 17]]);
        let words = halves(turn(old)).map(|half| !half).into_iter().chain(halves(turn(new)));
        let mut total = words.fold(u32::from(!sum), |total, half| total + u32::from(half));
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        data[tcp + 16..tcp + 18].copy_from_slice(&(!(total as u16)).to_be_bytes());
    }
}
