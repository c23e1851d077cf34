//! Guests in namespaces of their own, as root and as nobody: what they see, what they can do, how they end.

use std::{
    env,
    ffi::OsString,
    fs,
    future::poll_fn,
    io::{BufRead, BufReader, Read, Write},
    net::IpAddr,
    os::unix::{
        fs::PermissionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use lastack_device::{Device, DeviceKind};
use lastack_engine::Instant;
use lastack_link::Link;
use lastack_wire::{IpPacket, UdpHeader, ip};
use nix::{sys::signal::Signal, sys::termios, unistd::Pid};

use lastack_run::namespace::{
    DeviceChoice, Guest, LaunchError, Launched, Network, Plan, Signals, Step, exit_as, resolv_conf,
};

const NOBODY: u32 = 65_534;
/// How long a test waits for what never comes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Tells a copy of this test program to play a part in a test.
const PART: &str = "LASTACK_TEST_PART";

/// A plan that the program under test carries out, from a place where everybody can read it.
fn prepare() -> (Plan, tempfile::TempDir) {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let launcher = place.path().join("lastack");
    // By another process: if this one had it open for writing, a guest of another thread could inherit that.
    copy(Path::new(env!("CARGO_BIN_EXE_lastack")), &launcher);
    let network = |address: &str, prefix, gateway: &str| Network {
        address: ip(address),
        prefix,
        gateway: ip(gateway),
        path_mtu: None,
    };
    let networks = vec![network("10.0.2.100", 24, "10.0.2.2"), network("fd00::100", 64, "fd00::2")];
    (Plan { launcher, ..Plan::new(networks) }, place)
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

fn ip(address: &str) -> IpAddr {
    address.parse().unwrap()
}

fn words(command: &[&str]) -> Vec<OsString> {
    command.iter().map(OsString::from).collect()
}

/// Launches it with its standard output in a pipe.
fn launch(plan: &Plan, command: &[&str]) -> Result<Launched, LaunchError> {
    Guest::launch_with(plan, &words(command), |launcher| {
        launcher.stdout(Stdio::piped());
    })
}

/// Its standard output and its end.
fn finish(mut launched: Launched) -> (String, ExitStatus) {
    let mut output = String::new();
    launched.guest.take_stdout().unwrap().read_to_string(&mut output).unwrap();
    (output, launched.guest.wait_blocking().unwrap())
}

fn output(plan: &Plan, script: &str) -> String {
    let (output, status) = finish(launch(plan, &["sh", "-c", script]).unwrap());
    assert!(status.success(), "{status}: {output}");
    output
}

/// Runs `test` in a thread, as who we are and, if that is root, as nobody.
fn as_both(test: fn(&Plan)) {
    let me = uid();
    let run = |uid: u32| {
        // It is removed by this thread: another user may not.
        let (plan, _place) = prepare();
        let become_it = move || {
            if uid != me {
                drop_to(uid);
            }
            test(&plan);
        };
        if let Err(panic) = thread::spawn(become_it).join() {
            std::panic::resume_unwind(panic);
        }
    };
    run(me);
    assert_eq!(me, 0, "cannot run here: needs root, to become another user");
    run(NOBODY);
}

/// Gives up this thread's rights; the kernel keeps them for each thread, only libc's wrappers do not.
fn drop_to(id: u32) {
    // SAFETY: these calls take numbers, and an empty list.
    let results = unsafe {
        [
            libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()),
            libc::syscall(libc::SYS_setresgid, id, id, id),
            libc::syscall(libc::SYS_setresuid, id, id, id),
        ]
    };
    assert_eq!(results, [0; 3]);
}

/// Who this thread is.
fn uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// What `auto` should find: TUN if this thread may open it.
fn expected_kind() -> DeviceKind {
    let tun = fs::File::options().read(true).write(true).open("/dev/net/tun");
    if tun.is_ok() { DeviceKind::Tun } else { DeviceKind::Veth }
}

#[test]
#[ignore = "needs root"]
fn the_guest_keeps_its_user_and_has_its_own_network() {
    as_both(|plan| {
        let uid = uid();
        let launched =
            launch(plan, &["sh", "-c", "id -u; cat /proc/net/dev; grep CapEff /proc/self/status"]).unwrap();
        assert_eq!(launched.warnings, []);
        assert_eq!(launched.kind, expected_kind());
        let (output, status) = finish(launched);
        assert!(status.success());
        assert_eq!(output.lines().next(), Some(uid.to_string().as_str()));
        assert!(output.contains("lastack0:") && output.contains("lo:"), "{output}");
        assert!(!fs::read_to_string("/proc/net/dev").unwrap().contains("lastack0"));
        if uid != 0 {
            assert!(output.contains("CapEff:\t0000000000000000"), "{output}");
        }
    });
}

#[test]
#[ignore = "needs root"]
fn anybody_may_listen_below_1024_and_ping() {
    as_both(|plan| {
        let uid = uid();
        let settings = output(
            plan,
            "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range \
             /proc/sys/net/ipv6/conf/lastack0/accept_dad",
        );
        let words: Vec<&str> = settings.split_whitespace().collect();
        let gid = uid.to_string();
        assert_eq!(words, ["0", gid.as_str(), gid.as_str(), "0"]);
    });
}

#[test]
#[ignore = "needs root"]
fn packets_of_the_guest_come_out_of_the_device() {
    as_both(|plan| {
        for choice in [DeviceChoice::Auto, DeviceChoice::Veth] {
            let plan = Plan { device: choice, mtu: 1400, ..plan.clone() };
            let script = "echo four >/dev/udp/198.51.100.7/53; echo six >/dev/udp/2001:db8::7/53";
            let launched = launch(&plan, &["bash", "-c", script]).unwrap();
            let mut device = Device::from_fd(launched.kind, launched.device, 1400).unwrap();
            assert_eq!(device.capabilities().mtu, 1400);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let arrivals = runtime.block_on(async {
                tokio::time::timeout(PATIENCE, datagrams(&mut device, 2)).await.expect("nothing arrives")
            });
            let expected = [("10.0.2.100", "198.51.100.7", "four\n"), ("fd00::100", "2001:db8::7", "six\n")];
            let expected = expected.map(|(from, to, text)| (ip(from), ip(to), text.to_owned()));
            assert_eq!(arrivals, expected);
        }
    });
}

/// Source, destination and text of the next datagrams to port 53.
async fn datagrams(device: &mut Device, count: usize) -> Vec<(IpAddr, IpAddr, String)> {
    let (mut all, mut packet) = (Vec::new(), Vec::new());
    while all.len() < count {
        poll_fn(|cx| device.poll_readable(cx)).await.unwrap();
        while device.recv(Instant::ZERO, &mut packet).is_some() {
            let parsed = IpPacket::parse(&packet).unwrap();
            if parsed.header.protocol != ip::UDP {
                continue;
            }
            let (udp, payload) = UdpHeader::parse_unchecked(parsed.payload).unwrap();
            assert_eq!(udp.dst_port, 53);
            let text = String::from_utf8(payload.to_vec()).unwrap();
            all.push((parsed.header.src, parsed.header.dst, text));
        }
    }
    all
}

#[test]
#[ignore = "needs root"]
fn the_guest_uses_other_name_servers() {
    as_both(|plan| {
        let before = fs::read_to_string("/etc/resolv.conf").unwrap();
        let text = resolv_conf(&[ip("10.0.2.3"), ip("fd00::3")]);
        let plan = Plan { resolv_conf: Some(text.clone()), ..plan.clone() };
        assert_eq!(output(&plan, "cat /etc/resolv.conf"), text);
        assert_eq!(output(&plan, "ls -d /etc/passwd"), "/etc/passwd\n", "the directory is uncovered again");
        assert_eq!(fs::read_to_string("/etc/resolv.conf").unwrap(), before);
    });
}

#[test]
#[ignore = "needs root"]
fn a_program_that_cannot_run_is_reported_as_by_env() {
    as_both(|plan| {
        let cases: [(PathBuf, u8, &str); 4] = [
            ("no-such-program-here".into(), 127, "no such program"),
            ("/no/such/program".into(), 127, "no such program"),
            ("/etc".into(), 126, "directory"),
            ("/etc/passwd".into(), 126, "executable"),
        ];
        for (program, status, cause) in cases {
            let error = Guest::launch(plan, &[program.clone().into()]).unwrap_err();
            assert_eq!((error.failure().step, error.exit_status()), (Step::Exec, status), "{error}");
            assert!(error.to_string().contains(&*program.to_string_lossy()), "{error}");
            assert!(error.cause().unwrap().contains(cause), "{error}");
            assert!(error.cure().is_some());
        }
    });
}

#[test]
#[ignore = "needs root"]
fn a_device_that_cannot_be_had_is_named_with_its_cure() {
    as_both(|plan| {
        let plan = Plan { device: DeviceChoice::Tun, ..plan.clone() };
        match (expected_kind(), launch(&plan, &["true"])) {
            (DeviceKind::Tun, launched) => assert_eq!(launched.unwrap().kind, DeviceKind::Tun),
            (_, launched) => {
                let error = launched.unwrap_err();
                assert_eq!((error.failure().step, error.exit_status()), (Step::Tun, 125));
                assert!(error.to_string().starts_with("cannot open /dev/net/tun: "), "{error}");
                assert!(error.cure().unwrap().contains("--device veth"), "{error}");
            }
        }
    });
}

#[test]
fn a_plan_that_does_not_fit_together_is_refused() {
    let (plan, _place) = prepare();
    let network = Network { gateway: ip("192.0.2.1"), ..plan.networks[0] };
    let error = launch(&Plan { networks: vec![network], ..plan }, &["true"]).unwrap_err();
    assert_eq!(error.failure().step, Step::Network);
    assert!(error.to_string().contains("add the default route via 192.0.2.1"), "{error}");
    assert!(error.cure().unwrap().contains("10.0.2.2"), "{error}");
}

#[test]
fn a_launcher_that_does_not_know_its_part_is_reported() {
    let (plan, _place) = prepare();
    let error = launch(&Plan { launcher: "/bin/true".into(), ..plan.clone() }, &["true"]).unwrap_err();
    assert!(error.to_string().contains("it exited: exit status: 0"), "{error}");
    let error = launch(&Plan { launcher: "/no/such/launcher".into(), ..plan }, &["true"]).unwrap_err();
    assert_eq!((error.failure().step, error.exit_status()), (Step::Spawn, 125));
}

#[test]
fn the_hidden_argument_is_not_for_people() {
    let by_hand =
        Command::new(env!("CARGO_BIN_EXE_lastack")).args(["__namespace", "0", "1", "true"]).output().unwrap();
    assert_eq!(by_hand.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&by_hand.stderr).contains("for lastack's own use"));
}

/// One test for all that needs `Signals`, of which a process has one.
#[test]
fn the_end_is_awaited_and_signals_reach_the_guest() {
    let (plan, _place) = prepare();
    let mut signals = Signals::catch().unwrap();
    assert!(Signals::catch().is_err());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut wait = |mut launched: Launched| {
        runtime.block_on(async {
            tokio::time::timeout(PATIENCE, launched.guest.wait(&mut signals))
                .await
                .expect("it does not end")
                .unwrap()
        })
    };
    assert_eq!(wait(launch(&plan, &["sh", "-c", "exit 7"]).unwrap()).code(), Some(7));
    assert_eq!(wait(launch(&plan, &["sh", "-c", "kill -KILL $$"]).unwrap()).signal(), Some(9));

    for (signal, status) in
        [(Signal::SIGTERM, 15), (Signal::SIGINT, 2), (Signal::SIGHUP, 1), (Signal::SIGUSR1, 10)]
    {
        let script = format!("trap 'exit {status}' {status}; echo ready; while :; do sleep 0.01; done");
        let mut launched = launch(&plan, &["sh", "-c", &script]).unwrap();
        let mut line = String::new();
        BufReader::new(launched.guest.take_stdout().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        nix::sys::signal::kill(Pid::this(), signal).unwrap();
        assert_eq!(wait(launched).code(), Some(status));
    }
}

/// Runs one test of this file as a program of its own, which plays the part that `PART` names.
fn play(test: &str, part: &str) -> Command {
    let mut copy = Command::new(env::current_exe().unwrap());
    copy.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(PART, part);
    copy
}

#[test]
fn a_process_can_end_as_the_guest_did() {
    const TEST: &str = "a_process_can_end_as_the_guest_did";
    if let Ok(part) = env::var(PART) {
        exit_as(ExitStatus::from_raw(part.parse().unwrap()));
    }
    for status in [0, 7 << 8, 127 << 8, libc::SIGKILL, libc::SIGTERM, libc::SIGSEGV, libc::SIGPIPE] {
        let mut end =
            play(TEST, &status.to_string()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(!end.core_dumped());
        end = ExitStatus::from_raw(end.into_raw() & !0x80);
        assert_eq!(end.into_raw(), status);
    }
}

/// Ctrl-C reaches all programs in the foreground of a terminal, so it is not passed on; and it does not end the
/// launcher, which has a report to write.
#[test]
fn the_terminal_interrupts_the_guest_once() {
    const TEST: &str = "the_terminal_interrupts_the_guest_once";
    if env::var_os(PART).is_some() {
        let (plan, place) = prepare();
        let mut signals = Signals::catch().unwrap();
        let script = "trap 'echo caught' INT; echo ready; until read line; do :; done; exit 5";
        let mut launched = Guest::launch(&plan, &words(&["sh", "-c", script])).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let status = runtime.block_on(launched.guest.wait(&mut signals)).unwrap();
        println!("report {status}");
        std::io::stdout().flush().unwrap();
        // The process ends without it: the directory would be left behind.
        drop(place);
        exit_as(status);
    }
    let terminal = nix::pty::openpty(None, None).unwrap();
    // An interrupt discards what was written to the terminal a moment before or after, without NOFLSH.
    let mut modes = termios::tcgetattr(&terminal.slave).unwrap();
    modes.local_flags.insert(termios::LocalFlags::NOFLSH);
    termios::tcsetattr(&terminal.slave, termios::SetArg::TCSANOW, &modes).unwrap();
    let stream = || Stdio::from(terminal.slave.try_clone().unwrap());
    let mut command = play(TEST, "launcher");
    command.stdin(stream()).stdout(stream()).stderr(stream());
    // SAFETY: the closure makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            nix::errno::Errno::result(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
            Ok(())
        })
    };
    let mut launcher = command.spawn().unwrap();
    drop((command, terminal.slave));
    let mut screen = Screen { terminal: fs::File::from(terminal.master), text: String::new() };
    screen.read_until("ready");
    screen.terminal.write_all(b"\x03").unwrap();
    screen.read_until("caught");
    screen.terminal.write_all(b"enough\n").unwrap();
    screen.read_until("report exit status: 5");
    assert_eq!(screen.text.matches("caught").count(), 1, "{}", screen.text);
    assert_eq!(launcher.wait().unwrap().code(), Some(5));
}

