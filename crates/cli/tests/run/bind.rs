//! `--bind`: the address and the interface from which this host sends.

use std::process::Command;

use crate::support::{LASTACK, finish, read_report, require_all, require_tool};

/// A network of its own, in which this host has three addresses on the loopback interface, and a remote on a cable.
/// `listen` starts a server that prints the source of each first packet, of TCP, UDP and pings.
const NETWORK: &str = r#"
set -e
ip link set lo up
for address in 192.0.2.1 192.0.2.2 192.0.2.9; do ip addr add $address/32 dev lo; done
ip addr add 2001:db8::1/128 dev lo nodad
ip link add near type veth peer name far; ip link set near up; ip link set far up
ip addr add 198.51.100.1/24 dev near; ip link set near arp off
server='
import select, socket, sys, time
tcp = socket.create_server(("192.0.2.9", 7)); udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("192.0.2.9", 7)); raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
raw.bind(("192.0.2.9", 0)); print("ready", flush=True)
while True:
    for s in select.select([tcp, udp, raw], [], [])[0]:
        if s is tcp: c, who = s.accept(); c.recv(1); c.close(); print("tcp", who[0], flush=True)
        else:
            data, who = s.recvfrom(2000)
            if s is udp: udp.sendto(b"x", who); print("udp", who[0], flush=True)
            elif data[20] == 8: print("ping", who[0], flush=True)
'
listen() {
    python3 -c "$server" > "$place/seen" & trap 'kill $!' EXIT
    while [ ! -s "$place/seen" ]; do sleep 0.01; done
}
ask='
import socket, sys
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    s = socket.socket(socket.AF_INET, kind); s.settimeout(5); s.connect(("192.0.2.9", 7)); s.sendall(b"?"); s.recv(1)
'
"#;

fn play(script: &str) -> (std::process::Output, String) {
    let place = tempfile::tempdir().unwrap();
    let text = format!("place={}\nlastack={LASTACK}\n{NETWORK}\n{script}", place.path().display());
    let output = finish(Command::new("unshare").args(["--map-root-user", "--net", "bash", "-c", &text]));
    let report = std::fs::read_to_string(place.path().join("report")).unwrap_or_default();
    (output, report)
}

fn require_network() {
    require_all();
    ["ip", "unshare", "bash", "ping"].into_iter().for_each(require_tool);
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn tcp_udp_and_pings_come_from_the_bound_address() {
    require_network();
    let script = r#"
listen
for bind in 192.0.2.1 192.0.2.2; do
    $lastack run -q --bind $bind --bind 2001:db8::1 -- sh -c 'python3 -c "$0"; ping -c 1 -W 5 192.0.2.9 >/dev/null' "$ask"
done
cat "$place/seen""#;
    let (output, _) = play(script);
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    let of = |address: &str| format!("tcp {address}\nudp {address}\nping {address}\n");
    assert_eq!(seen, format!("ready\n{}{}", of("192.0.2.1"), of("192.0.2.2")), "{output:?}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn an_interface_is_the_only_way() {
    require_network();
    // Whoever is bound to the cable sees nothing of the addresses on the loopback interface.
    let script = r#"
listen
$lastack run -q --bind lo -- python3 -c "$ask"
$lastack run -q --host-loopback --bind near -- python3 -c '
import socket
s = socket.socket(); s.settimeout(1)
try: s.connect(("192.0.2.9", 7)); print("connected")
except OSError as e: print("not connected")
s = socket.socket(); s.settimeout(5)
try: s.connect(("10.0.2.2", 9))
except ConnectionRefusedError: print("the loopback answers")
'
tail -n +2 "$place/seen""#;
    let (output, _) = play(script);
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[..2], ["not connected", "the loopback answers"], "{output:?}");
    assert_eq!(lines.len(), 4, "TCP and UDP by the interface lo: {output:?}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_family_without_an_address_is_unreachable_and_reported() {
    require_network();
    let script = r#"
$lastack run --json -o "$place/report" --bind 192.0.2.1 -- python3 -c '
import errno, socket
s = socket.socket(socket.AF_INET6); s.settimeout(5)
try: s.connect(("2001:db8::1", 7))
except OSError as e: print(errno.errorcode[e.errno])
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.settimeout(5)
u.setsockopt(socket.IPPROTO_IPV6, 25, 1)  # IPV6_RECVERR
u.connect(("2001:db8::1", 7)); u.send(b"x")
try: u.recv(1)
except OSError as e: print(errno.errorcode[e.errno])
'"#;
    let (output, report) = play(script);
    let (stdout, ran) = (String::from_utf8_lossy(&output.stdout).into_owned(), read_report(output, &report));
    assert_eq!(stdout, "ENETUNREACH\nENETUNREACH\n", "{ran:?}");
    assert_eq!(ran.connections().count(), 2);
    for flow in ran.connections() {
        assert_eq!((&flow["cause"], &flow["by"]), (&"host-no-route".into(), &"host".into()), "{flow}");
        let (note, hint) = (flow["note"].as_str().unwrap(), flow["hint"].as_str().unwrap());
        assert!(note.contains("--bind") && hint.contains("--bind"), "{flow}");
    }
}

#[test]
fn an_address_that_cannot_be_bound_is_an_error_before_the_program_runs() {
    for (bind, cure) in [("192.0.2.77", "name an address of this host"), ("eth77", "ip -brief address")] {
        let output = finish(Command::new(LASTACK).args(["run", "--bind", bind, "echo", "ran"]));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains("--bind") && error.contains(cure), "{error}");
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(125), &b""[..]));
    }
}
