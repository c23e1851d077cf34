//! `lastack lab`: plays scenarios of how connections begin and end, and shows each as a timeline.

mod json;
mod kernel;
mod page;
mod show;

pub use kernel::intercept;

use crate::nearest::nearest;
use clap::Args;
use kernel::KernelTrouble;
use lastack_lab::{self as lab, Played, SCENARIOS, Scenario, Setup};
use lastack_link::PcapngWriter;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// The result of a scenario was not as expected.
const NOT_AS_STATED: u8 = 1;
/// The command failed.
const TROUBLE: u8 = 2;

/// Play scenarios of how connections begin and end, as packet timelines
///
/// Two stacks in memory play each scenario in virtual time: the same packets on every run, without
/// privileges and without a network. Each scenario declares the expected result; if the result differs,
/// the exit status is 1. With --kernel the right host is this machine's Linux instead.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "Examples:
  lastack lab                          every scenario
  lastack lab refused abort-linger     these two
  lastack lab half-open-syn -w syn.pcapng && tshark -r syn.pcapng
  lastack lab --json | jq 'select(.type == \"end\")'")]
pub struct LabArgs {
    /// The scenarios to play; without any, all of them
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,

    /// List the scenarios instead of playing them
    #[arg(short, long, conflicts_with_all = ["scenarios", "write"])]
    list: bool,

    /// Write the packets to this file (pcapng), with a comment where a rule decided
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,

    /// Write the scenarios with their sequence diagrams to this file, as a self-contained HTML page
    #[arg(long, value_name = "FILE", conflicts_with = "list")]
    html: Option<PathBuf>,

    /// Print JSON lines instead of timelines
    #[arg(long)]
    json: bool,

    /// Play over IPv6
    #[arg(short = '6', long)]
    ipv6: bool,

    /// Play with this machine's Linux as the host on the right, over TUN in a private namespace, in
    /// real time
    #[arg(long)]
    kernel: bool,
}

/// Runs the command.
pub fn main(args: &LabArgs) -> ExitCode {
    let mut out = anstream::stdout().lock();
    match run(args, &mut out) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => NOT_AS_STATED.into(),
        // The reader has closed the pipe.
        Err(Trouble::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(trouble) => {
            let _ = writeln!(anstream::stderr(), "lastack lab: {trouble}");
            TROUBLE.into()
        }
    }
}

/// Why the command failed.
#[derive(Debug)]
enum Trouble {
    NoSuchScenario(String),
    Capture(PathBuf, io::Error),
    Page(PathBuf, io::Error),
    Kernel(KernelTrouble),
    Output(io::Error),
}

impl From<KernelTrouble> for Trouble {
    fn from(trouble: KernelTrouble) -> Self {
        Self::Kernel(trouble)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoSuchScenario(name) => {
                write!(f, "unknown scenario {name:?}")?;
                if let Some(near) = nearest(name, SCENARIOS.iter().map(|scenario| scenario.name)) {
                    write!(f, "; did you mean {near:?}?")?;
                }
                f.write_str("\n'lastack lab --list' lists them")
            }
            Self::Page(path, error) => write!(f, "cannot write the page {}: {error}", path.display()),
            Self::Capture(path, error) => {
                writeln!(f, "cannot write the capture {}: {error}", path.display())?;
                f.write_str(match error.kind() {
                    io::ErrorKind::StorageFull => "free some space, or choose another file",
                    _ => "choose a file in a writable directory",
                })
            }
            Self::Kernel(trouble) => trouble.fmt(f),
            Self::Output(error) => write!(f, "cannot write the output: {error}"),
        }
    }
}

/// Runs the command; `false`: the result of a scenario was not as expected.
fn run(args: &LabArgs, out: &mut impl Write) -> Result<bool, Trouble> {
    if args.list {
        let listed = if args.json { json::list(out) } else { show::list(out) };
        return Ok(listed.map(|()| true)?);
    }
    let scenarios = chosen(args)?;
    // Virtual times begin at the epoch, so that they are the same on every run.
    let start = if args.kernel { SystemTime::now() } else { SystemTime::UNIX_EPOCH };
    let mut capture = args.write.clone().map(|path| Capture::create(path, start)).transpose()?;
    let setup = if args.ipv6 { Setup::ipv6() } else { Setup::default() };
    let setup = if args.kernel { kernel::setup(setup) } else { setup };
    let mut sections = Vec::new();
    let mut failed = 0;
    for (nth, scenario) in scenarios.iter().enumerate() {
        let played = match args.kernel {
            true => {
                // Without output for minutes the program would seem to hang.
                writeln!(anstream::stderr(), "playing {} with Linux, in real time ..", scenario.name)?;
                kernel::play(scenario, &setup)?
            }
            false => lab::play(scenario, &setup),
        };
        if args.json {
            json::played(out, &played)?;
        } else {
            show::played(out, &played, nth > 0)?;
        }
        failed += usize::from(!played.as_stated());
        if let Some(capture) = &mut capture {
            capture.add(&played);
        }
        if args.html.is_some() {
            sections.push(page::section(&played));
        }
    }
    if let Some(capture) = capture {
        capture.finish()?;
    }
    if let Some(path) = &args.html {
        std::fs::write(path, page::page(sections)).map_err(|error| Trouble::Page(path.clone(), error))?;
    }
    if !args.json && scenarios.len() > 1 {
        show::count(out, scenarios.len(), failed)?;
    }
    out.flush()?;
    Ok(failed == 0)
}

