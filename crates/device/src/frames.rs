//! Reading and writing packets on a file descriptor with framing: an optional virtio header, an optional Ethernet
//! header, the packet. TUN and veth differ only in these.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    os::fd::OwnedFd,
    task::{Context, Poll},
};

use lastack_engine::{Checksums, Received, Transmit, TransmitChecksum};
use lastack_link::{Capabilities, Cut};
use nix::errno::Errno;
use zerocopy::{FromBytes, IntoBytes};

use super::{
    reactor::Watched,
    sys,
    virtio::{self, NetHeader},
};

/// Length of an Ethernet header.
pub(super) const ETHERNET: usize = 14;
/// Max length of a received packet: an IPv6 header and the max payload length.
const LONGEST: usize = 40 + 65_535;
/// Max length of a sent packet: IPv4's length includes the header.
const LONGEST_SENT: usize = 65_535;

/// Frames up to this length are joined before they are written: that takes less time than the kernel needs for the
/// parts of a `writev`.
const SMALL: usize = 256;

/// The two addresses of an Ethernet header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ethernet {
    pub(super) source: [u8; 6],
    pub(super) destination: [u8; 6],
}

/// The offload in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offload {
    /// None: packets up to the MTU with complete checksums.
    None,
    /// Checksums and TCP segmentation.
    Tcp,
    /// UDP segmentation as well.
    TcpUdp,
}

/// The headers before each packet, and the resulting offload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    pub(super) virtio: bool,
    pub(super) ethernet: Option<Ethernet>,
    pub(super) offload: Offload,
}

/// Packets that were lost locally, not in the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Sent by the stack but not accepted by the kernel: its queue was full, or the interface down.
    pub sent: u64,
    /// Dropped by the kernel because they were not read in time. Always 0 for TUN, where the kernel counts them
    /// (`tx_dropped` of the interface).
    pub received: u64,
}

/// The datagrams of one received super-segment that are still to be delivered.
///
/// TCP super-segments are delivered whole; UDP ones must be split, as datagram boundaries matter.
#[derive(Debug, Default)]
struct Datagrams {
    bytes: Vec<u8>,
    /// The end of each datagram in `octets`.
    ends: VecDeque<usize>,
    /// Start of the next.
    at: usize,
    /// Buffer for one.
    datagram: Vec<u8>,
}

/// A file descriptor with framing.
#[derive(Debug)]
pub(super) struct Frames {
    fd: Watched,
    format: Format,
    mtu: usize,
    pending: Datagrams,
    /// The device was removed.
    broken: Option<io::Error>,
    dropped: u64,
}

impl Format {
    fn virtio_len(&self) -> usize {
        if self.virtio { virtio::LEN } else { 0 }
    }

    fn ethernet_len(&self) -> usize {
        if self.ethernet.is_some() { ETHERNET } else { 0 }
    }

    fn len(&self) -> usize {
        self.virtio_len() + self.ethernet_len()
    }

    /// The headers before a sent packet of `len` bytes, of which `packet` holds at least the IP and transport headers.
    fn head(
        &self,
        packet: &[u8],
        len: usize,
        transmit: &Transmit,
        head: &mut [u8; virtio::LEN + ETHERNET],
    ) -> Option<usize> {
        let virtio = self.virtio_len();
        if self.virtio {
            let header = NetHeader::outgoing(packet, len, transmit, self.ethernet_len())?;
            header.write_to_prefix(head).ok()?;
        } else if transmit.partial_checksum || transmit.segment_size.is_some() {
            return None;
        }
        if let Some(ethernet) = &self.ethernet {
            let kind: u16 = if packet.first()? >> 4 == 4 { 0x0800 } else { 0x86dd };
            head[virtio..virtio + 6].copy_from_slice(&ethernet.destination);
            head[virtio + 6..virtio + 12].copy_from_slice(&ethernet.source);
            head[virtio + 12..virtio + 14].copy_from_slice(&kind.to_be_bytes());
        }
        Some(self.len())
    }

    /// The virtio header of a received frame; `None` if the frame is not IP.
    fn open(&self, head: &[u8]) -> Option<NetHeader> {
        let (virtio, ethernet) = head.split_at_checked(self.virtio_len())?;
        if self.ethernet.is_some() && !matches!(ethernet.get(12..14)?, [0x08, 0x00] | [0x86, 0xdd]) {
            return None;
        }
        if !self.virtio {
            return Some(NetHeader::default());
        }
        NetHeader::read_from_bytes(virtio).ok()
    }
}

/// The parts of a small frame, one after the other; `None` if it is not small.
fn joined<'a>(parts: [&[u8]; 4], whole: &'a mut [u8; SMALL]) -> Option<&'a [u8]> {
    let mut len = 0;
    for part in parts {
        whole.get_mut(len..len + part.len())?.copy_from_slice(part);
        len += part.len();
    }
    whole.get(..len)
}

