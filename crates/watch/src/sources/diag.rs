//! Sources A and D: NETLINK_SOCK_DIAG.
//!
//! The kernel broadcasts every destroyed TCP socket to all listeners, and lists the live ones on request;
//! neither needs a privilege. Only the network namespace in which the socket was opened is seen.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::event::{Flow, SocketReport, TcpInfo, TcpState, ip_from_16};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_CGROUP_ID: u16 = 21;
/// SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY, as bits.
const DESTROY_GROUPS: u32 = 1 << 0 | 1 << 2;
/// Room for some 30,000 broadcasts.
const BUFFER: usize = 32 << 20;

#[derive(FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
struct Header {
    len: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
}

/// `struct inet_diag_sockid`; ports and addresses in network order.
#[derive(Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
struct SocketId {
    source_port: [u8; 2],
    destination_port: [u8; 2],
    source: [u8; 16],
    destination: [u8; 16],
    interface: u32,
    cookie: [u32; 2],
}

/// `struct inet_diag_req_v2`.
#[derive(Immutable, IntoBytes)]
#[repr(C)]
struct Request {
    family: u8,
    protocol: u8,
    extensions: u8,
    pad: u8,
    states: u32,
    id: SocketId,
}

/// `struct inet_diag_msg`.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Message {
    family: u8,
    state: u8,
    timer: u8,
    retransmits: u8,
    id: SocketId,
    expires: u32,
    rqueue: u32,
    wqueue: u32,
    uid: u32,
    inode: u32,
}

fn netlink(groups: u32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkSockDiag)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(socket)
}

/// Makes the receive buffer as large as it may be.
pub(super) fn enlarge(socket: &OwnedFd, bytes: usize) {
    // Without CAP_NET_ADMIN net.core.rmem_max is the limit; what is lost all the same is counted.
    if setsockopt(socket, sockopt::RcvBufForce, &bytes).is_err() {
        let _limited = setsockopt(socket, sockopt::RcvBuf, &bytes);
    }
}

/// Receives all pending messages. Returns how often the kernel reported that it dropped some.
pub(super) fn receive(socket: &OwnedFd, buffer: &mut [u8], mut take: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut overruns = 0;
    loop {
        match recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(0) | Err(nix::errno::Errno::EAGAIN) => return Ok(overruns),
            Ok(len) => take(&buffer[..len]),
            Err(nix::errno::Errno::ENOBUFS) => overruns += 1,
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Source A.
#[derive(Debug)]
pub(super) struct Broadcasts {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Broadcasts {
    pub(super) fn open() -> io::Result<Self> {
        let socket = netlink(DESTROY_GROUPS)?;
        enlarge(&socket, BUFFER);
        Ok(Self { socket, buffer: vec![0; 64 << 10] })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Returns every destroyed socket, and how often messages were dropped.
    pub(super) fn read(&mut self, mut take: impl FnMut(SocketReport)) -> io::Result<u64> {
        receive(&self.socket, &mut self.buffer, |datagram| {
            for (_, payload) in Messages(datagram) {
                if let Some(report) = parse(payload) {
                    take(report);
                }
            }
        })
    }
}

/// Source D.
#[derive(Debug)]
pub(super) struct Lists {
    socket: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Lists {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { socket: netlink(0)?, buffer: vec![0; 256 << 10], sequence: 0 })
    }

    /// Returns every socket of TCP but those in TIME-WAIT and embryonic ones.
    pub(super) fn read(&mut self, mut take: impl FnMut(SocketReport)) -> io::Result<()> {
        for family in [libc::AF_INET, libc::AF_INET6] {
            self.ask(family as u8)?;
            self.answer(&mut take)?;
        }
        Ok(())
    }

    fn ask(&mut self, family: u8) -> io::Result<()> {
        self.sequence += 1;
        let states = !(1 << TcpState::TimeWait as u32 | 1 << TcpState::NewSynRecv as u32);
        let request = Request {
            family,
            protocol: libc::IPPROTO_TCP as u8,
            extensions: 1 << (INET_DIAG_INFO - 1),
            pad: 0,
            states,
            id: SocketId::default(),
        };
        let len = (size_of::<Header>() + size_of::<Request>()) as u32;
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
        let header = Header { len, kind: SOCK_DIAG_BY_FAMILY, flags, sequence: self.sequence, port: 0 };
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(request.as_bytes());
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
        Ok(())
    }

    /// Reads the answer to its end. The kernel produces each part when the one before is received, so none is lost.
    fn answer(&mut self, take: &mut impl FnMut(SocketReport)) -> io::Result<()> {
        loop {
            let len = match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(len) => len,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for (header, payload) in Messages(&self.buffer[..len]) {
                if header.sequence != self.sequence {
                    continue;
                }
                match i32::from(header.kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        let code = payload.first_chunk().map_or(0, |&code| i32::from_ne_bytes(code));
                        return Err(io::Error::from_raw_os_error(-code));
                    }
                    _ => {
                        if let Some(report) = parse(payload) {
                            take(report);
                        }
                    }
                }
            }
        }
    }
}

/// The messages of a datagram. What does not fit its own length ends them.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (Header, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (header, _) = Header::read_from_prefix(self.0).ok()?;
        let len = header.len as usize;
        let payload = self.0.get(size_of::<Header>()..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((header, payload))
    }
}

/// The attributes of a message: kind and value.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [a, b, c, d] = *self.0.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([a, b]));
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        // The two upper bits are flags.
        Some((u16::from_ne_bytes([c, d]) & 0x3fff, value))
    }
}

