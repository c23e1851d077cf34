//! What is watched, and what can be seen with the privileges of this process.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::event::Source;
use crate::sources::Availability;

impl Source {
    /// What it shows.
    #[must_use]
    pub const fn shows(self) -> &'static str {
        match self {
            Self::Destroyed => {
                "sockets that end: bytes unread and undelivered, retransmissions, round-trip time"
            }
            Self::Counters => {
                "counts of resets, aborts and timeouts: the cause, if one connection ended at that time"
            }
            Self::Processes => "processes that end, and by which signal",
            Self::Sockets => "sockets alive, and the processes that own them",
            Self::Packets => {
                "SYN, FIN, RST and ICMP of both directions: who reset, with which numbers and TTL"
            }
            Self::Tracepoints => "the kernel's own reason for each reset, the error that the program gets",
            Self::Calls => "which process of the program connects where",
        }
    }

    /// What is not known without it.
    #[must_use]
    pub const fn without(self) -> &'static str {
        match self {
            Self::Destroyed => "bytes unread and undelivered",
            Self::Counters => "causes, where there are no tracepoints",
            Self::Processes => "the signal that killed a process whose sockets were not seen before",
            Self::Sockets => "the owners of accepted connections",
            Self::Packets => "which kind of reset the peer sent, what devices on the path do, refused peers",
            Self::Tracepoints => {
                "the kernel's reason: causes are inferred from counters, short connections have no process"
            }
            Self::Calls => "refused and other short connections of the program",
        }
    }

    /// What would make it available.
    #[must_use]
    pub const fn needs(self) -> &'static str {
        match self {
            Self::Destroyed => "Linux 4.3 or later with CONFIG_INET_DIAG",
            Self::Counters => "/proc",
            Self::Processes => "the initial namespaces; before Linux 6.6 also CAP_NET_ADMIN",
            Self::Sockets => {
                "CONFIG_INET_DIAG; CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE for the processes of others"
            }
            Self::Packets => "CAP_NET_RAW",
            Self::Tracepoints => "root, or CAP_PERFMON and a tracefs that this user may read",
            Self::Calls => "Linux 5.9 with CONFIG_SECCOMP_FILTER, on x86-64, ARM64 or RISC-V",
        }
    }
}

/// What is watched, in words: the host or the network namespace.
#[must_use]
pub fn scope(namespace: Option<&Path>) -> String {
    let link = |path: &str| fs::read_link(path).ok().map(|target| target.display().to_string());
    let own = link("/proc/thread-self/ns/net").unwrap_or_else(|| "an unknown network namespace".into());
    // PROC_PID_INIT_INO and PROC_NET_INIT_INO: the numbers of the namespaces of the machine itself.
    let initial_processes = link("/proc/self/ns/pid").as_deref() == Some("pid:[4026531836]");
    let initial =
        own == "net:[4026531833]" || initial_processes && link("/proc/1/ns/net").as_ref() == Some(&own);
    let mut words = match namespace {
        Some(path) => format!("the network namespace {} ({own})", path.display()),
        None if initial => format!("this host ({own})"),
        None => {
            format!("the network namespace of this process ({own}), not those of the rest of the machine")
        }
    };
    if !initial_processes {
        words.push_str("; this is a container: processes outside of it have no names here");
    }
    words
}

/// The lines at the start: what is seen, what is not, and what would give more.
#[must_use]
pub fn start(scope: &str, sources: &[Availability]) -> String {
    let mut out = format!("watching the TCP connections of {scope}\n");
    for source in sources.iter().filter(|source| source.error.is_none()) {
        let _ = write!(out, "  {:<14} {}", source.source.name(), source.source.shows());
        let _ = match &source.limit {
            Some(limit) => writeln!(out, "; {limit}"),
            None => writeln!(out),
        };
    }
    for source in sources {
        if let Some(error) = &source.error {
            let name = format!("no {}", source.source.name());
            let error = error.to_string();
            let error = error.split(" (os error").next().unwrap_or_default();
            let _ = write!(out, "  {name:<14} ({error}); not known: {}", source.source.without());
            if let Some(limit) = &source.limit {
                let _ = write!(out, "; {limit}");
            }
            let _ = writeln!(out, "; needs {}", source.source.needs());
        }
    }
    out
}
