//! What an idle established connection costs in memory.

use crate::{heap, lastack as ours, smoltcp as theirs};
use std::time::Duration;

/// Bytes of heap for one end of a connection, with all tables that refer to it.
pub fn lastack(count: usize, used: bool) -> f64 {
    let mut hosts = ours::Hosts::new(|_| {});
    let before = heap::live();
    let open = hosts.open_idle(count);
    if used {
        hosts.use_all(&open);
        hosts.pass(Duration::from_secs(60));
    }
    drop(open);
    (heap::live() - before) as f64 / (2 * count) as f64
}

/// The same; most of it is the buffers of 4 KiB that its user has to give it.
pub fn smoltcp(count: usize) -> f64 {
    let mut hosts = theirs::Hosts::plain();
    let before = heap::live();
    hosts.open_idle(count);
    (heap::live() - before) as f64 / (2 * count) as f64
}
