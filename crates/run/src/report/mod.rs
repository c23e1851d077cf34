//! The report of a run: a line for each connection that did not end well (with `-v`, for every one), and a summary.
//!
//! A [`Record`] has what happened; [`Record::verdict`] why, in the terms shared with `explain` and `watch`; a
//! [`Reporter`] writes both as text or as JSON lines.

mod fail_on;
mod group;
mod json;
mod judge;
mod order;
mod pause;
mod record;
mod sentence;
mod stated;
mod summary;
mod writer;

pub use fail_on::{FailOn, Failures};
pub use json::VERSION;
pub use judge::{Verdict, judge};
pub use record::{
    Began, By, Bytes, Context, Datagrams, Facts, Fins, IcmpSaid, Lost, Message, Order, Outcome, Path,
    Process, Proto, Question, Rate, Rates, Reached, Record, Talk, peer_state,
};
pub(crate) use sentence::{Size, mark};
pub use summary::{Echo, Exit, Injected, Names, Summary};
pub use writer::{Destination, Detail, Reporter, Settings};
