//! What goes wrong before the program runs: the cause, the cure, and the exit status.

use std::process::Command;

use crate::support::{LASTACK, finish, require_namespaces};

/// The exit status, and what is said.
fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = finish(Command::new(LASTACK).args(arguments));
    assert!(output.stdout.is_empty(), "nothing of ours on standard output: {output:?}");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn fails(arguments: &[&str], code: i32, words: &[&str]) {
    let (status, said) = run(arguments);
    assert_eq!(status, Some(code), "{arguments:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{arguments:?}: {said:?} lacks {word:?}");
    }
}

#[test]
fn bad_options_of_run_are_failures_of_ours() {
    fails(&["run", "--nonsense", "true"], 125, &["--nonsense", "--help"]);
    fails(&["run"], 125, &["COMMAND"]);
    fails(
        &["--color", "never", "run", "-m", "12", "true"],
        125,
        &["--mtu 12 is out of range", "choose from"],
    );
    fails(&["run", "-m", "many", "true"], 125, &["invalid value", "--mtu"]);
    fails(&["run", "--device", "tape", "true"], 125, &["tape", "auto, tun, tap or veth"]);
    fails(&["run", "--net", "10.0.2.0/31", "true"], 125, &["--net", "choose from 8 to 25"]);
    fails(&["run", "-D", "resolver", "true"], 125, &["invalid value 'resolver'", "--dns"]);
    fails(&["run", "-4", "-6", "true"], 125, &["cannot be used with"]);
    fails(&["run", "--map-localhost", "80,http", "true"], 125, &["--map-localhost", "write 5432"]);
    fails(&["run", "-p", "80:1", "-p", "80:2", "true"], 125, &["port 80", "published twice"]);
    fails(&["run", "-p", "9000-9001:1", "true"], 125, &["ranges of different length"]);
}

#[test]
fn bad_options_elsewhere_are_usage_errors() {
    fails(&["--nonsense"], 2, &["--nonsense"]);
    fails(&["nonsense"], 2, &["nonsense"]);
    fails(&[], 2, &["Usage"]);
}

#[test]
fn unwritable_files_are_detected_before_the_program_runs() {
    let marker = tempfile::tempdir().unwrap().path().join("ran");
    let marker = marker.to_str().unwrap();
    fails(
        &["run", "-w", "/nowhere/x.pcapng", "touch", marker],
        125,
        &["/nowhere/x.pcapng", "choose another place"],
    );
    fails(
        &["run", "-o", "/nowhere/report", "touch", marker],
        125,
        &["/nowhere/report", "choose another place"],
    );
    assert!(!std::path::Path::new(marker).exists());
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn programs_that_cannot_be_run() {
    require_namespaces();
    fails(&["run", "no-such-program-anywhere"], 127, &["no-such-program-anywhere", "no such program"]);
    fails(&["run", "/etc/passwd"], 126, &["/etc/passwd", "chmod +x"]);
    fails(&["run", "/etc"], 126, &["/etc"]);
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn where_namespaces_are_forbidden_the_cause_is_named() {
    require_namespaces();
    // In a namespace that may make no further ones; as root it would need no user namespace of its own.
    let script = "cd /proc/sys/user; echo 0 > max_user_namespaces; echo 0 > max_net_namespaces; exec \"$0\" run -q true";
    let output = finish(Command::new("unshare").args(["--map-root-user", "sh", "-c", script, LASTACK]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("user.max_user_namespaces") && said.contains("cure:"), "{said}");
}

#[test]
fn help_is_help() {
    for arguments in
        [&["--help"][..], &["run", "--help"], &["run", "-h"], &["probe", "--help"], &["serve", "--help"]]
    {
        let output = finish(Command::new(LASTACK).args(arguments));
        assert!(output.status.success() && !output.stdout.is_empty(), "{arguments:?}: {output:?}");
    }
    let output = finish(Command::new(LASTACK).args(["completions", "bash"]));
    assert!(String::from_utf8(output.stdout).unwrap().contains("--host-loopback"));
}
