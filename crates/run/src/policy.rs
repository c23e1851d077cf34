//! The destinations that the program may reach: `--allow`, `--deny`, `--offline`, `--log-only`.
//!
//! The most specific rule that matches a destination applies: a name before an address, an address before a network, a
//! rule with a port before one without; of two equally specific ones the one that denies. A destination without a
//! matching rule is allowed, unless there are rules that allow and none that deny: a list of allowed destinations alone
//! is exhaustive.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::report::Proto;
use crate::target::Target;

/// Destinations in the syntax of `--allow` and `--deny`: `TARGET[:PORT[-PORT],..][/tcp|/udp]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destinations {
    target: Target,
    ports: Vec<RangeInclusive<u16>>,
    proto: Option<Proto>,
    text: String,
}

/// The rules of a run.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    allow: Vec<Destinations>,
    deny: Vec<Destinations>,
    offline: bool,
    log_only: bool,
}

/// The decision on a connection, a datagram, a ping or a DNS query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Allowed.
    Allowed,
    /// Denied, by this option.
    Denied(String),
    /// Allowed, but denied by this option without `--log-only`.
    WouldBeDenied(String),
}

impl Policy {
    /// These rules.
    pub fn new(allow: Vec<Destinations>, deny: Vec<Destinations>, offline: bool, log_only: bool) -> Self {
        Self { allow, deny, offline, log_only }
    }

    /// Whether everything is allowed.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty() && !self.offline
    }

    /// Whether nothing is denied, and what would be is reported.
    pub fn is_log_only(&self) -> bool {
        self.log_only
    }

    /// Rules that cancel each other.
    pub fn contradiction(&self) -> Option<String> {
        let cure = "leave one of them out";
        if self.offline && self.allow.iter().any(Destinations::is_all) {
            return Some(format!("--offline denies everything, and --allow all allows it: {cure}"));
        }
        let same = |one: &&Destinations| {
            let alike = |other: &Destinations| {
                (&one.target, &one.ports, one.proto) == (&other.target, &other.ports, other.proto)
            };
            self.deny.iter().any(alike)
        };
        let both = self.allow.iter().find(same)?;
        Some(format!("--allow {both} and --deny {both} are the same destinations: {cure}"))
    }

    /// The rule that denies this port of the loopback to the program, if one names the loopback, or the port. A port of
    /// `--map-localhost` is allowed although everything else is denied.
    pub fn denies_mapped(&self, port: u16) -> Option<&Destinations> {
        if self.log_only {
            return None;
        }
        self.deny.iter().filter(|rule| !rule.is_all()).find(|rule| {
            [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].into_iter().any(|loopback: IpAddr| {
                rule.contains(Some(Proto::Tcp), SocketAddr::new(loopback, port), Some("localhost"))
            })
        })
    }

    /// The rule that is about this address alone.
    pub fn denies_address(&self, address: IpAddr) -> Option<&Destinations> {
        self.deny.iter().find(|rule| rule.target == Target::host(address))
    }

    /// Whether nothing at all may be reached.
    pub fn denies_all(&self) -> bool {
        let all = self.offline || self.deny.iter().any(Destinations::is_all);
        all && self.allow.is_empty() && !self.log_only
    }

    /// Whether the program may reach this. `actual`: the real destination, if the address stands for another. `name`:
    /// the name that was resolved to the address.
    pub fn decide(
        &self,
        proto: Option<Proto>,
        remote: SocketAddr,
        actual: Option<SocketAddr>,
        name: Option<&str>,
    ) -> Decision {
        let narrowest = |rules: &[Destinations]| {
            let meant = |rule: &&Destinations| {
                rule.contains(proto, remote, name)
                    || actual.is_some_and(|actual| rule.contains(proto, actual, None))
            };
            rules
                .iter()
                .filter(meant)
                .map(|rule| (rule.narrowness(), rule.text.clone()))
                .max_by_key(|(narrow, _)| *narrow)
        };
        self.compare(narrowest(&self.allow), narrowest(&self.deny))
    }

    /// Whether the program may query this name. If only networks are allowed, no rule matches names, and their
    /// addresses decide.
    pub fn decide_name(&self, name: &str) -> Decision {
        let narrowest = |rules: &[Destinations]| {
            let meant = |rule: &&Destinations| rule.target.is_name() && rule.target.contains_name(name);
            rules
                .iter()
                .filter(meant)
                .map(|rule| (rule.narrowness(), rule.text.clone()))
                .max_by_key(|(narrow, _)| *narrow)
        };
        let (allow, deny) = (narrowest(&self.allow), narrowest(&self.deny));
        let names_are_listed = self.allow.iter().any(|rule| rule.target.is_name());
        if allow.is_none() && deny.is_none() && !self.offline && !names_are_listed {
            let only_all = self.allow.is_empty() && self.deny.iter().any(|rule| rule.is_all());
            return if only_all { self.denied("--deny all") } else { Decision::Allowed };
        }
        self.compare(allow, deny.or_else(|| self.deny_all()))
    }

    /// The rule that denies everything, if there is one.
    fn deny_all(&self) -> Option<((u8, bool), String)> {
        self.deny.iter().find(|rule| rule.is_all()).map(|rule| (rule.narrowness(), rule.text.clone()))
    }

    fn compare(&self, allow: Option<((u8, bool), String)>, deny: Option<((u8, bool), String)>) -> Decision {
        match (allow, deny) {
            (Some((allow, _)), Some((deny, text))) if deny >= allow => self.denied(&format!("--deny {text}")),
            (Some(_), _) => Decision::Allowed,
            (None, Some((_, text))) => self.denied(&format!("--deny {text}")),
            (None, None) if self.offline => self.denied("--offline"),
            (None, None) if !self.allow.is_empty() && self.deny.is_empty() => {
                self.denied("not in any --allow")
            }
            (None, None) => Decision::Allowed,
        }
    }

    fn denied(&self, option: &str) -> Decision {
        if self.log_only {
            Decision::WouldBeDenied(option.to_owned())
        } else {
            Decision::Denied(option.to_owned())
        }
    }
}

