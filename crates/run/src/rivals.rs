//! Connection attempts that lost a race: a program with several addresses of a name tries them nearly at once (RFC
//! 8305) and gives up the others when one connects.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

/// Max connections that are kept.
const MAX: usize = 256;

/// Recently established connections.
#[derive(Debug, Default)]
pub struct Rivals(RefCell<VecDeque<(Instant, SocketAddr)>>);

impl Rivals {
    /// A connection to this remote was established.
    pub fn established(&self, remote: SocketAddr) {
        let mut lately = self.0.borrow_mut();
        if lately.len() >= MAX {
            lately.pop_front();
        }
        lately.push_back((Instant::now(), remote));
    }

    /// Whether another address on the same port was connected to since an attempt to connect to this remote began.
    pub fn is_abandoned_attempt(&self, remote: SocketAddr, begun: Instant) -> bool {
        let lately = self.0.borrow();
        lately
            .iter()
            .any(|(at, other)| *at >= begun && other.port() == remote.port() && other.ip() != remote.ip())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_race_is_to_the_same_port_of_another_address() {
        let rivals = Rivals::default();
        let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let begun = Instant::now();
        rivals.established(at("192.0.2.7:443"));
        assert!(rivals.is_abandoned_attempt(at("[2001:db8::7]:443"), begun));
        assert!(!rivals.is_abandoned_attempt(at("[2001:db8::7]:80"), begun), "another service");
        assert!(!rivals.is_abandoned_attempt(at("192.0.2.7:443"), begun), "the same address");
        assert!(!rivals.is_abandoned_attempt(at("[2001:db8::7]:443"), Instant::now()), "an earlier one");
    }

    #[test]
    fn memory_is_bounded() {
        let rivals = Rivals::default();
        for port in 1..1000 {
            rivals.established(([192, 0, 2, 7], port).into());
        }
        assert_eq!(rivals.0.borrow().len(), MAX);
    }
}
