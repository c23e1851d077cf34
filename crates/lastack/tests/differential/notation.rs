//! The notation of scenarios: steps, divided by `;`.
//!
//! | step | meaning |
//! |---|---|
//! | `< P. 1+5 ack 1 win=0 mss` | the peer sends a segment: flags (`-`: none), SEQ and bytes of data, ACK, more |
//! | `icmp 3/1 seq 1` | a router complains about the packet with this SEQ |
//! | `listen 8`, `accept`, `send 10`, .. | a call of the application |
//! | `wait 500` | milliseconds pass |
//! | `fill` | the peer sends until its window is shut |
//! | `repeats` | from here on retransmissions are shown |
//! | `established`, `fin-wait-2 ts`, `orphan closing`, .. | the steps that lead to this state |
//!
//! All numbers are relative: SEQ to the peer's ISS, ACK to that of the stack under test. A SEQ may also be `next`, the
//! peer's SND.NXT, or `edge`, the right edge of its window, or, as `edge@-1`, be counted from there. A step of the wire takes
//! [`STEP`], for answers to come; with a `&` at its end, or if it is a call that sends nothing, it takes no time.

use std::{net::IpAddr, str::FromStr, time::Duration};

/// How long answers are waited for. More than the delay of an ACK, less than the least RTO.
pub const STEP: Duration = Duration::from_millis(100);
/// The same in what leads to a state, where each answer comes at once.
const LEAD: Duration = Duration::from_millis(30);

#[derive(Clone, Debug)]
pub struct Step {
    pub text: String,
    pub action: Action,
    pub time: Duration,
    /// Something is sent for sure: it is waited for, however busy the machine.
    pub answered: bool,
}

#[derive(Clone, Debug)]
pub enum Action {
    Segment(Box<Segment>),
    Icmp(Icmp),
    Call(Call),
    Wait,
    Fill,
    Repeats,
    Lead(Vec<Step>),
}

/// A call of the application, on the listener or on the connection that was accepted or asked for last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Listen(usize),
    Unlisten,
    Accept,
    Connect,
    Send(usize),
    Receive(usize),
    Peek,
    Shutdown,
    Close,
    Abort,
    /// Not the application's, but the administrator's: the connection, or the listener, is killed.
    Kill,
    KillListener,
    Linger,
    /// Seconds in FIN-WAIT-2 without a user; negative: none.
    Linger2(i32),
    /// Seconds, seconds, and probes.
    Keepalive(u32, u32, u32),
    /// Milliseconds.
    UserTimeout(u32),
    Error,
    ShutdownRead,
    ShutdownBoth,
    /// What poll says.
    Ready,
    /// What became of `connect`, without waiting.
    Connected,
    /// A read that waits for this number of bytes, the end of the stream or an error (MSG_WAITALL).
    ReceiveWhole(usize),
    PeerName,
    LocalName,
    /// SO_LINGER, in seconds.
    LingerFor(u32),
    /// A read that waits.
    BeginReceive,
    /// A close that waits.
    BeginClose,
    /// What the call that waits has given.
    Awaited,
    /// The numbers of the connection.
    Info,
    Nodelay,
    /// What happened how often, in the whole of the host.
    Counters,
}

/// From where a SEQ of the peer is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    #[default]
    Iss,
    Next,
    Edge,
}

/// A segment of the hand-made peer.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    pub flags: u16,
    pub origin: Origin,
    pub seq: i64,
    pub len: usize,
    pub ack: i64,
    pub window: Option<u16>,
    pub urgent: u16,
    pub mss: bool,
    pub sack_permitted: bool,
    pub window_scale: Option<u8>,
    /// Timestamps: TSval and TSecr, relative to what they should be.
    pub timestamps: Option<(i64, i64)>,
    /// Blocks of ours that the peer has, relative to our ISS.
    pub sack: Vec<(u32, u32)>,
    /// Options, byte for byte.
    pub raw_options: Vec<u8>,
    pub bad_checksum: bool,
    pub data_offset: Option<u8>,
    pub reserved: bool,
    pub traffic_class: u8,
    pub hop_limit: Option<u8>,
    pub from: Option<IpAddr>,
    pub to: Option<IpAddr>,
    /// Which of the peer's ports.
    pub port: u16,
    /// Sent as an IP fragment: offset, and whether more follow.
    pub fragment: Option<(u32, bool)>,
}

/// An ICMP error about a segment of the stack under test.
#[derive(Clone, Copy, Debug)]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    /// SEQ of the quoted segment.
    pub seq: i64,
    pub mtu: u32,
    pub bad_checksum: bool,
    /// From the peer itself instead of a router.
    pub from_peer: bool,
    /// Which of the peer's ports is quoted.
    pub port: u16,
}

