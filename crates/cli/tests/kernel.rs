//! `lastack script --kernel` and `--compare`: scripts against the kernel of this machine. They need root and
//! /dev/net/tun.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs it in a directory; `None`, said aloud, where it cannot run.
fn script(directory: &Path, arguments: &[&str]) -> Option<(Option<i32>, String, String)> {
    if !nix::unistd::geteuid().is_root() || !Path::new("/dev/net/tun").exists() {
        eprintln!("SKIPPED: scripts against the kernel need root and /dev/net/tun");
        return None;
    }
    let command = Command::new(env!("CARGO_BIN_EXE_lastack"))
        .arg("script")
        .args(arguments)
        .current_dir(directory)
        .output();
    let Output { status, stdout, stderr } = command.unwrap();
    Some((status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap()))
}

/// Time is the machine's, and it may be busy.
const PATIENT: &str = "--tolerance-usecs=2000000";

#[test]
fn the_kernel_passes_the_scripts() {
    let scripts = root().join("crates/packetdrill/tests/scripts");
    let files =
        ["r01-exact-reset.pkt", "connect-refused-nonblocking.pkt", "vectors.pkt", "epoll-level-and-edge.pkt"];
    let arguments: Vec<&str> = ["--kernel", "--ip-version=all", PATIENT].into_iter().chain(files).collect();
    let Some((code, out, err)) = script(&scripts, &arguments) else { return };
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.ends_with("12 passed, 0 failed, 0 skipped\n"), "{out}");
}

#[test]
fn deviations_of_the_kernel_are_reported() {
    let directory = tempfile::tempdir().unwrap();
    let source = "0 socket(..., SOCK_STREAM, 0) = 3\n+0 listen(3, 1) = -1 EINVAL\n";
    fs::write(directory.path().join("wrong.pkt"), source).unwrap();
    let Some((code, _, err)) = script(directory.path(), &["--kernel", PATIENT, "wrong.pkt"]) else { return };
    assert_eq!(code, Some(1));
    assert!(err.contains("listen() returned 0, expected -1 EINVAL") && err.contains("wrong.pkt:2:"), "{err}");
}

#[test]
fn both_are_compared() {
    let directory = tempfile::tempdir().unwrap();
    let agrees = "// Nobody listens.\n0 < S 7:7(0) win 100\n+0 > R. 0:0(0) ack 1 win 0\n";
    let wrong = "// Nobody listens.\n// Linux differs: not at all.\n0 < S 7:7(0) win 100\n+0 > R. 0:0(0) ack 1 win 0\n";
    for (name, text) in [("agrees.pkt", agrees), ("wrong.pkt", wrong)] {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let Some((code, out, err)) = script(directory.path(), &["--compare", PATIENT, "agrees.pkt"]) else {
        return;
    };
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("| agrees.pkt | Nobody listens | OK | OK |"), "{out}");
    let Some((code, out, _)) = script(directory.path(), &["--compare", PATIENT, "wrong.pkt"]) else { return };
    assert_eq!(code, Some(1));
    assert!(out.contains("OK, **and the script says that it differs**"), "{out}");
}

/// `UPDATE_DOCS=1`, as root, plays the whole suite on both and writes the table of docs/scripts.md.
#[test]
fn the_page_is_written() {
    if std::env::var_os("UPDATE_DOCS").is_none() {
        return;
    }
    let scripts = root().join("crates/packetdrill/tests/scripts");
    let mut files: Vec<String> = fs::read_dir(&scripts)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let arguments = ["--compare", "--ip-version=all", "--jobs=24"].into_iter();
    let arguments: Vec<&str> = arguments.chain(files.iter().map(String::as_str)).collect();
    let Some((code, out, err)) = script(&scripts, &arguments) else { panic!("it needs root") };
    let page = root().join("docs/scripts.md");
    let text = fs::read_to_string(&page).unwrap();
    let head = text.split("| script |").next().unwrap();
    fs::write(&page, format!("{head}{out}")).unwrap();
    assert_eq!(code, Some(0), "the page shows where they do not agree\n{err}");
}