impl Destinations {
    fn contains(&self, proto: Option<Proto>, remote: SocketAddr, name: Option<&str>) -> bool {
        // A ping has neither protocol nor port: only rules without them match.
        let proto_is_meant = self.proto.is_none() || self.proto == proto;
        let port_is_meant = self.ports.is_empty()
            || proto.is_some() && self.ports.iter().any(|ports| ports.contains(&remote.port()));
        proto_is_meant && port_is_meant && self.target.contains(remote.ip(), name)
    }

    fn narrowness(&self) -> (u8, bool) {
        (self.target.narrowness(), !self.ports.is_empty() || self.proto.is_some())
    }

    fn is_all(&self) -> bool {
        self.target == Target::All && self.ports.is_empty() && self.proto.is_none()
    }
}

impl FromStr for Destinations {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, proto) = match text.rsplit_once('/') {
            Some((rest, "tcp")) => (rest, Some(Proto::Tcp)),
            Some((rest, "udp")) => (rest, Some(Proto::Udp)),
            _ => (text, None),
        };
        let whole = |target: Target, ports| Self { target, ports, proto, text: text.to_owned() };
        // An IPv6 address contains colons.
        let error = match rest.parse::<Target>() {
            Ok(target) => return Ok(whole(target, Vec::new())),
            Err(error) => error,
        };
        let Some((target, ports)) = rest.rsplit_once(':') else { return Err(error) };
        let target = if target.is_empty() { Target::All } else { target.parse()? };
        let ports = ports.split(',').map(crate::inject::ports).collect::<Result<_, _>>()?;
        Ok(whole(target, ports))
    }
}

