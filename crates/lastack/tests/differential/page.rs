//! The table of scenarios and the list of differences: printed, and as `docs/linux.md`.

use std::{fmt::Write, fs, path::PathBuf};

use crate::{
    decided::{DECISIONS, Verdict},
    record::Record,
    run,
    scenarios::{self, Family},
};

const AMOUNTS: &str = "
## Differences in amounts

What a sender may have in flight and in its buffers cannot be compared segment by segment, where Linux counts something
else. The scripts of `packetdrill` ([scripts.md](scripts.md)) show where both agree.

- **Send buffer.** lastack counts the bytes that an application has written: two congestion windows of them. Linux counts the
  memory of its packets, headers and slack included, which differs between releases and drivers; for segments of 1460 bytes
  it takes about half a window more before a write waits. Two windows are what keeps the window full between the
  acknowledgment that frees a window and the write that follows it; more only adds delay before the first byte that is
  written.
- **PRR** counts bytes, as RFC 6937 does; Linux counts packets. Both allow the same where segments are full. A segment that
  is smaller than the MSS counts as a whole packet on Linux: after its loss or delivery Linux sends up to an MSS more or less.
- **ACK trains.** Linux's HyStart also ends slow start after a train of closely spaced ACKs that is half as long as the
  minimum RTT (`hystart_detect` 1). RFC 9406 leaves this out, and so does lastack: where acknowledgments are
  thinned out or bunched, as on wireless links and behind segmentation offload, and for a pacing sender, the length of a train says
  nothing about the path. HyStart++ is the default, and Linux's detection by delay can be chosen.
- **`tcp_base_mss` on accepted connections.** With `MtuProbing::Always` every connection begins at the base, since a server, which
  sends most, needs it most on a path that drops large packets silently. Linux initializes the search of an accepted
  connection after its MSS is set, so that it begins at the MTU of the route and finds a black hole by timeouts.
";

const HEAD: &str = "\
# lastack and Linux

Each row is a scenario: a scripted peer and an application, played against the engine and against Linux over a TUN
device. *same*: both send the same segments (flags, relative SEQ and ACK, bytes of data, options, a zero window) and
return the same from the calls. Otherwise the difference is intended, and is in the list under that rule; any other
difference fails the test. The scripts are in `crates/lastack/tests/differential/scenarios/`, what Linux does in
`crates/lastack/tests/differential/linux.txt`. This page is written by
`UPDATE_DOCS=1 cargo test -p lastack --test differential`, as root.
";

/// A scenario over an IP version.
pub struct Row {
    name: String,
    rules: String,
    family: Family,
    pub verdict: Verdict,
}

impl Row {
    pub fn title(&self) -> String {
        format!("{} ({}), {}", self.name, self.rules, self.family)
    }
}

pub struct Table {
    release: String,
    pub rows: Vec<Row>,
}

/// Plays every scenario on the engine, and compares.
pub fn compare(record: &Record) -> Table {
    let engine = run::all_on_engine();
    let mut rows = Vec::new();
    for scenario in scenarios::all() {
        for &family in scenario.families {
            let linux = record.of(&scenario.name, family).map_or(&[][..], Vec::as_slice);
            let engine = &engine[&(scenario.name.clone(), family)];
            let verdict = Verdict::of(&scenario.name, linux, engine);
            rows.push(Row { name: scenario.name.clone(), rules: scenario.rules.clone(), family, verdict });
        }
    }
    Table { release: record.release.clone(), rows }
}

impl Table {
    fn count(&self, wanted: impl Fn(&Verdict) -> bool) -> usize {
        self.rows.iter().filter(|row| wanted(&row.verdict)).count()
    }

    /// The page: a line a scenario, then the differences.
    pub fn text(&self) -> String {
        let mut text = String::from(HEAD);
        let same = self.count(|verdict| matches!(verdict, Verdict::Same));
        let decided = self.count(|verdict| matches!(verdict, Verdict::Decided(..)));
        let scenarios = scenarios::all();
        write!(
            text,
            "\nLinux {}: {} scenarios, {} times played: {same} same, {decided} with a decided difference.\n\n\
             | scenario | rules | IPv4 | IPv6 |\n|---|---|---|---|\n",
            self.release,
            scenarios.len(),
            self.rows.len(),
        )
        .unwrap();
        for scenario in &scenarios {
            let [v4, v6] = Family::ALL.map(|family| self.cell(&scenario.name, family));
            writeln!(text, "| {} | {} | {v4} | {v6} |", scenario.name, scenario.rules).unwrap();
        }
        text.push_str("\n## Decided differences\n");
        for decision in DECISIONS {
            write!(text, "\n**{}** {}\n\n", decision.rule, decision.why).unwrap();
            for name in decision.scenarios {
                self.write_difference(&mut text, name);
            }
        }
        text.push_str(AMOUNTS);
        text
    }

    fn cell(&self, name: &str, family: Family) -> &'static str {
        match self.rows.iter().find(|row| row.name == name && row.family == family).map(|row| &row.verdict) {
            None => "",
            Some(Verdict::Same) => "same",
            Some(Verdict::Decided(decision, ..) | Verdict::Stale(decision)) => decision.rule,
            Some(Verdict::Undecided(_)) => "**differs**",
        }
    }

    fn write_difference(&self, text: &mut String, name: &str) {
        let mut last = None;
        for row in self.rows.iter().filter(|row| row.name == name) {
            let Verdict::Decided(_, linux, engine) = &row.verdict else { continue };
            if last.replace((linux, engine)) != Some((linux, engine)) {
                let (step, linux) = linux.split_once(" => ").unwrap_or((linux, "nothing"));
                let engine = engine.split_once(" => ").map_or("nothing", |(_, engine)| engine);
                writeln!(text, "- {name}: at `{step}` Linux: `{linux}`; lastack: `{engine}`").unwrap();
            }
        }
    }

    /// The page must say what this table says.
    pub fn check_page(&self, update: bool) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/linux.md");
        if update {
            fs::write(&path, self.text()).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == self.text(),
            "docs/linux.md is not up to date: UPDATE_DOCS=1 cargo test -p lastack --test differential"
        );
    }
}
