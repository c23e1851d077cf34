//! The free peer: a TCP endpoint on a TUN device that neither checks nor retransmits, with one hop to a socket of the
//! host. What it costs is what the kernel costs, so that it is the floor of `lastack run` for bulk data.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lastack::device::{Tun, tun};
use lastack_engine::{Instant, Transmit};
use lastack_link::Link;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{INTERFACE, configure, enter};

const IP: usize = 20;
const TCP: usize = 20;
const HEADERS: usize = IP + TCP;
const MTU: usize = 65_520;
const FIN: u8 = 1;
const SYN: u8 = 2;
const PSH: u8 = 8;
const ACK: u8 = 16;
/// Window scale of both sides' windows as we advertise ours.
const SCALE: u8 = 10;

/// One connection at a time, from the namespace of the client to the host's `server`.
pub fn serve(namespace: &Path, server: Ipv4Addr) -> Result<()> {
    let outer = std::fs::File::open("/proc/self/ns/net")?;
    enter(namespace)?;
    let fd = tun::create(INTERFACE)?;
    configure(MTU)?;
    crate::process::ip(&format!("route add default dev {INTERFACE}"))?;
    nix::sched::setns(outer, nix::sched::CloneFlags::CLONE_NEWNET)?;
    let device = fd.as_fd().try_clone_to_owned()?;
    let mut peer = Peer { tun: Tun::from_fd(fd, MTU)?, device, server, connection: None, packet: Vec::new() };
    println!("ready");
    loop {
        peer.turn()?;
    }
}

struct Peer {
    tun: Tun,
    device: OwnedFd,
    server: Ipv4Addr,
    connection: Option<Connection>,
    packet: Vec<u8>,
}

struct Connection {
    socket: TcpStream,
    /// Addresses and ports of sent packets: those of the SYN, exchanged.
    addresses: [u8; 8],
    ports: [u8; 4],
    snd_nxt: u32,
    snd_una: u32,
    rcv_nxt: u32,
    window: u32,
    scale: u8,
    /// The peer is to be acknowledged.
    ack: bool,
    /// The host's socket has ended.
    ended: bool,
}

impl Peer {
    /// Handles the packets that are there, then the host's socket, and waits.
    fn turn(&mut self) -> Result<()> {
        let now = Instant::since_start(std::time::Duration::ZERO);
        let mut packet = std::mem::take(&mut self.packet);
        for _ in 0..16 {
            if self.tun.recv(now, &mut packet).is_none() {
                break;
            }
            self.arrives(&packet)?;
        }
        self.packet = packet;
        let Some(connection) = &mut self.connection else {
            return wait(&self.device, None);
        };
        if std::mem::take(&mut connection.ack) {
            connection.send(&mut self.tun, ACK, &mut [0; HEADERS]);
        }
        let sendable = !connection.ended && connection.room() > 0;
        if sendable && connection.pump(&mut self.tun, &mut self.packet)? {
            return Ok(());
        }
        wait(&self.device, sendable.then_some(&connection.socket))
    }

    fn arrives(&mut self, packet: &[u8]) -> Result<()> {
        if packet.len() < HEADERS || packet[0] != 0x45 || packet[9] != 6 {
            return Ok(());
        }
        let number =
            |at: usize| u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
        let (seq, ack, flags) = (number(IP + 4), number(IP + 8), packet[IP + 13]);
        let options = IP + usize::from(packet[IP + 12] >> 4) * 4;
        let window = u32::from(packet[IP + 14]) << 8 | u32::from(packet[IP + 15]);
        if flags & SYN != 0 {
            return self.accept(packet, seq, window, &packet[HEADERS..options]);
        }
        let Some(connection) = &mut self.connection else { return Ok(()) };
        if connection.ports[2..] != packet[IP..IP + 2] {
            return Ok(());
        }
        connection.snd_una = ack;
        connection.window = window << connection.scale;
        let data = &packet[options..];
        if seq == connection.rcv_nxt && !data.is_empty() {
            connection.socket.set_nonblocking(false)?;
            connection.socket.write_all(data)?;
            connection.socket.set_nonblocking(true)?;
            connection.rcv_nxt = seq.wrapping_add(data.len() as u32);
            connection.ack = true;
        }
        if flags & FIN != 0 && seq.wrapping_add(data.len() as u32) == connection.rcv_nxt {
            connection.rcv_nxt = connection.rcv_nxt.wrapping_add(1);
            connection.ack = true;
            // Fails if the host's connection has ended.
            let _ended = connection.socket.shutdown(std::net::Shutdown::Write);
        }
        Ok(())
    }

