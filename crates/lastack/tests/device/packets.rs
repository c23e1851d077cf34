//! Packet by packet.

use std::{
    fs::File,
    future::poll_fn,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    thread,
};

use lastack_device::{Device, DeviceKind, Netlink, Tun, Veth, netlink};
use lastack_engine::{Instant, Transmit, TransmitChecksum};
use lastack_link::Link;
use lastack_wire::{
    Icmp, IpHeader, IpPacket, TcpFlags, TcpHeader, TcpOptions, UdpHeader,
    ip::{ICMP, ICMPV6, TCP, UDP},
    tcp,
};

use crate::lab::{Lab, MTU, NAME, PATIENCE, Pair, in_namespace, pairs, pattern, with_devices};

/// TUN as other programs make it: without virtio headers.
#[test]
#[ignore = "needs root and /dev/net/tun"]
fn a_tun_without_offload_carries_plain_packets() {
    let test = || {
        let fd = plain_tun().expect("cannot run here: needs /dev/net/tun");
        let device = Tun::from_fd(fd, MTU).unwrap();
        assert_eq!(device.name(), NAME);
        let capabilities = device.capabilities();
        assert_eq!((capabilities.mtu, capabilities.max_packet), (MTU, MTU));
        assert_eq!(capabilities.checksums.transmit, TransmitChecksum::Full);
        let mut lab = Lab::over(Device::Tun(device));
        for pair in pairs() {
            let socket = socket(pair.kernel);
            socket.send_to(&pattern(1000), (pair.ours, 9)).unwrap();
            let (packet, received) = lab.recv(pair.ours, UDP);
            let parsed = IpPacket::parse(&packet).unwrap();
            let (_, payload) = UdpHeader::parse(&parsed.header, parsed.payload).unwrap();
            assert_eq!((payload, received.checksum_good), (pattern(1000).as_slice(), false));
            let (packet, transmit) = datagram(pair, socket.local_addr().unwrap().port(), b"back", false);
            lab.send(&packet, &transmit);
            assert_eq!(socket.recv(&mut [0; 100]).unwrap(), 4);
        }
    };
    in_namespace(test);
}

fn plain_tun() -> Option<OwnedFd> {
    let file = File::options().read(true).write(true).open("/dev/net/tun").ok()?;
    // SAFETY: ifreq is plain numbers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(NAME.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives through the call.
    let set = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    (set == 0).then(|| file.into())
}

#[test]
fn a_file_that_is_not_a_device_is_refused() {
    let file = || OwnedFd::from(File::open("/dev/null").unwrap());
    let error = Tun::from_fd(file(), MTU).unwrap_err();
    assert!(error.to_string().contains("not attached to a TUN interface"), "{error}");
    let error = Veth::from_fd(file(), MTU).unwrap_err();
    assert!(error.to_string().contains("not a packet socket"), "{error}");
}

