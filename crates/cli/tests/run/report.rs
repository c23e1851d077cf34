//! The report and the exit status.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use serde_json::Value;

use crate::support::{
    LASTACK, NETWORKS, Running, Server, closed_port, finish, lastack, read_report, relayed, require_all,
    require_namespaces, require_tool,
};

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_exit_status_is_the_programs() {
    require_namespaces();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("exit 125", 125)] {
        let ran = lastack(&[], &["sh", "-c", script]);
        assert_eq!(ran.output.status.code(), Some(code));
        assert_eq!(ran.summary()["exit"], serde_json::json!({"status": code}));
    }
    let ran = lastack(&[], &["sh", "-c", "kill -TERM $$"]);
    assert_eq!(ran.output.status.signal(), Some(15), "the signal is raised again");
    assert_eq!(ran.summary()["exit"], serde_json::json!({"signal": 15}));
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn standard_output_is_the_programs_alone() {
    require_all();
    let port = closed_port("127.0.0.1");
    let script = format!("import socket; socket.socket().connect_ex(('10.0.2.2', {port})); print('mine')");
    let output = finish(Command::new(LASTACK).args(["run", "--host-loopback", "python3", "-c", &script]));
    assert_eq!(output.stdout, b"mine\n");
    let report = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = report.lines().collect();
    assert_eq!(lines.len(), 2, "{report}");
    assert!(lines[0].contains(&format!(" ✗ refused by the remote  10.0.2.2:{port}  ")), "{report}");
    assert!(lines[1].starts_with("lastack: 1 TCP connection: 1 refused;"), "{report}");
    assert!(!report.contains('\x1b'), "no colours in a pipe");
}

