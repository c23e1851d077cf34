//! `explain` on the captures that `lab -w` and `run -w` write agrees with what `lab` and `run` reported.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;

const LASTACK: &str = env!("CARGO_BIN_EXE_lastack");

fn lastack(arguments: &[&str]) -> Output {
    Command::new(LASTACK).args(arguments).output().unwrap()
}

fn records(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The connections that `explain` finds in a capture.
fn explained(capture: &Path) -> Vec<Value> {
    let output = lastack(&["explain", "--all", "--json", capture.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let of_an_end = |record: &Value| record["type"] == "connection" || record["type"] == "icmp";
    records(&output).into_iter().filter(of_an_end).collect()
}

/// A scenario, an end of it in the lab's words, and the connections in those of `explain`.
type Scenario = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// For each scenario of the lab: what it says of the end of its first host, and the cause and the party that `explain` must find for each
/// connection of the capture.
const LAB: &[Scenario] = &[
    ("refused", "refused", &[("refused", "server")]),
    ("refused-then-listening", "orderly", &[("refused", "server"), ("orderly", "client")]),
    ("silent-host", "timed-out", &[("silent-drop", "nobody")]),
    ("udp-unreachable", "", &[("icmp-port-unreachable", "server")]),
    ("simultaneous-open", "orderly", &[("orderly", "client")]),
    ("orderly", "orderly", &[("orderly", "client")]),
    ("half-close", "orderly", &[("orderly", "client")]),
    ("simultaneous-close", "orderly", &[("orderly", "both")]),
    ("abort-linger", "aborted", &[("client-cancelled", "client")]),
    ("abort-unread", "aborted", &[("close-unread", "server")]),
    ("half-open-data", "reset", &[("lost-state", "client")]),
    ("half-open-keepalive", "reset", &[("lost-state", "client")]),
    ("half-open-syn", "reset", &[("port-reuse", "client"), ("port-reuse", "client")]),
    ("half-open-silent", "timed-out", &[("delivery-timeout", "server")]),
    ("blind-reset", "reset", &[("injected", "path")]),
];

#[test]
fn explain_agrees_with_the_lab() {
    let directory = tempfile::tempdir().unwrap();
    let list = lastack(&["lab", "--list"]);
    let list = String::from_utf8(list.stdout).unwrap();
    let scenarios: Vec<&str> =
        list.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next()).collect();
    let known: Vec<&str> = LAB.iter().map(|(scenario, ..)| *scenario).collect();
    assert_eq!(scenarios, known);
    for (scenario, end, expected) in LAB {
        let capture = directory.path().join(format!("{scenario}.pcapng"));
        let played = lastack(&["lab", scenario, "--json", "-w", capture.to_str().unwrap()]);
        let ends: Vec<Value> = records(&played).into_iter().filter(|line| line["type"] == "end").collect();
        assert!(end.is_empty() || ends.iter().any(|said| said["cause"] == *end), "{scenario}: {ends:#?}");
        let found = explained(&capture);
        let said: Vec<(&str, &str)> = found
            .iter()
            .map(|record| (record["cause"].as_str().unwrap(), record["ended_by"].as_str().unwrap()))
            .collect();
        assert_eq!(said, *expected, "{scenario}: {found:#?}");
        for reset in
            found.iter().filter(|record| record["rst_frames"].as_array().is_some_and(|all| !all.is_empty()))
        {
            assert!(
                reset["confidence"].as_f64().unwrap() >= 0.9 || *scenario == "half-open-silent",
                "{reset:#}"
            );
        }
    }
}

/// A server on the loopback that treats each connection like this, and its port.
fn server(treat: fn(TcpStream)) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().for_each(|stream| treat(stream.unwrap())));
    port
}

fn answer(mut stream: TcpStream) {
    let _request = stream.read(&mut [0; 100]).unwrap();
    stream.write_all(b"hello").unwrap();
}

