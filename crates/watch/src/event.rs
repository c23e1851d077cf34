//! What the sources report: the input of [`Join`](crate::Join).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// A time: nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// A number of milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms * 1_000_000)
    }

    /// Nanoseconds since `earlier`; 0 if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This many milliseconds later.
    #[must_use]
    pub const fn plus_millis(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms * 1_000_000))
    }
}

/// The two addresses of a connection, as one local socket sees them. IPv4 addresses mapped into IPv6 are IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// Address and port of the socket.
    pub local: SocketAddr,
    /// Address and port of its peer.
    pub remote: SocketAddr,
}

impl Flow {
    /// A flow with both addresses in their plain form.
    #[must_use]
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        Self { local: plain(local), remote: plain(remote) }
    }

    /// The flow as the socket at the other end sees it.
    #[must_use]
    pub const fn mirrored(self) -> Self {
        Self { local: self.remote, remote: self.local }
    }

    /// The same value for both directions.
    #[must_use]
    pub fn undirected(self) -> Self {
        if self.local <= self.remote { self } else { self.mirrored() }
    }

    /// Whether address and port of both ends are set. The kernel clears them when a socket is disconnected.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let set = |at: SocketAddr| at.port() != 0 && !at.ip().is_unspecified();
        set(self.local) && set(self.remote)
    }
}

/// The address without scope, and as IPv4 if it is IPv4 mapped into IPv6.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(plain_ip(address.ip()), address.port())
}

pub(crate) fn plain_ip(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

pub(crate) fn ip_from_16(bytes: [u8; 16], v6: bool) -> IpAddr {
    if v6 {
        plain_ip(Ipv6Addr::from(bytes).into())
    } else {
        IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

/// The state of a socket, with the kernel's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TcpState {
    /// ESTABLISHED.
    Established = 1,
    /// SYN-SENT.
    SynSent = 2,
    /// SYN-RECEIVED, of a connection that a listener made.
    SynRecv = 3,
    /// FIN-WAIT-1.
    FinWait1 = 4,
    /// FIN-WAIT-2.
    FinWait2 = 5,
    /// TIME-WAIT.
    TimeWait = 6,
    /// CLOSED.
    #[default]
    Close = 7,
    /// CLOSE-WAIT.
    CloseWait = 8,
    /// LAST-ACK.
    LastAck = 9,
    /// LISTEN.
    Listen = 10,
    /// CLOSING.
    Closing = 11,
    /// SYN-RECEIVED, before there is a socket for it.
    NewSynRecv = 12,
}

impl TcpState {
    /// The state with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        use TcpState as S;
        let all = [
            S::Established,
            S::SynSent,
            S::SynRecv,
            S::FinWait1,
            S::FinWait2,
            S::TimeWait,
            S::Close,
            S::CloseWait,
            S::LastAck,
            S::Listen,
            S::Closing,
            S::NewSynRecv,
        ];
        all.into_iter().find(|&state| state as u32 == number)
    }

    /// The kernel's name, such as `TCP_ESTABLISHED`.
    #[must_use]
    pub const fn kernel_name(self) -> &'static str {
        match self {
            Self::Established => "TCP_ESTABLISHED",
            Self::SynSent => "TCP_SYN_SENT",
            Self::SynRecv => "TCP_SYN_RECV",
            Self::FinWait1 => "TCP_FIN_WAIT1",
            Self::FinWait2 => "TCP_FIN_WAIT2",
            Self::TimeWait => "TCP_TIME_WAIT",
            Self::Close => "TCP_CLOSE",
            Self::CloseWait => "TCP_CLOSE_WAIT",
            Self::LastAck => "TCP_LAST_ACK",
            Self::Listen => "TCP_LISTEN",
            Self::Closing => "TCP_CLOSING",
            Self::NewSynRecv => "TCP_NEW_SYN_RECV",
        }
    }
}

/// What sock_diag reports of a socket, alive (a dump) or destroyed (a broadcast).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketReport {
    /// Its addresses; partly zero after a disconnect.
    pub flow: Flow,
    /// Its number among all sockets of this boot.
    pub cookie: u64,
    /// Its state; CLOSE in broadcasts.
    pub state: TcpState,
    /// The running timer: 0 none, 1 retransmission, 2 keep-alive, 3 TIME-WAIT, 4 window probe.
    pub timer: u8,
    /// Bytes received that the application has not read.
    pub rqueue: u32,
    /// Bytes written that the peer has not acknowledged. Meaningless after a disconnect.
    pub wqueue: u32,
    /// The owner's user id; 0 in broadcasts.
    pub uid: u32,
    /// The inode of its file; 0 in broadcasts and for a connection that is not accepted yet.
    pub inode: u32,
    /// The id of its cgroup, if the kernel reports it.
    pub cgroup: Option<u64>,
    /// Counts of the connection, if the kernel reports them.
    pub info: Option<TcpInfo>,
}

