//! The bare peer: it answers each segment with one that it computes from that segment alone. It has no state, no timers, no
//! buffers, and no virtio header. What it costs is what a TUN device, its system calls and the client cost: no stack
//! behind the same device can be faster.

use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::Result;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{read, write};
use smoltcp::phy::{Medium, TunTapInterface};

use super::{INTERFACE, configure};
use crate::work::port;

const IP: usize = 20;
const TCP: usize = 20;
const HEADERS: usize = IP + TCP;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// Answers in this network namespace until it is killed.
pub fn serve() -> Result<()> {
    // It opens the device, without blocking, and attaches to the interface.
    let device = TunTapInterface::new(INTERFACE, Medium::Ip)?;
    configure(1500)?;
    // SAFETY: `device` owns the descriptor and lives as long as this function, which does not return.
    let device = unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) };
    println!("ready");
    let mut packet = [0; 1500];
    let mut answer = [0; 1500];
    loop {
        poll(&mut [PollFd::new(device, PollFlags::POLLIN)], PollTimeout::NONE)?;
        loop {
            // Each answer is written before the next packet is read: it often brings that packet.
            match read(device, &mut packet) {
                Ok(len) => {
                    if let Some(len) = self::answer(&packet[..len], &mut answer) {
                        write(device, &answer[..len])?;
                    }
                }
                Err(Errno::EAGAIN) => break,
                Err(error) => return Err(std::io::Error::from(error).into()),
            }
        }
    }
}

/// Writes the answer to a packet, if it needs one, and returns its length.
fn answer(packet: &[u8], answer: &mut [u8; 1500]) -> Option<usize> {
    if packet.len() < HEADERS || packet[0] != 0x45 || packet[9] != 6 {
        return None;
    }
    let number = |at: usize| u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
    let flags = packet[IP + 13];
    let data = packet.get(IP + usize::from(packet[IP + 12] >> 4) * 4..)?;
    let serving = [port::ECHO, port::CLOSE].contains(&u16::from_be_bytes([packet[IP + 2], packet[IP + 3]]));
    let controls = u32::from(flags & (SYN | FIN) != 0);
    let (seq, ack) = (number(IP + 8), number(IP + 4).wrapping_add(data.len() as u32 + controls));
    let (seq, flags, data) = match flags & (SYN | FIN | RST) {
        SYN if serving => (1, SYN | ACK, &[][..]),
        SYN => (0, RST | ACK, &[][..]),
        FIN => (seq, FIN | ACK, &[][..]),
        0 if !data.is_empty() => (seq, PSH | ACK, data),
        _ => return None,
    };
    let len = HEADERS + data.len();
    let header = &mut answer[..HEADERS];
    header.fill(0);
    header[..10].copy_from_slice(&[0x45, 0, (len >> 8) as u8, len as u8, 0, 0, 0x40, 0, 64, 6]);
    header[12..16].copy_from_slice(&packet[16..20]);
    header[16..20].copy_from_slice(&packet[12..16]);
    header[IP..IP + 2].copy_from_slice(&packet[IP + 2..IP + 4]);
    header[IP + 2..IP + 4].copy_from_slice(&packet[IP..IP + 2]);
    header[IP + 4..IP + 8].copy_from_slice(&seq.to_be_bytes());
    header[IP + 8..IP + 12].copy_from_slice(&ack.to_be_bytes());
    header[IP + 12..IP + 16].copy_from_slice(&[(TCP / 4 * 16) as u8, flags, 0xff, 0xff]);
    answer[HEADERS..len].copy_from_slice(data);
    let checksum = !fold(sum(&answer[..IP]));
    answer[10..12].copy_from_slice(&checksum.to_be_bytes());
    let checksum = !fold(sum(&answer[12..len]) + 6 + (len - IP) as u32);
    answer[IP + 16..IP + 18].copy_from_slice(&checksum.to_be_bytes());
    Some(len)
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low))).sum()
}

fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}
