//! Counters, with the names of RFC 4022, RFC 4293 and `nstat` where those have one.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What happened how often since the stack was made.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Every counter with its name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
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
    /// Segments sent, super-segments counted once (TcpOutSegs).
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
    /// Connections opened by us (TcpActiveOpens).
    tcp_active_opens,
    /// Connections opened by a peer (TcpPassiveOpens).
    tcp_passive_opens,
    /// Attempts that failed (TcpAttemptFails).
    tcp_attempt_fails,
    /// Established connections that were reset (TcpEstabResets).
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