impl fmt::Display for Destinations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow: &[&str], deny: &[&str]) -> Policy {
        let list = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Policy::new(list(allow), list(deny), false, false)
    }

    fn allowed(policy: &Policy, remote: &str, name: Option<&str>) -> bool {
        policy.decide(Some(Proto::Tcp), remote.parse().unwrap(), None, name) == Decision::Allowed
    }

    #[test]
    fn without_rules_everything_is_allowed() {
        assert!(policy(&[], &[]).is_empty());
        assert!(allowed(&policy(&[], &[]), "192.0.2.7:80", None));
    }

    #[test]
    fn a_denial_names_its_option() {
        let policy = policy(&[], &["192.0.2.0/24"]);
        let decision = policy.decide(Some(Proto::Tcp), "192.0.2.7:80".parse().unwrap(), None, None);
        assert_eq!(decision, Decision::Denied("--deny 192.0.2.0/24".to_owned()));
        assert!(allowed(&policy, "198.51.100.7:80", None));
    }

    #[test]
    fn an_allow_list_denies_the_rest() {
        let policy = policy(&["example.org", "192.0.2.0/24:443"], &[]);
        assert!(allowed(&policy, "198.51.100.7:80", Some("example.org")));
        assert!(!allowed(&policy, "198.51.100.7:80", Some("example.com")));
        assert!(!allowed(&policy, "198.51.100.7:80", None));
        assert!(allowed(&policy, "192.0.2.7:443", None) && !allowed(&policy, "192.0.2.7:80", None));
    }

    #[test]
    fn the_narrowest_rule_counts_and_denial_wins_a_tie() {
        let policy =
            policy(&["10.0.0.0/8", "10.1.2.3", "all:53/udp"], &["all", "10.1.0.0/16", "10.1.2.3:22"]);
        assert!(allowed(&policy, "10.9.0.1:80", None));
        assert!(!allowed(&policy, "10.1.9.9:80", None));
        assert!(allowed(&policy, "10.1.2.3:80", None) && !allowed(&policy, "10.1.2.3:22", None));
        assert!(!allowed(&policy, "192.0.2.7:53", None));
        let by_udp = policy.decide(Some(Proto::Udp), "192.0.2.7:53".parse().unwrap(), None, None);
        assert_eq!(by_udp, Decision::Allowed);
        assert!(!allowed(&self::policy(&["10.0.0.1"], &["10.0.0.1"]), "10.0.0.1:1", None));
    }

    #[test]
    fn a_ping_is_meant_by_rules_without_ports() {
        let ping = |policy: &Policy| policy.decide(None, "10.0.0.1:0".parse().unwrap(), None, None);
        assert_eq!(ping(&policy(&[], &["10.0.0.1:80"])), Decision::Allowed);
        assert_eq!(ping(&policy(&[], &["10.0.0.1"])), Decision::Denied("--deny 10.0.0.1".to_owned()));
    }

    #[test]
    fn the_hosts_loopback_can_be_named_by_its_own_address() {
        let policy = policy(&[], &["127.0.0.1:5432"]);
        let (gateway, actual) = ("10.0.2.2:5432".parse().unwrap(), "127.0.0.1:5432".parse().ok());
        assert_ne!(policy.decide(Some(Proto::Tcp), gateway, actual, None), Decision::Allowed);
    }

    #[test]
    fn names_are_requested_as_the_rules_allow() {
        let names = |policy: &Policy, name: &str| policy.decide_name(name) == Decision::Allowed;
        let listed = policy(&["*.example.org"], &[]);
        assert!(names(&listed, "a.example.org") && !names(&listed, "example.com"));
        let networks = policy(&["10.0.0.0/8"], &[]);
        assert!(names(&networks, "db.internal"), "its address decides");
        let denied = policy(&[], &["ads.example"]);
        assert!(!names(&denied, "ads.example") && names(&denied, "www.example"));
        assert!(!names(&policy(&[], &["all"]), "example.org"));
        let all_but = policy(&["example.org"], &["all"]);
        assert!(names(&all_but, "example.org") && !names(&all_but, "example.com"));
    }

    #[test]
    fn offline_and_log_only() {
        let offline = Policy::new(vec!["10.0.0.0/8".parse().unwrap()], Vec::new(), true, false);
        assert!(allowed(&offline, "10.0.0.1:80", None) && !allowed(&offline, "192.0.2.7:80", None));
        assert_eq!(offline.decide_name("example.org"), Decision::Denied("--offline".to_owned()));
        let logged = Policy::new(Vec::new(), vec!["all".parse().unwrap()], false, true);
        let decision = logged.decide(Some(Proto::Tcp), "192.0.2.7:80".parse().unwrap(), None, None);
        assert_eq!(decision, Decision::WouldBeDenied("--deny all".to_owned()));
    }

    #[test]
    fn destinations_are_read_with_ports_and_protocol() {
        for text in [
            "10.0.0.0/8",
            "10.0.0.0/8:80,443/tcp",
            "[2001:db8::1]:80",
            "2001:db8::1",
            "example.org:443/udp",
            ":53",
        ] {
            assert_eq!(text.parse::<Destinations>().unwrap().to_string(), text);
        }
        for wrong in ["", "10.0.0.0/99", "example.org:http", "example.org:0", "a b"] {
            assert!(wrong.parse::<Destinations>().is_err(), "{wrong}");
        }
    }
}
