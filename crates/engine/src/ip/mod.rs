//! IPv4 and IPv6: arrival, reassembly, fragmentation, path MTUs.

pub(crate) mod fragment;
pub(crate) mod ingress;
pub(crate) mod paths;
pub(crate) mod raw;
pub(crate) mod reassembly;
