//! `--flight-recorder`: a capture for each connection that ended badly, and none for the others.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::support::{
    LASTACK, Server, closed_port, finish, lastack, read_report, require_all, require_tool, reset,
};

/// Reads a capture back with `lastack explain`: its connections.
fn explained(capture: &Path) -> Vec<Value> {
    let output = finish(Command::new(LASTACK).args(["explain", "--json"]).arg(capture));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["type"] == "connection").collect()
}

fn captures(directory: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_bad_end_leaves_a_capture_that_explain_reads_and_a_good_one_leaves_none() {
    require_all();
    let text: Vec<u8> = b"0123456789".repeat(1_000_000);
    let first = AtomicBool::new(true);
    let server = Server::new("127.0.0.1", 2, move |mut stream: TcpStream| {
        stream.write_all(&text).unwrap();
        if !first.swap(false, Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(200));
            reset(stream);
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let into = directory.path().join("new/flight");
    let program = "\
import socket, sys
def ends(port):
    try:
        s = socket.create_connection(('10.0.2.2', port))
        s.recv(10000000, socket.MSG_WAITALL)
        s.recv(1)
    except OSError as error:
        print(error.strerror)
ends(int(sys.argv[1]))
ends(int(sys.argv[1]))
ends(int(sys.argv[2]))";
    let (port, closed) = (server.port().to_string(), closed_port("127.0.0.1").to_string());
    let options = ["--host-loopback", "--flight-recorder", into.to_str().unwrap()];
    let ran = lastack(&options, &["python3", "-c", program, &port, &closed]);
    server.join();
    assert_eq!(String::from_utf8_lossy(&ran.output.stdout).lines().count(), 2, "{ran:?}");
    let files = captures(&into);
    assert_eq!(files.len(), 2, "{files:?}");
    let named: Vec<&Value> = ran.connections().map(|record| &record["capture"]).collect();
    for (file, cause) in files.iter().zip(["abort", "refused"]) {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(named.contains(&&Value::from(name)), "{name}: {named:?}");
        let record = ran.connections().find(|record| record["capture"] == name).unwrap();
        assert_eq!(record["cause"], cause, "{record}");
        assert!(name.contains(&format!("-{cause}-tcp-10.0.2.2-")), "{name}");
        let [one] = &explained(file)[..] else { panic!("{name}") };
        assert_eq!(one["client"], record["local"], "{one}");
        assert_eq!(one["cause"], cause, "{one}");
        let bytes = fs::read(file).unwrap();
        assert!(bytes.len() < 64 * 2048, "{} bytes", bytes.len());
        let said = |words: &str| bytes.windows(words.len()).any(|window| window == words.as_bytes());
        let of_report = format!("{} by the remote", cause.replace('-', " "));
        assert!(said(&of_report), "{name}");
        assert_eq!(said("were not kept"), cause != "refused", "{name}");
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_report_names_no_capture_that_a_full_disk_did_not_take() {
    require_all();
    require_tool("unshare");
    let place = tempfile::tempdir().unwrap();
    let (report, into) = (place.path().join("report"), place.path().join("full"));
    fs::create_dir(&into).unwrap();
    // 64 KiB, of which none, or half, is taken.
    for (taken, captured) in [(64, 0), (32, 1)] {
        let script = format!(
            "mount -t tmpfs -o size=64k none {into} && head -c {taken}k /dev/zero > {into}/taken
             {LASTACK} run --json -o {report} --flight-recorder {into} -- \
                 python3 -c 'import socket; socket.socket().connect_ex((\"10.0.2.2\", 9))'
             ls -A {into}",
            into = into.display(),
            report = report.display()
        );
        let mut command = Command::new("unshare");
        let output = finish(command.args(["--map-root-user", "--mount", "sh", "-c", &script]));
        let ran = read_report(output, &fs::read_to_string(&report).unwrap());
        let left = String::from_utf8_lossy(&ran.output.stdout).into_owned();
        let files: Vec<&str> = left.lines().filter(|name| *name != "taken").collect();
        let named: Vec<&str> = ran.connection()["capture"].as_str().into_iter().collect();
        assert_eq!((files.len(), &files), (captured, &named), "{ran:?}");
        let warned = ran.summary()["warnings"].to_string().contains("could not be written");
        assert_eq!(warned, captured == 0, "{ran:?}");
    }
}

#[test]
fn a_directory_that_cannot_be_is_an_error_before_the_program_runs() {
    let mut command = Command::new(LASTACK);
    let output = finish(command.args(["run", "--flight-recorder", "/dev/null/there", "echo", "ran"]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(125), &b""[..]), "{said}");
    assert!(said.contains("choose another directory for --flight-recorder"), "{said}");
}
