//! The rules by which packets are answered or dropped and connections end.
//!
//! A rule has a name, which reports, captures and logs print, and a code, which stays the same in
//! `docs/resets.md`, in JSON and in test names.
//!
//! The prefix of a name shows the effect of the rule: `rst-` sends a reset, `peer-rst-` accepts one,
//! `ack-` answers with an ACK, `drop-` ignores a packet, `icmp-` sends or handles an ICMP error, `end-`
//! ends a connection without a reset, `limit-` applies a bound.

use core::fmt;
use core::str::FromStr;

macro_rules! rules {
    ($($variant:ident $code:literal $name:literal $section:literal $text:literal;)*) => {
        /// A rule of the catalogue of resets.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Rule {
            $(#[doc = $text] #[doc = ""] #[doc = concat!("Code `", $code, "`; ", $section, ".")] $variant,)*
        }

        impl Rule {
            /// Every rule, in the order of the catalogue.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name, such as `rst-unread-data-at-close`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The code in the catalogue, such as `S60`.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The description, one sentence without a full stop.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The section of the RFC that the rule comes from, or `Linux` or `lastack`.
            pub const fn section(self) -> &'static str {
                match self { $(Self::$variant => $section,)* }
            }
        }

        impl FromStr for Rule {
            type Err = UnknownRule;

            /// Parses a name or a code.
            fn from_str(text: &str) -> Result<Self, UnknownRule> {
                match text { $($name | $code => Ok(Self::$variant),)* _ => Err(UnknownRule) }
            }
        }
    };
}

/// The text is neither the name nor the code of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownRule;

impl fmt::Display for UnknownRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown rule")
    }
}

impl core::error::Error for UnknownRule {}

/// The name.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

