//! A fault rule: `KIND[=VALUE][:KEY=VALUE..]`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use lastack_wire::icmp::IcmpError;

use super::kinds::{KEYS, KINDS, KindOf};
use super::select::{Direction, Select, State};
use crate::report::Proto;
use crate::target::Target;
use crate::units;

/// A fault and its conditions.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultRule {
    /// The original text.
    text: String,
    /// The fault.
    pub kind: Kind,
    /// The connections and packets it applies to.
    pub select: Select,
}

/// A fault.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// The SYN is answered with RST, a datagram with "port unreachable".
    Refuse,
    /// The first packet is answered with this ICMP error.
    Unreach(Code),
    /// A reset.
    Rst {
        /// To whom.
        to: Ends,
        /// With which sequence number.
        seq: Seq,
    },
    /// The remote loses the connection state: the next segment of the program is answered with RST (half-open
    /// connection).
    HalfOpen,
    /// Nothing passes any more, without a notification.
    Blackhole,
    /// Packets are delayed by the first duration, plus a random one up to the second.
    Delay(Duration, Duration),
    /// Packets are lost with this probability.
    Loss(f64),
    /// Packets are reordered with this probability.
    Reorder(f64),
    /// Packets are duplicated with this probability.
    Duplicate(f64),
    /// Packets are corrupted with this probability.
    Corrupt(f64),
    /// Rate limit in bytes per second.
    Rate(u64),
    /// The receiver's window stays closed.
    ZeroWindow,
    /// Packets larger than this are dropped silently.
    MtuHole(usize),
    /// FIN is delayed by this time.
    SlowClose(Duration),
    /// FIN is never passed on.
    CutFin,
    /// Answers DNS queries like this.
    Dns(DnsFault),
}

/// The ends of a connection that a fault applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// The program's.
    Program,
    /// The remote's.
    Remote,
    /// Both.
    Both,
}

/// The sequence number of a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seq {
    /// The one that ends the connection.
    Exact,
    /// One in the window, which must be answered with a challenge ACK (RFC 5961 section 3.2).
    Window,
    /// One outside of the window, which must be ignored.
    Outside,
}

/// The code of "destination unreachable".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// No route.
    Net,
    /// The host does not answer on its network.
    Host,
    /// Port unreachable: no socket listens.
    Port,
    /// Administratively prohibited.
    Admin,
    /// This code of ICMP, or of ICMPv6.
    Number(u8),
}

/// The fault of a DNS query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsFault {
    /// The name does not exist.
    NxDomain,
    /// The server failed.
    ServFail,
    /// No answer.
    Timeout,
}

impl Code {
    /// As an ICMP error of this version.
    pub fn error(self, v6: bool) -> IcmpError {
        match self {
            Self::Net => IcmpError::net_unreachable(v6),
            Self::Host => IcmpError::host_unreachable(v6),
            Self::Port => IcmpError::port_unreachable(v6),
            Self::Admin => IcmpError::admin_prohibited(v6),
            Self::Number(code) => IcmpError { code, ..IcmpError::net_unreachable(v6) },
        }
    }
}

impl FaultRule {
    /// The original text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// It is the one at this line of a file, which its text then names.
    pub fn of_file(self, file: &str, line: usize) -> Self {
        Self { text: format!("{} (line {line} of {file})", self.text), ..self }
    }

    /// Whether it answers the first packet.
    pub fn is_of_syn(&self) -> bool {
        matches!(self.kind, Kind::Refuse | Kind::Unreach(_)) || self.select.state == Some(State::Syn)
    }

    /// Whether it applies to pings, too: they have neither port nor protocol, nor an end.
    pub fn is_of_pings(&self) -> bool {
        let packets = self.is_of_packets() && self.kind != Kind::CutFin;
        let any = self.select.ports.is_empty() && self.select.proto.is_none();
        any && (packets && !matches!(self.kind, Kind::Rst { .. } | Kind::ZeroWindow)
            || matches!(self.kind, Kind::Unreach(_)))
    }

