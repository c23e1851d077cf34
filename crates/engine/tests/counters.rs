//! `docs/counters.md` lists the counters of the engine with Linux's names, and each is driven by a test.

use lastack_engine::{Counters, NSTAT};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const HEAD: &str = "\
# The counters

`Host::counters()` gives what happened how often since the host was made. This page is written by \
`UPDATE_DOCS=1 cargo test -p lastack-engine --test counters`. The counters of TCP that Linux has too are compared with it, \
exchange by exchange, by `cargo test -p lastack --test differential` (the scenarios named *counters*; \
[linux.md](linux.md) has them and what differs).

Three more are kept for each rule of [resets.md](resets.md): `arrivals`, what arrived and was answered, dropped, or ended a \
connection by it; `sent`, the packets that it had sent; `ends`, the connections and attempts that it ended. So each reason \
to drop, each challenge ACK and each kind of reset has a number.

| counter | counts | Linux (`nstat`) |
|---|---|---|
";

const BY_RULE: &str = "
Those that rules say:

| Linux (`nstat`) | counter | of the rules |
|---|---|---|
";

/// The names of Linux that a counter alone says.
fn names() -> BTreeMap<&'static str, &'static str> {
    NSTAT
        .iter()
        .filter(|counter| !counter.ours.contains(' '))
        .map(|counter| (counter.ours, counter.name))
        .collect()
}

fn page() -> String {
    let names = names();
    let mut page = String::from(HEAD);
    for (name, text) in Counters::TEXTS {
        // The name of Linux has a column of its own.
        let text = text.trim().split(" (").next().unwrap_or_default().trim_end_matches('.');
        let linux = names.get(name).map(|linux| format!("`{linux}`")).unwrap_or_default();
        writeln!(page, "| `{name}` | {text} | {linux} |").unwrap();
    }
    page.push_str(BY_RULE);
    for counter in NSTAT {
        if let Some((field, rules)) = counter.ours.split_once(' ') {
            writeln!(page, "| `{}` | `{field}` | {rules} |", counter.name).unwrap();
        }
    }
    page
}

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates/").to_owned()
}

/// The text of all tests, and of the record of the exchanges with Linux.
fn tests() -> String {
    let mut text = fs::read_to_string(crates().join("lastack/tests/differential/linux.txt")).unwrap();
    let mut open = vec![crates()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path).unwrap();
                let tests = if path.iter().any(|part| part == "tests" || part == "tests.rs") {
                    0
                } else {
                    source.find("#[cfg(test)]").unwrap_or(source.len())
                };
                text.push_str(&source[tests..]);
            }
        }
    }
    text
}

#[test]
fn the_page_lists_the_counters() {
    let path = crates().join("../docs/counters.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, page()).unwrap();
    }
    assert!(
        fs::read_to_string(&path).is_ok_and(|written| written == page()),
        "docs/counters.md is not up to date: UPDATE_DOCS=1 cargo test -p lastack-engine --test counters"
    );
}

/// Each is named in a test, or is seen in an exchange that was recorded of Linux under its name there.
#[test]
fn every_counter_is_driven_by_a_test() {
    let (tests, names) = (tests(), names());
    let driven = |name: &str| {
        let seen = names.get(name).is_some_and(|linux| tests.contains(&format!("{linux}=")));
        seen || tests.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name)
    };
    let idle: Vec<&str> =
        Counters::TEXTS.iter().map(|(name, _)| *name).filter(|name| !driven(name)).collect();
    assert!(idle.is_empty(), "{idle:?}");
}

/// What the table says of a name is what the number is made of.
#[test]
fn every_name_of_linux_is_one_of_ours() {
    let fields: Vec<&str> = Counters::TEXTS.iter().map(|(name, _)| *name).collect();
    for counter in NSTAT {
        let (field, rules) = counter.ours.split_once(' ').unwrap_or((counter.ours, ""));
        let by_rule = ["arrivals", "sent", "ends"].contains(&field);
        assert_eq!((by_rule, !by_rule), (!rules.is_empty(), fields.contains(&field)), "{}", counter.name);
        assert_eq!((counter.value)(&Counters::default()), 0);
    }
}
