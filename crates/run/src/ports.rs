//! The ports of the program's datagram sockets, as its kernel lists them (`/proc/net/udp`).

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
}

impl Ports {
    /// Takes an open list of the program's network namespace.
    pub fn take(&self, v6: bool, list: OwnedFd) {
        self.lists.borrow_mut()[usize::from(v6)] = Some(list.into());
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

/// Whether a socket bound to `at` receives datagrams to a group, if it has joined.
fn hears(at: IpAddr, group: IpAddr) -> bool {
    match at {
        _ if at == group => true,
        IpAddr::V4(v4) => group.is_ipv4() && v4.is_unspecified(),
        // An IPv6 socket may be dual-stack.
        IpAddr::V6(v6) => v6.is_unspecified(),
    }
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
    fn sockets_are_listed_by_what_they_hear() {
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
    fn a_line_that_is_none_is_passed_over() {
        assert_eq!(local("  sl  local_address rem_address   st tx_queue"), None);
        assert_eq!(local(""), None);
        let line = "   12: 0100007F:0035 00000000:0000 07 00000000:00000000";
        if cfg!(target_endian = "little") {
            assert_eq!(local(line), Some(("127.0.0.1".parse().unwrap(), 53)));
        }
    }
}