    /// Whether it acts on connections that are relayed between sockets, without packets.
    pub fn acts_on_sockets(&self) -> bool {
        use Kind::{Corrupt, Dns, Duplicate, Loss, MtuHole, Reorder, Unreach};
        match self.kind {
            Unreach(_) | Loss(_) | Reorder(_) | Duplicate(_) | Corrupt(_) | MtuHole(_) | Dns(_) => false,
            Kind::Rst { seq, .. } => seq == Seq::Exact,
            _ => self.select.proto != Some(Proto::Udp),
        }
    }

    /// Whether it acts on packets between the program and lastack.
    pub fn is_of_packets(&self) -> bool {
        use Kind::{Corrupt, CutFin, Delay, Duplicate, Loss, MtuHole, Rate, Reorder};
        matches!(
            self.kind,
            Delay(..)
                | Loss(_)
                | Reorder(_)
                | Duplicate(_)
                | Corrupt(_)
                | Rate(_)
                | MtuHole(_)
                | CutFin
                | Kind::Blackhole
                | Kind::ZeroWindow
        ) || matches!(self.kind, Kind::Rst { seq, .. } if seq != Seq::Exact)
    }
}

/// The parts of a rule, separated by colons outside of brackets.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut depth) = (Vec::new(), 0, 0u32);
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            ':' | ',' if depth == 0 && (c == ':' || begins_with_key(&text[at + 1..])) => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

/// Whether `KEY=` follows: a comma before it separates keys, as a colon does; any other comma separates values.
fn begins_with_key(text: &str) -> bool {
    text.split_once('=').is_some_and(|(key, _)| key == "p" || KEYS.iter().any(|(known, ..)| *known == key))
}

/// The keys of a rule, each of which can be taken once.
struct Keys<'a> {
    rule: &'a str,
    values: Vec<(&'a str, &'a str)>,
}

impl<'a> Keys<'a> {
    fn of(rule: &'a str, kind: &KindOf, parts: &[&'a str]) -> Result<Self, String> {
        let mut values: Vec<(&str, &str)> = Vec::new();
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| without_value(rule, part, &values))?;
            let key = if key == "p" { "probability" } else { key };
            if !KEYS.iter().any(|(known, ..)| *known == key) {
                let keys = KEYS.map(|(key, ..)| key).join(", ");
                return Err(format!("{rule}: unknown key {key:?} (known: {keys})"));
            }
            if !kind.accepts(key) {
                let (name, keys) = (kind.name, kind.keys().collect::<Vec<_>>().join(", "));
                return Err(format!("{rule}: {key} does not apply to {name}, which accepts {keys}"));
            }
            if values.iter().any(|(known, _)| *known == key) {
                return Err(format!("{rule}: {key} is given twice"));
            }
            values.push((key, value));
        }
        Ok(Self { rule, values })
    }

    fn has(&self, key: &str) -> bool {
        self.values.iter().any(|(known, _)| *known == key)
    }

    fn take(&self, key: &str) -> Option<&'a str> {
        self.values.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }

    /// Parses the value of a key; an error names the rule and the key.
    fn parse<T>(&self, key: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, String> {
        let Some(value) = self.take(key) else { return Ok(None) };
        read(value).map(Some).map_err(|error| format!("{}: {key}: {error}", self.rule))
    }
}

/// A part of a rule that is not `KEY=VALUE`.
fn without_value(rule: &str, part: &str, before: &[(&str, &str)]) -> String {
    let hex = part.chars().all(|c| c.is_ascii_hexdigit());
    match before.last() {
        Some(("to", _)) if hex => {
            format!("{rule}: an IPv6 address is written in brackets, such as to=[2001:db8::1]")
        }
        _ => format!("{rule}: {part:?} has no value: write KEY=VALUE, such as port=5432"),
    }
}

