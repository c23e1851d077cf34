//! A run ends when it is asked to, in every phase, whatever its remotes, its outputs and its processes do.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{LASTACK, Running, require_all, require_tool};

/// No end takes longer than the limit of lastack itself, 10 seconds, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(60);

fn start(options: &[&str], program: &[&str], stderr: Stdio) -> Running {
    let mut command = Command::new(LASTACK);
    Running::start(command.arg("run").args(options).arg("--").args(program).stderr(stderr))
}

fn send(run: &Running, signal: Signal) {
    kill(Pid::from_raw(run.id().cast_signed()), signal).unwrap();
}

fn ends(mut run: Running) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = run.try_wait().unwrap() {
            return status;
        }
        assert!(begun.elapsed() <= LIMIT, "the run does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn wait_until(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LIMIT, "the condition does not become true");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether lastack waits in a write.
fn is_blocked(run: &Running) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{}/syscall", run.id())).unwrap_or_default();
    call.split(' ').next() == Some(&libc::SYS_write.to_string())
}

/// A pipe that takes nothing more.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    fill(&mut writer);
    (reader, writer)
}

fn fill(writer: &mut (impl Write + std::os::fd::AsFd)) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::empty())).unwrap();
}

/// A program that says that it is ready, by making this file.
fn ready(place: &Path) -> impl Fn() -> bool {
    let file = place.join("ready");
    move || file.exists()
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn processes_that_are_left_end_with_a_signal() {
    require_all();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("ready");
    // The signal arrives when the program has ended, and before lastack says that it waits for the process that is left.
    let script = format!("(trap '' TERM; touch {}; exec sleep 1000) & exit 3", file.display());
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let run = start(&["-q"], &["sh", "-c", &script], Stdio::inherit());
        wait_until(ready(place.path()));
        send(&run, signal);
        let status = ends(run);
        // It may also have reached the program.
        assert!(status.code() == Some(3) || status.signal() == Some(signal as i32), "{signal}: {status}");
        std::fs::remove_file(&file).unwrap();
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_signal_that_ends_the_program_ends_what_it_leaves() {
    require_all();
    let place = tempfile::tempdir().unwrap();
    let script = format!("setsid sleep 1000 & touch {}; wait; exit 3", place.path().join("ready").display());
    let report = place.path().join("report");
    let options = ["-c", "-o", report.to_str().unwrap()];
    let run = start(&options, &["sh", "-c", &script], Stdio::inherit());
    wait_until(ready(place.path()));
    send(&run, Signal::SIGTERM);
    assert_eq!(ends(run).signal(), Some(15), "as the program");
    let report = std::fs::read_to_string(report).unwrap();
    assert!(report.contains("after a signal: sleep["), "{report}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_terminal_that_takes_nothing_does_not_keep_the_run() {
    require_all();
    let (_reader, writer) = full_pipe();
    let run = start(&["-v"], &["true"], writer.into());
    wait_until(|| is_blocked(&run));
    send(&run, Signal::SIGTERM);
    assert_eq!(ends(run).signal(), Some(15));
    // Once there is room, nothing is lost.
    let (mut other, writer) = full_pipe();
    let run = start(&["-v"], &["true"], writer.into());
    wait_until(|| is_blocked(&run));
    let said = std::thread::spawn(move || {
        let mut said = String::new();
        other.read_to_string(&mut said).unwrap();
        said
    });
    assert!(ends(run).success());
    let said = said.join().unwrap();
    let said = said.trim_start_matches('x');
    assert!(said.starts_with("lastack: ") && said.ends_with('\n'), "{said}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_capture_that_nobody_reads_does_not_keep_the_run() {
    require_all();
    let place = tempfile::tempdir().unwrap();
    let fifo = place.path().join("capture");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut reader =
        File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&fifo).unwrap();
    fill(&mut reader);
    let sent = place.path().join("sent");
    // More than is buffered before the first write to the pipe.
    let script = format!(
        "import socket, time\ns = socket.socket(type=socket.SOCK_DGRAM)\n\
         for i in range(200): s.sendto(bytes(1000), ('10.0.2.2', 9)); time.sleep(0.001)\n\
         open({sent:?}, 'w').close()\ntime.sleep(1000)"
    );
    let run = start(&["-q", "-w", fifo.to_str().unwrap()], &["python3", "-c", &script], Stdio::inherit());
    wait_until(|| sent.exists());
    let begun = Instant::now();
    send(&run, Signal::SIGTERM);
    assert_eq!(ends(run).signal(), Some(15));
    assert!(begun.elapsed() < LIMIT);
}

/// Four name servers and a port that answer nothing, until their parent has ended.
const SILENT: &str = r#"
import os, socket, time
kept = []
for at in [(f"127.0.0.{n}", 53) for n in range(1, 5)] + [("127.0.0.1", 5432)]:
    udp = socket.socket(type=socket.SOCK_DGRAM); udp.bind(at)
    tcp = socket.socket(); tcp.bind(at); tcp.listen(0)
    kept += [udp, tcp]
    for _ in range(4):
        pending = socket.socket(); pending.setblocking(False); pending.connect_ex(at); kept.append(pending)
parent = os.getppid()
print("ready", flush=True)
while os.getppid() == parent: time.sleep(0.1)
"#;

/// Asks all of them, over UDP and TCP, and connects to the port under both its names. A child does not end with SIGTERM.
const ASK: &str = r#"
import os, signal, socket, sys, time
query = b"\0\7\1\0\0\1\0\0\0\0\0\0\1a\4test\0\0\1\0\1"
kept = []
for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
    for at in ("10.0.2.3", 53), ("10.0.2.2", 53), ("10.0.2.2", 5432), ("127.0.0.1", 5432):
        s = socket.socket(type=kind); s.setblocking(False); s.connect_ex(at); kept.append(s)
        if kind == socket.SOCK_DGRAM and at[0] != "127.0.0.1": s.send(query)
time.sleep(0.2)
if os.fork() == 0: signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w")
time.sleep(1000)
"#;

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn silent_name_servers_and_remotes_do_not_keep_the_run() {
    require_all();
    ["ip", "unshare", "mkfifo"].into_iter().for_each(require_tool);
    let place = tempfile::tempdir().unwrap();
    let script = format!(
        "ip link set lo up; mkfifo \"$0/started\"; python3 -c \"$1\" > \"$0/started\" & read line < \"$0/started\"; \
         exec {LASTACK} run -q --host-loopback --map-localhost 5432 --net 10.0.2.0/24 \
         -D 127.0.0.1 -D 127.0.0.2 -D 127.0.0.3 -D 127.0.0.4 -- python3 -c \"$2\" \"$0/ready\""
    );
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c", &script]).arg(place.path());
        let run = Running::start(command.args([SILENT, ASK]).stderr(Stdio::null()));
        wait_until(ready(place.path()));
        send(&run, signal);
        assert!(!ends(run).success());
        std::fs::remove_file(place.path().join("ready")).unwrap();
        std::fs::remove_file(place.path().join("started")).unwrap();
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_network_that_is_served_is_left_at_a_signal() {
    require_all();
    require_tool("unshare");
    let place = tempfile::tempdir().unwrap();
    let pid_file = place.path().join("pid");
    let other = Running::start(Command::new("unshare").args(["-n", "sleep", "1000"]));
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let theirs = format!("/proc/{}/ns/net", other.id());
    wait_until(|| std::fs::read_link(&theirs).is_ok_and(|net| net != own));
    let join = other.id().to_string();
    let pid = pid_file.to_str().unwrap();
    for options in
        [&["-q", "--join", &join, "--pid", pid][..], &["-q", "--join", &join, "--pid", pid, "--detach"]]
    {
        let run = Running::start(Command::new(LASTACK).arg("run").args(options));
        let served = || std::fs::read_to_string(&pid_file).is_ok_and(|text| text.ends_with('\n'));
        wait_until(served);
        let process: i32 = std::fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
        if options.contains(&"--detach") {
            assert!(ends(run).success());
            kill(Pid::from_raw(process), Signal::SIGTERM).unwrap();
        } else {
            send(&run, Signal::SIGTERM);
            assert!(ends(run).success());
        }
        wait_until(|| !Path::new(&format!("/proc/{process}/exe")).exists());
        std::fs::remove_file(&pid_file).unwrap();
    }
}
