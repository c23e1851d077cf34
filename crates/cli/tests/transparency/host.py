# Services of the host that the program runs on: on its loopback, on UNIX sockets, and a process.
import os, socket, sys, threading, time
SURROUNDINGS = """
import os, resource, socket
def who():
    os.umask(mask := os.umask(0))
    return os.getuid(), os.getgid(), os.getgroups(), mask, os.nice(0), socket.gethostname(), os.getcwd()
def limits(): return [resource.getrlimit(r) for r in range(16)]
def timers():
    names = "ip_local_port_range tcp_retries1 tcp_retries2 tcp_syn_retries tcp_fin_timeout tcp_keepalive_time " \
            "tcp_keepalive_intvl tcp_keepalive_probes"
    return [open("/proc/sys/net/ipv4/" + n).read().split() for n in names.split()]
def all(): return {f.__name__: f() for f in (who, limits, timers)}
"""
def accept(l):
    while True:
        c, _ = l.accept()
        c.sendall(b"hello")
        c.close()
def echo(u):
    while True:
        data, who = u.recvfrom(100)
        u.sendto(b"hello", who)
def listen(family, at):
    l = socket.socket(family)
    if family == socket.AF_INET6: l.setsockopt(41, 26, 1)
    l.bind(at)
    l.listen(50)
    threading.Thread(target=accept, args=(l,), daemon=True).start()
    if family != socket.AF_UNIX:
        u = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6: u.setsockopt(41, 26, 1)
        u.bind(at)
        threading.Thread(target=echo, args=(u,), daemon=True).start()
listen(socket.AF_INET, ("127.0.0.1", 7040))
listen(socket.AF_INET6, ("::1", 7040))
listen(socket.AF_UNIX, "\0lastack-transparency")
listen(socket.AF_UNIX, os.environ["PLACE"] + "/unix")
# What a program of this host sees; rows print whether theirs see the same.
sys.path.insert(0, os.environ["PLACE"])
with open(os.environ["PLACE"] + "/surroundings.py", "w") as f: f.write(SURROUNDINGS)
import surroundings
with open(os.environ["PLACE"] + "/surroundings", "w") as f: f.write(repr(surroundings.all()))
with open(os.environ["PLACE"] + "/host.pid", "w") as f: f.write(str(os.getpid()))
print("ready", flush=True)
while True: time.sleep(100)