impl FromStr for FaultRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = parts(text);
        let (name, value) = match parts[0].split_once('=') {
            Some((kind, value)) => (kind, Some(value)),
            None => (parts[0], None),
        };
        let kind_of = KindOf::named(name).ok_or_else(|| {
            let kinds = KINDS.map(|kind| kind.name).join(", ");
            format!("{text}: unknown kind {name:?} (known: {kinds})")
        })?;
        let keys = Keys::of(text, kind_of, &parts[1..])?;
        if value.is_some() && keys.has("value") {
            return Err(format!("{text}: value= repeats what {name}= gives: write one of them"));
        }
        let value = value.or_else(|| keys.take("value"));
        let mut select = select(&keys)?;
        let kind = parse_kind(text, name, value, &keys, &mut select)?;
        let rule = Self { text: text.to_owned(), kind, select };
        match rule.inaction(kind_of, &keys, value) {
            Some(why) => Err(format!("{text}: {why}")),
            None => Ok(rule),
        }
    }
}

impl FaultRule {
    /// Why the rule can never act, or one of its keys has no effect, and the cure.
    fn inaction(&self, kind: &KindOf, keys: &Keys<'_>, value: Option<&str>) -> Option<String> {
        let (name, select) = (kind.name, &self.select);
        if select.until <= select.from {
            let [from, until] = ["from", "until"].map(|key| keys.take(key).unwrap_or("0s"));
            return Some(format!(
                "until={until} is not later than from={from}, so it never acts: give a later until="
            ));
        }
        if select.proto == Some(Proto::Udp) && kind.is_of_tcp() {
            return Some(format!("proto=udp does not apply to {name}, a fault of TCP connections"));
        }
        match self.kind {
            Kind::Dns(_) => select.to.iter().find(|target| matches!(target, Target::Network(..))).map(|target| {
                format!(
                    "dns selects queries by name, and {target} is an address: write to=NAME or to=*.NAME, or \
                     select connections to that address with another kind"
                )
            }),
            Kind::Rst { to, seq } => self.inaction_of_reset((to, seq), keys, value),
            Kind::HalfOpen if keys.has("direction") && select.after == 0 => Some(DIRECTION_ALONE.to_owned()),
            _ => None,
        }
    }

    fn inaction_of_reset(
        &self,
        (to, seq): (Ends, Seq),
        keys: &Keys<'_>,
        value: Option<&str>,
    ) -> Option<String> {
        let (state, after) = (self.select.state, self.select.after);
        if seq != Seq::Exact {
            if to != Ends::Program && value.is_some() {
                let what = "seq=window and seq=outside: such a reset can be sent to the program only";
                return Some(format!("{what}: write rst=program"));
            }
            if state.is_some_and(|state| state != State::Established) {
                return Some(
                    "seq=window and seq=outside need an established connection: leave state= out".to_owned(),
                );
            }
        }
        if after > 0 && state.is_some_and(|state| state != State::Established) {
            return Some("after= and state=syn or state=fin exclude each other".to_owned());
        }
        if state == Some(State::Syn) && to == Ends::Remote {
            return Some(
                "before the handshake is complete only the program has a connection: write rst=program, or leave state= out"
                    .to_owned(),
            );
        }
        if keys.has("direction") && state == Some(State::Syn) {
            return Some("direction has no effect before the handshake is complete: leave it out".to_owned());
        }
        (keys.has("direction") && after == 0 && state != Some(State::Fin)).then(|| DIRECTION_ALONE.to_owned())
    }
}

/// Why a fault of packets does not act on a connection between sockets.
pub const NOT_ON_SOCKETS: &str = "connections over --map-localhost, and those of -p to the program's loopback, are relayed between sockets, \
     without packets that it could act on; refuse, rst, half-open, blackhole, delay, rate, zero-window, slow-close and cut-fin do";

/// A reset right after the handshake has no direction.
const DIRECTION_ALONE: &str = "direction has no effect here: it says in which direction the bytes of after= are counted, so add after=1";

