//! A bounded queue with edge-triggered notification.

use crate::outbox::Full;
use alloc::collections::VecDeque;

/// A bounded queue with edge-triggered notification: after a notification there is no other until
/// the reader has found the queue empty.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    waiting: VecDeque<(T, usize)>,
    bytes: usize,
    notified: bool,
}

/// The bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub items: usize,
    pub bytes: usize,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, notified: false }
    }
}

impl<T> Inbox<T> {
    /// Adds an item of `octets` bytes, unless the queue would exceed `most`.
    pub fn push(&mut self, item: T, bytes: usize, limits: Limits) -> Result<(), Full> {
        if self.waiting.len() >= limits.items || self.bytes + bytes > limits.bytes {
            return Err(Full);
        }
        self.bytes += bytes;
        self.waiting.push_back((item, bytes));
        Ok(())
    }

    /// Removes the oldest item. If there is none, the next item causes a notification.
    pub fn pop(&mut self) -> Option<T> {
        let (item, bytes) = self.waiting.pop_front().unzip();
        self.bytes -= bytes.unwrap_or(0);
        self.notified &= item.is_some();
        item
    }

    /// The item that `pop` would return.
    pub fn peek(&mut self) -> Option<&T> {
        let item = self.waiting.front().map(|(item, _)| item);
        self.notified &= item.is_some();
        item
    }

    /// Whether to notify the reader now: at most once until it finds the queue empty.
    pub fn tell(&mut self) -> bool {
        !core::mem::replace(&mut self.notified, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_notified_once_until_the_queue_is_empty() {
        let (mut inbox, limits) = (Inbox::default(), Limits { items: 2, bytes: 10 });
        assert!(inbox.push(1, 6, limits).is_ok() && inbox.tell());
        assert!(inbox.push(2, 5, limits).is_err());
        assert!(inbox.push(2, 4, limits).is_ok() && !inbox.tell());
        assert!(inbox.push(3, 0, limits).is_err());
        assert_eq!((inbox.pop(), inbox.peek()), (Some(1), Some(&2)));
        assert!(inbox.push(4, 6, limits).is_ok() && !inbox.tell());
        assert_eq!((inbox.pop(), inbox.pop(), inbox.pop()), (Some(2), Some(4), None));
        assert!(inbox.push(5, 10, limits).is_ok() && inbox.tell());
    }
}
