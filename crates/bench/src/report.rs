//! The report: docs/performance.md.

use std::fmt::Write;
use std::process::Command;

use crate::calls::{Calls, Copies};
use crate::environment::Kind;
use crate::measure::{Results, Sample, Spread};
use crate::memory::{CONNECTIONS, Memory};
use crate::rows::{Against, Group, Mark, Row};
use crate::work::Work;

/// Why marks are not met: written by hand, for a reader of the figures.
const CAUSES: &str = include_str!("causes.md");

/// Everything that was measured.
pub struct Report<'a> {
    pub groups: &'a [Group],
    pub results: &'a Results,
    pub rounds: usize,
    pub millis: u128,
    pub verified: usize,
    pub calls: &'a [Calls],
    pub copies: Option<&'a [Copies]>,
    pub memory: Option<&'a Memory>,
    pub seconds: u64,
    /// Everything was measured, not only some rows.
    pub whole: bool,
}

/// The share of disturbed samples beyond which the result is not valid.
const TOO_BUSY: f64 = 0.2;

impl Report<'_> {
    pub fn write(&self) -> String {
        let mut text = String::new();
        self.introduction(&mut text);
        let groups = self.groups.iter().enumerate().filter(|(_, group)| !group.rows.is_empty());
        for (number, group) in groups {
            self.group(&mut text, number, group);
        }
        if let Some(memory) = self.memory {
            memory_table(&mut text, memory);
        }
        if self.whole {
            self.calls_table(&mut text);
        }
        if self.whole || self.copies.is_some() {
            self.copies_table(&mut text);
        }
        if self.whole {
            text.push_str(CAUSES);
            text.push('\n');
        }
        self.errors(&mut text);
        text
    }

    /// Whether other processes used too much of the machine.
    pub fn too_busy(&self) -> bool {
        self.results.disturbed().0 > TOO_BUSY
    }

    fn introduction(&self, text: &mut String) {
        let (disturbed, others) = self.results.disturbed();
        let _ = write!(
            text,
            "# Performance beside the kernel and other programs\n\n\
             Made by `.ci/performance` (root; {} s); do not edit: the section on causes is `crates/bench/src/causes.md`. Commit `{}`, Linux {}, {} CPUs ({}).\n\n\
             Each figure is the median of {} alternating rounds of {} ms, with the smallest and the largest. All ratios are \
             lastack's to the other's in the same round. The networks, each with a client of the kernel's sockets in a \
             namespace of its own, are started anew in each round. *One CPU*: client, server and what carries the packets \
             are pinned to one. Otherwise what carries the packets has a CPU of its own; where the kernel carries them, \
             client and server have one each. Every socket of the kernel uses CUBIC. The *floor* is the time that the \
             kernel needs over loopback and over veth together: the two hops of a program behind `lastack run`. The *free \
             peer* is a TCP end on a TUN device that neither checks nor retransmits, with one hop to a socket. The *bare peer* \
             is a loop that reads a packet from a TUN device and writes the answer, without a stack, state or timers: no \
             stack behind that device is faster. Behind a TUN device lastack's server reads bulk data in place \
             (`TcpStream::read_with`): the data is copied once, from the kernel into a packet, as the kernel copies it once \
             into the buffer of a server over veth. With *`AsyncRead`* it is copied a second time, into a buffer of the \
             server's. Where a mark is not met, [limits.md](limits.md) says why.\n\n\
             Before the rounds {} transfers were compared byte by byte; during the rounds both ends of each read, and the \
             length.\n\n",
            self.seconds,
            output("git", &["describe", "--always", "--dirty"]),
            output("uname", &["-r"]),
            crate::process::cpus(),
            processor(),
            self.rounds,
            self.millis,
            self.verified,
        );
        if self.too_busy() {
            let _ = write!(
                text,
                "**The machine was too busy**: during {:.0} % of the measurements other processes used the CPUs (median of \
                 their share: {:.0} %). Do not trust these figures.\n\n",
                disturbed * 100.0,
                others * 100.0
            );
        } else {
            let _ = write!(
                text,
                "During {:.0} % of the measurements other processes used more than 5 % of the CPUs.\n\n",
                disturbed * 100.0
            );
        }
    }

    fn group(&self, text: &mut String, number: usize, group: &Group) {
        let _ =
            write!(text, "## {}\n\n| work | lastack | others | marks |\n|---|---|---|---|\n", group.title);
        for (at, row) in group.rows.iter().enumerate() {
            let figure = |kind: Kind| {
                let spread = self.results.spread((number, at), kind, |sample| Some(sample.outcome.rate));
                let figure = spread.map_or_else(|| "failed".to_owned(), |spread| rate(row.work, spread));
                figure + &self.extras((number, at), kind)
            };
            let others: Vec<String> =
                row.kinds[1..].iter().map(|kind| format!("{} {}", kind.name(), figure(*kind))).collect();
            let marks: Vec<String> =
                row.marks.iter().map(|mark| self.mark((number, at), row, *mark)).collect();
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} |",
                row.title,
                figure(row.kinds[0]),
                others.join("<br>"),
                if marks.is_empty() { "-".to_owned() } else { marks.join("<br>") }
            );
        }
        text.push('\n');
    }

    /// Loss, fairness and CPU time, where there are any.
    fn extras(&self, at: (usize, usize), kind: Kind) -> String {
        let mut text = String::new();
        let median =
            |of: fn(&Sample) -> Option<f64>| self.results.spread(at, kind, of).map(|spread| spread.median);
        if let Some(loss) = median(|sample| sample.outcome.loss) {
            let _ = write!(text, ", {:.1} % lost", loss * 100.0);
        }
        if let Some(fairness) = median(|sample| sample.outcome.fairness) {
            let _ = write!(text, ", min/max {fairness:.2}");
        }
        if matches!(self.groups[at.0].rows[at.1].work, Work::Download { .. } | Work::Upload { .. })
            && let Some(cpu) = median(|sample| sample.cpu)
        {
            // Nanoseconds a byte are seconds a gigabyte.
            let _ = write!(text, ", {cpu:.2} s/GB");
        }
        text
    }

    fn mark(&self, at: (usize, usize), row: &Row, mark: Mark) -> String {
        let Some(ratio) = self.results.ratio(self.groups, at, mark.against) else {
            return format!("{}: not measured", against(mark.against, row));
        };
        let smaller = matches!(mark.against, Against::CpuOf(_));
        let met = if smaller { ratio.median <= mark.ratio } else { ratio.median >= mark.ratio };
        format!(
            "{} {:.2} ({:.2}-{:.2}), {} {:.2}: {}",
            against(mark.against, row),
            ratio.median,
            ratio.min,
            ratio.max,
            if smaller { "at most" } else { "at least" },
            mark.ratio,
            if met { "met" } else { "**not met**" }
        )
    }

    fn calls_table(&self, text: &mut String) {
        if self.calls.is_empty() {
            text.push_str("## System calls\n\nNot counted: strace is not installed.\n\n");
            return;
        }
        text.push_str(
            "## System calls\n\nOf the process that carries the packets, for each operation (`strace -f -c`); of bulk data for \
             each megabyte.\n\n| network | work | calls | which | mark |\n|---|---|---:|---|---|\n",
        );
        for calls in self.calls {
            let mut by_name: Vec<(&String, &f64)> = calls.by_name.iter().collect();
            by_name.sort_by(|a, b| b.1.total_cmp(a.1));
            let which: Vec<String> = by_name
                .iter()
                .filter(|(_, count)| **count >= 0.05)
                .map(|(name, count)| format!("{name} {count:.1}"))
                .collect();
            let _ = writeln!(
                text,
                "| {} | {} | {:.2} | {} | {} |",
                network(calls.kind),
                title(calls.work),
                calls.total(),
                which.join(", "),
                at_most(calls.total(), calls.mark())
            );
        }
        text.push('\n');
    }

    fn copies_table(&self, text: &mut String) {
        let Some(copies) = self.copies else {
            text.push_str("## Copies\n\nNot counted: there is no C compiler.\n\n");
            return;
        };
        text.push_str(
            "## Copies\n\nBytes copied for each byte of payload by the process that carries the packets: within it (memcpy and \
             memmove of 256 bytes and more), and between it and the kernel.\n\n\
             | network | work | within | kernel | sum | mark |\n|---|---|---:|---:|---:|---|\n",
        );
        for copy in copies {
            let _ = writeln!(
                text,
                "| {} | {} | {:.2} | {:.2} | {:.2} | {} |",
                network(copy.kind),
                title(copy.work),
                copy.user,
                copy.kernel,
                copy.user + copy.kernel,
                at_most(copy.user + copy.kernel, (copy.kind == Kind::RunLastack).then_some(2.0))
            );
        }
        text.push('\n');
    }

    fn errors(&self, text: &mut String) {
        if self.results.errors.is_empty() {
            return;
        }
        text.push_str("## Failures\n\n");
        for (error, count) in &self.results.errors {
            let _ = writeln!(text, "- {error} ({count} times)");
        }
    }
}

