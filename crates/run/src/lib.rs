//! `lastack run` as a library: an unmodified program in a network of its own, without root, and how each of its
//! connections ended.
//!
//! [`main`] does what the command does. Its parts can be used apart: [`namespace`] starts a guest whose only way out is
//! a device that this process holds, [`host`] has sockets of this machine that name the cause of each failure, and
//! [`report`] writes records of connections.
#![deny(missing_docs)]

pub mod host;
pub mod namespace;
pub mod report;

mod account;
mod acks;
mod closing;
mod course;
mod descriptors;
mod dns;
mod flow;
mod headers;
mod icmp;
mod isolation;
mod memory;
mod options;
mod plan;
mod relay;
mod run;
mod tap;
mod tcp;
mod udp;

pub use options::Options;
pub use run::{EXIT_INTERNAL, incomplete, main};

use run::Run;
