//! The record of what Linux does: `linux.txt`.

use std::{fmt::Write, fs, path::PathBuf};

use crate::{
    play::Transcript,
    run::Played,
    scenarios::{self, Family},
};

const HEAD: &str = "Recorded of Linux ";
const NOTE: &str = "\
# What Linux does in the scenarios of this test: a step a line, behind the arrow what the call gives and what is sent.
# Written by `UPDATE_DOCS=1 cargo test -p lastack --test differential`, as root.
";

#[derive(Debug)]
pub struct Record {
    pub release: String,
    played: Played,
}

impl Record {
    pub fn new(release: &str, played: Played) -> Self {
        Self { release: release.to_owned(), played }
    }

    pub fn of(&self, name: &str, family: Family) -> Option<&Transcript> {
        self.played.get(&(name.to_owned(), family))
    }

    /// Whether this kernel is of the release, patches aside, that was recorded.
    pub fn is_of(&self, release: &str) -> bool {
        let series = |release: &str| release.splitn(3, '.').take(2).map(str::to_owned).collect::<Vec<_>>();
        series(&self.release) == series(release)
    }

    /// Reads the file.
    ///
    /// # Panics
    ///
    /// If it is not as [`write`](Self::write) writes it.
    pub fn read() -> Self {
        let text = fs::read_to_string(path()).expect("linux.txt: write it with UPDATE_DOCS=1, as root");
        let mut record = Self { release: String::new(), played: Played::new() };
        let mut keys = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(release) = line.strip_prefix(HEAD) {
                record.release = release.to_owned();
            } else if let Some(title) = line.strip_prefix("[").and_then(|title| title.strip_suffix("]")) {
                keys = keys_of(title);
                record.played.extend(keys.iter().map(|key| (key.clone(), Transcript::new())));
            } else {
                for key in &keys {
                    record.played.entry(key.clone()).or_default().push(line.to_owned());
                }
            }
        }
        record
    }

    /// Writes the file.
    pub fn write(&self) {
        let mut text = format!("{NOTE}{HEAD}{}\n", self.release);
        for scenario in scenarios::all() {
            let of = |family: &Family| self.of(&scenario.name, *family).expect("it was played");
            let [first, rest @ ..] = scenario.families else { continue };
            if rest.iter().all(|family| of(family) == of(first)) {
                section(&mut text, &scenario.name, of(first));
            } else {
                for family in scenario.families {
                    section(&mut text, &format!("{} over {family}", scenario.name), of(family));
                }
            }
        }
        fs::write(path(), text).unwrap();
    }
}

fn section(text: &mut String, title: &str, transcript: &Transcript) {
    write!(text, "\n[{title}]\n{}\n", transcript.join("\n")).unwrap();
}

fn keys_of(title: &str) -> Vec<(String, Family)> {
    for family in Family::ALL {
        if let Some(name) = title.strip_suffix(&format!(" over {family}")) {
            return vec![(name.to_owned(), family)];
        }
    }
    Family::ALL.map(|family| (title.to_owned(), family)).to_vec()
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/differential/linux.txt")
}

/// Two transcripts of the same scenario, side by side where they differ.
pub fn difference(one: (&str, &[String]), other: (&str, &[String])) -> String {
    let mut text = String::new();
    for at in 0..one.1.len().max(other.1.len()) {
        let [a, b] = [one.1, other.1].map(|lines| lines.get(at).map_or("", String::as_str));
        if a == b {
            writeln!(text, "      {a}").unwrap();
        } else {
            writeln!(text, "    > {:>8}: {a}\n    > {:>8}: {b}", one.0, other.0).unwrap();
        }
    }
    text
}
