//! System calls and copied bytes for each operation.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::environment::{Environment, Kind, Layout, Outer, Programs};
use crate::work::Work;

/// Counts the bytes that a process copies: those of memcpy and memmove, and those of the system calls that read and write.
const COUNTER: &str = include_str!("copies.c");

/// System calls of one operation, by name.
#[derive(Clone, Debug)]
pub struct Calls {
    pub kind: Kind,
    pub work: Work,
    pub by_name: BTreeMap<String, f64>,
}

impl Calls {
    pub fn total(&self) -> f64 {
        self.by_name.values().sum()
    }

    /// How many there should be at most.
    pub fn mark(&self) -> Option<f64> {
        match (self.kind, self.work) {
            (Kind::RunLastack, Work::PingPong) => Some(7.0),
            (Kind::RunLastack, Work::Connect) => Some(26.0),
            (Kind::RunLastack, Work::Refused) => Some(8.0),
            _ => None,
        }
    }
}

/// Bytes copied for each byte of payload.
#[derive(Clone, Copy, Debug)]
pub struct Copies {
    pub kind: Kind,
    pub work: Work,
    /// Within the process.
    pub user: f64,
    /// Between the process and the kernel.
    pub kernel: f64,
}

/// Of bulk transfer, an operation is this many bytes.
pub const MEGABYTE: u64 = 1_000_000;

fn operations(work: Work, amount: u64) -> f64 {
    match work {
        Work::Download { .. } | Work::Upload { .. } => amount as f64 / MEGABYTE as f64,
        _ => amount as f64,
    }
}

/// Counts with `strace -c` in each of the networks.
pub fn count(programs: &Programs, kinds: &[(Kind, &[Work])], time: Duration) -> Result<Vec<Calls>> {
    let outer = Outer::new(programs)?;
    let mut counted = Vec::new();
    for &(kind, works) in kinds {
        if !kind.is_available() {
            continue;
        }
        let mut environment = Environment::new(kind, programs, &[])?;
        for &work in works {
            let layout = layout(work);
            // The first operation includes one-time work.
            environment.run(&outer, work, Duration::from_millis(50), layout, false)?;
            let pid = environment.stack.context("nothing to trace")?;
            let trace = Trace::begin(pid)?;
            let outcome = environment.run(&outer, work, time, layout, false)?;
            let operations = operations(work, outcome.amount);
            let by_name = trace.end()?.into_iter().map(|(name, calls)| (name, calls as f64 / operations));
            counted.push(Calls { kind, work, by_name: by_name.collect() });
        }
    }
    Ok(counted)
}

fn layout(work: Work) -> Layout {
    match work {
        Work::Download { .. } | Work::Upload { .. } | Work::UdpUp { .. } | Work::UdpDown { .. } => {
            Layout::TwoCpus
        }
        _ => Layout::OneCpu,
    }
}

struct Trace {
    strace: std::process::Child,
    output: PathBuf,
}

impl Trace {
    fn begin(pid: u32) -> Result<Self> {
        let output = std::env::temp_dir().join(format!("lastack-bench-{}.strace", std::process::id()));
        let strace = Command::new("strace")
            .args(["-f", "-c", "-q", "-o"])
            .arg(&output)
            .args(["-p", &pid.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .context("start strace")?;
        let traced = || -> Result<bool> {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            Ok(!status.contains("TracerPid:\t0\n"))
        };
        let end = Instant::now() + Duration::from_secs(5);
        while !traced()? {
            ensure!(Instant::now() < end, "strace cannot trace");
            sleep(Duration::from_millis(5));
        }
        Ok(Self { strace, output })
    }

    fn end(mut self) -> Result<BTreeMap<String, u64>> {
        let pid = nix::unistd::Pid::from_raw(self.strace.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT)?;
        self.strace.wait()?;
        let text = fs::read_to_string(&self.output)?;
        fs::remove_file(&self.output)?;
        Ok(parse(&text))
    }
}

/// The table of `strace -c`: share, seconds, microseconds a call, calls, errors if there were any, name.
fn parse(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let name = *fields.last().filter(|name| **name != "total")?;
            let calls = fields.get(3)?.parse().ok()?;
            Some((name.to_owned(), calls))
        })
        .collect()
}

/// Counts copies with a library that is loaded before libc. `None` without a C compiler.
pub fn copies(programs: &Programs, kinds: &[Kind], time: Duration) -> Result<Option<Vec<Copies>>> {
    let directory = std::env::temp_dir().join(format!("lastack-bench-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let result = compile(&directory).and_then(|library| match library {
        Some(library) => copied(programs, kinds, time, &library, &directory).map(Some),
        None => Ok(None),
    });
    fs::remove_dir_all(&directory)?;
    result
}

fn compile(directory: &Path) -> Result<Option<PathBuf>> {
    let source = directory.join("copies.c");
    let library = directory.join("copies.so");
    fs::write(&source, COUNTER)?;
    let compiler = Command::new("cc")
        .args(["-O2", "-fno-builtin", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .output();
    let Ok(output) = compiler else { return Ok(None) };
    ensure!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
    Ok(Some(library))
}

fn copied(
    programs: &Programs,
    kinds: &[Kind],
    time: Duration,
    library: &Path,
    directory: &Path,
) -> Result<Vec<Copies>> {
    let outer = Outer::new(programs)?;
    let mut all = Vec::new();
    for &kind in kinds {
        let variables = [("LD_PRELOAD", library), ("COPIES", directory)];
        let mut environment = Environment::new(kind, programs, &variables)?;
        let file = directory.join(environment.stack.context("no process to count in")?.to_string());
        for work in [Work::Download { streams: 1 }, Work::Upload { streams: 1 }] {
            let (user_before, kernel_before) = counters(&file)?;
            let outcome = environment.run(&outer, work, time, Layout::TwoCpus, false)?;
            let (user, kernel) = counters(&file)?;
            let bytes = outcome.amount as f64;
            all.push(Copies {
                kind,
                work,
                user: (user - user_before) as f64 / bytes,
                kernel: (kernel - kernel_before) as f64 / bytes,
            });
        }
    }
    Ok(all)
}

fn counters(file: &Path) -> Result<(u64, u64)> {
    let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let number = |at: usize| {
        bytes.get(at..at + 8).and_then(|bytes| bytes.first_chunk()).map(|bytes| u64::from_ne_bytes(*bytes))
    };
    number(0).zip(number(8)).context("the counters are not complete")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_strace_is_read() {
        let table = "% time     seconds  usecs/call     calls    errors syscall\n\
                     ------ ----------- ----------- --------- --------- ----------------\n \
                     58,90    0,000182          12        15           writev\n \
                     41.10    0.000127          10        12         3 recvfrom\n\
                     ------ ----------- ----------- --------- --------- ----------------\n\
                     100.00    0.000309                    27         3 total\n";
        let calls = parse(table);
        assert_eq!(calls, BTreeMap::from([("writev".to_owned(), 15), ("recvfrom".to_owned(), 12)]));
    }
}
