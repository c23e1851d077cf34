//! How a run begins and ends: what it needs, whose exit status it has, and what is left of it.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::support::{LASTACK, Server, finish, have, lastack, ready};

#[test]
fn the_exit_status_is_the_programs_wherever_the_report_goes() {
    if !ready() {
        return;
    }
    for option in ["-o", "-w"] {
        let mut command = Command::new(LASTACK);
        command.args(["run", option, "/dev/full", "--", "sh", "-c", "exit 7"]);
        let output = finish(&mut command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(7), "{option}: {said}");
        assert!(said.contains("No space left on device"), "{option}: {said}");
        // The summary, at least, is there.
        assert!(said.contains("TCP connections"), "{option}: {said}");
    }
}

#[test]
fn too_few_descriptors_are_told_before_the_program_runs() {
    if !ready() {
        return;
    }
    let script = format!("ulimit -n 20; exec {LASTACK} run -q -- sh -c 'echo the program ran'");
    let output = finish(Command::new("sh").args(["-c", &script]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(output.stdout.is_empty(), "the program ran without a network");
    assert!(said.contains("ulimit -n"), "{said}");
}

#[test]
fn a_network_that_is_lost_is_no_success() {
    if !ready() || !have("ip") {
        return;
    }
    // The remote goes on sending while whoever has the rights takes the device away.
    let server = Server::new("127.0.0.1", 1, |mut stream: TcpStream| {
        while stream.write_all(b"tick").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let script = format!(
        "exec 3<>/dev/tcp/10.0.2.2/{} && ip link delete lastack0 || exit 99; sleep 1; exit 3",
        server.port()
    );
    let ran = lastack(&["--host-loopback"], &["bash", "-c", &script]);
    if ran.output.status.code() == Some(99) {
        eprintln!("skipped: the program may not delete its device");
        return;
    }
    assert_eq!(ran.output.status.code(), Some(125), "{ran:?}");
    assert!(ran.stderr().contains("the program lost its network"), "{ran:?}");
    assert_eq!(ran.summary()["exit"]["status"], 3, "{ran:?}");
}
