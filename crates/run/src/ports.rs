//! What the program's kernel lists of its network: the ports of datagram sockets (`/proc/net/udp`), and the packets
//! that it dropped before lastack could read them (`/proc/net/dev`).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

/// The lists of both families. They keep the program's network namespace alive while they are open.
#[derive(Debug, Default)]
pub struct Ports {
    lists: RefCell<[Option<File>; 2]>,
    devices: RefCell<Option<File>>,
}

impl Ports {
    /// Takes an open list of the program's network namespace.
    pub fn take(&self, v6: bool, list: OwnedFd) {
        self.lists.borrow_mut()[usize::from(v6)] = Some(list.into());
    }

    /// Takes the open list of its devices.
    pub fn take_devices(&self, list: OwnedFd) {
        *self.devices.borrow_mut() = Some(list.into());
    }

    /// The packets that the program's kernel dropped on their way to lastack, because the queue of the device was full.
    pub fn dropped(&self) -> u64 {
        let mut devices = self.devices.borrow_mut();
        let Some(devices) = devices.as_mut() else { return 0 };
        let mut text = String::new();
        if devices.rewind().and_then(|()| devices.read_to_string(&mut text)).is_err() {
            return 0;
        }
        text.lines().filter_map(sending_dropped).sum()
    }

    /// The ports on which servers receive datagrams: those of sockets without a peer, and not in the range from which the
    /// kernel gives ports to clients.
    pub fn of_servers(&self) -> BTreeSet<u16> {
        let mut ports = BTreeSet::new();
        for list in self.lists.borrow_mut().iter_mut().flatten() {
            let mut text = String::new();
            if list.rewind().is_ok() && list.read_to_string(&mut text).is_ok() {
                ports.extend(
                    text.lines().filter(|line| has_no_peer(line)).filter_map(local).map(|(_, port)| port),
                );
            }
        }
        ports.retain(|port| (1..first_local_port()).contains(port));
        ports
    }

    /// The ports of sockets that receive datagrams to this group.
    pub fn of(&self, group: IpAddr) -> BTreeSet<u16> {
        let mut ports = BTreeSet::new();
        for list in self.lists.borrow_mut().iter_mut().flatten() {
            let mut text = String::new();
            // A network namespace that is gone has no sockets.
            if list.rewind().is_ok() && list.read_to_string(&mut text).is_ok() {
                ports.extend(
                    text.lines().filter_map(local).filter(|(at, _)| hears(*at, group)).map(|(_, port)| port),
                );
            }
        }
        ports.remove(&0);
        ports
    }
}

/// The first port that the kernel gives to sockets that ask for none in particular (`ip_local_port_range`), which is that of
/// this host in the program's network.
fn first_local_port() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_ascii_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(32_768)
}

/// The packets that a device other than the loopback dropped when it sent: `  eth0: ..`, the twelfth number.
fn sending_dropped(line: &str) -> Option<u64> {
    let (name, numbers) = line.split_once(':')?;
    if name.trim() == "lo" {
        return None;
    }
    numbers.split_ascii_whitespace().nth(11)?.parse().ok()
}

/// Whether a socket bound to `at` receives datagrams to a group, if it has joined.
fn hears(at: IpAddr, group: IpAddr) -> bool {
    match at {
        _ if at == group => true,
        IpAddr::V4(v4) => group.is_ipv4() && v4.is_unspecified(),
        // An IPv6 socket may be dual-stack.
        IpAddr::V6(v6) => v6.is_unspecified(),
    }
}

/// Whether the socket of a line is not connected: the port of its peer is 0.
fn has_no_peer(line: &str) -> bool {
    line.split_ascii_whitespace().nth(2).is_some_and(|peer| peer.ends_with(":0000"))
}

/// The local address and port of a line: `  12: FB0000E0:14E9 00000000:0000 07 ..`.
fn local(line: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = line.split_ascii_whitespace().nth(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Each word of an address is in host byte order.
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?).into()
        }
        _ => return None,
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn sockets_are_listed_by_local_address() {
        let ports = Ports::default();
        for (v6, list) in [(false, "/proc/self/net/udp"), (true, "/proc/self/net/udp6")] {
            ports.take(v6, File::open(list).unwrap().into());
        }
        let open = |at: &str| {
            let socket = UdpSocket::bind(at).unwrap();
            let port = socket.local_addr().unwrap().port();
            (socket, port)
        };
        let (any, v6, specific) = (open("0.0.0.0:0"), open("[::]:0"), open("127.0.0.1:0"));
        let group: IpAddr = "224.0.0.251".parse().unwrap();
        let heard = ports.of(group);
        assert!(heard.contains(&any.1) && heard.contains(&v6.1) && !heard.contains(&specific.1), "{heard:?}");
        let heard = ports.of("ff02::fb".parse().unwrap());
        assert!(heard.contains(&v6.1) && !heard.contains(&any.1), "{heard:?}");
    }

    #[test]
    fn servers_have_no_peer_and_a_port_of_their_own_choice() {
        let ports = Ports::default();
        ports.take(false, File::open("/proc/self/net/udp").unwrap().into());
        let first = first_local_port();
        let server =
            (first - 3000..first).find_map(|port| UdpSocket::bind(("127.0.0.1", port)).ok()).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = (first - 3000..first).find_map(|port| UdpSocket::bind(("127.0.0.1", port)).ok()).unwrap();
        peer.connect(server.local_addr().unwrap()).unwrap();
        let found = ports.of_servers();
        let is_found = |socket: &UdpSocket| found.contains(&socket.local_addr().unwrap().port());
        assert_eq!([&server, &client, &peer].map(is_found), [true, false, false], "{found:?}");
    }

    #[test]
    fn a_line_that_is_none_is_passed_over() {
        assert_eq!(local("  sl  local_address rem_address   st tx_queue"), None);
        assert_eq!(local(""), None);
        let line = "   12: 0100007F:0035 00000000:0000 07 00000000:00000000";
        if cfg!(target_endian = "little") {
            assert_eq!(local(line), Some(("127.0.0.1".parse().unwrap(), 53)));
        }
    }

    #[test]
    fn drops_of_a_device_on_sending_are_in_its_line() {
        let of = |line| sending_dropped(line);
        assert_eq!(of("lastack0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16"), Some(12));
        assert_eq!(of("    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16"), None);
        assert_eq!(of(" face |bytes    packets errs drop fifo frame"), None);
        // This host's own list has that form.
        let (ports, own) = (Ports::default(), "/proc/self/net/dev");
        ports.take_devices(File::open(own).unwrap().into());
        let counted: u64 = std::fs::read_to_string(own).unwrap().lines().filter_map(sending_dropped).sum();
        assert!(ports.dropped() >= counted);
    }
}
