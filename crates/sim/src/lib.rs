//! Hosts and links of lastack in virtual time.
//!
//! A [`Network`] joins stacks by paths that delay, lose and damage packets. It depends neither on
//! the machine's clock nor on randomness of the system: a seed determines a run, byte for byte. Its [`Trace`]
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
