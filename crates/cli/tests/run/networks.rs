//! Networks of the host that are also the program's default.

use std::process::Command;

use crate::support::{LASTACK, finish, read_report, require_all, require_tool};

/// A host with a neighbour in 10.0.2.0/24 and in fd00::/64.
const HOST: &str = r#"
set -e
ip link set lo up; ip link add near type veth peer name far
unshare --net sh -c 'echo up; exec sleep 60' > "$place/up" & peer=$!; server=; trap 'kill $peer $server 2>/dev/null' EXIT
while [ ! -s "$place/up" ]; do sleep 0.01; done
there="nsenter -t $peer -n"
ip link set far netns $peer
ip addr add 10.0.2.1/24 dev near; ip addr add fd00::1/64 dev near nodad; ip link set near up
$there ip addr add 10.0.2.77/24 dev far; $there ip addr add fd00::77/64 dev far nodad
$there ip link set far up
$there python3 -c '
import socket
s = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True); print("ready", flush=True)
while True: c, who = s.accept(); c.sendall(c.getsockname()[0].encode()); c.close()' > "$place/ready" & server=$!
while [ ! -s "$place/ready" ]; do sleep 0.01; done
$lastack run -q -- $lastack run -q -- python3 -c '
import socket
for to in ("10.0.2.77", "fd00::77"):
    print(socket.create_connection((to, 8080), 5).makefile().read().removeprefix("::ffff:"))'
"#;

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_network_of_the_host_stays_reachable_also_in_a_nested_run() {
    require_all();
    ["ip", "unshare", "nsenter", "bash"].into_iter().for_each(require_tool);
    let place = tempfile::tempdir().unwrap();
    let text = format!("place={}\nlastack={LASTACK}\n{HOST}", place.path().display());
    let output = finish(Command::new("unshare").args(["--map-root-user", "--net", "bash", "-c", &text]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "10.0.2.77\nfd00::77\n", "{output:?}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn uploads_are_not_paced_between_the_program_and_lastack() {
    require_all();
    let read = ["cat", "/proc/sys/net/ipv4/tcp_congestion_control"];
    let output = finish(Command::new(LASTACK).args(["run", "-q", "--"]).args(read));
    let used = String::from_utf8_lossy(&output.stdout);
    assert!(!used.trim().is_empty() && !used.starts_with("bbr"), "{output:?}");
}

/// What a socket of either kind gets of a host that has no route, or none to these networks, in at most two calls.
const NO_ROUTE: &str = r#"
import errno, socket, sys
for to in sys.argv[1:]:
    for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
        s = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, kind)
        s.settimeout(60)
        try:
            s.connect((to, 80)); s.send(b"x"); s.recv(1)
            print(to, "answers")
        except OSError as e: print(to, errno.errorcode.get(e.errno, e))
"#;

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_host_without_a_route_says_so_at_once() {
    require_all();
    ["ip", "unshare"].into_iter().for_each(require_tool);
    let script = format!(
        "ip link set lo up; \"$@\" 192.0.2.1 240.0.0.1 254.1.2.3; echo; \
         {LASTACK} run -q -- \"$@\" 192.0.2.1 240.0.0.1 254.1.2.3"
    );
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "sh", "-c", &script, "sh", "python3", "-c", NO_ROUTE]);
    let output = finish(&mut command);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (kernel, ours) = said.split_once("\n\n").unwrap_or_else(|| panic!("{output:?}"));
    assert_eq!(kernel.lines().count(), 6, "{said}");
    assert!(kernel.lines().all(|line| line.ends_with(" ENETUNREACH")), "{said}");
    assert_eq!(ours.trim_end(), kernel, "{said}");
}

/// A host whose network takes a kilobyte a second, and keeps three: what exceeds it is dropped by the host itself.
const SLOW: &str =
    "ip link set lo up; ip link add near type veth peer name far; ip addr add 192.0.2.2/24 dev near
ip link set near arp off up; ip link set far up; ip route add default via 192.0.2.1 dev near
tc qdisc add dev near root tbf rate 8kbit burst 1600 limit 3000 || exit 99";

const SEND: &str = r#"
import errno, socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(("198.51.100.1", 9))
seen = set()
for i in range(101):
    if i == 100: time.sleep(0.2)
    try: s.send(bytes(1000)); seen.add("sent")
    except OSError as e: seen.add(errno.errorcode[e.errno])
print(*seen)
"#;

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn what_the_host_drops_is_a_loss_and_no_error() {
    require_all();
    ["ip", "tc", "unshare"].into_iter().for_each(require_tool);
    let report = tempfile::NamedTempFile::new().unwrap();
    let path = report.path().display();
    let script = format!("{SLOW}\n\"$@\" && {LASTACK} run --json -o {path} -- \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "sh", "-c", &script, "sh", "python3", "-c", SEND]);
    let output = finish(&mut command);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "sent\nsent\n", "{output:?}");
    let ran = read_report(output, &std::fs::read_to_string(report.path()).unwrap());
    assert_ne!(ran.connection()["cause"], "host-resources", "{ran:?}");
    assert!(ran.summary()["dropped"].as_u64().unwrap() > 0, "{ran:?}");
}

/// A router that is a member of a group, and a program that sends to the group with several TTLs.
const MEMBER: &str = r#"
ip link set lo up; unshare --net sh -c 'echo up; exec sleep 60' > "$place/up" & peer=$!; server=
trap 'kill $peer $server 2>/dev/null' EXIT
while [ ! -s "$place/up" ]; do sleep 0.01; done
ip link add near type veth peer name far netns $peer; there="nsenter -t $peer -n"
ip addr add 192.0.2.2/24 dev near; ip link set near up; ip route add default via 192.0.2.1 dev near
$there ip addr add 192.0.2.1/24 dev far; $there ip link set far up
$there python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 5353))
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.1.2.3") + socket.inet_aton("192.0.2.1"))
print("ready", flush=True)
while (data := s.recv(9)) != b"end": print(data.decode(), flush=True)' > "$place/got" & server=$!
while [ ! -s "$place/got" ]; do sleep 0.01; done
$lastack run --json -o "$place/report" -- python3 -c '
import socket, time
for ttl in range(3):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
    s.sendto(b"ttl %d" % ttl, ("239.1.2.3", 5353))
s.sendto(b"end", ("239.1.2.3", 5353))'
wait $server; cat "$place/got"
"#;

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_datagram_to_a_group_with_ttl_0_stays_on_the_host() {
    require_all();
    ["ip", "unshare", "nsenter", "bash"].into_iter().for_each(require_tool);
    let place = tempfile::tempdir().unwrap();
    let text = format!("place={}\nlastack={LASTACK}\n{MEMBER}", place.path().display());
    let output = finish(Command::new("unshare").args(["--map-root-user", "--net", "bash", "-c", &text]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ready\nttl 1\nttl 2\n", "{output:?}");
    let ran = read_report(output, &std::fs::read_to_string(place.path().join("report")).unwrap());
    let stayed =
        ran.connections().filter(|flow| flow["note"].as_str().is_some_and(|note| note.contains("TTL 0")));
    assert_eq!(stayed.map(|flow| &flow["severity"]).collect::<Vec<_>>(), ["benign"], "{ran:?}");
}
