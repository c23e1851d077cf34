//! Packetdrill scripts in virtual time: what an application calls, what the peer sends, and what the
//! stack must do about it and when.
//!
//! A stack runs alone, with packets made by hand. What a script asks for and is not to be had here is
//! said ([`Verdict::Skipped`]); it is never passed over.

mod assertions;
mod calls;
mod constants;
mod error;
mod expect;
mod host;
mod icmp_names;
mod lexer;
mod notation;
mod packets;
mod parser;
mod runner;
mod setup;
mod syntax;
mod sysctl;
mod translate;

pub use error::{Kind, Problem};
pub use runner::{Report, Verdict, check, run};
pub use setup::{IpVersion, Settings};
