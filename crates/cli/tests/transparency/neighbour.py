# A neighbour of the host: answers what is sent to mDNS groups, and broadcasts.
import os, socket, struct, threading, time

def mdns(family, group, level, join, interface, loop, own):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6: s.setsockopt(41, 26, 1)
    s.bind(("", 5353))
    s.setsockopt(level, join, socket.inet_pton(family, group) + own)
    s.setsockopt(level, interface, own)
    s.setsockopt(level, loop, 0)
    while True:
        data, who = s.recvfrom(2000)
        if data == b"question":
            s.sendto(b"to one", who)
            s.sendto(b"to all", (group, 5353) + ((0, who[3]) if family == socket.AF_INET6 else ()))

def broadcast():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("", 6767))
    while True:
        data, who = s.recvfrom(2000)
        s.sendto(b"heard", who)

def metadata():
    l = socket.create_server(("169.254.169.254", 7041))
    while True:
        c, _ = l.accept()
        c.sendall(b"secret")
        c.close()

# The address of this end of the link alone.
for line in open("/proc/net/if_inet6"):
    digits, _, _, scope, _, interface = line.split()
    if (scope, interface) == ("20", "r0"):
        with open(os.environ["PLACE"] + "/link-local", "w") as f: f.write(socket.inet_ntop(10, bytes.fromhex(digits)))

index = struct.pack("=I", socket.if_nametoindex("r0"))
threads = [(mdns, (socket.AF_INET, "224.0.0.251", 0, 35, 32, 34, socket.inet_aton("192.0.2.2"))),
           (mdns, (socket.AF_INET6, "ff02::fb", 41, 20, 17, 19, index)), (broadcast, ()), (metadata, ())]
for function, arguments in threads: threading.Thread(target=function, args=arguments, daemon=True).start()
time.sleep(0.5)
print("ready", flush=True)
while True: time.sleep(100)
