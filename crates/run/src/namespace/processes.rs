//! Processes and their descendants, from /proc.

use std::collections::HashMap;
use std::fs;

use nix::unistd::Pid;

/// A process that is running or stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its process id here.
    pub id: Pid,
    /// Its name.
    pub name: String,
    /// The letter of its state (proc_pid_stat(5)).
    pub state: char,
    parent: Pid,
}

impl Process {
    /// From /proc; `None` if it has ended.
    pub fn of(id: Pid) -> Option<Self> {
        parse(id, &fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    /// Whether it was stopped by a signal.
    pub fn is_stopped(&self) -> bool {
        self.state == 'T'
    }
}

/// Parses proc_pid_stat(5). The name may contain parentheses and spaces.
fn parse(id: Pid, stat: &str) -> Option<Process> {
    let (head, rest) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = Pid::from_raw(fields.next()?.parse().ok()?);
    Some(Process { id, name, state, parent })
}

/// All live descendants of this process, children first. Those that end meanwhile may be missing.
pub fn descendants(ancestor: Pid) -> Vec<Process> {
    let mut children: HashMap<Pid, Vec<Process>> = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for process in ids.filter_map(|id| Process::of(Pid::from_raw(id))) {
        children.entry(process.parent).or_default().push(process);
    }
    let (mut found, mut next) = (Vec::new(), vec![ancestor]);
    while let Some(parent) = next.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            next.push(child.id);
            if !matches!(child.state, 'Z' | 'X') {
                found.push(child);
            }
        }
    }
    found
}

/// The children of this process, by process id.
pub fn children(parent: Pid) -> Vec<Process> {
    let mut children: Vec<_> =
        descendants(parent).into_iter().filter(|process| process.parent == parent).collect();
    children.sort_by_key(|process| process.id);
    children
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn names_may_have_anything_in_them() {
        let process = parse(Pid::from_raw(7), "7 (a) b (c) S 3 7 7 0 -1\n").unwrap();
        assert_eq!(
            (process.name.as_str(), process.state, process.parent),
            ("a) b (c", 'S', Pid::from_raw(3))
        );
        assert_eq!(parse(Pid::from_raw(7), ""), None);
    }

    #[test]
    fn descendants_are_found_and_ended_processes_are_not() {
        let mut shell = Command::new("sh").args(["-c", "sleep 100 & wait"]).spawn().unwrap();
        let names = || -> Vec<String> {
            let mut names: Vec<_> =
                descendants(Pid::this()).into_iter().map(|process| process.name).collect();
            names.sort();
            names
        };
        let begun = std::time::Instant::now();
        while !names().contains(&"sleep".to_owned()) {
            assert!(begun.elapsed().as_secs() < 10, "{:?}", names());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(names().contains(&"sh".to_owned()));
        let sleep = children(Pid::from_raw(shell.id().cast_signed())).pop().unwrap();
        assert_eq!(sleep.name, "sleep");
        nix::sys::signal::kill(sleep.id, nix::sys::signal::Signal::SIGKILL).unwrap();
        shell.wait().unwrap();
        assert_eq!(Process::of(sleep.id).filter(|process| process.name == "sleep"), None);
    }
}
