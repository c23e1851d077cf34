//! Counters, with the names of RFC 4022, RFC 4113, RFC 4293 and `nstat` where those have one.

use crate::{DropReason, Rule, Verdict};
use core::fmt;

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// What happened how often since the stack was made. [`NSTAT`] says what Linux calls it.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[doc = $doc])* pub $name: u64,)*
            /// Arrivals that were answered, dropped, or ended a connection, by the rule that said so.
            pub arrivals: ByRule,
            /// Packets sent because a rule says so: resets, challenge ACKs, ICMP errors.
            pub sent: ByRule,
            /// Connections and attempts that ended, by the rule of their end.
            pub ends: ByRule,
        }

        impl Counters {
            /// The name of every counter but those by rule, and what it counts.
            pub const TEXTS: &[(&'static str, &'static str)] = &[$((stringify!($name), concat!($($doc),*)),)*];

            /// Every counter with its name, but those by rule.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

/// A count for each rule of the catalogue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ByRule([u64; Rule::ALL.len()]);

impl ByRule {
    /// How often it was this one.
    pub fn of(&self, rule: Rule) -> u64 {
        self.0[rule as usize]
    }

    /// The rules that were followed, and how often.
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
    /// Those that are not zero: of most there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Counters {
    /// Books what became of an arrival.
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

/// A counter of Linux (`nstat -az`), and how ours say it.
#[derive(Clone, Copy, Debug)]
pub struct Nstat {
    /// Its name there.
    pub name: &'static str,
    /// Our counters that say it: names, or rules.
    pub ours: &'static str,
    /// The number.
    pub value: fn(&Counters) -> u64,
}

macro_rules! nstat {
    ($($name:ident = $($of:ident)+;)*) => {
        /// The counters of Linux that have a meaning here.
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
    /// Packets that arrived (IpInReceives).
    ip_in_receives,
    /// Packets given to the link (IpOutRequests).
    ip_out_requests,
    /// Arrivals with a header that is wrong (IpInHdrErrors).
    ip_in_header_errors,
    /// Arrivals with an address that is wrong or not ours (IpInAddrErrors).
    ip_in_address_errors,
    /// Packets put together from fragments (IpReasmOKs).
    ip_reassembled,
    /// Packets whose fragments did not all come (IpReasmFails).
    ip_reassembly_failed,
    /// Fragments sent (IpFragCreates).
    ip_out_fragments,
    /// Segments that arrived (TcpInSegs).
    tcp_in_segments,
    /// Segments sent but for repetitions, super-segments as often as they are cut (TcpOutSegs).
    tcp_out_segments,
    /// Arrivals with a wrong checksum or header (TcpInErrs).
    tcp_in_errors,
    /// Segments sent again (TcpRetransSegs).
    tcp_retransmitted,
    /// Resets sent (TcpOutRsts).
    tcp_out_resets,
    /// Resets not sent because of the rate limit.
    tcp_suppressed_resets,
    /// Resets sent that say why (draft-ietf-tcpm-rst-diagnostic-payload).
    tcp_reasons_sent,
    /// Resets that ended a connection and said why.
    tcp_reasons_received,
    /// Resets that ended a connection and meant to say why, in octets that say nothing.
    tcp_reasons_invalid,
    /// Attempts to connect: SYNs sent for the first time (TcpActiveOpens).
    tcp_active_opens,
    /// Connections opened by a peer (TcpPassiveOpens).
    tcp_passive_opens,
    /// Connections that were established, whoever opened them.
    tcp_established,
    /// Attempts that failed (TcpAttemptFails).
    tcp_attempt_fails,
    /// Connections that went from ESTABLISHED or CLOSE-WAIT to CLOSED, reset by whomever (TcpEstabResets).
    tcp_established_resets,
    /// Challenge ACKs sent (TcpExtTCPChallengeACK).
    tcp_challenge_acks,
    /// Challenge ACKs and the like not sent because of their limit (TcpExtTCPACKSkipped..).
    tcp_suppressed_acks,
    /// SYNs dropped because the accept queue was full (TcpExtListenOverflows).
    tcp_listen_overflows,
    /// SYNs dropped for any reason (TcpExtListenDrops).
    tcp_listen_drops,
    /// Paths that swallowed large segments in silence.
    tcp_black_holes,
    /// Probes of the path MTU that arrived (TcpExtTCPMTUPSuccess).
    tcp_mtu_probes_arrived,
    /// Probes of the path MTU that were lost (TcpExtTCPMTUPFail).
    tcp_mtu_probes_lost,
    /// Connections reset on close, or later, because too many had no user (TcpExtTCPAbortOnMemory).
    tcp_orphan_overflows,
    /// Stalled connections reset because the buffers of all held too much.
    tcp_memory_aborts,
    /// SYN cookies sent (TcpExtSyncookiesSent).
    tcp_cookies_sent,
    /// SYN cookies that came back good (TcpExtSyncookiesRecv).
    tcp_cookies_received,
    /// SYN cookies that came back wrong (TcpExtSyncookiesFailed).
    tcp_cookies_failed,
    /// TIME-WAIT entries dropped because there were too many (TcpExtTCPTimeWaitOverflow).
    tcp_time_wait_overflows,
    /// Answers not sent because too many waited to be sent.
    outbox_overflows,
    /// Retransmission timeouts (TcpExtTCPTimeouts).
    tcp_timeouts,
    /// Tail loss probes sent (TcpExtTCPLossProbes).
    tcp_loss_probes,
    /// SYNs sent again, with ACK or without (TcpExtTCPSynRetrans).
    tcp_syn_retransmitted,
    /// Segments with text or FIN sent for the first time, super-segments as often as they are cut
    /// (TcpExtTCPOrigDataSent).
    tcp_data_segments_sent,
    /// Segments with text that came before what precedes it (TcpExtTCPOFOQueue).
    tcp_ofo_segments,
    /// ACKs that were held back until their time was over (TcpExtDelayedACKs).
    tcp_delayed_acks,
    /// Keep-alive probes (TcpExtTCPKeepAlive).
    tcp_keep_alive_probes,
    /// Probes of a shut window (TcpExtTCPWinProbe).
    tcp_window_probes,
    /// Arrivals that do not form what they claim to be.
    dropped_malformed,
    /// Arrivals for which nobody waits.
    dropped_unwanted,
    /// Arrivals for which there is no room.
    dropped_no_space,
    /// Copies of what came before.
    dropped_duplicates,
    /// Datagrams that were delivered (UdpInDatagrams).
    udp_in_datagrams,
    /// Datagrams to a port without a socket (UdpNoPorts).
    udp_no_ports,
    /// Datagrams with a wrong checksum or length (UdpInErrors).
    udp_in_errors,
    /// Datagrams dropped because a queue was full (UdpRcvbufErrors).
    udp_receive_overflows,
    /// Datagrams sent (UdpOutDatagrams).
    udp_out_datagrams,
    /// ICMP messages that arrived (IcmpInMsgs).
    icmp_in_messages,
    /// ICMP messages that were wrong (IcmpInErrors).
    icmp_in_errors,
    /// ICMP errors sent (IcmpOutErrors).
    icmp_out_errors,
    /// ICMP errors not sent because of a rate limit (IcmpOutRateLimitGlobal, ..Host).
    icmp_suppressed_errors,
}
