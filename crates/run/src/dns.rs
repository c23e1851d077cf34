//! Names. The program asks lastack, and lastack asks the host's name servers, in their order for each question: the
//! next is asked when one is silent for two seconds, cannot be reached, or says that it cannot answer, as libc does.

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

/// A name server that has not answered in this time is passed over, if there is another. It may still answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// A question that nobody has answered in this time is given up. Programs ask again sooner.
const GIVE_UP: Duration = Duration::from_secs(30);