/// Repeats a write that a signal has interrupted.
fn retry(mut write: impl FnMut() -> nix::Result<usize>) -> io::Result<()> {
    loop {
        match write() {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => return Ok(()),
        }
    }
}

impl Datagrams {
    /// Splits `packet` into datagrams with `size` bytes of data each, the last with the rest.
    fn fill(&mut self, packet: &[u8], size: u16) {
        let transmit = Transmit { segment_size: Some(size), ..Transmit::default() };
        self.bytes.clear();
        self.ends.clear();
        self.at = 0;
        let mut cut = Cut::new(packet, &transmit);
        while cut.next(&mut self.datagram).is_some() {
            self.bytes.extend_from_slice(&self.datagram);
            self.ends.push_back(self.bytes.len());
        }
    }

    fn next(&mut self, packet: &mut Vec<u8>) -> bool {
        let Some(end) = self.ends.pop_front() else { return false };
        packet.clear();
        packet.extend_from_slice(&self.bytes[self.at..end]);
        self.at = end;
        true
    }

    fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

impl Frames {
    /// The file descriptor has to be non-blocking.
    pub(super) fn new(fd: OwnedFd, format: Format, mtu: usize) -> Self {
        Self { fd: Watched::new(fd), format, mtu, pending: Datagrams::default(), broken: None, dropped: 0 }
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        let offload = self.format.offload != Offload::None;
        Capabilities {
            mtu: self.mtu,
            max_packet: if offload { LONGEST_SENT } else { self.mtu },
            checksums: Checksums {
                verify: true,
                transmit: if offload { TransmitChecksum::Partial } else { TransmitChecksum::Full },
            },
        }
    }

    /// Sends a packet in three parts: all headers, and data, which may be empty.
    pub(super) fn send(&mut self, packet: [&[u8]; 3], transmit: &Transmit) {
        let mut head = [0; virtio::LEN + ETHERNET];
        let len = packet.iter().map(|part| part.len()).sum();
        let written = match self.format.head(packet[0], len, transmit, &mut head) {
            Some(len) => self.write(&head[..len], packet),
            None => Err(io::ErrorKind::InvalidInput.into()),
        };
        if let Err(error) = written {
            self.dropped += 1;
            // The interface was removed. Reads do not always report that.
            if matches!(error.raw_os_error(), Some(libc::EBADFD | libc::ENXIO | libc::ENODEV)) {
                self.broken = Some(error);
            }
        }
    }

    fn write(&self, head: &[u8], packet: [&[u8]; 3]) -> io::Result<()> {
        let fd = self.fd.fd()?;
        let parts = [head, packet[0], packet[1], packet[2]];
        let mut whole = [0; SMALL];
        if let Some(frame) = joined(parts, &mut whole) {
            return retry(|| nix::unistd::write(fd, frame));
        }
        let parts = parts.map(IoSlice::new);
        // The kernel looks at each part, even if it is empty.
        let used = parts.iter().rposition(|part| !part.is_empty()).map_or(0, |last| last + 1);
        retry(|| nix::sys::uio::writev(fd, &parts[..used]))
    }

    pub(super) fn recv(&mut self, packet: &mut Vec<u8>) -> Option<Received> {
        if self.pending.next(packet) {
            return Some(Received { checksum_good: true, ..Received::default() });
        }
        let header = self.read(packet)?;
        if let Some(size) = header.datagram_size() {
            self.pending.fill(packet, size);
            if self.pending.next(packet) {
                return Some(Received { checksum_good: true, ..Received::default() });
            }
        }
        Some(header.received())
    }

