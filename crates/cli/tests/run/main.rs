//! `lastack run` with real programs against real servers on this host.
//!
//! What the program in front of lastack sees is compared with what the same program sees without it.

mod bad_input;
mod bind;
mod bounds;
mod bulk;
mod datagrams;
mod descriptors;
mod ends;
mod faults;
mod flight;
mod folded;
mod inward;
mod joined;
mod lifecycle;
mod live;
mod localhost;
mod names;
mod networks;
mod policy;
mod report;
mod shutdown;
mod silence;
mod socket_faults;
mod sockets;
mod stalled;
mod support;
mod tricks;
mod vanished;
mod via;
