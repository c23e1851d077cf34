//! Rows on UDP and ICMP.

use super::Cell;

pub const UDP: &[Cell] = &[
    Cell::new(
        "a datagram is answered, IPv4 and IPv6",
        "for h in BOTH:\n s = udp(h); s.sendto(b'x', (h, 7004)); tell(attempt(s.recv, 100))",
    ),
    Cell::new(
        "the answer comes from another port (TFTP, SIP)",
        "for h in BOTH:\n s = udp(h, 2); s.sendto(b'x', (h, 7002)); r = attempt(s.recvfrom, 100)\n \
         tell(r if isinstance(r, str) else (r[0], 'another port' if r[1][1] != 7002 else 'the same port'))",
    ),
    Cell::new(
        "two destinations see one source, which is the port that was bound",
        "for h in BOTH:\n s = udp(h); s.bind(('', 45321)); p = []\n \
         for port in (7003, 7006): s.sendto(b'x', (h, port)); p.append(attempt(s.recv, 100))\n tell(p)",
    ),
    Cell::new(
        "the source is the port that was bound, below 1024",
        "for h in BOTH: s = udp(h); s.bind(('', 123)); s.sendto(b'x', (h, 7003)); tell('123' if attempt(s.recv, 100) == b'123' else 'another')",
    )
    .differs("lastack keeps no right over the host, and says so in the report"),
    Cell::new(
        "sockets that share a port (SO_REUSEADDR): two connected ones and an unconnected one",
        "for h in BOTH:\n ss = [udp(h) for _ in range(3)]\n for s in ss: s.setsockopt(1, 2, 1); s.bind(('', 45401))\n \
         ss[0].connect((h, 7003)); ss[1].connect((h, 7006)); ss[0].send(b'x'); ss[1].send(b'x'); ss[2].sendto(b'y', (h, 7004)); \
         tell([attempt(s.recv, 100) for s in ss])",
    ),
    Cell::new(
        "the source stays the same after three seconds of silence",
        "s = udp(); s.connect((S4, 7003)); s.send(b'x'); a = s.recv(100); time.sleep(3); s.send(b'x'); tell(s.recv(100) == a)",
    ),
    Cell::new("an empty datagram", "s = udp(); s.sendto(b'', (S4, 7004)); tell(attempt(s.recv, 100))"),
    Cell::new(
        "8,000 and 65,000 bytes, which the path fragments",
        "for h in BOTH:\n for n in (8000, 65000): s = udp(h); s.sendto(bytes(n), (h, 7004)); r = attempt(s.recv, 65535); \
         tell(r if isinstance(r, str) else len(r))",
    ),
    Cell::new(
        "ten datagrams in one call (UDP_SEGMENT)",
        "for h in BOTH:\n s = udp(h); s.sendmsg([bytes(950)], [(17, 103, struct.pack('=H', 100))], 0, (h, 7005)); \
         time.sleep(0.5); s.sendto(b'count', (h, 7005)); tell(attempt(s.recv, 100))",
    ),
    Cell::new(
        "3,000 datagrams of 1,000 bytes back to back, up",
        "s = udp(); s.connect((S4, 7005))\nfor i in range(3000): s.send(bytes(1000))\ntime.sleep(1); s.send(b'count'); \
         tell(attempt(s.recv, 100))",
    ),
    Cell::new(
        "a closed port, connected socket",
        "for h in BOTH:\n s = udp(h, 2); s.connect((h, 9)); s.send(b'x'); tell(attempt(s.recv, 100))",
    ),
    Cell::new(
        "two closed ports, one socket, IP_RECVERR",
        "for h in BOTH:\n s = udp(h); tell_errors(s)\n for p in (21, 22): attempt(s.sendto, b'x', (h, p)); time.sleep(0.3)\n \
         attempt(s.sendto, b'x', (h, 22)); tell(said(s))\n tell(said(s))",
    ),
    Cell::new(
        "a network that a router cannot reach",
        "for h in ('203.0.113.1', '2001:db8:bad::1'):\n pause(); s = udp(h); tell_errors(s); s.sendto(b'x', (h, 9)); tell(said(s))",
    ),
    Cell::new(
        "a network that a router does not allow",
        "h = '203.0.114.1'; pause(); s = udp(h); tell_errors(s); s.sendto(b'x', (h, 9)); tell(said(s))",
    ),
    Cell::new(
        "an error on a connected socket without IP_RECVERR",
        "for h in ('203.0.113.1', '203.0.114.1', '2001:db8:bad::1'):\n pause(); s = udp(h, 2); s.connect((h, 9)); s.send(b'x'); \
         tell(attempt(s.recv, 100))",
    ),
    Cell::new(
        "500 sockets at once, each answered at its own port",
        "ss = [udp() for _ in range(500)]; n = 0\nfor s in ss: s.connect((S4, 7003)); s.send(b'x')\n\
         for s in ss: n += int(attempt(s.recv, 100)) == s.getsockname()[1]\ntell(n)",
    ),
    Cell::new(
        "multicast: a socket that has joined (mDNS) hears what is sent to it and to all",
        "s = udp(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('', 5353)); \
         s.setsockopt(0, 35, socket.inet_aton('224.0.0.251') + bytes(4)); time.sleep(0.3); \
         s.sendto(b'question', ('224.0.0.251', 5353)); tell(collect(s))\n\
         i = struct.pack('=I', [n for n, name in socket.if_nameindex() if name != 'lo'][0])\n\
         s = udp(S6); s.setsockopt(41, 26, 1); s.bind(('', 5353)); s.setsockopt(41, 20, socket.inet_pton(10, 'ff02::fb') + i); \
         time.sleep(0.3); s.sendto(b'question', ('ff02::fb', 5353, 0, struct.unpack('=I', i)[0])); tell(collect(s))",
    ),
    Cell::new(
        "multicast: one that has not joined hears what is sent to it (SSDP)",
        "s = udp(); s.sendto(b'question', ('224.0.0.251', 5353)); tell(collect(s))",
    ),
    Cell::new(
        "a neighbour by its link-local address (`--link-local`): a datagram, a ping, a closed TCP port",
        "h = open(os.environ['PLACE'] + '/link-local').read(); i = [n for n, name in socket.if_nameindex() if name != 'lo'][0]\n\
         s = udp(h); s.sendto(b'question', (h, 5353, 0, i)); tell(attempt(s.recv, 100))\n\
         s = icmp(h); s.sendto(echo(h), (h, 0, 0, i)); r = attempt(s.recv, 100); tell(r if isinstance(r, str) else len(r))\n\
         s = socket.socket(socket.AF_INET6); s.settimeout(4); tell(attempt(s.connect, (h, 9, 0, i)))",
    )
    .with_options("--link-local"),
    Cell::new(
        "broadcast to the host's network without SO_BROADCAST",
        "s = udp(); tell(attempt(s.sendto, b'x', ('192.0.2.255', 6767)))",
    )
    .differs("the program is not in that network"),
    Cell::new(
        "broadcast to all of the network is heard and answered",
        "s = udp(); s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1); s.sendto(b'x', ('255.255.255.255', 6767)); \
         tell(collect(s))",
    ),
];

