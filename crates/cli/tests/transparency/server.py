import socket, struct, threading, time

def thread(function, *arguments):
    threading.Thread(target=function, args=arguments, daemon=True).start()

def udp(v6, port):
    s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    if v6:
        s.setsockopt(41, 26, 1)
        s.setsockopt(41, 51, 1)
        s.setsockopt(41, 66, 1)
    else:
        s.setsockopt(0, 12, 1)
        s.setsockopt(0, 13, 1)
    s.setsockopt(socket.SOL_SOCKET, 33, 1 << 23)
    s.bind(("::" if v6 else "0.0.0.0", port))
    return s

def fields(controls):
    ttl = tos = None
    for level, kind, data in controls:
        number = data[0] if len(data) == 1 else struct.unpack("=i", data[:4])[0]
        if (level, kind) in ((0, 2), (0, 12), (41, 52)): ttl = number
        if (level, kind) in ((0, 1), (0, 13), (41, 67)): tos = number
    return ttl, tos

# 7001: how the datagram arrived; the answer has a hop limit and a class of its own.
def headers(v6):
    s = udp(v6, 7001)
    while True:
        data, controls, flags, who = s.recvmsg(65535, 256)
        ttl, tos = fields(controls)
        number = lambda n: struct.pack("=i", n)
        own = [(41, 52, number(33)), (41, 67, number(0x28))] if v6 else [(0, 2, number(33)), (0, 1, number(0x28))]
        s.sendmsg([b"hops %d class %d" % (ttl, tos)], own, 0, who)

# 7002: answers from another port. 7003: tells the source port. 7004: echo. 7005: counts.
def another_port(v6):
    s, other = udp(v6, 7002), udp(v6, 0)
    while True:
        data, who = s.recvfrom(65535)
        other.sendto(data, who)

def source(v6, port):
    s = udp(v6, port)
    while True:
        data, who = s.recvfrom(65535)
        s.sendto(str(who[1]).encode(), who)

def echo(v6):
    s = udp(v6, 7004)
    while True:
        data, who = s.recvfrom(65535)
        s.sendto(data, who)

def count(v6):
    s, n, sizes = udp(v6, 7005), 0, set()
    while True:
        data, who = s.recvfrom(65535)
        if data == b"count":
            s.sendto(b"%d of %s" % (n, ",".join(map(str, sorted(sizes))).encode()), who)
            n, sizes = 0, set()
        elif data.startswith(b"burst "):
            for _ in range(int(data[6:])): s.sendto(bytes(1000), who)
        else:
            n += 1
            sizes.add(len(data))

# 7010: the header fields of a connection's segments, the first and the last.
segments = {}
def receive(c):
    try: return c.recv(1000)
    except OSError: return b""

def sniff(v6):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x86dd if v6 else 0x0800))
    while True:
        p = s.recv(65535)
        if v6 and p[6] == 6: at, ttl, tos = 40, p[7], (p[0] << 4 | p[1] >> 4) & 0xff
        elif not v6 and p[9] == 6: at, ttl, tos = (p[0] & 15) * 4, p[8], p[1]
        else: continue
        src, dst = struct.unpack("!HH", p[at:at + 4])
        if dst != 7010: continue
        if p[at + 13] & 2: segments[src] = [(ttl, tos & 0xfc)]
        elif src in segments: segments[src][1:] = [(ttl, tos & 0xfc)]

def tcp(v6):
    l = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)
    l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if v6: l.setsockopt(41, 26, 1)
    l.bind(("::" if v6 else "0.0.0.0", 7010))
    l.listen(50)
    def one(c, who):
        while receive(c):
            time.sleep(0.1)
            first, last = segments[who[1]][0], segments[who[1]][-1]
            c.sendall(b"SYN hops %d class %d, last hops %d class %d\n" % (first + last))
        c.close()
    while True: thread(one, *l.accept())

