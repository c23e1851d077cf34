//! The differences from Linux that were decided.

use crate::record;

/// A difference from Linux on purpose.
#[derive(Debug)]
pub struct Decision {
    /// The rule it is about.
    pub rule: &'static str,
    /// What is done instead, and why.
    pub why: &'static str,
    /// Where it shows.
    pub scenarios: &'static [&'static str],
}

const fn decision(rule: &'static str, why: &'static str, scenarios: &'static [&'static str]) -> Decision {
    Decision { rule, why, scenarios }
}

pub const DECISIONS: &[Decision] = &[
    decision(
        "N5",
        "An address that can be no host's is not answered: class E, the unspecified address, an IPv4 address inside \
         IPv6. Linux answers where it finds a route.",
        &["SYN from class E", "SYN from ::", "SYN from ::ffff:10.9.0.2"],
    ),
    decision(
        "N7",
        "A segment with TCP-AO is dropped, as one with an MD5 signature: there is no key that could validate it. The \
         kernel that was recorded was built without TCP-AO (but with MD5), and does not know the option.",
        &["SYN with an authentication option"],
    ),
    decision(
        "D34",
        "A SYN is retransmitted early only after the bare ACK of an old incarnation. Linux also does so for a SYN|ACK and \
         for a RST, with which others can make it send.",
        &[
            "SYN, ACK with a bad ACK in SYN-SENT",
            "RST with a bad ACK in SYN-SENT",
            "RST, ACK = ISS in SYN-SENT",
        ],
    ),
    decision(
        "S22",
        "TSecr is not tested in a handshake: RFC 7323 does not ask for it, and middleboxes rewrite timestamps. Linux \
         does, and so does not know the echo of its own challenge ACK.",
        &[
            "SYN, ACK with a foreign TSecr",
            "RST, ACK with a foreign TSecr",
            "ACK that echoes the TSval of a challenge in SYN-RECEIVED",
            "ACK with a foreign TSecr in SYN-RECEIVED",
        ],
    ),
    decision(
        "S27",
        "What the application ended itself gives ECONNABORTED, so that it is not taken for a reset by the peer. Linux \
         gives ECONNRESET.",
        &["shutdown in SYN-SENT", "the error after an abort"],
    ),
    decision(
        "D29",
        "After a simultaneous open the SYN|ACK has the options that the peer's SYN had, as every SYN|ACK. Linux offers \
         all of its own again, and scales its window although the peer does not know.",
        &["simultaneous open"],
    ),
    decision(
        "S42",
        "An ACK of ISS acknowledges nothing and is reset in SYN-RECEIVED (RFC 9293 section 3.10.7.4). Linux enters \
         ESTABLISHED after a simultaneous open.",
        &["ACK = ISS after simultaneous open"],
    ),
    decision(
        "S43",
        "A SYN that comes twice is not reported by D-SACK: RFC 2883 is about data.",
        &["simultaneous open completed by SYN, ACK"],
    ),
    decision(
        "S68",
        "After an abort the connection is over, with ECONNABORTED once, and reads end. On Linux the abort is \
         connect(AF_UNSPEC), which leaves a fresh socket: a stream of Rust is none.",
        &["our abort"],
    ),
    decision(
        "T82",
        "Where data and then an error are there, a read that wants more (`read_to_end`, `take(n).read_to_end`) leaves \
         the data in the buffer and gives the error at once: that is how Rust's calls say both. Linux's MSG_WAITALL gives \
         the short count, and the error with the next call.",
        &["reset with unread data: read more than there is"],
    ),
    decision(
        "T85",
        "A connection that was established is no failure to connect, however soon it is reset: the stream is there, its \
         data can be read, and its first read without data tells. On Linux connect fails, and std and tokio drop the socket with \
         its data.",
        &["connect: reset before it was looked at"],
    ),
    decision(
        "T88",
        "The name of the peer is known as long as the stream is. Linux forgets it with the connection.",
        &["reset: the peer's name"],
    ),
    decision(
        "T177",
        "What the network said stands in for ETIMEDOUT, and is reported once. Linux tells it once as the error of the \
         connection, and once more to SO_ERROR.",
        &["retransmissions without success, and host unreachable"],
    ),
    decision(
        "TcpInErrs",
        "A SYN that is challenged is no segment received in error (RFC 4022). Linux counts it as one.",
        &["counters of challenges"],
    ),
    decision(
        "TCPTimeouts",
        "The user timeout has a timer of its own. Linux looks at it when the retransmission timer expires, and counts \
         that.",
        &["counters of a user timeout"],
    ),
    decision(
        "info",
        "`bytes_acked` and `bytes_received` count data. Linux counts its SYN, if it sent the first, and each FIN with \
         it.",
        &["info of a connection of ours", "info after FIN", "info after our FIN"],
    ),
    decision(
        "R13",
        "A reset after a simultaneous open refuses the connection (RFC 9293 section 3.10.7.4): ECONNREFUSED. Linux \
         gives ECONNRESET.",
        &["exact RST after simultaneous open"],
    ),
    decision(
        "E2",
        "A close in SYN-RECEIVED sends its FIN once the handshake is complete. Linux sends it at once, which RFC 9293 \
         allows too.",
        &["close after simultaneous open"],
    ),
    decision(
        "R12",
        "A reset is not subject to PAWS (RFC 7323 section 5.2), in SYN-RECEIVED neither.",
        &["exact RST with an old TSval in SYN-RECEIVED"],
    ),
    decision(
        "S63",
        "Urgent bytes are ordinary data (RFC 6093). Linux takes the last out of the stream, and resets if it is not \
         read.",
        &["data with URG", "close with all but an urgent byte read"],
    ),
    decision(
        "S51",
        "What lies beyond the window is cut off and not taken; at a shut window the ACK of a segment counts all the \
         same (RFC 9293 section 3.10.7.4). Linux takes data over the edge, and 6.18 drops the whole segment at a shut \
         window.",
        &["data that overlaps the right edge", "data and its ACK at a shut window"],
    ),
    decision(
        "S82",
        "SEG.ACK is tested in FIN-WAIT-2 without a user and in TIME-WAIT as everywhere. Linux's small sockets for these \
         states answer an ACK of what was never sent.",
        &[
            "data with a bogus ACK after close, FIN acknowledged",
            "FIN with a bogus ACK after close, FIN acknowledged",
            "data with a bogus ACK in TIME-WAIT",
        ],
    ),
    decision(
        "S83",
        "A SYN in FIN-WAIT-2 without a user is challenged, as in every synchronized state (RFC 5961 section 4). Linux \
         resets and forgets the connection for any SYN in the window.",
        &["SYN in the window after close, FIN acknowledged"],
    ),
    decision(
        "S103",
        "An administrator's ABORT resets in FIN-WAIT-2 without a user as it does with one: the peer still has a \
         connection. Linux has only a small socket left there, and forgets it silently.",
        &["killed in FIN-WAIT-2, closed"],
    ),
    decision(
        "R3",
        "A reset at the right edge is outside the window (RFC 5961 section 3). Linux counts the edge as inside.",
        &["RST at the right edge"],
    ),
    decision(
        "R4",
        "A reset is tested by its SEQ alone. Linux counts one as inside whose data ends inside.",
        &["RST at RCV.NXT - 1 with data that reaches into the window", "RST at RCV.NXT - 8 with 8 bytes"],
    ),
    decision(
        "R7a",
        "An exact reset ends the connection whatever data it has. Linux 6.18 drops it if its data does not fit the \
         window, and stays half-open.",
        &["exact RST with 8 bytes at a shut window"],
    ),
    decision(
        "R18",
        "In FIN-WAIT-2 without a user a reset counts as everywhere: exact ends, in the window is challenged, else \
         silence. Linux takes any in the window, and answers one outside.",
        &[
            "RST + 5 in FIN-WAIT-2, closed",
            "RST - 1 in FIN-WAIT-2, closed",
            "RST outside the window in FIN-WAIT-2, closed",
        ],
    ),
    decision(
        "R17",
        "A reset in TIME-WAIT is ignored (RFC 1337), as Linux does with `tcp_rfc1337`.",
        &["exact RST in TIME-WAIT", "SYN, RST in TIME-WAIT"],
    ),
    decision(
        "SACK",
        "SACK blocks are about data: a FIN that came early is remembered and not reported.",
        &["FIN before data, with SACK"],
    ),
    decision(
        "S53",
        "An ACK from before the first byte is challenged on every path (RFC 5961 section 5). Linux 6.18 does not test \
         it on its fast path, and on a connection of its own takes an ACK of ISS.",
        &["ACK = ISS with data, after data in order", "ACK = ISS with data on a connection of ours"],
    ),
    decision(
        "S84",
        "Data beyond the peer's FIN is ignored, where it begins too. Linux resets if it begins before the FIN.",
        &["data from before the FIN to beyond it in CLOSE-WAIT"],
    ),
    decision(
        "Q2",
        "In TIME-WAIT what has neither ACK nor FIN is dropped, and a bare ACK at RCV.NXT however old its timestamp. \
         Linux answers both.",
        &["data without flags in TIME-WAIT", "ACK with an old TSval in TIME-WAIT"],
    ),
    decision(
        "Q13",
        "A reset of the handshake that reopens a connection in TIME-WAIT leads back to TIME-WAIT (RFC 1122 section \
         4.2.2.13). Linux has forgotten it by then.",
        &["RST of the new connection in TIME-WAIT"],
    ),
    decision(
        "S14",
        "SYN|FIN opens nothing in TIME-WAIT, and is acknowledged. Linux ends TIME-WAIT for it, and then drops it at the \
         listener.",
        &["SYN, FIN with a later SEQ in TIME-WAIT"],
    ),
    decision(
        "S94",
        "A user timeout ends an attempt to connect at its time. Linux sends another SYN first.",
        &["user timeout in SYN-SENT"],
    ),
    decision("P1", "Of segments that were cut smaller only the last has PSH.", &["ICMP 3/4 with MTU 0"]),
    decision(
        "I3",
        "EOPNOTSUPP, EHOSTDOWN and ENONET are reported as EHOSTUNREACH: Rust has no kind of error for them. The `End` has \
         the ICMP error.",
        &[
            "ICMP 3/5 in SYN-SENT",
            "ICMP 3/5 in ESTABLISHED",
            "ICMP 3/7 in SYN-SENT",
            "ICMP 3/7 in ESTABLISHED",
            "ICMP 3/8 in SYN-SENT",
            "ICMP 3/8 in ESTABLISHED",
        ],
    ),
    decision(
        "I1",
        "An in SYN-RECEIVED connection of a listener goes if the error is hard, and stays if it is soft, in both IP versions. \
         Linux's IPv6 does so; its IPv4 does the opposite.",
        &[
            "ICMP 3/0 in SYN-RECEIVED",
            "ICMP 3/1 in SYN-RECEIVED",
            "ICMP 3/2 in SYN-RECEIVED",
            "ICMP 3/3 in SYN-RECEIVED",
            "ICMP 3/6 in SYN-RECEIVED",
            "ICMP 3/7 in SYN-RECEIVED",
            "ICMP 3/8 in SYN-RECEIVED",
            "ICMP 3/9 in SYN-RECEIVED",
            "ICMP 3/10 in SYN-RECEIVED",
            "ICMP 3/13 in SYN-RECEIVED",
            "ICMP 3/14 in SYN-RECEIVED",
            "ICMP 3/15 in SYN-RECEIVED",
            "ICMP 11/0 in SYN-RECEIVED",
        ],
    ),
];

/// What the comparison of a scenario comes to.
#[derive(Debug)]
pub enum Verdict {
    Same,
    /// It differs as was decided: what Linux and what the engine does, first.
    Decided(&'static Decision, String, String),
    /// It differs, and nobody decided that.
    Undecided(String),
    /// It was decided to differ, and does not.
    Stale(&'static Decision),
}

impl Verdict {
    pub fn of(name: &str, linux: &[String], engine: &[String]) -> Self {
        let decided = DECISIONS.iter().find(|decision| decision.scenarios.contains(&name));
        match (decided, linux == engine) {
            (None, true) => Self::Same,
            (None, false) => Self::Undecided(record::difference(("Linux", linux), ("lastack", engine))),
            (Some(decision), true) => Self::Stale(decision),
            (Some(decision), false) => {
                let at = linux.iter().zip(engine).take_while(|(a, b)| a == b).count();
                let line = |lines: &[String]| lines.get(at).cloned().unwrap_or_default();
                Self::Decided(decision, line(linux), line(engine))
            }
        }
    }
}
