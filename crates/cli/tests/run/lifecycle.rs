//! How a run begins and ends: what it needs, whose exit status it has, and what is left of it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{LASTACK, Running, Server, finish, lastack, require_all, require_tool};

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_exit_status_is_the_programs_wherever_the_report_goes() {
    require_all();
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
#[ignore = "needs namespaces, python3 and tools"]
fn too_few_descriptors_are_reported_before_the_program_runs() {
    require_all();
    let script = format!("ulimit -n 20; exec {LASTACK} run -q -- sh -c 'echo the program ran'");
    let output = finish(Command::new("sh").args(["-c", &script]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(output.stdout.is_empty(), "the program ran without a network");
    assert!(said.contains("ulimit -n"), "{said}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_network_that_is_lost_is_no_success() {
    require_all();
    require_tool("ip");
    // The remote goes on sending while whoever has the rights takes the device away.
    let server = Server::new("127.0.0.1", 1, |mut stream: TcpStream| {
        while stream.write_all(b"tick").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let script = format!(
        "exec 3<>/dev/tcp/10.0.2.2/{} && ip link delete lastack0 || exit 99; sleep 4; exit 3",
        server.port()
    );
    let ran = lastack(&["--host-loopback"], &["bash", "-c", &script]);
    if ran.output.status.code() == Some(99) {
        panic!("cannot run here: the program may not delete its device");
    }
    assert_eq!(ran.output.status.code(), Some(125), "{ran:?}");
    assert!(ran.stderr().contains("the program lost its network"), "{ran:?}");
    assert_eq!(ran.summary()["exit"]["status"], 3, "{ran:?}");
}

/// An argument of `sleep` by which the processes of one run are known: no other test has it, and no earlier try of this one.
fn mark(seconds: u32) -> String {
    format!("{seconds}.{}", std::process::id())
}

/// How many processes with this mark run.
fn running(mark: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.starts_with(b"sleep") && String::from_utf8_lossy(line).contains(mark)).count()
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_run_lasts_until_the_last_process_has_ended() {
    require_all();
    require_tool("curl");
    let server = Server::new("127.0.0.1", 1, |mut stream: TcpStream| {
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
        for _ in 0..5 {
            stream.write_all(b"part\n").unwrap();
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let place = tempfile::tempdir().unwrap();
    let got = place.path().join("got");
    let script = format!(
        "(curl -sS http://10.0.2.2:{}/ >{}; echo \"curl $?\" >>{1}) & exit 3",
        server.port(),
        got.display()
    );
    let ran = lastack(&["--host-loopback"], &["sh", "-c", &script]);
    assert_eq!(ran.output.status.code(), Some(3), "{ran:?}");
    assert_eq!(std::fs::read_to_string(&got).unwrap(), "part\npart\npart\npart\npart\ncurl 0\n");
    assert_eq!(ran.connection()["cause"], "orderly");
    server.join();
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn remaining_processes_can_be_killed_with_the_program() {
    require_all();
    for (options, mark) in [(&["--kill-rest"][..], mark(7001)), (&["--kill-rest", "--host-pids"], mark(7002))]
    {
        // One of them wants to stay, in a session of its own.
        let script = format!("sleep {mark} & (trap '' TERM; setsid sleep {mark}) & sleep 0.2; exit 4");
        let begun = Instant::now();
        let ran = lastack(options, &["sh", "-c", &script]);
        assert_eq!(ran.output.status.code(), Some(4), "{ran:?}");
        assert!(begun.elapsed() < Duration::from_secs(60));
        assert_eq!(running(&mark), 0, "{options:?}");
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn nothing_is_left_of_a_run_that_is_killed() {
    require_all();
    for (options, mark) in [(&[][..], mark(7003)), (&["--host-pids"], mark(7004))] {
        let script = format!("sleep {mark} & setsid sleep {mark} & sleep {mark}");
        let mut run = Command::new(LASTACK);
        let mut run = Running::start(run.args(["run", "-q"]).args(options).args(["--", "sh", "-c", &script]));
        wait_until(|| running(&mark) == 3);
        run.kill().unwrap();
        run.wait().unwrap();
        wait_until(|| running(&mark) == 0);
    }
}

fn wait_until(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the condition does not become true");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn orphans_leave_no_zombies() {
    require_all();
    // Each loses its parent, and ends after it.
    let script = "for i in 1 2 3 4 5; do (sleep 0.1 & ); done; sleep 0.5
        for i in $(seq 200); do
            left=$(cat /proc/[0-9]*/stat 2>/dev/null | grep -c '(sleep) '); [ $left = 0 ] && break; sleep 0.05
        done; echo $left";
    let ran = lastack(&[], &["sh", "-c", script]);
    assert_eq!(String::from_utf8_lossy(&ran.output.stdout), "0\n", "{ran:?}");
}

/// What a program tries to reach processes outside, and what it prints: its network, and the length of an environment
/// that it cannot read. Whoever it is, root included: the launcher and its parents are not there, and process 1
/// refuses every access to it.
const REACH: &str = "readlink /proc/self/ns/net; kill -9 $1 2>/dev/null && echo killed; \
                     nsenter -t 1 -n readlink /proc/self/ns/net 2>/dev/null; \
                     nsenter -t 1 -m true 2>/dev/null && echo entered; \
                     cat /proc/1/environ 2>/dev/null | wc -c; readlink /proc/1/fd/* 2>/dev/null; \
                     for n in /run/netns/*; do nsenter --net=$n true 2>/dev/null && echo left; done; true";

fn assert_nothing_is_reached(output: &[u8]) {
    let output = String::from_utf8_lossy(output).into_owned();
    let lines: Vec<_> = output.lines().collect();
    assert!(lines.len() == 2 && lines[1] == "0", "{output}");
    assert_ne!(lines[0], std::fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap());
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_program_cannot_reach_processes_outside() {
    require_all();
    require_tool("nsenter");
    let ran = lastack(&[], &["sh", "-c", REACH, "sh", &std::process::id().to_string()]);
    assert_nothing_is_reached(&ran.output.stdout);
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_supervisor_is_protected_before_the_program_runs() {
    require_all();
    ["nsenter", "strace"].into_iter().for_each(require_tool);
    // Process 1 is held up in the first system call that it makes after it has started the program.
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=close_range"]);
    command.args(["-e", "inject=close_range:delay_enter=1000000", LASTACK, "run", "-q", "--"]);
    command.args(["sh", "-c", REACH, "sh", &std::process::id().to_string()]);
    let output = finish(&mut command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_nothing_is_reached(&output.stdout);
}

/// Everything that a run could leave, in process, network and mount namespaces of the test's own.
const LEAVE: &str = r#"
mount -t tmpfs none "$TMPDIR"
left() { set -- /proc/[0-9]*; echo "$# processes, $(ip -o link | wc -l) links, $(ls -A "$TMPDIR" | wc -l) files, $(wc -l < /proc/mounts) mounts"; }
before=$(left)
for i in $(seq 40); do $lastack run -q -- true || echo failed; done
for i in $(seq 50); do { $lastack run -q -- sh -c 'sleep 0.1 & exit 7'; [ $? = 7 ] || echo failed; } & done; wait
for i in $(seq 25); do { $lastack run -q --device veth -- sh -c 'sleep 0.1; exit 7'; [ $? = 7 ] || echo failed; } & done
for i in $(seq 25); do { $lastack run -q -- $lastack run -q -- sh -c 'exit 7'; [ $? = 7 ] || echo failed; } & done
wait
for i in $(seq 400); do [ "$(left)" = "$before" ] && break; sleep 0.05; done
after=$(left); echo "$after"; echo "$before"
"#;

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn many_runs_leave_nothing() {
    require_all();
    ["ip", "unshare", "bash"].into_iter().for_each(require_tool);
    let place = tempfile::tempdir().unwrap();
    let script = format!("lastack={LASTACK}\n{LEAVE}");
    let mut command = Command::new("unshare");
    command.args([
        "--map-root-user",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "bash",
        "-c",
        &script,
    ]);
    let output = finish(command.env("TMPDIR", place.path()));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<_> = said.lines().collect();
    assert!(lines.len() == 2 && lines[0] == lines[1], "{output:?}");
}
