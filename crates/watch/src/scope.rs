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
            Self::Destroyed => "sockets that end: bytes unread and undelivered, retransmissions",
            Self::Counters => "how many resets, aborts and timeouts there were",
            Self::Processes => "processes that end, and the signals that kill them",
            Self::Sockets => "open sockets, and the processes that own them",
            Self::Packets => "SYN, FIN, RST and ICMP: who reset, with which numbers and TTL",
            Self::Tracepoints => "the kernel's reason for each reset, and the error that the program gets",
            Self::Calls => "which process of the program connects, and where",
        }
    }

    /// What is not known without it.
    #[must_use]
    pub const fn without(self) -> &'static str {
        match self {
            Self::Destroyed => "bytes unread and undelivered",
            Self::Counters => "causes, where there are no tracepoints",
            Self::Processes => "the signal that killed a process",
            Self::Sockets => "the owners of accepted connections",
            Self::Packets => "the kind of a peer's reset, interference by devices on the path",
            Self::Tracepoints => "the kernel's reason (it is inferred), the process of short connections",
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
            Self::Tracepoints => "root, or CAP_PERFMON and a readable tracefs",
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
        words.push_str("\n  this is a container: processes outside of it have no names here");
    }
    words
}

/// The lines at the start: what is seen, what is not, and what would give more.
#[must_use]
pub fn start(scope: &str, sources: &[Availability]) -> String {
    let mut out = format!("watching the TCP connections of {scope}\n");
    let line = |out: &mut String, name: &str, text: &str| {
        let _ = writeln!(out, "  {name:<12} {text}");
    };
    for source in sources.iter().filter(|source| source.error.is_none()) {
        line(&mut out, source.source.name(), source.source.shows());
        if let Some(limit) = &source.limit {
            line(&mut out, "", &format!("({limit})"));
        }
    }
    let missing = || sources.iter().filter_map(|source| Some((source, source.error.as_ref()?)));
    if missing().next().is_some() {
        out.push_str("not seen:\n");
    }
    for (source, error) in missing() {
        line(&mut out, source.source.name(), source.source.without());
        if let Some(limit) = &source.limit {
            line(&mut out, "", &format!("({limit})"));
        }
        let error = error.to_string();
        let error = error.split(" (os error").next().unwrap_or_default();
        line(&mut out, "", &format!("{error}; needs {}", source.source.needs()));
    }
    out
}
