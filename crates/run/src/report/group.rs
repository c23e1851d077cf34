//! Groups similar lines: `40 x refused by the remote  db:5432, 06:31:02 to 06:31:09`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use lastack_causes::Severity;

use super::record::{Process, Proto, Record};
use super::sentence::{Elapsed, clock, mark};

/// Max separate groups; further records are only counted.
const MAX_GROUPS: usize = 10_000;
/// Beyond this number of lines, groups are merged further.
const MAX_SHOWN: usize = 40;

/// Records by cause and destination.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: BTreeMap<Key, Group>,
    /// Records beyond the max number of groups.
    others: u64,
}

/// The common properties of a group's records. The most severe sort first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    severity: std::cmp::Reverse<Severity>,
    what: String,
    whither: Whither,
}

/// The granularity of destinations.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whither {
    Socket(Proto, SocketAddr, String),
    Host(Proto, std::net::IpAddr, Option<String>),
    Anywhere,
}

#[derive(Clone, Debug)]
struct Group {
    count: u64,
    first: Timestamp,
    last: Timestamp,
    shortest: Duration,
    longest: Duration,
    /// The first process, and whether there are others.
    process: Option<Process>,
    other_processes: bool,
    /// Number of sockets, or hosts, merged into this group.
    folded: u64,
    name: Option<String>,
}

impl Groups {
    /// Counts a record.
    pub(super) fn add(&mut self, record: &Record) {
        let verdict = record.verdict();
        let key = Key {
            severity: std::cmp::Reverse(verdict.severity),
            what: record.what(&verdict),
            whither: Whither::Socket(record.proto, record.remote, record.whither()),
        };
        let one = Group::of(record);
        let full = self.groups.len() >= MAX_GROUPS;
        match self.groups.get_mut(&key) {
            Some(group) => group.join(&one),
            None if full => self.others += 1,
            None => _ = self.groups.insert(key, one),
        }
    }

    /// The lines, limited in number.
    pub(super) fn lines(self) -> Vec<String> {
        let mut groups = self.groups;
        for coarser in [Whither::host_only, Whither::anywhere] {
            if groups.len() <= MAX_SHOWN {
                break;
            }
            groups = fold(groups, coarser);
        }
        let mut lines: Vec<String> = groups.iter().map(|(key, group)| Line(key, group).to_string()).collect();
        if self.others > 0 {
            lines.push(format!("lastack: {} more connections of other kinds", self.others));
        }
        lines
    }
}

fn fold(groups: BTreeMap<Key, Group>, coarser: fn(Whither, &Group) -> Whither) -> BTreeMap<Key, Group> {
    let mut folded: BTreeMap<Key, Group> = BTreeMap::new();
    for (key, group) in groups {
        let whither = coarser(key.whither, &group);
        let key = Key { whither, ..key };
        folded
            .entry(key)
            .and_modify(|present| {
                present.folded += group.folded;
                present.join(&group);
            })
            .or_insert(group);
    }
    folded
}

impl Whither {
    fn host_only(self, group: &Group) -> Self {
        match self {
            Self::Socket(proto, remote, _) => Self::Host(proto, remote.ip(), group.name.clone()),
            other => other,
        }
    }

    fn anywhere(self, _: &Group) -> Self {
        Self::Anywhere
    }
}

impl Group {
    fn of(record: &Record) -> Self {
        Self {
            count: 1,
            first: record.opened,
            last: record.opened,
            shortest: record.duration(),
            longest: record.duration(),
            process: record.context.process.clone(),
            other_processes: false,
            folded: 1,
            name: record.context.name.clone(),
        }
    }

    fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.shortest = self.shortest.min(other.shortest);
        self.longest = self.longest.max(other.longest);
        self.other_processes |= other.other_processes || self.process != other.process;
    }
}

struct Line<'a>(&'a Key, &'a Group);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(key, group) = self;
        let (first, last) = (clock(group.first), clock(group.last));
        write!(f, "{first}")?;
        if last != first {
            write!(f, " to {last}")?;
        }
        match group.count {
            1 => write!(f, " {}", key.what)?,
            count => {
                let (style, sign) = mark(key.severity.0);
                // The mark precedes the number.
                let what = key.what.replacen(&format!("{style}{sign} "), "", 1);
                write!(f, " {style}{sign} {count} x {what}")?;
            }
        }
        match &key.whither {
            Whither::Socket(_, _, text) => write!(f, "  {text}")?,
            Whither::Host(proto, address, name) => {
                let udp = if *proto == Proto::Udp { "udp " } else { "" };
                let name = name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
                write!(f, "  {udp}{address}{name}, {} ports", group.folded)?;
            }
            Whither::Anywhere => write!(f, "  {} destinations", group.folded)?,
        }
        write!(f, "  {}", Elapsed(group.shortest))?;
        if group.longest != group.shortest {
            write!(f, " to {}", Elapsed(group.longest))?;
        }
        if let Some(process) = &group.process {
            write!(f, "  {}[{}]", process.comm, process.pid)?;
            if group.other_processes {
                f.write_str(" and others")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::super::record::tests;
    use super::*;

    fn lines(records: &[Record]) -> Vec<String> {
        let mut groups = Groups::default();
        records.iter().for_each(|record| groups.add(record));
        groups.lines().iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    }

    #[test]
    fn the_same_cause_and_destination_is_one_line() {
        let later = Record {
            opened: tests::unreachable().opened + 7.seconds(),
            ended: tests::unreachable().ended + 8.seconds(),
            ..tests::unreachable()
        };
        let lines = lines(&[tests::orderly(), tests::unreachable(), later]);
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].contains(" ✗ 2 x icmp-host-unreachable  192.0.2.7:80  500 ms to 1.5 s"),
            "{lines:?}"
        );
        assert!(lines[0].contains(" to "), "{lines:?}");
        assert!(lines[1].contains(" ✓ orderly by the remote  192.0.2.7:80  500 ms"), "{lines:?}");
    }

    #[test]
    fn many_ports_of_a_host_are_one_line_and_many_hosts_too() {
        let scan: Vec<Record> = (1..=100)
            .map(|port| Record { remote: ([192, 0, 2, 7], port).into(), ..tests::unreachable() })
            .collect();
        let of_ports = lines(&scan);
        assert_eq!(of_ports.len(), 1);
        assert!(of_ports[0].contains("✗ 100 x icmp-host-unreachable  192.0.2.7, 100 ports"), "{of_ports:?}");
        let sweep: Vec<Record> = (1..=100)
            .map(|host| Record { remote: ([192, 0, 2, host], 80).into(), ..tests::unreachable() })
            .collect();
        let of_hosts = lines(&sweep);
        assert_eq!(of_hosts.len(), 1);
        assert!(of_hosts[0].contains("✗ 100 x icmp-host-unreachable  100 destinations"), "{of_hosts:?}");
    }

    #[test]
    fn lines_beyond_the_limit_are_counted() {
        let mut groups = Groups::default();
        for number in 0..u32::from(u16::MAX) / 4 {
            let remote = (std::net::Ipv4Addr::from(0x0a00_0000 + number), 80).into();
            groups.add(&Record { remote, ..tests::unreachable() });
        }
        let lines = groups.lines();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[1],
            format!("lastack: {} more connections of other kinds", u64::from(u16::MAX) / 4 - 10_000)
        );
    }
}
