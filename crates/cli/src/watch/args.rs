//! The options of `lastack watch`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use lastack_causes::{Cause, Severity};
use lastack_watch::{Ended, Filter, Source, SourceOptions, WatchOptions};

use lastack_run::units;

/// Watch the TCP connections of this host, and report how each one ends, who ended it, and which process owned it
///
/// No program is changed and nothing is loaded into the kernel. Without any privilege it reports refused connections,
/// closes with unread data, killed processes and timeouts; root adds the packets and the kernel's own reasons. At the
/// start it prints what it can observe, what it cannot, and which privilege would add it.
///
/// With a command it watches that program and its children, and ends with it.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct WatchArgs {
    /// Only connections with this port at either end
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    pub port: Vec<u16>,

    /// Only connections of this process
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<u32>,

    /// Only connections of processes with this name; `*` stands for anything
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub comm: Vec<String>,

    /// Only connections of processes in this control group or below; `*` stands for anything
    #[arg(long, value_name = "PATH")]
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

    /// Do not use a source: destroyed, counters, processes, sockets, packets, tracepoints
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

Exit status: 0, or 1 if --fail-on was met; 2 for bad options; 3 if nothing can be watched.
With a command: its own status (128 + N if signal N ended it), or 1 if that is 0 and --fail-on
was met; 126 if it cannot be run; 127 if it does not exist.";

/// The packets to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Which {
    Ends,
    All,
}

fn source(name: &str) -> Result<Source, String> {
    Source::ALL.into_iter().find(|source| source.name() == name).ok_or_else(|| {
        let names: Vec<_> = Source::ALL.iter().map(|source| source.name()).collect();
        format!("there is no such source; the sources are {}", names.join(", "))
    })
}

/// The condition of `--fail-on`.
#[derive(Clone, Debug, PartialEq)]
pub struct FailOn {
    severity: Option<Severity>,
    causes: Vec<Cause>,
    confidence: f32,
}

impl FromStr for FailOn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (list, confidence) = match text.rsplit_once(':') {
            Some((list, confidence)) => (list, confidence.parse().ok().filter(|c| (0.0..=1.0).contains(c))),
            None => (text, Some(0.0)),
        };
        let confidence = confidence.ok_or("after the colon, write a confidence from 0 to 1, such as 0.8")?;
        let mut fail_on = Self { severity: None, causes: Vec::new(), confidence };
        for word in list.split(',').map(str::trim) {
            let severity = match word {
                "harmful" => Some(Severity::Harmful),
                "suspicious" => Some(Severity::Suspicious),
                "benign" => Some(Severity::Benign),
                _ => None,
            };
            match severity {
                Some(severity) => {
                    fail_on.severity = Some(fail_on.severity.map_or(severity, |other| other.min(severity)));
                }
                None => fail_on.causes.push(word.parse().map_err(|_| {
                    format!("{word:?} is neither harmful nor suspicious, nor the name or code of a cause")
                })?),
            }
        }
        Ok(fail_on)
    }
}

impl FailOn {
    /// Whether this end meets the condition: at least as severe, or of one of the causes.
    pub fn is_met(&self, ended: &Ended) -> bool {
        ended.confidence >= self.confidence
            && (self.severity.is_some_and(|severity| ended.severity >= severity)
                || self.causes.contains(&ended.cause))
    }
}

impl WatchArgs {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_to_fail_on() {
        let parse = |text: &str| text.parse::<FailOn>();
        let expected = FailOn { severity: Some(Severity::Harmful), causes: vec![], confidence: 0.0 };
        assert_eq!(parse("harmful"), Ok(expected));
        let expected =
            FailOn { severity: None, causes: vec![Cause::Refused, Cause::CloseUnread], confidence: 0.8 };
        assert_eq!(parse("refused,C06:0.8"), Ok(expected));
        for bad in ["", "bad", "refused:2", "refused:x", "refused,"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_network_namespace_is_named_in_three_ways() {
        assert_eq!(namespace("blue"), Path::new("/run/netns/blue"));
        assert_eq!(namespace("17"), Path::new("/proc/17/ns/net"));
        assert_eq!(namespace("/tmp/x"), Path::new("/tmp/x"));
    }
}
