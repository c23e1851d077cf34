//! Users and groups of the guest's user namespace.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::{self, Command, Stdio},
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, Gid, Pid, Uid, User, fork},
};

use super::{Failure, Step, failure::StepResult, plan::Identity};

/// Capabilities for mapping users other than oneself (capabilities(7)).
const SETGID: u32 = 6;
const SETUID: u32 = 7;
const SYS_ADMIN: u32 = 21;
const SETFCAP: u32 = 31;

/// Enters new user and mount namespaces, and a new network namespace if `net` has it, with all privileges in them.
/// Returns warnings.
///
/// Every outside user exists inside under the same number as far as the system permits the mapping: all of them if root
/// starts it; else only the current user, or with [`Identity::Root`] that user as root, with the ranges of /etc/subuid
/// and /etc/subgid for the others if newuidmap and newgidmap are installed.
pub(super) fn enter_namespaces(identity: Identity, net: CloneFlags) -> Result<Vec<Failure>, Failure> {
    let own = net | CloneFlags::CLONE_NEWNS;
    if Uid::effective().is_root() { as_root(identity, own) } else { as_user(identity, own) }
}

fn as_root(identity: Identity, own: CloneFlags) -> Result<Vec<Failure>, Failure> {
    let mut warnings = Vec::new();
    if identity != Identity::HostRoot && capable(&[SETGID, SETUID, SYS_ADMIN, SETFCAP]) {
        let maps = Maps::all().step(Step::UserMap, || "read /proc/self/uid_map".to_owned())?;
        let writer = MapWriter::start(maps.write())?;
        match unshare(own | CloneFlags::CLONE_NEWUSER) {
            Ok(()) => {
                writer.finish("map users and groups into the namespace")?;
                return Ok(warnings);
            }
            Err(errno) => {
                let operation = "keep root's rights over this host from the program (a user namespace)";
                warnings.push(Failure::new(Step::Unshare, operation, &errno.into()));
            }
        }
    }
    match unshare(own) {
        // Root in a container without CAP_SYS_ADMIN is treated as any user.
        Err(Errno::EPERM) => as_user(identity, own),
        other => other
            .map(|()| warnings)
            .step(Step::Unshare, || "create network and mount namespaces (unshare)".to_owned()),
    }
}

fn as_user(identity: Identity, own: CloneFlags) -> Result<Vec<Failure>, Failure> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    let inner = if identity == Identity::Root { (0, 0) } else { (uid.as_raw(), gid.as_raw()) };
    let ranges = if identity == Identity::Root { Ranges::of(uid) } else { None };
    let mut warnings = Vec::new();
    if let Some(ranges) = ranges {
        let writer = MapWriter::start(ranges.write(uid, gid))?;
        unshare_user(own)?;
        match writer.finish(BY_RANGES) {
            Ok(()) => return Ok(warnings),
            // Map its own user and group at least.
            Err(failure) => warnings.push(failure),
        }
    } else {
        unshare_user(own)?;
    }
    let write = |file: &str, text: String| {
        let path = format!("/proc/self/{file}");
        fs::write(&path, text).step(Step::UserMap, || format!("write {path}"))
    };
    // Without outside privileges, a group map requires this first (user_namespaces(7)).
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("{} {uid} 1", inner.0))?;
    write("gid_map", format!("{} {gid} 1", inner.1))?;
    Ok(warnings)
}

fn unshare_user(own: CloneFlags) -> Result<(), Failure> {
    unshare(own | CloneFlags::CLONE_NEWUSER)
        .step(Step::Unshare, || "create user, network and mount namespaces (unshare)".to_owned())
}

/// Whether this process has all of these capabilities.
fn capable(wanted: &[u32]) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = effective_capabilities(&status).unwrap_or(0);
    wanted.iter().all(|capability| effective & (1 << capability) != 0)
}

/// The effective capabilities of /proc/PID/status.
pub(super) fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Whether this process may map the user root (`CAP_SETFCAP`, user_namespaces(7)).
pub(super) fn may_map_root(effective: u64) -> bool {
    effective & (1 << SETFCAP) != 0
}

/// Identity maps of all users and groups.
struct Maps {
    uids: String,
    gids: String,
}

impl Maps {
    /// All users and groups of this namespace.
    fn all() -> std::io::Result<Self> {
        let itself = |file: &str| fs::read_to_string(file).map(|map| identity(&map));
        Ok(Self { uids: itself("/proc/self/uid_map")?, gids: itself("/proc/self/gid_map")? })
    }

    fn write(self) -> impl FnOnce(Pid) -> Result<(), Errno> {
        move |process| {
            let write = |file: &str, text: &str| {
                let written = fs::write(format!("/proc/{process}/{file}"), text);
                written.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
            };
            write("uid_map", &self.uids)?;
            write("gid_map", &self.gids)
        }
    }
}

