//! What a hostile program tries: each door to this host that is not open, and the processes of lastack.

use std::process::{Command, Output};

use crate::support::{LASTACK, finish, lastack, require_all, require_tool};

/// A host of its own with a service on every address: its loopback, link-local addresses, those of metadata services. It
/// prints each connection and datagram that reaches it. `try` is a program that tries every address by TCP and UDP.
const HOST: &str = r#"
set -e
ip link set lo up; sysctl -qw net.ipv6.bindv6only=1 2>/dev/null || true
for address in 169.254.169.254/32 169.254.7.7/32 192.0.2.1/32; do ip addr add $address dev lo; done
for address in fd00:ec2::254/128 2001:db8::1/128; do ip addr add $address dev lo nodad; done
ip link add near type veth peer name far; ip link set near up; ip link set far up
ip addr add fe80::77/64 dev near nodad; ip route add default dev near; ip -6 route add default dev near
python3 -c '
import select, socket
all = {}
for family, any in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        s = socket.socket(family, kind); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind((any, 7777)); all[s] = kind
        if kind == socket.SOCK_STREAM: s.listen(50)
print("ready", flush=True)
while True:
    for s in select.select(list(all), [], [])[0]:
        if all[s] == socket.SOCK_STREAM: c, _ = s.accept(); print("tcp to", c.getsockname()[0], flush=True); c.close()
        else: print("udp:", s.recv(100).decode(), flush=True)' > "$place/reached" & server=$!
trap 'kill $server' EXIT
while [ ! -s "$place/reached" ]; do sleep 0.01; done
cat > "$place/try.py" <<'END'
import socket, sys
for to in sys.argv[1:]:
    v6 = ":" in to; host, _, scope = to.partition("%")
    family = socket.AF_INET6 if v6 else socket.AF_INET
    at = (host, 7777, 0, socket.if_nametoindex(scope) if scope else 0) if v6 else (host, 7777)
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        s = socket.socket(family, kind); s.settimeout(1)
        try: s.connect(at); s.send(to.encode())
        except OSError: pass
END
settled() { sleep 0.3; tail -n +2 "$place/reached" | sort -u; }
"#;

/// Every address that leads to this host, or to a link of it.
const TRICKS: &str = "127.0.0.1 127.9.9.9 0.0.0.0 0.0.0.7 10.0.2.2 ::1 :: ::ffff:127.0.0.1 ::ffff:0.0.0.0 ::127.0.0.1 \
    fd00::2 169.254.169.254 169.254.7.7 ::ffff:169.254.169.254 fd00:ec2::254 fe80::77%lastack0 255.255.255.255";

fn play(script: &str) -> Output {
    let place = tempfile::tempdir().unwrap();
    let text =
        format!("place={}\nlastack={LASTACK}\ntricks='{TRICKS}'\n{HOST}\n{script}", place.path().display());
    finish(Command::new("unshare").args(["--map-root-user", "--net", "bash", "-c", &text]))
}

