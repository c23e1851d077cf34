//! The configuration of a stack, set once at its start.

mod check;
mod prefix;
pub(crate) mod validate;

pub use check::ConfigError;
pub use prefix::{InvalidPrefix, Prefix};

use crate::tcp::{Algorithm, Ecn, MtuProbing, SlowStartExit};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

/// The settings of a [`Stack`](crate::Stack).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Unicast addresses of this host, of either family. The first address of each family is the
    /// default source address.
    pub addresses: Vec<IpAddr>,
    /// Accept packets to any unicast destination as local, for a proxy or a VPN.
    pub any_address: bool,
    /// Accept packets to the unicast destinations in these prefixes as local: as
    /// [`any_address`](Self::any_address), for a part of the addresses. Loopback addresses are not included.
    pub local_prefixes: Vec<Prefix>,
    /// What the embedder decides instead of the stack.
    pub intercept: Intercept,
    /// MTU: the largest IP packet that the link carries, in bytes; 65 535 at most.
    pub mtu: usize,
    /// The largest super-segment that the link accepts for segmentation offload
    /// ([`Transmit::segment_size`]); equal to `mtu` on a link without it.
    ///
    /// [`Transmit::segment_size`]: crate::Transmit::segment_size
    pub max_packet: usize,
    /// Hop limit (TTL) of packets sent.
    pub hop_limit: u8,
    /// Checksum offload: which checksums the stack verifies and computes.
    pub checksums: Checksums,
    /// Settings of TCP.
    pub tcp: TcpConfig,
    /// Settings of UDP and ICMP.
    pub datagrams: DatagramConfig,
}

impl Config {
    /// The defaults of an Internet host with these addresses, on a link with an MTU of 1500 bytes.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            addresses: addresses.into_iter().collect(),
            any_address: false,
            local_prefixes: Vec::new(),
            intercept: Intercept::default(),
            mtu: 1500,
            max_packet: 1500,
            hop_limit: 64,
            checksums: Checksums::default(),
            tcp: TcpConfig::default(),
            datagrams: DatagramConfig::default(),
        }
    }
}

/// Packets that are reported to the embedder, which answers them instead of the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Intercept {
    /// A SYN without a matching listener ([`Event::Intercepted`](crate::Event::Intercepted)).
    pub tcp: bool,
    /// A datagram without a matching socket: it is delivered to the socket of
    /// [`Stack::udp_intercept`](crate::Stack::udp_intercept).
    pub udp: bool,
    /// A datagram to a multicast or broadcast address: it is delivered to the same socket. With
    /// [`other`](Self::other), packets of other protocols to such an address, too.
    pub groups: bool,
    /// An echo request to an address that is not in [`Config::addresses`].
    pub echo: bool,
    /// A packet of a protocol other than TCP, UDP and ICMP
    /// ([`Stack::poll_raw_packet`](crate::Stack::poll_raw_packet)); otherwise it is answered with protocol
    /// unreachable.
    pub other: bool,
}

/// Checksum offload: which checksums the stack verifies and computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// Whether the stack verifies received checksums (unless [`Received::checksum_good`](crate::Received)).
    pub verify: bool,
    /// The checksum field of packets sent.
    pub transmit: TransmitChecksum,
}

impl Default for Checksums {
    fn default() -> Self {
        Self { verify: true, transmit: TransmitChecksum::Full }
    }
}

/// The content of the checksum field of a TCP or UDP header sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransmitChecksum {
    /// The complete checksum.
    Full,
    /// The sum of the pseudo-header; the link completes it
    /// ([`Transmit::partial_checksum`](crate::Transmit)).
    Partial,
    /// Nothing: the link needs no checksum (two stacks in one process).
    None,
}

