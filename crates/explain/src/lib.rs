//! Says of every TCP connection in a stream of packets who ended it, why, how sure that is, and what to do.
//!
//! The crate takes packets with times and gives verdicts. It needs neither files nor a terminal: [`Explainer`] is fed
//! with [`RawPacket`]s from anywhere; [`read`] reads capture files; [`record`] is the JSON that `lastack explain --json`
//! and `lastack watch --json` print; [`render`] makes text, Markdown and HTML of it.
//!
//! Whether a reset counted for its receiver is decided by the stack itself ([`lastack_engine::ResetReceiver`]).
#![forbid(unsafe_code)]

mod comment;
pub mod decap;
mod declared;
mod explainer;
mod http;
pub mod icmp;
mod id;
pub mod kernel;
mod packet;
pub mod pattern;
mod protocol;
pub mod read;
pub mod record;
pub mod render;
mod renumber;
mod segment;
mod stated;
pub mod timers;
pub mod track;
mod translate;
pub mod verdict;
pub mod write;

pub use declared::Declared;
pub use explainer::{Explained, Explainer, Flow, IcmpError, Known, Options, Summary};
pub use http::{Asked, HttpMessage, Lacks};
pub use id::{community_id, connection_id};
pub use packet::{Addr, End, Endpoint, Frame, Pkt};
pub use protocol::{Protocol, http_begins};
pub use read::RawPacket;
pub use segment::Segment;
pub use stated::Stated;
