//! `lastack watch`: how the connections of this host end.

mod args;
mod child;
mod report;

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lastack_watch::{Availability, Calls, Ended, Filter, Source, Watcher};

pub use args::WatchArgs;
use child::{Child, Notice, Signals, StartError};
use report::{Report, say};

/// Options that exclude each other.
const USAGE: u8 = 2;
/// No source is available, or the report cannot be written.
const UNABLE: u8 = 3;
/// Ends caused by the program itself may be reported this long after it has ended.
const AFTER_CHILD: Duration = Duration::from_millis(700);

pub fn main(args: &WatchArgs) -> ExitCode {
    if let Err(problem) = args.check() {
        say(format_args!("lastack: {problem}\n"));
        return USAGE.into();
    }
    match watch(args) {
        Ok(status) => status,
        Err(error) => {
            say(format_args!("lastack: {error:#}\n"));
            UNABLE.into()
        }
    }
}

fn watch(args: &WatchArgs) -> Result<ExitCode> {
    let (mut watcher, mut sources) = match &args.netns {
        None => Watcher::open(&args.options()).context("cannot watch")?,
        Some(name) => Watcher::open(&args.options()).with_context(|| {
            format!("cannot watch the network namespace {name:?}{}", args::namespace_hint(name))
        })?,
    };
    if args.write.is_some() {
        warn_without_packets(&sources);
    }
    let mut report = Report::open(args)?;
    // With tracepoints the kernel itself reports which process connects.
    let traced = sources.iter().any(|source| source.source == Source::Tracepoints && source.error.is_none());
    let observe = !traced && !args.without.contains(&Source::Calls);
    // The program inherits neither blocked signals nor the descriptors of the sources.
    let child = match args.command.split_first() {
        None => None,
        Some((program, arguments)) => match Child::start(program, arguments, observe) {
            Ok((child, calls)) => {
                watcher.describe(child.id().as_raw().cast_unsigned());
                sources.extend(calls.map(|calls| attach(&mut watcher, calls)));
                Some(child)
            }
            Err(error) => {
                say(format_args!("lastack: {error}\n"));
                return Ok(error.status().into());
            }
        },
    };
    // Before anything is printed: who reads the first line may send a signal.
    let signals = Signals::open().context("cannot receive signals")?;
    report.begin(args, &sources);
    let filter = args.filter();
    let mut session = Session { args, watcher, report, filter, child, met: 0 };
    match session.run(&signals).and_then(|()| session.finish()) {
        Err(error) if session.child.is_some() => session.fail(&error, &signals),
        Err(error) => Err(error),
        Ok(()) => Ok(session.end()),
    }
}

fn attach(watcher: &mut Watcher, calls: io::Result<Calls>) -> Availability {
    let error = calls.map(|calls| watcher.attach(calls)).err();
    Availability { source: Source::Calls, error, limit: None }
}

fn warn_without_packets(sources: &[Availability]) {
    let packets = sources.iter().find(|source| source.source == Source::Packets);
    if let Some(error) = packets.and_then(|source| source.error.as_ref()) {
        say(format_args!(
            "lastack: the capture will be empty: packets cannot be read ({error}); that needs CAP_NET_RAW\n"
        ));
    }
}

struct Session<'a> {
    args: &'a WatchArgs,
    watcher: Watcher,
    report: Report,
    filter: Filter,
    child: Option<Child>,
    /// Ends that met the condition of `--fail-on`.
    met: u64,
}

impl Session<'_> {
    /// Runs until the time has passed, a signal ends it, or the program has ended.
    fn run(&mut self, signals: &Signals) -> Result<()> {
        let begun = Instant::now();
        let mut until = self.args.duration.map(|duration| begun + duration);
        let mut waiting_for_last = false;
        loop {
            let left =
                until.map_or(Duration::from_secs(1), |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() || self.child.is_none() && self.report.is_closed() {
                return Ok(());
            }
            let report = &mut self.report;
            let ended = self.watcher.turn(&[signals.as_fd()], left, |packet| report.keep(packet));
            self.take(ended.context("a source failed")?);
            for notice in signals.read()? {
                match notice {
                    Notice::Summary => self.report.summary(&self.watcher),
                    Notice::Child => {}
                    Notice::Stop { signal, from_terminal } => match &self.child {
                        // The terminal has sent the signal to the program itself.
                        Some(_) if from_terminal => {}
                        Some(child) => child.send(signal),
                        None => return Ok(()),
                    },
                }
            }
            if let Some(child) = &mut self.child
                && child.has_ended()
                && !waiting_for_last
            {
                waiting_for_last = true;
                until = Some(Instant::now() + AFTER_CHILD);
            }
        }
    }

    fn take(&mut self, ended: Vec<Ended>) {
        for ended in ended {
            if !self.filter.matches(&ended) || !self.is_of_child(&ended) {
                self.report.leave_out(&ended);
                continue;
            }
            let condition = self.args.fail_on.as_ref();
            let is_met = condition
                .is_some_and(|fail_on| fail_on.is_met(ended.cause, ended.severity, ended.confidence));
            self.met += u64::from(is_met);
            self.report.end(&ended);
        }
    }

    /// Whether it belongs to the watched program or one of its children; without a program always true.
    fn is_of_child(&self, ended: &Ended) -> bool {
        let me = std::process::id();
        let join = self.watcher.join();
        let is_of_child = |pid| join.is_of_program(pid) || pid != me && join.descends(pid, me);
        self.child.is_none() || ended.owners().any(|owner| is_of_child(owner.pid))
    }

    /// Takes what sources report late.
    fn finish(&mut self) -> Result<()> {
        let report = &mut self.report;
        let ended = self.watcher.finish(|packet| report.keep(packet)).context("a source failed")?;
        self.take(ended);
        Ok(())
    }

    /// Nothing can be watched any more: only the program is waited for.
    fn fail(mut self, error: &anyhow::Error, signals: &Signals) -> Result<ExitCode> {
        say(format_args!("lastack: {error:#}; the program continues without being watched\n"));
        let mut child = self.child.take();
        while let Some(running) = &mut child
            && !running.has_ended()
        {
            signals.wait()?;
            for notice in signals.read()? {
                if let Notice::Stop { signal, from_terminal: false } = notice {
                    running.send(signal);
                }
            }
        }
        self.report.close(&self.watcher);
        let own = child.map_or(0, Child::status);
        Ok(if own == 0 { UNABLE } else { own }.into())
    }

    fn end(mut self) -> ExitCode {
        let complete = self.report.close(&self.watcher);
        let mut child = self.child.take();
        if let Some(running) = &mut child
            && !running.has_ended()
        {
            say(format_args!("lastack: the program still runs (process {})\n", running.id()));
        }
        let own = child.map_or(0, Child::status);
        let status = match own {
            0 if !complete => UNABLE,
            0 if self.met > 0 => 1,
            own => own,
        };
        if self.met > 0 && !self.args.quiet {
            let ends = if self.met == 1 { "1 end".into() } else { format!("{} ends", self.met) };
            say(format_args!("  {ends} met the condition of --fail-on; the exit status is {status}\n"));
        }
        status.into()
    }
}

impl StartError {
    fn status(&self) -> u8 {
        match self.error.kind() {
            io::ErrorKind::NotFound => 127,
            _ => 126,
        }
    }
}
