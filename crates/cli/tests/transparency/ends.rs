//! Rows on how TCP connections begin and end.

use super::Cell;

pub const CELLS: &[Cell] = &[
    Cell::new(
        "a question, the program's FIN, the answer, the remote's FIN (half-close)",
        "for h in BOTH:\n s = tcp(h, 7020); s.sendall(b'hello'); s.shutdown(1); tell(s.recv(99), s.recv(99))",
    ),
    Cell::new(
        "the remote closes first, the program sends on; what the remote got",
        "for h in BOTH:\n s = tcp(h, 7021); end = s.recv(99); s.sendall(b'x' * 100000); s.close(); time.sleep(0.3); tell(end, last(h))",
    ),
    Cell::new(
        "the remote resets after an answer: the answer, then the error",
        "for h in BOTH:\n s = tcp(h, 7022); s.sendall(b'?'); tell(s.recv(99), attempt(s.recv, 99))",
    ),
    Cell::new(
        "the remote resets while the program sends: the first error, and the second",
        "for h in BOTH:\n s = tcp(h, 7023)\n try:\n  while 1: s.sendall(b'x' * 1000); time.sleep(0.01)\n except OSError as e: tell(name(e), \
         attempt(s.sendall, b'x'))",
    ),
    Cell::new(
        "the program resets (SO_LINGER 0): what the remote sees",
        "for h in BOTH:\n s = tcp(h, 7024); s.sendall(b'x'); time.sleep(0.2); \
         s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close(); time.sleep(0.3); tell(last(h))",
    ),
    Cell::new(
        "the program closes with unread data: what the remote sees",
        "for h in BOTH:\n s = tcp(h, 7025); s.recv(1, socket.MSG_PEEK); time.sleep(0.2); s.close(); time.sleep(0.3); tell(last(h))",
    ),
    Cell::new("a closed port", "for h in BOTH: tell(attempt(tcp, h, 9))"),
    Cell::new(
        "a network that a router cannot reach, or does not allow",
        "pause(); tell(attempt(tcp, '203.0.113.9', 80)); pause(); tell(attempt(tcp, '203.0.114.9', 80)); pause(); \
         tell(attempt(tcp, '2001:db8:bad::9', 80))",
    ),
    Cell::new(
        "no answer, and the program gives up",
        "for h in BOTH:\n begun = time.monotonic(); tell(attempt(tcp, h, 7026, 1), 0.9 < time.monotonic() - begun < 2)",
    ),
    Cell::new(
        "no answer to data, TCP_USER_TIMEOUT of a second",
        "s = tcp(S4, 7027); s.settimeout(None); s.setsockopt(6, 18, 1000); s.sendall(b'mute'); time.sleep(0.3); \
         begun = time.monotonic(); s.sendall(b'x'); tell(attempt(s.recv, 1), time.monotonic() - begun < 3.5); time.sleep(4)",
    ),
    Cell::new(
        "a router reports in mid-connection that it cannot reach the remote, TCP_USER_TIMEOUT of a second",
        "s = tcp(S4, 7034); s.settimeout(None); s.setsockopt(6, 18, 1000); s.sendall(b'mute'); time.sleep(0.5); \
         begun = time.monotonic(); s.sendall(b'x'); tell(attempt(s.recv, 1), 0.5 < time.monotonic() - begun < 3.5); time.sleep(4)",
    ),
    Cell::new(
        "TCP_NODELAY, TCP_CORK, keep-alive and buffer sizes can be set and read",
        "s = tcp(S4, 7020); s.setsockopt(6, 1, 1); s.setsockopt(6, 3, 1); s.setsockopt(1, 9, 1); s.setsockopt(1, 7, 50000); \
         tell(s.getsockopt(6, 1), s.getsockopt(6, 3), s.getsockopt(1, 9), s.getsockopt(1, 7))",
    ),
    Cell::new(
        "urgent data (MSG_OOB): what the remote reads in line",
        "s = tcp(S4, 7028); s.sendall(b'ab'); s.send(b'!', socket.MSG_OOB); s.sendall(b'cd'); s.shutdown(1); time.sleep(0.3); tell(last(S4))",
    ),
    Cell::new(
        "urgent data: what the remote reads before it, as MSG_OOB, and after it",
        "for h in BOTH:\n s = tcp(h, 7032); s.sendall(b'ab'); s.send(b'!', socket.MSG_OOB); s.sendall(b'cd'); tell(s.recv(99))",
    ),
    Cell::new(
        "urgent data of the remote: SIGURG, and what is read before it, as MSG_OOB, and after it",
        "import fcntl, signal\nsignals = []\nsignal.signal(signal.SIGURG, lambda *a: signals.append(1))\nfor h in BOTH:\n \
         s = tcp(h, 7033); fcntl.fcntl(s, fcntl.F_SETOWN, os.getpid()); s.send(b'?'); time.sleep(0.5)\n \
         tell(len(signals), s.recv(99), s.recv(1, socket.MSG_OOB), s.recv(99), attempt(s.recv, 1, socket.MSG_OOB))",
    ),
    Cell::new(
        "urgent data of the remote in line (SO_OOBINLINE): a read ends before it",
        "for h in BOTH:\n s = tcp(h, 7033); s.setsockopt(1, 10, 1); s.send(b'?'); time.sleep(0.5); tell(s.recv(99), s.recv(99))",
    ),
];
