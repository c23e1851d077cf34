//! Counters, named after RFC 4022, RFC 4113, RFC 4293 and `nstat` where possible.

use crate::{DropReason, Rule, Verdict};
use core::fmt;

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Counters since the creation of the stack. [`NSTAT`] maps them to the names of Linux.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[doc = $doc])* pub $name: u64,)*
            /// Packets received that were answered, dropped, or ended a connection, by rule.
            pub arrivals: ByRule,
            /// Resets, challenge ACKs and ICMP errors sent, by rule.
            pub sent: ByRule,
            /// Connections and connection attempts that ended, by rule.
            pub ends: ByRule,
        }

        impl Counters {
            /// Name and description of every counter except those by rule.
            pub const TEXTS: &[(&'static str, &'static str)] = &[$((stringify!($name), concat!($($doc),*)),)*];

            /// Name and value of every counter except those by rule.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

/// A count for each rule of the catalogue.
///
/// ```
/// use lastack_engine::{ByRule, Config, Counters, Rule, Stack};
///
/// let stack = Stack::new(Config::new(["10.0.0.1".parse()?]), [0; 16]);
/// let counters: &Counters = stack.counters();
/// let sent: &ByRule = &counters.sent;
/// assert_eq!(sent.of(Rule::RstNoListener), 0);
/// for (rule, count) in sent.iter() {
///     println!("{rule}: {count}");
/// }
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ByRule([u64; Rule::ALL.len()]);

impl ByRule {
    /// The count of this rule.
    pub fn of(&self, rule: Rule) -> u64 {
        self.0[rule as usize]
    }

    /// The rules with a count above zero, and their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Rule, u64)> + '_ {
        Rule::ALL.iter().map(|rule| (*rule, self.of(*rule))).filter(|(_, count)| *count > 0)
    }

    pub(crate) fn count(&mut self, rule: Rule) {
        self.0[rule as usize] += 1;
    }

    fn sum(&self, rules: &[Rule]) -> u64 {
        rules.iter().map(|rule| self.of(*rule)).sum()
    }
}

impl Default for ByRule {
    fn default() -> Self {
        Self([0; Rule::ALL.len()])
    }
}

impl fmt::Debug for ByRule {
    /// Only the counts above zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// A TCP segment that is sent, as the counters distinguish them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TcpSent {
    /// A SYN sent for the first time, or an ACK.
    Control,
    /// Data or FIN, sent for the first time.
    Data,
    /// Data or FIN, retransmitted.
    Again,
    SynAgain,
    ChallengeAck,
    Reset,
}

impl Counters {
    /// Counts a TCP segment that is sent, as `count` segments on the wire. A retransmitted one does not count as sent, in
    /// the sense of RFC 4022.
    #[inline(always)]
    pub(crate) fn tcp_sent(&mut self, sent: TcpSent, count: u32) {
        let count = u64::from(count);
        match sent {
            TcpSent::Again | TcpSent::SynAgain => self.tcp_retransmitted += count,
            TcpSent::Control | TcpSent::Data | TcpSent::ChallengeAck | TcpSent::Reset => {
                self.tcp_out_segments += count;
            }
        }
        match sent {
            TcpSent::Data => self.tcp_data_segments_sent += count,
            TcpSent::SynAgain => self.tcp_syn_retransmitted += count,
            TcpSent::ChallengeAck => self.tcp_challenge_acks += count,
            TcpSent::Reset => self.tcp_out_resets += count,
            TcpSent::Control | TcpSent::Again => {}
        }
    }

    /// Counts the verdict on an arrival.
    pub(crate) fn arrived(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Accepted => {}
            Verdict::Answered(rule) | Verdict::Ended(rule) | Verdict::Dropped(DropReason::Rule(rule)) => {
                self.arrivals.count(*rule);
            }
            Verdict::Dropped(DropReason::Malformed(_)) => self.dropped_malformed += 1,
            Verdict::Dropped(DropReason::Unwanted) => self.dropped_unwanted += 1,
            Verdict::Dropped(DropReason::NoSpace) => self.dropped_no_space += 1,
            Verdict::Dropped(DropReason::Duplicate) => self.dropped_duplicates += 1,
            Verdict::Dropped(DropReason::Incomplete) => {}
        }
    }
}

/// A counter of Linux (`nstat -az`) and its equivalent here.
#[derive(Clone, Copy, Debug)]
pub struct Nstat {
    /// Its name on Linux.
    pub name: &'static str,
    /// The equivalent counters: names, or rules.
    pub ours: &'static str,
    /// The value.
    pub value: fn(&Counters) -> u64,
}

