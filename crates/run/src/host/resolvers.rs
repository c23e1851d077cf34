//! The host's name servers, from resolv.conf(5).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

/// The file that libc reads.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The host's name servers, in this order. A file that cannot be read counts as empty, as in libc.
pub fn of_host() -> Vec<SocketAddr> {
    of_file(Path::new(RESOLV_CONF))
}

/// The same, from another file.
pub fn of_file(file: &Path) -> Vec<SocketAddr> {
    parse(&std::fs::read_to_string(file).unwrap_or_default())
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if let (Some("nameserver"), Some(address)) = (words.next(), words.next()) {
            servers.extend(server(address));
        }
    }
    if servers.is_empty() {
        // libc's default without a nameserver line.
        servers.push((Ipv4Addr::LOCALHOST, 53).into());
    }
    servers
}

/// An address, for IPv6 with an optional scope (`fe80::1%eth0`).
fn server(text: &str) -> Option<SocketAddr> {
    let Some((address, scope)) = text.split_once('%') else {
        return text.parse::<IpAddr>().ok().map(|address| (address, 53).into());
    };
    let scope = scope.parse().ok().or_else(|| nix::net::if_::if_nametoindex(scope).ok())?;
    Some(std::net::SocketAddrV6::new(address.parse().ok()?, 53, 0, scope).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_in_their_order() {
        let servers = parse(
            "# made by hand\nnameserver 192.0.2.53\n nameserver 2001:db8::53 # second\nnameserver nonsense\n\
             search example.org\noptions ndots:2 edns0\n; nameserver 192.0.2.54\n\n",
        );
        assert_eq!(servers, ["192.0.2.53:53".parse().unwrap(), "[2001:db8::53]:53".parse().unwrap()]);
    }

    #[test]
    fn without_servers_the_local_host_is_queried() {
        assert_eq!(parse("search lan\n"), ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn a_scope_is_an_interface() {
        let servers = parse("nameserver fe80::1%lo\n");
        let [SocketAddr::V6(address)] = servers[..] else { panic!("{servers:?}") };
        assert_eq!(address.scope_id(), nix::net::if_::if_nametoindex("lo").unwrap());
    }
}
