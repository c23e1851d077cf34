//! The addresses of a connection, in as few bytes as their family needs: programs keep many idle connections.

use std::net::{SocketAddr, SocketAddrV4};

/// The local address and the peer's.
#[derive(Debug)]
pub(super) enum Ends {
    /// Both of IPv4.
    V4(SocketAddrV4, SocketAddrV4),
    /// Others.
    Any(Box<(SocketAddr, SocketAddr)>),
}

impl Ends {
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        match (local, remote) {
            (SocketAddr::V4(local), SocketAddr::V4(remote)) => Self::V4(local, remote),
            both => Self::Any(Box::new(both)),
        }
    }

    pub fn local(&self) -> SocketAddr {
        match self {
            Self::V4(local, _) => (*local).into(),
            Self::Any(both) => both.0,
        }
    }

    pub fn remote(&self) -> SocketAddr {
        match self {
            Self::V4(_, remote) => (*remote).into(),
            Self::Any(both) => both.1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_either_family_are_kept() {
        for [local, remote] in [
            ["10.0.2.100:1", "192.0.2.7:80"],
            ["[fd00::1]:1", "[2001:db8::7]:80"],
            ["[fe80::1%3]:1", "10.0.0.1:2"],
        ] {
            let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
            let ends = Ends::new(local, remote);
            assert_eq!((ends.local(), ends.remote()), (local, remote));
        }
        assert_eq!((size_of::<Ends>(), size_of::<super::super::TcpStream>()), (16, 32));
    }
}
