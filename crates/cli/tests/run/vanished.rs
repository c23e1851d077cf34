//! Remotes that vanish without a word, and what of a connection is left when the program has given it up: beside the
//! kernel, in a network of two hosts with a cable between them.

use std::process::{Command, Output, Stdio};

use crate::support::{AT_ONCE, LASTACK, finish, read_report, require_all, require_tool};

/// Two hosts: this script's, 192.0.2.1, and the remote, 192.0.2.2, whose process is `$remote`. Their neighbours are known
/// for good, so that silence is silence. `vanish`: from now on the remote hears nothing.
const NETWORK: &str = r#"
set -e
export place
ip link set lo up
# The remote ends with this shell.
unshare --net sh -c 'echo up; exec sleep 1000' > "$place/up" & remote=$!
trap 'kill $remote $others 2>/dev/null' EXIT
while [ ! -s "$place/up" ]; do sleep 0.01; done
on_remote() { nsenter -t $remote -n "$@"; }
ip link add near type veth peer name far netns $remote
ip addr add 192.0.2.1/24 dev near; ip link set near up
on_remote sh -c 'ip link set lo up; ip link set far up; ip addr add 192.0.2.2/24 dev far'
ip neigh replace 192.0.2.2 lladdr "$(on_remote cat /proc/net/dev >/dev/null; on_remote ip -o link show far | sed 's/.*ether \([^ ]*\).*/\1/')" nud permanent dev near
on_remote ip neigh replace 192.0.2.1 lladdr "$(ip -o link show near | sed 's/.*ether \([^ ]*\).*/\1/')" nud permanent dev far
vanish_later() { (while [ ! -s "$place/connected" ]; do sleep 0.02; done; sleep 0.2; vanish) & }
vanish() { on_remote ip link set far address 02:00:00:00:00:77; }
serve() {
    nsenter -t $remote -n python3 -c '
import socket
listener = socket.create_server(("192.0.2.2", 7000), backlog=100)
print("ready", flush=True)
kept = []
while True: kept.append(listener.accept()[0])' > "$place/ready" & others="$others $!"
    while [ ! -s "$place/ready" ]; do sleep 0.01; done
}
"#;

/// Runs `script` there; `run` stands for nothing or for lastack with these options.
fn played(script: &str, run: &str) -> Output {
    let place = tempfile::tempdir().unwrap();
    let text = format!("place={}\nothers=\nrun='{run}'\n{NETWORK}\n{script}", place.path().display());
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "bash", "-c", &text]).stdin(Stdio::null());
    finish(&mut command)
}

fn said(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(!said.is_empty(), "{output:?}");
    said
}

/// What the program says on the kernel and in front of lastack, and lastack's report.
fn both(script: &str) -> (String, String, Vec<serde_json::Value>) {
    let report = tempfile::NamedTempFile::new().unwrap();
    let kernel = played(script, "");
    let run = format!("{LASTACK} run --json -o {} --", report.path().display());
    let relayed = played(script, &run);
    let (kernel, seen) = (said(&kernel), said(&relayed));
    let report = read_report(relayed, &std::fs::read_to_string(report.path()).unwrap()).report;
    (kernel, seen, report)
}

fn require_network() {
    require_all();
    ["ip", "unshare", "nsenter", "bash"].into_iter().for_each(require_tool);
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn keep_alive_notices_a_remote_that_vanished() {
    require_network();
    let script = r#"
serve; vanish_later
$run python3 -c '
import os, socket, time, errno
s = socket.create_connection(("192.0.2.2", 7000), 5)
open(os.environ["place"] + "/connected", "w").write("now")
s.settimeout(20)
s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL): s.setsockopt(socket.IPPROTO_TCP, option, 1)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
begun = time.monotonic()
try: s.recv(1)
except OSError as error: print(errno.errorcode.get(error.errno), "soon" if 3 < time.monotonic() - begun < 15 else "late")'
"#;
    let (kernel, seen, report) = both(script);
    assert_eq!(kernel, "ETIMEDOUT soon");
    assert_eq!(seen, kernel, "{report:?}");
    assert_eq!(report[0]["cause"], "keepalive-timeout", "{report:?}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn keep_alive_keeps_a_connection_to_a_live_remote() {
    require_network();
    let script = r#"
serve
$run python3 -c '
import socket
s = socket.create_connection(("192.0.2.2", 7000), 5)
s.settimeout(6)
s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL): s.setsockopt(socket.IPPROTO_TCP, option, 1)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
try: s.recv(1)
except TimeoutError as error: print("silent, and alive" if error.errno is None else error)'
"#;
    let (kernel, seen, report) = both(script);
    assert_eq!((seen.as_str(), kernel.as_str()), ("silent, and alive", "silent, and alive"), "{report:?}");
}