fn socket(at: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((at, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A datagram to the kernel and what to say of it.
fn datagram(pair: Pair, port: u16, payload: &[u8], partial: bool) -> (Vec<u8>, Transmit) {
    let ip = IpHeader::new(pair.ours, pair.kernel, UDP);
    let mut packet = Vec::new();
    ip.emit(UdpHeader::LEN + payload.len(), &mut packet);
    let udp = UdpHeader { src_port: 4000, dst_port: port };
    if partial {
        udp.emit_partial(&ip, payload, &mut packet);
    } else {
        udp.emit(&ip, payload, &mut packet);
    }
    let header_len = (ip.len() + UdpHeader::LEN) as u16;
    (packet, Transmit { header_len, partial_checksum: partial, ..Transmit::default() })
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn the_kernel_offers_super_segments() {
    with_devices(|lab, _| {
        let capabilities = lab.device.capabilities();
        assert_eq!((capabilities.mtu, capabilities.max_packet), (MTU, 65_535));
        assert_eq!(capabilities.checksums.transmit, TransmitChecksum::Partial);
        assert!(capabilities.checksums.verify);
    });
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn a_datagram_of_the_kernel_arrives() {
    with_devices(|mut lab, pair| {
        let socket = socket(pair.kernel);
        socket.send_to(&pattern(1000), (pair.ours, 9)).unwrap();
        let (packet, received) = lab.recv(pair.ours, UDP);
        let parsed = IpPacket::parse(&packet).unwrap();
        let (udp, payload) = UdpHeader::parse_unchecked(parsed.payload).unwrap();
        assert_eq!(parsed.header.src, pair.kernel);
        assert_eq!((udp.src_port, udp.dst_port), (socket.local_addr().unwrap().port(), 9));
        assert_eq!(payload, pattern(1000));
        assert!(received.checksum_good, "it never left the machine");
    });
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn the_kernel_takes_our_datagrams() {
    with_devices(|mut lab, pair| {
        let socket = socket(pair.kernel);
        let port = socket.local_addr().unwrap().port();
        let mut buf = [0; 2000];
        for partial in [false, true] {
            let (packet, transmit) = datagram(pair, port, &pattern(777), partial);
            lab.send(&packet, &transmit);
            let (len, from) = socket.recv_from(&mut buf).unwrap();
            assert_eq!(from, SocketAddr::new(pair.ours, 4000));
            assert_eq!(buf[..len], pattern(777));
        }
    });
}

/// If the header were wrong the kernel would not complete the sum, and drop the datagram at the socket.
#[test]
#[ignore = "needs root and /dev/net/tun"]
fn the_kernel_verifies_complete_checksums() {
    with_devices(|mut lab, pair| {
        let socket = socket(pair.kernel);
        let port = socket.local_addr().unwrap().port();
        let (mut damaged, transmit) = datagram(pair, port, b"damaged", false);
        *damaged.last_mut().unwrap() ^= 1;
        lab.send(&damaged, &transmit);
        let (whole, transmit) = datagram(pair, port, b"whole", false);
        lab.send(&whole, &transmit);
        let mut buf = [0; 100];
        let len = socket.recv(&mut buf).unwrap();
        assert_eq!(&buf[..len], b"whole");
    });
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn several_datagrams_in_one_packet_arrive_one_by_one() {
    with_devices(|mut lab, pair| {
        let socket = socket(pair.kernel);
        let size: libc::c_int = 1200;
        // SAFETY: setsockopt reads one int, which lives through the call.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_UDP,
                libc::UDP_SEGMENT,
                (&raw const size).cast(),
                4,
            )
        };
        assert_eq!(set, 0);
        socket.send_to(&pattern(3000), (pair.ours, 9)).unwrap();
        let (mut lengths, mut bytes) = (Vec::new(), Vec::new());
        while bytes.len() < 3000 {
            let (packet, received) = lab.recv(pair.ours, UDP);
            let parsed = IpPacket::parse(&packet).unwrap();
            let (_, payload) = UdpHeader::parse(&parsed.header, parsed.payload).unwrap();
            assert!(received.checksum_good);
            lengths.push(payload.len());
            bytes.extend_from_slice(payload);
        }
        assert_eq!(lengths, [1200, 1200, 600]);
        assert_eq!(bytes, pattern(3000));
    });
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn the_kernel_cuts_our_datagrams() {
    with_devices(|mut lab, pair| {
        let socket = socket(pair.kernel);
        let (packet, transmit) = datagram(pair, socket.local_addr().unwrap().port(), &pattern(2500), true);
        lab.send(&packet, &Transmit { segment_size: Some(1000), ..transmit });
        let (mut lengths, mut bytes, mut buf) = (Vec::new(), Vec::new(), [0; 2000]);
        while bytes.len() < 2500 {
            let len = socket.recv(&mut buf).unwrap();
            lengths.push(len);
            bytes.extend_from_slice(&buf[..len]);
        }
        assert_eq!(lengths, [1000, 1000, 500]);
        assert_eq!(bytes, pattern(2500));
    });
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn the_kernel_answers_our_echo_request() {
    with_devices(|mut lab, pair| {
        let protocol = if pair.kernel.is_ipv4() { ICMP } else { ICMPV6 };
        let ip = IpHeader::new(pair.ours, pair.kernel, protocol);
        let data = pattern(100);
        let request = Icmp::Echo { reply: false, ident: 7, seq: 3, data: &data };
        let mut message = Vec::new();
        request.emit(&ip, &mut message);
        let mut packet = Vec::new();
        ip.emit(message.len(), &mut packet);
        packet.extend_from_slice(&message);
        lab.send(&packet, &Transmit { header_len: ip.len() as u16, ..Transmit::default() });
        let (packet, _) = lab.recv(pair.ours, protocol);
        let parsed = IpPacket::parse(&packet).unwrap();
        let reply = Icmp::parse(&parsed.header, parsed.payload).unwrap();
        assert!(
            matches!(reply, Icmp::Echo { reply: true, ident: 7, seq: 3, data: echoed } if echoed == data)
        );
    });
}

/// Our end of a connection that the kernel opened: enough TCP to pass bytes in order.
struct Peer {
    pair: Pair,
    ports: (u16, u16),
    seq: u32,
    ack: u32,
}

impl Peer {
    fn accept(lab: &mut Lab, pair: Pair) -> Self {
        let (packet, _) = lab.recv(pair.ours, TCP);
        let (syn, _) = TcpHeader::parse(IpPacket::parse(&packet).unwrap().payload).unwrap();
        assert_eq!(syn.flags & (TcpFlags::SYN | TcpFlags::ACK), TcpFlags::SYN);
        let mut peer =
            Self { pair, ports: (syn.dst_port, syn.src_port), seq: 1000, ack: syn.seq.wrapping_add(1) };
        peer.send(lab, TcpFlags::SYN | TcpFlags::ACK, &[], None);
        peer.seq += 1;
        peer
    }

    fn send(&mut self, lab: &mut Lab, flags: TcpFlags, text: &[u8], segment_size: Option<u16>) {
        let ip = IpHeader::new(self.pair.ours, self.pair.kernel, TCP);
        let mss = flags.contains(TcpFlags::SYN).then_some(1400);
        let header = TcpHeader {
            src_port: self.ports.0,
            dst_port: self.ports.1,
            seq: self.seq,
            ack: self.ack,
            flags,
            window: 65_535,
            options: TcpOptions { mss, ..TcpOptions::default() },
            ..TcpHeader::default()
        };
        let mut packet = Vec::new();
        ip.emit(header.len() + text.len(), &mut packet);
        header.emit(&mut packet);
        packet.extend_from_slice(text);
        tcp::fill_partial_checksum(&ip, &mut packet[ip.len()..]);
        let header_len = (ip.len() + header.len()) as u16;
        lab.send(
            &packet,
            &Transmit { segment_size, header_len, partial_checksum: true, ..Transmit::default() },
        );
        self.seq = self.seq.wrapping_add(text.len() as u32);
    }

    /// Text in order, acknowledged at once; and the largest packet that brought it.
    fn receive(&mut self, lab: &mut Lab, len: usize) -> (Vec<u8>, usize) {
        let (mut bytes, mut largest) = (Vec::new(), 0);
        while bytes.len() < len {
            let (packet, received) = lab.recv(self.pair.ours, TCP);
            let parsed = IpPacket::parse(&packet).unwrap();
            let (header, text) = TcpHeader::parse(parsed.payload).unwrap();
            if header.seq == self.ack && !text.is_empty() {
                assert!(received.checksum_good);
                bytes.extend_from_slice(text);
                largest = largest.max(packet.len());
                self.ack = self.ack.wrapping_add(text.len() as u32);
                self.send(lab, TcpFlags::ACK, &[], None);
            }
        }
        (bytes, largest)
    }
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn tcp_passes_as_super_segments_both_ways() {
    const DOWN: usize = 3 * 1400;
    const UP: usize = 200_000;
    with_devices(|mut lab, pair| {
        let remote = SocketAddr::new(pair.ours, 80);
        // A thread is born into its parent's namespace.
        let program = thread::spawn(move || {
            let mut stream = TcpStream::connect(remote).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut down = vec![0; DOWN];
            stream.read_exact(&mut down).unwrap();
            stream.write_all(&pattern(UP)).unwrap();
            (stream, down)
        });
        let mut peer = Peer::accept(&mut lab, pair);
        peer.send(&mut lab, TcpFlags::ACK | TcpFlags::PSH, &pattern(DOWN), Some(1400));
        let (up, largest) = peer.receive(&mut lab, UP);
        assert_eq!(up, pattern(UP));
        assert!(largest > 2 * MTU, "the kernel gave {largest} bytes at most");
        let (_stream, down) = program.join().unwrap();
        assert_eq!(down, pattern(DOWN));
    });
}

/// Whoever has the rights may remove the interface. The next packet for it finds out.
#[test]
#[ignore = "needs root and /dev/net/tun"]
fn a_removed_interface_is_reported() {
    with_devices(|mut lab, pair| {
        let index = netlink::index_of(NAME).unwrap();
        Netlink::open().unwrap().remove(index).unwrap();
        let (packet, transmit) = datagram(pair, 9, b"to nobody", false);
        lab.device.send(Instant::ZERO, &packet, &transmit);
        assert_eq!(lab.device.dropped().sent, 1);
        let device = &mut lab.device;
        let error = lab.runtime.block_on(poll_fn(|cx| device.poll_readable(cx))).unwrap_err();
        assert!(error.to_string().contains("the device is gone"), "{error}");
        assert_eq!(device.recv(Instant::ZERO, &mut Vec::new()), None);
    });
}

/// What arrives faster than it is read is lost, and the link reports the losses that it can count.
#[test]
#[ignore = "needs root and /dev/net/tun"]
fn a_veth_counts_packets_not_read_in_time() {
    with_devices(|mut lab, pair| {
        if lab.device.kind() == DeviceKind::Tun {
            assert_eq!(lab.device.dropped().received, 0);
            return;
        }
        let socket = socket(pair.kernel);
        for _ in 0..50_000 {
            socket.send_to(&[0; 1000], (pair.ours, 9)).unwrap();
        }
        let lost = lab.device.dropped().received;
        assert!(lost > 0);
        assert_eq!(lab.device.dropped().received, lost, "asking again does not lose the count");
        let mut packet = Vec::new();
        let read = std::iter::from_fn(|| lab.device.recv(Instant::ZERO, &mut packet)).count() as u64;
        assert!(read > 0 && read + lost >= 50_000, "{read} read and {lost} lost");
    });
}
