//! Why a step is forbidden on this machine, and the remedy. An errno alone is ambiguous: the same EPERM comes from four
//! different settings.

use std::{env, fs, path::Path};

use nix::errno::Errno;

use super::{Failure, Step, ids};

/// A known obstacle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Explanation {
    /// The setting that forbids it.
    pub(super) cause: String,
    /// The remedy.
    pub(super) cure: String,
}

/// The settings of this machine that can forbid namespaces and devices.
#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    /// kernel.apparmor_restrict_unprivileged_userns (Ubuntu 23.10 and later).
    apparmor_restricts: bool,
    /// kernel.unprivileged_userns_clone is 0 (Debian, Arch).
    clone_forbidden: bool,
    /// user.max_user_namespaces is 0.
    none_allowed: bool,
    /// The kernel has user namespaces.
    supported: bool,
    /// A seccomp filter is active.
    seccomp: bool,
    /// This process is in a container.
    container: bool,
    /// SELinux enforces its policy.
    selinux: bool,
    /// This process is root.
    root: bool,
    /// This process has CAP_SETFCAP.
    may_map_root: bool,
    /// The root directory is not the root of a mount.
    chrooted: bool,
    /// The path of this program.
    program: String,
}

impl Host {
    pub(super) fn observe() -> Self {
        let number =
            |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let markers = ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"];
        Self {
            apparmor_restricts: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1),
            clone_forbidden: number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0),
            none_allowed: number("/proc/sys/user/max_user_namespaces") == Some(0),
            supported: Path::new("/proc/self/ns/user").exists(),
            seccomp: filtered(&status),
            container: markers.iter().any(|marker| Path::new(marker).exists()),
            root: nix::unistd::Uid::effective().is_root(),
            may_map_root: ids::effective_capabilities(&status).is_none_or(ids::may_map_root),
            selinux: number("/sys/fs/selinux/enforce") == Some(1),
            chrooted: !mounts.is_empty() && !root_is_mounted(&mounts),
            program: env::current_exe()
                .map_or_else(|_| "lastack".to_owned(), |path| path.display().to_string()),
        }
    }
}

