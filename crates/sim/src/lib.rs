//! Hosts and links of lastack in virtual time.
//!
//! A [`Network`] joins stacks by paths that delay, lose and damage packets. Nothing in it depends on
//! the machine's clock or on chance: a seed fixes a run, octet for octet. Its [`Trace`] says what
//! happened, a [`Timeline`](timeline::Timeline) shows it, and the [`lab`] plays scenarios in it. A
//! [`script`] drives one stack with packets made by hand, and a [`simulation`] lets chance have its way
//! and looks for what must never happen.
#![forbid(unsafe_code)]

pub mod decode;
pub mod lab;
mod net;
mod random;
pub mod script;
pub mod simulation;
pub mod timeline;
pub mod trace;

pub use net::{Network, Word};
pub use random::Random;
pub use trace::{HostId, Trace};
