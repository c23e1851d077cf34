//! Packetdrill scripts in virtual time: what an application calls, what the peer sends, and what the
//! stack must do about it and when.
//!
//! A stack runs alone, with packets made by hand. What a script asks for and is not to be had here is
//! said ([`Verdict::Skipped`]); it is never passed over. [`run`] plays a script against the stack of
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
