//! `lastack explain`: which side ended the connections of a capture, why, with what confidence, and what to do.

mod args;
mod baseline;
mod input;
mod output;
mod select;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use lastack_explain::kernel::Trace;
use lastack_explain::pattern::Group;
use lastack_explain::record::Writer;
use lastack_explain::write::{PcapngWriter, Selection};
use lastack_explain::{Explained, Explainer, Options, Summary, render};

pub use args::ExplainArgs;
use baseline::Baseline;
use input::{Opened, Progress};

/// Something at or above `--fail-on` was found.
const FINDINGS: u8 = 1;
/// The options do not fit together.
const USAGE: u8 = 2;
/// No input could be read.
const UNREADABLE: u8 = 3;
/// Some input could not be read to its end.
const PARTLY: u8 = 4;

/// Max connections kept for lists; further ones are only counted.
const LISTED: usize = 200_000;

pub fn main(args: &ExplainArgs) -> ExitCode {
    if let Err(problem) = args.check() {
        lastack_run::message(format_args!("lastack explain: {problem}"));
        return USAGE.into();
    }
    let opened = match input::open(&args.files, args.quiet) {
        Some(opened) => opened,
        None => return UNREADABLE.into(),
    };
    match explain(args, opened) {
        Ok(status) => status.into(),
        Err(error) if is_broken_pipe(&error) => 0.into(),
        Err(error) => {
            lastack_run::message(format_args!("lastack explain: {error:#}"));
            UNREADABLE.into()
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn explain(args: &ExplainArgs, opened: Opened) -> anyhow::Result<u8> {
    let trace = read_trace(args)?;
    let baseline = args.baseline.as_deref().map(Baseline::read).transpose()?;
    let mut run = Run { args, trace, baseline, listed: Vec::new(), unlisted: 0, known: 0, found: false };
    let Opened { mut input, partly, names } = opened;
    let all = args.all || args.conn.is_some();
    let mut explainer = Explainer::new(Options { all, live: args.max_connections, ..Options::default() });
    let mut progress = Progress::new(args.quiet);
    let mut writer = Writer { files: names, digits: 6, anonymize: args.anonymize, redact: args.redact };
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    while let Some(packet) = input.next_packet() {
        explainer.packet(&packet);
        input.stated().iter().for_each(|end| explainer.state(end));
        if explainer.has_ready() {
            run.take(&mut explainer, &writer, &mut out)?;
        }
        progress.packet(explainer.summary().packets, || input.position());
    }
    progress.done();
    input.stated().iter().for_each(|end| explainer.state(end));
    explainer.finish();
    writer.digits = input.facts().map(|facts| facts.digits).max().unwrap_or(6);
    run.take(&mut explainer, &writer, &mut out)?;
    let warnings = input::warnings(&input, explainer.summary());
    if !args.quiet {
        for warning in &warnings {
            lastack_run::message(format_args!("lastack explain: {warning}"));
        }
    }
    if args.json {
        run.json_selected(&mut out, &writer)?;
        let groups = run.groups(&explainer);
        output::json_tail(&mut out, &writer, &explainer, &input, &groups, warnings)?;
    } else {
        output::people(&mut out, args, &writer, &explainer, &run, &input)?;
    }
    out.flush()?;
    if let Some(path) = &args.write {
        run.write(path, &writer)?;
    }
    if let Some(path) = &args.html {
        output::page(path, args, &writer, &explainer, &run)?;
    }
    let summary = explainer.summary();
    let left_out: u64 = summary.unknown_links.values().sum();
    let cut = partly || left_out > 0 || input.facts().any(|facts| facts.partly);
    Ok(if left_out > 0 && left_out == summary.packets {
        UNREADABLE
    } else if cut {
        PARTLY
    } else if run.found {
        FINDINGS
    } else {
        0
    })
}

fn read_trace(args: &ExplainArgs) -> anyhow::Result<Option<Trace>> {
    let Some(path) = &args.kernel_trace else { return Ok(None) };
    let text =
        std::fs::read(path).with_context(|| format!("cannot read the kernel trace {}", path.display()))?;
    let trace = Trace::read(&String::from_utf8_lossy(&text));
    if trace.is_empty() {
        return Err(anyhow!(
            "{} has no tcp_send_reset events; record them with `perf record -e tcp:tcp_send_reset` and `perf script`, or read them from tracefs",
            path.display()
        ));
    }
    Ok(Some(trace))
}

/// The results collected while the input is read.
struct Run<'a> {
    args: &'a ExplainArgs,
    trace: Option<Trace>,
    baseline: Option<Baseline>,
    listed: Vec<Explained>,
    unlisted: u64,
    /// Connections that ended badly and that the baseline has.
    known: u64,
    found: bool,
}

impl Run<'_> {
    /// Takes the finished verdicts: prints or keeps them.
    fn take(
        &mut self,
        explainer: &mut Explainer,
        writer: &Writer,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        for mut explained in explainer.ready() {
            if let Some(trace) = &self.trace {
                trace.decide(&mut explained);
            }
            if self.baseline.as_ref().is_some_and(|baseline| baseline.knows(&explained, writer)) {
                self.known += u64::from(explained.verdict.severity != lastack_causes::Severity::Benign);
                continue;
            }
            self.found |= self.args.fail_on.as_ref().is_some_and(|fail_on| {
                let verdict = &explained.verdict;
                fail_on.is_met(verdict.cause, verdict.severity, verdict.confidence)
            });
            let plain = explained.is_plain() && !self.args.all;
            if self.args.json && !plain && self.args.conn.is_none() {
                self.json(&explained, writer, out)?;
            }
            let wanted = !self.args.json
                || self.args.conn.is_some()
                || self.args.write.is_some()
                || self.args.html.is_some()
                || self.baseline.is_some();
            if wanted && self.listed.len() < LISTED {
                self.listed.push(explained);
            } else if wanted {
                self.unlisted += 1;
            }
        }
        Ok(())
    }

    fn json(&self, explained: &Explained, writer: &Writer, out: &mut impl Write) -> anyhow::Result<()> {
        let record = writer.connection(explained, &self.kernel(explained));
        serde_json::to_writer(&mut *out, &record)?;
        Ok(out.write_all(b"\n")?)
    }

    /// The records of what `--conn` selects. A number is known only when all are listed.
    fn json_selected(&self, out: &mut impl Write, writer: &Writer) -> anyhow::Result<()> {
        let Some(wanted) = &self.args.conn else { return Ok(()) };
        self.selected(wanted, writer)?.into_iter().try_for_each(|one| self.json(one, writer, out))
    }

    /// What `--conn` selects. A number is that of the list in the output as text.
    fn selected(&self, wanted: &str, writer: &Writer) -> anyhow::Result<Vec<&Explained>> {
        let listed = render::in_order(&self.listed, self.args.all);
        let found: Vec<&Explained> = match wanted.parse::<usize>() {
            Ok(number) => listed.get(number.wrapping_sub(1)).copied().into_iter().collect(),
            Err(_) => self.listed.iter().filter(|one| select::matches(wanted, one, writer)).collect(),
        };
        if found.is_empty() {
            return Err(anyhow!(
                "no connection matches --conn {wanted}: give an ID, a number of the list (with --all, if the list had it), `client > server`, `ADDRESS:PORT`, or `frame:N`"
            ));
        }
        Ok(found)
    }

    /// The groups of ends; with a baseline only those of what is new.
    fn groups(&self, explainer: &Explainer) -> Vec<Group> {
        match &self.baseline {
            Some(_) => explainer.groups_of(&self.listed),
            None => explainer.groups(),
        }
    }

    /// The sums, with what the baseline has.
    fn summary(&self, explainer: &Explainer) -> Summary {
        Summary { known: self.known, ..explainer.summary().clone() }
    }

    fn kernel(&self, explained: &Explained) -> Vec<String> {
        self.trace.as_ref().map(|trace| trace.lines(explained)).unwrap_or_default()
    }

    /// Reads the files again and writes the packets of the connections that ended badly.
    fn write(&self, path: &std::path::Path, writer: &Writer) -> anyhow::Result<()> {
        let bad =
            |one: &&Explained| self.args.all || one.verdict.severity != lastack_causes::Severity::Benign;
        let chosen: Vec<&Explained> = match &self.args.conn {
            Some(wanted) => self.selected(wanted, writer)?,
            None => self.listed.iter().filter(bad).collect(),
        };
        let selection = Selection::new(chosen.into_iter(), writer, self.args.all_packets);
        let opened = input::open(&self.args.files, true)
            .ok_or_else(|| anyhow!("the input cannot be read again for -w"))?;
        let mut input = opened.input;
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut out = PcapngWriter::new(BufWriter::new(file), self.args.anonymize)?;
        let cannot = || format!("cannot write {}", path.display());
        while let Some(packet) = input.next_packet() {
            out.packet(&packet, &selection).with_context(cannot)?;
            // Of the chosen connections the selection has them.
            for end in input.stated().iter().filter(|_| self.args.all_packets) {
                out.end(end).with_context(cannot)?;
            }
        }
        for end in input.stated().iter().filter(|_| self.args.all_packets) {
            out.end(end).with_context(cannot)?;
        }
        let written = out.written;
        out.finish()?;
        if !self.args.quiet {
            lastack_run::message(format_args!(
                "lastack explain: {written} packets written to {}",
                path.display()
            ));
        }
        Ok(())
    }
}
