//! The hop limits with which ICMP errors arrived, by sender: an error that is passed on to the program arrives with the
//! same one (`tracepath` estimates the way back from it).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

/// Max senders; when it is exceeded, all are dropped.
const MAX_SENDERS: usize = 1024;

static SENDERS: LazyLock<Mutex<HashMap<IpAddr, u8>>> = LazyLock::new(Mutex::default);
/// Whether there is any.
static ANY: AtomicBool = AtomicBool::new(false);

/// An error of this sender has arrived with this hop limit.
pub fn note(sender: IpAddr, hop_limit: u8) {
    let mut senders = SENDERS.lock().unwrap_or_else(PoisonError::into_inner);
    if senders.len() >= MAX_SENDERS && !senders.contains_key(&sender) {
        senders.clear();
    }
    senders.insert(sender, hop_limit);
    ANY.store(true, Ordering::Relaxed);
}

/// The last hop limit of an error of this sender.
pub fn of(sender: IpAddr) -> Option<u8> {
    if !ANY.load(Ordering::Relaxed) {
        return None;
    }
    SENDERS.lock().unwrap_or_else(PoisonError::into_inner).get(&sender).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_kept_and_bounded() {
        let sender = |number: u32| IpAddr::V4((0xc633_6400 + number).into());
        assert_eq!(of(sender(0)), None);
        for number in 0..3 * MAX_SENDERS as u32 {
            note(sender(number), number as u8);
            assert_eq!(of(sender(number)), Some(number as u8));
        }
        assert!(SENDERS.lock().unwrap().len() <= MAX_SENDERS);
    }
}
