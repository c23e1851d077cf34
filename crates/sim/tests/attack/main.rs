//! Attacks, in virtual time: blind ones from beside the path, and floods. A connection that somebody else
//! than its peer attacks goes on, what an attacker can see tells it nothing, and what a flood can take is
//! bounded (docs/bounds.md).

mod blind;
mod forge;
mod guessing;
mod handshake;
mod heap;
mod host;
mod resources;
mod side_channel;
mod syn_flood;
mod time_wait;
mod world;