/// The steps of a script.
///
/// # Panics
///
/// If the script is wrong.
pub fn parse(script: &str) -> Vec<Step> {
    script.split(';').map(str::trim).filter(|text| !text.is_empty()).map(step).collect()
}

fn step(text: &str) -> Step {
    let (body, at_once) = match text.strip_suffix('&') {
        Some(body) => (body.trim(), true),
        None => (text, false),
    };
    let mut words = body.split_whitespace();
    let first = words.next().unwrap_or_default();
    let rest: Vec<&str> = words.collect();
    let (action, time) = match first {
        "<" => (Action::Segment(Box::new(segment(text, &rest))), STEP),
        "icmp" => (Action::Icmp(icmp(text, &rest)), STEP),
        "wait" => (Action::Wait, Duration::from_millis(number(text, rest[0]))),
        "fill" => (Action::Fill, Duration::ZERO),
        "repeats" => (Action::Repeats, Duration::ZERO),
        _ => match call(text, first, &rest) {
            Some((call, sends)) => (Action::Call(call), if sends { STEP } else { Duration::ZERO }),
            None => (Action::Lead(lead(text, first, &rest)), Duration::ZERO),
        },
    };
    Step { text: text.to_owned(), action, time: if at_once { Duration::ZERO } else { time }, answered: false }
}

fn number<T: FromStr>(step: &str, word: &str) -> T {
    word.parse().ok().unwrap_or_else(|| panic!("{word:?} is no such number, in {step:?}"))
}

/// A call, and whether something may be sent because of it.
fn call(text: &str, first: &str, rest: &[&str]) -> Option<(Call, bool)> {
    let arg = |at: usize| number::<u32>(text, rest.get(at).unwrap_or_else(|| panic!("too short: {text:?}")));
    Some(match first {
        "listen" => (Call::Listen(arg(0) as usize), false),
        "unlisten" => (Call::Unlisten, true),
        "accept" => (Call::Accept, false),
        "connect" => (Call::Connect, true),
        "send" => (Call::Send(arg(0) as usize), true),
        "recv" => (Call::Receive(rest.first().map_or(1 << 17, |n| number(text, n))), false),
        "peek" => (Call::Peek, false),
        "shutdown" => (Call::Shutdown, true),
        "close" => (Call::Close, true),
        "abort" => (Call::Abort, true),
        "kill" => (Call::Kill, true),
        "kill-listener" => (Call::KillListener, true),
        "linger0" => (Call::Linger, false),
        "linger2" => (Call::Linger2(number(text, rest[0])), false),
        "keepalive" => (Call::Keepalive(arg(0), arg(1), arg(2)), false),
        "user-timeout" => (Call::UserTimeout(arg(0)), false),
        "error" => (Call::Error, false),
        "shutdown-read" => (Call::ShutdownRead, true),
        "shutdown-both" => (Call::ShutdownBoth, true),
        "ready" => (Call::Ready, false),
        "connect-result" => (Call::Connected, false),
        "recv-whole" => (Call::ReceiveWhole(arg(0) as usize), false),
        "peer-name" => (Call::PeerName, false),
        "local-name" => (Call::LocalName, false),
        "linger" => (Call::LingerFor(arg(0)), false),
        "begin-recv" => (Call::BeginReceive, true),
        "begin-close" => (Call::BeginClose, true),
        "awaited" => (Call::Awaited, false),
        "info" => (Call::Info, false),
        "nodelay" => (Call::Nodelay, false),
        "counters" => (Call::Counters, false),
        _ => return None,
    })
}

