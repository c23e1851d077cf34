//! The table of `docs/errors.md`: what each call gives, in which order and how often.

use std::{fmt::Write, fs, path::PathBuf};

use crate::{
    decided::Verdict,
    notation::Action,
    play::Transcript,
    record::Record,
    run,
    scenarios::{self, Family, Scenario},
};

const BEGIN: &str =
    "<!-- The table is written by `UPDATE_DOCS=1 cargo test -p lastack --test differential`, as root. -->\n";
const END: &str = "<!-- The end of the table. -->\n";

/// The calls of scenarios as Rust names them.
const CALLS: [(&str, &str); 21] = [
    ("recv-whole", "take(10).read_to_end"),
    ("recv", "read"),
    ("peek", "peek"),
    ("send 0", "write(&[])"),
    ("send", "write"),
    ("error", "take_error"),
    ("ready", "ready"),
    ("shutdown-read", "shutdown_read"),
    ("shutdown-both", "shutdown_read, shutdown"),
    ("shutdown", "shutdown"),
    ("connect-result", "connect"),
    ("connect", ""),
    ("accept", "accept"),
    ("abort", "abort"),
    ("close", "drop"),
    ("begin-recv", "read, waiting"),
    ("begin-close", "close, waiting"),
    ("awaited", "that"),
    ("kill", ""),
    ("peer-name", "peer_addr"),
    ("local-name", "local_addr"),
];

/// The equivalent of an errno in `std::io::ErrorKind`.
const KINDS: [(&str, &str); 13] = [
    ("EAGAIN", "WouldBlock"),
    ("ECONNREFUSED", "ConnectionRefused"),
    ("ECONNRESET", "ConnectionReset"),
    ("ECONNABORTED", "ConnectionAborted"),
    ("ETIMEDOUT", "TimedOut"),
    ("EHOSTUNREACH", "HostUnreachable"),
    ("ENETUNREACH", "NetworkUnreachable"),
    ("ENOPROTOOPT", "Other (ENOPROTOOPT)"),
    ("EACCES", "PermissionDenied"),
    ("EPROTO", "Other (EPROTO)"),
    ("EPIPE", "BrokenPipe"),
    ("ENOTCONN", "NotConnected"),
    ("EINVAL", "InvalidInput"),
];

fn rust_name(call: &str) -> &str {
    let known = CALLS.iter().find(|(name, _)| call == *name || call.starts_with(&format!("{name} ")));
    known.map_or(call, |(_, name)| name)
}

fn kind(outcome: &str) -> String {
    KINDS.iter().fold(outcome.to_owned(), |text, (errno, kind)| text.replace(errno, kind))
}

/// The calls behind the lead, with what they give and what arrives between them.
fn calls(scenario: &Scenario, transcript: &Transcript) -> String {
    let mut shown = Vec::new();
    for (step, line) in scenario.steps.iter().zip(transcript) {
        let seen = line.split_once(" => ").map_or("", |(_, seen)| seen);
        let gives = seen.split(" | ").next().unwrap_or_default();
        match &step.action {
            Action::Call(_) => {
                let name = rust_name(&step.text);
                let silent = gives == "ok" && step.time.is_zero();
                let settles = ["keepalive", "linger", "user-timeout", "listen"];
                let prepares = silent && settles.iter().any(|word| step.text.starts_with(word));
                if !(name.is_empty() || prepares) {
                    let gives =
                        if name == "take_error" && gives == "0" { "None".to_owned() } else { kind(gives) };
                    shown.push(format!("{name}: {gives}"));
                }
            }
            Action::Segment(_) | Action::Icmp(_) if !shown.is_empty() => {
                shown.push(format!("`{}`", step.text))
            }
            Action::Wait if !shown.is_empty() => shown.push(format!("{} ms", &step.text["wait ".len()..])),
            _ => {}
        }
    }
    shown.join("; ")
}

fn row(text: &mut String, record: &Record, scenario: &Scenario) {
    let family = scenario.families[0];
    let (ours, end) = run::on_sockets(scenario, family);
    let linux = record.of(&scenario.name, family).map_or(&[][..], Vec::as_slice);
    let there = match Verdict::of(&scenario.name, linux, &ours) {
        Verdict::Same => "same".to_owned(),
        _ => calls(scenario, &linux.to_vec()),
    };
    let end = end.unwrap_or_default();
    writeln!(text, "| {} | {} | {end} | {there} |", scenario.name, calls(scenario, &ours)).unwrap();
}

fn table(record: &Record) -> String {
    let mut text = format!(
        "{BEGIN}\n| event | the calls after it, and their results | `end()` | Linux {} |\n|---|---|---|---|\n",
        record.release
    );
    for scenario in &scenarios::errno::scenarios() {
        row(&mut text, record, scenario);
    }
    text + "\n" + END
}

/// What the table shows of one IP version holds for the other.
fn check_families() {
    for scenario in &scenarios::errno::scenarios() {
        let [one, other] = Family::ALL.map(|family| {
            let (transcript, end) = run::on_sockets(scenario, family);
            (calls(scenario, &transcript), end)
        });
        assert!(scenario.families.len() == 1 || one == other, "{}", scenario.name);
    }
}

/// The page must hold this table.
pub fn check(record: &Record, update: bool) {
    check_families();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors.md");
    let page = fs::read_to_string(&path).expect("docs/errors.md is there");
    let (head, rest) = page.split_once(BEGIN).expect("docs/errors.md has the line before its table");
    let (_, tail) = rest.split_once(END).expect("docs/errors.md has the line after its table");
    let wanted = format!("{head}{}{tail}", table(record));
    if update {
        fs::write(&path, &wanted).unwrap();
    } else {
        assert!(
            page == wanted,
            "docs/errors.md is not up to date: UPDATE_DOCS=1 cargo test -p lastack --test differential"
        );
    }
}
