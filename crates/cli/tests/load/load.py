"""What `lastack run` takes of a host under load, and what it leaves behind.

load.py LASTACK [full]: the full load takes minutes with a release build; without "full", a fraction of it. Run it in a network
namespace of its own (unshare -n) whose loopback is up, as root or as a user. Prints a table; fails if a figure is out of its limit.
"""

import atexit, hashlib, json, os, resource, shutil, signal, socket, subprocess, sys, tempfile, threading, time

LASTACK, FULL = os.path.abspath(sys.argv[1]), "full" in sys.argv[2:]
AT_ONCE, IN_A_ROW, BULK, IDLE, SETTLED = (2000, 100_000, 1 << 30, 10, 15) if FULL else (200, 1000, 16 << 20, 2, 1)

PROGRAM = r"""
import hashlib, resource, socket, sys, threading
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
port, sinks = int(sys.argv[1]), []
def connect():
    s = socket.create_connection(("10.0.2.2", port), 60)
    return s
def echo(s, data):
    s.sendall(data)
    assert s.recv(len(data), socket.MSG_WAITALL) == data
def close(s):
    s.shutdown(socket.SHUT_WR)
    assert s.recv(1) == b""
    s.close()
held = []
for line in sys.stdin:
    what, count = line.split()
    count = int(count)
    if what == "hold":
        held = [connect() for _ in range(count)]
        for s in held: echo(s, b"x" * 1000)
    if what == "release":
        for s in held: close(s)
        held = []
    if what == "row":
        for _ in range(count):
            s = connect()
            echo(s, b"y" * 100)
            close(s)
    if what == "bulk":
        s, sums = connect(), []
        def send():
            block, left, sum = b"z0123456789abcdef" * 4096, count, hashlib.sha256()
            while left:
                n = s.send(block[:left])
                sum.update(block[:n])
                left -= n
            s.shutdown(socket.SHUT_WR)
            sums.append(sum.hexdigest())
        t = threading.Thread(target=send)
        t.start()
        sum, got = hashlib.sha256(), 0
        while data := s.recv(1 << 20):
            sum.update(data)
            got += len(data)
        t.join()
        assert got == count and sums == [sum.hexdigest()], (got, count)
    print("done", flush=True)
"""

ECHO = r"""
import asyncio, socket
async def serve(r, w):
    try:
        while data := await r.read(1 << 18):
            w.write(data)
            await w.drain()
        w.close()
    except OSError: pass
async def main():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(serve, sock=s, backlog=4096, limit=1 << 20)
    print(s.getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


def figures(pid):
    """Memory in KiB, descriptors, clock ticks of CPU."""
    status = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status"))
    times = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return int(status["VmRSS"].split()[0]), len(os.listdir(f"/proc/{pid}/fd")), int(times[11]) + int(times[12])


class Peak(threading.Thread):
    """The maximum of memory and descriptors until it is stopped."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.memory, self.descriptors, self.stopped = pid, 0, 0, threading.Event()
        self.start()

    def run(self):
        while not self.stopped.wait(0.05):
            self.sample()

    def sample(self):
        memory, descriptors, _ = figures(self.pid)
        self.memory, self.descriptors = max(self.memory, memory), max(self.descriptors, descriptors)

    def stop(self):
        self.stopped.set()
        self.join()
        self.sample()
        return self.memory, self.descriptors


def row(what, seconds, memory, descriptors, cpu):
    print(f"| {what} | {seconds} | {memory / 1024:.1f} MiB | {descriptors} | {cpu:.2f} s |", flush=True)


def check(condition, what):
    if not condition:
        sys.exit(f"out of its limit: {what}")


