//! The configuration of a stack, set once at its start.

pub(crate) mod validate;

use crate::tcp::{Algorithm, Ecn, MtuProbing};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

/// The settings of a [`Stack`](crate::Stack).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Our unicast addresses, of either family. The first of a family is the source of what we
    /// begin ourselves.
    pub addresses: Vec<IpAddr>,
    /// Whether every unicast destination is taken for ours: what a proxy or a VPN needs.
    pub any_address: bool,
    /// What the embedder wants to decide itself.
    pub intercept: Intercept,
    /// The largest IP packet that the link carries, in octets; 65 535 at most.
    pub mtu: usize,
    /// The largest packet the link takes if told where to cut it ([`Transmit::segment_size`]);
    /// equal to `mtu` on a link that cannot cut.
    ///
    /// [`Transmit::segment_size`]: crate::Transmit::segment_size
    pub max_packet: usize,
    /// Hop limit (TTL) of what we send.
    pub hop_limit: u8,
    /// Who computes and who tests checksums.
    pub checksums: Checksums,
    /// Settings of TCP.
    pub tcp: TcpConfig,
    /// Settings of UDP and ICMP.
    pub datagrams: DatagramConfig,
}

impl Config {
    /// A host with these addresses on a link of 1500 octets, with the defaults of a host on the
    /// Internet.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            addresses: addresses.into_iter().collect(),
            any_address: false,
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

/// What surfaces as an event for the embedder to answer, instead of being answered by the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Intercept {
    /// A SYN that no listener is for ([`Event::Intercepted`](crate::Event::Intercepted)).
    pub tcp: bool,
    /// A datagram that no socket is for: it goes to
    /// [`Stack::udp_intercept`](crate::Stack::udp_intercept).
    pub udp: bool,
    /// A datagram to a multicast or broadcast address: it goes to the same socket, which is then open to them.
    pub groups: bool,
    /// An echo request to an address that is not in [`Config::addresses`].
    pub echo: bool,
}

/// Who computes and who tests checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// Whether arrivals are tested here (unless [`Received::checksum_good`](crate::Received)).
    pub verify: bool,
    /// What is put into the packets we send.
    pub transmit: TransmitChecksum,
}

impl Default for Checksums {
    fn default() -> Self {
        Self { verify: true, transmit: TransmitChecksum::Full }
    }
}

/// What stands in the checksum field of a TCP or UDP header that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransmitChecksum {
    /// The checksum.
    Full,
    /// The sum of the pseudo-header; the link completes it
    /// ([`Transmit::partial_checksum`](crate::Transmit)).
    Partial,
    /// Nothing: the link needs none (two stacks in one memory).
    None,
}