/// The keys common to all kinds.
fn select(keys: &Keys<'_>) -> Result<Select, String> {
    let mut select = Select::default();
    let list = |text: &str| text.split(',').map(str::parse).collect::<Result<Vec<_>, String>>();
    select.to = keys.parse("to", list)?.unwrap_or_default();
    select.ports = keys.parse("port", |text| text.split(',').map(ports).collect())?.unwrap_or_default();
    select.proto = keys.parse("proto", |text| one_of(text, &[("tcp", Proto::Tcp), ("udp", Proto::Udp)]))?;
    if let Some(when) = keys.parse("when", str::parse)? {
        select.when = when;
    }
    if let Some(probability) = keys.parse("probability", share)? {
        select.probability = probability;
    }
    if let Some(from) = keys.parse("from", units::moment)? {
        select.from = from;
    }
    if let Some(until) = keys.parse("until", units::time)? {
        select.until = until;
    }
    let directions = [("up", Direction::Up), ("down", Direction::Down), ("both", Direction::Both)];
    if let Some(direction) = keys.parse("direction", |text| one_of(text, &directions))? {
        select.direction = direction;
    }
    if let Some(after) = keys.parse("after", units::bytes)? {
        select.after = after;
    }
    Ok(select)
}

fn parse_kind(
    rule: &str,
    kind: &str,
    value: Option<&str>,
    keys: &Keys<'_>,
    select: &mut Select,
) -> Result<Kind, String> {
    let wrong = |error: String| format!("{rule}: {kind}: {error}");
    let needed = |what: &str| value.ok_or_else(|| wrong(format!("a value is missing: write {kind}={what}")));
    let share_of_packets = |select: &mut Select| {
        // Without a value it is the probability for a packet.
        let share = value.map_or(Ok(select.probability), |text| share(text).map_err(wrong));
        if value.is_none() {
            if select.probability >= 1.0 && kind != "loss" {
                return Err(wrong(format!("a share is missing: write {kind}=10%")));
            }
            select.probability = 1.0;
        }
        share
    };
    let parsed = match kind {
        "unreach" => Kind::Unreach(code(value.unwrap_or("host")).map_err(wrong)?),
        "rst" => return reset(value, keys, select).map_err(wrong),
        "delay" => {
            let delay = units::time(needed("200ms")?).map_err(wrong)?;
            Kind::Delay(delay, keys.parse("jitter", units::time)?.unwrap_or_default())
        }
        "loss" => Kind::Loss(share_of_packets(select)?),
        "reorder" => Kind::Reorder(share_of_packets(select)?),
        "duplicate" => Kind::Duplicate(share_of_packets(select)?),
        "corrupt" => Kind::Corrupt(share_of_packets(select)?),
        "rate" => match units::bytes(needed("100k")?).map_err(wrong)? {
            0 => return Err(wrong("a rate of 0 is a blackhole: use the kind blackhole".to_owned())),
            rate => Kind::Rate(rate),
        },
        "mtu-hole" => match units::bytes(needed("1400")?).map_err(wrong)? {
            size @ 68..=65_535 => Kind::MtuHole(size as usize),
            _ => return Err(wrong("choose from 68 to 65535".to_owned())),
        },
        "slow-close" => Kind::SlowClose(units::time(needed("5s")?).map_err(wrong)?),
        "dns" => {
            let kinds = [
                ("nxdomain", DnsFault::NxDomain),
                ("servfail", DnsFault::ServFail),
                ("timeout", DnsFault::Timeout),
            ];
            Kind::Dns(one_of(needed("nxdomain")?, &kinds).map_err(wrong)?)
        }
        plain => {
            if let Some(value) = value {
                return Err(wrong(format!("it takes no value, and got {value:?}")));
            }
            match plain {
                "refuse" => Kind::Refuse,
                "half-open" => Kind::HalfOpen,
                "blackhole" => Kind::Blackhole,
                "zero-window" => {
                    // By default the program cannot send; `direction=both` stops both.
                    select.direction = if keys.has("direction") { select.direction } else { Direction::Up };
                    Kind::ZeroWindow
                }
                _ => Kind::CutFin,
            }
        }
    };
    Ok(parsed)
}

/// `rst`: the ends, the time, and the sequence number.
fn reset(value: Option<&str>, keys: &Keys<'_>, select: &mut Select) -> Result<Kind, String> {
    let ends = [("program", Ends::Program), ("remote", Ends::Remote), ("both", Ends::Both)];
    let to = value.map_or(Ok(Ends::Both), |text| one_of(text, &ends))?;
    let states = [("syn", State::Syn), ("established", State::Established), ("fin", State::Fin)];
    select.state = keys.parse("state", |text| one_of(text, &states))?;
    let numbers = [("exact", Seq::Exact), ("window", Seq::Window), ("outside", Seq::Outside)];
    let seq = keys.parse("seq", |text| one_of(text, &numbers))?.unwrap_or(Seq::Exact);
    Ok(Kind::Rst { to, seq })
}

