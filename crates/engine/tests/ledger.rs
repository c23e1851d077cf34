//! `docs/rfc9293.md` answers every requirement of RFC 9293 appendix B once, and it and `docs/rfcs.md`
//! name files, functions and tests that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// How many requirements of each kind appendix B has. They are numbered from 1 without a gap.
const KINDS: [(&str, u32); 4] = [("MUST", 69), ("SHLD", 31), ("MAY", 18), ("REC", 1)];

/// A row of a table: a requirement and what we answer.
#[derive(Debug)]
struct Row {
    tag: String,
    requirement: String,
    answer: String,
    place: String,
    test: String,
}

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates/").to_owned()
}

/// The rows of the tables of a page that have five columns.
fn rows(page: &str) -> Vec<Row> {
    let text = fs::read_to_string(crates().join("../docs").join(page)).unwrap();
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    cells
        .map(|line| line.split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>())
        .filter(|cells| cells[0] != "tag" && cells[0] != "section")
        .map(|cells| {
            let [tag, requirement, answer, place, test] =
                cells.try_into().unwrap_or_else(|cells| panic!("{page}: not five columns: {cells:?}"));
            Row { tag, requirement, answer, place, test }
        })
        .collect()
}

fn sources() -> BTreeMap<PathBuf, String> {
    let mut sources = BTreeMap::new();
    for member in fs::read_dir(crates()).unwrap() {
        for part in ["src", "tests"] {
            collect(&member.as_ref().unwrap().path().join(part), &mut sources);
        }
    }
    sources
}

fn collect(dir: &Path, into: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            into.insert(path, text);
        }
    }
}

/// The names of the functions of a text, each with whether it is a test.
fn functions(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut lines = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim_start) {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        // `fn` begins the line, or stands behind `pub`, `const`, `async` and the like.
        let Some((_, rest)) = format!(" {line}").split_once(" fn ").map(|_| line.split_once("fn ").unwrap())
        else {
            continue;
        };
        let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        lines.push((name, core::mem::take(&mut is_test)));
    }
    lines.into_iter()
}

/// The text between each pair of backquotes.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// What is wrong with a row.
fn fault(row: &Row, sources: &BTreeMap<PathBuf, String>, tests: &BTreeSet<&str>) -> Option<String> {
    if row.requirement.is_empty() {
        return Some("names no requirement".into());
    }
    let reason = row.answer.split_once(':').map(|(_, reason)| reason.trim());
    match row.answer.split([':', ';', ' ']).next()? {
        "yes" => {}
        "no" | "not" if reason.is_some_and(|reason| !reason.is_empty()) => {
            // What a reason names in the way of a test has to be one.
            let named = quoted(&row.answer);
            let gone = named.iter().find(|name| name.matches('_').count() > 3 && !tests.contains(*name));
            return gone.map(|name| format!("no test {name}"));
        }
        "no" | "not" => return Some("no reason".into()),
        other => return Some(format!("the answer is {other:?}, not yes, no or not applicable")),
    }
    let [file, function] = quoted(&row.place)[..] else {
        return Some("does not say where: a file and a function".into());
    };
    let Some(text) = sources.get(&crates().join(file)) else {
        return Some(format!("no file {file}"));
    };
    if !functions(text).any(|(name, _)| name == function) {
        return Some(format!("no function {function} in {file}"));
    }
    match quoted(&row.test)[..] {
        [test] if tests.contains(test) => None,
        [test] => Some(format!("no test {test}")),
        _ => Some("does not name one test".into()),
    }
}

fn faults(page: &str) -> Vec<String> {
    let sources = sources();
    let tests: BTreeSet<&str> = sources
        .values()
        .flat_map(|text| functions(text))
        .filter(|(_, test)| *test)
        .map(|(name, _)| name)
        .collect();
    let rows = rows(page);
    assert!(rows.len() > 50, "{page}: {} rows", rows.len());
    rows.iter()
        .filter_map(|row| {
            fault(row, &sources, &tests).map(|fault| format!("{} {}: {fault}", row.tag, row.requirement))
        })
        .collect()
}

#[test]
fn every_requirement_is_answered_once() {
    let mut answered: Vec<_> = rows("rfc9293.md").into_iter().map(|row| row.tag).collect();
    let mut expected: Vec<_> =
        KINDS.iter().flat_map(|(kind, max)| (1..=*max).map(move |n| format!("{kind}-{n}"))).collect();
    answered.sort();
    expected.sort();
    assert_eq!(answered, expected);
}

#[test]
fn every_answer_of_the_ledger_holds() {
    let faults = faults("rfc9293.md");
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_answer_about_the_other_rfcs_holds() {
    let faults = faults("rfcs.md");
    assert!(faults.is_empty(), "{faults:#?}");
}

/// A comment that names a requirement names one that there is.
#[test]
fn tags_in_the_sources_are_in_the_ledger() {
    let known: BTreeSet<_> = rows("rfc9293.md").into_iter().map(|row| row.tag).collect();
    let mut found = 0;
    for (path, text) in sources() {
        // This file writes of tags in general.
        if path.ends_with("tests/ledger.rs") {
            continue;
        }
        for (kind, _) in KINDS {
            for (at, _) in text.match_indices(&format!("{kind}-")) {
                let digits = text[at + kind.len() + 1..].chars().take_while(char::is_ascii_digit).count();
                let tag = &text[at..at + kind.len() + 1 + digits];
                let begins = !text[..at].ends_with(|c: char| c.is_alphanumeric());
                if digits > 0 && begins {
                    found += 1;
                    assert!(known.contains(tag), "{}: there is no {tag}", path.display());
                }
            }
        }
    }
    assert!(found > 10, "{found}");
}