fn parse(payload: &[u8]) -> Option<SocketReport> {
    let (message, rest) = Message::read_from_prefix(payload).ok()?;
    let v6 = i32::from(message.family) == libc::AF_INET6;
    let id = message.id;
    let address = |bytes: [u8; 16], port: [u8; 2]| (ip_from_16(bytes, v6), u16::from_be_bytes(port)).into();
    let mut report = SocketReport {
        flow: Flow::new(address(id.source, id.source_port), address(id.destination, id.destination_port)),
        cookie: u64::from(id.cookie[0]) | u64::from(id.cookie[1]) << 32,
        state: TcpState::from_number(message.state.into())?,
        timer: message.timer,
        rqueue: message.rqueue,
        wqueue: message.wqueue,
        uid: message.uid,
        inode: message.inode,
        cgroup: None,
        info: None,
    };
    for (kind, value) in Attributes(rest) {
        match kind {
            INET_DIAG_INFO => report.info = Some(info(value)),
            INET_DIAG_CGROUP_ID => report.cgroup = value.first_chunk().map(|&id| u64::from_ne_bytes(id)),
            _ => {}
        }
    }
    Some(report)
}

/// `struct tcp_info`, which grows with the kernel: what an older one lacks is 0.
fn info(value: &[u8]) -> TcpInfo {
    let byte = |at: usize| value.get(at).copied().unwrap_or_default();
    let maybe = |at: usize| value.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let word = |at: usize| maybe(at).unwrap_or_default();
    let long = |at: usize| {
        value.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
    };
    TcpInfo {
        retransmits: byte(2),
        probes: byte(3),
        unacked: word(24),
        last_data_sent: word(44),
        last_data_recv: word(52),
        last_ack_recv: word(56),
        rtt: word(68),
        total_retrans: word(100),
        bytes_acked: long(120),
        bytes_received: long(128),
        segs_out: word(136),
        segs_in: word(140),
        data_sent: (value.len() >= 216).then(|| long(200).saturating_sub(long(208))),
        snd_wnd: maybe(228),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(v6: bool) -> Vec<u8> {
        let mut bytes = vec![if v6 { 10 } else { 2 }, 7, 0, 0];
        bytes.extend_from_slice(&[0xcb, 0x2a, 0x1f, 0xa7]);
        let mut source = [0; 16];
        source[..4].copy_from_slice(&[10, 78, 0, 1]);
        if v6 {
            source = std::net::Ipv4Addr::new(10, 78, 0, 1).to_ipv6_mapped().octets();
        }
        bytes.extend_from_slice(&source);
        bytes.extend_from_slice(&source);
        for word in [0u32, 0x1044, 1, 0, 2990, 4, 1000, 77] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn a_broadcast_tells_addresses_cookie_and_queues() {
        for v6 in [false, true] {
            let mut bytes = message(v6);
            bytes.extend_from_slice(&[12, 0, 21, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
            let report = parse(&bytes).unwrap();
            assert_eq!(report.flow.local, "10.78.0.1:52010".parse().unwrap(), "mapped addresses are IPv4");
            assert_eq!(report.flow.remote.port(), 8103);
            assert_eq!((report.cookie, report.rqueue, report.wqueue), (0x1_0000_1044, 2990, 4));
            assert_eq!((report.uid, report.inode, report.cgroup), (1000, 77, Some(9)));
        }
    }

    #[test]
    fn a_truncated_message_is_read_as_far_as_possible() {
        let whole = message(false);
        for len in 0..whole.len() {
            assert_eq!(parse(&whole[..len]), None);
        }
        // An attribute longer than the message, and one of length 0.
        for attribute in [[12u8, 0, 21, 0], [0, 0, 21, 0]] {
            let mut bytes = whole.clone();
            bytes.extend_from_slice(&attribute);
            assert_eq!(parse(&bytes).unwrap().cgroup, None);
        }
        let mut value = vec![0; 120];
        value.extend_from_slice(&5u64.to_ne_bytes());
        assert_eq!(
            (info(&value).bytes_acked, info(&value).bytes_received, info(&value).snd_wnd),
            (5, 0, None)
        );
    }

    #[test]
    fn messages_end_where_a_length_is_wrong() {
        let header = Header { len: 20, kind: 20, flags: 0, sequence: 7, port: 0 };
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(&[1, 2, 3, 4]);
        bytes.extend_from_slice(header.as_bytes());
        let parsed: Vec<_> =
            Messages(&bytes).map(|(header, payload)| (header.sequence, payload.len())).collect();
        assert_eq!(parsed, [(7, 4)]);
    }
}
