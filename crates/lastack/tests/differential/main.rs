//! The engine against Linux: the same hand-made peer and the same application, in front of both.
//!
//! A scenario ([`scenarios`]) is played against the kernel, over a TUN device in a network namespace and in real time,
//! and against the engine, in virtual time. What each of them sends and returns to its application must be the same,
//! line for line, or the difference is in the list of those that were decided ([`decided`]).
//!
//! What Linux does is recorded in `linux.txt`, so that the comparison needs neither root nor time. Where there is root,
//! the record is tested against the kernel that is there. `docs/linux.md` is the table of all scenarios and the list of
//! differences. Both are written by `UPDATE_DOCS=1 cargo test -p lastack --test differential`.
//!
//! What the calls of an application give is played on the sockets of the library ([`sockets`]), not on the bare engine; the
//! table of it in `docs/errors.md` is written too.

mod counters;
mod decided;
mod engine;
mod errors_page;
mod kill;
mod linux;
mod namespace;
mod notation;
mod numbers;
mod packets;
mod page;
mod play;
mod record;
mod run;
mod scenarios;
mod sockets;

use std::{env, sync::LazyLock};

use decided::Verdict;
use record::Record;

/// What Linux does: recorded, or found out now if the record is to be written.
static RECORD: LazyLock<Record> = LazyLock::new(|| {
    if updating() {
        let played = run::all_on_linux().unwrap_or_else(|why| panic!("cannot ask Linux: {why}"));
        Record::new(&run::kernel_release(), played).write();
    }
    Record::read()
});

fn updating() -> bool {
    env::var_os("UPDATE_DOCS").is_some()
}

#[test]
fn the_engine_behaves_as_linux_or_as_decided() {
    let table = page::compare(&RECORD);
    print!("{}", table.text());
    let wrong: Vec<String> = table
        .rows
        .iter()
        .filter_map(|row| match &row.verdict {
            Verdict::Same | Verdict::Decided(..) => None,
            Verdict::Undecided(difference) => Some(format!("{}: it differs\n{difference}", row.title())),
            Verdict::Stale(decision) => {
                Some(format!("{}: it is the same, but {} says it differs", row.title(), decision.rule))
            }
        })
        .collect();
    assert!(wrong.is_empty(), "{} scenarios:\n\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_decision_is_about_scenarios() {
    let names: Vec<String> = scenarios::all().into_iter().map(|scenario| scenario.name).collect();
    for decision in decided::DECISIONS {
        for name in decision.scenarios {
            assert!(
                names.iter().any(|known| known == name),
                "{}: there is no scenario {name:?}",
                decision.rule
            );
        }
    }
    for (at, name) in names.iter().enumerate() {
        assert!(!names[..at].contains(name), "two scenarios are named {name:?}");
    }
}

#[test]
fn the_page_is_the_table() {
    page::compare(&RECORD).check_page(updating());
}

#[test]
fn the_sockets_return_the_errors_of_the_matrix() {
    errors_page::check(&RECORD, updating());
}

/// On the kernel of the record a difference is a failure; on another kernel it is printed.
#[test]
#[ignore = "needs root and /dev/net/tun"]
fn linux_behaves_as_recorded() {
    let differences = match run::differences_from(&RECORD) {
        Ok(differences) => differences,
        Err(why) => panic!("cannot run here: {why}"),
    };
    let release = run::kernel_release();
    for difference in &differences {
        eprintln!("Linux {release} does not do what was recorded of {}: {difference}", RECORD.release);
    }
    assert!(differences.is_empty() || !RECORD.is_of(&release), "{} scenarios", differences.len());
}
