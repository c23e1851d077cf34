//! Hosts and links of lastack in virtual time.
//!
//! A [`Network`] joins stacks by paths that delay, lose and damage packets. Nothing in it depends on
//! the machine's clock or on randomness of the system: a seed fixes a run, byte for byte. Its [`Trace`]
//! records what happened. A [`simulation`] plays random hosts, paths and applications, and checks
//! invariants.
#![forbid(unsafe_code)]

pub mod decode;
mod net;
mod random;
pub mod simulation;
pub mod trace;

pub use net::{Network, RouterReply};
pub use random::Random;
pub use trace::{HostId, Trace};