fn code(text: &str) -> Result<Code, String> {
    let names = [("net", Code::Net), ("host", Code::Host), ("port", Code::Port), ("admin", Code::Admin)];
    match text.parse() {
        Ok(number @ 0..=15) => Ok(Code::Number(number)),
        Ok(_) => Err(format!("{text} is not a code of \"destination unreachable\": choose from 0 to 15")),
        Err(_) => one_of(text, &names).map_err(|error| format!("{error}, or a number from 0 to 15")),
    }
}

/// One of these words.
fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("{text:?} is not one of {}", words.join(", "))
    })
}

/// `80` or `8000-8080`.
pub fn ports(text: &str) -> Result<std::ops::RangeInclusive<u16>, String> {
    let wrong = || format!("{text:?} is neither a port nor a range: write 5432 or 8000-8080");
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    match first > last {
        true => Err(format!("{text:?} is empty, as its first port is the higher one: write {last}-{first}")),
        false => Ok(first..=last),
    }
}

/// `0.1` or `10%`.
fn share(text: &str) -> Result<f64, String> {
    let wrong = || format!("{text:?} is not a share: write 0.1 or 10%");
    let (number, unit) = match text.strip_suffix('%') {
        Some(number) => (number, 0.01),
        None => (text, 1.0),
    };
    let share = number.parse::<f64>().map_err(|_| wrong())? * unit;
    match share {
        0.0 => Err(format!("{text:?} never acts: write a share above 0, such as 0.1 or 10%")),
        _ if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err(wrong()),
    }
}

