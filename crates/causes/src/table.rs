//! The vocabulary. A cause is one entry.

use crate::Entry;
use crate::Severity::{Benign, Harmful, Suspicious};

macro_rules! causes {
    ($($variant:ident $code:literal $name:literal $severity:ident $cap:literal $sentence:literal, $advice:literal;)*) => {
        /// Why a connection ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Cause {
            $(#[doc = concat!("`", $name, "` (", $code, "): ", $sentence)] $variant,)*
        }

        /// All entries, each at the place of its cause.
        pub(crate) const ENTRIES: &[Entry] = &[
            $(Entry {
                cause: Cause::$variant,
                code: $code,
                name: $name,
                severity: $severity,
                cap: $cap,
                sentence: $sentence,
                advice: $advice,
            },)*
        ];
    };
}

causes! {
    Orderly "C00" "orderly" Benign 0.99
        "Both ends sent FIN and each FIN was acknowledged.", "";

    // During the handshake.
    Refused "C01" "refused" Harmful 0.95
        "The SYN was answered with a reset: nothing accepts connections at that address and port.",
        "Check that the service listens there (`ss -ltnp`), on which address it is bound (0.0.0.0, ::), the port map, and the order in which services start.";
    FirewallReject "C02" "firewall-reject" Harmful 0.9
        "A device on the path, not the addressed host, refused the connection with a reset.",
        "Look at the rules of the named hop (`nft list ruleset`). Security groups of clouds drop; they do not reset.";
    BacklogFull "C03" "backlog-full" Harmful 0.7
        "The listener's accept queue was full, and new connections were dropped.",
        "On the server: `nstat -az TcpExtListenOverflows TcpExtListenDrops`; raise the backlog and net.core.somaxconn; accept faster.";
    ListenerClosed "C04" "listener-closed" Harmful 0.9
        "The listener was closed while the connection waited to be accepted; the application never saw it.",
        "Drain the accept queue before the listener stops; consider net.ipv4.tcp_migrate_req.";
    PortReuse "C16" "port-reuse" Benign 0.95
        "A new connection used the port of an earlier one that the peer still had.",
        "Use more ephemeral ports and timestamps, and no fixed source port; a NAT may reuse ports too fast.";
    SynProxy "C18" "syn-proxy" Harmful 0.7
        "A proxy answered the handshake for the server, and could not connect to the server.",
        "Check the servers behind the proxy, and capture on both sides of it.";
    Scan "C22" "scan" Suspicious 0.95
        "A port scan: a probe that carries no data.",
        "If the scan was not yours, inform your security team; the number of ports and hosts is in the group.";
    HealthCheck "C23" "health-check" Benign 0.9
        "A health check that opens the connection and resets it without data.",
        "Leave these out of error statistics; a check with a request, or one that closes with FIN, leaves no resets.";
    ConnectCancelled "C24a" "connect-cancelled" Benign 0.9
        "The client gave up before the handshake was complete.",
        "If the SYN|ACK was only slow, raise the client's connect timeout.";
    Stray "C28" "stray" Benign 0.6
        "An unsolicited segment was answered with a reset.",
        "Usually backscatter of spoofed traffic, or the capture began late.";

    // An end aborted.
    Abort "C05" "abort" Suspicious 0.7
        "An end aborted the connection deliberately; there is no sign of unread data.",
        "Look for SO_LINGER with timeout 0 (SetLinger(0), nolinger), `ss -K`, or a program that drops its connections on request.";
    CloseUnread "C06" "close-unread" Harmful 0.8
        "An end closed the connection, or its process died, with received data unread.",
        "Read to the end of the data before closing, or half-close and linger; check whether the process was killed at that time.";
    DataAfterClose "C07" "data-after-close" Suspicious 0.95
        "An end had closed the connection; data that arrived later was answered with a reset.",
        "The end that sent late should treat the peer's FIN as the end of the connection.";
    CloseNotifyRace "C07t" "close-notify-race" Benign 0.95
        "TLS: the closing alerts and FINs of both ends crossed; no application data was lost.", "";
    KeepaliveRace "C08" "keepalive-race" Harmful 0.9
        "A request crossed with the close of an idle connection and was lost.",
        "The server's idle timeout must exceed the client's; retry idempotent requests.";
    KeepaliveTimeout "C13" "keepalive-timeout" Harmful 0.95
        "Keep-alive probes went unanswered, and the end that probed gave up.",
        "The peer or the path is dead. If a NAT or firewall is between, probe more often than its timer.";
    DeliveryTimeout "C14" "delivery-timeout" Harmful 0.9
        "Data was retransmitted without any acknowledgment until the sender gave up.",
        "Capture at both ends to find which direction fails; check the path MTU and recent failovers.";
    ZeroWindow "C15" "zero-window" Harmful 0.9
        "The receiver's window stayed at zero: its program did not read.",
        "Find out what blocks the receiving program: its stack traces, garbage collection, a blocked worker.";
    ClientCancelled "C24" "client-cancelled" Benign 0.85
        "The client stopped a response, or dropped a connection that it no longer needed.",
        "Look at the client's logs and timeouts; it is not the server's fault.";
    ResetForFin "C25" "reset-for-fin" Benign 0.95
        "An end answered the peer's FIN with a reset in place of its own FIN.",
        "Nothing if all data was acknowledged. If hours passed in between, look for leaked sockets (CLOSE-WAIT).";
    ProtocolMismatch "C26" "protocol-mismatch" Harmful 0.95
        "The two ends spoke different protocols, or TLS could not agree.",
        "Check which protocol that port speaks; with a TLS alert, its name says what was refused.";
    Echo "C27" "echo" Benign 0.9
        "A reset that answers a late segment of a connection that had already ended.", "";

    // Lost state, and devices on the path.
    LostState "C09" "lost-state" Harmful 0.6
        "The peer no longer had the connection and answered a segment of it with a reset.",
        "Check the peer's uptime, restarts of pods, and failovers (VRRP: the reset comes from another MAC address).";
    IdleReset "C10" "idle-reset" Suspicious 0.9
        "An idle timer ended the connection with a reset.",
        "Send keep-alives more often than that timer, or raise it.";
    StateExpired "C11" "state-expired" Harmful 0.9
        "A device on the path had dropped the state of the idle connection and answered its next packet with a reset.",
        "Send keep-alives more often than the device's timer; see nf_conntrack_tcp_be_liberal; do not answer INVALID packets with resets.";
    SilentDrop "C12" "silent-drop" Harmful 0.9
        "Segments vanished without any answer.",
        "Capture at both ends; `tracepath` for the path MTU, clamp the MSS, and read the firewall's log.";
    ResetIgnored "C17" "reset-ignored" Suspicious 0.95
        "A reset was not acceptable to its receiver, and the connection went on.",
        "Note the attempt: a third party sent resets for this connection without knowing its sequence numbers.";
    Injected "C19" "injected" Harmful 0.95
        "A third party forged a reset, or data, with the address of an end.",
        "Capture at both ends: a packet that arrives at one of them and was not sent at the other is forged.";
    InlineReset "C20" "inline-reset" Harmful 0.8
        "A device on the path swallowed the data and reset the connection.",
        "Look at that hop's policy log for the first payload, the server name or the Host header.";
    OneSided "C21" "one-sided" Suspicious 0.9
        "Only one direction of the connection is visible here, or passes a device on the path.",
        "Capture both directions; with asymmetric routing, a stateful firewall must see both.";
    Mptcp "C29" "mptcp" Suspicious 0.99
        "MPTCP ended this subflow and stated why.", "Read the stated reason; other subflows may continue.";
    Declared "C30" "declared" Suspicious 0.99
        "The reset states its reason.", "Take the stated reason as a hint: it is not authenticated.";
    Open "C31" "open" Benign 0.99
        "The capture ends before the connection does.", "";

    // Stated by ICMP.
    IcmpPortUnreachable "I01" "icmp-port-unreachable" Harmful 0.95
        "ICMP: port unreachable.",
        "From the host itself: nothing listens there. From another address: a firewall's reject rule.";
    IcmpProhibited "I02" "icmp-prohibited" Harmful 0.95
        "ICMP: communication administratively prohibited.", "Look at the rules of the router that sent it.";
    IcmpHostUnreachable "I03" "icmp-host-unreachable" Harmful 0.95
        "ICMP: host unreachable; the last router could not find the host.",
        "The host is down, or its address or subnet is wrong.";
    IcmpNoRoute "I04" "icmp-no-route" Harmful 0.95
        "ICMP: network unreachable; a router has no route.", "Look at the routes of the router that sent it.";
    IcmpTooBig "I05" "icmp-too-big" Benign 0.95
        "ICMP: a packet was too big for the next link.",
        "Clamp the MSS, and let these ICMP messages pass: without them large packets vanish.";
    IcmpTimeExceeded "I06" "icmp-time-exceeded" Suspicious 0.95
        "ICMP: the packet's hop limit was exceeded.", "A routing loop, unless traceroute is in use.";
    IcmpOther "I07" "icmp-other" Suspicious 0.9
        "ICMP: another error.", "See its type and code.";

    // Known to `lastack run` alone: this host, lastack itself, datagrams and names.
    HostNoRoute "L01" "host-no-route" Harmful 0.99
        "This host cannot reach the destination: it has no route, or the next hop did not answer.",
        "`ip route get ADDRESS` on this host; is the interface up?";
    HostForbidden "L02" "host-forbidden" Harmful 0.99
        "A rule of this host forbids the packet.", "Look at this host's own rules: `nft list ruleset`, `ip rule`.";
    HostResources "L03" "host-resources" Harmful 0.99
        "This host had no descriptor, port or memory left.",
        "Raise the limit that the error names (`ulimit -n`, net.ipv4.ip_local_port_range).";
    PolicyDenied "L04" "policy-denied" Suspicious 0.99
        "A rule of the run (--allow, --deny, --offline) denied it.",
        "Allow the destination (--allow), or find out why the program wants to reach it.";
    FaultInjected "L05" "fault-injected" Suspicious 0.99
        "An injected fault (--inject) ended it.", "Nothing: the fault was requested.";
    NotCarried "L06" "not-carried" Suspicious 0.99
        "lastack does not carry packets of this kind.", "Run the part that needs them outside of `lastack run`.";
    ProxyFailed "L07" "proxy-failed" Harmful 0.99
        "The proxy (--via) did not answer, or refused to carry it.",
        "Look at the proxy: its address, its rules, user and password; datagrams need SOCKS5 with UDP ASSOCIATE.";
    Answered "D01" "answered" Benign 0.99
        "Datagrams were sent and answered.", "";
    NoAnswer "D02" "no-answer" Suspicious 0.9
        "Data was sent, and no answer came, or no complete one, before the sender gave up or the connection was closed.",
        "Is the service up, and does it answer other requests? Can its answer return? For datagrams, a firewall that drops packets looks the same.";
    OneWay "D03" "one-way" Benign 0.9
        "Datagrams of a protocol without answers.", "";
    NameNotFound "D04" "name-not-found" Suspicious 0.99
        "The name server says that the name does not exist.", "Check the name, and the search domains.";
    NameServerFailed "D05" "name-server-failed" Harmful 0.99
        "The name server could not or would not answer.", "Does it answer others? `lastack run --dns ADDRESS` (-D) asks another name server.";
    NameServerSilent "D06" "name-server-silent" Harmful 0.95
        "The name server did not answer.", "Does it answer others? `lastack run --dns ADDRESS` (-D) asks another name server.";
}
