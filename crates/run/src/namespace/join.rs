//! Entering a network namespace that exists already: another program's, or a container's.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
};
use serde::{Deserialize, Serialize};

use super::{Failure, Step, failure::StepResult};

/// linux/nsfs.h: the user namespace that owns a namespace, and the type of a namespace.
const NS_GET_USERNS: libc::Ioctl = 0xb701;
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

/// A network namespace to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The file of the network namespace: `/proc/PID/ns/net`, `/run/netns/NAME`.
    pub net: PathBuf,
    /// The file of the user namespace to enter before; `None`: the one that owns the network namespace.
    pub user: Option<PathBuf>,
    /// The process whose namespace it is: the run ends with it.
    pub process: Option<u32>,
}

impl Join {
    /// From a process id, or the path of a network namespace. The id of a `lastack run` stands for its program.
    ///
    /// # Errors
    /// The cause, and how to avoid it.
    pub fn new(text: &str) -> Result<Self, String> {
        let join = match text.parse::<u32>() {
            Ok(process) => Self::of_process(process)?,
            Err(_) => Self { net: PathBuf::from(text), user: None, process: process_of(Path::new(text)) },
        };
        join.check()?;
        Ok(join)
    }

    fn of_process(process: u32) -> Result<Self, String> {
        let net = |process: u32| PathBuf::from(format!("/proc/{process}/ns/net"));
        if !Path::new(&format!("/proc/{process}")).exists() {
            return Err(format!("there is no process {process}"));
        }
        let own = inode(&net(std::process::id())).ok();
        let there = |process: u32| inode(&net(process)).ok();
        if there(process).is_some() && there(process) == own {
            // Another run, whose program is below it.
            let exe = |process: u32| fs::read_link(format!("/proc/{process}/exe")).ok();
            let is_run = exe(process).is_some() && exe(process) == exe(std::process::id());
            let inside = super::processes::descendants(nix::unistd::Pid::from_raw(process.cast_signed()))
                .into_iter()
                .map(|found| found.id.as_raw().cast_unsigned())
                .filter(|_| is_run)
                .find(|found| there(*found).is_some_and(|net| Some(net) != own));
            let process = inside.ok_or_else(|| {
                format!(
                    "process {process} is in the network of this host: name a process in a network namespace of its own"
                )
            })?;
            return Ok(Self { net: net(process), user: None, process: Some(process) });
        }
        Ok(Self { net: net(process), user: None, process: Some(process) })
    }

    fn check(&self) -> Result<(), String> {
        let shown = self.net.display();
        let file = match File::open(&self.net) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(format!(
                    "cannot open {shown}: {error}: only root, or the user who made that namespace, may join it"
                ));
            }
            Err(error) => return Err(format!("cannot open {shown}: {error}")),
        };
        // SAFETY: the request takes no argument.
        let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
        if kind != libc::CLONE_NEWNET {
            return Err(format!(
                "{shown} is not a network namespace: name a process id, /proc/PID/ns/net or a file in /run/netns"
            ));
        }
        Ok(())
    }

    /// The number of the network namespace, by which /proc identifies it.
    pub fn inode(&self) -> io::Result<u64> {
        inode(&self.net)
    }

    /// Enters the namespaces. Afterwards this process has all privileges in them.
    pub(super) fn enter(&self) -> Result<(), Failure> {
        let opened = || format!("open {}", self.net.display());
        let net = File::open(&self.net).step(Step::Join, opened)?;
        let user = match &self.user {
            Some(path) => {
                Some(File::open(path).step(Step::Join, || format!("open {}", path.display()))?.into())
            }
            None => owner(&net),
        };
        if let Some(user) = user {
            match setns(&user, CloneFlags::CLONE_NEWUSER) {
                // EINVAL: this process is in it already.
                Ok(()) | Err(Errno::EINVAL) => {}
                Err(errno) => {
                    return Err(errno)
                        .step(Step::Join, || format!("enter the user namespace of {}", self.net.display()));
                }
            }
        }
        setns(&net, CloneFlags::CLONE_NEWNET)
            .step(Step::Join, || format!("enter the network namespace {}", self.net.display()))
    }
}

fn owner(net: &File) -> Option<OwnedFd> {
    // SAFETY: the request takes no argument, and returns a new descriptor.
    let fd = unsafe { libc::ioctl(net.as_raw_fd(), NS_GET_USERNS) };
    // SAFETY: the kernel has just created the descriptor. Failure: it is an ancestor's, or the kernel is too old.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

fn inode(path: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path)?.ino())
}

/// The process in `/proc/PID/ns/net`.
fn process_of(path: &Path) -> Option<u32> {
    path.strip_prefix("/proc").ok()?.iter().next()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_cannot_be_joined_is_an_error_with_a_cure() {
        let own = std::process::id().to_string();
        for (text, cure) in [
            ("4294967290", "there is no process"),
            (own.as_str(), "name a process in a network namespace of its own"),
            ("/nowhere/netns", "cannot open /nowhere/netns"),
            ("/dev/null", "is not a network namespace"),
            ("/proc/self/ns/mnt", "is not a network namespace"),
        ] {
            let error = Join::new(text).unwrap_err();
            assert!(error.contains(cure), "{text}: {error}");
        }
    }

    #[test]
    fn a_path_below_proc_names_its_process() {
        assert_eq!(process_of(Path::new("/proc/123/ns/net")), Some(123));
        assert_eq!(process_of(Path::new("/run/netns/123")), None);
        let join = Join::new("/proc/self/ns/net").unwrap();
        assert_eq!((join.process, join.inode().unwrap() > 0), (None, true));
    }
}
