//! `lastack run` as a library: runs an unmodified program in its own network namespace, without root, and reports how
//! each of its connections ended.
//!
//! [`main`] does what the command does. Its parts can be used separately: [`namespace`] starts a guest whose only way
//! out is a device that this process holds, [`host`] has sockets of this machine that report the cause of each failure,
//! and [`report`] writes records of connections.
//!
//! `examples/tunnel.rs` is the endpoint of a tunnel made of [`host::connect()`], [`Policy`] and the relay of `lastack`, without a
//! namespace.
#![deny(missing_docs)]

pub mod host;
pub mod inject;
pub mod namespace;
pub mod report;
pub mod units;

/// Writes a line to standard error. A closed or full one must not cost the program its exit status: errors are ignored.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::message(format_args!($($text)*))
    };
}
pub(crate) use say;

mod account;
mod acks;
mod attempts;
mod attributes;
mod budget;
mod closing;
mod comments;
mod conclude;
mod course;
mod descriptors;
mod dns;
mod ending;
mod ends;
mod flight;
mod flow;
mod forward;
mod headers;
mod icmp;
mod inward;
mod isolation;
mod joined;
mod lifetime;
mod live;
mod localhost;
mod memory;
mod moment;
mod options;
mod outputs;
mod own_loopback;
mod owner;
mod page;
mod pipe;
mod plan;
mod policy;
mod ports;
mod proxy;
mod rate;
mod reached;
mod relay;
mod rivals;
mod run;
mod served;
mod stderr;
mod tap;
mod target;
mod task;
mod tcp;
mod udp;

pub use inward::Published;
pub use live::Terminal;
pub use options::Options;
pub use plan::same_file;
pub use policy::{Decision, Destinations, Policy};
pub use run::{EXIT_INTERNAL, incomplete, main};
pub use stderr::message;
pub use target::Target;

use run::Run;
