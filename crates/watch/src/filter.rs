//! Which ends are reported.

use crate::ended::{Ended, Owner};

/// Conditions that an end must meet, all of them; each list is met by any of its values, and an empty one by all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Ports of either end.
    pub ports: Vec<u16>,
    /// Ids of the owning process.
    pub pids: Vec<u32>,
    /// Names of the owning process: the whole name, or with `*` in it any that fit.
    pub comms: Vec<String>,
    /// Paths of the control group: that one and all below it, or with `*` in it any that fit.
    pub cgroups: Vec<String>,
}

impl Filter {
    /// Whether this end passes the filter.
    #[must_use]
    pub fn matches(&self, ended: &Ended) -> bool {
        let ports = [ended.flow.local.port(), ended.flow.remote.port()];
        let any = |check: &dyn Fn(&Owner) -> bool| ended.owners().any(check);
        (self.ports.is_empty() || self.ports.iter().any(|port| ports.contains(port)))
            && (self.pids.is_empty() || any(&|owner| self.pids.contains(&owner.pid)))
            && (self.comms.is_empty()
                || any(&|owner| self.comms.iter().any(|comm| fits(known(comm), &owner.comm))))
            && (self.cgroups.is_empty()
                || any(&|owner| self.cgroups.iter().any(|cgroup| is_within(cgroup, &owner.cgroup))))
    }
}

/// The part of a name that the kernel keeps: 15 bytes.
fn known(name: &str) -> &str {
    if name.contains('*') || name.len() <= 15 {
        return name;
    }
    &name[..(0..=15).rev().find(|&end| name.is_char_boundary(end)).unwrap_or_default()]
}

fn is_within(wanted: &str, path: &str) -> bool {
    let wanted = wanted.trim_end_matches('/');
    if wanted.contains('*') {
        return fits(wanted, path);
    }
    path.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether `name` fits a pattern in which `*` stands for anything.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        assert!(fits("nginx", "nginx") && !fits("nginx", "nginx2"));
        assert!(fits("ngi*", "nginx") && fits("*x", "nginx") && fits("*", "") && fits("n*i*x", "nginx"));
        assert!(!fits("n*y", "nginx") && !fits("ab*ba", "aba"));
    }

    #[test]
    fn a_name_is_compared_as_far_as_the_kernel_keeps_it() {
        assert_eq!(known("systemd-networkd"), "systemd-network");
        assert_eq!((known("nginx"), known("systemd-network*x")), ("nginx", "systemd-network*x"));
        assert_eq!(known("abcdefghijklmn\u{e9}x"), "abcdefghijklmn");
    }

    #[test]
    fn a_control_group_includes_those_below_it() {
        assert!(is_within("/system.slice", "/system.slice/nginx.service"));
        assert!(is_within("/system.slice/", "/system.slice"));
        assert!(!is_within("/system", "/system.slice"));
        assert!(is_within("/", "/anything") && is_within("*nginx*", "/system.slice/nginx.service"));
    }
}
