"""The client that runs in front of lastack and without it. Prints one JSON object: what it saw."""
import errno, fcntl, hashlib, json, os, select, socket, struct, sys, termios, threading, time

what, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
rest = sys.argv[4:]
family = socket.AF_INET6 if ":" in host else socket.AF_INET
began = time.time()


def name(error):
    return errno.errorcode.get(error.errno, "TIMEOUT") if error.errno else "TIMEOUT"


def connect(timeout=20):
    s = socket.socket(family, socket.SOCK_STREAM)
    s.settimeout(timeout)
    s.connect((host, port))
    return s


def read_all(s):
    """The octets up to the end, and how it ended."""
    data = b""
    while True:
        try:
            piece = s.recv(65536)
        except OSError as error:
            return data, name(error)
        if not piece:
            return data, "EOF"
        data += piece


def read():
    data, end = read_all(connect())
    return {"data": data.decode(), "end": end}


def ask():
    """Sends, then reads to the end."""
    s = connect()
    s.sendall(b"12345")
    data, end = read_all(s)
    return {"data": data.decode(), "end": end}


def grandparents():
    """The most memory that one of those in front of us has had, in KiB: one is lastack."""
    most, pid = 0, os.getppid()
    while pid > 1:
        status = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status"))
        if status["Name"].strip() == "lastack":
            most = max(most, int(status["VmHWM"].split()[0]))
        pid = int(status["PPid"])
    return most


def stalled():
    """Many connections that nobody reads, until nothing moves; then all are read."""
    count = int(rest[0])
    connections = [connect() for _ in range(count)]
    before = None
    while (moved := sum(waiting(s) for s in connections)) != before:
        before = moved
        time.sleep(0.5)
    memory = grandparents()
    ends = [read_all(s) for s in connections]
    return {"memory": memory, "octets": sum(len(data) for data, _ in ends), "ends": sorted({end for _, end in ends})}


def waiting(s):
    return struct.unpack("i", fcntl.ioctl(s, termios.FIONREAD, b"    "))[0]


def half_close():
    s = connect()
    s.sendall(b"question")
    s.shutdown(socket.SHUT_WR)
    data, end = read_all(s)
    return {"data": data.decode(), "end": end}


def abort():
    s = connect()
    s.sendall(b"hello")
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
    return {"end": "aborted"}


def close_unread():
    """Waits until there is something to read, and closes instead."""
    s = connect()
    select.select([s], [], [], 20)
    s.close()
    return {"end": "closed"}


def impatient():
    """Waits for 3 seconds to be connected."""
    connect(3)
    return {"end": "connected"}


def push_until_error():
    """Sends small pieces until that fails, as a program that only writes. The remote has closed before the first."""
    s = connect()
    time.sleep(0.2)
    for _ in range(400):
        try:
            s.send(b"x")
        except OSError as error:
            return {"end": name(error)}
        time.sleep(0.01)
    return {"end": "sent all"}


def hold():
    s = connect()
    s.sendall(b"hello")
    time.sleep(float(rest[0]))
    return {"end": "held"}


def udp():
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(5)
    s.connect((host, port))
    s.send(rest[0].encode())
    return {"data": s.recv(65536).decode(), "end": "answered"}


def udp_large():
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(5)
    s.connect((host, port))
    sent = bytes(i % 251 for i in range(60000))
    s.send(sent)
    return {"end": "same" if s.recv(65536) == sent else "other"}


def bulk_both():
    """Sends so many octets while it receives as many, each way with its hash."""
    s = connect(120)
    length = int(rest[0])
    block = hashlib.sha256(b"up").digest() * 2048

    def send():
        left = length
        while left > 0:
            s.sendall(block[: min(left, len(block))])
            left -= len(block)
        s.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    digest, count = hashlib.sha256(), 0
    while piece := s.recv(1 << 20):
        digest.update(piece)
        count += len(piece)
    thread.join()
    return {"received": count, "sha256": digest.hexdigest(), "end": "EOF"}


def many():
    """So many connections at once; each gets back what it sent."""
    connections = []
    for i in range(int(rest[0])):
        connections.append(connect())
    for i, s in enumerate(connections):
        s.sendall(b"number %d\n" % i)
    good = 0
    for i, s in enumerate(connections):
        s.shutdown(socket.SHUT_WR)
        good += read_all(s) == (b"number %d\n" % i, "EOF")
    return {"good": good, "end": "done"}


try:
    seen = globals()[what]()
except OSError as error:
    seen = {"end": name(error)}
seen["seconds"] = time.time() - began
print(json.dumps(seen))