/// The part of `struct tcp_info` that shows how a connection ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Retransmissions of the segment that is waiting for its acknowledgment.
    pub retransmits: u8,
    /// Unanswered probes.
    pub probes: u8,
    /// Segments sent and not acknowledged.
    pub unacked: u32,
    /// Milliseconds since data was sent.
    pub last_data_sent: u32,
    /// Milliseconds since data was received.
    pub last_data_recv: u32,
    /// Milliseconds since an acknowledgment was received.
    pub last_ack_recv: u32,
    /// Smoothed round-trip time, in microseconds.
    pub rtt: u32,
    /// All retransmissions.
    pub total_retrans: u32,
    /// Bytes that the peer acknowledged, SYN and FIN included.
    pub bytes_acked: u64,
    /// Bytes received in order.
    pub bytes_received: u64,
    /// Segments sent.
    pub segs_out: u32,
    /// Segments received.
    pub segs_in: u32,
    /// Bytes of data sent, each once, if the kernel reports it (4.19 or later).
    pub data_sent: Option<u64>,
    /// The peer's window, in bytes, if the kernel reports it (5.4 or later).
    pub snd_wnd: Option<u32>,
}

/// Where the task ran whose pid an event carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The process on the CPU.
    pub pid: u32,
    /// The thread on the CPU.
    pub tid: u32,
    /// `common_flags` of the event.
    pub flags: u8,
    /// `common_preempt_count` of the event.
    pub preempt: u8,
}

impl Context {
    const HARDIRQ: u8 = 0x08;
    const SOFTIRQ: u8 = 0x10;
    const NMI: u8 = 0x40;

    /// Whether the process on the CPU itself caused the event. In an interrupt it is an unrelated process.
    #[must_use]
    pub const fn is_process(&self) -> bool {
        self.flags & (Self::HARDIRQ | Self::SOFTIRQ | Self::NMI) == 0 && self.pid != 0
    }
}

impl fmt::Display for Context {
    /// The five characters of a trace: interrupts off, reschedule, interrupt, preemption depth, migration depth.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = self.flags;
        let off = match (flags & 0x01 != 0, flags & 0x80 != 0) {
            (true, true) => 'D',
            (true, false) => 'd',
            (false, true) => 'b',
            (false, false) => '.',
        };
        let reschedule = match (flags & 0x04 != 0, flags & 0x20 != 0) {
            (true, true) => 'N',
            (true, false) => 'n',
            (false, true) => 'p',
            (false, false) => '.',
        };
        let interrupt = match (flags & Self::NMI != 0, flags & Self::HARDIRQ != 0, flags & Self::SOFTIRQ != 0)
        {
            (true, true, _) => 'Z',
            (true, false, _) => 'z',
            (_, true, true) => 'H',
            (_, true, false) => 'h',
            (_, false, true) => 's',
            (_, false, false) => '.',
        };
        let depth =
            |depth: u8| if depth == 0 { '.' } else { char::from_digit(depth.into(), 16).unwrap_or('?') };
        write!(f, "{off}{reschedule}{interrupt}{}{}", depth(self.preempt & 0xf), depth(self.preempt >> 4))
    }
}

/// An event of one of the kernel's tracepoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Who was on the CPU, and in which context.
    pub context: Context,
    /// The name of the thread on the CPU; empty if unknown.
    pub comm: Arc<str>,
    /// What happened.
    pub kind: TraceKind,
}

