//! The options of `lastack watch`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use lastack_watch::{Filter, Source, SourceOptions, WatchOptions};

use crate::fail_on::FailOn;
use lastack_run::units;

/// Watch the TCP connections of this host, and report how each one ends, who ended it, and which process owned it
///
/// No program is changed and nothing is loaded into the kernel. Without any privilege it reports refused connections,
/// closes with unread data, killed processes and timeouts; root adds the packets and the kernel's own reasons. At the
/// start it prints what it can observe, what it cannot, and which privilege would add it.
///
/// With a command it watches that program and its children, and ends with it. Without privileges the program is then
/// stopped for a moment at each connect(), to see where it connects, and cannot gain privileges itself (sudo):
/// `--without calls` avoids both, and leaves refused connections out.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct WatchArgs {
    /// Only connections with this port at either end
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Vec<u16>,

    /// Only connections of this process
    #[arg(long, value_name = "PID", value_delimiter = ',', value_parser = process)]
    pub pid: Vec<u32>,

    /// Only connections of processes with this name; `*` stands for anything
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub comm: Vec<String>,

    /// Only connections of processes in this control group or below; `*` stands for anything
    #[arg(long, value_name = "PATH", value_parser = cgroup)]
    pub cgroup: Vec<String>,

    /// Show benign ends, too
    #[arg(short, long)]
    pub all: bool,

    /// Write JSON lines: a record for each connection that did not end orderly (with --all for every one), and a
    /// summary
    #[arg(long)]
    pub json: bool,

    /// Write the report to FILE instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Write the packets of the connections that are shown to FILE (pcapng), with the verdict as a comment
    #[arg(short, long, value_name = "FILE", visible_alias = "pcap")]
    pub write: Option<PathBuf>,

    /// Which packets to read: those that begin and end connections, or all of TCP (costs more)
    #[arg(long, value_name = "WHICH", default_value = "ends")]
    pub packets: Which,

    /// Packets of each connection that -w writes: the last N
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    pub last: u16,

    /// End after this time
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    pub duration: Option<Duration>,

    /// Exit with status 1 if a connection ended like this: harmful, suspicious, or causes by name or code, separated
    /// by commas; followed by :0.8, only if the confidence is at least that
    #[arg(long, value_name = "WHAT", value_parser = FailOn::from_str)]
    pub fail_on: Option<FailOn>,

    /// Watch another network namespace: a name of `ip netns`, a process id, or a file
    #[arg(long, value_name = "NAME|PID|FILE")]
    pub netns: Option<String>,

    /// Do not use a source: destroyed, counters, processes, sockets, packets, tracepoints, calls
    #[arg(long, value_name = "SOURCE", value_delimiter = ',', value_parser = source)]
    pub without: Vec<Source>,

    /// Max connections that are tracked at a time
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(16..))]
    pub max_connections: u32,

    /// Print nothing at the start, and no summary at the end
    #[arg(short, long)]
    pub quiet: bool,

    /// A program to watch, with its children
    #[arg(trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

const EXAMPLES: &str = "Examples:
  lastack watch                                  everything that does not end well, until Ctrl-C
  lastack watch --port 5432 --all                every end at that port
  lastack watch --comm nginx -w bad.pcapng       with the packets (root)
  lastack watch -- curl https://example.org      one program
  lastack watch --duration 60s --fail-on refused,close-unread:0.8 --json

SIGUSR1 prints a summary without ending the watch.

Exit status:
  0    nothing met the condition of --fail-on
  1    at least one end met it
  2    bad options
  3    nothing can be watched, or the report cannot be written
With a command it is that of the command (128 + N if signal N ended it; 127 if it does not exist,
126 if it cannot be run), or 1 if that is 0 and an end met the condition of --fail-on.";

/// The packets to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Which {
    Ends,
    All,
}

fn process(text: &str) -> Result<u32, String> {
    let pid: u32 = text.parse().map_err(|_| "a process id is a number")?;
    if Path::new("/proc").join(pid.to_string()).exists() {
        Ok(pid)
    } else {
        Err("there is no such process".into())
    }
}

/// A path as /proc/PID/cgroup gives it; that of its directory will do.
fn cgroup(text: &str) -> Result<String, String> {
    let path = text.strip_prefix("/sys/fs/cgroup").filter(|rest| rest.starts_with('/')).unwrap_or(text);
    if path.starts_with(['/', '*']) {
        Ok(path.to_owned())
    } else {
        Err(format!(
            "the path of a control group begins with /: write \"*{text}*\" for those that contain it"
        ))
    }
}

fn source(name: &str) -> Result<Source, String> {
    Source::ALL.into_iter().find(|source| source.name() == name).ok_or_else(|| {
        let names: Vec<_> = Source::ALL.iter().map(|source| source.name()).collect();
        format!("unknown source (expected {})", names.join(", "))
    })
}

impl WatchArgs {
    /// What the options exclude together.
    pub fn check(&self) -> Result<(), String> {
        match (&self.output, &self.write) {
            (Some(output), Some(write)) if output == write => Err(format!(
                "the report and the packets would overwrite each other: both go to {}",
                write.display()
            )),
            _ => Ok(()),
        }
    }

    pub fn filter(&self) -> Filter {
        Filter {
            ports: self.port.clone(),
            pids: self.pid.clone(),
            comms: self.comm.clone(),
            cgroups: self.cgroup.clone(),
        }
    }

    pub fn options(&self) -> WatchOptions {
        let namespace = self.netns.as_deref().map(namespace);
        let without = self.without.clone();
        let sources = SourceOptions { without, all_packets: self.packets == Which::All, namespace };
        WatchOptions { sources, max_connections: self.max_connections as usize }
    }
}

fn namespace(name: &str) -> PathBuf {
    if name.contains('/') {
        return name.into();
    }
    match name.parse::<u32>() {
        Ok(pid) => format!("/proc/{pid}/ns/net").into(),
        Err(_) => Path::new("/run/netns").join(name),
    }
}

/// Why a network namespace cannot be entered, as far as its file shows.
pub fn namespace_hint(name: &str) -> &'static str {
    let path = namespace(name);
    let is_namespace = || {
        // NSFS_MAGIC.
        nix::sys::statfs::statfs(&path).is_ok_and(|file| file.filesystem_type().0 == 0x6e73_6673)
    };
    match path.exists() {
        false if name.parse::<u32>().is_ok() => ": there is no such process",
        false if !name.contains('/') => ": `ip netns` knows no such name",
        true if !is_namespace() => ": it is not a network namespace",
        true if !nix::unistd::geteuid().is_root() => ": that needs CAP_SYS_ADMIN",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_namespace_is_named_in_three_ways() {
        assert_eq!(namespace("blue"), Path::new("/run/netns/blue"));
        assert_eq!(namespace("17"), Path::new("/proc/17/ns/net"));
        assert_eq!(namespace("/tmp/x"), Path::new("/tmp/x"));
    }
}