macro_rules! nstat {
    ($($name:ident = $($of:ident)+;)*) => {
        /// The counters of Linux that have an equivalent here.
        pub const NSTAT: &[Nstat] = &[$(Nstat {
            name: stringify!($name),
            ours: stringify!($($of)+),
            value: |counters| nstat!(@ counters $($of)+),
        },)*];
    };
    (@ $counters:ident $field:ident) => { $counters.$field };
    (@ $counters:ident arrivals $($rule:ident)+) => { $counters.arrivals.sum(&[$(Rule::$rule),+]) };
    (@ $counters:ident sent $($rule:ident)+) => { $counters.sent.sum(&[$(Rule::$rule),+]) };
    (@ $counters:ident ends $($rule:ident)+) => { $counters.ends.sum(&[$(Rule::$rule),+]) };
}

nstat! {
    IpInReceives = ip_in_receives;
    IpInHdrErrors = ip_in_header_errors;
    IpInAddrErrors = ip_in_address_errors;
    IpInUnknownProtos = arrivals IcmpProtocolUnreachable;
    IpOutRequests = ip_out_requests;
    IpReasmOKs = ip_reassembled;
    IpReasmFails = ip_reassembly_failed;
    IpFragCreates = ip_out_fragments;
    TcpActiveOpens = tcp_active_opens;
    TcpPassiveOpens = tcp_passive_opens;
    TcpAttemptFails = tcp_attempt_fails;
    TcpEstabResets = tcp_established_resets;
    TcpInSegs = tcp_in_segments;
    TcpOutSegs = tcp_out_segments;
    TcpRetransSegs = tcp_retransmitted;
    TcpInErrs = tcp_in_errors;
    TcpOutRsts = tcp_out_resets;
    TcpInCsumErrors = arrivals DropBadChecksum;
    UdpInDatagrams = udp_in_datagrams;
    UdpNoPorts = udp_no_ports;
    UdpInErrors = udp_in_errors;
    UdpOutDatagrams = udp_out_datagrams;
    UdpRcvbufErrors = udp_receive_overflows;
    IcmpInMsgs = icmp_in_messages;
    IcmpInErrors = icmp_in_errors;
    TcpExtEmbryonicRsts = arrivals PeerRstInSynReceived;
    TcpExtOutOfWindowIcmps = arrivals IcmpNotInFlight;
    TcpExtPAWSEstab = arrivals AckOldTimestamp;
    TcpExtListenOverflows = tcp_listen_overflows;
    TcpExtListenDrops = tcp_listen_drops;
    TcpExtSyncookiesSent = tcp_cookies_sent;
    TcpExtSyncookiesRecv = tcp_cookies_received;
    TcpExtSyncookiesFailed = tcp_cookies_failed;
    TcpExtDelayedACKs = tcp_delayed_acks;
    TcpExtTCPTimeouts = tcp_timeouts;
    TcpExtTCPLossProbes = tcp_loss_probes;
    TcpExtTCPSynRetrans = tcp_syn_retransmitted;
    TcpExtTCPOrigDataSent = tcp_data_segments_sent;
    TcpExtTCPOFOQueue = tcp_ofo_segments;
    TcpExtTCPKeepAlive = tcp_keep_alive_probes;
    TcpExtTCPWinProbe = tcp_window_probes;
    TcpExtTCPAbortOnData = ends RstAbort RstDataAfterClose;
    TcpExtTCPAbortOnClose = ends RstUnreadDataAtClose;
    TcpExtTCPAbortOnTimeout = ends EndSynAckTimeout RstKeepaliveTimeout EndRetransmissionTimeout EndUserTimeout EndSynTimeout EndFinTimeout;
    TcpExtTCPAbortOnMemory = tcp_orphan_overflows;
    TcpExtTCPChallengeACK = sent AckChallengeRst AckChallengeSyn AckUnsentData AckTooOld;
    TcpExtTCPSYNChallenge = sent AckChallengeSyn;
    TcpExtTCPTimeWaitOverflow = tcp_time_wait_overflows;
}

