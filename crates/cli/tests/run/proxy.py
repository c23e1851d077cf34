# A proxy for the tests: SOCKS5 with user and password "user:secret" on the first port, without on the second, without
# UDP on the third; HTTP CONNECT on the fourth. It knows the names *.test, which are its own loopback, and prints what it
# was asked for. Requests for some ports are answered with an error.
import select, socket, sys, threading

def log(*words): print(*words, flush=True)

def exactly(c, n):
    data = b""
    while len(data) < n:
        more = c.recv(n - len(data))
        if not more: raise EOFError
        data += more
    return data

def pump(a, b):
    try:
        while data := a.recv(65536): b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    except OSError: pass

def join(a, b):
    t = threading.Thread(target=pump, args=(a, b), daemon=True); t.start()
    pump(b, a); t.join()

def resolve(name): return "127.0.0.1" if name.endswith(".test") else name

def read_address(kind, take):
    if kind == 1: return socket.inet_ntop(socket.AF_INET, take(4))
    if kind == 4: return socket.inet_ntop(socket.AF_INET6, take(16))
    return take(take(1)[0]).decode()

def socks(c, password, udp):
    version, count = exactly(c, 2); methods = exactly(c, count)
    if password:
        if 2 not in methods: c.sendall(b"\5\xff"); return
        c.sendall(b"\5\2")
        _, n = exactly(c, 2); user = exactly(c, n); n = exactly(c, 1)[0]; secret = exactly(c, n)
        good = (user, secret) == (b"user", b"secret")
        c.sendall(b"\1\0" if good else b"\1\1")
        if not good: return
    else: c.sendall(b"\5\0")
    _, command, _, kind = exactly(c, 4)
    host = read_address(kind, lambda n: exactly(c, n)); port = int.from_bytes(exactly(c, 2), "big")
    if command == 3:
        if not udp: c.sendall(b"\5\7\0\1\0\0\0\0\0\0"); return
        u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("127.0.0.1", 0))
        out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        c.sendall(b"\5\0\0\1\0\0\0\0" + u.getsockname()[1].to_bytes(2, "big"))
        client = None
        while True:
            for s in select.select([c, u, out], [], [])[0]:
                if s is c: return
                data, who = s.recvfrom(65536)
                if s is u:
                    client, rest = who, data[4:]
                    def take(n):
                        nonlocal rest
                        piece, rest = rest[:n], rest[n:]
                        return piece
                    host = read_address(data[3], take); port = int.from_bytes(take(2), "big")
                    log("udp", host, port)
                    out.sendto(rest, (resolve(host), port))
                else:
                    u.sendto(b"\0\0\0\1" + socket.inet_aton(who[0]) + who[1].to_bytes(2, "big") + data, client)
    log("tcp", host, port)
    if port < 10: c.sendall(bytes([5, port, 0, 1, 0, 0, 0, 0, 0, 0])); return
    if port == 10: return
    try: remote = socket.create_connection((resolve(host), port))
    except ConnectionRefusedError: c.sendall(b"\5\5\0\1\0\0\0\0\0\0"); return
    c.sendall(b"\5\0\0\1\0\0\0\0\0\0"); join(c, remote)

def http(c):
    head = b""
    while not head.endswith(b"\r\n\r\n"): head += exactly(c, 1)
    to = head.split()[1].decode(); host, port = to.rsplit(":", 1); log("connect", to)
    if int(port) < 10: c.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n"); return
    try: remote = socket.create_connection((resolve(host), int(port)))
    except ConnectionRefusedError:
        c.sendall(b"HTTP/1.1 502 Bad Gateway\r\nProxy-Status: test; error=connection_refused\r\n\r\n"); return
    c.sendall(b"HTTP/1.1 200 OK\r\n\r\n"); join(c, remote)

def serve(listener, handle):
    def one(c):
        try: handle(c)
        except (EOFError, OSError): pass
        c.close()
    while True: threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

handlers = [lambda c: socks(c, True, True), lambda c: socks(c, False, True), lambda c: socks(c, False, False), http]
listeners = [socket.create_server(("127.0.0.1", 0)) for _ in handlers]
print(*[l.getsockname()[1] for l in listeners], flush=True)
for l, h in zip(listeners, handlers): threading.Thread(target=serve, args=(l, h), daemon=True).start()
sys.stdin.read()
