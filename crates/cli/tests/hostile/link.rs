//! A packet socket on the TUN interface of the victim: packets of any source, and all that comes back.

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::mem;
use std::thread;
use std::time::{Duration, Instant};

/// In `<linux/if_ether.h>`, in network byte order as the kernel wants it.
const IPV4: u16 = 0x0800_u16.to_be();
const IPV6: u16 = 0x86dd_u16.to_be();

pub struct Link {
    socket: Socket,
    to_v4: SockAddr,
    to_v6: SockAddr,
    name: String,
}

fn address(protocol: u16, index: u32) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol,
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: `sockaddr_storage` has room for any socket address and may be read as each of them, and the length is
    // that of what is written.
    unsafe {
        *storage.view_as::<libc::sockaddr_ll>() = address;
        SockAddr::new(storage, mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t)
    }
}

impl Link {
    pub fn open(name: &str) -> io::Result<Self> {
        let index = nix::net::if_::if_nametoindex(name)?;
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(i32::from(IPV4))))?;
        socket.bind(&address(IPV4, index))?;
        // As root beyond net.core.*_max: what the victim sends at once must not be lost here.
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(64 << 20))?;
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::SndBufForce, &(16 << 20))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, to_v4: address(IPV4, index), to_v6: address(IPV6, index), name: name.to_owned() })
    }

    /// Passes the packet to the victim; waits while the queue of the interface is full.
    pub fn send(&self, packet: &[u8]) {
        let to = if packet[0] >> 4 == 6 { &self.to_v6 } else { &self.to_v4 };
        loop {
            match self.socket.send_to(packet, to) {
                Ok(_) => return,
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock
                        || error.raw_os_error() == Some(libc::ENOBUFS) =>
                {
                    thread::sleep(Duration::from_micros(200));
                }
                Err(error) => panic!("the interface of the victim is gone: {error}"),
            }
        }
    }

    /// The next IPv4 packet on the interface, in either direction.
    pub fn recv(&self) -> Option<Vec<u8>> {
        let mut packet = vec![0; 1 << 16];
        let len = (&self.socket).read(&mut packet).ok()?;
        packet.truncate(len);
        Some(packet)
    }

    /// What is on the interface until then.
    pub fn recv_until(&self, end: Instant) -> Option<Vec<u8>> {
        loop {
            if let Some(packet) = self.recv() {
                return Some(packet);
            }
            if Instant::now() >= end {
                return None;
            }
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Discards what has come.
    pub fn drain(&self) {
        while self.recv().is_some() {}
    }

    /// How many packets the victim has read from the interface.
    pub fn delivered(&self) -> u64 {
        let table = fs::read_to_string("/proc/thread-self/net/dev").expect("/proc is mounted");
        let line = table.lines().find_map(|line| line.trim().strip_prefix(&self.name)?.strip_prefix(':'));
        let counters = line.expect("the interface of the victim is gone").split_whitespace();
        // Behind 8 columns of what was received, and the bytes.
        counters.skip(9).map(|count| count.parse().unwrap()).next().unwrap()
    }
}