/// The identity map of the numbers in this map.
fn identity(map: &str) -> String {
    let extents = map.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace();
        let (first, _outside, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some(format!("{first} {first} {count}\n"))
    });
    extents.collect()
}

/// The range of subordinate ids of a user (subuid(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u32,
    count: u32,
}

/// Without them the run goes on.
const BY_RANGES: &str = "map the ranges of /etc/subuid and /etc/subgid, so that only the user itself exists inside (newuidmap and newgidmap, package uidmap)";

struct Ranges {
    uids: Range,
    gids: Range,
}

impl Ranges {
    fn of(uid: Uid) -> Option<Self> {
        let name = User::from_uid(uid).ok().flatten().map(|user| user.name).unwrap_or_default();
        let range = |file: &str| sub_range(&fs::read_to_string(file).ok()?, &name, uid);
        Some(Self { uids: range("/etc/subuid")?, gids: range("/etc/subgid")? })
    }

    /// Root is the user; 1 and up are the ids of the ranges, as in rootless containers.
    fn write(self, uid: Uid, gid: Gid) -> impl FnOnce(Pid) -> Result<(), Errno> {
        move |process| {
            map_by("newuidmap", process, uid.as_raw(), self.uids)?;
            map_by("newgidmap", process, gid.as_raw(), self.gids)
        }
    }
}

/// The first range of this user in subuid(5) or subgid(5).
fn sub_range(text: &str, name: &str, uid: Uid) -> Option<Range> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        let is_ours = owner == name && !name.is_empty() || owner == uid.to_string();
        (is_ours && count > 0).then_some(Range { first, count })
    })
}

fn map_by(program: &str, process: Pid, id: u32, range: Range) -> Result<(), Errno> {
    let Range { first, count } = range;
    let numbers = [0, id, 1, 1, first, count].map(|number| number.to_string());
    let mut command = Command::new(program);
    command.arg(process.to_string()).args(numbers).stdin(Stdio::null()).stdout(Stdio::null());
    match command.stderr(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Errno::EPERM),
        Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))),
    }
}

/// A process that stays outside to write the maps: a process that has entered the namespace has no privilege to do so.
struct MapWriter {
    child: Pid,
    go: UnixStream,
}

impl MapWriter {
    fn start(write: impl FnOnce(Pid) -> Result<(), Errno>) -> Result<Self, Failure> {
        let spawn = || "start the process that writes the user map".to_owned();
        let (go, mut waiting) = UnixStream::pair().step(Step::Spawn, spawn)?;
        let entering = Pid::this();
        // SAFETY: this process has one thread, so its copy may do everything.
        match unsafe { fork() }.step(Step::Spawn, spawn)? {
            ForkResult::Parent { child } => Ok(Self { child, go }),
            ForkResult::Child => {
                drop(go);
                let signalled = waiting.read(&mut [0]).is_ok_and(|bytes| bytes == 1);
                let errno = if signalled { write(entering).err() } else { None };
                process::exit(errno.map_or(0, |errno| errno as i32))
            }
        }
    }

    fn finish(mut self, operation: &str) -> Result<(), Failure> {
        let operation = || operation.to_owned();
        self.go.write_all(&[1]).step(Step::UserMap, operation)?;
        match waitpid(self.child, None).step(Step::UserMap, operation)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            WaitStatus::Exited(_, errno) => Err(Errno::from_raw(errno)).step(Step::UserMap, operation),
            _ => Err(Errno::EIO).step(Step::UserMap, operation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_mapped_to_itself() {
        assert_eq!(identity("         0          0 4294967295\n"), "0 0 4294967295\n");
        assert_eq!(identity("0 1000 1\n1 100000 65536\n"), "0 0 1\n1 1 65536\n");
    }

    #[test]
    fn a_range_is_found_by_name_or_number() {
        let text = "alice:100000:65536\n1001:165536:1000\nempty:1:0\n";
        let range = |name, uid| sub_range(text, name, Uid::from_raw(uid));
        assert_eq!(range("alice", 1000), Some(Range { first: 100_000, count: 65_536 }));
        assert_eq!(range("bob", 1001), Some(Range { first: 165_536, count: 1000 }));
        assert_eq!(range("empty", 7), None);
        assert_eq!(range("", 8), None);
    }

    #[test]
    fn capabilities_are_read_right() {
        let all = effective_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n").unwrap();
        assert!(may_map_root(all));
        assert!(!may_map_root(effective_capabilities("CapEff:\t000001ff7fffffff").unwrap()));
        assert!(capable(&[]));
    }
}
