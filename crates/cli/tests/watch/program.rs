//! The command line: a watched program, its exit status, signals, conditions and files.

use crate::scene::require_root;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const LASTACK: &str = env!("CARGO_BIN_EXE_lastack");

/// In a network namespace of its own, where nobody else's connections are.
fn watch(options: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-n", "sh", "-c", "ip link set lo up; exec \"$0\" watch \"$@\"", LASTACK]).args(options);
    command
}

fn output(options: &[&str]) -> Output {
    watch(options).output().unwrap()
}

fn status(options: &[&str]) -> i32 {
    output(options).status.code().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Short connections can be given a process only if the kernel has tracepoints for it.
fn require_sources() {
    require_root();
    let start = watch(&["--json", "--duration", "100ms"]).output().unwrap();
    let first = String::from_utf8_lossy(&start.stdout).lines().next().map(str::to_owned).unwrap_or_default();
    let first: Value = serde_json::from_str(&first).unwrap_or_default();
    let sources = first["sources"].as_array().cloned().unwrap_or_default();
    let open = |name: &str| sources.iter().any(|source| source["source"] == name && source["open"] == true);
    assert!(open("tracepoints") && open("packets"), "cannot run here: {sources:?}");
}

/// Connects to a port at which nobody listens.
const REFUSED: &str = "exec 3<>/dev/tcp/127.0.0.1/9";

#[test]
#[ignore = "needs root, ip, ss and setpriv"]
fn the_exit_status_is_that_of_the_program() {
    require_root();
    assert_eq!(status(&["-q", "--", "sh", "-c", "exit 3"]), 3);
    assert_eq!(status(&["-q", "--", "true"]), 0);
    assert_eq!(status(&["-q", "--", "sh", "-c", "kill -9 $$"]), 137);
    let missing = output(&["-q", "--", "/nonexistent/program"]);
    assert_eq!(missing.status.code(), Some(127));
    assert!(said(&missing).contains("/nonexistent/program"), "{}", said(&missing));
    assert_eq!(status(&["-q", "--", "/etc/passwd"]), 126);
}

#[test]
fn bad_options_name_what_is_wrong() {
    let bad = |options: &[&str]| {
        let output = Command::new(LASTACK).arg("watch").args(options).output().unwrap();
        (output.status.code().unwrap(), said(&output))
    };
    let (status, said) = bad(&["--fail-on", "broken"]);
    assert!(
        status == 2 && said.contains("neither a severity nor a cause") && said.contains("close-unread"),
        "{status} {said}"
    );
    let (status, said) = bad(&["--without", "everything"]);
    assert!(status == 2 && said.contains("destroyed, counters, processes"), "{status} {said}");
    let (status, said) = bad(&["--netns", "no-such-namespace", "--duration", "1s"]);
    assert!(status == 3 && said.contains("no-such-namespace"), "{status} {said}");
    let (status, said) = bad(&["--netns", "/etc/passwd", "--duration", "1s"]);
    assert!(status == 3 && said.contains("it is not a network namespace"), "{status} {said}");
    for (options, expected) in [
        (["--pid", "999999999"], "there is no such process"),
        (["--pid", "0"], "there is no such process"),
        (["--pid", "nginx"], "a process id is a number"),
        (["--comm", ""], "a value is required"),
        (["--port", "0"], "0 is not in 1..=65535"),
        (["--cgroup", "nginx"], "write \"*nginx*\""),
        (["-otwice", "-wtwice"], "would overwrite each other"),
    ] {
        let (status, said) = bad(&[&options[..], &["--duration", "1s"]].concat());
        assert!(status == 2 && said.contains(expected), "{options:?}: {status} {said}");
    }
    let nothing = "destroyed,packets,tracepoints";
    let (status, said) = bad(&["--without", nothing, "--duration", "1s"]);
    assert!(status == 3 && said.contains("none of the sources"), "{status} {said}");
}

#[test]
#[ignore = "needs root, ip, ss and setpriv"]
fn an_end_of_the_program_meets_the_condition() {
    require_sources();
    let condition =
        |what| output(&["-q", "--fail-on", what, "--", "bash", "-c", &format!("{REFUSED}; true")]);
    let met = condition("refused");
    assert_eq!(met.status.code(), Some(1), "{}", said(&met));
    assert!(said(&met).contains("bash[") && said(&met).contains("refused by the server"), "{}", said(&met));
    assert_eq!(condition("close-unread").status.code(), Some(0));
    assert_eq!(condition("harmful:0.5").status.code(), Some(1));
    assert_eq!(condition("harmful:1").status.code(), Some(0), "nothing is that sure");
}

#[test]
#[ignore = "needs root, ip, ss and setpriv"]
fn filters_leave_out_other_connections() {
    require_sources();
    let lines = |filter: &[&str]| {
        let mut options = vec!["-q"];
        options.extend(filter);
        options.extend(["--", "bash", "-c", REFUSED]);
        said(&output(&options)).lines().filter(|line| line.contains("refused by")).count()
    };
    assert_eq!(lines(&["--port", "9"]), 1);
    assert_eq!(lines(&["--port", "10"]), 0);
    assert_eq!(lines(&["--comm", "ba*"]), 1);
    assert_eq!(lines(&["--comm", "curl"]), 0);
    assert_eq!(lines(&["--cgroup", "/"]), 1);
    assert_eq!(lines(&["--pid", "1"]), 0);
}

#[test]
#[ignore = "needs root, ip, ss and setpriv"]
fn both_families_are_watched() {
    require_sources();
    let refused = output(&["-q", "--json", "--", "bash", "-c", "exec 3<>/dev/tcp/::1/9"]);
    let records: Vec<Value> =
        said(&refused).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let ended =
        records.iter().find(|record| record["type"] == "connection").unwrap_or_else(|| panic!("{refused:?}"));
    assert_eq!((&ended["cause"], &ended["server"]), (&"refused".into(), &"[::1]:9".into()));
    assert_eq!(ended["process"]["comm"], "bash");
    assert!(ended["id"].as_str().unwrap().starts_with("1:"));
}

#[test]
#[ignore = "needs root, ip, ss and setpriv"]
fn packets_are_written_with_the_verdict() {
    require_sources();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("bad.pcapng");
    output(&["-q", "-w", path.to_str().unwrap(), "--", "bash", "-c", REFUSED]);
    let file = std::fs::read(&path).unwrap();
    assert_eq!(file[..4], [0x0a, 0x0d, 0x0d, 0x0a], "pcapng");
    let comment = b"lastack: refused by the server (C01)";
    assert!(file.windows(comment.len()).any(|bytes| bytes == comment));
    // What `explain` says of the file.
    let explained = Command::new(LASTACK).args(["explain", "--json"]).arg(&path).output().unwrap();
    let lines = String::from_utf8(explained.stdout).unwrap();
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records[0]["cause"], "refused", "{lines}");
    let file = records.iter().find(|record| record["type"] == "file").unwrap();
    assert!(!file["vantage"].as_str().unwrap().contains("between the two ends"), "{file}");
}

