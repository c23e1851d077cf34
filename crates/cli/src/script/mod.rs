//! `lastack script`: runs packetdrill scripts against the stack in virtual time, or against the kernel.

mod capture;
mod compare;
mod kernel;
mod results;

use capture::Capture;
use clap::{Args, ValueEnum};
use lastack_packetdrill::{self as script, IpVersion, Report, Settings, Verdict};
use results::Results;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// A script failed.
const FAILED: u8 = 1;
/// The command failed.
const TROUBLE: u8 = 2;

/// How often a script that fails against the kernel is repeated.
const REPETITIONS: usize = 2;

/// Run packetdrill scripts against the stack, in virtual time
///
/// A script lists system calls of an application, packets of its peer, and the packets that the stack must
/// send, each with its time. It needs no privileges and takes milliseconds. A script that needs a feature
/// this stack lacks is reported as SKIP with the reason. The exit status is 1 if a script failed.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "Examples:
  lastack script close.pkt                     silent if it passes
  lastack script -v close.pkt                  show the exchange
  lastack script --ip-version all tests/*.pkt  each over IPv4, IPv4-mapped sockets and IPv6
  lastack script -w close.pcapng close.pkt && tshark -r close.pcapng")]
pub struct ScriptArgs {
    /// The scripts; - is standard input
    #[arg(value_name = "FILE.pkt", required = true)]
    files: Vec<PathBuf>,

    /// Define a symbol of the script
    #[arg(short = 'D', long = "define", value_name = "NAME=VALUE", value_parser = definition)]
    definitions: Vec<(String, String)>,

    /// IP version [default: the script's --ip_version, or ipv4]
    #[arg(long, value_name = "VERSION")]
    ip_version: Option<Versions>,

    /// Tolerance for event times in microseconds [default: the script's, or 4000]
    #[arg(long, value_name = "N")]
    tolerance_usecs: Option<u64>,

    /// Print every packet and call
    #[arg(short, long)]
    verbose: bool,

    /// Write the packets to this file (pcapng)
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,

    /// Print the results in the Test Anything Protocol
    #[arg(long)]
    tap: bool,

    /// Parse the scripts without running them
    #[arg(long, conflicts_with = "kernel")]
    dry_run: bool,

    /// Run the scripts against this machine's kernel instead
    ///
    /// In real time, each in a network namespace of its own, over a TUN device: needs root. Calls are real
    /// system calls, and commands are run by /bin/sh, as root, in the directory of the script. Timers of the
    /// kernel are coarse: events may be 20 ms from their time unless --tolerance-usecs says otherwise, and a
    /// script that fails is played again, up to twice.
    #[arg(long)]
    kernel: bool,

    /// Run the scripts against this stack and the kernel, and print a table of the results
    ///
    /// Runs them against the kernel as --kernel does: as root, with the commands of the scripts run by /bin/sh. Do not
    /// compare scripts of others without reading them. The table is in Markdown. A line "// Linux differs: WHY" in a script says that the kernel is known not to
    /// do what the script says. The exit status is 1 if a script fails against this stack, fails against the
    /// kernel without saying so, or says so and does not.
    #[arg(long, conflicts_with_all = ["kernel", "dry_run", "tap", "verbose", "write"])]
    compare: bool,

    /// Number of scripts that run against the kernel at once
    #[arg(long, value_name = "N", default_value = "8")]
    jobs: usize,
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
    /// The number of runs of a script.
    fn count(asked: Option<Self>) -> usize {
        asked.map_or(1, |versions| versions.list().len())
    }

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
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs the command.
pub fn main(args: &ScriptArgs) -> ExitCode {
    match run(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => FAILED.into(),
        // The reader has closed the pipe.
        Err(Trouble::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(trouble) => {
            let _unread = writeln!(anstream::stderr(), "lastack script: {trouble}");
            TROUBLE.into()
        }
    }
}

/// Why the command failed.
#[derive(Debug)]
enum Trouble {
    File(PathBuf, io::Error),
    /// The file is not valid UTF-8 from this offset on.
    NoText(PathBuf, usize),
    /// The capture cannot go to standard output, which has the results.
    CaptureToOutput,
    Kernel(io::Error),
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
            Self::NoText(path, at) => {
                write!(f, "{}: not a script: byte {at} is not UTF-8", path.display())
            }
            Self::CaptureToOutput => {
                write!(f, "-w -: standard output is used for the results; choose a file")
            }
            Self::Kernel(error) => write!(f, "{error}"),
            Self::Output(error) => write!(f, "cannot write the results: {error}"),
        }
    }
}

/// One run of one script.
struct Run {
    path: PathBuf,
    version: IpVersion,
    source: String,
}

impl Run {
    fn settings(&self, args: &ScriptArgs) -> Settings {
        Settings {
            version: self.version,
            definitions: args.definitions.clone(),
            tolerance: args.tolerance_usecs.map(Duration::from_micros),
        }
    }

    /// Runs it against this stack.
    fn play(&self, args: &ScriptArgs) -> Report {
        script::run(&self.source, &self.settings(args))
    }

    /// Runs it against the kernel. On a busy machine events may be late: then it is repeated.
    fn play_on_kernel(&self, args: &ScriptArgs) -> Result<Report, Trouble> {
        let mut settings = self.settings(args);
        settings.tolerance.get_or_insert(kernel::TOLERANCE);
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = parent.unwrap_or(Path::new("."));
        let play = || kernel::run(&self.source, &settings, directory).map_err(Trouble::Kernel);
        let mut report = play()?;
        for _ in 0..REPETITIONS {
            if !matches!(report.verdict, Verdict::Failed(_)) {
                break;
            }
            report = play()?;
        }
        Ok(report)
    }
}

/// Reads a script; returns its path and text.
fn read(path: &Path) -> Result<(PathBuf, String), Trouble> {
    let mut bytes = Vec::new();
    let (path, read) = if path.as_os_str() == "-" {
        ("<stdin>".into(), io::stdin().lock().read_to_end(&mut bytes))
    } else {
        (path.to_owned(), fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)))
    };
    match read.map(|_| String::from_utf8(bytes)) {
        Ok(Ok(source)) => Ok((path, source)),
        Ok(Err(error)) => Err(Trouble::NoText(path, error.utf8_error().valid_up_to())),
        Err(error) => Err(Trouble::File(path, error)),
    }
}

/// All requested runs.
fn runs(args: &ScriptArgs) -> Result<Vec<Run>, Trouble> {
    let mut runs = Vec::new();
    for path in &args.files {
        let (path, source) = read(path)?;
        let own = [IpVersion::of_script(&source).unwrap_or_default()];
        let asked = args.ip_version.map(Versions::list);
        for &version in asked.unwrap_or(&own) {
            runs.push(Run { path: path.clone(), version, source: source.clone() });
        }
    }
    Ok(runs)
}

/// `false`: a script failed.
fn run(args: &ScriptArgs) -> Result<bool, Trouble> {
    if args.write.as_ref().is_some_and(|file| file.as_os_str() == "-") {
        return Err(Trouble::CaptureToOutput);
    }
    let runs = runs(args)?;
    if args.compare {
        return compare::run(args, &runs);
    }
    let mut capture = args.write.as_deref().map(Capture::create).transpose()?;
    let mut results = Results::new(args, runs.len());
    let mut add = |run: &Run, report: &Report| {
        if let Some(capture) = &mut capture {
            capture.add(run, report);
        }
        results.add(run, report).map_err(Trouble::Output)
    };
    if args.kernel {
        on_kernel(args, &runs, add)?;
    } else if args.dry_run {
        runs.iter().try_for_each(|run| add(run, &script::check(&run.source, &run.settings(args))))?;
    } else {
        runs.iter().try_for_each(|run| add(run, &run.play(args)))?;
    }
    capture.map_or(Ok(()), Capture::finish)?;
    results.finish()
}

/// Runs against the kernel, several at a time, and prints the results in the order of the scripts.
fn on_kernel(
    args: &ScriptArgs,
    runs: &[Run],
    mut tell: impl FnMut(&Run, &Report) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = channel();
    thread::scope(|scope| {
        for _ in 0..args.jobs.clamp(1, runs.len().max(1)) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some((index, run)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    runs.get(index).map(|run| (index, run))
                } {
                    let report = run.play_on_kernel(args);
                    let trouble = report.is_err();
                    if sender.send((index, report)).is_err() || trouble {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut reports: Vec<Option<Report>> = runs.iter().map(|_| None).collect();
        let mut reported = 0;
        for (index, report) in receiver {
            reports[index] = Some(report.inspect_err(|_| next.store(runs.len(), Ordering::Relaxed))?);
            while let Some(report) = reports.get_mut(reported).and_then(Option::take) {
                tell(&runs[reported], &report)?;
                reported += 1;
            }
        }
        Ok(())
    })
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
