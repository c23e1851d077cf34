//! What a script says.

use lastack_wire::tcp::TcpFlags;
use std::ops::Range;
use std::time::Duration;

/// How deep arguments and code may be nested.
pub const DEEPEST: usize = 100;

/// A place in the text, in octets.
pub type Span = Range<usize>;

/// A whole file.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// The lines `--name=value`.
    pub options: Vec<Setting>,
    /// The command before the first event.
    pub init: Option<Text>,
    /// What happens, in order.
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

/// A command of the shell, or a snippet of code.
#[derive(Clone, Debug)]
pub struct Text {
    pub span: Span,
    pub text: String,
}

/// Something that happens at a time.
#[derive(Clone, Debug)]
pub struct Event {
    pub span: Span,
    pub time: Time,
    pub action: Action,
}

/// When an event happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Since the first event.
    At(Duration),
    /// Since the event before.
    After(Duration),
    /// Since the first event, from .. to.
    AtRange(Duration, Duration),
    /// Since the event before, from .. to.
    AfterRange(Duration, Duration),
    /// Whenever it likes.
    Any,
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Action {
    /// The peer sends it.
    Inbound(Packet),
    /// The stack must send it.
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

/// What a script says of the IP header.
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

/// What a packet carries.
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
    /// `None`: whatever there are.
    pub options: Option<Vec<TcpOption>>,
}

/// One option of a TCP header, as it stands there.
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
    /// Kind and data of one that a script cannot write.
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

/// What an ICMP message quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quoted {
    Tcp { seq: u32, len: u32 },
    Udp { len: u32 },
    Raw { len: u32 },
}

/// A system call and what it must give.
#[derive(Clone, Debug)]
pub struct Call {
    /// It blocks until then, counted as the event's own time.
    pub until: Option<Duration>,
    /// Its name.
    pub name: String,
    /// What it is given.
    pub arguments: Vec<Expr>,
    /// The number that it must give.
    pub result: i64,
    /// The error that it must give.
    pub errno: Option<String>,
    /// Where the result stands.
    pub result_span: Span,
}

/// An argument of a call, and where it stands.
#[derive(Clone, Debug)]
pub struct Expr {
    /// Where it stands.
    pub span: Span,
    /// What it is.
    pub node: Node,
}

/// What an argument is.
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
    /// A string of which only the beginning is told.
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
    /// What it is.
    pub value: Expr,
}
