//! What many connections show together: hop limits of hosts, listeners, health checks, scans, equal idle times, ends in
//! the same instant, full queues, outages.

use std::collections::{HashMap as StdMap, HashSet as StdSet};

/// Fast maps: with floods they have an entry for each packet. The seed is random.
type HashMap<K, V> = StdMap<K, V, foldhash::fast::RandomState>;
type HashSet<K> = StdSet<K, foldhash::fast::RandomState>;

mod context;
mod group;
mod marks;

pub use context::Context;
pub use group::Group;
pub(crate) use group::Groups;
pub(crate) use marks::{Marks, mark};