rules! {
    DropResetToReset "N1" "drop-reset-to-reset" "RFC 9293 3.5.2" "a reset is never answered with a reset";
    DropBadChecksum "N2" "drop-bad-checksum" "RFC 9293 3.1" "segment with a wrong checksum: dropped";
    DropBadHeader "N3" "drop-bad-header" "RFC 9293 3.1" "segment with a malformed header: dropped";
    DropBadDestination "N4" "drop-bad-destination" "RFC 9293 MUST-57" "packet to a broadcast, multicast or foreign address: dropped";
    DropBadSource "N5" "drop-bad-source" "RFC 9293 MUST-63" "packet from an address that cannot be a peer: dropped";
    DropOverlappingFragments "N6a" "drop-overlapping-fragments" "RFC 5722 4" "overlapping fragments: whole datagram discarded";
    DropUnverifiedSignature "N7" "drop-unverified-signature" "RFC 2385" "signed segment without a matching key: dropped";
    RstNoListener "S1" "rst-no-listener" "RFC 9293 3.10.7.1" "SYN to a port with no listener: RST";
    RstNoConnection "S4" "rst-no-connection" "RFC 9293 3.10.7.1" "ACK for which there is no connection: RST";
    RstNoConnectionNoAck "S5" "rst-no-connection-no-ack" "RFC 9293 3.10.7.1" "segment with neither ACK nor SYN for which there is no connection: RST";
    RstAckToListener "S10" "rst-ack-to-listener" "RFC 9293 3.10.7.2" "ACK that reaches a listener: RST";
    RstBadCookie "S11" "rst-bad-cookie" "RFC 4987" "ACK without a valid SYN cookie: RST";
    DropResetToListener "S12" "drop-reset-to-listener" "RFC 9293 3.10.7.2" "reset that reaches a listener: ignored";
    DropNoSynToListener "S13" "drop-no-syn-to-listener" "RFC 9293 3.10.7.2" "segment with neither SYN nor ACK that reaches a listener: dropped";
    DropSynFinToListener "S14" "drop-syn-fin-to-listener" "Linux" "SYN with FIN that reaches a listener: dropped";
    DropSynAcceptQueueFull "S17" "drop-syn-accept-queue-full" "RFC 3360 2.3" "SYN while the accept queue is full: dropped";
    LimitSynQueue "S18" "limit-syn-queue" "RFC 4987" "SYN while the SYN queue is full: answered with a cookie, or dropped";
    RstBadAckInSynSent "S20" "rst-bad-ack-in-syn-sent" "RFC 9293 3.10.7.3" "unacceptable ACK in SYN-SENT: RST";
    DropResetBadAckInSynSent "S21" "drop-reset-bad-ack-in-syn-sent" "RFC 9293 3.10.7.3" "reset with an unacceptable ACK in SYN-SENT: dropped";
    DropAckWithoutSynInSynSent "S23" "drop-ack-without-syn-in-syn-sent" "RFC 9293 3.10.7.3" "acceptable ACK without SYN in SYN-SENT: dropped";
    DropNoFlagsInSynSent "S24" "drop-no-flags-in-syn-sent" "RFC 9293 3.10.7.3" "segment with neither ACK nor SYN in SYN-SENT: dropped";
    EndAttemptClosed "S27" "end-attempt-closed" "RFC 9293 3.10.4" "close or abort in SYN-SENT: the attempt ends silently";
    RstBadAckInSynReceived "S30" "rst-bad-ack-in-syn-received" "RFC 9293 3.10.7.4" "unacceptable ACK in SYN-RECEIVED: RST";
    AckRepeatedSyn "S31" "ack-repeated-syn" "RFC 9293 3.10.7.4" "retransmitted SYN: SYN|ACK again";
    RstOtherSynInSynReceived "S32" "rst-other-syn-in-syn-received" "Linux" "another SYN in the window of a connection in SYN-RECEIVED: RST";
    AckUnacceptableInSynReceived "S33" "ack-unacceptable-in-syn-received" "RFC 9293 3.10.7.4" "unacceptable segment in SYN-RECEIVED: ACK";
    DropNoAckInSynReceived "S34" "drop-no-ack-in-syn-received" "RFC 9293 3.10.7.4" "segment without ACK in SYN-RECEIVED: dropped";
    EndSynAckTimeout "S36" "end-syn-ack-timeout" "RFC 9293 MUST-23" "SYN|ACK never acknowledged: the connection in SYN-RECEIVED ends silently";
    DropAckAcceptQueueFull "S37" "drop-ack-accept-queue-full" "Linux" "final ACK of a handshake while the accept queue is full: dropped";
    EndListenerClosedInSynReceived "S38" "end-listener-closed-in-syn-received" "Linux" "listener closed: its connections in SYN-RECEIVED end silently";
    RstBadAckSimultaneousOpen "S40" "rst-bad-ack-simultaneous-open" "RFC 9293 3.10.7.4" "unacceptable ACK after a simultaneous open: RST";
    RstCloseInSynReceived "S44" "rst-close-in-syn-received" "RFC 9293 3.10.5" "close or abort in SYN-RECEIVED: RST";
    AckChallengeSyn "S50" "ack-challenge-syn" "RFC 5961 4.2" "SYN in a synchronized state: challenge ACK";
    AckOutsideWindow "S51" "ack-outside-window" "RFC 9293 3.10.7.4" "segment outside the receive window: ACK";
    AckUnsentData "S52" "ack-unsent-data" "RFC 5961 5.2" "ACK of data that was never sent: ACK";
    AckTooOld "S53" "ack-too-old" "RFC 5961 5.2" "ACK that is too old: challenge ACK";
    DropNoAck "S54" "drop-no-ack" "RFC 9293 3.10.7.4" "segment without ACK in a synchronized state: dropped";
    AckOldTimestamp "S55" "ack-old-timestamp" "RFC 7323 5.3" "segment with an old timestamp (PAWS): ACK";
    RstUnreadDataAtClose "S60" "rst-unread-data-at-close" "RFC 9293 3.6.1" "close with unread data in the receive buffer: RST";
    RstAbort "S64" "rst-abort" "RFC 9293 3.10.5" "abort, or close with SO_LINGER=0: RST";
    EndAbortAfterFins "S66" "end-abort-after-fins" "RFC 9293 3.10.5" "abort after both FINs: nothing is sent";
    RstFinWait2Refused "S71" "rst-fin-wait2-refused" "Linux" "close with a negative FIN-WAIT-2 timeout (TCP_LINGER2 < 0): RST";
    RstDataAfterClose "S80" "rst-data-after-close" "RFC 1122 4.2.2.13" "data received after the socket was closed: RST";
    DropDataAfterFin "S84" "drop-data-after-fin" "RFC 9293 3.10.7.4" "data beyond the peer's FIN: ignored";
    RstListenerClosed "S90" "rst-listener-closed" "RFC 9293 3.10.4" "listener closed with connections in its accept queue: RST";
    RstKeepaliveTimeout "S91" "rst-keepalive-timeout" "RFC 9293 3.8.4" "keep-alive probes unanswered: RST";
    EndRetransmissionTimeout "S92" "end-retransmission-timeout" "RFC 9293 3.8.3" "retransmission limit reached";
    EndUserTimeout "S93" "end-user-timeout" "RFC 9293 3.8.3" "user timeout expired";
    EndSynTimeout "S94" "end-syn-timeout" "RFC 9293 MUST-23" "SYN never answered";
    EndFinTimeout "S95" "end-fin-timeout" "Linux" "FIN never acknowledged after close";
    EndFinWait2Timeout "S96" "end-fin-wait2-timeout" "Linux" "orphaned connection in FIN-WAIT-2 timed out";
    RstFinWait2Timeout "S97" "rst-fin-wait2-timeout" "Linux" "orphaned connection in FIN-WAIT-2 timed out, configured to send RST";
    LimitOrphansAtClose "S99" "limit-orphans-at-close" "Linux" "close while the orphan limit is exceeded: RST";
    LimitOrphans "S100" "limit-orphans" "Linux" "orphan limit exceeded: unresponsive orphan reset";
    RstKilled "S103" "rst-killed" "Linux" "killed by the administrator: RST";
    EndKilledSilently "S104" "end-killed-silently" "Linux" "killed by the administrator in SYN-SENT or after both FINs: nothing is sent";
    EndKilledWithoutConnection "S105" "end-killed-without-connection" "Linux" "killed by the administrator in SYN-RECEIVED or TIME-WAIT: removed silently";
    RstListenerKilled "S106" "rst-listener-killed" "Linux" "listener killed by the administrator with connections in its accept queue: RST";
    PeerRstExact "R1" "peer-rst-exact" "RFC 5961 3.2" "reset exactly at RCV.NXT: the connection ends";
    AckChallengeRst "R2" "ack-challenge-rst" "RFC 5961 3.2" "reset in the window but not at RCV.NXT: challenge ACK";
    DropRstOutsideWindow "R4" "drop-rst-outside-window" "RFC 5961 3.2" "reset outside the window: dropped";
    PeerRstAfterSack "R5" "peer-rst-after-sack" "RFC 5961 3.2" "reset at the end of selectively acknowledged data: the connection ends";
    PeerRstAtFin "R6" "peer-rst-at-fin" "Linux" "reset with the sequence number of the peer's FIN: the connection ends";
    DropRstNoConnection "R10" "drop-rst-no-connection" "RFC 9293 3.10.7.1" "reset for which there is no connection: ignored";
    PeerRstRefused "R11" "peer-rst-refused" "RFC 9293 3.10.7.3" "reset that acknowledges our SYN: connection refused";
    DropRstNoAckInSynSent "R11a" "drop-rst-no-ack-in-syn-sent" "RFC 9293 3.10.7.3" "reset without ACK in SYN-SENT: dropped";
    PeerRstInSynReceived "R12" "peer-rst-in-syn-received" "RFC 9293 3.10.7.4" "reset in SYN-RECEIVED: the connection ends";
    PeerRstSimultaneousOpen "R13" "peer-rst-simultaneous-open" "RFC 9293 3.10.7.4" "reset after a simultaneous open: connection refused";
    PeerRstAfterFin "R15" "peer-rst-after-fin" "RFC 9293 3.10.7.4" "reset after the peer's FIN: the connection ends";
    PeerRstAfterFins "R16" "peer-rst-after-fins" "RFC 9293 3.10.7.4" "reset after both FINs: the connection ends";
    DropRstInTimeWait "R17" "drop-rst-in-time-wait" "RFC 1337" "reset in TIME-WAIT: ignored";
    IcmpPortUnreachable "U1" "icmp-port-unreachable" "RFC 1122 3.2.2.1" "datagram to a port with no socket: ICMP port unreachable";
    IcmpProtocolUnreachable "U6" "icmp-protocol-unreachable" "RFC 1122 3.2.2.1" "packet of an unknown protocol: ICMP protocol unreachable";
    IcmpReassemblyTimeout "U7" "icmp-reassembly-timeout" "RFC 792" "fragments missing after the reassembly timeout: ICMP time exceeded";
    DropBadDatagram "U8" "drop-bad-datagram" "RFC 768" "datagram with a wrong checksum or length: dropped";
    IcmpNotReported "U9" "icmp-not-reported" "RFC 1122 4.1.3.3" "transient ICMP error, or no connected UDP socket: not reported";
    IcmpNotAllowed "I0" "icmp-not-allowed" "RFC 1122 3.2.2" "no ICMP error is generated for this packet";
    IcmpEndsAttempt "I1" "icmp-ends-attempt" "RFC 1122 4.2.3.9" "ICMP error about a connection attempt: the attempt ends";
    IcmpSoftError "I2" "icmp-soft-error" "RFC 5927 5.2" "ICMP error about a synchronized connection: kept as a soft error";
    IcmpIgnored "I7" "icmp-ignored" "RFC 6633, RFC 1122 3.2.2.2" "source quench or redirect: ignored";
    IcmpNotInFlight "I11" "icmp-not-in-flight" "RFC 5927 4.1" "ICMP error about a segment that is not in flight: ignored";
    IcmpMtuTooSmall "P2" "icmp-mtu-too-small" "RFC 8201 4" "ICMPv6 packet too big with an MTU below 1280: ignored";
    EndOrderly "E0" "end-orderly" "RFC 9293 3.6" "closed by FIN in both directions";
    AckInTimeWait "Q1" "ack-in-time-wait" "RFC 9293 3.10.7.4" "segment in TIME-WAIT: ACK";
    DropInTimeWait "Q2" "drop-in-time-wait" "RFC 9293 3.10.7.4" "segment without new data in TIME-WAIT: dropped";
    LimitReplies "D9" "limit-replies" "RFC 5927" "reset or ICMP error beyond the rate limit: not sent";
    LimitMemory "D26" "limit-memory" "RFC 6429 3" "memory limit exceeded: longest-stalled connection reset";
    RstIntercepted "X1" "rst-intercepted" "lastack" "intercepted connection refused by the interceptor";
    IcmpIntercepted "X2" "icmp-intercepted" "lastack" "intercepted packet answered with an ICMP error by the interceptor";
    DropIntercepted "X3" "drop-intercepted" "lastack" "intercepted packet dropped by the interceptor";
    EndInterceptionTimeout "X4" "end-interception-timeout" "lastack" "intercepted SYN not answered by the interceptor in time: it ends silently";
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;

    /// The name that a variant should have.
    fn kebab(variant: &str) -> String {
        let mut name = String::new();
        for c in variant.chars() {
            if c.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(c.to_ascii_lowercase());
        }
        name
    }

    #[test]
    fn names_and_codes_are_unique_and_consistent() {
        for (i, rule) in Rule::ALL.iter().enumerate() {
            assert_eq!((rule.code().parse(), rule.name().parse()), (Ok(*rule), Ok(*rule)));
            assert_eq!(rule.name(), kebab(&format!("{rule:?}")));
            assert!(!rule.text().ends_with('.') && !rule.section().is_empty());
            assert!(Rule::ALL[i + 1..].iter().all(|other| other.text() != rule.text()));
        }
        assert_eq!("S1000".parse::<Rule>(), Err(UnknownRule));
    }

    #[test]
    fn names_follow_the_grammar() {
        let prefixes = ["rst-", "peer-rst-", "ack-", "drop-", "icmp-", "end-", "limit-"];
        for rule in Rule::ALL {
            assert!(prefixes.iter().any(|prefix| rule.name().starts_with(prefix)), "{rule}");
        }
    }
}