/// A mark that a figure, to one decimal place, must not exceed.
fn at_most(figure: f64, mark: Option<f64>) -> String {
    let Some(mark) = mark else { return "-".to_owned() };
    let met = if (figure * 10.0).round() <= mark * 10.0 { "met" } else { "**not met**" };
    format!("at most {mark:.1}: {met}")
}

fn memory_table(text: &mut String, memory: &Memory) {
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let met = |met: bool| if met { "met" } else { "**not met**" };
    let kept = memory.beside / memory.alone;
    let _ = write!(
        text,
        "## `lastack run`, memory\n\n| what | figure | mark |\n|---|---:|---|\n\
         | at rest | {:.1} MB | at most 5 MB: {} |\n\
         | an idle connection, of {CONNECTIONS} | {:.0} bytes | at most 2,000: {} |\n\
         | {CONNECTIONS} connections that the program never reads, `--memory 256` | {:.0} MB | at most 290 MB: {} |\n\
         | a download beside them, alone | {:.1}, {:.1} Gbit/s | at least 0.50: {:.2}, {} |\n\
         | after they have been closed | {:.1} MB | |\n\n",
        megabytes(memory.rest),
        met(megabytes(memory.rest) <= 5.0),
        memory.idle,
        met(memory.idle <= 2000.0),
        megabytes(memory.never_read),
        met(megabytes(memory.never_read) <= 290.0),
        memory.beside,
        memory.alone,
        kept,
        met(kept >= 0.5),
        megabytes(memory.after),
    );
}