/// Whether a seccomp filter is active, from /proc/self/status.
fn filtered(status: &str) -> bool {
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

/// Whether "/" is a mount point, from /proc/self/mountinfo.
fn root_is_mounted(mounts: &str) -> bool {
    mounts.lines().any(|line| line.split(' ').nth(4) == Some("/"))
}

/// The explanation, if it is a known obstacle.
pub(super) fn explain(failure: &Failure, host: &Host) -> Option<Explanation> {
    let errno = Errno::from_raw(failure.errno);
    match (failure.step, errno) {
        (Step::UserMap, Errno::EPERM) if host.root && !host.may_map_root => Some(explanation(
            "root without the capability CAP_SETFCAP may not be root in a user namespace",
            "give it (docker run --cap-add SETFCAP; setpriv, capsh and systemd: keep cap_setfcap in the bounding set), \
             or run as an ordinary user",
        )),
        (Step::Join, Errno::EEXIST) => Some(explanation(
            "another lastack serves that network namespace already, or served it and was not ended",
            "run the program there with nsenter --net=FILE, choose another name with --interface, or remove the interface",
        )),
        (Step::Join, Errno::EPERM | Errno::EACCES) => Some(explanation(
            "only root, or the user who made the user namespace of that network namespace, may join it",
            "run lastack as that user, or as root; --join-user names the user namespace if it is another one",
        )),
        (Step::Join, _) => None,
        (Step::Network, Errno::EEXIST) => Some(explanation(
            "the network namespace has that address or a default route already",
            "choose a network namespace without a network of its own, or remove its default route",
        )),
        (Step::Unshare | Step::UserMap, _) => Some(namespaces(errno, host)),
        (Step::Network | Step::Veth, Errno::EPERM | Errno::EACCES) => Some(forbidden(host)),
        // A container forbids opening the device; the later steps need privileges in the namespace.
        (Step::Tun, Errno::EPERM) if host.apparmor_restricts => Some(forbidden(host)),
        (Step::Tun, _) => tun(errno),
        (Step::Veth, _) => veth(errno),
        (Step::Network, Errno::EINVAL | Errno::ENETUNREACH | Errno::EHOSTUNREACH) => Some(explanation(
            "the kernel accepts a gateway only inside the guest's network",
            "choose an address, prefix and gateway that fit together, such as 10.0.2.100/24 and 10.0.2.2",
        )),
        (Step::Exec, Errno::ENOENT) => Some(explanation(
            "there is no such program in the directories of PATH, or the interpreter its first line names is missing",
            "correct the name, or give the program's path",
        )),
        (Step::Exec, Errno::EACCES) => Some(explanation(
            "it is a directory, is not marked executable, or lies in a directory you may not enter",
            "chmod +x it, or name the program that runs it (such as sh FILE)",
        )),
        (Step::Exec, Errno::ENOEXEC) => Some(explanation(
            "it is not a program for this kind of machine",
            "name the program that runs it (such as sh FILE)",
        )),
        _ => None,
    }
}

fn explanation(cause: &str, cure: &str) -> Explanation {
    Explanation { cause: cause.to_owned(), cure: cure.to_owned() }
}

fn namespaces(errno: Errno, host: &Host) -> Explanation {
    match errno {
        Errno::ENOSPC if host.none_allowed => explanation(
            "the setting user.max_user_namespaces is 0: no user may create a user namespace",
            "sudo sysctl user.max_user_namespaces=15000, or run as root",
        ),
        Errno::ENOSPC => explanation(
            "as many namespaces exist as user.max_user_namespaces, user.max_net_namespaces or user.max_mnt_namespaces allow",
            "end programs that hold namespaces, or raise the setting with sysctl",
        ),
        Errno::EUSERS => explanation(
            "user namespaces are nested too deeply (32 levels)",
            "run it outside of some of the surrounding containers",
        ),
        Errno::EINVAL | Errno::ENOSYS if !host.supported => explanation(
            "this kernel has no user namespaces (CONFIG_USER_NS)",
            "run as root, or use a kernel that has them",
        ),
        _ => forbidden(host),
    }
}

/// The likely origin of EPERM or EACCES.
fn forbidden(host: &Host) -> Explanation {
    if host.clone_forbidden {
        explanation(
            "the setting kernel.unprivileged_userns_clone is 0: only root may create a user namespace",
            "sudo sysctl kernel.unprivileged_userns_clone=1, or run as root",
        )
    } else if host.apparmor_restricts {
        apparmor(&host.program)
    } else if host.chrooted {
        explanation(
            "a process inside a chroot may not create a user namespace",
            "run it outside of the chroot",
        )
    } else if host.container || host.seccomp {
        explanation(
            "the container or a system call filter (seccomp) forbids new namespaces",
            "for Docker: docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
             (or --privileged); for Kubernetes: seccompProfile type Unconfined; podman's default allows it",
        )
    } else if host.selinux {
        explanation(
            "the SELinux policy forbids a user namespace, or the rights in it",
            "see ausearch -m AVC for the rule, allow user_namespace create, or run as root",
        )
    } else {
        explanation(
            "a security module of this system forbids it",
            "run as root, or see the kernel's log for who denied it",
        )
    }
}

fn apparmor(program: &str) -> Explanation {
    Explanation {
        cause: "AppArmor gives no rights in user namespaces to programs without a profile \
                (kernel.apparmor_restrict_unprivileged_userns is 1)"
            .to_owned(),
        cure: format!(
            "give it a profile: printf 'abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile lastack {program} \
             flags=(unconfined) {{ userns, }}\\n' | sudo tee /etc/apparmor.d/lastack && sudo apparmor_parser -r \
             /etc/apparmor.d/lastack; or for every program until the next boot: sudo sysctl \
             kernel.apparmor_restrict_unprivileged_userns=0; or run as root"
        ),
    }
}

fn tun(errno: Errno) -> Option<Explanation> {
    let (cause, cure) = match errno {
        Errno::ENOENT => (
            "there is no /dev/net/tun here, as in most containers",
            "choose --device veth, or: docker run --device /dev/net/tun",
        ),
        Errno::ENODEV | Errno::ENXIO => {
            ("the kernel's tun module is not loaded", "sudo modprobe tun, or choose --device veth")
        }
        Errno::EACCES => (
            "the file mode of /dev/net/tun denies access",
            "sudo chmod 0666 /dev/net/tun (most systems have it so), or choose --device veth",
        ),
        Errno::EPERM => (
            "the container's device rules forbid /dev/net/tun",
            "choose --device veth, or: docker run --device /dev/net/tun",
        ),
        Errno::EBUSY => ("another program holds the interface", "end it, or choose another name"),
        _ => return None,
    };
    Some(explanation(cause, cure))
}

fn veth(errno: Errno) -> Option<Explanation> {
    let (cause, cure) = match errno {
        Errno::EOPNOTSUPP => {
            ("the kernel has no veth interfaces (module veth)", "sudo modprobe veth, or choose --device tun")
        }
        Errno::EAFNOSUPPORT => (
            "the kernel has no packet sockets (module af_packet)",
            "sudo modprobe af_packet, or choose --device tun",
        ),
        _ => return None,
    };
    Some(explanation(cause, cure))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(step: Step, errno: i32, host: &Host) -> String {
        let failure = Failure { step, operation: String::new(), errno, before: None };
        let explanation = explain(&failure, host).expect("a known obstacle");
        assert!(!explanation.cure.is_empty());
        explanation.cause
    }

    fn host() -> Host {
        Host { supported: true, program: "/opt/lastack".to_owned(), ..Host::default() }
    }

    #[test]
    fn the_setting_that_forbids_it_is_named() {
        let eperm = libc::EPERM;
        let clone = Host { clone_forbidden: true, ..host() };
        assert!(cause(Step::Unshare, eperm, &clone).contains("kernel.unprivileged_userns_clone is 0"));
        let apparmor = Host { apparmor_restricts: true, ..host() };
        let refusals = [
            (Step::UserMap, eperm),
            (Step::UserMap, libc::EACCES),
            (Step::Tun, eperm),
            (Step::Veth, eperm),
            (Step::Network, eperm),
        ];
        for (step, errno) in refusals {
            assert!(cause(step, errno, &apparmor).contains("kernel.apparmor_restrict_unprivileged_userns"));
        }
        let bare = Host { root: true, may_map_root: false, ..host() };
        assert!(cause(Step::UserMap, eperm, &bare).contains("CAP_SETFCAP"));
        let none = Host { none_allowed: true, ..host() };
        assert!(cause(Step::Unshare, libc::ENOSPC, &none).contains("user.max_user_namespaces is 0"));
        assert!(cause(Step::Unshare, libc::ENOSPC, &host()).contains("as many namespaces"));
        let filtered = Host { seccomp: true, ..host() };
        assert!(cause(Step::Unshare, eperm, &filtered).contains("seccomp"));
        let container = Host { container: true, chrooted: true, ..host() };
        assert!(cause(Step::Unshare, eperm, &container).contains("chroot"));
        let old = Host { supported: false, ..host() };
        assert!(cause(Step::Unshare, libc::EINVAL, &old).contains("CONFIG_USER_NS"));
        assert!(cause(Step::Unshare, eperm, &host()).contains("security module"));
    }

    #[test]
    fn the_profile_of_the_cure_names_this_program() {
        let cure = apparmor("/opt/lastack").cure;
        assert!(cure.contains("profile lastack /opt/lastack flags=(unconfined) { userns, }"));
    }

    #[test]
    fn a_missing_device_is_distinguished_from_a_forbidden_one() {
        assert!(cause(Step::Tun, libc::ENOENT, &host()).contains("there is no /dev/net/tun"));
        assert!(cause(Step::Tun, libc::EACCES, &host()).contains("file mode"));
        assert!(cause(Step::Tun, libc::ENODEV, &host()).contains("module is not loaded"));
        assert!(cause(Step::Veth, libc::EOPNOTSUPP, &host()).contains("module veth"));
        assert!(cause(Step::Exec, libc::ENOENT, &host()).contains("no such program"));
    }

    #[test]
    fn the_files_of_proc_are_read_right() {
        assert!(filtered("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!filtered("Name:\tx\nSeccomp:\t0\nSeccomp_filters:\t2\n"));
        assert!(root_is_mounted("22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"));
        assert!(!root_is_mounted("30 22 0:5 / /proc rw - proc proc rw\n"));
        assert!(Host::observe().supported);
    }
}
