//! Network namespaces that exist already: `--join`, and the command lines of slirp4netns and pasta as podman and
//! rootlesskit write them.

use std::process::{Command, Output};

use crate::support::{LASTACK, finish, read_report, require_all, require_tool};

/// A host of its own, with a server on its loopback, and links to lastack under the names of the tools. `box` starts a
/// process in a network namespace; `$inside` is its id, and `/run/netns/box` its namespace.
const HOST: &str = r#"
set -e
mount -t tmpfs none /run; ip link set lo up; mkdir "$place/bin"
ln -s $lastack "$place/bin/slirp4netns"; ln -s $lastack "$place/bin/pasta"
python3 -c '
import socket
s = socket.create_server(("0.0.0.0", 8080)); print("ready", flush=True)
while True: c, _ = s.accept(); c.sendall(b"from the host\n"); c.close()' > "$place/ready" 2>/dev/null & others=$!
trap 'kill $others $inside 2>/dev/null || true' EXIT
while [ ! -s "$place/ready" ]; do sleep 0.01; done
box() {
    unshare --net sh -c 'echo up; exec sleep 60' > "$place/up" & inside=$!
    while [ ! -s "$place/up" ]; do sleep 0.01; done
    mkdir -p /run/netns; touch /run/netns/box; mount --bind /proc/$inside/ns/net /run/netns/box
}
in_box() { nsenter --net=/run/netns/box "$@"; }
gone() { for i in $(seq 400); do kill -0 $1 2>/dev/null || return 0; sleep 0.02; done; echo "$1 is still there"; }
ask='
import socket, sys
print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).makefile().read(), end="")'
serve='
import socket
s = socket.create_server(("0.0.0.0", 80)); print("ready", flush=True)
while True: c, who = s.accept(); c.sendall(b"from the box\n"); c.close()'
echo='
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 53))
while True: data, who = s.recvfrom(99); s.sendto(b"echo of " + data, who)'
ask_udp='
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1); s.connect(("127.0.0.1", int(sys.argv[1])))
try: s.send(b"x"); print(s.recv(99).decode())
except OSError: sys.exit(1)'
api='
import json, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(sys.argv[2].encode()); s.shutdown(socket.SHUT_WR)
print(json.dumps(json.loads(s.makefile().read()), sort_keys=True))'
"#;

fn play(script: &str) -> (Output, String) {
    let place = tempfile::tempdir().unwrap();
    let text = format!("place={}\nlastack={LASTACK}\n{HOST}\n{script}", place.path().display());
    let mut command = Command::new("unshare");
    let output = finish(command.args(["--map-root-user", "--net", "--mount", "bash", "-c", &text]));
    (output, std::fs::read_to_string(place.path().join("report")).unwrap_or_default())
}

fn said(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(str::to_owned).collect()
}