fn said(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn no_address_leads_to_this_hosts_own_services() {
    require_all();
    require_tool("ip");
    let output = play(r#"$lastack run -q -- python3 "$place/try.py" $tricks; settled; echo end"#);
    assert_eq!(said(&output), ["end"], "{output:?}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn each_door_opens_by_its_own_option() {
    require_all();
    require_tool("ip");
    let script = r#"
$lastack run -q --host-loopback -- python3 "$place/try.py" $tricks; settled; echo loopback
$lastack run -q --link-local -- python3 "$place/try.py" 169.254.169.254 fd00:ec2::254 127.0.0.1 10.0.2.2; settled
"#;
    let output = play(script);
    let lines = said(&output);
    let at = lines.iter().position(|line| line == "loopback").unwrap();
    // By the gateway, and by nothing else.
    assert_eq!(
        lines[..at],
        ["tcp to 127.0.0.1", "tcp to ::1", "udp: 10.0.2.2", "udp: fd00::2"],
        "{output:?}"
    );
    for line in
        ["tcp to 169.254.169.254", "tcp to fd00:ec2::254", "udp: 169.254.169.254", "udp: fd00:ec2::254"]
    {
        assert!(lines[at..].contains(&line.to_owned()), "{line}: {output:?}");
    }
    assert_eq!(lines[at + 1..].len(), 8, "{output:?}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_processes_of_lastack_cannot_be_inspected_or_taken_over() {
    require_all();
    // Whatever can be seen is tried: the supervisor is process 1; with the host's process ids, all the others, too.
    let script = r#"
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
def refused(what, action):
    try: action(); print("possible:", what)
    except (PermissionError, ProcessLookupError, FileNotFoundError): pass
def call(result):
    if result < 0: raise OSError(ctypes.get_errno(), "refused")
own = {os.getpid()}
targets = [1] if sys.argv[1] == "inside" else []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try: line = open(f"/proc/{pid}/cmdline").read()
    except OSError: continue
    if os.path.basename(line.split("\0")[0]) == "lastack" or "__attend" in line: targets.append(int(pid))
targets = set(targets) - own
for pid in targets:
    for name in ("mem", "environ", "maps"):
        refused(f"read {name} of {pid}", lambda: open(f"/proc/{pid}/{name}", "rb").read(1))
    refused(f"descriptors of {pid}", lambda: [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")])
    refused(f"root of {pid}", lambda: os.listdir(f"/proc/{pid}/root/"))
    refused(f"attach to {pid}", lambda: call(libc.ptrace(16, pid, 0, 0)))
    refused(f"seize {pid}", lambda: call(libc.ptrace(0x4206, pid, 0, 0)))
    def take():
        pidfd = libc.syscall(434, pid, 0); call(pidfd)
        call(libc.syscall(438, pidfd, 3, 0))
    refused(f"take a descriptor of {pid}", take)
    def enter():
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY); call(libc.setns(fd, 0))
        print("entered", sorted(os.listdir("/sys/class/net")))
    refused(f"network of {pid}", enter) if sys.argv[1] == "host" else None
print("tried", len(targets))
"#;
    for (options, place) in [(&["-q"][..], "inside"), (&["-q", "--host-pids"], "host")] {
        let mut command = Command::new(LASTACK);
        let output = finish(command.arg("run").args(options).args(["python3", "-c", script, place]));
        let lines = said(&output);
        let tried: usize =
            lines.last().and_then(|line| line.strip_prefix("tried ")?.parse().ok()).unwrap_or(0);
        assert!(
            tried >= if place == "inside" { 1 } else { 2 } && lines.len() == 1,
            "{options:?}: {output:?}"
        );
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn lastack_and_its_attendant_keep_no_rights() {
    require_all();
    // It confines itself once the program runs, which may be a moment later.
    let script = "\
import os, sys, time
def of(pid, name): return next(l.split()[1] for l in open(f'/proc/{pid}/status') if l.startswith(name + ':'))
def kinds():
    main = os.environ['MAIN'].strip()
    yield 'lastack', main
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            words = open(f'/proc/{pid}/cmdline').read().split('\\0')
            if '__attend' in words and of(pid, 'PPid') == main: yield 'attendant', pid
        except (OSError, StopIteration): pass
for attempt in range(100):
    lines = [' '.join([kind, *(of(pid, name) for name in ('CapEff', 'NoNewPrivs', 'Seccomp'))]) for kind, pid in kinds()]
    if len(lines) == 2 and all(line.endswith(' 1 2') for line in lines): break
    time.sleep(0.02)
print(*lines, sep='\\n')";
    let ran = lastack(
        &["--host-pids"],
        &["sh", "-c", "MAIN=$(ps -o ppid= -p $PPID) exec python3 -c \"$0\"", script],
    );
    let lines = said(&ran.output);
    let find = |kind: &str| {
        lines.iter().find(|line| line.starts_with(kind)).unwrap_or_else(|| panic!("{kind}: {ran:?}"))
    };
    let rights = |line: &str| u64::from_str_radix(line.split(' ').nth(1).unwrap(), 16).unwrap();
    assert_eq!(rights(find("lastack ")) & !(1 << 13), 0, "{ran:?}");
    // CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE, in the program's namespaces.
    assert_eq!(rights(find("attendant ")) & !(1 << 2 | 1 << 19), 0, "{ran:?}");
    assert!(lines.iter().all(|line| line.ends_with(" 1 2")), "no_new_privs and a filter: {ran:?}");
}