impl fmt::Display for FaultRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> FaultRule {
        text.parse().unwrap()
    }

    #[test]
    fn the_third_connection_is_reset_after_4_kib() {
        let rule = rule("rst:port=5432:when=3:after=4k");
        assert_eq!(rule.kind, Kind::Rst { to: Ends::Both, seq: Seq::Exact });
        assert_eq!((rule.select.ports.as_slice(), rule.select.after), (&[5432..=5432][..], 4096));
        assert!(rule.select.when.contains(3) && !rule.select.when.contains(4));
        assert_eq!(rule.text(), "rst:port=5432:when=3:after=4k");
    }

    #[test]
    fn commas_separate_keys_too() {
        let (commas, colons) =
            (rule("rst:port=80,81,when=3,after=4k"), rule("rst:port=80,81:when=3:after=4k"));
        assert_eq!((commas.kind, commas.select), (colons.kind, colons.select));
    }

    #[test]
    fn every_kind_can_be_written() {
        for (text, kind) in [
            ("refuse:to=192.0.2.7,db.example", Kind::Refuse),
            ("unreach", Kind::Unreach(Code::Host)),
            ("unreach=admin:to=[2001:db8::1]", Kind::Unreach(Code::Admin)),
            ("unreach=13", Kind::Unreach(Code::Number(13))),
            ("rst=program:state=syn", Kind::Rst { to: Ends::Program, seq: Seq::Exact }),
            ("rst:seq=window", Kind::Rst { to: Ends::Both, seq: Seq::Window }),
            ("half-open:after=1", Kind::HalfOpen),
            ("blackhole:from=5s:until=10s", Kind::Blackhole),
            ("delay=200ms", Kind::Delay(Duration::from_millis(200), Duration::ZERO)),
            ("delay:value=1s:jitter=50ms", Kind::Delay(Duration::from_secs(1), Duration::from_millis(50))),
            ("loss=10%:direction=up", Kind::Loss(0.1)),
            ("loss:probability=0.25", Kind::Loss(0.25)),
            ("reorder=0.5", Kind::Reorder(0.5)),
            ("duplicate=5%", Kind::Duplicate(0.05)),
            ("corrupt=1%", Kind::Corrupt(0.01)),
            ("rate=100k", Kind::Rate(102_400)),
            ("zero-window", Kind::ZeroWindow),
            ("mtu-hole=1400", Kind::MtuHole(1400)),
            ("slow-close=2s", Kind::SlowClose(Duration::from_secs(2))),
            ("cut-fin:direction=down", Kind::CutFin),
            ("dns=nxdomain:to=*.example.org", Kind::Dns(DnsFault::NxDomain)),
            ("dns=timeout", Kind::Dns(DnsFault::Timeout)),
        ] {
            assert_eq!(rule(text).kind, kind, "{text}");
        }
        // Of loss without a value the probability is that of packets, not of connections.
        assert!((rule("loss:probability=0.25").select.probability - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn errors_name_the_key_and_what_it_may_be() {
        for (text, says) in [
            ("reset", "known: refuse, unreach, rst"),
            (
                "rst:from=5s:until=2s",
                "until=2s is not later than from=5s, so it never acts: give a later until=",
            ),
            ("refuse:until=0", "until: the duration must not be zero"),
            ("rst:when=5..3", "\"5..3\" is empty, as its first number is the greater one: write 3..5"),
            ("refuse:port=10-5", "\"10-5\" is empty, as its first port is the higher one: write 5-10"),
            ("refuse:probability=0", "probability: \"0\" never acts: write a share above 0"),
            ("loss=0%", "\"0%\" never acts"),
            ("delay=0", "the duration must not be zero"),
            ("dns=nxdomain:to=[::1]", "dns selects queries by name, and ::1 is an address: write to=NAME"),
            ("dns=nxdomain:to=a.example,192.0.2.0/24", "192.0.2.0/24 is an address"),
            ("refuse:to=2001:db8::1", "in brackets, such as to=[2001:db8::1]"),
            ("delay=1s:value=2s", "value= repeats what delay= gives"),
            ("cut-fin:value=1", "value does not apply to cut-fin"),
            ("rst=both:seq=window", "to the program only: write rst=program"),
            ("rst:seq=outside:state=fin", "need an established connection: leave state= out"),
            ("rst=remote:state=syn", "write rst=program, or leave state= out"),
            ("rst:direction=down", "so add after=1"),
            ("rst:direction=up:state=syn", "leave it out"),
            ("half-open:direction=up", "so add after=1"),
            ("rst:afer=4k", "unknown key \"afer\" (known: to, port"),
            ("rst:after=4q", "after: unknown unit"),
            ("rst:when=0", "when: \"0\" is not a connection number"),
            ("rst:port=http", "port: \"http\" is neither a port nor a range"),
            ("rst=nobody", "not one of program, remote, both"),
            ("rst:state=closing", "state: \"closing\" is not one of syn, established, fin"),
            ("rst=remote:seq=window", "to the program only"),
            ("rst:state=fin:after=3", "exclude each other"),
            ("delay", "write delay=200ms"),
            ("delay=fast", "\"fast\""),
            ("loss=110%", "write 0.1 or 10%"),
            ("reorder", "write reorder=10%"),
            ("dns=refused", "not one of nxdomain, servfail, timeout"),
            ("dns", "write dns=nxdomain"),
            ("refuse:port=1:port=2", "port is given twice"),
            ("refuse:seq=exact", "seq does not apply to refuse"),
            ("refuse:after=4k", "after does not apply to refuse"),
            ("unreach:direction=up", "direction does not apply to unreach"),
            ("slow-close=1s:after=4k", "after does not apply to slow-close"),
            ("dns=timeout:port=53", "port does not apply to dns"),
            ("rst:proto=udp", "proto=udp does not apply to rst"),
            ("refuse=now", "it takes no value"),
            ("refuse:5432", "write KEY=VALUE"),
            ("unreach=99", "choose from 0 to 15"),
            ("unreach=far", "not one of net, host, port, admin, or a number"),
            ("rate=0", "is a blackhole"),
            ("mtu-hole=9", "from 68 to 65535"),
            ("refuse:to=1.2.3.4/40", "to: "),
        ] {
            let error = text.parse::<FaultRule>().unwrap_err();
            assert!(error.contains(says) && error.starts_with(text), "{text}: {error}");
        }
    }
}
