//! The rules by which packets are answered, dropped and connections ended, each with one name.
//!
//! The ids are those of the catalogue in `docs/resets.md`; they stand in reports, captures, logs
//! and test names.

use core::fmt;
use core::str::FromStr;

macro_rules! rules {
    ($($name:ident $section:literal $text:literal;)*) => {
        /// A rule of the catalogue of resets.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Rule {
            $(#[doc = $text] #[doc = ""] #[doc = $section] $name,)*
        }

        impl Rule {
            /// Every rule, in the order of the catalogue.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The id, as `S60`.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What the rule says, in one sentence without a full stop.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Where it comes from.
            pub const fn section(self) -> &'static str {
                match self { $(Self::$name => $section,)* }
            }
        }

        impl FromStr for Rule {
            type Err = UnknownRule;

            fn from_str(id: &str) -> Result<Self, UnknownRule> {
                match id { $(stringify!($name) => Ok(Self::$name),)* _ => Err(UnknownRule) }
            }
        }
    };
}

/// The text is not the id of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownRule;

impl fmt::Display for UnknownRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the id of a rule")
    }
}

impl core::error::Error for UnknownRule {}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

rules! {
    N1 "RFC 9293 3.5.2" "a reset is never answered with a reset";
    N2 "RFC 9293 3.1" "a segment with a wrong checksum is dropped";
    N3 "RFC 9293 3.1" "a segment whose header does not fit is dropped";
    N4 "RFC 9293 MUST-57" "a packet to a broadcast, multicast or foreign address is dropped";
    N5 "RFC 9293 MUST-63" "a packet from an address that cannot be a peer is dropped";
    N6a "RFC 5722 4" "fragments that overlap are dropped with all others of their packet";
    N7 "RFC 2385" "a signed segment without a key that validates it is dropped";
    S1 "RFC 9293 3.10.7.1" "a SYN to a port where nobody listens is answered with RST";
    S4 "RFC 9293 3.10.7.1" "a segment with ACK for which there is no connection is answered with RST";
    S5 "RFC 9293 3.10.7.1" "a segment without ACK and SYN for which there is no connection is answered with RST";
    S10 "RFC 9293 3.10.7.2" "an ACK that reaches a listener is answered with RST";
    S11 "RFC 4987" "an ACK that carries no valid SYN cookie is answered with RST";
    S12 "RFC 9293 3.10.7.2" "a reset that reaches a listener is ignored";
    S13 "RFC 9293 3.10.7.2" "a segment without SYN and ACK that reaches a listener is dropped";
    S14 "Linux" "a SYN with FIN that reaches a listener is dropped";
    S17 "RFC 3360 2.3" "a SYN that finds the accept queue full is dropped";
    S18 "RFC 4987" "a SYN that finds the queue of embryonic connections full is answered with a cookie or dropped";
    S20 "RFC 9293 3.10.7.3" "an unacceptable ACK in SYN-SENT is answered with RST";
    S21 "RFC 9293 3.10.7.3" "a reset with an unacceptable ACK in SYN-SENT is dropped";
    S23 "RFC 9293 3.10.7.3" "an acceptable ACK without SYN in SYN-SENT is dropped";
    S24 "RFC 9293 3.10.7.3" "a segment without ACK and SYN in SYN-SENT is dropped";
    S27 "RFC 9293 3.10.4" "a CLOSE or ABORT in SYN-SENT ends the attempt in silence";
    S30 "RFC 9293 3.10.7.4" "an unacceptable ACK in SYN-RECEIVED is answered with RST";
    S31 "RFC 9293 3.10.7.4" "a repeated SYN is answered with SYN|ACK again";
    S32 "Linux" "another SYN in the window of an embryonic connection is answered with RST and ends it";
    S33 "RFC 9293 3.10.7.4" "an unacceptable segment in SYN-RECEIVED is answered with an ACK";
    S34 "RFC 9293 3.10.7.4" "a segment without ACK in SYN-RECEIVED is dropped";
    S36 "RFC 9293 MUST-23" "a SYN|ACK that stays unanswered ends the embryonic connection in silence";
    S37 "Linux" "the final ACK of a handshake that finds the accept queue full is dropped";
    S38 "Linux" "a closing listener forgets its embryonic connections in silence";
    S40 "RFC 9293 3.10.7.4" "an unacceptable ACK after a simultaneous open is answered with RST";
    S44 "RFC 9293 3.10.5" "a CLOSE or ABORT in SYN-RECEIVED sends RST";
    S50 "RFC 5961 4.2" "a SYN in a synchronized state is answered with a challenge ACK";
    S51 "RFC 9293 3.10.7.4" "a segment outside the window is answered with an ACK";
    S52 "RFC 5961 5.2" "an ACK of what was never sent is answered with an ACK";
    S53 "RFC 5961 5.2" "an ACK that is too old is answered with a challenge ACK";
    S54 "RFC 9293 3.10.7.4" "a segment without ACK in a synchronized state is dropped";
    S55 "RFC 7323 5.3" "a segment with an old timestamp is answered with an ACK";
    S60 "RFC 9293 3.6.1" "a CLOSE with unread text sends RST";
    S64 "RFC 9293 3.10.5" "an ABORT (a CLOSE with linger zero) sends RST";
    S66 "RFC 9293 3.10.5" "an ABORT after both FINs sends nothing";
    S71 "Linux" "a CLOSE whose user does not wait for the peer's FIN sends RST in FIN-WAIT-2";
    S80 "RFC 1122 4.2.2.13" "text that nobody can read any more is answered with RST";
    S84 "RFC 9293 3.10.7.4" "text beyond the peer's FIN is ignored";
    S90 "RFC 9293 3.10.4" "a closing listener resets the connections that nobody accepted";
    S91 "RFC 9293 3.8.4" "keep-alive probes that stay unanswered end the connection with RST";
    S92 "RFC 9293 3.8.3" "retransmissions that stay unanswered end the connection";
    S93 "RFC 9293 3.8.3" "the user timeout ends the connection";
    S94 "RFC 9293 MUST-23" "a SYN that stays unanswered ends the attempt";
    S95 "Linux" "a FIN that stays unacknowledged after CLOSE ends the connection";
    S96 "Linux" "FIN-WAIT-2 without a user ends after its time";
    S97 "Linux" "FIN-WAIT-2 without a user ends with RST after its time, if so configured";
    S99 "Linux" "a CLOSE sends RST when too many connections have no user";
    S100 "Linux" "a connection without a user that gets no answer is reset when there are too many";
    S103 "Linux" "an administrator's ABORT sends RST where the peer has a connection";
    S104 "Linux" "an administrator's ABORT in SYN-SENT, or after both FINs, sends nothing";
    S105 "Linux" "an administrator's ABORT removes an embryonic connection, or TIME-WAIT, in silence";
    S106 "Linux" "an administrator's ABORT of a listener resets the connections that nobody accepted";
    R1 "RFC 5961 3.2" "a reset exactly at RCV.NXT ends the connection";
    R2 "RFC 5961 3.2" "a reset in the window but not at RCV.NXT is answered with a challenge ACK";
    R4 "RFC 5961 3.2" "a reset outside the window is dropped";
    R5 "RFC 5961 3.2" "a reset at the end of what was selectively acknowledged ends the connection";
    R6 "Linux" "a reset with the number of the peer's FIN ends the connection";
    R10 "RFC 9293 3.10.7.1" "a reset for which there is no connection is ignored";
    R11 "RFC 9293 3.10.7.3" "a reset that acknowledges our SYN refuses the connection";
    R11a "RFC 9293 3.10.7.3" "a reset without ACK in SYN-SENT is dropped";
    R12 "RFC 9293 3.10.7.4" "a reset ends an embryonic connection";
    R13 "RFC 9293 3.10.7.4" "a reset after a simultaneous open refuses the connection";
    R15 "RFC 9293 3.10.7.4" "a reset after the peer's FIN ends the connection";
    R16 "RFC 9293 3.10.7.4" "a reset after both FINs ends the connection";
    R17 "RFC 1337" "a reset in TIME-WAIT is ignored";
    U1 "RFC 1122 3.2.2.1" "a datagram to a port where nobody listens is answered with port unreachable";
    U6 "RFC 1122 3.2.2.1" "a packet of an unknown protocol is answered with protocol unreachable";
    U7 "RFC 792" "a packet whose fragments do not all arrive is answered with time exceeded";
    U8 "RFC 768" "a datagram with a wrong checksum or length is dropped";
    U9 "RFC 1122 4.1.3.3" "an ICMP error that may pass, or is about no connected socket, is not reported to a user of UDP";
    I0 "RFC 1122 3.2.2" "an ICMP error is not answered where none may be sent";
    I1 "RFC 1122 4.2.3.9" "an ICMP error ends an attempt to connect";
    I2 "RFC 5927 5.2" "an ICMP error does not end a synchronized connection, nor a soft one an embryonic connection";
    I7 "RFC 6633, RFC 1122 3.2.2.2" "source quench and redirects are ignored";
    I11 "RFC 5927 4.1" "an ICMP error about a segment that is not in flight is ignored";
    P2 "RFC 8201 4" "an MTU below 1280 that an IPv6 router names is not believed";
    E0 "RFC 9293 3.6" "both directions ended with FIN";
    Q1 "RFC 9293 3.10.7.4" "a segment in TIME-WAIT is answered with an ACK";
    Q2 "RFC 9293 3.10.7.4" "a segment that brings nothing new in TIME-WAIT is dropped";
    D9 "RFC 5927" "a reset or an ICMP error beyond the rate limit is not sent";
    D26 "RFC 6429 3" "the connection that has stalled longest is reset when the buffers of all hold too much";
    X1 "lastack" "the embedder refused the intercepted connection with RST";
    X2 "lastack" "the embedder answered the intercepted packet with an ICMP error";
    X3 "lastack" "the embedder dropped the intercepted packet";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_its_own() {
        for (i, rule) in Rule::ALL.iter().enumerate() {
            assert_eq!(rule.id().parse(), Ok(*rule));
            assert!(!rule.text().ends_with('.') && !rule.section().is_empty());
            assert!(Rule::ALL[i + 1..].iter().all(|other| other.text() != rule.text()));
        }
        assert_eq!("S1000".parse::<Rule>(), Err(UnknownRule));
    }
}
