use std::{fmt, io};

use lastack_device::DeviceError;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::diagnosis::{self, Explanation, Host};

/// Exit status if lastack failed, not the guest (as for `env`, `timeout`).
const EXIT_INTERNAL: u8 = 125;
/// Exit status when the program was found and cannot be run.
const NOT_EXECUTABLE: u8 = 126;
/// Exit status when there is no such program.
const NOT_FOUND: u8 = 127;

/// The steps from the launcher to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Starting the copy of the launcher, and communicating with it.
    Spawn,
    /// Entering new namespaces.
    Unshare,
    /// Entering a network namespace that exists.
    Join,
    /// Mapping users and groups of the user namespace.
    UserMap,
    /// Creating the process namespace, and its supervisor.
    Processes,
    /// Creating the TUN interface.
    Tun,
    /// Creating the veth pair.
    Veth,
    /// Configuring interfaces, addresses and routes.
    Network,
    /// Setting a sysctl of the namespace.
    Sysctl,
    /// Replacing the guest's /etc/resolv.conf.
    ResolvConf,
    /// Executing the program.
    Exec,
}

/// A failed step, as reported by the process that becomes the guest to the launcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which step.
    pub step: Step,
    /// What was attempted; completes "cannot ...".
    pub operation: String,
    /// The errno of the kernel; 0 if the failure is not the kernel's.
    pub errno: i32,
    /// An earlier failure that led here (TUN, before veth was tried).
    pub before: Option<Box<Failure>>,
}

impl Failure {
    pub(super) fn new(step: Step, operation: impl Into<String>, error: &io::Error) -> Self {
        let mut operation = operation.into();
        let errno = error.raw_os_error().unwrap_or(0);
        if errno == 0 {
            operation = format!("{operation} ({error})");
        }
        Self { step, operation, errno, before: None }
    }

    pub(super) fn device(step: Step, error: &DeviceError) -> Self {
        match error.errno() {
            Some(errno) => Self { step, operation: error.operation().to_owned(), errno, before: None },
            None => Self::new(step, error.operation(), &io::Error::other(error.to_string())),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.operation)?;
        if self.errno != 0 {
            write!(f, ": {}", Errno::from_raw(self.errno).desc())?;
        }
        if let Some(before) = &self.before {
            write!(f, " (after: {before})")?;
        }
        Ok(())
    }
}

/// Attaches the step to the error of a call.
pub(super) trait StepResult<T> {
    /// `operation` completes "cannot ...".
    fn step(self, step: Step, operation: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> StepResult<T> for io::Result<T> {
    fn step(self, step: Step, operation: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(step, operation(), &error))
    }
}

impl<T> StepResult<T> for nix::Result<T> {
    fn step(self, step: Step, operation: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|errno| Failure::new(step, operation(), &errno.into()))
    }
}

/// Why the guest could not be started. Its display has what failed, the cause and the remedy on separate lines.
#[derive(Debug)]
pub struct LaunchError {
    failure: Failure,
    explanation: Option<Explanation>,
}

impl LaunchError {
    /// What failed.
    pub fn failure(&self) -> &Failure {
        &self.failure
    }

    /// The cause, if known.
    pub fn cause(&self) -> Option<&str> {
        self.explanation.as_ref().map(|explanation| explanation.cause.as_str())
    }

    /// The remedy, if known.
    pub fn cure(&self) -> Option<&str> {
        self.explanation.as_ref().map(|explanation| explanation.cure.as_str())
    }

    /// The exit status for it: 127 no such program, 126 it cannot be executed, 125 otherwise.
    pub fn exit_status(&self) -> u8 {
        match (self.failure.step, Errno::from_raw(self.failure.errno)) {
            (Step::Exec, Errno::ENOENT) => NOT_FOUND,
            (Step::Exec, _) => NOT_EXECUTABLE,
            _ => EXIT_INTERNAL,
        }
    }
}

impl From<Failure> for LaunchError {
    /// Determines the cause on this machine.
    fn from(failure: Failure) -> Self {
        let explanation = diagnosis::explain(&failure, &Host::observe());
        Self { failure, explanation }
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.failure)?;
        match &self.explanation {
            Some(explanation) => write!(f, "\n  cause: {}\n  cure: {}", explanation.cause, explanation.cure),
            None => Ok(()),
        }
    }
}

impl std::error::Error for LaunchError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(step: Step, errno: i32) -> LaunchError {
        let failure = Failure { step, operation: "run x".to_owned(), errno, before: None };
        LaunchError { failure, explanation: None }
    }

    #[test]
    fn exit_statuses_are_those_of_env() {
        assert_eq!(error(Step::Exec, libc::ENOENT).exit_status(), 127);
        assert_eq!(error(Step::Exec, libc::EACCES).exit_status(), 126);
        assert_eq!(error(Step::Exec, libc::ENOEXEC).exit_status(), 126);
        assert_eq!(error(Step::Unshare, libc::EPERM).exit_status(), 125);
        assert_eq!(error(Step::Spawn, libc::ENOENT).exit_status(), 125);
    }

    #[test]
    fn a_failure_has_the_error_of_the_kernel_and_the_failed_step() {
        let before =
            Failure::new(Step::Tun, "open /dev/net/tun", &io::Error::from_raw_os_error(libc::EACCES));
        let mut failure = Failure::new(Step::Veth, "create it", &io::Error::from_raw_os_error(libc::EPERM));
        failure.before = Some(Box::new(before));
        let expected =
            "cannot create it: Operation not permitted (after: cannot open /dev/net/tun: Permission denied)";
        assert_eq!(failure.to_string(), expected);
        let failure = Failure::new(Step::Spawn, "talk", &io::Error::other("nonsense"));
        assert_eq!(failure.to_string(), "cannot talk (nonsense)");
    }
}
