//! Bounded collections.

pub(crate) mod bounded_queue;
pub(crate) mod hash_index;
pub(crate) mod lru;
pub(crate) mod ranges;
pub(crate) mod slots;
pub(crate) mod timer_queue;