/// The far end of a terminal, and all that was written there.
struct Screen {
    terminal: fs::File,
    text: String,
}

impl Screen {
    fn read_until(&mut self, text: &str) {
        let mut bytes = [0; 1024];
        while !self.text.contains(text) {
            // At the end of all programs there, the terminal gives an error.
            let len = self.terminal.read(&mut bytes).unwrap_or(0);
            assert_ne!(len, 0, "{text:?} is not in {:?}", self.text);
            self.text.push_str(&String::from_utf8_lossy(&bytes[..len]));
        }
    }
}

#[test]
fn the_guest_does_not_outlive_its_launcher() {
    const TEST: &str = "the_guest_does_not_outlive_its_launcher";
    if env::var_os(PART).is_some() {
        let (plan, place) = prepare();
        let launched = Guest::launch(&plan, &words(&["sleep", "1000"])).unwrap();
        println!("guest {}", launched.guest.id().unwrap());
        // The signal leaves no time to remove it.
        drop(place);
        nix::sys::signal::raise(Signal::SIGKILL).unwrap();
    }
    let output = play(TEST, "launcher").stderr(Stdio::inherit()).output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGKILL));
    let text = String::from_utf8(output.stdout).unwrap();
    let id =
        text.split("guest ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("it was launched");
    let running = || {
        // Field 3 of proc_pid_stat(5); a zombie that nobody reaps is no guest any more.
        fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    };
    let deadline = std::time::Instant::now() + PATIENCE;
    while running() {
        assert!(std::time::Instant::now() < deadline, "guest {id} still runs");
        thread::sleep(Duration::from_millis(5));
    }
}
