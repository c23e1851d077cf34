//! Bounds of `run` (docs/bounds.md), driven past their value.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{LASTACK, Running, finish, lastack, read_report, require_all};

/// Runs `$0` with arguments in a network without hosts that answer.
const SILENCE: &str = "ip link set lo up; ip link add d0 type veth peer name d1; ip link set d0 arp off
    ip addr add 10.77.0.1/16 dev d0; ip link set d0 up; ip link set d1 up; ulimit -n 4096; exec \"$0\" run \"$@\"";

/// `lastack run` with a report in that file, in this network.
fn in_silence(report: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "sh", "-ec", SILENCE, LASTACK, "--json", "-o"]).arg(report);
    command
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn records_of_many_remotes_are_written_early() {
    require_all();
    const REMOTES: usize = 2500;
    let report = tempfile::NamedTempFile::new().unwrap();
    let records = || {
        let lines = std::fs::read_to_string(report.path()).unwrap();
        let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines
            .filter(|line| line["type"] == "connection")
            .map(|line| line["remote"].to_string())
            .collect::<Vec<_>>()
    };
    let inside = format!(
        "import socket, sys, time\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         for n in range({REMOTES}):\n    s.sendto(b'x', ('10.77.%d.%d' % (1 + n // 200, 1 + n % 200), 9))\n    if n % 50 == 0: time.sleep(0.01)\n\
         time.sleep(0.5); print('sent', flush=True); sys.stdin.readline()"
    );
    let mut command = in_silence(report.path());
    command.args(["--", "python3", "-c", &inside]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = Running::start(&mut command);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "sent\n");
    let begun = std::time::Instant::now();
    let mut early = records().len();
    while early < REMOTES - 1024 && begun.elapsed().as_secs() < 20 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        early = records().len();
    }
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert!(early >= REMOTES - 1024, "{early} of {REMOTES} while the socket is open");
    // None is lost, and none is written twice.
    let mut all = records();
    all.sort_unstable();
    all.dedup();
    assert_eq!((all.len(), records().len()), (REMOTES, REMOTES));
}

/// More closed ports than records are kept for: the errors belong to the records that are written early, too.
#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn many_closed_ports_of_one_socket_have_a_record_each() {
    require_all();
    const PORTS: usize = 2500;
    let first = PORTS + 10_000;
    let program = format!(
        "import socket, time\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         for port in range({first}, {first} + {PORTS}): s.sendto(b'x', ('10.0.2.2', port))\ntime.sleep(0.5)"
    );
    let ran = lastack(&["--host-loopback"], &["python3", "-c", &program]);
    assert_eq!(ran.output.status.code(), Some(0), "{ran:?}");
    let mut remotes = std::collections::BTreeSet::new();
    let mut refused = 0;
    for connection in ran.connections() {
        assert!(remotes.insert(connection["remote"].as_str().unwrap()), "a second record: {connection}");
        assert_eq!(
            (&connection["octets"]["sent"], &connection["octets"]["received"]),
            (&1.into(), &0.into())
        );
        refused += usize::from(connection["cause"] == "icmp-port-unreachable");
    }
    assert_eq!(remotes.len(), PORTS);
    // A service of this host may use one of the ports.
    assert!(refused >= PORTS - 10, "{refused} of {PORTS} have their error");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn more_pings_than_are_kept_are_refused() {
    require_all();
    let report = tempfile::NamedTempFile::new().unwrap();
    // Each request has an identifier of its own, and so is a ping of its own.
    let inside = r"
import socket, struct, time
def sum16(b):
    n = sum(struct.unpack('!%dH' % (len(b) // 2), b))
    while n >> 16: n = (n & 0xffff) + (n >> 16)
    return ~n & 0xffff
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.settimeout(1)
for ident in range(1, 1101):
    b = struct.pack('!BBHHH', 8, 0, 0, ident, 1)
    s.sendto(b[:2] + struct.pack('!H', sum16(b)) + b[4:], ('10.77.0.99', 0))
    if ident % 50 == 0: time.sleep(0.01)
time.sleep(0.5)
";
    let mut command = in_silence(report.path());
    command.args(["--", "python3", "-c", inside]);
    let output = finish(&mut command);
    let ran = read_report(output, &std::fs::read_to_string(report.path()).unwrap());
    assert!(ran.output.status.success(), "{ran:?}");
    let pings = &ran.summary()["echo"];
    assert_eq!(
        (pings["asked"].as_u64(), pings["answered"].as_u64(), pings["failed"].as_u64()),
        (Some(1100), Some(0), Some(1100 - 1024)),
        "{pings}"
    );
}
