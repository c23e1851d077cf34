//! The wire formats, against examples by hand, against etherparse as a second opinion, and against garbage.

mod arbitrary;
mod checksum;
mod garbage;
mod icmp;
mod ip;
mod ip_v6;
mod oracle;
mod reset_reason;
mod tcp;
mod udp;
