//! Rows on what a program sets and reads in IP headers.

use super::Cell;

/// A SYN that the program's kernel does not know of.
const RAW_SYN: &str = "\
def words(b): return sum(struct.unpack('!%dH' % (len(b) // 2), b))
own = udp(); own.connect((S4, 9)); here = socket.inet_aton(own.getsockname()[0]); there = socket.inet_aton(S4)
syn = struct.pack('!HHIIBBHHH', 45600, 7010, 1, 0, 0x50, 2, 1000, 0, 0)
n = words(here + there + struct.pack('!HH', 6, len(syn)) + syn); n = (n >> 16) + (n & 0xffff)
errors = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); errors.settimeout(0.5)
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 6); set_hops(s, 1)
s.sendto(syn[:16] + struct.pack('!H', ~n & 0xffff) + syn[18:], (S4, 0))
r = attempt(errors.recvfrom, 500)
tell(r if isinstance(r, str) else ('ICMP %d/%d' % tuple(r[0][20:22]), r[1][0], struct.unpack('!HH', r[0][48:52])))";

pub const CELLS: &[Cell] = &[
    Cell::new(
        "UDP: hop limit and class arrive (IP_TTL, IP_TOS, IPV6_UNICAST_HOPS, IPV6_TCLASS)",
        "for h in BOTH:\n s = udp(h); set_hops(s, 9); set_class(s, 0xb8); s.sendto(b'x', (h, 7001)); tell(attempt(s.recv, 100))",
    ),
    Cell::new(
        "UDP: ECN arrives",
        "for h in BOTH:\n s = udp(h); set_class(s, 2); s.sendto(b'x', (h, 7001)); tell(attempt(s.recv, 100))",
    ),
    Cell::new(
        "UDP: a hop limit for one datagram alone (control message)",
        "s = udp(); s.sendmsg([b'x'], [(0, 2, struct.pack('=i', 5))], 0, (S4, 7001)); tell(attempt(s.recv, 100)); \
         s.sendto(b'x', (S4, 7001)); tell(attempt(s.recv, 100))",
    ),
    Cell::new(
        "UDP: hop limit and class of the answer (IP_RECVTTL, IP_RECVTOS ..)",
        "for h in BOTH:\n s = udp(h); ask_fields(s); s.sendto(b'x', (h, 7001)); r = attempt(s.recvmsg, 100, 100); \
         tell(r if isinstance(r, str) else fields(r[1]))",
    ),
    Cell::new(
        "UDP: one hop (traceroute)",
        "for h in BOTH:\n s = udp(h); tell_errors(s); set_hops(s, 1); s.sendto(b'x', (h, 33434)); tell(said(s))",
    ),
    Cell::new(
        "UDP: two hops, where nobody listens (traceroute)",
        "for h in BOTH:\n s = udp(h); tell_errors(s); set_hops(s, 2); s.sendto(b'x', (h, 33435)); tell(said(s))",
    ),
    Cell::new(
        "UDP: IP_MTU of a connected socket",
        "for h in BOTH: s = udp(h); s.connect((h, 7004)); tell(mtu(s))",
    ),
    Cell::new(
        "UDP: DF and more than the first hop carries (EMSGSIZE)",
        "for h in BOTH:\n s = udp(h); s.connect((h, 7004)); set_df(s, 2); tell(attempt(s.send, bytes(1600)))",
    ),
    Cell::new(
        "UDP: DF and more than the second hop carries, then IP_MTU, and again",
        "for h in BOTH:\n s = udp(h); s.connect((h, 7004)); set_df(s, 2); tell_errors(s); s.send(bytes(1450)); tell(said(s)); \
         tell(mtu(s), attempt(s.send, bytes(1450)))",
    ),
    Cell::new(
        "UDP: the same as probes of the path (IP_PMTUDISC_PROBE, tracepath)",
        "for h in BOTH:\n s = udp(h); s.connect((h, 7004)); set_df(s, 3); tell_errors(s); s.send(bytes(1450)); tell(said(s))",
    ),
    Cell::new(
        "UDP: a probe of the path that is larger than the first hop carries (traceroute --mtu), then one that fits",
        "for h in BOTH:\n s = udp(h, 2); s.connect((h, 7004)); set_df(s, 3); tell_errors(s); r = attempt(s.send, bytes(1600)); \
         tell(r, said(s), attempt(s.send, b'fits'), attempt(s.recv, 9))",
    )
    .differs("the program's interface has a larger MTU than the host's: the gateway answers"),
    Cell::new(
        "UDP: without DF everything arrives (IP_PMTUDISC_DONT)",
        "s = udp(); s.connect((S4, 7004)); set_df(s, 0); s.send(bytes(1450)); tell(len(attempt(s.recv, 65535)))",
    ),
    Cell::new(
        "TCP: hop limit and class, set before the connection",
        "for h in BOTH:\n s = socket.socket(socket.AF_INET6 if ':' in h else socket.AF_INET); s.settimeout(4); set_hops(s, 9); \
         set_class(s, 0x28); s.connect((h, 7010)); s.send(b'x'); tell(s.recv(100).decode())",
    ),
    Cell::new(
        "TCP: a class that is set later (ssh)",
        "for h in BOTH:\n s = socket.socket(socket.AF_INET6 if ':' in h else socket.AF_INET); s.settimeout(4); \
         s.connect((h, 7010)); set_class(s, 0x48); s.send(b'x'); s.recv(100); time.sleep(0.3); s.send(b'x'); \
         tell(s.recv(100).decode())",
    ),
    Cell::new(
        "TCP: one hop (traceroute -T)",
        "for h in BOTH:\n s = socket.socket(socket.AF_INET6 if ':' in h else socket.AF_INET); s.settimeout(4); tell_errors(s); \
         set_hops(s, 1); tell(attempt(s.connect, (h, 7010)), said(s))",
    ),
    Cell::new(
        "TCP: one hop, a raw SYN (traceroute -T): the error comes within half a second, and about which ports",
        RAW_SYN,
    ),
    Cell::new(
        "the hop limit with which an ICMP error arrives: of the router, of the server (tracepath)",
        "for h in BOTH:\n for n in (1, 2):\n  s = udp(h); tell_errors(s); ask_fields(s); set_hops(s, n); s.sendto(b'x', (h, 33437)); \
         tell(error_fields(s))",
    ),
    Cell::new(
        "IP options: a ping that records its route",
        "s = icmp(); s.setsockopt(0, 4, bytes([7, 39, 4]) + bytes(37)); s.setsockopt(0, 6, 1); s.sendto(echo(S4), (S4, 0)); \
         r = s.recvmsg(100, 200); o = [c for _, kind, c in r[1] if kind == 6]; tell(len(r[0]), 'no route' if not o else 'a route of %d' % (o[0][2] // 4 - 1))",
    )
    .differs("IP options are not carried"),
    Cell::new(
        "TCP: the segment size of a connection (TCP_MAXSEG)",
        "for h in BOTH:\n s = socket.socket(socket.AF_INET6 if ':' in h else socket.AF_INET); s.settimeout(4); \
         s.connect((h, 7010)); tell(s.getsockopt(6, 2))",
    ),
];
