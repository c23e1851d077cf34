//! Two network namespaces with a link between them, and a watch in one of them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::parts::{PART, RESULT};

/// Addresses: this host, its peer, and one of the peer that falls silent.
pub const HERE: &str = "10.78.0.1";
pub const THERE: &str = "10.78.0.2";
pub const SILENT: &str = "10.78.0.3";

const NOBODY: &str = "65534";
const LIMIT: Duration = Duration::from_secs(60);

/// Who watches, and whose connections end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum User {
    Root,
    Nobody,
}

pub struct Scene {
    here: String,
    there: String,
    place: tempfile::TempDir,
    pub user: User,
}

fn run(command: &str) {
    let status = Command::new("sh").args(["-ec", command]).status().unwrap();
    assert!(status.success(), "{command}");
}

/// The test fails if network namespaces cannot be made, or a tool is missing.
pub fn require_root() {
    assert!(nix::unistd::geteuid().is_root(), "cannot run here: needs root, to make network namespaces");
    for tool in ["ip", "ss", "setpriv"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
        assert!(found.status.success(), "cannot run here: {tool} is missing");
    }
    // What this thread starts must run whatever else this machine does: what is there for a moment is to be seen, and a
    // process that is killed to end at once. Without the privilege for a higher priority it has to do without.
    let thread = nix::unistd::gettid().to_string();
    let _status = Command::new("renice").args(["-n", "-15", "-p", &thread]).output();
}

impl Scene {
    pub fn new(user: User) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let tag = format!("lw{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (here, there) = (format!("{tag}h"), format!("{tag}p"));
        run(&format!(
            "ip netns add {here}; ip netns add {there}
             ip -n {here} link set lo up; ip -n {there} link set lo up
             ip -n {here} link add v0 type veth peer name v1 netns {there}
             ip -n {here} addr add {HERE}/24 dev v0; ip -n {there} addr add {THERE}/24 dev v1
             ip -n {there} addr add {SILENT}/24 dev v1
             ip -n {here} link set v0 up; ip -n {there} link set v1 up
             mac=$(ip -n {there} -br link show v1 | awk '{{print $3}}')
             ip -n {here} neigh replace {SILENT} lladdr $mac dev v0 nud permanent"
        ));
        let place = tempfile::tempdir().unwrap();
        run(&format!(
            "chmod 755 {0}; cp {1} {0}/lastack; cp {2} {0}/part; chmod 755 {0}/lastack {0}/part",
            place.path().display(),
            env!("CARGO_BIN_EXE_lastack"),
            std::env::current_exe().unwrap().display()
        ));
        Self { here, there, place, user }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// A command in the watched namespace, as the user.
    fn here(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.here]);
        if self.user == User::Nobody {
            command.args(["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
            command.args(["--inh-caps=-all", "--bounding-set=-all"]);
        }
        command.arg(program);
        command
    }

    /// A watch of this command, as the user.
    pub fn watch_command(&self, options: &[&str], program: &[&str]) -> Command {
        let mut command = self.here(&self.path("lastack"));
        command.arg("watch").args(options).arg("--").args(program);
        command
    }

    /// A watch of a program that plays a part.
    pub fn watch_part(&self, options: &[&str], part: &str) -> Command {
        let program = self.path("part");
        let mut command = self.watch_command(options, &[program.to_str().unwrap()]);
        command.args(["--exact", "parts::play", "--nocapture"]).env(PART, part).stdout(Stdio::null());
        command
    }

    /// A shell command that plays a part, with a file for its result.
    pub fn part_command(&self, part: &str, result: &Path) -> String {
        let (program, result) = (self.path("part"), result.display());
        format!(
            "env '{PART}={part}' '{RESULT}={result}' {} --exact parts::play --nocapture",
            program.display()
        )
    }

    /// An empty file that every user may write.
    pub fn file_for_all(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        run(&format!(": >{0}; chmod 666 {0}", path.display()));
        path
    }

    /// The processes in the watched namespace.
    pub fn processes(&self) -> Vec<String> {
        let found = Command::new("ip").args(["netns", "pids", &self.here]).output().unwrap();
        String::from_utf8_lossy(&found.stdout).split_whitespace().map(str::to_owned).collect()
    }

    /// A command in the peer's namespace, as root.
    fn there(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.there]).arg(program);
        command
    }

    fn play(&self, mut command: Command, part: &str) -> Part {
        command.args(["--exact", "parts::play", "--nocapture"]).env(PART, part).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        if part.contains(" server-") {
            let mut out = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            while !line.contains("ready") {
                line.clear();
                assert!(out.read_line(&mut line).unwrap() > 0, "{part} did not begin");
            }
        }
        Part { child, name: part.to_owned() }
    }

    /// A program of this host.
    pub fn play_here(&self, part: &str) -> Part {
        self.play(self.here(&self.path("part")), part)
    }

    /// A program of the peer.
    pub fn play_there(&self, part: &str) -> Part {
        self.play(self.there(&self.path("part")), part)
    }

    /// A shell command as root in the watched namespace.
    pub fn as_root(&self, command: &str) {
        run(&format!("ip netns exec {} {command}", self.here));
    }

    /// From now on nothing is answered at that address.
    pub fn fall_silent(&self) {
        run(&format!("ip -n {} addr del {SILENT}/24 dev v1", self.there));
    }

    pub fn watch(&self, options: &[&str]) -> Watch {
        let mut command = self.here(&self.path("lastack"));
        command.args(["watch", "--json", "--all"]).args(options).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = out.next().expect("no start").unwrap();
        let start = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no start: {line:?}"));
        let (sender, records) = channel();
        // Ends with the output, or with the test.
        spawn(move || out.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Watch { child, records, seen: Vec::new(), start }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for name in [&self.here, &self.there] {
            let _gone = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// A program that plays a part.
pub struct Part {
    child: Child,
    name: String,
}

impl Part {
    /// `ip` and `setpriv` execute the program in their own place: this is its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn end(mut self) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let killed = self.name.contains("killed");
                assert!(status.success() || killed, "{}: {status}", self.name);
                return;
            }
            assert!(begun.elapsed() < LIMIT, "{} does not end", self.name);
            sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A running watch.
pub struct Watch {
    child: Child,
    records: Receiver<String>,
    seen: Vec<Value>,
    pub start: Value,
}

impl Watch {
    /// Whether it has this source.
    pub fn has(&self, source: &str) -> bool {
        let sources = self.start["sources"].as_array().unwrap();
        sources.iter().any(|entry| entry["source"] == source && entry["open"] == true)
    }

    fn add(&mut self, line: &str) {
        self.seen.push(serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")));
    }

    /// Waits until it has reported this number of connections that fit.
    pub fn await_records(&mut self, what: &str, count: usize, fits: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        while self.seen.iter().filter(|record| fits(record)).count() < count {
            let left = LIMIT.checked_sub(begun.elapsed()).unwrap_or_default();
            match self.records.recv_timeout(left) {
                Ok(line) => self.add(&line),
                Err(error) => panic!("{what} is not reported: {error}; reported: {:#?}", self.seen),
            }
        }
    }

    /// Ends it, and gives its records: those of connections, and the summary.
    pub fn end(mut self) -> (Vec<Value>, Value) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).unwrap();
        while let Ok(line) = self.records.recv_timeout(LIMIT) {
            self.add(&line);
        }
        assert!(self.child.wait().unwrap().success());
        let summary = self.seen.pop().expect("a summary");
        assert_eq!(summary["type"], "summary", "{summary}");
        (self.seen, summary)
    }
}