/// Settings of TCP. Timeouts as in RFC 9293 section 3.8.3; the defaults are Linux's unless noted.
///
/// The setters refuse a value outside its bounds, and [`Config::check`] finds one that was assigned to a field; a stack
/// replaces it by the nearest one that is allowed. A duration of more than 100 000 hours counts as that.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TcpConfig {
    /// Max bytes of unsent and unacknowledged data per connection. The buffer grows with the
    /// congestion window. At least 536, at most 1 GiB.
    pub send_buffer: usize,
    /// Max bytes of unread data per connection; bounds the receive window. The buffer grows with the
    /// rate of the reader and the round-trip time (autotuning). At least 536, at most 1 GiB.
    pub receive_buffer: usize,
    /// Max bytes in the buffers of all connections, beyond the few KiB that each connection may always
    /// use. At the limit no buffer grows.
    pub memory: usize,
    /// Whether connections are reset to enforce `memory`: stalled ones (`Rule::LimitMemory`), and at
    /// close those with much unsent data (`Rule::LimitOrphansAtClose`, `Rule::LimitOrphans`). Linux
    /// resets only the latter.
    pub reset_for_memory: bool,
    /// Offer timestamps (RFC 7323).
    pub timestamps: bool,
    /// Offer selective acknowledgment (RFC 2018).
    pub sack: bool,
    /// Offer window scaling (RFC 7323).
    pub window_scaling: bool,
    /// Congestion control.
    pub congestion: Algorithm,
    /// When CUBIC leaves slow start before a loss (`tcp_cubic`'s `hystart` and `hystart_detect`).
    pub slow_start_exit: SlowStartExit,
    /// Reduce the congestion window after an idle time longer than the RTO (RFC 5681 section 4.1;
    /// `tcp_slow_start_after_idle`).
    pub slow_start_after_idle: bool,
    /// Pacing: send at 2 × cwnd / SRTT in slow start and 1.2 × cwnd / SRTT afterwards, as Linux, with a
    /// granularity of 1 ms. It avoids bursts that overflow short queues on long paths, at the cost of
    /// timers.
    pub pacing: bool,
    /// Min segments per super-segment, if the link does segmentation offload and the windows allow it
    /// (`tcp_min_tso_segs`). Super-segments are larger on fast paths.
    pub burst_segments: u32,
    /// Explicit congestion notification (RFC 3168).
    pub ecn: Ecn,
    /// Disable the Nagle algorithm on new connections.
    pub nodelay: bool,
    /// DSCP of the segments of new connections, including the SYN or SYN|ACK: six bits
    /// (RFC 9293 section 3.9.1.9).
    pub dscp: u8,
    /// Max delay of an ACK: less than 500 ms (RFC 9293 MUST-40).
    pub ack_delay: Duration,
    /// Max consecutive ACKs that are not delayed, while the peer may be in slow start (as Linux).
    pub quick_acks: u32,
    /// RTO before the first measurement (RFC 6298 2.1), at least 1 ms.
    pub initial_rto: Duration,
    /// Min difference between the RTO and the smoothed round-trip time, at least 1 ms.
    pub min_rto: Duration,
    /// Max RTO, and max interval of window probes; not less than [`min_rto`](Self::min_rto).
    pub max_rto: Duration,
    /// Retransmissions of a SYN before the attempt ends (`Rule::EndSynTimeout`).
    pub syn_retries: u32,
    /// Retransmissions of a SYN|ACK.
    pub syn_ack_retries: u32,
    /// Retransmissions of data, converted to a time limit as on Linux (`tcp_retries2`: 15 is
    /// 924.6 s).
    pub retries: u32,
    /// The same after the application has closed the socket (`tcp_orphan_retries`).
    pub orphan_retries: u32,
    /// Number of consecutive timeouts of full-sized segments after which the path is considered an MTU
    /// black hole, and smaller segments are sent (RFC 4821); `None`: never.
    pub black_hole_timeouts: Option<u32>,
    /// USER TIMEOUT that every connection advertises (RFC 5482). `None`: the option is neither sent nor
    /// applied, unless the application enables it for a connection.
    pub advertised_user_timeout: Option<Duration>,
    /// Lower bound of a USER TIMEOUT advertised by the peer (L_LIMIT).
    pub min_user_timeout: Duration,
    /// Upper bound of a USER TIMEOUT advertised by the peer (U_LIMIT).
    pub max_user_timeout: Duration,
    /// When packetization layer path MTU discovery probes with larger segments (RFC 4821;
    /// `tcp_mtu_probing`, which is off on Linux).
    pub mtu_probing: MtuProbing,
    /// The segment size, TCP options included, that every IPv4 path is assumed to carry: path MTU discovery starts
    /// from it, and a black hole lowers the path MTU to it (`tcp_base_mss`). At least 88. IPv6 starts from an MTU of
    /// 1280 (RFC 8200 section 5).
    pub base_mss: u16,
    /// Time from the end of a path MTU search to the start of the next (`tcp_probe_interval`); at least
    /// 100 ms.
    pub mtu_probe_interval: Duration,
    /// Max orphaned connections. A close above the limit sends RST (`Rule::LimitOrphansAtClose`), and
    /// an unresponsive orphan is reset earlier (`Rule::LimitOrphans`).
    pub max_orphans: usize,
    /// Send a RST when the retransmission limit, the user timeout or the FIN-WAIT-2 timeout is reached
    /// (`Rule::EndRetransmissionTimeout`, `Rule::EndUserTimeout`, `Rule::RstFinWait2Timeout`; Linux does
    /// not).
    pub reset_on_give_up: bool,
    /// How long an orphan stays in FIN-WAIT-2 (`Rule::EndFinWait2Timeout`).
    pub fin_wait_2: Duration,
    /// Duration of TIME-WAIT (2 MSL).
    pub time_wait: Duration,
    /// Max entries in TIME-WAIT; connections above it skip TIME-WAIT.
    pub max_time_wait: usize,
    /// Max connections in SYN-RECEIVED, of all listeners. A SYN above it is answered with a cookie or
    /// dropped (`Rule::LimitSynQueue`).
    pub max_embryonic: usize,
    /// How long an intercepted SYN waits for the embedder's answer; then it is dropped silently
    /// (`Rule::EndInterceptionTimeout`).
    pub intercept_timeout: Duration,
    /// Answer SYNs with a SYN cookie when the SYN queue is full.
    pub syn_cookies: bool,
    /// Min interval per connection of challenge ACKs and of ACKs of unacceptable segments without data
    /// (RFC 5961 section 7).
    pub challenge_interval: Duration,
    /// Answer the final ACK of a handshake with RST while the accept queue is full, instead of dropping
    /// it (`Rule::DropAckAcceptQueueFull`).
    pub abort_on_overflow: bool,
    /// Max resets per second in reply to segments that match no connection; `None`: no limit, as Linux.
    /// Segments that a connection refuses or challenges and SYNs to a listener count too: otherwise the
    /// remaining quota would reveal which connections exist.
    pub reset_rate: Option<u32>,
    /// Send the reason in a reset that ends a connection, in the eight bytes of
    /// draft-ietf-tcpm-rst-diagnostic-payload. The reason in a peer's reset is always read.
    pub send_rst_reason: bool,
    /// Follow a reset with a reason by one without: a middlebox may drop resets with data.
    pub resend_plain_rst: bool,
    /// Answer a SYN in the window of a connection in SYN-RECEIVED with RST, as Linux; otherwise it is
    /// dropped silently (`Rule::RstOtherSynInSynReceived`).
    pub reset_on_embryonic_syn: bool,
    /// Also accept resets at the right edge of the highest SACK block sent (`Rule::PeerRstAfterSack`)
    /// and at the sequence number of the peer's FIN (`Rule::PeerRstAtFin`), as Linux.
    pub lenient_resets: bool,
    /// Report `EPIPE`, as Linux, to a writer whose connection was reset in CLOSE-WAIT; otherwise
    /// `ECONNRESET` (`Rule::PeerRstAfterFin`).
    pub broken_pipe_in_close_wait: bool,
    /// Max ranges in the out-of-order queue of a receive buffer, 16 bytes each. A path that loses every
    /// second packet creates half as many ranges as the buffer holds segments.
    pub max_ooo_ranges: usize,
    /// Min data of a segment that [`Stack::handle_owned_packet`](crate::Stack::handle_owned_packet) does not copy into the
    /// receive buffer, but keeps in its packet. Less data is copied in the time that a packet needs. `usize::MAX`: all
    /// data is copied.
    pub min_kept: usize,
    /// Idle time of a connection after which both buffers release their memory, at least 100 ms.
    pub buffer_idle: Duration,
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            send_buffer: 4 << 20,
            receive_buffer: 6 << 20,
            memory: 256 << 20,
            reset_for_memory: true,
            timestamps: true,
            sack: true,
            window_scaling: true,
            congestion: Algorithm::default(),
            slow_start_exit: SlowStartExit::default(),
            slow_start_after_idle: true,
            pacing: false,
            burst_segments: 2,
            ecn: Ecn::default(),
            nodelay: false,
            dscp: 0,
            ack_delay: Duration::from_millis(40),
            quick_acks: 16,
            initial_rto: Duration::from_secs(1),
            min_rto: Duration::from_millis(200),
            max_rto: Duration::from_secs(120),
            syn_retries: 6,
            syn_ack_retries: 5,
            retries: 15,
            orphan_retries: 8,
            black_hole_timeouts: Some(3),
            advertised_user_timeout: None,
            min_user_timeout: Duration::from_secs(100),
            max_user_timeout: Duration::from_secs(3600),
            mtu_probing: MtuProbing::default(),
            base_mss: 1024,
            mtu_probe_interval: Duration::from_secs(600),
            max_orphans: 65_536,
            reset_on_give_up: false,
            fin_wait_2: Duration::from_secs(60),
            time_wait: Duration::from_secs(60),
            max_time_wait: 65_536,
            max_embryonic: 4_096,
            // A client with the defaults of Linux gives up after 127 s.
            intercept_timeout: Duration::from_secs(130),
            syn_cookies: true,
            challenge_interval: Duration::from_millis(500),
            abort_on_overflow: false,
            reset_rate: None,
            send_rst_reason: false,
            resend_plain_rst: false,
            reset_on_embryonic_syn: true,
            lenient_resets: true,
            broken_pipe_in_close_wait: true,
            max_ooo_ranges: 4096,
            min_kept: 16 << 10,
            buffer_idle: Duration::from_secs(10),
        }
    }
}