    /// The next frame with an IP packet in it.
    fn read(&mut self, packet: &mut Vec<u8>) -> Option<NetHeader> {
        let mut head = [0; virtio::LEN + ETHERNET];
        let head = &mut head[..self.format.len()];
        while self.broken.is_none() {
            match self.fd.try_read(|fd| sys::read_frame(fd, head, packet, LONGEST)) {
                Ok(0) if packet.is_empty() => self.broken = Some(io::ErrorKind::UnexpectedEof.into()),
                Ok(filled) => {
                    if let Some(header) = self.format.open(&head[..filled]).filter(|_| !packet.is_empty()) {
                        return Some(header);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // A packet socket reports once that its interface went down; it works again when the interface comes
                // up.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::ENETDOWN)) => {}
                Err(error) => self.broken = Some(error),
            }
        }
        None
    }

    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.broken {
            Some(error) => {
                Poll::Ready(Err(io::Error::new(error.kind(), format!("the device is gone: {error}"))))
            }
            None if !self.pending.is_empty() => Poll::Ready(Ok(())),
            None => self.fd.poll_readable(cx),
        }
    }

    /// Sent packets that the kernel did not accept.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) fn fd(&self) -> io::Result<std::os::fd::BorrowedFd<'_>> {
        self.fd.fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    const PLAIN: Format = Format { virtio: false, ethernet: None, offload: Offload::None };
    const ETHER: Format = Format {
        virtio: true,
        ethernet: Some(Ethernet { source: [1; 6], destination: [2; 6] }),
        offload: Offload::TcpUdp,
    };

    fn frames(format: Format) -> (Frames, UnixDatagram) {
        let (near, far) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        (Frames::new(near.into(), format, 1500), far)
    }

    #[test]
    fn the_ethernet_header_names_the_protocol() {
        let (mut frames, far) = frames(ETHER);
        let mut frame = [0; 100];
        for (first, kind) in [(0x45, [0x08, 0x00]), (0x60, [0x86, 0xdd])] {
            frames.send([&[first, 5, 6], &[], &[]], &Transmit::default());
            let len = far.recv(&mut frame).unwrap();
            assert_eq!(frame[..10], [0; 10], "nothing for the kernel to do");
            assert_eq!(frame[10..24], [[2; 6].as_slice(), &[1; 6], &kind].concat());
            assert_eq!(frame[24..len], [first, 5, 6]);
        }
    }

    #[test]
    fn the_parts_of_a_packet_are_one_frame() {
        let (mut frames, far) = frames(ETHER);
        let mut headers = [[0x45; 20], [0; 20]].concat();
        headers[9] = libc::IPPROTO_TCP as u8;
        let transmit = Transmit { header_len: 40, segment_size: Some(3), partial_checksum: true, rule: None };
        let data: Vec<u8> = (0..=255).cycle().take(1000).collect();
        // The longest frame that is joined, and the shortest that is not.
        let limit = SMALL - headers.len() - ETHER.len();
        for len in [7, limit - 1, limit, limit + 1, 1000] {
            let (whole, mut parts) = ([&headers, &data[..len]].concat(), [0; 1100]);
            let (first, second) = data[..len].split_at(5);
            for split in [
                [&whole[..], &[], &[]],
                [&headers, first, second],
                [&headers, &data[..len], &[]],
                [&headers, &[], &data[..len]],
            ] {
                frames.send(split, &transmit);
                assert_eq!(far.recv(&mut parts).unwrap(), ETHER.len() + whole.len());
                assert!(parts[..10] != [0; 10], "the kernel is to segment it");
                assert_eq!(parts[ETHER.len()..][..whole.len()], whole);
            }
        }
    }

    #[test]
    fn frames_that_are_not_ip_are_passed_over() {
        let (mut frames, far) = frames(ETHER);
        let arp = [&[0; 22], [0x08, 0x06].as_slice(), &[1, 2, 3]].concat();
        let ip = [&[2], [0; 21].as_slice(), &[0x08, 0x00], &[0x45, 2, 3]].concat();
        far.send(&arp).unwrap();
        far.send(&[0; 5]).unwrap();
        far.send(&ip).unwrap();
        let mut packet = Vec::new();
        assert_eq!(frames.recv(&mut packet), Some(Received { checksum_good: true, ..Received::default() }));
        assert_eq!(packet, [0x45, 2, 3]);
        assert_eq!(frames.recv(&mut packet), None);
    }

    #[test]
    fn a_full_queue_counts_as_dropped() {
        let (mut frames, _far) = frames(PLAIN);
        for _ in 0..10_000 {
            frames.send([&[0x45; 1000], &[], &[]], &Transmit::default());
        }
        assert!((1..10_000).contains(&frames.dropped()), "{}", frames.dropped());
    }

    #[test]
    fn a_plain_link_refuses_unsupported_offloads() {
        let (mut frames, far) = frames(PLAIN);
        let partial = Transmit { partial_checksum: true, header_len: 28, ..Transmit::default() };
        frames.send([&[0x45; 30], &[], &[]], &partial);
        assert_eq!(frames.dropped(), 1);
        assert!(far.recv(&mut [0; 10]).is_err());
        let capabilities = frames.capabilities();
        assert_eq!((capabilities.mtu, capabilities.max_packet), (1500, 1500));
        assert_eq!(capabilities.checksums.transmit, TransmitChecksum::Full);
    }

    #[tokio::test]
    async fn the_end_of_the_device_wakes_waiting_tasks() {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut frames = Frames::new(near.into(), PLAIN, 1500);
        drop(far);
        std::future::poll_fn(|cx| frames.poll_readable(cx)).await.unwrap();
        assert_eq!(frames.recv(&mut Vec::new()), None);
        let error = std::future::poll_fn(|cx| frames.poll_readable(cx)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(error.to_string().contains("the device is gone"));
    }
}
