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
    records(&output).into_iter().filter(|record| record["type"] == "connection").collect()
}

/// Whether this is the cause of the record, or among its alternatives or what is true besides.
fn names(record: &Value, cause: &str) -> bool {
    let listed =
        |field: &str| record[field].as_array().is_some_and(|all| all.iter().any(|one| one["cause"] == cause));
    record["cause"] == cause || listed("alternatives") || listed("also")
}

#[test]
fn explain_agrees_with_the_lab() {
    let directory = tempfile::tempdir().unwrap();
    // The end that the lab reports of the host on the left, and the cause that `explain` must find.
    for (scenario, cause, by, explained_as) in [
        ("refused", "refused", "peer", "refused"),
        ("orderly", "orderly", "application", "orderly"),
        ("abort-linger", "aborted", "application", "abort"),
        ("abort-unread", "aborted", "application", "close-unread"),
    ] {
        let capture = directory.path().join(format!("{scenario}.pcapng"));
        let played = lastack(&["lab", scenario, "--json", "-w", capture.to_str().unwrap()]);
        let ends: Vec<Value> = records(&played).into_iter().filter(|line| line["type"] == "end").collect();
        assert!(ends.iter().any(|end| end["cause"] == cause && end["by"] == by), "{scenario}: {ends:#?}");
        let found = explained(&capture);
        assert!(found.iter().any(|record| names(record, explained_as)), "{scenario}: {found:#?}");
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
        assert!(names(record, of_run["cause"].as_str().unwrap()), "run: {of_run:#}\nexplain: {record:#}");
    }
    assert_eq!(found.len(), 3);
}
