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
        "A packet from an address that cannot be a host's is not answered: class E, the unspecified address, an \
         IPv4-mapped IPv6 address. Linux answers where it finds a route.",
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
        "A SYN is retransmitted before the timeout only after a bare ACK of an old connection. Linux also does so \
         after a SYN|ACK and a RST, so that a third party can make it send.",
        &[
            "SYN, ACK with a bad ACK in SYN-SENT",
            "RST with a bad ACK in SYN-SENT",
            "RST, ACK = ISS in SYN-SENT",
        ],
    ),
    decision(
        "S22",
        "TSecr is not verified in a handshake: RFC 7323 does not require it, and middleboxes rewrite timestamps. \
         Linux verifies it, and so does not recognize the echo of its own challenge ACK.",
        &[
            "SYN, ACK with a foreign TSecr",
            "RST, ACK with a foreign TSecr",
            "ACK that echoes the TSval of a challenge in SYN-RECEIVED",
            "ACK with a foreign TSecr in SYN-RECEIVED",
        ],
    ),
    decision(
        "S27",
        "A connection that the application itself ended returns ECONNABORTED, which distinguishes it from a reset by \
         the peer. Linux returns ECONNRESET.",
        &["shutdown in SYN-SENT", "the error after an abort"],
    ),
    decision(
        "D29",
        "After a simultaneous open the SYN|ACK has the options of the peer's SYN, as every SYN|ACK. Linux offers all \
         of its own again, and scales its window although the peer has not negotiated it.",
        &["simultaneous open"],
    ),
    decision(
        "S42",
        "An ACK of ISS acknowledges nothing and is answered with RST in SYN-RECEIVED (RFC 9293 section 3.10.7.4). \
         Linux enters ESTABLISHED after a simultaneous open.",
        &["ACK = ISS after simultaneous open"],
    ),
    decision(
        "S43",
        "A retransmitted SYN is not reported by D-SACK: RFC 2883 applies to data.",
        &["simultaneous open completed by SYN, ACK"],
    ),
    decision(
        "S68",
        "After an abort the connection has ended: ECONNABORTED once, then reads return the end of the stream. On \
         Linux the abort is connect(AF_UNSPEC), after which the socket can be used again; a stream of Rust cannot.",
        &["our abort"],
    ),
    decision(
        "T82",
        "If data and then an error are pending, a read of more than there is (`read_to_end`, `take(n).read_to_end`) \
         leaves the data in the buffer and returns the error at once, as Rust's calls can report both. Linux's \
         MSG_WAITALL returns the short count, and the error with the next call.",
        &["reset with unread data: read more than there is"],
    ),
    decision(
        "T85",
        "An established connection is not a failure to connect, however soon it is reset: connect returns the stream, \
         its data can be read, and its first read without data returns the error. On Linux connect fails, and std and \
         tokio drop the socket with its data.",
        &["connect: reset before it was looked at"],
    ),
    decision(
        "T88",
        "The address of the peer is available as long as the stream exists. Linux removes it with the connection.",
        &["reset: the peer's name"],
    ),
    decision(
        "T177",
        "An ICMP error replaces ETIMEDOUT, and is reported once. Linux reports it once as the error of the \
         connection, and again by SO_ERROR.",
        &["retransmissions without success, and host unreachable"],
    ),
    decision(
        "TcpInErrs",
        "A SYN that is challenged is not a segment received in error (RFC 4022). Linux counts it as one.",
        &["counters of challenges"],
    ),
    decision(
        "TCPTimeouts",
        "The user timeout has a timer of its own. Linux checks it when the retransmission timer expires, and counts \
         that timeout.",
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
         returns ECONNRESET.",
        &["exact RST after simultaneous open"],
    ),
    decision(
        "E2",
        "A close in SYN-RECEIVED sends its FIN once the handshake is complete. Linux sends it at once, which RFC 9293 \
         also allows.",
        &["close after simultaneous open"],
    ),
    decision(
        "R12",
        "A reset is not subject to PAWS (RFC 7323 section 5.2), also in SYN-RECEIVED.",
        &["exact RST with an old TSval in SYN-RECEIVED"],
    ),
    decision(
        "S63",
        "Urgent bytes are ordinary data (RFC 6093). Linux removes the last one from the stream, and resets if it is \
         not read.",
        &["data with URG", "close with all but an urgent byte read"],
    ),
    decision(
        "S51",
        "Data beyond the window is trimmed; at a zero window the ACK of a segment is still processed (RFC 9293 \
         section 3.10.7.4). Linux accepts data across the edge, and 6.18 drops the whole segment at a zero window.",
        &["data that overlaps the right edge", "data and its ACK at a shut window"],
    ),
    decision(
        "S82",
        "SEG.ACK is verified for an orphan in FIN-WAIT-2 and in TIME-WAIT as in every state. Linux's small sockets \
         for these states answer an ACK of unsent data.",
        &[
            "data with a bogus ACK after close, FIN acknowledged",
            "FIN with a bogus ACK after close, FIN acknowledged",
            "data with a bogus ACK in TIME-WAIT",
        ],
    ),
    decision(
        "S83",
        "A SYN to an orphan in FIN-WAIT-2 is challenged, as in every synchronized state (RFC 5961 section 4). Linux \
         resets and removes the connection for any SYN in the window.",
        &["SYN in the window after close, FIN acknowledged"],
    ),
    decision(
        "S103",
        "An orphan in FIN-WAIT-2 that an administrator kills sends RST, as every connection: the peer still has it. \
         Linux has only a small socket left there, and removes it silently.",
        &["killed in FIN-WAIT-2, closed"],
    ),
    decision(
        "R3",
        "A reset at the right edge is outside the window (RFC 5961 section 3). Linux counts the edge as inside.",
        &["RST at the right edge"],
    ),
    decision(
        "R4",
        "A reset is checked by its SEQ alone. Linux counts one as inside the window if its data ends inside.",
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
        "An orphan in FIN-WAIT-2 handles a reset as in every state: exact, it ends; in the window, it is challenged; \
         otherwise it is dropped. Linux accepts any in the window, and answers one outside.",
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
        "SACK blocks report data: an out-of-order FIN is kept and not reported.",
        &["FIN before data, with SACK"],
    ),
    decision(
        "S53",
        "An ACK from before the first byte is challenged on every path (RFC 5961 section 5). Linux 6.18 does not \
         verify it on its fast path, and on a connection that it opened accepts an ACK of ISS.",
        &["ACK = ISS with data, after data in order", "ACK = ISS with data on a connection of ours"],
    ),
    decision(
        "S84",
        "Data beyond the peer's FIN is ignored, also if it begins before it. Linux resets if it begins before the \
         FIN.",
        &["data from before the FIN to beyond it in CLOSE-WAIT"],
    ),
    decision(
        "Q2",
        "In TIME-WAIT a segment with neither ACK nor FIN is dropped, and so is a bare ACK at RCV.NXT however old its \
         timestamp. Linux answers both.",
        &["data without flags in TIME-WAIT", "ACK with an old TSval in TIME-WAIT"],
    ),
    decision(
        "Q13",
        "A reset of the handshake that reopens a connection in TIME-WAIT returns it to TIME-WAIT (RFC 1122 section \
         4.2.2.13). Linux has removed it by then.",
        &["RST of the new connection in TIME-WAIT"],
    ),
    decision(
        "S14",
        "SYN|FIN in TIME-WAIT does not open a connection, and is acknowledged. Linux ends TIME-WAIT for it, and then \
         drops it at the listener.",
        &["SYN, FIN with a later SEQ in TIME-WAIT"],
    ),
    decision(
        "S94",
        "A user timeout ends an attempt to connect when it expires. Linux sends another SYN first.",
        &["user timeout in SYN-SENT"],
    ),
    decision("P1", "Of segments that were split only the last has PSH.", &["ICMP 3/4 with MTU 0"]),
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
        "A connection of a listener in SYN-RECEIVED ends by a hard ICMP error, and stays after a soft one, in both IP \
         versions. Linux's IPv6 does so; its IPv4 does the opposite.",
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
    /// It differs, and that is not intended.
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
