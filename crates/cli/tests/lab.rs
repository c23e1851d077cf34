//! `lastack lab`, as a user runs it.

use std::process::{Command, Output};

fn lab(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastack"));
    command.arg("lab").args(arguments).output().expect("the program can be run")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_timeline_is_plain_text_and_reproducible() {
    let first = lab(&["refused"]);
    assert!(first.status.success() && first.stderr.is_empty(), "{first:?}");
    let drawn = text(&first.stdout);
    assert!(drawn.contains("| <---------------------- R. seq=0 ack=1 | (S1)\n"), "{drawn}");
    assert!(drawn.contains("\"connect: ConnectionRefused\""), "{drawn}");
    assert!(!drawn.contains('\x1b'), "no colour where nobody looks: {drawn:?}");
    assert_eq!(lab(&["refused"]), first);
}

/// What the README shows is what comes, but for what it leaves out and says so.
#[test]
fn the_timeline_in_the_readme_is_the_output() {
    let readme = include_str!("../../../README.md");
    let (_, shown) = readme.split_once("$ lastack lab abort-linger\n").expect("the README plays it");
    let (shown, _) = shown.split_once("```").expect("the block ends");
    let drawn = text(&lab(&["abort-linger"]).stdout);
    let parts: Vec<&str> = shown.split("    ..\n").collect();
    assert!(parts.len() > 1, "{shown}");
    for part in parts {
        assert!(drawn.contains(part), "{part}\nis not in\n{drawn}");
    }
}

#[test]
fn colour_is_there_if_requested() {
    let output = Command::new(env!("CARGO_BIN_EXE_lastack"))
        .args(["--color", "always", "lab", "refused"])
        .output()
        .expect("the program can be run");
    assert!(text(&output.stdout).contains("\x1b["));
}

#[test]
fn trouble_has_exit_status_2() {
    for arguments in [&["no-such-scenario"][..], &["--no-such-option"], &["refused", "-w", "/nonexistent/x"]]
    {
        let output = lab(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn a_closed_output_pipe_ends_it_quietly() {
    let script = format!("{} lab | head -1", env!("CARGO_BIN_EXE_lastack"));
    let output = Command::new("sh").args(["-c", &script]).output().expect("there is a shell");
    assert!(output.stdout.starts_with(b"refused: ") && output.stderr.is_empty(), "{output:?}");
}

/// Linux sees and says the same as our stack in its place.
#[test]
fn the_kernel_plays_as_stated() {
    for arguments in [
        ["--kernel", "refused", "orderly", "abort-linger", "half-open-syn"].as_slice(),
        &["--kernel", "-6", "udp-unreachable", "simultaneous-close", "abort-unread", "half-open-data"],
    ] {
        let output = lab(arguments);
        let (drawn, said) = (text(&output.stdout), text(&output.stderr));
        if output.status.code() == Some(2) {
            // A machine that forbids namespaces cannot show this; it must say what forbids them.
            assert!(said.contains("cannot "), "{said}");
            eprintln!("not shown on this machine: {said}");
            return;
        }
        assert!(output.status.success(), "{drawn}\n{said}");
        assert!(
            drawn.contains("server (Linux)") && drawn.ends_with("4 scenarios, all as expected\n"),
            "{drawn}"
        );
    }
}