/// The user timeout, and the host's own limit of retransmissions: what the remote has not acknowledged was not
/// acknowledged for it.
#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn data_into_silence_times_out() {
    require_network();
    for (setting, option) in [
        ("true", "s.setsockopt(socket.IPPROTO_TCP, 18, 3000)"),
        ("sysctl -qw net.ipv4.tcp_retries2=3", "pass"),
    ] {
        let script = format!(
            r#"
{setting}; serve; vanish_later
$run python3 -c '
import os, socket, time, errno
s = socket.create_connection(("192.0.2.2", 7000), 5)
open(os.environ["place"] + "/connected", "w").write("now")
{option}
time.sleep(1.5)
s.sendall(b"anybody?")
s.settimeout(60)
begun = time.monotonic()
try: print(s.recv(1))
except OSError as error: print(errno.errorcode.get(error.errno), "soon" if time.monotonic() - begun < 10 else "late")'
"#
        );
        let (kernel, seen, report) = both(&script);
        assert_eq!(kernel, "ETIMEDOUT soon", "{setting}");
        assert_eq!(seen, kernel, "{setting}: {report:?}");
    }
}

/// A program that closes its attempts leaves none of them behind, on either side.
#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn attempts_that_are_given_up_are_given_up_to_the_remote() {
    require_network();
    let script = r#"
vanish
$run python3 -c '
import os, socket, time
for i in range(20):
    s = socket.socket(); s.settimeout(0.02)
    try: s.connect(("192.0.2.2", 1000 + i))
    except TimeoutError: pass
    s.close()
open(os.environ["place"] + "/closed", "w").write("now")
time.sleep(3)' & program=$!
while [ ! -s "$place/closed" ]; do sleep 0.02; done
# An attempt that is not given up lasts for two minutes.
for i in $(seq 200); do left=$(ss -tanH state syn-sent | wc -l); [ $left = 0 ] && break; sleep 0.05; done
echo $left
wait $program
"#;
    let (kernel, seen, report) = both(script);
    assert_eq!((kernel.as_str(), seen.as_str()), ("0", "0"));
    let connections: Vec<_> = report.iter().filter(|line| line["type"] == "connection").collect();
    assert_eq!(connections.len(), 20);
    for connection in connections {
        assert_eq!((&connection["by"], &connection["state"]), (&"program".into(), &"SYN-SENT".into()));
        let seconds = connection["duration_us"].as_f64().map_or(0.0, |micros| micros / 1e6);
        assert!(seconds < AT_ONCE, "{connection}");
    }
}

/// A connection that only the program closed is left to the host's kernel, as soon as no process holds it.
#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_connection_that_the_program_closed_costs_no_descriptor() {
    require_network();
    let script = r#"
serve
$run python3 -c '
import os, socket, time
for i in range(20):
    s = socket.create_connection(("192.0.2.2", 7000)); s.sendall(b"hello"); s.close()
open(os.environ["place"] + "/closed", "w").write("now")
while not os.path.exists(os.environ["place"] + "/counted"): time.sleep(0.05)' & program=$!
while [ ! -s "$place/closed" ]; do sleep 0.02; done
for i in $(seq 200); do
    held=0
    for p in $(pgrep -P $program lastack) $program; do n=$(ls -l /proc/$p/fd 2>/dev/null | grep -c socket: || true); [ "$n" -gt $held ] && held=$n; done
    closed=$(ss -tanH state fin-wait-2 | wc -l)
    [ $held -lt 20 ] && [ $closed = 20 ] && break; sleep 0.05
done
[ $held -lt 20 ] && echo few || echo $held
echo $closed
echo now > "$place/counted"
wait $program
"#;
    let (kernel, seen, report) = both(script);
    assert_eq!(kernel, "few\n20");
    assert_eq!(seen, kernel, "{report:?}");
}
