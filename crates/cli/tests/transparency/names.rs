//! Rows on name servers: 198.51.100.53 answers, .54 fails, .55 refuses, .56 is silent.

use super::Cell;

/// How long a look-up takes: at once, or longer than a name server is waited for.
const LOOK_UP: &str = "t = time.monotonic(); r = attempt(socket.gethostbyname, 'a.test'); \
                       tell(r, 'at once' if time.monotonic() - t < 1.5 else 'later')";

pub const CELLS: &[Cell] = &[
    Cell::new("a name resolves", LOOK_UP),
    Cell::new("a name that does not exist", "tell(attempt(socket.gethostbyname, 'a.example'))"),
    Cell::new(
        "an answer that is too large for a datagram comes by TCP",
        "tell(len(socket.gethostbyname_ex('big.test')[2]))",
    ),
    Cell::with_names(
        "the first server fails (SERVFAIL), the second answers",
        "nameserver 198.51.100.54\nnameserver 198.51.100.53\n",
        LOOK_UP,
    ),
    Cell::with_names(
        "the first server refuses (REFUSED), the second answers",
        "nameserver 198.51.100.55\nnameserver 198.51.100.53\n",
        LOOK_UP,
    ),
    Cell::with_names(
        "nobody listens at the first server, the second answers",
        "nameserver 198.51.100.9\nnameserver 198.51.100.53\n",
        LOOK_UP,
    ),
    Cell::with_names(
        "a router cannot reach the first server, the second answers",
        "nameserver 203.0.113.53\nnameserver 198.51.100.53\n",
        LOOK_UP,
    ),
    Cell::with_names(
        "the first server is silent, the second answers",
        "nameserver 198.51.100.56\nnameserver 198.51.100.53\n",
        LOOK_UP,
    ),
    Cell::with_names(
        "one server, which is silent",
        "nameserver 198.51.100.56\noptions timeout:1 attempts:2\n",
        "t = time.monotonic(); r = attempt(socket.gethostbyname, 'a.test'); tell(r, 'after %.0f s' % (time.monotonic() - t))",
    ),
    Cell::with_names(
        "all servers fail",
        "nameserver 198.51.100.54\nnameserver 198.51.100.55\n",
        LOOK_UP,
    ),
    Cell::with_names(
        "over TCP (options use-vc), the first server fails",
        "nameserver 198.51.100.54\nnameserver 198.51.100.53\noptions use-vc\n",
        LOOK_UP,
    )
    .differs("libc asks no other server over TCP, lastack does"),
    Cell::with_names(
        "each name server can be asked by itself",
        "nameserver 198.51.100.54\nnameserver 198.51.100.53\n",
        "q = b'\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\1a\\4test\\0\\0\\1\\0\\1'\n\
         for l in open('/etc/resolv.conf'):\n \
         if l.startswith('nameserver'): h = l.split()[1]; s = udp(h); s.sendto(q, (h, 53)); tell('code', attempt(s.recv, 500)[3] & 15)",
    )
    .differs("lastack asks the next server itself"),
];
