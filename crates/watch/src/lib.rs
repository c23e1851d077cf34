//! Says of the TCP connections of a Linux host how each one ended, who ended it, and which process owned it.
//!
//! No program is changed and nothing is loaded into the kernel: [`Sources`] reads what the kernel reports anyway, as far
//! as the privileges of this process reach. [`Join`] is a state machine without IO that joins the events of all
//! sources to [`Ended`] connections, with the causes of [`lastack_causes`]. [`Watcher`] is the loop around both, and
//! `lastack watch` the program.
#![deny(unsafe_code)]

mod calls;
mod capture;
mod ended;
mod event;
mod filter;
mod join;
mod line;
pub mod record;
mod scope;
mod sources;
mod watcher;

pub use calls::Calls;
pub use capture::PacketFile;
pub use ended::{Alternative, Ended, Evidence, Owner, Role, SeenIcmp, SeenReset, Totals};
pub use event::{
    ConnectCall, Context, Counters, Event, Flow, IcmpReport, Process, Segment, SocketReport, Source, TcpInfo,
    TcpState, Time, Trace, TraceKind,
};
pub use filter::Filter;
pub use join::{Join, JoinOptions, SETTLE};
pub use line::{line, summary};
pub use scope::{scope, start};
pub use sources::{Availability, RawPacket, SourceOptions, Sources, now, wall_now};
pub use watcher::{WatchOptions, Watcher};
