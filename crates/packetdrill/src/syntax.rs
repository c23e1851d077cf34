//! The syntax tree of a script.

use lastack_wire::tcp::TcpFlags;
use std::ops::Range;
use std::time::Duration;

/// The max nesting depth of arguments and code.
pub const DEEPEST: usize = 100;

/// A range of the text, in bytes.
pub type Span = Range<usize>;

/// A whole file.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// The lines `--name=value`.
    pub options: Vec<Setting>,
    /// The command before the first event.
    pub init: Option<Text>,
    /// The events, in order.
    pub events: Vec<Event>,
    /// The command after the last event.
    pub cleanup: Option<Text>,
}

/// `--name=value`
#[derive(Clone, Debug)]
pub struct Setting {
    pub span: Span,
    pub name: String,
    pub value: Option<String>,
}

/// A shell command or a code snippet.
#[derive(Clone, Debug)]
pub struct Text {
    pub span: Span,
    pub text: String,
}

/// An event of a script.
#[derive(Clone, Debug)]
pub struct Event {
    pub span: Span,
    pub time: Time,
    pub action: Action,
}

/// When an event happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// At a time since the first event.
    At(Duration),
    /// At a time since the previous event.
    After(Duration),
    /// In a range since the first event.
    AtRange(Duration, Duration),
    /// In a range since the previous event.
    AfterRange(Duration, Duration),
    /// At any time.
    Any,
}

/// The kind of an event.
#[derive(Clone, Debug)]
pub enum Action {
    /// The peer sends this packet.
    Inbound(Packet),
    /// The stack must send this packet.
    Outbound(Packet),
    Call(Call),
    Command(String),
    Code(String),
}

/// A packet, in the numbers of the script.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Packet {
    pub ip: IpFields,
    pub body: Body,
}

/// The IP header fields that a script gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpFields {
    pub ecn: Option<Ecn>,
    pub tos: Option<u8>,
    pub ttl: Option<u8>,
    pub flow_label: Option<u32>,
}

/// The ECN field of the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ecn {
    None,
    Ect0,
    Ect1,
    Ce,
    /// One of the two ECT codepoints.
    Ect,
}

/// The body of a packet.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Tcp(Segment),
    Udp(Udp),
    Icmp(IcmpMessage),
}

impl Default for Body {
    fn default() -> Self {
        Self::Tcp(Segment::default())
    }
}

/// A TCP segment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segment {
    pub ports: Option<(u16, u16)>,
    pub flags: TcpFlags,
    /// AE, CWR and ECE as a number.
    pub ace: Option<u8>,
    pub seq: u32,
    pub len: u32,
    pub ack: Option<u32>,
    pub window: Option<u16>,
    pub urgent: Option<u16>,
    /// `None`: any options.
    pub options: Option<Vec<TcpOption>>,
}

/// One option of a TCP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpOption {
    Nop,
    End,
    Mss(u16),
    WindowScale(u8),
    SackPermitted,
    Sack(Vec<(u32, u32)>),
    Timestamps {
        val: u32,
        ecr: u32,
    },
    Md5(Vec<u8>),
    FastOpen(Vec<u8>),
    ExperimentalFastOpen(Vec<u8>),
    /// The counters of Accurate ECN: kind and 24-bit fields.
    AccurateEcn {
        kind: u8,
        fields: Vec<u32>,
    },
    /// The kind and data of an option that has no notation.
    Other {
        kind: u8,
        data: Vec<u8>,
    },
}

/// A datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Udp {
    pub ports: Option<(u16, u16)>,
    pub len: u32,
}

/// An ICMP message: its names are looked up when the IP version is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IcmpMessage {
    pub kind: String,
    pub code: Option<String>,
    pub mtu: Option<u32>,
    pub ident: Option<u16>,
    pub quoted: Option<Quoted>,
}

/// The segment that an ICMP message quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quoted {
    Tcp { seq: u32, len: u32 },
    Udp { len: u32 },
    Raw { len: u32 },
}

/// A system call and its expected result.
#[derive(Clone, Debug)]
pub struct Call {
    /// It blocks until this time, given in the same way as the event's own.
    pub until: Option<Duration>,
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<Expr>,
    /// The expected number.
    pub result: i64,
    /// The expected error.
    pub errno: Option<String>,
    /// The position of the result.
    pub result_span: Span,
}

/// An argument of a call, and its position.
#[derive(Clone, Debug)]
pub struct Expr {
    /// Its position.
    pub span: Span,
    /// Its value.
    pub node: Node,
}

/// The value of an argument.
#[derive(Clone, Debug)]
pub enum Node {
    /// `...`
    Ellipsis,
    /// `17` or `0x11`
    Number(i64),
    /// A name.
    Word(String),
    /// `"text"`
    Text(Vec<u8>),
    /// A string of which only the beginning is given.
    TextEllipsis,
    /// `A|B`
    Or(Vec<Expr>),
    /// `[a, b]`
    List(Vec<Expr>),
    /// `{a=1, b=2}`
    Struct(Vec<Field>),
    /// `htons(8080)`, `inet_addr("..")`
    Apply(String, Vec<Expr>),
    /// `word = value` outside a struct.
    Assign(String, Box<Expr>),
}

/// A member of a struct, which may have no name: `msg_iov(1)=[..]`, `fd=4`, `10`.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name, or nothing.
    pub name: String,
    /// Its value.
    pub value: Expr,
}
