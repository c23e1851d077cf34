//! Opening the captures, progress, and input errors.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lastack_explain::Summary;
use lastack_explain::read::{Capture, Merge, offsets};

/// The captures that could be opened.
pub struct Opened {
    pub input: Merge,
    /// Some could not be opened.
    pub partly: bool,
    /// The file names, indexed by the file index of frame numbers.
    pub names: Vec<String>,
}

/// Opens the files; reports errors for those that cannot be read. `None`: none can be read.
pub fn open(files: &[PathBuf], quiet: bool) -> Option<Opened> {
    let mut captures = Vec::new();
    let mut names = Vec::new();
    let mut partly = false;
    for file in files {
        let name =
            if file.as_os_str() == "-" { "standard input".to_owned() } else { file.display().to_string() };
        match Capture::open(file, names.len() as u16) {
            Ok(capture) => {
                captures.push(capture);
                names.push(name);
            }
            Err(error) => {
                partly = true;
                if !quiet || captures.is_empty() {
                    lastack_run::message(format_args!("lastack explain: {name}: {error}"));
                }
            }
        }
    }
    let offsets = clock_offsets(&names);
    if !quiet {
        for (name, offset) in names.iter().zip(&offsets).filter(|(_, offset)| **offset != 0) {
            let seconds = *offset as f64 / 1e9;
            lastack_run::message(format_args!(
                "lastack explain: {name}: {seconds:+.6} s is added to its times, which differ from those of the other captures of the same packets"
            ));
        }
    }
    let input = Merge::with_offsets(captures, offsets);
    (!names.is_empty()).then_some(Opened { input, partly, names })
}

/// What is added to the times of each file, so that captures of the same packets agree. Standard input cannot be read twice.
fn clock_offsets(names: &[String]) -> Vec<i64> {
    let several = names.len() > 1 && names.iter().all(|name| Path::new(name).is_file());
    let open = || names.iter().map(|name| Capture::open(Path::new(name), 0)).collect::<Result<Vec<_>, _>>();
    if several { open().map_or_else(|_| Vec::new(), offsets) } else { Vec::new() }
}

/// Warnings about the input that concern the verdicts.
pub fn warnings(input: &Merge, summary: &Summary) -> Vec<String> {
    let mut warnings = Vec::new();
    for facts in input.facts() {
        warnings.extend(facts.warnings.iter().map(|warning| format!("{}: {warning}", facts.name)));
        if facts.backwards > 0 {
            warnings.push(format!("{}: times run backwards {} times", facts.name, facts.backwards));
        }
        if facts.untimed > 0 {
            warnings.push(format!("{}: {} packets have no time", facts.name, facts.untimed));
        }
    }
    for (link, packets) in &summary.unknown_links {
        warnings.push(format!(
            "link type {link} is not known: {packets} packets were left out; editcap or tcprewrite can turn many link types into Ethernet or raw IP"
        ));
    }
    if summary.evicted > 0 {
        warnings.push(format!(
            "{} connections were dropped from memory before their end: more were open at a time than --max-connections allows",
            summary.evicted
        ));
    }
    warnings
}

/// The progress display on a terminal.
pub struct Progress {
    shown: bool,
    enabled: bool,
    started: Instant,
    next: Instant,
}

impl Progress {
    pub fn new(quiet: bool) -> Self {
        let now = Instant::now();
        let enabled = !quiet && std::io::stderr().is_terminal();
        Self { shown: false, enabled, started: now, next: now + Duration::from_secs(1) }
    }

    /// Counts a packet.
    #[inline]
    pub fn packet(&mut self, packets: u64, position: impl Fn() -> u64) {
        if self.enabled && packets & 0x3fff == 0 {
            self.show(packets, position());
        }
    }

    fn show(&mut self, packets: u64, position: u64) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + Duration::from_millis(200);
        self.shown = true;
        let rate = packets as f64 / now.duration_since(self.started).as_secs_f64() / 1e6;
        eprint!("\r{} MB, {:.1} M packets, {rate:.1} M/s ", position >> 20, packets as f64 / 1e6);
        let _ = std::io::stderr().flush();
    }

    /// Removes the progress line.
    pub fn done(&self) {
        if self.shown {
            eprint!("\r{:60}\r", "");
        }
    }
}