fn require_network() {
    require_all();
    ["ip", "unshare", "nsenter", "bash", "mount"].into_iter().for_each(require_tool);
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn several_programs_share_a_namespace_that_is_served_in_the_background() {
    require_network();
    let script = r#"
box
$lastack run --detach --join /run/netns/box --host-loopback --pid "$place/pid" --json -o "$place/report"
for i in 1 2; do in_box python3 -c "$ask" 10.0.2.2 8080; done
umount /run/netns/box; rm /run/netns/box
gone $(cat "$place/pid")
"#;
    let (output, report) = play(script);
    assert_eq!(said(&output), ["from the host", "from the host"], "{output:?}");
    let ran = read_report(output, &report);
    assert_eq!(ran.connections().filter(|end| end["comm"] == "python3").count(), 2, "{ran:?}");
    assert_eq!(ran.summary()["tcp"]["orderly"], 2);
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_program_joins_a_process_and_the_run_ends_with_either() {
    require_network();
    let script = r#"
box
$lastack run -q --host-loopback --join $inside -- python3 -c "$ask" 10.0.2.2 8080
# Without a program, until the process is gone.
$lastack run -q --join $inside --ready-fd 5 5> "$place/go" & run=$!
while [ ! -s "$place/go" ]; do sleep 0.01; done
cat "$place/go"; echo
# Another one has no place there, but a program may use the same network, by the PID of lastack or of any process.
$lastack run -q --join $inside true || echo "status $?"
kill $inside; wait $run; echo "ended $?"
"#;
    let (output, _) = play(script);
    assert_eq!(said(&output), ["from the host", "1", "status 125", "ended 0"], "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    for words in ["make the interface lastack0", "cause: another lastack serves", "cure: ", "nsenter"] {
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_namespace_that_cannot_be_joined_is_an_error_that_names_the_cure() {
    let own = std::process::id().to_string();
    for (arguments, words) in [
        (&["--join", &own, "true"][..], "network of this host"),
        (&["--join", "/dev/null", "true"], "is not a network namespace"),
        (&["--join", "4294967290"], "there is no process"),
        (&["--join-user", "/x", "true"], "--join"),
        (&["--ready-fd", "77", "true"], "descriptor 77 is not open"),
        (&["--ready-fd", "1", "true"], "descriptor 1 is the program's own: pass another one"),
        (&["--interface", "a-name-that-is-too-long", "true"], "up to 15 characters"),
        (&["--address", "192.0.2.1", "true"], "not in the program's network"),
        (&["--pid", "/nowhere/pid", "true"], "cannot write /nowhere/pid"),
        (&[], "COMMAND"),
    ] {
        let output = finish(Command::new(LASTACK).arg("run").args(arguments));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(125) && error.contains(words), "{arguments:?}: {error}");
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_run_in_the_background_fails_in_the_foreground() {
    require_network();
    let script = r#"
$lastack run --detach -q -- /nowhere/program || echo "status $?"
"#;
    let (output, _) = play(script);
    assert_eq!(said(&output), ["status 127"], "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/program"));
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn slirp4netns_as_podman_calls_it() {
    require_network();
    let script = r#"
box
mkfifo "$place/exit"; sleep 60 > "$place/exit" & exit=$!; exec 4< "$place/exit"
LASTACK_OPTIONS="--json -o $place/report" "$place/bin/slirp4netns" --mtu=65520 --enable-sandbox --enable-seccomp -c \
    -r 3 -e 4 --api-socket "$place/api" --netns-type=path /run/netns/box tap0 3> "$place/go" & slirp=$!
while [ ! -s "$place/go" ]; do sleep 0.01; done
in_box ip -o link show tap0 | grep -c 'link/ether'
in_box python3 -c "$ask" 10.0.2.2 8080
nsenter --net=/run/netns/box python3 -c "$serve" > "$place/served" & others="$others $!"
while [ ! -s "$place/served" ]; do sleep 0.01; done
call() { python3 -c "$api" "$place/api" "$1"; }
call '{"execute": "add_hostfwd", "arguments": {"proto": "tcp", "host_addr": "127.0.0.1", "host_port": 8181, "guest_addr": "", "guest_port": 80}}'
call '{"execute": "list_hostfwd"}'
for i in $(seq 100); do python3 -c "$ask" 127.0.0.1 8181 2>/dev/null && break; sleep 0.02; done
call '{"execute": "remove_hostfwd", "arguments": {"id": 1}}'
python3 -c "$ask" 127.0.0.1 8181 2>/dev/null || echo "not forwarded"
call '{"execute": "remove_hostfwd", "arguments": {"id": 1}}'
call '{"execute": "add_hostfwd", "arguments": {"proto": "tcp", "host_port": 8080, "guest_port": 80}}'
call '{"execute": "add_hostfwd", "arguments": {"proto": "udp", "host_addr": "127.0.0.1", "host_port": 8282, "guest_port": 53}}'
nsenter --net=/run/netns/box python3 -c "$echo" & others="$others $!"
for i in $(seq 100); do python3 -c "$ask_udp" 8282 && break; sleep 0.02; done
call '{"execute": "remove_hostfwd", "arguments": {"id": 2}}'
python3 -c "$ask_udp" 8282 || echo "not forwarded"
call 'nonsense'
kill $exit; wait $slirp; echo "ended $?"
"#;
    let (output, report) = play(script);
    let lines = said(&output);
    assert_eq!(
        lines[..7],
        [
            "1",
            "from the host",
            r#"{"return": {"id": 1}}"#,
            r#"{"return": {"entries": [{"guest_addr": "10.0.2.100", "guest_port": 80, "host_addr": "127.0.0.1", "host_port": 8181, "id": 1, "proto": "tcp"}]}}"#,
            "from the box",
            r#"{"return": {}}"#,
            "not forwarded",
        ],
        "{output:?}"
    );
    assert_eq!(
        lines[9..13],
        [r#"{"return": {"id": 2}}"#, "echo of x", r#"{"return": {}}"#, "not forwarded"],
        "{lines:?}"
    );
    for (line, words) in [(7, "unknown id 1"), (8, "cannot listen at 0.0.0.0:8080"), (13, "parse error")] {
        assert!(
            lines[line].contains(r#"{"error": {"desc": "bad request"#) && lines[line].contains(words),
            "{lines:?}"
        );
    }
    assert_eq!(lines[14..], ["ended 0"]);
    let ran = read_report(output, &report);
    assert!(
        ran.connections().any(|end| end["direction"] == "in") && ran.summary()["exit"]["status"] == 0,
        "{ran:?}"
    );
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn slirp4netns_and_pasta_as_rootlesskit_calls_them() {
    require_network();
    // The interface is made and configured by the caller; pasta configures its own and goes on in the background.
    let script = r#"
box
in_box ip tuntap add name tap0 mode tap; in_box ip link set tap0 up
"$place/bin/slirp4netns" --mtu 1500 -r 3 $inside tap0 3> "$place/go" & slirp=$!
while [ ! -s "$place/go" ]; do sleep 0.01; done
in_box ip addr add 10.0.2.100/24 dev tap0; in_box ip route add default via 10.0.2.2 dev tap0
in_box python3 -c "$ask" 10.0.2.2 8080
kill $slirp; wait $slirp || true; kill $inside; rm "$place/up"; umount /run/netns/box; box
"$place/bin/pasta" --stderr --ns-ifname=tap0 --mtu=65520 --config-net --address=10.0.2.100 --netmask=24 \
    --gateway=10.0.2.2 --dns-forward=10.0.2.3 --ipv4-only --tcp-ports=none --udp-ports=none $inside
in_box ip -o addr show tap0 | grep -c 'inet 10.0.2.100/24'
in_box python3 -c "$ask" 10.0.2.2 8080
"#;
    let (output, _) = play(script);
    assert_eq!(said(&output), ["from the host", "1", "from the host"], "{output:?}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn pasta_as_podman_calls_it() {
    require_network();
    let script = r#"
box; ip addr add 192.0.2.1/24 dev lo; ip route add default dev lo src 192.0.2.1
python3 -c '
import socket
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("127.0.0.1", 53)); print("ready", flush=True)
while True: data, who = u.recvfrom(512); u.sendto(data[:2] + b"\x81\x83" + data[4:], who)' > "$place/dns" & others="$others $!"
while [ ! -s "$place/dns" ]; do sleep 0.01; done
"$place/bin/pasta" -D 127.0.0.1 --config-net --pid "$place/pid" --dns-forward 169.254.1.1 -t 127.0.0.1/8181-8182:80-81 -u none -T none \
    -U none --no-map-gw --quiet --netns /run/netns/box --map-guest-addr 169.254.1.2
in_box python3 -c "$ask" 169.254.1.2 8080
in_box python3 -c "$ask" 10.0.2.2 8080 2>/dev/null || echo "not the loopback"
in_box python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); s.connect(("169.254.1.1", 53))
s.send(b"\0\7\1\0\0\1\0\0\0\0\0\0\1a\4test\0\0\1\0\1")
print(s.recv(100)[:2])'
nsenter --net=/run/netns/box python3 -c "$serve" > "$place/served" & others="$others $!"
while [ ! -s "$place/served" ]; do sleep 0.01; done
for i in $(seq 100); do python3 -c "$ask" 127.0.0.1 8181 2>/dev/null && break; sleep 0.02; done
umount /run/netns/box; rm /run/netns/box; gone $(cat "$place/pid")
"#;
    let (output, _) = play(script);
    let lines = said(&output);
    assert_eq!(lines[..2], ["from the host", "not the loopback"], "{output:?}");
    assert_eq!(lines[2..], [r"b'\x00\x07'", "from the box"], "{output:?}");
}

/// However lastack ends, also while it makes its interface, the network is as it was.
#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn no_interface_is_left_in_a_network_that_is_served() {
    require_network();
    let script = r#"
links() { for i in $(seq 400); do left=$(in_box ip -o link | grep -v ': lo:' | wc -l); [ $left = 0 ] && break; sleep 0.02; done; echo "$1: $left left"; }
box
for device in tun veth without; do
    option="--device $device"
    [ $device != without ] || { mount -t tmpfs none /dev/net; option=; }
    for signal in TERM KILL; do
        $lastack run -q --detach $option --join /run/netns/box --host-loopback --pid "$place/pid"
        in_box python3 -c "$ask" 10.0.2.2 8080
        kill -$signal $(cat "$place/pid"); gone $(cat "$place/pid")
        links "$device $signal"
    done
    in_box ip link set lo up; in_box ip route add default dev lo
    code=0; $lastack run -q $option --join /run/netns/box || code=$?
    in_box ip route del default dev lo
    links "$device fails with $code"
done
"#;
    let (output, _) = play(script);
    let expected = ["tun", "veth", "without"].into_iter().flat_map(|device| {
        let served = |signal: &str| ["from the host".to_owned(), format!("{device} {signal}: 0 left")];
        let fails = format!("{device} fails with 125: 0 left");
        served("TERM").into_iter().chain(served("KILL")).chain([fails])
    });
    assert_eq!(said(&output), expected.collect::<Vec<_>>(), "{output:?}");
}