fn reset(mut stream: TcpStream) {
    let _request = stream.read(&mut [0; 100]).unwrap();
    stream.write_all(b"hel").unwrap();
    thread::sleep(std::time::Duration::from_millis(200));
    setsockopt(&stream.as_fd(), sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
}

#[test]
#[ignore = "needs namespaces and python3"]
fn explain_agrees_with_run() {
    let works = lastack(&["run", "-q", "--", "true"]);
    if !works.status.success() {
        panic!("cannot run here: lastack run does not work here: {}", String::from_utf8_lossy(&works.stderr));
    }
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ports = [closed, server(answer), server(reset)];
    let directory = tempfile::tempdir().unwrap();
    let (capture, report) = (directory.path().join("run.pcapng"), directory.path().join("run.jsonl"));
    let client = "import socket, sys\nfor port in sys.argv[1:]:\n  try:\n    s = socket.create_connection(('10.0.2.2', int(port)))\n    \
                  s.sendall(b'question')\n    while s.recv(100): pass\n    s.close()\n  except OSError as error: print(error)\n";
    let ports = ports.map(|port| port.to_string());
    let files = ["-w", capture.to_str().unwrap(), "-o", report.to_str().unwrap()];
    let head =
        ["run", "--host-loopback", "--json"].into_iter().chain(files).chain(["--", "python3", "-c", client]);
    let ran = lastack(&head.chain(ports.iter().map(String::as_str)).collect::<Vec<_>>());
    assert!(ran.status.success(), "{ran:?}");
    let report = std::fs::read_to_string(&report).unwrap();
    let reported: HashMap<String, Value> = report
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["type"] == "connection" && line["proto"] == "tcp")
        .map(|line| (line["remote"].as_str().unwrap().to_owned(), line))
        .collect();
    assert_eq!(reported.len(), 3, "{report}");
    let found = explained(&capture);
    for record in &found {
        let of_run = &reported[record["server"].as_str().unwrap()];
        assert_eq!(record["cause"], of_run["cause"], "run: {of_run:#}\nexplain: {record:#}");
    }
    assert_eq!(found.len(), 3);
}

/// A client that sends a request to the port of its argument, reads 3000 bytes, and sends a little more.
const CLIENT: &str = "import socket, sys, time\ntry:\n  s = socket.create_connection(('10.0.2.2', int(sys.argv[1])), timeout=8)\n  \
                      s.settimeout(2)\n  s.sendall(b'Q' * 1600 + b'\\n')\n  n = 0\n  while n < 3000:\n    d = s.recv(3000)\n    \
                      if not d: break\n    n += len(d)\n  time.sleep(0.1)\n  s.sendall(b'again\\n')\n  s.close()\n\
                      except OSError as error: print(error)\n";

fn download(mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut part = [0; 2000];
    while !request.ends_with(b"\n") {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return,
            Ok(n) => request.extend_from_slice(&part[..n]),
        }
    }
    let _ = stream.write_all(&[b'A'; 3000]);
    while stream.read(&mut part).is_ok_and(|n| n > 0) {}
}

/// Faults of every kind, at several places.
const FAULTS: &[&str] = &[
    "refuse",
    "unreach=net",
    "unreach=admin",
    "rst",
    "rst:after=2k:direction=down",
    "rst=program",
    "rst=remote",
    "rst:state=syn",
    "rst:state=fin",
    "rst:seq=window",
    "rst:seq=outside",
    "half-open:after=100",
    "blackhole:after=100",
    "delay=20ms",
    "loss=0.2",
    "reorder=0.3",
    "duplicate=0.3",
    "corrupt=0.2",
    "rate=200k",
    "zero-window",
    "mtu-hole=600",
    "slow-close=300ms",
    "cut-fin",
    "unreach=host",
    "rst:after=100",
    "blackhole",
    "blackhole:after=1k:direction=down",
    "delay=3s",
    "loss=1",
    "zero-window:after=100",
    "zero-window:direction=down",
    "half-open",
];

