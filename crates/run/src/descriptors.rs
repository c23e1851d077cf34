//! File descriptors: raises the limit, and ensures a minimum before the program runs.

use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What a run needs in addition to one for each flow: the runtime's, the device, the namespace's, files, and some
/// flows.
const NEEDED: usize = 32;

/// The original limits of this process, for the program.
#[derive(Clone, Copy, Debug)]
pub struct Descriptors {
    soft: u64,
    hard: u64,
}

impl Descriptors {
    /// Raises this process' limit to the maximum, and ensures a minimum.
    pub fn prepare() -> anyhow::Result<Self> {
        let (soft, hard) =
            getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit of descriptors")?;
        // If it fails, the current limit is used.
        let _unchanged = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        // Any descriptor will do; a socket needs no file, which a minimal root may lack.
        let probes: Vec<_> = (0..NEEDED).map_while(|_| UnixDatagram::unbound().ok()).collect();
        if probes.len() < NEEDED {
            let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(soft, |(now, _)| now);
            bail!(
                "only {} more descriptors may be opened, and a run needs {NEEDED} and one for each flow: raise the \
                 limit, which is {limit} (ulimit -n 1024)",
                probes.len()
            );
        }
        Ok(Self { soft, hard })
    }

    /// Restores the original limits for the program.
    pub fn restore_for(self, command: &mut Command) {
        let Self { soft, hard } = self;
        let restore = move || Ok(setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?);
        // SAFETY: the closure makes one system call and allocates nothing, so it may run between fork and exec.
        unsafe { command.pre_exec(restore) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_keeps_the_limits_that_lastack_was_given() {
        let before = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let limits = Descriptors::prepare().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -Sn; ulimit -Hn"]);
        limits.restore_for(&mut command);
        let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let seen: Vec<u64> = output.lines().map(|line| line.parse().unwrap_or(u64::MAX)).collect();
        assert_eq!(seen, [before.0, before.1]);
    }
}
