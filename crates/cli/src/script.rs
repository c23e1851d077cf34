//! `lastack script`: runs packetdrill scripts against the stack, in virtual time.

use clap::{Args, ValueEnum};
use lastack_link::PcapngWriter;
use lastack_sim::script::{self, IpVersion, Problem, Report, Settings, Verdict};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// A script failed.
const FAILED: u8 = 1;
/// The command cannot do what it is asked for.
const TROUBLE: u8 = 2;

/// Time between two runs in one capture.
const PAUSE: Duration = Duration::from_secs(1);

/// Run packetdrill scripts against the stack, in virtual time
///
/// A script says what an application calls, what the peer sends, and what the stack must send and
/// when. It needs no privileges and takes milliseconds. What a script asks for and this stack does not
/// have is reported as SKIP with its reason, never passed over. The exit status is 1 if a script failed.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "Examples:
  lastack script close.pkt                     silent if it passes
  lastack script -v close.pkt                  show the exchange
  lastack script --ip-version all tests/*.pkt  each over IPv4, IPv4-mapped sockets and IPv6
  lastack script -w close.pcapng close.pkt && tshark -r close.pcapng")]
pub struct ScriptArgs {
    /// The scripts
    #[arg(value_name = "FILE.pkt", required = true)]
    files: Vec<PathBuf>,

    /// Let a word of the script stand for something else
    #[arg(short = 'D', long = "define", value_name = "NAME=VALUE", value_parser = definition)]
    definitions: Vec<(String, String)>,

    /// Over which version of IP
    #[arg(long, value_name = "VERSION", default_value = "ipv4")]
    ip_version: Versions,

    /// How far from its time an event may be, in microseconds; without it, what the script says, or 4000
    #[arg(long, value_name = "N")]
    tolerance_usecs: Option<u64>,

    /// Print every packet and call
    #[arg(short, long)]
    verbose: bool,

    /// Write the packets to this file, in the format pcapng
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,

    /// Print the results in the Test Anything Protocol
    #[arg(long)]
    tap: bool,

    /// Read the scripts and do not run them
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Versions {
    Ipv4,
    #[value(name = "ipv4-mapped-ipv6")]
    Mapped,
    Ipv6,
    All,
}

impl Versions {
    fn list(self) -> &'static [IpVersion] {
        match self {
            Self::Ipv4 => &[IpVersion::V4],
            Self::Mapped => &[IpVersion::Mapped],
            Self::Ipv6 => &[IpVersion::V6],
            Self::All => &IpVersion::ALL,
        }
    }
}

fn definition(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it has the form NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs the command.
pub fn main(args: &ScriptArgs) -> ExitCode {
    match run(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => FAILED.into(),
        // Whoever read our output has seen enough.
        Err(Trouble::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(trouble) => {
            let _unread = writeln!(anstream::stderr(), "lastack script: {trouble}");
            TROUBLE.into()
        }
    }
}

/// Why the command cannot do what it is asked for.
#[derive(Debug)]
enum Trouble {
    File(PathBuf, io::Error),
    Output(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Output(error) => write!(f, "cannot write the results: {error}"),
        }
    }
}

/// One run of one script.
struct Run<'a> {
    path: &'a Path,
    version: IpVersion,
    source: &'a str,
}

/// `false`: a script failed.
fn run(args: &ScriptArgs) -> Result<bool, Trouble> {
    let mut capture = args.write.as_deref().map(Capture::create).transpose()?;
    let versions = args.ip_version.list();
    let mut results = Results::new(args, args.files.len() * versions.len());
    for path in &args.files {
        let source = fs::read_to_string(path).map_err(|error| Trouble::File(path.clone(), error))?;
        for &version in versions {
            let settings = Settings {
                version,
                definitions: args.definitions.clone(),
                tolerance: args.tolerance_usecs.map(Duration::from_micros),
            };
            let report = if args.dry_run {
                script::check(&source, &settings)
            } else {
                script::run(&source, &settings)
            };
            let run = Run { path, version, source: &source };
            if let Some(capture) = &mut capture {
                capture.add(&run, &report);
            }
            results.add(&run, &report)?;
        }
    }
    capture.map_or(Ok(()), Capture::finish)?;
    results.finish()
}

/// What is printed.
struct Results {
    tap: bool,
    verbose: bool,
    /// There is one run only, which is silent if it passes.
    alone: bool,
    several_versions: bool,
    count: usize,
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Results {
    fn new(args: &ScriptArgs, count: usize) -> Self {
        Self {
            tap: args.tap,
            verbose: args.verbose,
            alone: count == 1,
            several_versions: args.ip_version.list().len() > 1,
            count,
            passed: 0,
            failed: 0,
            skipped: 0,
        }
    }

    fn add(&mut self, run: &Run<'_>, report: &Report) -> io::Result<()> {
        let mut out = anstream::stdout().lock();
        let begins = self.passed + self.failed + self.skipped == 0;
        if self.tap && begins {
            writeln!(out, "TAP version 13\n1..{}", self.count)?;
        }
        if self.verbose {
            for line in &report.log {
                writeln!(out, "{}{line}", if self.tap { "# " } else { "" })?;
            }
        }
        match &report.verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Failed(_) => self.failed += 1,
            Verdict::Skipped(_) => self.skipped += 1,
        }
        let name = self.name(run);
        if self.tap {
            return self.tap_line(&mut out, run, &report.verdict, &name);
        }
        match &report.verdict {
            Verdict::Passed if self.alone => Ok(()),
            Verdict::Passed => writeln!(out, "OK   {name}"),
            Verdict::Skipped(problem) => writeln!(out, "SKIP {name}: {}", reason(run, problem)),
            Verdict::Failed(problem) => {
                if !self.alone {
                    writeln!(out, "FAIL {name}: {}", reason(run, problem))?;
                    out.flush()?;
                }
                let path = run.path.display().to_string();
                writeln!(anstream::stderr(), "{}", problem.draw(&path, run.source, true))
            }
        }
    }

    fn name(&self, run: &Run<'_>) -> String {
        let path = run.path.display();
        if self.several_versions { format!("{path} ({})", run.version.name()) } else { path.to_string() }
    }

    fn tap_line(&self, out: &mut impl Write, run: &Run<'_>, verdict: &Verdict, name: &str) -> io::Result<()> {
        let number = self.passed + self.failed + self.skipped;
        match verdict {
            Verdict::Passed => writeln!(out, "ok {number} - {name}"),
            Verdict::Skipped(problem) => {
                writeln!(out, "ok {number} - {name} # SKIP {}", reason(run, problem))
            }
            Verdict::Failed(problem) => {
                writeln!(out, "not ok {number} - {name}")?;
                let drawn = problem.draw(&run.path.display().to_string(), run.source, false);
                drawn.lines().try_for_each(|line| writeln!(out, "# {line}"))
            }
        }
    }

    fn finish(self) -> Result<bool, Trouble> {
        if !self.alone && !self.tap {
            let Self { passed, failed, skipped, .. } = self;
            writeln!(anstream::stdout(), "{passed} passed, {failed} failed, {skipped} skipped")?;
        }
        Ok(self.failed == 0)
    }
}

/// The line and what is wrong there.
fn reason(run: &Run<'_>, problem: &Problem) -> String {
    format!("line {}: {}", problem.line(run.source), problem.message)
}

/// The packets of all runs, one after the other.
struct Capture<'a> {
    path: &'a Path,
    writer: PcapngWriter<File>,
    offset: Duration,
}

impl<'a> Capture<'a> {
    fn create(path: &'a Path) -> Result<Self, Trouble> {
        let file = File::create(path).map_err(|error| Trouble::File(path.to_owned(), error))?;
        Ok(Self { path, writer: PcapngWriter::new(file, SystemTime::now()), offset: Duration::ZERO })
    }

    fn add(&mut self, run: &Run<'_>, report: &Report) {
        let title = format!("{} ({})", run.path.display(), run.version.name());
        report.capture(&mut self.writer, self.offset, &title);
        self.offset += report.end() + PAUSE;
    }

    fn finish(self) -> Result<(), Trouble> {
        let path = self.path;
        self.writer.finish().map(|_| ()).map_err(|error| Trouble::File(path.to_owned(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_has_a_name_and_a_value() {
        assert_eq!(definition("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert!(definition("A").is_err());
    }
}