# Name servers, by the last number of their address: 53 answers, 54 fails, 55 refuses, 56 is silent.
def answer(q, mode, tcp):
    end = q.index(b"\0", 12) + 5
    name, kind = q[12:end - 4], struct.unpack("!H", q[end - 4:end - 2])[0]
    def head(rcode, n, tc=0): return q[:2] + struct.pack("!HHHHH", 0x8180 | rcode | tc << 9, 1, n, 0, 0) + q[12:end]
    rr = lambda a: b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04" + bytes(a)
    if mode == 54: return head(2, 0)
    if mode == 55: return head(5, 0)
    if not name.endswith(b"\x04test\0"): return head(3, 0)
    if kind != 1: return head(0, 0)
    if name.startswith(b"\x03big"):
        full = head(0, 120) + b"".join(rr((10, 1, i // 100, i % 100)) for i in range(120))
        return full if tcp else head(0, 0, 1)
    return head(0, 1) + rr((192, 0, 2, mode))

def names(mode):
    address = "198.51.100.%d" % mode
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    u.bind((address, 53))
    l = socket.create_server((address, 53))
    def one(c):
        f = c.makefile("rb")
        while True:
            h = f.read(2)
            if len(h) < 2: break
            q = f.read(struct.unpack("!H", h)[0])
            if mode == 56: continue
            a = answer(q, mode, True)
            c.sendall(struct.pack("!H", len(a)) + a)
        c.close()
    def accept():
        while True: thread(one, l.accept()[0])
    thread(accept)
    while True:
        q, who = u.recvfrom(4096)
        if mode != 56: u.sendto(answer(q, mode, False), who)

for v6 in (False, True):
    for function in (headers, another_port, echo, count, sniff, tcp): thread(function, v6)
    for port in (7003, 7006): thread(source, v6, port)
for mode in (53, 54, 55, 56): thread(names, mode)
time.sleep(0.5)
# How TCP connections end. 7029 tells what the last of them saw.
seen = {}
def reset(c):
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()
def read_all(c):
    length, ends = 0, "EOF"
    try:
        while data := c.recv(65536): length += len(data)
    except OSError as e: ends = e.strerror
    return "%d, %s" % (length, ends)
def half_close(c): c.sendall(read_all(c).encode())
def closes_first(c):
    c.shutdown(1)
    seen[c.family] = read_all(c)
def resets_after_answer(c):
    c.recv(1)
    c.sendall(b"answer")
    time.sleep(0.3)
    reset(c)
def resets(c):
    c.recv(1)
    reset(c)
def sees(c): seen[c.family] = read_all(c)
def sends_and_sees(c):
    c.sendall(b"unread")
    time.sleep(0.1)
    seen[c.family] = read_all(c)
def mute(c):
    "After its first data the remote's packets to the client are lost."
    c.recv(4)
    import subprocess
    client = c.getpeername()[0]
    subprocess.run(["ip", "route", "add", "blackhole", client])
    time.sleep(4)
    subprocess.run(["ip", "route", "del", "blackhole", client])
def out_of_reach(c):
    "After its first data a router cannot reach it."
    c.recv(4)
    import os, subprocess
    at = ["ip", "-n", os.environ["NAME"] + "-r", "route"]
    here = c.getsockname()[0] + "/32"
    subprocess.run(at + ["add", "unreachable", here])
    time.sleep(4)
    subprocess.run(at + ["del", "unreachable", here])
def takes_urgent(c):
    time.sleep(0.3)
    before, urgent = c.recv(99), c.recv(1, socket.MSG_OOB)
    c.sendall(b"%s then %s then %s" % (before, urgent, c.recv(99)))
def sends_urgent(c):
    c.recv(1)
    for data, flags in ((b"ab", 0), (b"!", socket.MSG_OOB), (b"cd", 0)): c.send(data, flags)
    c.recv(1)
def tells(c): c.sendall(seen.pop(c.family, "nothing").encode())
def ending(v6, port, how):
    l = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)
    if v6: l.setsockopt(41, 26, 1)
    l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    l.bind(("::" if v6 else "0.0.0.0", port))
    l.listen(50)
    def one(c):
        how(c)
        c.close()
    while True: thread(one, l.accept()[0])
def silent(v6):
    "Its queue is full."
    family, here = (socket.AF_INET6, "::1") if v6 else (socket.AF_INET, "127.0.0.1")
    l = socket.socket(family)
    if v6: l.setsockopt(41, 26, 1)
    l.bind(("::" if v6 else "0.0.0.0", 7026))
    l.listen(0)
    waiting = [socket.socket(family) for _ in range(4)]
    for w in waiting:
        w.setblocking(False)
        try: w.connect((here, 7026))
        except OSError: pass
    return l, waiting
ENDINGS = {7020: half_close, 7021: closes_first, 7022: resets_after_answer, 7023: resets, 7024: sees, 7025: sends_and_sees,
    7027: mute, 7028: sees, 7029: tells, 7032: takes_urgent, 7033: sends_urgent, 7034: out_of_reach}
for v6 in (False, True):
    for port, how in ENDINGS.items(): thread(ending, v6, port, how)
silences = [silent(False), silent(True)]
time.sleep(0.2)
print("ready", flush=True)
while True: time.sleep(100)