fn rate(work: Work, spread: Spread) -> String {
    match work {
        Work::Download { .. } | Work::Upload { .. } | Work::UdpUp { .. } | Work::UdpDown { .. } => {
            format!("{:.2} Gbit/s ({:.2}-{:.2})", spread.median, spread.min, spread.max)
        }
        _ => format!("{:.0}/s ({:.0}-{:.0})", spread.median, spread.min, spread.max),
    }
}

fn against(against: Against, row: &Row) -> String {
    match against {
        Against::Peer(kind) => kind.name().to_owned(),
        Against::BestPeer => "best peer".to_owned(),
        Against::Floor => "floor".to_owned(),
        Against::OneStream(_) => "one stream".to_owned(),
        Against::CpuOf(kind) => format!("CPU of {}", kind.name()),
        Against::Fairness => "min/max".to_owned(),
        Against::Delivery => format!("delivered, in relation to {}", row.kinds[1].name()),
    }
}

fn network(kind: Kind) -> String {
    let name = kind.name();
    match kind {
        Kind::TunLastack | Kind::TunCopied | Kind::TunQueues | Kind::TunSmoltcp | Kind::TunBare => {
            format!("TUN, {name}")
        }
        Kind::MapLastack | Kind::MapPasta => format!("mapped ports, {name}"),
        _ => format!("run, {name}"),
    }
}

fn title(work: Work) -> String {
    match work {
        Work::Download { streams } => format!("download, {streams} streams").replace("1 streams", "1 stream"),
        Work::Upload { streams } => format!("upload, {streams} streams").replace("1 streams", "1 stream"),
        Work::PingPong => "ping-pong".to_owned(),
        Work::Connect => "connect + close".to_owned(),
        Work::Refused => "refused".to_owned(),
        Work::HttpKeepAlive => "http, keep-alive".to_owned(),
        Work::HttpClose => "http, one request a connection".to_owned(),
        Work::UdpPingPong => "UDP ping-pong".to_owned(),
        Work::UdpUp { .. } => "UDP datagram to the host".to_owned(),
        Work::UdpDown { .. } => "UDP datagram to the program".to_owned(),
        Work::Idle { .. } | Work::NeverRead { .. } | Work::Release => "idle".to_owned(),
    }
}

/// What a program prints.
pub fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned())
}
