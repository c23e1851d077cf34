//! Who answers for names: the host's resolvers, the one that works first.

use std::cell::Cell;
use std::net::SocketAddr;

/// The resolvers, and which of them is asked.
#[derive(Debug)]
pub struct Resolvers {
    servers: Vec<SocketAddr>,
    current: Cell<usize>,
}

impl Resolvers {
    /// These, in this order. There is at least one.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        assert!(!servers.is_empty(), "a plan names a resolver");
        Self { servers, current: Cell::new(0) }
    }

    /// Whom to ask now.
    pub fn current(&self) -> SocketAddr {
        self.servers[self.current.get()]
    }

    /// This one does not work: the next question goes to the next.
    pub fn failed(&self, server: SocketAddr) {
        if self.current() == server {
            self.current.set((self.current.get() + 1) % self.servers.len());
        }
    }

    /// All, beginning with the one to ask now.
    pub fn in_order(&self) -> Vec<SocketAddr> {
        let (before, from) = self.servers.split_at(self.current.get());
        from.iter().chain(before).copied().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.servers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_moves_on_once() {
        let servers: Vec<SocketAddr> = ["192.0.2.1:53", "192.0.2.2:53"].map(|s| s.parse().unwrap()).to_vec();
        let resolvers = Resolvers::new(servers.clone());
        assert_eq!((resolvers.len(), resolvers.current()), (2, servers[0]));
        resolvers.failed(servers[0]);
        resolvers.failed(servers[0]);
        assert_eq!(resolvers.current(), servers[1]);
        assert_eq!(resolvers.in_order(), [servers[1], servers[0]]);
        resolvers.failed(servers[1]);
        assert_eq!(resolvers.current(), servers[0]);
    }
}
