//! Which mappings are evicted when there are too many: those idle for longest.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::mapping::{Key, Mapping};

type Mappings = RefCell<HashMap<Key, Rc<Mapping>>>;

/// Makes room for one more. An eighth is evicted at once, to amortize the cost of the search.
pub fn make_room(mappings: &Mappings, max: usize) {
    let count = mappings.borrow().len();
    if count >= max {
        evict(mappings, (max / 8).max(1));
    }
}

/// This process has no descriptor left: evicts half of the mappings. `false`: there is none.
pub fn evict_half(mappings: &Mappings) -> bool {
    let count = mappings.borrow().len();
    evict(mappings, count.div_ceil(2));
    count > 0
}

/// They are closed immediately, not when their tasks run: the descriptors are needed at once.
fn evict(mappings: &Mappings, count: usize) {
    let mut all: Vec<Rc<Mapping>> = mappings.borrow().values().cloned().collect();
    let count = count.min(all.len());
    if count < all.len() {
        all.select_nth_unstable_by_key(count, |mapping| mapping.last());
    }
    let mut mappings = mappings.borrow_mut();
    for mapping in &all[..count] {
        mapping.evict();
        mappings.remove(&mapping.key);
    }
}
