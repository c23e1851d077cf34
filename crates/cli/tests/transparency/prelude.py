import errno, os, socket, struct, sys, time
S4, S6 = "198.51.100.9", "2001:db8:2::9"
BOTH = (S4, S6)
NAMES = {-2: "no such name", -3: "try again", -5: "no address"}
# Routers limit such errors to one a second.
def pause(): time.sleep(1.1)
def name(e):
    if isinstance(e, socket.gaierror): return NAMES.get(e.errno, str(e))
    return errno.errorcode.get(e.errno, "timed out") if isinstance(e.errno, int) else "timed out"
def udp(host=S4, limit=4):
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(limit)
    return s
def icmp(host=S4, limit=4):
    v6 = ":" in host
    s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM, 58 if v6 else 1)
    s.settimeout(limit)
    return s
def echo(host, octets=8): return bytes([128 if ":" in host else 8, 0, 0, 0, 0, 0, 0, 1]) + bytes(octets)
def tell_errors(s): s.setsockopt(*((41, 25) if s.family == socket.AF_INET6 else (0, 11)), 1)
def said(s, limit=2):
    "The first entry of the error queue."
    end = time.monotonic() + limit
    while time.monotonic() < end:
        try: data, controls, flags, to = s.recvmsg(2048, 512, 0x2000 | 0x40)
        except BlockingIOError:
            time.sleep(0.02)
            continue
        for level, kind, data in controls:
            if (level, kind) not in ((0, 11), (41, 25)): continue
            number, origin, t, code, _, info, _ = struct.unpack("=IBBBBII", data[:16])
            who = {1: "local", 2: "ICMP %d/%d" % (t, code), 3: "ICMPv6 %d/%d" % (t, code)}[origin]
            family, rest = struct.unpack("=H", data[16:18])[0], data[16:]
            by = socket.inet_ntoa(rest[4:8]) if family == 2 else socket.inet_ntop(10, rest[8:24]) if family == 10 else ""
            return errno.errorcode[number] + ", " + who + (" mtu %d" % info if number == errno.EMSGSIZE else "") + (
                " from " + by if by and origin > 1 else "") + (" about port %d" % to[1] if s.type == 2 and to and origin > 1 and to[1] else "")
    return "nothing"
def fields(controls):
    ttl = tos = None
    for level, kind, data in controls:
        number = data[0] if len(data) == 1 else struct.unpack("=i", data[:4])[0]
        if (level, kind) in ((0, 2), (0, 12), (41, 52)): ttl = number
        if (level, kind) in ((0, 1), (0, 13), (41, 67)): tos = number
    return "hops %s class %s" % (ttl, tos)
def error_fields(s, limit=2):
    "The header fields of the first error."
    end = time.monotonic() + limit
    while time.monotonic() < end:
        try: return fields(s.recvmsg(2048, 512, 0x2000 | 0x40)[1])
        except BlockingIOError: time.sleep(0.02)
    return "nothing"
def ask_fields(s):
    for level, option in ((41, 51), (41, 66)) if s.family == socket.AF_INET6 else ((0, 12), (0, 13)):
        s.setsockopt(level, option, 1)
def set_hops(s, n): s.setsockopt(*((41, 16) if s.family == socket.AF_INET6 else (0, 2)), n)
def set_class(s, n): s.setsockopt(*((41, 67) if s.family == socket.AF_INET6 else (0, 1)), n)
def set_df(s, mode): s.setsockopt(*((41, 23) if s.family == socket.AF_INET6 else (0, 10)), mode)
def mtu(s): return s.getsockopt(*((41, 24) if s.family == socket.AF_INET6 else (0, 14)))
def collect(s):
    "What comes within a second, without the program's own."
    got, end = [], time.monotonic() + 1
    while time.monotonic() < end:
        s.settimeout(max(0.01, end - time.monotonic()))
        try: data, who = s.recvfrom(2000)
        except OSError: continue
        if data != b"question": got.append((data.decode(), who[1]))
    return sorted(got)
def tcp(host, port, limit=4): return socket.create_connection((host, port), limit)
def last(host):
    "What the server saw of the last connection."
    return tcp(host, 7029).recv(99).decode()
def attempt(f, *a):
    try: return f(*a)
    except OSError as e: return name(e)
def tell(*parts): print(*(part.strip() if isinstance(part, str) else part for part in parts), flush=True)
def same(what):
    "Whether the surroundings of a program of the host are ours."
    sys.path.insert(0, os.environ["PLACE"])
    import surroundings
    theirs, ours = eval(open(os.environ["PLACE"] + "/surroundings").read())[what], surroundings.all()[what]
    return theirs == ours