/// Runs a program with an orderly connection and a refused one, with these options.
fn two_ends(options: &[&str]) -> String {
    let server = Server::new("127.0.0.1", 1, drop);
    let (open, closed) = (server.port(), closed_port("127.0.0.1"));
    let script = format!(
        "import socket; s = socket.create_connection(('10.0.2.2', {open})); s.recv(1); s.close(); \
         socket.socket().connect_ex(('10.0.2.2', {closed}))"
    );
    let mut command = Command::new(LASTACK);
    command.args(["run", "--host-loopback"]).args(options).args(["--", "python3", "-c", &script]);
    let output = finish(&mut command);
    assert!(output.status.success(), "{output:?}");
    server.join();
    String::from_utf8(output.stderr).unwrap()
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_report_has_the_requested_detail() {
    require_all();
    assert_eq!(two_ends(&[]).lines().count(), 2, "the refused one, and the summary");
    assert_eq!(two_ends(&["-v"]).lines().count(), 3, "both, and the summary");
    assert_eq!(two_ends(&["-c"]).lines().count(), 1, "the summary");
    assert_eq!(two_ends(&["-q"]), "");
    assert!(two_ends(&["--color=always"]).contains("\x1b["));
    let json = two_ends(&["--json"]);
    assert_eq!(json.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count(), 3, "{json}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn every_line_of_json_has_the_promised_fields() {
    require_all();
    let json = two_ends(&["--json"]);
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["v"] == lastack_run::report::VERSION));
    for line in lines.iter().filter(|line| line["type"] == "connection") {
        for word in [
            "proto",
            "direction",
            "local",
            "remote",
            "remote_ip",
            "cause",
            "code",
            "severity",
            "outcome",
            "by",
        ] {
            assert!(line[word].is_string(), "{word} of {line}");
        }
        for word in ["rule", "rule_code", "state", "opened", "ended"] {
            assert!(line[word].is_string(), "{word} of {line}");
        }
        for number in ["remote_port", "late", "duration_us"] {
            assert!(line[number].is_u64(), "{number} of {line}");
        }
        let cause: lastack_causes::Cause = line["cause"].as_str().unwrap().parse().unwrap();
        assert_eq!(line["code"], cause.code());
        for (object, numbers) in
            [("lost", &["unsent", "unacked", "unread"][..]), ("octets", &["sent", "received"])]
        {
            assert!(numbers.iter().all(|number| line[object][number].is_u64()), "{object} of {line}");
        }
        let rule: lastack::Rule = line["rule_code"].as_str().unwrap().parse().unwrap();
        assert!(!rule.text().is_empty());
        for end in ["local", "remote"] {
            let _address: std::net::SocketAddr = line[end].as_str().unwrap().parse().unwrap();
        }
        let time = |name: &str| line[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert!(time("opened") <= time("ended"));
        assert_eq!(line["opened"].as_str().unwrap().len(), "2026-11-22T10:00:00.000000000Z".len());
    }
    assert_eq!(lines.last().unwrap()["type"], "summary");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn every_field_and_word_is_explained() {
    require_all();
    let page = include_str!("../../../../docs/report.md");
    let explained = |name: &str| page.contains(&format!("`{name}`"));
    for line in two_ends(&["--json"]).lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        for (name, value) in
            line.as_object().unwrap().iter().filter(|(name, _)| !["v", "type"].contains(&name.as_str()))
        {
            let parts = value
                .as_object()
                .filter(|_| ["lost", "octets"].contains(&name.as_str()) && line["type"] == "connection");
            match parts {
                Some(parts) => parts
                    .keys()
                    .for_each(|part| assert!(explained(&format!("{name}.{part}")), "{name}.{part}")),
                None => assert!(explained(name), "{name}"),
            }
        }
        for word in ["cause", "outcome", "by"].iter().filter_map(|name| line[name].as_str()) {
            assert!(explained(word), "{word}");
        }
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_connection_whose_program_is_killed_is_reported() {
    require_all();
    let server = Server::new("127.0.0.1", 1, |mut stream| crate::support::read_to_end(&mut stream));
    let script = format!(
        "import os, socket; s = socket.create_connection(('10.0.2.2', {})); s.sendall(b'hello'); os.kill(os.getpid(), 9)",
        server.port()
    );
    let ran = lastack(&["--host-loopback"], &["python3", "-c", &script]);
    assert_eq!(ran.output.status.signal(), Some(9));
    assert_eq!(ran.connection()["by"], "program", "{ran:?}");
    assert_eq!(server.join(), [(b"hello".to_vec(), None)], "the kernel closes in order for a killed program");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_capture_has_the_packets_and_their_outcome() {
    require_all();
    require_tool("tshark");
    let capture = tempfile::NamedTempFile::new().unwrap();
    let path = capture.path().to_str().unwrap();
    let server = Server::new("127.0.0.1", 1, drop);
    let port = server.port().to_string();
    let client = crate::support::client("read", "10.0.2.2", server.port(), &[]);
    lastack(&["--host-loopback", "-w", path], &client);
    server.join();
    let tshark = |filter: &str| {
        let mut command = Command::new("tshark");
        command.args([
            "-r",
            path,
            "-o",
            "tcp.check_checksum:TRUE",
            "-o",
            "ip.check_checksum:TRUE",
            "-Y",
            filter,
        ]);
        String::from_utf8(finish(&mut command).stdout).unwrap()
    };
    assert!(tshark(&format!("tcp.port == {port} && tcp.flags.syn == 1")).lines().count() >= 2);
    assert!(tshark(&format!("tcp.port == {port} && tcp.flags.fin == 1")).lines().count() >= 2);
    assert_eq!(tshark("_ws.malformed || tcp.checksum.status == 0 || ip.checksum.status == 0"), "");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn bytes_are_kept_for_a_slow_remote_until_a_signal() {
    require_all();
    let (signal, go_on) = std::sync::mpsc::channel::<()>();
    let server = Server::new("127.0.0.1", 1, move |stream| {
        go_on.recv().unwrap();
        drop(stream);
    });
    let script = format!(
        "import socket; s = socket.create_connection(('10.0.2.2', {})); s.settimeout(0.2)\n\
         try:\n while True: s.send(b'x' * 65536)\nexcept OSError: pass",
        server.port()
    );
    let mut command = Command::new(LASTACK);
    command.args(["run", "--host-loopback", "--json", "--", "python3", "-c", &script]);
    let mut child = Running::start(command.stderr(std::process::Stdio::piped()));
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert!(
        child.try_wait().unwrap().is_none(),
        "the program has ended, and its bytes are not delivered yet"
    );
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::SIGINT).unwrap();
    let output = child.wait_with_stderr();
    signal.send(()).unwrap();
    server.join();
    assert_eq!(output.status.code(), Some(0), "the program's own status");
    let ran = crate::support::read_report(output.clone(), std::str::from_utf8(&output.stderr).unwrap());
    assert_eq!(ran.connection()["outcome"], "open", "{}", ran.connection());
    assert!(ran.connection()["lost"]["unsent"].as_u64().unwrap() > 0, "{}", ran.connection());
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn other_addresses_can_be_chosen() {
    require_all();
    let server =
        Server::new("127.0.0.1", 1, |mut stream| std::io::Write::write_all(&mut stream, b"hello").unwrap());
    let options = ["--host-loopback", "--net", "192.168.77.0/24", "-4", "--mtu", "9000"];
    let ran = lastack(&options, &crate::support::client("read", "192.168.77.2", server.port(), &[]));
    assert_eq!(ran.seen().data(), "hello");
    assert!(ran.connection()["local"].as_str().unwrap().starts_with("192.168.77.100:"));
    server.join();
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn runs_do_not_disturb_each_other() {
    require_all();
    let server =
        Server::new("127.0.0.1", 8, |mut stream| std::io::Write::write_all(&mut stream, b"hello").unwrap());
    let port = server.port();
    let runs: Vec<_> =
        (0..8).map(|_| std::thread::spawn(move || relayed("read", "10.0.2.2", port, &[]))).collect();
    for run in runs {
        let ran = run.join().unwrap();
        assert_eq!((ran.seen().data(), ran.seen().end()), ("hello", "EOF"), "{}", ran.stderr());
    }
    server.join();
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_process_that_owns_a_connection_is_named() {
    require_all();
    let server = Server::new("127.0.0.1", 2, drop);
    let script = format!(
        "import os, socket\npid = os.fork()\nif pid: os.wait()\ns = socket.create_connection(('10.0.2.2', {}))\n\
         s.recv(1); s.close()",
        server.port()
    );
    let ran = lastack(&["--host-loopback"], &["python3", "-c", &script]);
    let mut pids: Vec<u64> = ran.connections().map(|line| line["pid"].as_u64().unwrap_or_default()).collect();
    assert!(
        ran.connections().all(|line| line["comm"].as_str().is_some_and(|comm| comm.starts_with("python"))),
        "{ran:?}"
    );
    pids.dedup();
    assert!(pids.len() == 2 && !pids.contains(&0), "{pids:?}");
    assert!(ran.connections().all(|line| line["connect_us"].is_u64() && line["rtt_us"].is_u64()), "{ran:?}");
    server.join();
}

/// Nothing that finds the process may depend on the privileges of root.
#[test]
#[ignore = "needs root, namespaces and curl"]
fn the_process_is_named_for_an_unprivileged_user() {
    const NOBODY: u32 = 65_534;
    require_namespaces();
    require_tool("curl");
    assert!(nix::unistd::geteuid().is_root(), "cannot run here: only root can become another user");
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = place.path().join("lastack");
    // By another process: a program that this one had open for writing could not be started.
    assert!(Command::new("cp").arg(LASTACK).arg(&copy).status().unwrap().success());
    let url = format!("http://10.0.2.2:{}/", closed_port("127.0.0.1"));
    let mut command = Command::new(copy);
    command.args(["run", "--host-loopback", "--json", "--", "curl", "-s", &url]).current_dir("/");
    let output = finish(command.uid(NOBODY).gid(NOBODY).env("HOME", "/"));
    let report = String::from_utf8(output.stderr.clone()).unwrap();
    let ran = read_report(output, &report);
    assert_eq!(ran.connection()["cause"], "refused", "{ran:?}");
    assert_eq!(ran.connection()["comm"], "curl", "{ran:?}");
    assert!(ran.connection()["pid"].as_u64().is_some_and(|pid| pid > 0), "{ran:?}");
}

/// A pipe without a reader does not stop the program's network; what was dropped is reported, also with `--quiet`.
#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn an_output_without_a_reader_stops_nothing() {
    require_all();
    let place = tempfile::tempdir().unwrap();
    let pipe = place.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let server = Server::new("127.0.0.1", 1, |mut stream: TcpStream| {
        stream.write_all(&vec![0; 8 << 20]).unwrap();
    });
    let script = format!(
        "import socket\ns = socket.create_connection(('10.0.2.2', {}))\nn = 0\nwhile d := s.recv(1 << 20): n += len(d)\nprint(n)",
        server.port()
    );
    let mut command = std::process::Command::new(LASTACK);
    command.args(["run", "-q", "--host-loopback"]).args(NETWORKS).arg("-w").arg(&pipe);
    let output = finish(command.args(["--", "python3", "-c", &script]));
    assert_eq!(output.stdout, b"8388608\n", "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("its reader did not take 8.") && said.contains("it is incomplete"), "{said}");
    server.join();
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn both_exit_statuses_and_the_connections_behind_them_are_reported() {
    require_all();
    let port = closed_port("127.0.0.1");
    let script =
        format!("import socket\ntry: socket.create_connection(('10.0.2.2', {port}))\nexcept OSError: pass");
    let ran = lastack(&["--host-loopback", "--fail-on", "refused"], &["python3", "-c", &script]);
    assert_eq!(ran.output.status.code(), Some(1), "{ran:?}");
    let summary = ran.summary();
    assert_eq!((&summary["exit"]["status"], &summary["lastack_exit"]["status"]), (&0.into(), &1.into()));
    let name = format!("refused 10.0.2.2:{port}");
    assert_eq!(summary["fail_on"]["connections"][&name], 1, "{summary}");
    assert!(
        ran.stderr().contains(&format!("exit status 1: 1 connection matched --fail-on: {name}")),
        "{ran:?}"
    );
}