pub const ICMP: &[Cell] = &[
    Cell::new(
        "a ping is answered, and with which hop limit",
        "for h in BOTH:\n s = icmp(h); ask_fields(s); s.sendto(echo(h), (h, 0)); r = attempt(s.recvmsg, 100, 100); \
         tell(r if isinstance(r, str) else (len(r[0]), fields(r[1])))",
    ),
    Cell::new(
        "a ping of 8,000 bytes, which the path fragments",
        "for h in BOTH:\n s = icmp(h); s.sendto(echo(h, 8000), (h, 0)); r = attempt(s.recv, 65535); \
         tell(r if isinstance(r, str) else len(r))",
    ),
    Cell::new(
        "a ping of one hop (traceroute -I, mtr)",
        "for h in BOTH:\n s = icmp(h); tell_errors(s); set_hops(s, 1); s.sendto(echo(h), (h, 0)); tell(said(s))",
    ),
    Cell::new(
        "a ping with DF that the second hop cannot carry, then again",
        "for h in BOTH:\n s = icmp(h); tell_errors(s); set_df(s, 2); s.sendto(echo(h, 1420), (h, 0)); tell(said(s)); \
         tell(attempt(s.sendto, echo(h, 1420), (h, 0)))",
    ),
    Cell::new(
        "a ping with DF that the first hop cannot carry",
        "for h in BOTH:\n s = icmp(h); set_df(s, 2); tell(attempt(s.sendto, echo(h, 4000), (h, 0)))",
    ),
    Cell::new(
        "a timestamp request (ping --icmp-timestamp, nmap -PP)",
        "s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); s.settimeout(1); \
         s.sendto(bytes([13, 0, 0xe0, 0xca, 0x12, 0x34, 0, 1]) + bytes(12), (S4, 0)); r = attempt(s.recv, 100); tell(r if isinstance(r, str) else r[20])",
    )
    .differs("of ICMP, only echo is carried; the report counts the rest"),
    Cell::new(
        "a ping to a network that a router cannot reach",
        "for h in ('203.0.113.1', '203.0.114.1', '2001:db8:bad::1'):\n pause(); s = icmp(h); tell_errors(s); s.sendto(echo(h), (h, 0)); \
         tell(said(s))",
    ),
];
