//! The kinds of faults and their keys: what a rule may say, what `--inject help` explains, and what errors list.

/// A kind of fault, as it is written.
#[derive(Clone, Copy, Debug)]
pub struct KindOf {
    /// Its name.
    pub name: &'static str,
    /// Its value; empty if it has none.
    pub value: &'static str,
    /// Its effect.
    pub effect: &'static str,
    /// Its keys, besides those of all kinds.
    keys: &'static [&'static str],
}

const fn kind(
    name: &'static str,
    value: &'static str,
    keys: &'static [&'static str],
    effect: &'static str,
) -> KindOf {
    KindOf { name, value, effect, keys }
}

/// The keys of each fault of packets.
const OF_PACKETS: &[&str] = &["port", "proto", "direction", "after"];

/// All kinds.
pub const KINDS: [KindOf; 16] = [
    kind("refuse", "", &["port", "proto"], "the connection is refused: RST, or \"port unreachable\" for UDP"),
    kind(
        "unreach",
        "net|host|port|admin|NUMBER",
        &["port", "proto"],
        "the first packet is answered with an ICMP error (default: host)",
    ),
    kind(
        "rst",
        "program|remote|both",
        &["port", "proto", "direction", "after", "state", "seq"],
        "a reset (default: to both ends); what the other end sends later is answered with RST",
    ),
    kind(
        "half-open",
        "",
        OF_PACKETS,
        "the remote loses the connection's state: the program's next packet is answered with RST",
    ),
    kind("blackhole", "", OF_PACKETS, "all packets are dropped, silently"),
    kind(
        "delay",
        "TIME",
        &["port", "proto", "direction", "after", "jitter"],
        "packets to and from the program are delayed by this time",
    ),
    kind("loss", "SHARE", OF_PACKETS, "packets are lost"),
    kind("reorder", "SHARE", OF_PACKETS, "packets are reordered"),
    kind("duplicate", "SHARE", OF_PACKETS, "packets are duplicated"),
    kind("corrupt", "SHARE", OF_PACKETS, "packets are corrupted; their checksum is wrong"),
    kind("rate", "BYTES", OF_PACKETS, "max rate, in bytes per second (100k, 1M)"),
    kind(
        "zero-window",
        "",
        OF_PACKETS,
        "the program cannot send: its peer's window is closed (direction=down: the remote cannot; both: neither)",
    ),
    kind("mtu-hole", "BYTES", OF_PACKETS, "larger packets are dropped, without an ICMP error"),
    kind("slow-close", "TIME", &["port", "proto", "direction"], "a FIN is delayed by this time"),
    kind("cut-fin", "", OF_PACKETS, "FINs are dropped"),
    kind("dns", "nxdomain|servfail|timeout", &[], "the answer to DNS queries; to=NAME selects the name"),
];

/// The keys, their values, and their meanings.
pub const KEYS: [(&str, &str, &str); 13] = [
    ("to", "ADDRESS|NETWORK|NAME|*.NAME", "only to these, separated by commas; an IPv6 address in brackets"),
    ("port", "PORT|FIRST-LAST", "only to these ports, separated by commas"),
    ("proto", "tcp|udp", "only connections of this protocol"),
    ("when", "N|N..M|N..M+STEP|N..", "only these of the connections selected by the above, counted from 1"),
    (
        "probability",
        "SHARE",
        "the probability for each connection; of loss and the like for each packet (0.1 or 10%)",
    ),
    ("from", "TIME", "begins at this time since the start of the run, for connections that are open too"),
    ("until", "TIME", "ends at this time"),
    ("direction", "up|down|both", "packets from the program, packets to it, or both"),
    ("after", "BYTES", "once exactly this number of bytes has passed in that direction"),
    ("state", "syn|established|fin", "rst: before the handshake is complete, after it, or at the first FIN"),
    (
        "seq",
        "exact|window|outside",
        "rst: a sequence number that ends the connection, or one that is challenged or ignored",
    ),
    ("value", "..", "the value of the kind, as after its ="),
    ("jitter", "TIME", "delay: max random time added to it"),
];

/// The keys of all kinds, among them `to`: of `dns` the names of the queries.
const OF_ALL: [&str; 5] = ["to", "when", "probability", "from", "until"];

impl KindOf {
    /// The kind of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// The keys that it accepts, in the order of [`KEYS`].
    pub fn keys(&self) -> impl Iterator<Item = &'static str> {
        KEYS.iter().map(|(key, ..)| *key).filter(|key| self.accepts(key))
    }

    /// Whether this key has an effect on it.
    pub fn accepts(&self, key: &str) -> bool {
        OF_ALL.contains(&key) || self.keys.contains(&key) || key == "value" && !self.value.is_empty()
    }

    /// The keys that not all kinds accept.
    pub fn own_keys(&self) -> &'static [&'static str] {
        self.keys
    }

    /// Whether it is a fault of TCP connections alone.
    pub fn is_of_tcp(&self) -> bool {
        matches!(self.name, "rst" | "half-open" | "zero-window" | "slow-close" | "cut-fin")
    }
}
