//! Packetdrill scripts in virtual time: the calls of an application, the packets of the peer, and what the
//! stack must do about them and when.
//!
//! A stack runs alone against scripted packets. A feature that is not supported here is
//! reported ([`Verdict::Skipped`]), never ignored. [`run`] plays a script against the stack of
//! this project, [`run_on`] against any [`System`].

pub mod arguments;
mod assertions;
mod calls;
mod constants;
mod error;
mod exchange;
mod expect;
mod icmp_names;
mod lastack;
mod lexer;
mod notation;
mod packets;
mod parser;
mod runner;
mod setup;
mod syntax;
mod sysctl;
mod system;
mod translate;
mod verify;

pub use constants::value;
pub use error::{Kind, Problem};
pub use runner::{Report, Verdict, check, run, run_on};
pub use setup::{IpVersion, Settings, Setup};
pub use syntax::{Call, Expr, Field, Node, Span};
pub use system::{Reply, Sent, System};