#[test]
#[ignore = "needs root, ip, ss and setpriv"]
fn signals_reach_the_program_and_a_summary_is_printed_on_demand() {
    require_root();
    let mut child = watch(&["--", "sleep", "60"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(line.starts_with("watching the TCP connections of "), "{line}");
    let pid = Pid::from_raw(child.id() as i32);
    kill(pid, Signal::SIGUSR1).unwrap();
    while !line.contains("connections ended") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "no summary");
    }
    let begun = Instant::now();
    kill(pid, Signal::SIGTERM).unwrap();
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(begun.elapsed() < Duration::from_secs(20) && rest.contains("lost events: "), "{rest}");
}

/// What cannot be written is said once; the status of the program is not lost with it.
#[test]
#[ignore = "needs root, ip, ss and setpriv"]
fn a_full_disk_does_not_take_the_status_of_the_program() {
    require_sources();
    let ends = |options: &[&str], status: &str| {
        let program = format!("{REFUSED} 2>/dev/null; sleep 0.7; exit {status}");
        let output = output(&[&["-q"][..], options, &["--", "bash", "-c", &program]].concat());
        (output.status.code().unwrap(), said(&output))
    };
    for (options, expected) in [
        (["-o", "/dev/full"], "cannot write the report: No space left"),
        (["-w", "/dev/full"], "the capture is not complete: No space left"),
    ] {
        let (status, said) = ends(&options, "5");
        assert!(status == 5 && said.matches(expected).count() == 1, "{status} {said}");
        assert_eq!(ends(&options, "0").0, 3, "{options:?}");
    }
    // The messages are not read.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let status = watch(&["--duration", "100ms"]).stderr(full).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
#[ignore = "needs root, ip, ss and setpriv"]
fn a_report_in_a_file_has_no_colors() {
    require_sources();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("report");
    output(&["-q", "-o", path.to_str().unwrap(), "--", "bash", "-c", REFUSED]);
    let report = std::fs::read_to_string(&path).unwrap();
    assert!(report.contains("refused by the server") && !report.contains('\u{1b}'), "{report:?}");
}
