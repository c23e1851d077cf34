//! The addresses of a connection, in as few bytes as their family needs.

use std::net::{SocketAddr, SocketAddrV4};

/// The two ends of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ends {
    /// Both of IPv4.
    V4(SocketAddrV4, SocketAddrV4),
    /// Others.
    Any(Box<(SocketAddr, SocketAddr)>),
}

impl Ends {
    /// Of these two.
    pub fn new(first: SocketAddr, second: SocketAddr) -> Self {
        match (first, second) {
            (SocketAddr::V4(first), SocketAddr::V4(second)) => Self::V4(first, second),
            both => Self::Any(Box::new(both)),
        }
    }

    /// Both.
    pub fn both(&self) -> (SocketAddr, SocketAddr) {
        match self {
            Self::V4(first, second) => ((*first).into(), (*second).into()),
            Self::Any(both) => **both,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_either_family_are_kept() {
        for [first, second] in [
            ["10.0.2.100:1", "192.0.2.7:80"],
            ["[fd00::1]:1", "[2001:db8::7]:80"],
            ["[fe80::1%3]:1", "10.0.0.1:2"],
        ] {
            let both: (SocketAddr, SocketAddr) = (first.parse().unwrap(), second.parse().unwrap());
            assert_eq!(Ends::new(both.0, both.1).both(), both);
        }
        assert_eq!(size_of::<Ends>(), 16);
    }
}