#[test]
#[ignore = "needs namespaces and python3"]
fn explain_agrees_with_run_on_injected_faults() {
    let port = server(|stream| {
        thread::spawn(|| download(stream));
    });
    let directory = tempfile::tempdir().unwrap();
    let play = |fault: &str| {
        let (capture, report) =
            (directory.path().join(format!("{fault}.pcapng")), directory.path().join(fault));
        let ran = lastack(&[
            "run",
            "--host-loopback",
            "--json",
            "--seed",
            "1",
            "-w",
            capture.to_str().unwrap(),
            "-o",
            report.to_str().unwrap(),
            "--inject",
            fault,
            "--",
            "python3",
            "-c",
            CLIENT,
            &port.to_string(),
        ]);
        assert!(ran.status.success(), "{fault}: {ran:?}");
        let report = std::fs::read_to_string(&report).unwrap();
        let reported: Vec<Value> = report.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of_run = reported.iter().find(|line| line["type"] == "connection").unwrap();
        let found = explained(&capture);
        rewritten_alike(&capture);
        assert_eq!(found.len(), 1, "{fault}: {found:#?}");
        assert_eq!(found[0]["cause"], of_run["cause"], "{fault}\nrun: {of_run:#}\nexplain: {:#}", found[0]);
        assert_eq!(
            found[0]["severity"], of_run["severity"],
            "{fault}\nrun: {of_run:#}\nexplain: {:#}",
            found[0]
        );
        if of_run["cause"] == "fault-injected" {
            assert_eq!(
                (&of_run["by"], &found[0]["ended_by"]),
                (&"lastack".into(), &"lastack".into()),
                "{fault}"
            );
            let text = lastack(&["explain", capture.to_str().unwrap()]);
            let text = String::from_utf8_lossy(&text.stdout).into_owned();
            assert!(text.contains("fault-injected by lastack"), "{fault}: {text}");
        }
    };
    let play = &play;
    thread::scope(|scope| FAULTS.iter().for_each(|fault| drop(scope.spawn(move || play(fault)))));
}

/// How a server treats a request, and for how long its client waits.
fn stay_silent(mut stream: TcpStream) {
    let _request = stream.read(&mut [0; 2000]);
    let _waits = stream.read(&mut [0; 1]);
    thread::sleep(std::time::Duration::from_secs(5));
}

fn stop_halfway(mut stream: TcpStream) {
    let _request = stream.read(&mut [0; 2000]);
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nthe beginning");
    stay_silent(stream);
}

fn close_halfway(mut stream: TcpStream) {
    let _request = stream.read(&mut [0; 2000]);
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nthe beginning");
}

