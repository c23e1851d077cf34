//! Destinations on the command line: an address, a network, a name, a name with `*.` before it, `all`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A set of destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All.
    All,
    /// The addresses of a network; a single address is a network of its own.
    Network(IpAddr, u8),
    /// The addresses of this name.
    Name(String),
    /// The addresses of names in this domain, including the domain's own name.
    Domain(String),
}

impl Target {
    /// This address alone.
    pub fn host(address: IpAddr) -> Self {
        Self::Network(address, if address.is_ipv6() { 128 } else { 32 })
    }

    /// Whether the set contains this address, which was resolved from this name.
    pub fn contains(&self, address: IpAddr, name: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Network(network, prefix) => in_network(address, *network, *prefix),
            Self::Name(_) | Self::Domain(_) => name.is_some_and(|name| self.contains_name(name)),
        }
    }

    /// Whether the set contains this name.
    pub fn contains_name(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.');
        match self {
            Self::All => true,
            Self::Network(..) => false,
            Self::Name(own) => own.eq_ignore_ascii_case(name),
            Self::Domain(domain) => {
                let tail = name.len().checked_sub(domain.len()).and_then(|at| name.split_at_checked(at));
                tail.is_some_and(|(head, tail)| {
                    tail.eq_ignore_ascii_case(domain) && (head.is_empty() || head.ends_with('.'))
                })
            }
        }
    }

    /// The specificity: of two rules that match an address, the more specific one applies.
    pub fn narrowness(&self) -> u8 {
        match self {
            Self::All => 0,
            Self::Network(IpAddr::V4(_), prefix) => 96 + prefix,
            Self::Network(IpAddr::V6(_), prefix) => *prefix,
            Self::Domain(_) => 129,
            Self::Name(_) => 130,
        }
    }

    /// Whether it is a set of names, whose addresses are known only from the answers of name servers.
    pub fn is_name(&self) -> bool {
        matches!(self, Self::Name(_) | Self::Domain(_))
    }
}

fn in_network(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            (a.to_bits() ^ n.to_bits()).checked_shr(32 - u32::from(prefix)).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            (a.to_bits() ^ n.to_bits()).checked_shr(128 - u32::from(prefix)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "{text:?} {what}: write an address, a network (192.0.2.0/24), a name (example.org, *.example.org) or all"
            )
        };
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if text == "all" || text == "any" {
            return Ok(Self::All);
        }
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self::host(address));
        }
        if let Some((network, prefix)) = bare.split_once('/') {
            let network: IpAddr = network.parse().map_err(|_| wrong("is not a network"))?;
            let longest = if network.is_ipv6() { 128 } else { 32 };
            let prefix = prefix.parse().ok().filter(|prefix| *prefix <= longest);
            return Ok(Self::Network(network, prefix.ok_or_else(|| wrong("has a prefix out of range"))?));
        }
        let (domain, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let name = name.trim_end_matches('.');
        let letters = |label: &str| label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
        let numeric = name.chars().all(|c| c.is_ascii_digit() || c == '.');
        if name.is_empty() || numeric || !name.split('.').all(|label| !label.is_empty() && letters(label)) {
            return Err(wrong("is not a destination"));
        }
        Ok(if domain { Self::Domain(name.to_owned()) } else { Self::Name(name.to_owned()) })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Network(address, 32) if address.is_ipv4() => write!(f, "{address}"),
            Self::Network(address, 128) => write!(f, "{address}"),
            Self::Network(address, prefix) => write!(f, "{address}/{prefix}"),
            Self::Name(name) => f.write_str(name),
            Self::Domain(name) => write!(f, "*.{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap()
    }

    #[test]
    fn networks_contain_their_addresses() {
        let contains = |text: &str, address: &str| target(text).contains(address.parse().unwrap(), None);
        assert!(contains("192.0.2.7", "192.0.2.7") && !contains("192.0.2.7", "192.0.2.8"));
        assert!(contains("192.0.2.0/24", "192.0.2.255") && !contains("192.0.2.0/24", "192.0.3.0"));
        assert!(contains("0.0.0.0/0", "203.0.113.9") && !contains("0.0.0.0/0", "2001:db8::1"));
        assert!(contains("2001:db8::/32", "2001:db8:ffff::1") && !contains("2001:db8::/32", "2001:db9::1"));
        assert!(contains("::/0", "2001:db8::1") && contains("[2001:db8::1]", "2001:db8::1"));
        assert!(contains("all", "192.0.2.7"));
    }

    #[test]
    fn names_match_without_regard_to_case_and_the_last_dot() {
        assert!(target("Example.org").contains_name("example.ORG."));
        assert!(!target("example.org").contains_name("a.example.org"));
        let domain = target("*.example.org");
        assert!(domain.contains_name("a.b.example.org") && domain.contains_name("example.org"));
        assert!(!domain.contains_name("badexample.org") && !domain.contains_name("org"));
        assert!(domain.contains("192.0.2.7".parse().unwrap(), Some("x.example.org")));
        assert!(!domain.contains("192.0.2.7".parse().unwrap(), None));
    }

    #[test]
    fn the_narrower_of_two_targets_is_found() {
        let order = ["all", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "*.example.org", "db.example.org"];
        assert!(order.map(|text| target(text).narrowness()).is_sorted());
    }

    #[test]
    fn an_invalid_destination_is_refused_with_examples() {
        for wrong in ["", "192.0.2.0/33", "192.0.2", "a..b", "exa mple", "*.", "192.0.2.0/x", "1.2.3.4.5"] {
            let error = wrong.parse::<Target>().unwrap_err();
            assert!(error.contains("192.0.2.0/24"), "{wrong}: {error}");
        }
        for text in ["all", "192.0.2.7", "192.0.2.0/24", "2001:db8::1", "example.org", "*.example.org"] {
            assert_eq!(target(text).to_string(), text);
        }
    }
}
