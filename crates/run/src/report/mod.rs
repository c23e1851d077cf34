//! The report of a run: a line for each connection that did not end in order, and a summary.

mod record;
mod sentence;
mod summary;
mod writer;

pub use record::{By, Cause, IcmpSaid, Lost, Octets, Proto, Record, facing};
pub use summary::Exit;
pub use writer::{Destination, Reporter, Settings};
