//! Names of addresses, from relayed answers.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use super::message;

/// Max addresses whose names are kept; the oldest is evicted first.
const MAX_NAMES: usize = 4096;

/// The addresses that stand for names, from here on: of the network for benchmarks (RFC 2544), which no remote has.
const FIRST_SUBSTITUTE: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);
/// Their number. The oldest is reused.
const SUBSTITUTES: u32 = 65_000;

/// The name that the program resolved to an address.
#[derive(Debug, Default)]
pub struct Names {
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    names: HashMap<IpAddr, Rc<str>>,
    /// In order of insertion.
    order: VecDeque<IpAddr>,
    /// The substitute addresses of names, and how many have been given.
    substitutes: HashMap<String, Ipv4Addr>,
    last: u32,
}

impl Names {
    /// Takes the addresses of a relayed answer.
    pub fn learn(&self, answer: &[u8]) {
        let Some((name, addresses)) = message::addresses(answer) else { return };
        let name: Rc<str> = name.into();
        let inner = &mut *self.inner.borrow_mut();
        for address in addresses {
            // The latest name takes precedence: it is the one for subsequent connections.
            if inner.names.insert(address, name.clone()).is_none() {
                inner.order.push_back(address);
            }
        }
        while inner.names.len() > MAX_NAMES {
            let Some(oldest) = inner.order.pop_front() else { return };
            inner.names.remove(&oldest);
        }
    }

    /// An address that stands for this name, which a proxy resolves. The same name has the same address as long as it is
    /// remembered.
    pub fn substitute(&self, name: &str) -> Ipv4Addr {
        let inner = &mut *self.inner.borrow_mut();
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(known) = inner.substitutes.get(&name) {
            return *known;
        }
        let number = inner.last % SUBSTITUTES;
        inner.last += 1;
        let address = Ipv4Addr::from(u32::from(FIRST_SUBSTITUTE) + number);
        if let Some(before) = inner.names.insert(address.into(), name.as_str().into()) {
            inner.substitutes.remove(&*before);
        }
        inner.substitutes.insert(name, address);
        address
    }

    /// The name that was resolved to this address.
    pub fn of(&self, address: IpAddr) -> Option<Rc<str>> {
        self.inner.borrow().names.get(&address.to_canonical()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::{answer, question};
    use super::*;

    #[test]
    fn a_name_keeps_its_substitute_address() {
        let names = Names::default();
        let first = names.substitute("a.test");
        assert_eq!((first, names.substitute("A.test.")), (FIRST_SUBSTITUTE, first));
        assert_ne!(names.substitute("b.test"), first);
        assert_eq!(names.of(first.into()).as_deref(), Some("a.test"));
        for number in 0..SUBSTITUTES {
            names.substitute(&format!("{number}.test"));
        }
        // Its address was reused.
        assert_ne!(names.of(first.into()).as_deref(), Some("a.test"));
        assert_eq!(names.inner.borrow().substitutes.len() as u32, SUBSTITUTES);
    }

    #[test]
    fn the_latest_name_counts_and_the_oldest_is_evicted() {
        let names = Names::default();
        let learn = |name: &str, address: [u8; 4]| names.learn(&answer(&question(1, name), 0, &[address]));
        learn("a.test", [192, 0, 2, 1]);
        learn("b.test", [192, 0, 2, 1]);
        let of = |text: &str| names.of(text.parse().unwrap()).map(|name| name.to_string());
        assert_eq!(of("192.0.2.1").as_deref(), Some("b.test"));
        assert_eq!(of("::ffff:192.0.2.1").as_deref(), Some("b.test"));
        assert_eq!(of("192.0.2.2"), None);
        for number in 0..MAX_NAMES as u16 {
            let [high, low] = number.to_be_bytes();
            learn("many.test", [10, 0, high, low]);
        }
        assert_eq!(of("192.0.2.1"), None);
        assert_eq!(of("10.0.0.0").as_deref(), Some("many.test"));
        assert_eq!(names.inner.borrow().names.len(), MAX_NAMES);
        assert_eq!(names.inner.borrow().order.len(), MAX_NAMES);
    }
}
