//! Processes: affinity, CPU time, memory, namespaces.

use std::fs;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// The threads of a process.
fn threads(pid: u32) -> Result<Vec<i32>> {
    let tasks =
        fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} has ended"))?;
    Ok(tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok()).collect())
}

/// Restricts all threads of a process to a CPU, or to none.
pub fn pin(pid: u32, cpu: Option<usize>) -> Result<()> {
    let mut set = CpuSet::new();
    match cpu {
        Some(cpu) => set.set(cpu)?,
        None => (0..cpus()).try_for_each(|cpu| set.set(cpu))?,
    }
    for thread in threads(pid)? {
        // A thread may end meanwhile.
        let _ended = sched_setaffinity(Pid::from_raw(thread), &set);
    }
    Ok(())
}

/// The number of CPUs.
pub fn cpus() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .max(fs::read_to_string("/proc/cpuinfo").map_or(1, |text| text.matches("\nprocessor").count() + 1))
}

/// CPU time of all threads of a process, in the user space and the kernel.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let mut total = 0;
    for thread in threads(pid)? {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")).unwrap_or_default();
        total += text.split_whitespace().next().and_then(|run| run.parse().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(total))
}

/// Resident memory of a process in bytes, with the mapped pages of its executable file and libraries.
pub fn memory(pid: u32) -> Result<u64> {
    status(pid, "VmRSS:")
}

/// The part of that which is the process's own, without files.
pub fn own_memory(pid: u32) -> Result<u64> {
    status(pid, "RssAnon:")
}

fn status(pid: u32, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

/// Runs `ip` with these arguments, separated by spaces.
pub fn ip(arguments: &str) -> Result<()> {
    run(Command::new("ip").args(arguments.split(' '))).with_context(|| format!("ip {arguments}"))
}

/// Runs `ip` in the network namespace of a process.
pub fn ip_in(pid: u32, arguments: &str) -> Result<()> {
    let pid = pid.to_string();
    run(Command::new("nsenter").args(["-t", &pid, "-n", "ip"]).args(arguments.split(' ')))
        .with_context(|| format!("ip {arguments}"))
}

/// Writes a sysctl of the network namespace of a process.
pub fn sysctl_in(pid: u32, assignment: &str) -> Result<()> {
    let pid = pid.to_string();
    run(Command::new("nsenter").args(["-t", &pid, "-n", "sysctl", "-qw", assignment]))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("start {:?}", command.get_program()))?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{:?}: {}", command.get_program(), message.trim());
    Ok(())
}

/// A child that is killed when it is no longer needed.
#[derive(Debug)]
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Fails if it has ended already.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// CPU time of the whole machine that was used, and of this process and its finished children.
pub fn machine_time() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("empty /proc/stat")?;
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal. Interrupts are work of ours that may be accounted to no process.
    let ticks: u64 =
        fields.iter().enumerate().filter(|(at, _)| matches!(at, 0..=2 | 7)).map(|(_, ticks)| ticks).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// CPU time of a process and all its descendants, those that have ended and were waited for too.
pub fn tree_time(root: u32) -> Duration {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((_, fields)) = text.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = fields.split(' ').collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        // Fields 14 to 17 of proc(5), of which the first two are before the parenthesis.
        let ticks: u64 = (11..15).map(number).sum();
        parents.push((pid, number(1) as u32, ticks));
    }
    let mut tree = vec![root];
    let mut at = 0;
    while at < tree.len() {
        let parent = tree[at];
        tree.extend(parents.iter().filter(|(_, of, _)| *of == parent).map(|(pid, ..)| *pid));
        at += 1;
    }
    let ticks: u64 = parents.iter().filter(|(pid, ..)| tree.contains(pid)).map(|(.., ticks)| ticks).sum();
    Duration::from_millis(ticks * 10)
}
