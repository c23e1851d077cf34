//! What waits for a user who is told of it once.

use crate::outbox::Full;
use alloc::collections::VecDeque;

/// A bounded queue whose user is told when something comes, and again only after it found the queue
/// empty.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    waiting: VecDeque<T>,
    told: bool,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), told: false }
    }
}

impl<T> Inbox<T> {
    /// Adds an item to at most `most - 1` others.
    pub fn push(&mut self, item: T, most: usize) -> Result<(), Full> {
        if self.waiting.len() >= most {
            return Err(Full);
        }
        self.waiting.push_back(item);
        Ok(())
    }

    /// The oldest item. If there is none, the user will be told of the next.
    pub fn pop(&mut self) -> Option<T> {
        let item = self.waiting.pop_front();
        self.told &= item.is_some();
        item
    }

    /// What `pop` would give.
    pub fn peek(&mut self) -> Option<&T> {
        let item = self.waiting.front();
        self.told &= item.is_some();
        item
    }

    /// Whether the user is to be told now. It is told at most once until it finds the queue empty.
    pub fn tell(&mut self) -> bool {
        !core::mem::replace(&mut self.told, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_told_once_until_it_finds_nothing() {
        let mut inbox = Inbox::default();
        assert!(inbox.push(1, 2).is_ok() && inbox.tell());
        assert!(inbox.push(2, 2).is_ok() && !inbox.tell());
        assert!(inbox.push(3, 2).is_err());
        assert_eq!((inbox.pop(), inbox.peek()), (Some(1), Some(&2)));
        assert!(inbox.push(4, 2).is_ok() && !inbox.tell());
        assert_eq!((inbox.pop(), inbox.pop(), inbox.pop()), (Some(2), Some(4), None));
        assert!(inbox.push(5, 2).is_ok() && inbox.tell());
    }
}
