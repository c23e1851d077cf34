//! The catalogue of everything that is known to happen with resets, and where it happens here.

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Here {
    /// A rule of its own has the row's id.
    Own,
    /// It is a case of these rules.
    By(&'static str),
    /// It is so, and needs no rule: nothing is answered, dropped or ended by it. Tests name its id.
    So,
    /// It is not built, for this reason.
    Not(&'static str),
}

use Here::{By, Not, Own, So};

/// Id, what happens, and where.
pub type Row = (&'static str, &'static str, Here);

/// A table of the catalogue, with the ranges of its ids.
pub struct Table {
    pub title: &'static str,
    pub ids: &'static [&'static str],
    pub rows: &'static [Row],
}

const NO_COMPARTMENTS: &str = "no security compartments: the option is ignored";

pub const TABLES: &[Table] = &[
    Table { title: "Never answered", ids: &["N1-12"], rows: NEVER },
    Table { title: "No connection", ids: &["S1-8", "S10-19"], rows: NOBODY },
    Table { title: "Before ESTABLISHED", ids: &["S20-27", "S30-38", "S40-44"], rows: OPENING },
    Table {
        title: "Synchronized states: no reset for an unacceptable segment",
        ids: &["S50-59"],
        rows: SYNCHRONIZED,
    },
    Table { title: "We close or abort", ids: &["S60-76", "S78"], rows: CLOSE },
    Table { title: "After our close", ids: &["S80-86"], rows: AFTER },
    Table { title: "Listeners, timers, resources, administration", ids: &["S90-109"], rows: ENDS },
    Table {
        title: "A reset is received",
        ids: &["R1-8", "R1a", "R7a", "R10-19", "R11a", "R11b", "R12a", "R12b"],
        rows: RECEIVED,
    },
    Table { title: "Half-open connections", ids: &["H1-19", "H3a"], rows: HALF_OPEN },
    Table { title: "UDP, ICMP and path MTU", ids: &["U1-8", "I1-10", "P1-6"], rows: DATAGRAMS },
    Table { title: "Orderly release", ids: &["E1-18"], rows: RELEASE },
    Table { title: "TIME-WAIT", ids: &["Q1-14"], rows: TIME_WAIT },
    Table { title: "Attacks", ids: &["D1-36"], rows: ATTACKS },
];

const NEVER: &[Row] = &[
    ("N1", "a segment that has RST", Own),
    ("N2", "a wrong checksum", Own),
    ("N3", "a header that does not fit", Own),
    ("N4", "to a broadcast, multicast or foreign address", Own),
    ("N5", "from an address that cannot be a peer", Own),
    ("N6", "a later fragment, or a packet that stays incomplete", So),
    ("N7", "signed, and no key", Own),
    (
        "N8",
        "dropped by a policy (IPsec, firewall, filter, hop limit guard)",
        Not("no filters: what the embedder does not want it does not hand in, or answers itself (X1 to X3)"),
    ),
    ("N9", "in doubt an ACK is sent, not a reset", By("S50 S51 S52 S53 S55")),
    ("N10", "an ICMP error never causes a reset", So),
    ("N11", "reserved bits, ECE, CWR and unknown options are no reason", So),
    ("N12", "a changed DSCP is no reason", So),
];

const NOBODY: &[Row] = &[
    ("S1", "a SYN", Own),
    ("S2", "a SYN with data: all of it is acknowledged", By("S1")),
    ("S3", "SYN|FIN: both are acknowledged", By("S1")),
    ("S4", "anything with ACK", Own),
    ("S5", "neither ACK nor SYN", Own),
    ("S6", "a reset: no reply", By("R10")),
    ("S7", "a late SYN|ACK for an attempt that was given up", By("S4")),
    ("S8", "another security compartment", Not(NO_COMPARTMENTS)),
    ("S10", "an ACK at a listener", Own),
    ("S11", "an ACK at a listener whose cookie is not valid", Own),
    ("S12", "a reset at a listener", Own),
    ("S13", "neither SYN nor ACK at a listener", Own),
    ("S14", "SYN|FIN at a listener", Own),
    ("S15", "a SYN with data at a listener: SYN|ACK of the SYN alone", So),
    ("S16", "a SYN with URG, PSH, ECE|CWR or reserved bits at a listener: SYN|ACK", So),
    ("S17", "a SYN at a listener whose accept queue is full", Own),
    ("S18", "a SYN when there are too many in SYN-RECEIVED connections", Own),
    ("S19", "a SYN without memory for an in SYN-RECEIVED connection", By("S18")),
];

const OPENING: &[Row] = &[
    ("S20", "an unacceptable ACK in SYN-SENT", Own),
    ("S21", "a reset with an unacceptable ACK in SYN-SENT", Own),
    (
        "S22",
        "a foreign TSecr in SYN-SENT (Linux resets)",
        Not(
            "TSecr is not tested in a handshake: RFC 7323 does not ask for it, and middleboxes rewrite timestamps",
        ),
    ),
    ("S23", "an acceptable ACK without SYN in SYN-SENT", Own),
    ("S24", "neither ACK nor SYN in SYN-SENT", Own),
    ("S25", "a SYN in SYN-SENT: simultaneous open", So),
    ("S26", "SYN|FIN|ACK in SYN-SENT: connected, the FIN must be retransmitted", So),
    ("S27", "close, abort, kill or abandonment in SYN-SENT: no reply", Own),
    ("S30", "an unacceptable ACK in SYN-RECEIVED", Own),
    ("S31", "the same SYN in SYN-RECEIVED", Own),
    ("S32", "another SYN in SYN-RECEIVED", Own),
    ("S33", "outside the window in SYN-RECEIVED", Own),
    ("S34", "no ACK in SYN-RECEIVED", Own),
    ("S35", "SYN|ACK with the peer's ISS completes a handshake", So),
    ("S36", "SYN|ACK is not answered", Own),
    ("S37", "the final ACK while the accept queue is full", Own),
    ("S38", "the listener closes in SYN-RECEIVED", Own),
    ("S40", "an ACK of unsent data, after a simultaneous open", Own),
    ("S41", "an ACK that is too old, after a simultaneous open", By("S40")),
    ("S42", "an ACK of nothing, after a simultaneous open (Linux enters ESTABLISHED)", By("S40")),
    ("S43", "a retransmitted SYN, after a simultaneous open", By("S50")),
    ("S44", "close or abort after a simultaneous open", Own),
];

const SYNCHRONIZED: &[Row] = &[
    ("S50", "a SYN", Own),
    ("S51", "outside the window", Own),
    ("S52", "an ACK of unsent data", Own),
    ("S53", "an ACK that is too old", Own),
    ("S54", "no ACK", Own),
    ("S55", "an old timestamp", Own),
    ("S56", "no timestamp although negotiated: accepted, as on Linux", So),
    ("S57", "an option of an illegal length: the options after it are not read", So),
    ("S58", "another security compartment", Not(NO_COMPARTMENTS)),
    ("S59", "a keep-alive probe: ACK", By("S51")),
];

const CLOSE: &[Row] = &[
    ("S60", "close with unread data", Own),
    ("S61", "close with data beyond a gap only: FIN", So),
    ("S62", "close when all but a FIN, or duplicates, is read: FIN", So),
    (
        "S63",
        "close after an urgent byte was read (Linux resets)",
        Not("urgent bytes are ordinary data (RFC 6093): read is read"),
    ),
    ("S64", "close with linger zero, or abort", Own),
    ("S65", "close with linger zero and unread data", By("S60")),
    ("S66", "abort after both FINs", Own),
    ("S67", "close with a linger time: FIN, and no reset when it is over", So),
    ("S68", "disconnect: connect(AF_UNSPEC)", By("S64")),
    ("S69", "the process ends: each stream is dropped", By("S60 S64")),
    ("S70", "another handle still holds the stream: no effect", So),
    ("S71", "close by a user who does not wait for the peer's FIN (TCP_LINGER2)", Own),
    ("S72", "shutdown of our direction: FIN, once", So),
    ("S73", "shutdown of reading: nothing is sent; data is still received", So),
    ("S74", "shutdown of both: new data is answered with RST", By("S80")),
    (
        "S75",
        "shutdown of a listener",
        Not("a listener cannot be shut down: to drop it is S90, to kill it S106"),
    ),
    ("S76", "close in repair mode (TCP_REPAIR)", Not("connections are not moved between stacks")),
    (
        "S78",
        "close of a TCP Fast Open child",
        Not("no TCP Fast Open: data on a SYN waits for the handshake (S15)"),
    ),
];

const AFTER: &[Row] = &[
    ("S80", "data received after close", Own),
    ("S81", "the same with the ACK of our FIN, or an out-of-order FIN", By("S80")),
    ("S82", "the same in FIN-WAIT-2", By("S80")),
    ("S83", "a SYN to an orphan in FIN-WAIT-2 (Linux resets)", By("S50")),
    ("S84", "data beyond the peer's FIN", Own),
    ("S85", "anything after LAST-ACK", By("S4 S10")),
    ("S86", "anything in TIME-WAIT: never a reset", By("Q1 Q2")),
];

const ENDS: &[Row] = &[
    ("S90", "a listener closes: connections in the accept queue", Own),
    ("S91", "keep-alive probes are not answered", Own),
    ("S92", "retransmissions are not answered", Own),
    ("S93", "the user timeout", Own),
    ("S94", "a SYN is not answered", Own),
    ("S95", "the FIN of an orphan is not answered", Own),
    ("S96", "an orphan in FIN-WAIT-2 times out", Own),
    ("S97", "an orphan in FIN-WAIT-2 times out, with a reset", Own),
    ("S98", "zero-window probes that are answered: no limit, unless orphaned", So),
    ("S99", "close while there are too many orphans", Own),
    ("S100", "a timer while there are too many orphans", Own),
    ("S101", "the TIME-WAIT table is full: TIME-WAIT is skipped", So),
    ("S102", "the receive buffer is full: data is dropped, nothing is reset", So),
    ("S103", "killed by an administrator", Own),
    ("S104", "killed in SYN-SENT, CLOSING, LAST-ACK", Own),
    ("S105", "killed in SYN-RECEIVED or TIME-WAIT", Own),
    ("S106", "a listener is killed", Own),
    ("S107", "a firewall refuses on behalf of a host, as the embedder can", By("X1 X2 X3")),
    ("S108", "an MPTCP subflow is torn down", Not("no MPTCP")),
    ("S109", "an address is removed", By("S103")),
];

const RECEIVED: &[Row] = &[
    ("R1", "exactly at RCV.NXT", Own),
    ("R1a", "exactly at RCV.NXT while an ACK is delayed", By("R1")),
    ("R2", "in the window, not at RCV.NXT", Own),
    ("R3", "at the right edge: outside", By("R4")),
    ("R4", "outside the window", Own),
    ("R5", "at the end of SACKed data", Own),
    ("R6", "at the sequence number of the peer's FIN", Own),
    ("R7", "exactly, at a zero window", By("R1")),
    ("R7a", "exactly, with data that does not fit (Linux 6.18 drops it)", By("R1")),
    ("R8", "of a restarted peer, not exact: it answers the challenge ACK with an exact one", By("R2")),
    ("R10", "no connection, or a listener", Own),
    ("R11", "SYN-SENT, with the ACK of our SYN", Own),
    ("R11a", "SYN-SENT, without ACK", Own),
    ("R11b", "SYN-SENT, with another ACK", By("S21")),
    ("R12", "SYN-RECEIVED, exact", Own),
    ("R12a", "SYN-RECEIVED, in the window", By("R2")),
    ("R12b", "SYN-RECEIVED, outside the window", By("R4")),
    ("R13", "SYN-RECEIVED after a simultaneous open, exact", Own),
    ("R14", "ESTABLISHED, FIN-WAIT-1, FIN-WAIT-2", By("R1")),
    ("R15", "CLOSE-WAIT", Own),
    ("R16", "CLOSING, LAST-ACK", Own),
    ("R17", "TIME-WAIT", Own),
    ("R18", "an orphan in FIN-WAIT-2: as every connection (Linux accepts any in the window)", By("R1 R2 R4")),
    ("R19", "a connection in the accept queue: accepted, and its first read returns the error", So),
];

const HALF_OPEN: &[Row] = &[
    (
        "H1",
        "a restarted peer connects again: SYN, challenge ACK, reset, SYN (RFC 9293 figure 9)",
        By("S50 S20 R1"),
    ),
    ("H2", "data to a restarted peer (figure 10)", By("S4 S10 R1")),
    ("H3", "an old SYN at a listener whose peer listens too (figure 11)", By("S10 R12")),
    ("H3a", "an old SYN while the peer is in SYN-SENT (figure 8)", By("S20 R12")),
    ("H4", "the peer vanished and we send", By("S92")),
    ("H5", "the peer vanished and neither side sends: not detected", So),
    ("H6", "keep-alive to a restarted peer", By("R1")),
    ("H7", "keep-alive to a vanished peer", By("S91")),
    ("H8", "keep-alive to a live peer", So),
    ("H9", "zero-window probes to a vanished peer", By("S92")),
    ("H10", "the user timeout", By("S93 S91")),
    ("H11", "the same port of a peer whose program died", By("S50 S20 R1")),
    ("H12", "a SYN in TIME-WAIT: never a reset", By("Q1")),
    ("H13", "a SYN to an orphan in FIN-WAIT-2", By("S50")),
    ("H14", "a SYN in FIN-WAIT-1, CLOSE-WAIT, CLOSING, LAST-ACK", By("S50")),
    ("H15", "the challenge ACK happens to acknowledge the new SYN: a timer has to end it", By("S23")),
    ("H16", "a middlebox dropped its state and assigned another port", By("S4")),
    ("H17", "a retransmitted FIN to a restarted peer", By("R1 R16")),
    ("H18", "both lost their state: nothing is left", So),
    ("H19", "an ICMP error about a peer that vanished", By("I2")),
];

const DATAGRAMS: &[Row] = &[
    ("U1", "a datagram to a closed port", Own),
    ("U2", "as much is quoted as fits: 576 bytes in all, IPv6 1280", So),
    ("U3", "the source of the error is the destination of the datagram", So),
    ("U4", "the header of the error", So),
    ("U5", "a closed TCP port is never answered with ICMP", So),
    ("U6", "an unknown protocol", Own),
    ("U7", "a packet stays incomplete, and its first fragment has arrived", Own),
    ("U8", "a datagram with a wrong checksum or length", Own),
    ("I1", "net or host unreachable ends an attempt to connect", Own),
    ("I2", "an ICMP error about a synchronized connection does not end it", Own),
    ("I3", "the other codes of destination unreachable", By("I1 I2")),
    ("I4", "fragmentation needed: the path MTU only", So),
    ("I5", "time exceeded: in transit as I1; in reassembly ignored", By("I1 I2")),
    ("I6", "parameter problem", By("I1 I2")),
    ("I7", "source quench, redirect", Own),
    ("I8", "ICMPv6: no route, beyond scope, address unreachable, time exceeded", By("I1 I2")),
    ("I9", "ICMPv6: prohibited, port unreachable, parameter problem", By("I1 I2")),
    ("I10", "ICMPv6: packet too big: the path MTU only", So),
    ("P1", "IPv4: no path MTU below 552; without an MTU: the next plateau; ten minutes", So),
    ("P2", "IPv6: none below 1280", Own),
    ("P3", "no ICMP error increases a path MTU", So),
    ("P4", "the segment that was too big is split and retransmitted at once", So),
    (
        "P5",
        "wait until the segment has timed out too (RFC 5927 section 7.2)",
        Not(
            "the number that is quoted must be in flight (I11), as in every stack that was compared; to wait would stall every new path",
        ),
    ),
    ("P6", "a path MTU in SYN-SENT: the attempt continues", So),
];

const RELEASE: &[Row] = &[
    ("E1", "CLOSE in ESTABLISHED: data, then FIN", So),
    ("E2", "CLOSE in SYN-RECEIVED: FIN after the handshake", So),
    ("E3", "CLOSE in SYN-SENT, LISTEN", By("S27 S90")),
    ("E4", "FIN in ESTABLISHED: CLOSE-WAIT", So),
    ("E5", "our FIN is acknowledged: FIN-WAIT-2", So),
    ("E6", "FIN in FIN-WAIT-1: CLOSING", So),
    ("E7", "FIN with the ACK of ours: TIME-WAIT", By("E0")),
    ("E8", "FIN in FIN-WAIT-2: TIME-WAIT", By("E0")),
    ("E9", "data after our FIN is read", So),
    ("E10", "CLOSE in CLOSE-WAIT: LAST-ACK", So),
    ("E11", "our FIN is acknowledged in CLOSING: TIME-WAIT", By("E0")),
    ("E12", "our FIN is acknowledged in LAST-ACK: CLOSED, no TIME-WAIT", By("E0")),
    ("E13", "a FIN is lost: retransmitted, with the data that waits", So),
    ("E14", "the peer's FIN is retransmitted: ACK", By("S51 Q1")),
    ("E15", "an out-of-order FIN is kept", So),
    ("E16", "a FIN needs no room, and must be in the window", So),
    ("E17", "a FIN without ACK", By("S54")),
    ("E18", "a reset in any state", By("R1 R15 R16 R17")),
];

const TIME_WAIT: &[Row] = &[
    ("Q1", "a retransmitted FIN: ACK, and the timer restarts", Own),
    ("Q2", "a bare ACK at RCV.NXT: no reply", Own),
    ("Q3", "data, or outside the window: ACK", By("Q1")),
    ("Q4", "no flags: no reply", By("Q2")),
    ("Q5", "a reset", By("R17")),
    ("Q6", "a SYN after RCV.NXT: a new connection, its ISS cannot be guessed", So),
    ("Q7", "a SYN before RCV.NXT with a newer timestamp: a new connection", So),
    ("Q8", "a SYN after RCV.NXT with an older timestamp: ACK", By("Q1")),
    ("Q9", "a SYN after RCV.NXT without timestamps: a new connection", So),
    ("Q10", "an old SYN: ACK, and the timer is not restarted", By("Q1")),
    ("Q11", "a SYN without a listener: ACK", By("Q1")),
    ("Q12", "SYN|ACK: ACK", By("Q1")),
    ("Q13", "a reset of the new connection's handshake: TIME-WAIT as before", So),
    ("Q14", "FIN without ACK: ACK", By("Q1")),
];

const ATTACKS: &[Row] = &[
    ("D1", "blind resets", By("R1 R2 R4")),
    ("D2", "blind SYNs", By("S50")),
    ("D3", "blind data", By("S52 S53")),
    ("D4", "the count of challenge ACKs as a side channel: limited for each connection separately", So),
    ("D5", "loops of ACKs", By("S51")),
    ("D6", "resets against SYN-RECEIVED", By("R2 R4")),
    ("D7", "resets and bogus ACKs against an orphan in FIN-WAIT-2", By("R2 S52")),
    ("D8", "TIME-WAIT assassination", By("R17 Q1")),
    ("D9", "resets and ICMP errors as reflections", Own),
    ("D10", "the limit of resets as a side channel: refilled at random", By("D9")),
    ("D11", "guessed ISNs", So),
    ("D12", "guessed ports", So),
    ("D13", "IP identification as a side channel", So),
    ("D14", "SYN floods", By("S18")),
    ("D15", "guessed SYN cookies", By("S11")),
    ("D16", "the accept queue is filled", By("S17 S37")),
    ("D17", "SACK with a tiny MSS (CVE-2019-11477)", So),
    ("D18", "SACKs of many pieces (CVE-2019-11478)", So),
    ("D19", "a tiny MSS (CVE-2019-11479)", So),
    ("D20", "many tiny out-of-order segments (CVE-2018-5390)", So),
    ("D21", "forged ICMP errors", By("I11 I2 P2")),
    ("D22", "the limit of ICMP errors as a side channel (CVE-2020-25705)", By("D9")),
    ("D23", "timestamps as poison", So),
    ("D24", "optimistic ACKs", By("S52")),
    ("D25", "divided ACKs", So),
    ("D26", "peers that never open their window", Own),
    ("D27", "peers that never acknowledge a FIN", By("S95 S96 S99")),
    ("D28", "LAND: from our own address", By("N5")),
    ("D29", "crossed SYNs", By("S40")),
    ("D30", "a peer that never closes: left to the application", So),
    ("D31", "floods of resets: constant work, no memory", So),
    (
        "D32",
        "injectors on the path",
        Not(
            "no keys keep them out (no TCP-AO); the record keeps the header of the reset and what its shape tells",
        ),
    ),
    (
        "D33",
        "middleboxes that drop a connection for an inexact reset",
        Not("a middlebox's to mend; our resets are exact"),
    ),
    (
        "D34",
        "early SYN retransmission: once per attempt, only after a bare ACK of an old connection, never after RST",
        By("S20 S21"),
    ),
    ("D35", "reasons in resets as commands or log injection: numbers, which change nothing", So),
    ("D36", "resets lost behind a delayed ACK", By("R1")),
];

/// What the catalogue says without ids: where it is from, what happens, and a test that shows it.
pub const UNNUMBERED: &[(&str, &str, &str)] = &[
    (
        "what must not end a connection",
        "a keep-alive probe that is not answered, before the last",
        "t95_keep_alive_gives_up_with_a_reset",
    ),
    (
        "what must not end a connection",
        "a reset outside the window",
        "t44_a_reset_outside_the_window_is_ignored",
    ),
    ("what must not end a connection", "a soft ICMP error", "t172_an_error_does_not_end_a_connection"),
    ("what must not end a connection", "a window that shrinks", "t107_the_number_of_a_reset_of_ours"),
    (
        "timers",
        "keep-alive: two hours, 75 s, nine probes",
        "t96_keep_alive_is_off_by_default_and_waits_two_hours",
    ),
    ("timers", "SYN: 1, 1, 2, 4 s ..", "s94_an_unanswered_syn_times_out_silently"),
    ("timers", "SYN|ACK: five times", "s36_an_unanswered_syn_ack_times_out_silently"),
    ("timers", "data: a budget of 924.6 s", "t99_the_retransmission_limit"),
    ("timers", "the user timeout option", "s93_the_longer_of_both_counts"),
    (
        "ICMP errors that may not be sent",
        "about a packet from or to an address that is not a host's",
        "i0_none_is_sent_to_or_about_an_address_that_is_not_unicast",
    ),
    (
        "ICMP errors that may not be sent",
        "about an ICMP error or a later fragment",
        "i0_none_is_sent_about_an_icmp_error_or_a_later_fragment",
    ),
    (
        "limits of ICMP errors",
        "a burst of six to a destination, then one a second",
        "d9_fifty_datagrams_are_answered_six_times_then_once_a_second",
    ),
    (
        "limits of ICMP errors",
        "one destination does not use up another's",
        "d9_each_destination_has_its_own_limit",
    ),
    (
        "what UDP sockets report",
        "each code, once, if connected",
        "i_icmp_errors_reach_a_connected_socket_as_in_the_table",
    ),
    (
        "calls in an orderly release",
        "a second shutdown: no second FIN",
        "s72_repeated_shutdowns_send_one_fin",
    ),
    (
        "calls in an orderly release",
        "shutdown after the end: not connected",
        "t88_after_a_reset_the_two_ends_are_still_known",
    ),
    (
        "calls in an orderly release",
        "shutdown in SYN-SENT: the attempt ends",
        "s27_an_attempt_times_out_without_a_reset",
    ),
    (
        "calls in an orderly release",
        "close with a linger time waits for the ACK of the FIN",
        "closing_lingers_until_all_is_acknowledged",
    ),
    (
        "calls in an orderly release",
        "the user can distinguish a release from a reset (MUST-12)",
        "t193_the_ending_side_is_never_confused",
    ),
    ("orphans", "FIN-WAIT-2: a minute, or as set by the user", "t112_a_user_sets_the_fin_wait_2_timeout"),
    (
        "orphans",
        "FIN-WAIT-2: FIN is accepted, data is answered with RST",
        "t114_data_after_the_close_is_reset",
    ),
    ("orphans", "SEG.ACK is verified (not by Linux)", "t117_an_orphan_looks_at_the_ack"),
    ("orphans", "other states: a limit of retransmissions", "t110_a_fin_that_is_never_acknowledged"),
    ("orphans", "their number", "t111_too_many_orphans"),
    ("TIME-WAIT", "its length, for each", "t128_each_entry_has_its_own_time"),
    ("TIME-WAIT", "the same four-tuple is not assigned again", "t143_a_pair_in_use_is_not_allocated"),
    (
        "the limit of challenge ACKs",
        "one for each connection in 500 ms, of whatever kind",
        "t68_t69_t70_the_limit_of_challenge_acks",
    ),
    ("reasons in resets", "the reason of each rule", "t204_every_reset_has_a_cause"),
];
