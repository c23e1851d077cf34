//! TCP in virtual time: two stacks against each other, and one against segments made by hand.
//!
//! The tests by hand are grouped as the conformance list for resets is, and named after its numbers
//! (`t1` ..) or after the rules of `docs/resets.md` (`s20` ..): A answers without a connection, B
//! SYN-RECEIVED, C received resets, D validation, E what the user sees, F half-open connections, G close
//! and abort, H TIME-WAIT, I orderly release, J hardening, K ICMP, L the records of ends, M reasons in
//! resets. Each test runs for IPv4 and IPv6.

mod a_closed;
mod a_listen;
mod abort;
mod ack_hold;
mod autotune;
mod b_syn_received;
mod buffers;
mod c_resets;
mod check;
mod cookies;
mod counted;
mod d_validation;
mod e_user;
mod ecn;
mod f_half_open;
mod f_keepalive;
mod f_time_limits;
mod f_user_timeout;
mod fairness;
mod flow;
mod g_close;
mod g_kill;
mod g_listener;
mod g_orphans;
mod h_time_wait;
mod i_release;
mod j_hardening;
mod j_memory;
mod k_icmp;
mod kept;
mod l_records;
mod long_lived;
mod m_reasons;
mod notation;
mod own_addresses;
mod pacing;
mod pair;
mod parked;
mod peer;
mod plan;
mod prediction;
mod push;
mod random;
mod repair;
mod requirements;
mod reused;
mod scoreboard;
mod search;
mod settings;
mod small_segments;
mod streams;
mod vectored;
mod work;
