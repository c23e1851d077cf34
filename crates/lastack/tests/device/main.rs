//! The devices against the kernel: its packets arrive whole and understood, ours are taken.
//!
//! Each test works in a network namespace of its own thread, which only root can make; without that it says so and
//! ends.

#[path = "../differential/kill.rs"]
mod kill;
mod lab;
mod packets;
#[cfg(feature = "device")]
mod queues;
mod resets;
mod stack;