/// Settings of TCP. Times as in RFC 9293 section 3.8.3; the defaults are Linux's unless said.
///
/// What lies outside the bounds that are named is taken for the bound; no time is longer than 100 000 hours.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TcpConfig {
    /// Most octets of text waiting to be sent or acknowledged, for each connection. It is used as the
    /// congestion window asks for it. At least 536, at most 1 GiB.
    pub send_buffer: usize,
    /// Most octets of text waiting to be read, for each connection; bounds the receive window. It is
    /// used as the speed of the reader and the round-trip time ask for it. At least 536, at most 1 GiB.
    pub receive_buffer: usize,
    /// Most octets that the buffers of all connections hold together, beside a few KiB that each may
    /// always have. Then none grows.
    pub memory: usize,
    /// Whether connections are reset to keep to that: those that stall (`Rule::LimitMemory`), and at their close those that
    /// have much to send (`Rule::LimitOrphansAtClose`, `Rule::LimitOrphans`). Linux resets the latter only.
    pub reset_for_memory: bool,
    /// Offer timestamps (RFC 7323).
    pub timestamps: bool,
    /// Offer selective acknowledgment (RFC 2018).
    pub sack: bool,
    /// Offer window scaling (RFC 7323).
    pub window_scaling: bool,
    /// Congestion control.
    pub congestion: Algorithm,
    /// Reduce the congestion window after a silence longer than the RTO (RFC 5681 section 4.1;
    /// `tcp_slow_start_after_idle`).
    pub slow_start_after_idle: bool,
    /// Spread what the congestion window lets go over the round trip: at twice the window in a smoothed
    /// round-trip time in slow start and 1.2 times later, as Linux, in steps of a millisecond. It spares
    /// short queues the bursts of long paths, and costs timers.
    pub pacing: bool,
    /// The least segments that the link is given at once where it cuts super-segments and the windows let so many go
    /// (`tcp_min_tso_segs`). More are given where the path is fast.
    pub burst_segments: u32,
    /// Explicit congestion notification (RFC 3168).
    pub ecn: Ecn,
    /// Disable the Nagle algorithm on new connections.
    pub nodelay: bool,
    /// DSCP of the segments of new connections, from the SYN or SYN|ACK on: six bits
    /// (RFC 9293 section 3.9.1.9).
    pub dscp: u8,
    /// Longest delay of an ACK: under 500 ms (RFC 9293 MUST-40).
    pub ack_delay: Duration,
    /// Most ACKs in a row that are not delayed, while the peer may be in slow start (as Linux).
    pub quick_acks: u32,
    /// RTO before the first measurement (RFC 6298 2.1), at least 1 ms.
    pub initial_rto: Duration,
    /// Least time of the RTO above the smoothed round-trip time, at least 1 ms.
    pub min_rto: Duration,
    /// Greatest RTO, and greatest interval of window probes; not less than [`min_rto`](Self::min_rto).
    pub max_rto: Duration,
    /// Retransmissions of a SYN before the attempt ends (`Rule::AckChallengeRst` for SYN).
    pub syn_retries: u32,
    /// Retransmissions of a SYN|ACK.
    pub syn_ack_retries: u32,
    /// Retransmissions of text, turned into a time budget as Linux does (`tcp_retries2`: 15 is
    /// 924.6 s).
    pub retries: u32,
    /// The same once the user has closed (`tcp_orphan_retries`).
    pub orphan_retries: u32,
    /// After this many timeouts in a row of segments of full size the path is taken for one that
    /// swallows large packets in silence, and smaller ones are sent (RFC 4821); `None`: never.
    pub black_hole_timeouts: Option<u32>,
    /// USER TIMEOUT that every connection advertises (RFC 5482). `None`: the option is neither sent nor
    /// heeded, unless the user of a connection asks for it.
    pub advertised_user_timeout: Option<Duration>,
    /// What a peer's advertisement cannot shorten the USER TIMEOUT below (L_LIMIT) ..
    pub min_user_timeout: Duration,
    /// .. nor lengthen it above (U_LIMIT).
    pub max_user_timeout: Duration,
    /// When the path MTU is searched for with larger and larger segments (RFC 4821;
    /// `tcp_mtu_probing`, which is off on Linux).
    pub mtu_probing: MtuProbing,
    /// How long after a search has ended it begins anew, for the path may have changed
    /// (`tcp_probe_interval`); at least 100 ms.
    pub mtu_probe_interval: Duration,
    /// Most connections without a user; a close above it sends RST (`Rule::LimitOrphansAtClose`), and one that gets no answer is
    /// reset before (`Rule::LimitOrphans`).
    pub max_orphans: usize,
    /// Whether giving up after retransmissions, the user timeout or FIN-WAIT-2 sends a RST (`Rule::EndRetransmissionTimeout`, `Rule::EndUserTimeout`, `Rule::RstFinWait2Timeout`;
    /// Linux does not).
    pub reset_on_give_up: bool,
    /// How long an orphan stays in FIN-WAIT-2 (`Rule::EndFinWait2Timeout`).
    pub fin_wait_2: Duration,
    /// 2 MSL: the length of TIME-WAIT.
    pub time_wait: Duration,
    /// Most entries in TIME-WAIT; more are forgotten at once (S101).
    pub max_time_wait: usize,
    /// Most embryonic connections in all. The SYNs above it are answered with a cookie or dropped
    /// (`Rule::LimitSynQueue`).
    pub max_embryonic: usize,
    /// How long an intercepted SYN waits for the embedder's answer; then it is forgotten silently (X4).
    pub intercept_timeout: Duration,
    /// Whether SYNs for which there is no room are answered with a SYN cookie.
    pub syn_cookies: bool,
    /// Challenge ACKs and ACKs of unacceptable segments without text: at most one in this time for
    /// each connection (RFC 5961 section 7).
    pub challenge_interval: Duration,
    /// A full accept queue answers the final ACK with RST instead of dropping it (`Rule::DropAckAcceptQueueFull`).
    pub abort_on_overflow: bool,
    /// How many segments a second, of those that no connection accepts, may be answered with RST for want
    /// of one; `None`: all, as Linux. What a connection refuses or challenges counts too, and so does a SYN
    /// to a listener: else what is left would tell others which connections exist.
    pub reset_rate: Option<u32>,
    /// A reset that ends a connection says why, in the eight octets of
    /// draft-ietf-tcpm-rst-diagnostic-payload. What a peer's reset says is always read.
    pub send_rst_reason: bool,
    /// A reset that says why is followed by one that does not: something on the path may drop resets with
    /// text.
    pub resend_plain_rst: bool,
    /// Answer a SYN in the window of an embryonic connection with RST, as Linux; else it is dropped
    /// in silence (`Rule::RstOtherSynInSynReceived`).
    pub reset_on_embryonic_syn: bool,
    /// Accept resets also at the end of the highest SACK block that we sent (`Rule::PeerRstAfterSack`) and with the number
    /// of the peer's FIN (`Rule::PeerRstAtFin`), as Linux.
    pub lenient_resets: bool,
    /// Give the errno of Linux (`EPIPE`) to a writer whose connection was reset in CLOSE-WAIT; else
    /// `ECONNRESET` (`Rule::PeerRstAfterFin`).
    pub broken_pipe_in_close_wait: bool,
    /// Most pieces in the early (out-of-order) part of a receive buffer, 16 octets each. A path that loses
    /// every second packet makes half as many as the buffer holds segments.
    pub max_ooo_ranges: usize,
    /// How long both buffers of a silent connection keep their memory, at least 100 ms.
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
            mtu_probe_interval: Duration::from_secs(600),
            max_orphans: 65_536,
            reset_on_give_up: false,
            fin_wait_2: Duration::from_secs(60),
            time_wait: Duration::from_secs(60),
            max_time_wait: 65_536,
            max_embryonic: 4_096,
            // By then a client with the defaults of Linux has given up, after 127 s.
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
            buffer_idle: Duration::from_secs(10),
        }
    }
}

