//! Attacks, in virtual time: blind ones from off the path, and floods. A connection that a third party
//! attacks continues, what an attacker can see reveals nothing, and what a flood can use is
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
