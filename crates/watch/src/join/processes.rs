//! The processes that are known, alive or ended.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::event::{Process, Time};

/// Max processes that are kept.
const MAX: usize = 1 << 14;

/// A process, and how it ended.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) process: Process,
    /// Between which times it ended, and its wait status.
    pub(super) exit: Option<((Time, Time), Option<i32>)>,
}

#[derive(Debug, Default)]
pub(super) struct ProcessTable {
    known: HashMap<u32, Known>,
    /// Processes whose calls were seen: those of the watched program.
    program: HashSet<u32>,
    /// In the order in which they became known.
    order: VecDeque<u32>,
}

impl ProcessTable {
    pub(super) fn add(&mut self, mut process: Process) {
        let pid = process.pid;
        // A description without a name leaves the name that another source has reported.
        if let Some(known) = self.known.get(&pid).filter(|_| process.comm.is_empty()) {
            process.comm = known.process.comm.clone();
            process.command = known.process.command.clone();
        }
        if self.known.insert(pid, Known { process, exit: None }).is_none() {
            self.order.push_back(pid);
        }
        while self.known.len() > MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// A process ended, whether it was described while it was alive or not.
    pub(super) fn exit(&mut self, between: (Time, Time), pid: u32, status: Option<i32>) {
        if !self.known.contains_key(&pid) {
            self.add(Process { pid, ..Process::default() });
        }
        if let Some(known) = self.known.get_mut(&pid) {
            known.exit = Some((between, status));
        }
    }

    /// This process belongs to the watched program.
    pub(super) fn join_program(&mut self, pid: u32) {
        if self.program.len() < MAX {
            self.program.insert(pid);
        }
    }

    pub(super) fn is_of_program(&self, pid: u32) -> bool {
        self.program.contains(&pid)
    }

    pub(super) fn get(&self, pid: u32) -> Option<&Known> {
        self.known.get(&pid)
    }

    /// Whether `pid` is `ancestor` or descends from it, as far as is known.
    pub(super) fn descends(&self, pid: u32, ancestor: u32) -> bool {
        let mut at = pid;
        for _ in 0..64 {
            if at == ancestor {
                return true;
            }
            match self.known.get(&at) {
                Some(known) if known.process.parent > 1 => at = known.process.parent,
                _ => return false,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_without_a_name_leaves_the_name() {
        let mut table = ProcessTable::default();
        table.add(Process {
            pid: 7,
            comm: "shop-cli".into(),
            command: "shop-cli x".into(),
            ..Process::default()
        });
        table.add(Process { pid: 7, parent: 5, ..Process::default() });
        let known = &table.get(7).unwrap().process;
        assert_eq!((&*known.comm, &*known.command, known.parent), ("shop-cli", "shop-cli x", 5));
        assert!(table.descends(7, 5));
    }
}