/// The named scenarios; without names all, with the kernel all in which it takes part.
fn chosen(args: &LabArgs) -> Result<Vec<&'static Scenario>, Trouble> {
    if args.scenarios.is_empty() {
        return Ok(SCENARIOS.iter().filter(|scenario| scenario.two_sided || !args.kernel).collect());
    }
    let find = |name: &String| lab::find(name).ok_or_else(|| Trouble::NoSuchScenario(name.clone()));
    args.scenarios.iter().map(find).collect()
}

/// The capture of all scenarios, one after the other.
struct Capture {
    path: PathBuf,
    writer: PcapngWriter<File>,
    offset: Duration,
}

impl Capture {
    fn create(path: PathBuf, start: SystemTime) -> Result<Self, Trouble> {
        match File::create(&path) {
            Ok(file) => Ok(Self { path, writer: PcapngWriter::new(file, start), offset: Duration::ZERO }),
            Err(error) => Err(Trouble::Capture(path, error)),
        }
    }

    fn add(&mut self, played: &Played) {
        let title = format!("scenario {}", played.scenario.name);
        played.trace.capture(&mut self.writer, self.offset, &title);
        self.offset += played.trace.end().elapsed() + Duration::from_secs(1);
    }

    fn finish(self) -> Result<(), Trouble> {
        self.writer.finish().map(drop).map_err(|error| Trouble::Capture(self.path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::Value;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        lab: LabArgs,
    }

    fn lab(words: &str) -> Result<String, Trouble> {
        let args =
            Command::try_parse_from(std::iter::once("lab").chain(words.split_whitespace())).unwrap().lab;
        let mut out = Vec::new();
        assert!(run(&args, &mut out)?, "{words}");
        Ok(String::from_utf8(out).unwrap())
    }

    fn lines(words: &str) -> Vec<Value> {
        lab(words).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn every_scenario_is_listed_and_played() {
        let (list, played) = (lab("--list").unwrap(), lab("").unwrap());
        for scenario in SCENARIOS {
            assert!(list.contains(scenario.name) && list.contains(scenario.summary));
            assert!(played.contains(&format!("{}: {}", scenario.name, scenario.summary)));
        }
        assert!(played.ends_with(&format!("\n{} scenarios, all as expected\n", SCENARIOS.len())));
    }

    #[test]
    fn only_the_named_are_played_in_the_order_requested() {
        let played = lab("orderly refused -6").unwrap();
        let at = |title: &str| played.find(title).unwrap_or_else(|| panic!("{title} in {played}"));
        assert!(at("orderly: ") < at("refused: ") && at("[2001:db8::1]:40001") < at("refused: "));
        assert!(!played.contains("abort-linger"));
    }

    #[test]
    fn json_lines_carry_packets_states_calls_and_ends() {
        let lines = lines("--json abort-unread half-open-syn silent-host");
        assert!(lines.iter().all(|line| line["v"] == 1 && line["scenario"].is_string()));
        let of = |kind: &str| lines.iter().filter(move |line| line["type"] == kind).collect::<Vec<_>>();
        let resets =
            of("packet").into_iter().filter(|packet| packet["rule_code"] == "S60").collect::<Vec<_>>();
        assert_eq!((resets.len(), &resets[0]["tcp"]["flags"]), (1, &Value::from("R.")));
        let end = of("end").into_iter().find(|end| end["rule_code"] == "S60").unwrap();
        assert_eq!(
            (&end["cause"], &end["by"], &end["lost"]["unread"]),
            (&"aborted".into(), &"application".into(), &5.into())
        );
        assert!(of("end").iter().any(|end| end["cause"] == "timed-out" && end["by"] == "stack"));
        assert!(of("application").iter().any(|call| call["text"] == "read: ConnectionReset"));
        assert!(of("state").iter().any(|state| state["state"] == "SYN-RECEIVED"));
        assert_eq!((of("restart").len(), of("path").len()), (1, 1));
        assert!(of("result").iter().all(|result| result["as_stated"] == true));
    }

    #[test]
    fn a_capture_is_the_same_on_every_run() {
        let dir = tempfile::tempdir().unwrap();
        let capture = |name: &str| {
            let path = dir.path().join(name);
            lab(&format!("refused udp-unreachable -w {}", path.display())).unwrap();
            std::fs::read(path).unwrap()
        };
        let first = capture("first");
        assert!(first.len() > 400);
        assert_eq!(first, capture("second"));
    }

    #[test]
    fn a_page_shows_every_scenario_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lab.html");
        lab(&format!("--html {}", path.display())).unwrap();
        let page = std::fs::read_to_string(&path).unwrap();
        for scenario in SCENARIOS {
            let anchor = format!("id=\"{}\"", scenario.name);
            assert_eq!(page.matches(&anchor).count(), 1, "{}", scenario.name);
        }
        assert_eq!(page.matches("<svg").count(), SCENARIOS.len());
        assert!(page.contains("R. seq=") && page.contains("(S60)") && !page.contains("http://"));
    }

    #[test]
    fn trouble_names_its_cause_and_cure() {
        let unknown = lab("half-open-sync").unwrap_err().to_string();
        assert!(unknown.contains("\"half-open-sync\"; did you mean \"half-open-syn\"?"), "{unknown}");
        assert!(unknown.contains("--list"));
        let missing = lab("refused -w /nonexistent/lab.pcapng").unwrap_err().to_string();
        assert!(missing.contains("/nonexistent/lab.pcapng: No such file"), "{missing}");
    }
}