fn segment(text: &str, words: &[&str]) -> Segment {
    let mut seg = Segment { flags: flags(text, words[0]), ..Segment::default() };
    let (seq, len) = words[1].split_once('+').unwrap_or((words[1], "0"));
    seg.len = number(text, len);
    let (origin, offset) = seq.split_once('@').unwrap_or((seq, "0"));
    (seg.origin, seg.seq) = match origin {
        "next" => (Origin::Next, number(text, offset)),
        "edge" => (Origin::Edge, number(text, offset)),
        _ => (Origin::Iss, number(text, seq)),
    };
    let mut words = words[2..].iter();
    while let Some(word) = words.next() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "ack" => seg.ack = number(text, words.next().unwrap_or(&"")),
            "win" => seg.window = Some(number(text, value)),
            "urg" => seg.urgent = number(text, value),
            "mss" => seg.mss = true,
            "sackok" => seg.sack_permitted = true,
            "ws" => seg.window_scale = Some(number(text, value)),
            "ts" => {
                let ecr = seg.timestamps.map_or(0, |(_, ecr)| ecr);
                seg.timestamps = Some((if value.is_empty() { 0 } else { number(text, value) }, ecr));
            }
            "ecr" => seg.timestamps = Some((seg.timestamps.map_or(0, |(val, _)| val), number(text, value))),
            "opt" => seg.raw_options = hex(text, value),
            "sack" => {
                let (start, end) = value.split_once('-').unwrap_or_else(|| panic!("no block: {text:?}"));
                seg.sack.push((number(text, start), number(text, end)));
            }
            "badsum" => seg.bad_checksum = true,
            "doff" => seg.data_offset = Some(number(text, value)),
            "reserved" => seg.reserved = true,
            "tos" => seg.traffic_class = number(text, value),
            "ttl" => seg.hop_limit = Some(number(text, value)),
            "from" => seg.from = Some(number(text, value)),
            "to" => seg.to = Some(number(text, value)),
            "port" => seg.port = number(text, value),
            "frag" => {
                let more = value.ends_with('+');
                seg.fragment = Some((number(text, value.trim_end_matches('+')), more));
            }
            _ => panic!("{word:?} is unknown, in {text:?}"),
        }
    }
    seg
}

fn flags(text: &str, letters: &str) -> u16 {
    let bit = |letter| match letter {
        'F' => 1,
        'S' => 2,
        'R' => 4,
        'P' => 8,
        '.' => 16,
        'U' => 32,
        'E' => 64,
        'C' => 128,
        '-' => 0,
        _ => panic!("{letter:?} is no flag, in {text:?}"),
    };
    letters.chars().map(bit).sum()
}

fn hex(text: &str, digits: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16);
    (0..digits.len()).step_by(2).map(|at| byte(at).unwrap_or_else(|_| panic!("no bytes: {text:?}"))).collect()
}

fn icmp(text: &str, words: &[&str]) -> Icmp {
    let (kind, code) = words[0].split_once('/').unwrap_or_else(|| panic!("no type and code: {text:?}"));
    assert_eq!(words[1], "seq", "{text:?}");
    let mut icmp = Icmp {
        kind: number(text, kind),
        code: number(text, code),
        seq: number(text, words[2]),
        mtu: 0,
        bad_checksum: false,
        from_peer: false,
        port: 0,
    };
    for word in &words[3..] {
        match word.split_once('=').unwrap_or((word, "")) {
            ("mtu", value) => icmp.mtu = number(text, value),
            ("port", value) => icmp.port = number(text, value),
            ("badsum", _) => icmp.bad_checksum = true,
            ("peer", _) => icmp.from_peer = true,
            _ => panic!("{word:?} is unknown, in {text:?}"),
        }
    }
    icmp
}

/// The steps that lead to a state: `fin-wait-1 ts`, or `orphan fin-wait-1` where the user has closed. The words behind
/// are options of the peer's SYN.
fn lead(text: &str, first: &str, rest: &[&str]) -> Vec<Step> {
    let (orphan, state, options) = match first {
        "orphan" => (true, rest[0], &rest[1..]),
        state => (false, state, rest),
    };
    let offer = options.join(" ");
    let ts = if options.contains(&"ts") { " ts" } else { "" };
    let syn = format!("listen 8; < S 0 mss {offer}");
    let established = format!("{syn}; < . 1 ack 1{ts}; accept");
    let close = if orphan { "close" } else { "shutdown" };
    let script = match state {
        "syn-received" => syn,
        "simultaneous" => "connect; < S 0 mss sackok ws=7 ts".to_owned(),
        "established" => established,
        "connected" => format!("connect; < S. 0 ack 1 mss {offer}"),
        "fin-wait-1" => format!("{established}; {close}"),
        "fin-wait-2" => format!("{established}; {close}; < . 1 ack 2{ts}"),
        "close-wait" => format!("{established}; < F. 1 ack 1{ts}"),
        "closing" => format!("{established}; {close}; < F. 1 ack 1{ts}"),
        "last-ack" => format!("{established}; < F. 1 ack 1{ts}; {close}"),
        "time-wait" => format!("{established}; {close}; < . 1 ack 2{ts}; < F. 1 ack 2{ts}"),
        _ => panic!("no such step: {text:?}"),
    };
    let mut steps = parse(&script);
    for step in &mut steps {
        step.time = step.time.min(LEAD);
        step.answered = !step.time.is_zero() && !step.text.starts_with("< .");
    }
    steps
}