/// Settings of UDP and ICMP.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DatagramConfig {
    /// Max datagrams in the receive queue of a socket; further ones are dropped.
    pub receive_queue: usize,
    /// Max bytes in the receive queue of a socket; further datagrams are dropped.
    pub receive_bytes: usize,
    /// Max datagrams in the send queue of a socket.
    pub send_queue: usize,
    /// Burst of ICMP errors to one destination (RFC 4443 section 2.4).
    pub error_burst: u32,
    /// Interval of ICMP errors to one destination after the burst (RFC 4443 section 2.4).
    pub error_interval: Duration,
    /// Max ICMP errors per second to all destinations. Delivered datagrams count too: otherwise the
    /// remaining quota would reveal which ports are open (CVE-2020-25705).
    pub error_rate: u32,
    /// Approximate burst of ICMP errors to all destinations: the count is randomized, so that it does
    /// not reveal replies to other hosts.
    pub error_rate_burst: u32,
    /// Disable both limits, for a loopback-like link.
    pub unlimited_errors: bool,
    /// Max bytes held for incomplete IP packets.
    pub reassembly_bytes: usize,
    /// Reassembly timeout of a packet.
    pub reassembly_time: Duration,
}

impl Default for DatagramConfig {
    fn default() -> Self {
        Self {
            receive_queue: 256,
            receive_bytes: 4 << 20,
            send_queue: 256,
            error_burst: 6,
            error_interval: Duration::from_secs(1),
            error_rate: 1000,
            error_rate_burst: 50,
            unlimited_errors: false,
            reassembly_bytes: 4 << 20,
            reassembly_time: Duration::from_secs(30),
        }
    }
}
