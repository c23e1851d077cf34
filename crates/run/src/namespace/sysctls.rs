//! Sysctls of the host's network that affect programs: timeouts of connections, and ephemeral ports. A new network has
//! the kernel's defaults; the guest's gets the host's values.

use std::fs;

use super::{Failure, Step, failure::StepResult};

/// Below /proc/sys/net/ipv4; they apply to IPv6 too.
const SETTINGS: [&str; 19] = [
    "ip_default_ttl",
    "ip_local_port_range",
    "ip_local_reserved_ports",
    "tcp_abort_on_overflow",
    "tcp_ecn",
    "tcp_fin_timeout",
    "tcp_keepalive_intvl",
    "tcp_keepalive_probes",
    "tcp_keepalive_time",
    "tcp_notsent_lowat",
    "tcp_orphan_retries",
    "tcp_retries1",
    "tcp_retries2",
    "tcp_rfc1337",
    "tcp_syn_linear_timeouts",
    "tcp_syn_retries",
    "tcp_synack_retries",
    "tcp_tw_reuse",
    "tcp_user_timeout",
];

/// The default congestion control of the network, for both families.
const CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
/// What is used instead of BBR. A network other than the host's may use only what `tcp_allowed_congestion_control` lists;
/// the kernel always permits Reno.
const NOT_PACED: [&str; 2] = ["cubic", "reno"];

/// If the default is BBR, replaces it: BBR paces, and between the program and lastack there is neither a bottleneck nor a
/// loss, so that uploads would only wait for its timers. Towards the remote, the host's default applies. If the system does
/// not permit it, uploads are slower.
pub(super) fn avoid_pacing() {
    let default = fs::read_to_string(CONGESTION_CONTROL).unwrap_or_default();
    if default.starts_with("bbr") {
        let _permitted = NOT_PACED.iter().any(|name| fs::write(CONGESTION_CONTROL, name).is_ok());
    }
}

/// The host's values.
#[derive(Debug)]
pub(super) struct Settings(Vec<(String, String)>);

impl Settings {
    /// Reads the values of this process' network. Those that the kernel does not have are omitted.
    pub(super) fn of_this_network() -> Self {
        let paths = SETTINGS.iter().map(|name| format!("/proc/sys/net/ipv4/{name}"));
        Self(paths.filter_map(|path| fs::read_to_string(&path).ok().map(|value| (path, value))).collect())
    }

    /// Writes them to the current network of this process. Some systems do not permit it: returns the differences then.
    pub(super) fn apply(&self) -> Vec<Failure> {
        let different = self.0.iter().filter(|(path, value)| {
            fs::read_to_string(path).is_ok_and(|now| now != *value) && !value.trim().is_empty()
        });
        let written = different.map(|(path, value)| {
            fs::write(path, value).step(Step::Sysctl, || format!("write {} to {path}", value.trim()))
        });
        written.filter_map(Result::err).collect()
    }
}