/// What a tracepoint reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceKind {
    /// `tcp:tcp_send_reset`.
    SendReset {
        /// The reset answers a segment; else a socket is aborted.
        reply: bool,
        /// The address of the socket; 0 if there is none.
        sk: u64,
        /// The socket's addresses.
        flow: Flow,
        /// Its state, if there is a socket.
        state: Option<TcpState>,
        /// The kernel's reason, on 6.10 or later.
        reason: Option<Arc<str>>,
    },
    /// `tcp:tcp_receive_reset`.
    ReceiveReset {
        /// The address of the socket.
        sk: u64,
        /// Its addresses.
        flow: Flow,
        /// Its cookie.
        cookie: u64,
    },
    /// `sock:inet_sock_set_state`.
    SetState {
        /// The address of the socket.
        sk: u64,
        /// Its addresses; the port is 0 before one is chosen.
        flow: Flow,
        /// The state before.
        old: TcpState,
        /// The state from now on.
        new: TcpState,
    },
    /// `sock:inet_sk_error_report`.
    ErrorReport {
        /// The socket's addresses.
        flow: Flow,
        /// The errno that the program will be given; 0 for a soft error.
        errno: i32,
    },
    /// `tcp:tcp_destroy_sock`.
    DestroySock {
        /// The address of the socket.
        sk: u64,
        /// Its addresses.
        flow: Flow,
        /// Its cookie.
        cookie: u64,
    },
}

impl fmt::Display for Trace {
    /// The line that tracefs would give, without time, CPU and the IPv6 twins of IPv4 addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comm = if self.comm.is_empty() { "<...>" } else { &self.comm };
        write!(f, "{comm}-{} {} ", self.context.tid, self.context)?;
        let name = |state: Option<TcpState>| state.map_or("UNKNOWN", TcpState::kernel_name);
        let tuple = |flow: &Flow| {
            let (local, remote) = (flow.local, flow.remote);
            format!(
                "sport={} dport={} saddr={} daddr={}",
                local.port(),
                remote.port(),
                local.ip(),
                remote.ip()
            )
        };
        match &self.kind {
            TraceKind::SendReset { reply, sk, flow, state, reason } => {
                write!(f, "tcp_send_reset: skbaddr={} skaddr={}", shown(*reply), shown(*sk != 0))?;
                write!(f, " src={} dest={} state={}", flow.local, flow.remote, name(*state))?;
                reason.as_ref().map_or(Ok(()), |reason| write!(f, " reason={reason}"))
            }
            TraceKind::ReceiveReset { flow, cookie, .. } => {
                write!(f, "tcp_receive_reset: {} sock_cookie={cookie:x}", tuple(flow))
            }
            TraceKind::SetState { flow, old, new, .. } => write!(
                f,
                "inet_sock_set_state: {} oldstate={} newstate={}",
                tuple(flow),
                old.kernel_name(),
                new.kernel_name()
            ),
            TraceKind::ErrorReport { flow, errno } => {
                write!(f, "inet_sk_error_report: {} error={errno}", tuple(flow))
            }
            TraceKind::DestroySock { flow, cookie, .. } => {
                write!(f, "tcp_destroy_sock: {} sock_cookie={cookie:x}", tuple(flow))
            }
        }
    }
}

/// Kernel addresses are secret and never equal twice: only whether there is one is shown.
fn shown(is_set: bool) -> &'static str {
    if is_set { "set" } else { "0" }
}

/// A packet that can begin or end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sent by this host; else received.
    pub sent: bool,
    /// The flow as the sender sees it.
    pub flow: Flow,
    /// SYN, FIN, RST and ACK, as in the header.
    pub flags: lastack_wire::TcpFlags,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Window, not scaled.
    pub window: u16,
    /// Bytes of payload.
    pub payload: u32,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// Identification; IPv4 only.
    pub ident: u16,
}

/// An ICMP error that quotes a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpReport {
    /// Who sent the error.
    pub from: IpAddr,
    /// The flow as the sender of the quoted segment sees it.
    pub quoted: Flow,
    /// Type, code and version.
    pub error: lastack_wire::IcmpError,
}

/// What is known of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its name, at most 15 bytes.
    pub comm: Arc<str>,
    /// Its arguments, separated by spaces; empty for kernel threads and if it is not readable.
    pub command: Arc<str>,
    /// Its effective user id.
    pub uid: Option<u32>,
    /// The path of its cgroup.
    pub cgroup: Arc<str>,
    /// Its parent.
    pub parent: u32,
}

/// A process calls connect() for a socket of TCP that is not connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectCall {
    /// The process.
    pub pid: u32,
    /// The number of the socket among all sockets of this boot.
    pub cookie: u64,
    /// The address to which the socket is bound, or the one that the routing table gives; the port is 0. And the address
    /// to which it connects.
    pub flow: Flow,
}

