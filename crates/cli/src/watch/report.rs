//! The output of `lastack watch`.

use std::fmt::Display;
use std::fs::File;
use std::io::{ErrorKind, Write};

use anstyle::{AnsiColor, Style};
use anyhow::{Context, Result};
use jiff::tz::TimeZone;
use lastack_causes::{Cause, Severity};
use lastack_watch::record::{self, Calendar};
use lastack_watch::{Availability, Ended, PacketFile, RawPacket, Watcher, line, now, scope, start, summary};

use super::WatchArgs;

/// Prints a message about the watch itself. Whether it can be written does not matter to the watch.
pub fn say(text: impl Display) {
    let mut out = anstream::stderr();
    let _unread = write!(out, "{text}");
}

/// The destinations of lines, records and packets.
pub struct Report {
    out: Box<dyn Write>,
    json: bool,
    all: bool,
    quiet: bool,
    calendar: Calendar,
    zone: TimeZone,
    packets: Option<PacketFile<File>>,
    /// Nothing more can be written.
    closed: bool,
    /// Not because the reader has closed the output.
    failed: bool,
    /// Benign ends that were not shown.
    folded: u64,
    /// Ends excluded by the filters, and among them those with an unknown process.
    left_out: u64,
    unknown: u64,
    filtered: bool,
}

impl Report {
    /// Creates the files.
    pub fn open(args: &WatchArgs) -> Result<Self> {
        let create = |path: &std::path::Path| {
            File::create(path).with_context(|| format!("cannot write to {}", path.display()))
        };
        let packets = match &args.write {
            Some(path) => Some(PacketFile::new(create(path)?, args.last.into())),
            None => None,
        };
        let out: Box<dyn Write> = match &args.output {
            Some(path) => Box::new(anstream::AutoStream::auto(create(path)?)),
            // Standard output belongs to the program.
            None if !args.command.is_empty() => Box::new(anstream::stderr()),
            None => Box::new(anstream::stdout()),
        };
        let filtered = !args.command.is_empty() || args.filter() != lastack_watch::Filter::default();
        Ok(Self {
            out,
            json: args.json,
            all: args.all,
            quiet: args.quiet,
            calendar: Calendar::now(),
            zone: TimeZone::system(),
            packets,
            closed: false,
            failed: false,
            folded: 0,
            left_out: 0,
            unknown: 0,
            filtered,
        })
    }

    /// Reports what is watched, and by which sources.
    pub fn begin(&mut self, args: &WatchArgs, sources: &[Availability]) {
        let namespace = args.options().sources.namespace;
        let scope = scope(namespace.as_deref());
        if self.json {
            self.print(&record::start(&scope, sources, now(), &self.calendar).to_string());
        } else if !self.quiet {
            // Messages about the watch itself are not part of the report.
            say(start(&scope, sources));
        }
    }

    /// Whether nothing more can be written.
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Keeps a packet for the capture.
    pub fn keep(&mut self, packet: &RawPacket<'_>) {
        if let Some(packets) = &mut self.packets {
            packets.keep(packet);
        }
    }

    /// Counts an excluded connection.
    pub fn leave_out(&mut self, ended: &Ended) {
        self.left_out += 1;
        self.unknown += u64::from(ended.owners().next().is_none() && ended.severity != Severity::Benign);
        if let Some(packets) = &mut self.packets {
            packets.discard(ended);
        }
    }

    /// Reports a connection.
    pub fn end(&mut self, ended: &Ended) {
        let shown =
            self.all || ended.severity != Severity::Benign || self.json && ended.cause != Cause::Orderly;
        if let Some(packets) = &mut self.packets {
            if shown { packets.write(ended) } else { packets.discard(ended) }
        }
        if !shown {
            self.folded += 1;
            return;
        }
        if self.json {
            return self.print(&record::connection(ended, &self.calendar).to_string());
        }
        let style = style(ended.severity);
        let line = line(ended, &self.calendar, &self.zone);
        self.print(&format!("{style}{line}{style:#}"))
    }

    /// Prints the counts so far.
    pub fn summary(&mut self, watcher: &Watcher) {
        let written = self.packets.as_ref().map_or(0, PacketFile::written);
        let open = watcher.join().open_connections();
        if self.json {
            return self.print(&record::summary(watcher.totals(), open, written).to_string());
        }
        let mut text = summary(watcher.totals(), open);
        if self.folded > 0 {
            let ends = if self.folded == 1 { "benign end was" } else { "benign ends were" };
            text.push_str(&format!("  {} {ends} not shown (--all shows them)\n", self.folded));
        }
        if self.filtered && self.left_out > 0 {
            let (ends, left_out) = (if self.left_out == 1 { "end was" } else { "ends were" }, self.left_out);
            text.push_str(&format!("  {left_out} {ends} left out by the filters"));
            if self.unknown > 0 {
                text.push_str(&format!(
                    "; {} harmful or suspicious, of processes that are not known",
                    self.unknown
                ));
            }
            text.push('\n');
        }
        if self.packets.is_some() {
            text.push_str(&format!("  {written} packets written\n"));
        }
        say(text);
    }

    /// Prints the summary and closes the outputs. Whether all of it could be written.
    pub fn close(mut self, watcher: &Watcher) -> bool {
        if self.json || !self.quiet {
            self.summary(watcher);
        }
        if let Some(Err(error)) = self.packets.take().map(PacketFile::finish) {
            say(format_args!("lastack: the capture is not complete: {error}\n"));
            self.failed = true;
        }
        !self.failed
    }

    /// Prints a line. A closed reader is not an error: the watch continues for its other results.
    fn print(&mut self, line: &str) {
        if self.closed {
            return;
        }
        if let Err(error) = writeln!(self.out, "{line}").and_then(|()| self.out.flush()) {
            self.closed = true;
            if error.kind() != ErrorKind::BrokenPipe {
                say(format_args!("lastack: cannot write the report: {error}\n"));
                self.failed = true;
            }
        }
    }
}

fn style(severity: Severity) -> Style {
    match severity {
        Severity::Harmful => Style::new().fg_color(Some(AnsiColor::Red.into())),
        Severity::Suspicious => Style::new().fg_color(Some(AnsiColor::Yellow.into())),
        Severity::Benign => Style::new(),
    }
}
