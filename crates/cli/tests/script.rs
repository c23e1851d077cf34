//! `lastack script`, run as a program.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const PASSES: &str = "0 < S 7:7(0) win 100\n+0 > R. 0:0(0) ack 1 win 0\n";
const FAILS: &str = "0 < S 7:7(0) win 100\n+0 > R. 0:0(0) ack 2 win 0\n";
const IS_SKIPPED: &str = "0 `tc qdisc add`\n+0 > R. 0:0(0) ack 2 win 0\n";

fn script(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_lastack"))
        .arg("script")
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn files() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [("passes.pkt", PASSES), ("fails.pkt", FAILS), ("skipped.pkt", IS_SKIPPED)] {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

#[test]
fn one_that_passes_is_silent() {
    let directory = files();
    let (code, out, err) = script(directory.path(), &["passes.pkt"]);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "", ""));
    let (_, out, _) = script(directory.path(), &["-v", "passes.pkt"]);
    assert!(out.contains("0.000000 > R. 0:0(0) ack 1 win 0"), "{out}");
}

#[test]
fn one_that_fails_is_drawn() {
    let directory = files();
    let (code, out, err) = script(directory.path(), &["fails.pkt"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        err.contains("SEG.ACK is 1, expected 2") && err.contains("fails.pkt:2:1") && err.contains("^^^^"),
        "{err}"
    );
    let (code, _, _) = script(directory.path(), &["--dry-run", "fails.pkt"]);
    assert_eq!(code, Some(0));
}

#[test]
fn several_scripts_are_counted() {
    let directory = files();
    let (code, out, _) = script(directory.path(), &["passes.pkt", "fails.pkt", "skipped.pkt"]);
    assert_eq!(code, Some(1));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "OK   passes.pkt");
    assert!(lines[1].starts_with("FAIL fails.pkt: line 2: SEG.ACK"), "{out}");
    assert!(lines[2].starts_with("SKIP skipped.pkt: line 1: unsupported command"), "{out}");
    assert_eq!(lines[3], "1 passed, 1 failed, 1 skipped");
    let (_, out, _) = script(directory.path(), &["--tap", "passes.pkt", "fails.pkt", "skipped.pkt"]);
    assert!(out.starts_with("TAP version 13\n1..3\nok 1 - passes.pkt\nnot ok 2 - fails.pkt\n"), "{out}");
    assert!(out.contains("ok 3 - skipped.pkt # SKIP line 1"), "{out}");
    let (code, out, _) = script(directory.path(), &["--ip-version", "all", "passes.pkt"]);
    assert_eq!((code, out.lines().last()), (Some(0), Some("3 passed, 0 failed, 0 skipped")));
}

#[test]
fn a_script_chooses_its_version() {
    let directory = files();
    let v6 = format!("--ip_version=ipv6\n{PASSES}");
    fs::write(directory.path().join("v6.pkt"), v6).unwrap();
    let (code, out, _) = script(directory.path(), &["v6.pkt", "passes.pkt"]);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "OK   v6.pkt\nOK   passes.pkt\n2 passed, 0 failed, 0 skipped\n")
    );
    let (_, out, _) = script(directory.path(), &["--ip-version", "ipv4", "v6.pkt"]);
    assert!(out.contains("the script is for ipv6 only"), "{out}");
}

#[test]
fn standard_input_is_a_script() {
    let directory = files();
    let from = |name: &str, arguments: &[&str]| {
        let input = fs::File::open(directory.path().join(name)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lastack"));
        let output =
            command.arg("script").args(arguments).stdin(input).current_dir(&directory).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(from("passes.pkt", &["-"]), (Some(0), String::new()));
    let (code, err) = from("fails.pkt", &["-"]);
    assert!(code == Some(1) && err.contains("<stdin>:2:1"), "{err}");
    let (code, err) = from("passes.pkt", &["-w", "-", "passes.pkt"]);
    assert!(code == Some(2) && err.contains("-w -: standard output is used for the results"), "{err}");
    assert!(!directory.path().join("-").exists());
}

#[test]
fn a_file_that_is_not_text_is_not_a_script() {
    let directory = files();
    fs::write(directory.path().join("binary.pkt"), b"\x7fELF\x02\xff\xfe").unwrap();
    let (code, _, err) = script(directory.path(), &["binary.pkt"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("binary.pkt: not a script: byte 5 is not UTF-8"), "{err}");
}

#[test]
fn packets_are_written() {
    let directory = files();
    let (code, _, _) = script(directory.path(), &["-w", "out.pcapng", "passes.pkt"]);
    let written = fs::read(directory.path().join("out.pcapng")).unwrap();
    assert_eq!((code, &written[..4]), (Some(0), &[0x0a, 0x0d, 0x0d, 0x0a][..]));
    let (code, _, err) = script(directory.path(), &["missing.pkt"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("missing.pkt: No such file"), "{err}");
}
