//! What many connections tell together: hop limits of hosts, listeners, health checks, scans, equal idle times, ends in
//! the same instant, full queues, outages.

mod context;
mod group;
mod marks;

pub use context::Context;
pub use group::Group;
pub(crate) use group::Groups;
pub(crate) use marks::{Marks, mark};