fn reset_halfway(mut stream: TcpStream) {
    let _request = stream.read(&mut [0; 2000]);
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nthe beginning");
    thread::sleep(std::time::Duration::from_millis(200));
    setsockopt(&stream.as_fd(), sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
}

/// A chunked answer: these parts of it, and then the close.
fn close_after(mut stream: TcpStream, parts: &[&str]) {
    let _request = stream.read(&mut [0; 2000]);
    for part in parts {
        let _ = stream.write_all(part.as_bytes());
        thread::sleep(std::time::Duration::from_millis(20));
    }
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";

fn close_between_chunks(stream: TcpStream) {
    close_after(stream, &[CHUNKED, "3\r\nabc\r\n"]);
}

fn close_within_a_chunk(stream: TcpStream) {
    close_after(stream, &[&CHUNKED[..20], &CHUNKED[20..], "f0\r\nabc"]);
}

fn close_after_the_last_chunk(stream: TcpStream) {
    close_after(stream, &[CHUNKED, "3;x=y\r\nabc\r\n0", "\r\n\r\n"]);
}

fn close_within_the_head(stream: TcpStream) {
    close_after(stream, &["HTTP/1.1 200 OK\r\nContent-"]);
}

fn close_unanswered(mut stream: TcpStream) {
    let _request = stream.read(&mut [0; 2000]);
}

/// Answers before the request, and closes: the request meets a closed socket.
fn close_at_once(mut stream: TcpStream) {
    let _ = stream.write_all(b"220 busy\r\n");
}

fn stream_on(mut stream: TcpStream) {
    let _request = stream.read(&mut [0; 2000]);
    while stream.write_all(&[b'A'; 10_000]).is_ok() {}
}

/// A client that sends a request to each of the ports, reads a little of the answer, and waits for no more than a second.
const IMPATIENT: &str = "import socket, sys, time\nfor port in sys.argv[1:]:\n  try:\n    s = socket.create_connection(('10.0.2.2', int(port)), timeout=5)\n    \
                         time.sleep(0.1)\n    s.sendall(b'GET / HTTP/1.1\\r\\n\\r\\n')\n    s.settimeout(1)\n    n = 0\n    \
                         while n < 2000:\n      d = s.recv(2000)\n      if not d: break\n      n += len(d)\n  except OSError as error: print(error)\n  s.close()\n";

#[test]
#[ignore = "needs namespaces and python3"]
fn an_answer_that_is_missing_is_reported_and_explained_alike() {
    type Server = (fn(TcpStream), &'static str, &'static str);
    let servers: [Server; 11] = [
        (stay_silent, "no-answer", "suspicious"),
        (stop_halfway, "no-answer", "suspicious"),
        (close_halfway, "orderly", "harmful"),
        (close_between_chunks, "orderly", "harmful"),
        (close_within_a_chunk, "orderly", "harmful"),
        (close_after_the_last_chunk, "orderly", "benign"),
        (close_within_the_head, "orderly", "harmful"),
        (reset_halfway, "abort", "harmful"),
        (close_unanswered, "no-answer", "harmful"),
        (close_at_once, "data-after-close", "harmful"),
        (stream_on, "client-cancelled", "benign"),
    ];
    let ports = servers.map(|(treat, ..)| server(treat).to_string());
    let directory = tempfile::tempdir().unwrap();
    let (capture, report) = (directory.path().join("run.pcapng"), directory.path().join("run.jsonl"));
    let files = ["-w", capture.to_str().unwrap(), "-o", report.to_str().unwrap()];
    let head = ["run", "--host-loopback", "--json", "--fail-on", "harmful"].into_iter().chain(files);
    let head = head.chain(["--", "python3", "-c", IMPATIENT]);
    let ran = lastack(&head.chain(ports.iter().map(String::as_str)).collect::<Vec<_>>());
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    let report = std::fs::read_to_string(&report).unwrap();
    let reported: Vec<Value> = report.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found = explained(&capture);
    for ((_, cause, severity), port) in servers.iter().zip(&ports) {
        let of = |all: &[Value], field: &str| {
            let found = all
                .iter()
                .find(|line| line[field].as_str().is_some_and(|to| to.ends_with(&format!(":{port}"))));
            found.cloned().unwrap_or_default()
        };
        let (run, explain) = (of(&reported, "remote"), of(&found, "server"));
        for record in [&run, &explain] {
            assert_eq!(
                (record["cause"].as_str(), record["severity"].as_str()),
                (Some(*cause), Some(*severity)),
                "run: {run:#}\nexplain: {explain:#}"
            );
        }
    }
    rewritten_alike(&capture);
}

/// What `-w` of `explain` writes has the ends that the run stated.
fn rewritten_alike(capture: &Path) {
    let ends = |capture: &Path| {
        let of_one =
            |record: &Value| ["cause", "severity", "ended_by"].map(|field| record[field].to_string());
        let mut ends: Vec<_> = explained(capture).iter().map(of_one).collect();
        ends.sort();
        ends
    };
    let original = ends(capture);
    for options in [&["--all"][..], &["--all-packets"], &["--all", "--anonymize"]] {
        let written = capture.with_extension("again.pcapng");
        let files = ["-q", "-w", written.to_str().unwrap(), capture.to_str().unwrap()];
        assert!(lastack(&[&["explain"], options, &files].concat()).status.success());
        assert_eq!(ends(&written), original, "{options:?}");
    }
}

/// A client that sends datagrams to the port of its argument, and waits a little for an answer to each.
const QUESTIONS: &str = "import socket, sys\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.connect(('10.0.2.2', int(sys.argv[1])))\n\
                         s.settimeout(0.3)\nfor i in range(3):\n  try:\n    s.send(b'question')\n    s.recv(100)\n  except OSError as error: print(error)\n";

#[test]
#[ignore = "needs namespaces and python3"]
fn errors_that_faults_return_to_datagrams_are_those_of_lastack() {
    let remote = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = remote.local_addr().unwrap().port().to_string();
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("run.pcapng");
    for fault in ["refuse", "unreach=net", "unreach=admin"] {
        let arguments = ["run", "-q", "--host-loopback", "--inject", fault, "-w", capture.to_str().unwrap()];
        let command = ["--", "python3", "-c", QUESTIONS, &port];
        let ran = lastack(&[&arguments[..], &command[..]].concat());
        assert!(ran.status.success(), "{ran:?}");
        let found = explained(&capture);
        assert_eq!(found.len(), 1, "{found:#?}");
        let said = ["type", "proto", "cause", "ended_by"].map(|field| found[0][field].as_str().unwrap());
        assert_eq!(said, ["icmp", "udp", "fault-injected", "lastack"], "{fault}");
    }
}