/// Counters of TCP in this network namespace, as absolute numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections begun here.
    pub active_opens: u64,
    /// Connections accepted here.
    pub passive_opens: u64,
    /// Connections that failed in the handshake.
    pub attempt_fails: u64,
    /// Connections that ended from ESTABLISHED or CLOSE-WAIT without a FIN of their own.
    pub estab_resets: u64,
    /// Resets sent.
    pub out_resets: u64,
    /// Closed with linger 0, or data after a close.
    pub abort_on_data: u64,
    /// Closed with unread data.
    pub abort_on_close: u64,
    /// Given up for lack of memory.
    pub abort_on_memory: u64,
    /// Given up by a timer.
    pub abort_on_timeout: u64,
    /// Ended in FIN-WAIT-2 with linger time over.
    pub abort_on_linger: u64,
    /// SYNs or handshakes dropped because an accept queue was full.
    pub listen_overflows: u64,
    /// Keep-alive probes sent.
    pub keep_alive: u64,
}

impl Counters {
    /// What was added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let less = u64::saturating_sub;
        Self {
            active_opens: less(self.active_opens, earlier.active_opens),
            passive_opens: less(self.passive_opens, earlier.passive_opens),
            attempt_fails: less(self.attempt_fails, earlier.attempt_fails),
            estab_resets: less(self.estab_resets, earlier.estab_resets),
            out_resets: less(self.out_resets, earlier.out_resets),
            abort_on_data: less(self.abort_on_data, earlier.abort_on_data),
            abort_on_close: less(self.abort_on_close, earlier.abort_on_close),
            abort_on_memory: less(self.abort_on_memory, earlier.abort_on_memory),
            abort_on_timeout: less(self.abort_on_timeout, earlier.abort_on_timeout),
            abort_on_linger: less(self.abort_on_linger, earlier.abort_on_linger),
            listen_overflows: less(self.listen_overflows, earlier.listen_overflows),
            keep_alive: less(self.keep_alive, earlier.keep_alive),
        }
    }
}

/// Where an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A: broadcasts of sock_diag when a socket is destroyed.
    Destroyed,
    /// B: counters in /proc/net.
    Counters,
    /// C: the proc connector, or descriptors of the owning processes where it is missing.
    Processes,
    /// D: lists of sockets by sock_diag, and their owners by /proc.
    Sockets,
    /// E: packets by a packet socket.
    Packets,
    /// F: tracepoints by perf_event_open.
    Tracepoints,
    /// G: calls of connect() of one program, by a seccomp filter.
    Calls,
}

impl Source {
    /// All, in the order of their letters.
    pub const ALL: [Self; 7] = [
        Self::Destroyed,
        Self::Counters,
        Self::Processes,
        Self::Sockets,
        Self::Packets,
        Self::Tracepoints,
        Self::Calls,
    ];

    /// The name used in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Destroyed => "destroyed",
            Self::Counters => "counters",
            Self::Processes => "processes",
            Self::Sockets => "sockets",
            Self::Packets => "packets",
            Self::Tracepoints => "tracepoints",
            Self::Calls => "calls",
        }
    }
}

/// Something that a source reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A socket was destroyed.
    Destroyed(SocketReport),
    /// A socket is alive.
    Listed(SocketReport),
    /// All sockets alive were listed since this time.
    ListEnd {
        /// When the list began.
        begun: Time,
    },
    /// A process holds the socket with this inode.
    Owner {
        /// The socket's inode.
        inode: u32,
        /// The process.
        pid: u32,
    },
    /// Counters.
    Counters(Counters),
    /// A process is known, or has another name or program now.
    Process(Process),
    /// A process ended.
    Exit {
        /// The process.
        pid: u32,
        /// Its wait status: the signal in the low seven bits, the exit code in the next eight. Absent if the kernel
        /// reports only the end.
        status: Option<i32>,
        /// When it was alive for certain, if the time of its end is not known: the event then has the time at which the
        /// end was noticed.
        alive: Option<Time>,
    },
    /// A segment with SYN, FIN or RST.
    Segment(Segment),
    /// An ICMP error.
    Icmp(IcmpReport),
    /// A tracepoint.
    Trace(Trace),
    /// A process of the watched program connects.
    Connect(ConnectCall),
    /// A source lost this number of events.
    Lost {
        /// The source.
        source: Source,
        /// How many; at least one if the number is unknown.
        count: u64,
    },
}
