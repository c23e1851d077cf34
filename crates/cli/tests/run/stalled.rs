//! A remote that does not read: what the program sends stays in the queues, and costs nothing while it is there.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{LASTACK, Running, Server, read_report, read_to_end, require_all};

/// Sends until there is no room, waits for a line, and ends.
const PROGRAM: &str = "
import socket, sys
s = socket.create_connection(('10.0.2.2', int(sys.argv[1])))
s.settimeout(1)
try:
    while True: s.send(b'x' * 65536)
except TimeoutError: print('full', flush=True)
sys.stdin.readline()";

/// CPU time of all threads of a process.
fn cpu(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    Duration::from_nanos(stats.filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok()).sum())
}

/// The program's kernel retransmits what the host's socket has no room for: neither does that keep lastack busy, nor does
/// the program give up, and all of it arrives.
#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn what_a_remote_has_no_room_for_costs_no_cpu_time() {
    require_all();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let server = Server::new("127.0.0.1", 1, move |mut stream: TcpStream| {
        wait.recv().unwrap();
        read_to_end(&mut stream).0.len() as u64
    });
    let report = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(LASTACK);
    command.args(["run", "--host-loopback", "--json", "-o"]).arg(report.path());
    command.args(["--", "python3", "-c", PROGRAM, &server.port().to_string()]);
    let mut run = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut line = String::new();
    BufReader::new(run.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "full\n");
    let before = cpu(run.id());
    std::thread::sleep(Duration::from_secs(3));
    let spent = cpu(run.id()) - before;
    run.stdin.take().unwrap().write_all(b"\n").unwrap();
    go.send(()).unwrap();
    let [heard] = server.join()[..] else { panic!("one connection") };
    let output = run.wait_with_stderr();
    let ran = read_report(output, &std::fs::read_to_string(report.path()).unwrap());
    assert_eq!(ran.output.status.code(), Some(0), "{ran:?}");
    assert_eq!(
        (&ran.connection()["octets"]["sent"], &ran.connection()["cause"]),
        (&heard.into(), &"orderly".into())
    );
    // A loop that does not wait takes seconds, on a busy machine its share of them.
    assert!(spent < Duration::from_millis(60), "{spent:?} of CPU time in 3 s");
}