def load():
    echo = subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True)
    # It holds the standard output, whose end a test waits for.
    atexit.register(echo.kill)
    port = echo.stdout.readline().strip()
    report = tempfile.NamedTemporaryFile("r")
    run = subprocess.Popen(
        [LASTACK, "run", "--host-loopback", "--json", "-o", report.name, sys.executable, "-c", PROGRAM, port],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(what, count=0):
        run.stdin.write(f"{what} {count}\n")
        run.stdin.flush()
        check(run.stdout.readline() == "done\n", what)

    def measured(title, what, count):
        peak, begun, (_, _, cpu) = Peak(run.pid), time.monotonic(), figures(run.pid)
        tell(what, count)
        took = time.monotonic() - begun
        memory, descriptors = peak.stop()
        row(f"{title}: during", f"{took:.1f} s", memory, descriptors, (figures(run.pid)[2] - cpu) / ticks)
        return memory, descriptors

    ticks = os.sysconf("SC_CLK_TCK")
    print("| | time | memory | descriptors | CPU |\n|---|---|---|---|---|")
    tell("row", 1)
    memory_before, descriptors_before, _ = figures(run.pid)
    row("before", "", memory_before, descriptors_before, 0)
    memory, descriptors = measured(f"{AT_ONCE} connections at once", "hold", AT_ONCE)
    check(descriptors <= descriptors_before + AT_ONCE + 8, f"{descriptors} descriptors")
    check(memory - memory_before < 4096 + 40 * AT_ONCE, f"{memory} KiB")
    # Delayed acknowledgments, and the packing of connections that stay idle.
    time.sleep(SETTLED)
    idle = idle_ticks(run.pid)
    system_calls(run.pid, f"{AT_ONCE} connections are idle")
    row(f"the same, idle for {IDLE} s", f"{IDLE} s", *figures(run.pid)[:2], idle / ticks)
    tell("release")
    measured(f"{IN_A_ROW} connections in a row", "row", IN_A_ROW)
    measured(f"{BULK >> 20} MiB each way at once, checksums right", "bulk", BULK)
    time.sleep(3)
    memory, descriptors, _ = figures(run.pid)
    row("afterwards", "", memory, descriptors, 0)
    check(descriptors <= descriptors_before + 1, f"{descriptors} descriptors are left, {descriptors_before} were before")
    check(memory < memory_before + 32 * 1024, f"{memory} KiB are left, {memory_before} were before")
    row(f"idle for {IDLE} s", f"{IDLE} s", memory, descriptors, idle_ticks(run.pid) / ticks)
    run.stdin.close()
    check(run.wait(60) == 0, "the status of the run")
    echo.kill()
    summary = json.loads(report.read().splitlines()[-1])
    check(summary["tcp"] == {"orderly": AT_ONCE + IN_A_ROW + 2}, summary["tcp"])
    check(summary["dropped"] == 0 and summary["lost"] == {"unsent": 0, "unacked": 0, "unread": 0}, summary)


def idle_ticks(pid):
    """Ticks of CPU in the first period without more than one: before it delayed acknowledgments are sent, and memory is returned."""
    for _ in range(20):
        before = figures(pid)[2]
        time.sleep(IDLE)
        took = figures(pid)[2] - before
        if took <= 1:
            return took
    sys.exit(f"out of its limit: {took} ticks of CPU in {IDLE} idle seconds")


def system_calls(pid, when):
    """None is made while nothing happens. Only root may look."""
    if os.geteuid() != 0 or not shutil.which("strace"):
        return
    trace = subprocess.run(["timeout", "-s", "INT", "5", "strace", "-f", "-qq", "-p", str(pid)], capture_output=True, text=True)
    # The call that waits is shown when the tracer comes and goes.
    calls = [line for line in trace.stderr.splitlines() if "(" in line and "restart_syscall" not in line and "epoll" not in line]
    check(not calls, f"system calls while {when}: {calls[:5]}")
    print(f"| strace while {when} for 5 s | no system call | | | |")


def traces():
    """What a run could leave in this network and in the directories of temporary files."""
    interfaces = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    places = ["/tmp", "/run", "/run/netns", "/dev/shm", f"/run/user/{os.geteuid()}"]
    files = {f"{place}/{name}" for place in places if os.path.isdir(place) for name in os.listdir(place) if "lastack" in name}
    return interfaces, files


def processes(marker):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if marker in open(f"/proc/{pid}/cmdline").read():
                found.append(pid)
        except OSError:
            pass
    return found


def endings():
    # SIGKILL leaves neither processes nor the network.
    marker, before = f"3{os.getpid()}.5", traces()
    run = subprocess.Popen([LASTACK, "run", "sh", "-c", f"setsid sleep {marker} & sleep {marker}"], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while len([p for p in processes(marker) if "sleep" in open(f"/proc/{p}/comm").read()]) < 2:
        check(time.monotonic() < end, "the program did not start")
        time.sleep(0.05)
    network = os.readlink(f"/proc/{processes(marker)[-1]}/ns/net")
    run.kill()
    run.wait()
    time.sleep(0.5)
    check(not processes(marker), "SIGKILL leaves processes")
    left = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            left += [pid] if os.readlink(f"/proc/{pid}/ns/net") == network else []
        except OSError:
            pass
    check(not left, "SIGKILL leaves a process in the network")
    check(traces() == before, f"SIGKILL leaves something: {traces()}, {before}")
    print("SIGKILL: no process, no network, no interface and no file is left")
    signals()
    without_outputs()


def signals():
    """SIGINT and SIGTERM end the program and lastack, with the report."""
    server = socket.create_server(("127.0.0.1", 0))
    wait = f"import socket; s = socket.create_connection(('10.0.2.2', {server.getsockname()[1]})); print('here', flush=True); s.recv(1)"
    for sent in [signal.SIGINT, signal.SIGTERM]:
        run = subprocess.Popen([LASTACK, "run", "-v", "--host-loopback", sys.executable, "-c", wait], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
        check(run.stdout.readline() == "here\n", "the program did not connect")
        run.send_signal(sent)
        _, said = run.communicate(timeout=30)
        check(run.returncode == -sent, f"{sent}: {run.returncode}")
        check("1 TCP connection:" in said and (sent != signal.SIGINT or "KeyboardInterrupt" in said), said)
    print("SIGINT, SIGTERM: the program and lastack end of it, with the report")


def without_outputs():
    """A report that cannot be written."""
    full = subprocess.run([LASTACK, "run", "-v", "-o", "/dev/full", "sh", "-c", "echo all; echo of it >&2; exit 3"], capture_output=True,
                          text=True, timeout=30)
    check((full.returncode, full.stdout) == (3, "all\n"), full)
    check(full.stderr.startswith("of it\n") and "the report could not be written completely" in full.stderr, full)
    closed = subprocess.run(["sh", "-c", f"{LASTACK} run -v sh -c 'echo all; exit 3' 2>&-"], stdout=subprocess.PIPE, text=True, timeout=30)
    check((closed.returncode, closed.stdout) == (3, "all\n"), closed)
    silent = subprocess.run(["sh", "-c", f"{LASTACK} run -v sh -c 'exit 3' >&- <&-"], stderr=subprocess.PIPE, text=True, timeout=30)
    check(silent.returncode == 3 and "0 TCP connections" in silent.stderr, silent)
    same = subprocess.run(["sh", "-c", f"{LASTACK} run -v sh -c 'echo all; exit 3' 2>/dev/full"], stdout=subprocess.PIPE, text=True, timeout=30)
    check((same.returncode, same.stdout) == (3, "all\n"), same)
    capture = subprocess.run([LASTACK, "run", "-w", "/dev/full", "sh", "-c", "ping -c1 10.0.2.2 >/dev/null; echo all; exit 3"],
                             capture_output=True, text=True, timeout=30)
    check((capture.returncode, capture.stdout) == (3, "all\n") and "the capture" in capture.stderr, capture)
    print("full disk, closed standard error or output: the program's output and status are complete, the loss is reported")


# A shell starts what runs in the background with the signal ignored, which programs inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
if os.geteuid() == 0:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
load()
endings()
