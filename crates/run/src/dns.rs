//! DNS. The program queries lastack, and lastack queries the host's name servers, in their order for each query: the
//! next one is tried if one does not answer for two seconds, cannot be reached, or fails, as in libc.

mod conversation;
mod message;
mod names;
mod question;
mod ruling;
mod servers;
mod stream;

pub use names::Names;
pub use question::Questions;
pub use servers::Resolvers;
pub use stream::relay;

use std::time::Duration;

/// After this time without an answer the next name server is tried, if there is one. A late answer still counts.
const PATIENCE: Duration = Duration::from_secs(2);
/// After this time without an answer from any server a query is given up. Programs retry sooner.
const GIVE_UP: Duration = Duration::from_secs(30);