counters! {
    /// Packets received (IpInReceives).
    ip_in_receives,
    /// Packets sent to the link (IpOutRequests).
    ip_out_requests,
    /// Packets received with an invalid header (IpInHdrErrors).
    ip_in_header_errors,
    /// Packets received with an invalid or foreign address (IpInAddrErrors).
    ip_in_address_errors,
    /// Packets reassembled from fragments (IpReasmOKs).
    ip_reassembled,
    /// Packets whose reassembly timed out or failed (IpReasmFails).
    ip_reassembly_failed,
    /// Fragments sent (IpFragCreates).
    ip_out_fragments,
    /// Segments received (TcpInSegs).
    tcp_in_segments,
    /// Segments sent except retransmissions; a super-segment counts as its segments (TcpOutSegs).
    tcp_out_segments,
    /// Segments received with a wrong checksum or header (TcpInErrs).
    tcp_in_errors,
    /// Segments retransmitted (TcpRetransSegs).
    tcp_retransmitted,
    /// Resets sent (TcpOutRsts).
    tcp_out_resets,
    /// Resets not sent because of the rate limit.
    tcp_suppressed_resets,
    /// Resets sent with a reason (draft-ietf-tcpm-rst-diagnostic-payload).
    tcp_reasons_sent,
    /// Resets received with a reason that ended a connection.
    tcp_reasons_received,
    /// Resets received with an invalid reason that ended a connection.
    tcp_reasons_invalid,
    /// Connection attempts: SYNs sent, without retransmissions (TcpActiveOpens).
    tcp_active_opens,
    /// Connections opened by a peer (TcpPassiveOpens).
    tcp_passive_opens,
    /// Connections that reached ESTABLISHED, active and passive.
    tcp_established,
    /// Connection attempts that failed (TcpAttemptFails).
    tcp_attempt_fails,
    /// Connections that went from ESTABLISHED or CLOSE-WAIT to CLOSED, by a reset of either side
    /// (TcpEstabResets).
    tcp_established_resets,
    /// Challenge ACKs sent (TcpExtTCPChallengeACK).
    tcp_challenge_acks,
    /// Challenge and duplicate ACKs not sent because of the rate limit (TcpExtTCPACKSkipped..).
    tcp_suppressed_acks,
    /// SYNs dropped because the accept queue was full (TcpExtListenOverflows).
    tcp_listen_overflows,
    /// SYNs dropped for any reason (TcpExtListenDrops).
    tcp_listen_drops,
    /// Paths detected as MTU black holes.
    tcp_black_holes,
    /// Path MTU probes that were acknowledged (TcpExtTCPMTUPSuccess).
    tcp_mtu_probes_arrived,
    /// Path MTU probes that were lost (TcpExtTCPMTUPFail).
    tcp_mtu_probes_lost,
    /// Connections reset at close or later because of the orphan limit (TcpExtTCPAbortOnMemory).
    tcp_orphan_overflows,
    /// Stalled connections reset because of the memory limit.
    tcp_memory_aborts,
    /// SYN cookies sent (TcpExtSyncookiesSent).
    tcp_cookies_sent,
    /// Valid SYN cookies received (TcpExtSyncookiesRecv).
    tcp_cookies_received,
    /// Invalid SYN cookies received (TcpExtSyncookiesFailed).
    tcp_cookies_failed,
    /// TIME-WAIT entries dropped because of their limit (TcpExtTCPTimeWaitOverflow).
    tcp_time_wait_overflows,
    /// Replies not sent because the outbox was full.
    outbox_overflows,
    /// Retransmission timeouts (TcpExtTCPTimeouts).
    tcp_timeouts,
    /// Tail loss probes sent (TcpExtTCPLossProbes).
    tcp_loss_probes,
    /// SYNs retransmitted, with or without ACK (TcpExtTCPSynRetrans).
    tcp_syn_retransmitted,
    /// Segments with data or FIN sent for the first time; a super-segment counts as its segments
    /// (TcpExtTCPOrigDataSent).
    tcp_data_segments_sent,
    /// Data segments received out of order (TcpExtTCPOFOQueue).
    tcp_ofo_segments,
    /// ACKs sent by the delayed-ACK timer (TcpExtDelayedACKs).
    tcp_delayed_acks,
    /// Keep-alive probes sent (TcpExtTCPKeepAlive).
    tcp_keep_alive_probes,
    /// Zero-window probes sent (TcpExtTCPWinProbe).
    tcp_window_probes,
    /// Packets received that are malformed.
    dropped_malformed,
    /// Packets received without a matching socket.
    dropped_unwanted,
    /// Packets received while the queue was full.
    dropped_no_space,
    /// Duplicate packets received.
    dropped_duplicates,
    /// Datagrams delivered (UdpInDatagrams).
    udp_in_datagrams,
    /// Datagrams to a port without a socket (UdpNoPorts).
    udp_no_ports,
    /// Datagrams with a wrong checksum or length (UdpInErrors).
    udp_in_errors,
    /// Datagrams dropped because a queue was full (UdpRcvbufErrors).
    udp_receive_overflows,
    /// Datagrams sent (UdpOutDatagrams).
    udp_out_datagrams,
    /// ICMP messages received (IcmpInMsgs).
    icmp_in_messages,
    /// Malformed ICMP messages received (IcmpInErrors).
    icmp_in_errors,
    /// ICMP errors sent (IcmpOutErrors).
    icmp_out_errors,
    /// ICMP errors not sent because of a rate limit (IcmpOutRateLimitGlobal, ..Host).
    icmp_suppressed_errors,
}