/// Settings of UDP and ICMP.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DatagramConfig {
    /// Most datagrams waiting to be read, for each socket; the next are dropped.
    pub receive_queue: usize,
    /// Most octets of datagrams waiting to be read, for each socket; the next are dropped.
    pub receive_octets: usize,
    /// Most datagrams waiting to be sent, for each socket.
    pub send_queue: usize,
    /// ICMP errors to one destination: this many at once ..
    pub error_burst: u32,
    /// .. and then one in this time (RFC 4443 section 2.4).
    pub error_interval: Duration,
    /// How many datagrams a second may be answered with ICMP errors, in all. Those that are delivered
    /// count too: else what is left would tell others which ports are open (CVE-2020-25705).
    pub error_rate: u32,
    /// Of these as many as this at once, about: the count is blurred at random, so that nobody can
    /// learn from it what we answered to others.
    pub error_rate_burst: u32,
    /// Whether the link is loopback-like and so exempt from both limits.
    pub unlimited_errors: bool,
    /// Most octets held for incomplete IP packets.
    pub reassembly_octets: usize,
    /// How long the fragments of a packet are waited for.
    pub reassembly_time: Duration,
}

impl Default for DatagramConfig {
    fn default() -> Self {
        Self {
            receive_queue: 256,
            receive_octets: 4 << 20,
            send_queue: 256,
            error_burst: 6,
            error_interval: Duration::from_secs(1),
            error_rate: 1000,
            error_rate_burst: 50,
            unlimited_errors: false,
            reassembly_octets: 4 << 20,
            reassembly_time: Duration::from_secs(30),
        }
    }
}
