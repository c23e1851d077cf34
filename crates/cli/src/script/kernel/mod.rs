//! The kernel of this machine as the system under test: in a network namespace of its own, over a TUN device, in real
//! time.

mod calls;
mod info;
mod network;
mod sys;

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsFd, IntoRawFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::{Receiver, TryRecvError, channel},
    thread,
    time::{self, Duration},
};

use calls::{Outcome, Work};
use lastack_engine::Instant;
use lastack_packetdrill::{
    Call, Problem, Reply, Report, Sent, Settings, Setup, Span, System, arguments::Arguments, run_on,
};

/// The max deviation of an event from its time: kernel timers have ticks of 4 ms or more, and programs wait for
/// each other.
pub const TOLERANCE: Duration = Duration::from_millis(20);

/// The max time for a call to block before the script continues.
const DROWSINESS: Duration = Duration::from_millis(20);

/// The release of the kernel, without the suffix of the build.
pub fn release() -> io::Result<String> {
    let name = nix::sys::utsname::uname()?;
    let release = name.release().to_string_lossy();
    Ok(release.split(['-', '+', '_']).next().unwrap_or_default().to_owned())
}

/// Runs a script against the kernel; its commands run in `directory`.
///
/// # Errors
///
/// There is no namespace or no TUN device to run it in.
pub fn run(source: &str, settings: &Settings, directory: &Path) -> io::Result<Report> {
    // A thread enters a namespace, and leaves it by ending.
    let in_namespace = || {
        network::enter()?;
        let mut trouble = None;
        let report = run_on(source, settings, |setup| {
            Kernel::new(setup, directory).map_err(|error| {
                trouble = Some(error);
                Problem::unsupported(0..0, "no network namespace to run it in")
            })
        });
        trouble.map_or(Ok(report), Err)
    };
    thread::scope(|scope| match scope.spawn(in_namespace).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// The kernel as the system under test.
#[derive(Debug)]
struct Kernel {
    setup: Setup,
    directory: PathBuf,
    start: time::Instant,
    tun: OwnedFd,
    /// Packets that were read and not examined yet.
    packets: VecDeque<Sent>,
    /// The script's descriptor numbers, and the real ones.
    fds: BTreeMap<i64, RawFd>,
    opened: Option<OwnedFd>,
    /// The script has not set the congestion control of the namespace: CUBIC is set on each socket, because a
    /// namespace cannot choose a default other than the kernel's.
    default_congestion: bool,
    /// A byte for each call that has returned.
    returns: PipeReader,
    returned: PipeWriter,
}

/// A call made by a thread.
#[derive(Debug)]
struct Going {
    outcome: Receiver<io::Result<Outcome>>,
    /// The descriptor that it closes.
    closes: Option<i64>,
}

impl Kernel {
    fn new(setup: &Setup, directory: &Path) -> io::Result<Self> {
        let tun = network::open(setup)?;
        let (returns, returned) = io::pipe()?;
        Ok(Self {
            setup: setup.clone(),
            directory: directory.to_owned(),
            start: time::Instant::now(),
            tun,
            packets: VecDeque::new(),
            fds: BTreeMap::new(),
            opened: None,
            default_congestion: true,
            returns,
            returned,
        })
    }

    fn read_packet(&mut self) -> bool {
        let mut buf = vec![0; 1 << 16];
        // An error means that there is no packet.
        let Ok(len) = nix::unistd::read(&self.tun, &mut buf) else { return false };
        buf.truncate(len);
        self.packets.push_back(Sent { at: self.now(), bytes: buf, said: None });
        true
    }

    /// Waits until a blocking call blocks: the next event of the script may be what it waits for.
    fn let_sleep(
        &self,
        thread: nix::unistd::Pid,
        outcome: &Receiver<io::Result<Outcome>>,
    ) -> Option<io::Result<Outcome>> {
        let deadline = time::Instant::now() + DROWSINESS;
        while time::Instant::now() < deadline {
            if let Ok(outcome) = outcome.try_recv() {
                return Some(outcome);
            }
            let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
            let state = stat.rsplit(") ").next().unwrap_or_default();
            if state.starts_with('S') {
                break;
            }
            thread::sleep(Duration::from_micros(100));
        }
        None
    }

    fn spawn(&self, call: &Call, work: Work) -> io::Result<Going> {
        let (sender, outcome) = channel();
        let (tell_thread, thread) = channel();
        let mut returned = self.returned.try_clone()?;
        // The thread is abandoned if the call never returns.
        thread::Builder::new().name(call.name.clone()).spawn(move || {
            let _nobody_waits = tell_thread.send(nix::unistd::gettid());
            let _nobody_waits = sender.send(work());
            let _nobody_waits = returned.write_all(&[1]);
        })?;
        let closes = (call.name == "close").then(|| Arguments::new(call).number(0).unwrap_or(-1));
        if call.until.is_some()
            && let Ok(thread) = thread.recv()
            && let Some(early) = self.let_sleep(thread, &outcome)
        {
            let (sender, outcome) = channel();
            let _receiver_is_here = sender.send(early);
            return Ok(Going { outcome, closes });
        }
        Ok(Going { outcome, closes })
    }
}

impl System for Kernel {
    type Operation = Going;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    fn step(&mut self, limit: Instant, _going_on: Option<&Going>) -> bool {
        let time = limit.elapsed().saturating_sub(self.now().elapsed());
        let (tun, returns) = match sys::wait([self.tun.as_fd(), self.returns.as_fd()], time) {
            Ok([tun, returns]) => (tun, returns),
            // Interrupted by a signal: the time is not over.
            Err(_) => return true,
        };
        if returns {
            let _one_byte_is_there = self.returns.read(&mut [0; 1]);
        }
        if tun {
            self.read_packet();
        }
        tun || returns
    }

    fn deliver(&mut self, packet: &[u8]) -> Option<String> {
        match nix::unistd::write(&self.tun, packet) {
            Ok(_) => None,
            Err(errno) => Some(format!("the device rejected the packet: {errno}")),
        }
    }

    fn sent(&mut self) -> Option<Sent> {
        if self.packets.is_empty() {
            self.read_packet();
        }
        self.packets.pop_front()
    }

    fn begin(&mut self, call: &Call) -> Result<Going, Problem> {
        let work = calls::prepare(call, &self.fds, &self.setup, self.default_congestion)?;
        self.spawn(call, work).map_err(|error| {
            Problem::mismatch(
                call.result_span.clone(),
                format!("cannot start a thread for the call: {error}"),
            )
        })
    }

    fn attempt(&mut self, going: &mut Going) -> Result<Option<Reply>, Problem> {
        let outcome = match going.outcome.try_recv() {
            Ok(outcome) => outcome,
            Err(TryRecvError::Empty) => return Ok(None),
            Err(TryRecvError::Disconnected) => {
                return Ok(Some(Reply::Wrong(-1, "the thread of the call died".into())));
            }
        };
        if outcome.is_ok()
            && let Some(fd) = going.closes
        {
            self.fds.remove(&fd);
        }
        Ok(Some(match outcome {
            Ok(Outcome::Value(value)) => Reply::Value(value),
            Ok(Outcome::Wrong(value, what)) => Reply::Wrong(value, what),
            Ok(Outcome::Opened(fd)) => {
                self.opened = Some(fd);
                Reply::Opened
            }
            Err(error) => Reply::Errno(error.raw_os_error().unwrap_or_default().into()),
        }))
    }

    fn name(&mut self, number: Option<i64>) {
        if let (Some(fd), Some(number)) = (self.opened.take(), number) {
            self.fds.insert(number, fd.into_raw_fd());
        }
    }

    fn is_open(&self, fd: i64) -> bool {
        self.fds.contains_key(&fd)
    }

    fn ends(&mut self, fd: i64) -> (Option<std::net::SocketAddr>, Option<std::net::SocketAddr>) {
        self.fds.get(&fd).map_or((None, None), |fd| sys::ends(*fd))
    }

    fn command(&mut self, command: &str, span: &Span) -> Result<(), Problem> {
        self.default_congestion &= !command.contains("tcp_congestion_control");
        let ran = Command::new("/bin/sh")
            .args(["-c", command])
            .current_dir(&self.directory)
            .env("PACKETDRILL_PID", std::process::id().to_string())
            .output();
        match ran {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => {
                let problem =
                    Problem::mismatch(span.clone(), format!("the command failed: {}", output.status));
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                Err(if said.is_empty() { problem } else { problem.note(said) })
            }
            Err(error) => Err(Problem::mismatch(span.clone(), format!("cannot run /bin/sh: {error}"))),
        }
    }

    fn snapshot(&mut self, fd: i64) -> Result<Vec<(&'static str, i64)>, String> {
        let fd = *self.fds.get(&fd).ok_or("the socket under test is not open")?;
        info::of(fd).map_err(|error| format!("TCP_INFO unavailable: {error}"))
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        for fd in self.fds.values() {
            sys::give_up(*fd);
        }
    }
}
