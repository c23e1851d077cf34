//! Networks of the host that are also the program's default.

use std::process::Command;

use crate::support::{LASTACK, finish, require_all, require_tool};

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