    fn accept(&mut self, syn: &[u8], seq: u32, window: u32, options: &[u8]) -> Result<()> {
        let port = u16::from_be_bytes([syn[IP + 2], syn[IP + 3]]);
        let socket = TcpStream::connect(SocketAddr::from((self.server, port))).context("connect")?;
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        crate::server::cubic(&socket);
        let mut addresses = [0; 8];
        addresses[..4].copy_from_slice(&syn[16..20]);
        addresses[4..].copy_from_slice(&syn[12..16]);
        let mut ports = [0; 4];
        ports[..2].copy_from_slice(&syn[IP + 2..IP + 4]);
        ports[2..].copy_from_slice(&syn[IP..IP + 2]);
        let mut connection = Connection {
            socket,
            addresses,
            ports,
            snd_nxt: 1,
            snd_una: 1,
            rcv_nxt: seq.wrapping_add(1),
            window,
            scale: window_scale(options),
            ack: false,
            ended: false,
        };
        // MSS and window scale.
        let mss = (MTU - HEADERS) as u16;
        let mut packet = vec![0; HEADERS];
        packet.extend([2, 4, (mss >> 8) as u8, mss as u8, 1, 3, 3, SCALE]);
        connection.send(&mut self.tun, SYN | ACK, &mut packet);
        connection.snd_nxt = 2;
        connection.snd_una = 2;
        self.connection = Some(connection);
        Ok(())
    }
}

impl Connection {
    /// What the peer's window has room for.
    fn room(&self) -> usize {
        self.window.saturating_sub(self.snd_nxt.wrapping_sub(self.snd_una)) as usize
    }

    /// Moves data from the host's socket to the peer. Returns whether there was any.
    fn pump(&mut self, tun: &mut Tun, packet: &mut Vec<u8>) -> Result<bool> {
        let room = self.room().min(MTU - HEADERS);
        packet.resize(HEADERS + room, 0);
        match self.socket.read(&mut packet[HEADERS..]) {
            Ok(0) => {
                self.ended = true;
                packet.truncate(HEADERS);
                self.send(tun, FIN | ACK, packet);
                self.snd_nxt = self.snd_nxt.wrapping_add(1);
                Ok(true)
            }
            Ok(bytes) => {
                packet.truncate(HEADERS + bytes);
                self.send(tun, PSH | ACK, packet);
                self.snd_nxt = self.snd_nxt.wrapping_add(bytes as u32);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the headers of the packet, whose data is there, and sends it.
    fn send(&self, tun: &mut Tun, flags: u8, packet: &mut [u8]) {
        let len = packet.len();
        let options = if flags & SYN != 0 { len - HEADERS } else { 0 };
        packet[..12].copy_from_slice(&[0x45, 0, (len >> 8) as u8, len as u8, 0, 0, 0x40, 0, 64, 6, 0, 0]);
        packet[12..20].copy_from_slice(&self.addresses);
        let checksum = !fold(words(&packet[..IP]));
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        let tcp = &mut packet[IP..HEADERS];
        tcp[..4].copy_from_slice(&self.ports);
        tcp[4..8].copy_from_slice(&self.snd_nxt.to_be_bytes());
        tcp[8..12].copy_from_slice(&self.rcv_nxt.to_be_bytes());
        tcp[12] = ((TCP + options) / 4 * 16) as u8;
        tcp[13] = flags;
        tcp[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
        // A partial checksum: that of the pseudo header. The kernel of the client takes it as verified.
        let pseudo = fold(words(&self.addresses) + 6 + (len - IP) as u32);
        tcp[16..20].copy_from_slice(&[(pseudo >> 8) as u8, pseudo as u8, 0, 0]);
        let transmit = Transmit {
            partial_checksum: true,
            header_len: (HEADERS + options) as u16,
            ..Transmit::default()
        };
        let now = Instant::since_start(std::time::Duration::ZERO);
        tun.send(now, packet, &transmit);
    }
}

fn words(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum()
}

fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The window scale option of a SYN.
fn window_scale(mut options: &[u8]) -> u8 {
    while let [kind, rest @ ..] = options {
        options = match (kind, rest) {
            (0, _) => return 0,
            (1, _) => rest,
            (3, [3, scale, ..]) => return *scale,
            (_, [len, ..]) if *len >= 2 => rest.get(usize::from(*len) - 1..).unwrap_or_default(),
            _ => return 0,
        };
    }
    0
}

/// Waits until one of these is readable.
fn wait(device: &OwnedFd, socket: Option<&TcpStream>) -> Result<()> {
    let mut fds = vec![PollFd::new(device.as_fd(), PollFlags::POLLIN)];
    fds.extend(socket.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
    let ready = poll(&mut fds, PollTimeout::NONE)?;
    ensure!(ready > 0, "poll has returned without reason");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_scale_is_found_among_other_options() {
        assert_eq!(window_scale(&[2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 7]), 7);
        assert_eq!(window_scale(&[2, 4, 5, 180]), 0);
        assert_eq!(window_scale(&[5, 0, 3]), 0, "a malformed option ends the search");
    }
}
