//! Rows on what surrounds the program: its limits and settings, and what of the host is out of reach.

use super::Cell;

pub const RESOURCES: &[Cell] = &[
    Cell::new(
        "user, groups, working directory, umask, niceness, name of the host: the host's?",
        "tell(same('who'))",
    ),
    Cell::new("all limits (ulimit): the host's?", "tell(same('limits'))"),
    Cell::new(
        "timers of TCP and the range of local ports (/proc/sys/net/ipv4): the host's?",
        "tell(same('timers'))",
    ),
    Cell::new(
        "300 connections at once, and 300 UDP sockets",
        "tcps = [tcp(S4, 7024) for _ in range(300)]; udps = [udp() for _ in range(300)]\nfor u in udps: u.sendto(b'x', (S4, 7003))\n\
         tell(sum(len(u.recv(99)) > 0 for u in udps), sum(s.send(b'x') for s in tcps))",
    ),
    Cell::new(
        "a child in the background goes on after its parent has ended",
        "import subprocess\nsubprocess.run(['sh', '-c', '(sleep 0.3; python3 -c \"import socket; print(socket.create_connection((\\'198.51.100.9\\', 7020)))\" \
         | cut -c1-14) &'])",
    ),
    Cell::new(
        "a UNIX socket of the host in the file system",
        "u = socket.socket(socket.AF_UNIX); u.settimeout(1); tell(attempt(u.connect, os.environ['PLACE'] + '/unix') or u.recv(9))",
    ),
    Cell::new(
        "an abstract UNIX socket of the host",
        "u = socket.socket(socket.AF_UNIX); u.settimeout(1); tell(attempt(u.connect, '\\0lastack-transparency') or u.recv(9))",
    )
    .differs("abstract sockets belong to a network namespace"),
    Cell::new(
        "the interfaces",
        "tell(sorted(n for _, n in socket.if_nameindex()))",
    )
    .differs("the interface is lastack's; `--interface` names it"),
];

pub const ISOLATION: &[Cell] = &[
    Cell::new(
        "the host's loopback, TCP: 127.0.0.1, 127.9.9.9, 0.0.0.0, ::1, ::ffff:127.0.0.1",
        "for h in ('127.0.0.1', '127.9.9.9', '0.0.0.0', '::1', '::ffff:127.0.0.1'): tell(attempt(lambda: tcp(h, 7040).recv(9)))",
    )
    .differs("these are the program's own; `--map-localhost` maps single ports"),
    Cell::new(
        "the host's loopback, UDP: 127.0.0.1, ::1",
        "for h in ('127.0.0.1', '::1'):\n u = udp(h, 1); u.connect((h, 7040)); tell(attempt(lambda: u.send(b'x') and u.recv(9)))",
    )
    .differs("these are the program's own"),
    Cell::new(
        "the host's loopback by the gateway's address",
        "gateway = [l.split()[2] for l in open('/proc/net/route') if l.split()[1] == '00000000']\n\
         h = socket.inet_ntoa(struct.pack('=I', int(gateway[0], 16))); tell(attempt(lambda: tcp(h, 7040, 1).recv(9)))",
    ),
    Cell::new(
        "a metadata service (169.254.169.254)",
        "tell(attempt(lambda: tcp('169.254.169.254', 7041, 1).recv(9)))",
    )
    .differs("link-local addresses need `--link-local`"),
    Cell::new(
        "a process of the host: kill(PID, 0), /proc/PID",
        "p = int(open(os.environ['PLACE'] + '/host.pid').read()); tell(attempt(os.kill, p, 0), os.path.exists('/proc/%d' % p))",
    )
    .differs("the program has its own processes; `--host-pids` shows the host's"),
    Cell::new(
        "entering another network of the host (setns)",
        "import ctypes\nf = os.open('/run/netns/' + os.environ['NAME'] + '-s', os.O_RDONLY); c = ctypes.CDLL(None, use_errno=True)\n\
         tell(c.setns(f, 0x40000000) and errno.errorcode[ctypes.get_errno()])",
    )
    .differs("root of the program has no rights over the host; `--host-root` keeps them"),
];
