//! What a program sees under `lastack run`, beside what it sees on the kernel: every cell of `docs/transparency.md` is
//! played in a network of three namespaces (the host, a router, a server), and the two columns must be alike but for
//! differences that are explained.
//!
//! `UPDATE_DOCS=1 cargo test -p lastack-cli --test transparency` writes the page. What pasta and slirp4netns do, which
//! takes minutes, is played for rows that are new, and for all with `UPDATE_DOCS=all`; both have to be installed.
//! `ROWS=TEXT` plays only rows that contain TEXT, and with `UPDATE_DOCS` writes only those.

mod datagrams;
mod ends;
mod headers;
mod lab;
mod names;
#[path = "../requirements/mod.rs"]
mod requirements;
mod surroundings;

use std::fmt::Write;

use lab::{Lab, Way};

/// One row of the page.
pub struct Cell {
    /// What the program does.
    pub what: &'static str,
    /// How, in python behind `prelude.py`. It prints one line.
    pub script: &'static str,
    /// Why lastack differs from the kernel, if it does.
    pub difference: Option<&'static str>,
    /// The host's resolv.conf(5).
    pub resolv_conf: &'static str,
    /// Options of `lastack run`.
    pub options: &'static str,
}

impl Cell {
    const fn new(what: &'static str, script: &'static str) -> Self {
        Self { what, script, difference: None, resolv_conf: "nameserver 198.51.100.53\n", options: "" }
    }

    const fn with_names(what: &'static str, resolv_conf: &'static str, script: &'static str) -> Self {
        Self { resolv_conf, ..Self::new(what, script) }
    }

    const fn with_options(self, options: &'static str) -> Self {
        Self { options, ..self }
    }

    /// The row of the page, as far as it was played.
    fn row(&self, seen: &[String]) -> String {
        let note = self.difference.map(|why| format!(" ({why})")).unwrap_or_default();
        format!("| {}{note} | {} |", self.what, seen.join(" | "))
    }

    const fn differs(self, why: &'static str) -> Self {
        Self { difference: Some(why), ..self }
    }
}

/// All rows, by subject.
const SUBJECTS: [(&str, &[Cell]); 7] = [
    ("TCP", ends::CELLS),
    ("UDP", datagrams::UDP),
    ("ICMP", datagrams::ICMP),
    ("IP headers", headers::CELLS),
    ("Names", names::CELLS),
    ("Resources", surroundings::RESOURCES),
    ("Isolation", surroundings::ISOLATION),
];

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/transparency.md");

const HEAD: &str = "\
# Transparency

What a program sees on the kernel, under `lastack run`, under pasta (`--config-net`) and under slirp4netns. Every cell was
played: the program is on a host, two hops from a server; the first hop carries 1500 bytes, the second 1400. This page is
made by a test: `UPDATE_DOCS=1 cargo test -p lastack-cli --test transparency`. Without `UPDATE_DOCS` the test plays the
first two columns, which have to be alike where no difference is explained.
Whole programs are in [clients.md](clients.md).
";

#[test]
#[ignore = "needs root, ip and python3"]
fn the_program_sees_the_same_as_on_the_kernel() {
    lab::require_network();
    let rows = std::env::var("ROWS").ok();
    let update = std::env::var_os("UPDATE_DOCS");
    let lab = Lab::new();
    let ways: Vec<Way> = Way::ALL.into_iter().filter(|way| way.is_asked_for(update.is_some())).collect();
    let known = if rows.is_none() && update.as_ref().is_some_and(|what| what == "all") {
        Page::default()
    } else {
        Page::read()
    };
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    let (mut page, mut wrong) = (HEAD.to_owned(), String::new());
    for (subject, cells) in SUBJECTS {
        let names: Vec<&str> = ways.iter().map(|way| way.name()).collect();
        write!(page, "\n## {subject}\n\n| | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(ways.len()))
            .unwrap();
        for cell in cells {
            if rows.as_ref().is_some_and(|rows| !cell.what.contains(rows)) {
                page.extend(known.row(cell.what).filter(|_| update.is_some()));
                continue;
            }
            let play = |(column, way): (usize, &Way)| {
                let kept = if way.is_a_peer() { known.cell(cell.what, column) } else { None };
                kept.unwrap_or_else(|| lab.play(*way, cell))
            };
            let mut seen: Vec<String> = ways.iter().enumerate().map(play).collect();
            // The programs wait for datagrams, and sleep while things happen: on a busy machine too short.
            let is_new = update.is_none() && !is_written(&written, &cell.row(&seen));
            if is_new || judge(cell, &seen).is_some() {
                eprintln!("{}: played again, the first time gave {seen:?}", cell.what);
                (0..2).for_each(|column| seen[column] = lab.play(ways[column], cell));
            }
            wrong.extend(judge(cell, &seen));
            writeln!(page, "{}", cell.row(&seen)).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    if update.is_some() {
        std::fs::write(PAGE, page).unwrap();
    } else if rows.is_some() {
        println!("{page}");
    } else {
        compare(&written, &page);
    }
}

/// The rows of the page as it is.
#[derive(Default)]
struct Page(Vec<Vec<String>>);

impl Page {
    fn read() -> Self {
        let page = std::fs::read_to_string(PAGE).unwrap_or_default();
        let columns = |line: &str| {
            let line = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')).unwrap_or(line);
            line.split(" | ").map(|cell| cell.trim().to_owned()).collect()
        };
        Self(page.lines().filter(|line| line.starts_with("| ")).map(columns).collect())
    }

    /// The row that begins with `what`; `None`: there is none yet.
    fn columns(&self, what: &str) -> Option<&Vec<String>> {
        let is_of = |row: &&Vec<String>| {
            row[0].strip_prefix(what).is_some_and(|note| note.is_empty() || note.starts_with(" ("))
        };
        self.0.iter().find(is_of)
    }

    /// What stands in a column of this row.
    fn cell(&self, what: &str, column: usize) -> Option<String> {
        self.columns(what)?.get(column + 1).cloned()
    }

    /// The line of this row.
    fn row(&self, what: &str) -> Option<String> {
        Some(format!("| {} |\n", self.columns(what)?.join(" | ")))
    }
}

/// What is wrong with a row. Kernel and lastack are the first two columns.
fn judge(cell: &Cell, seen: &[String]) -> Option<String> {
    match (seen[0] == seen[1], cell.difference) {
        (true, None) | (false, Some(_)) => None,
        (true, Some(_)) => Some(format!("{}: alike, though a difference is explained\n", cell.what)),
        (false, None) => Some(format!("{}:\n  kernel:  {}\n  lastack: {}\n", cell.what, seen[0], seen[1])),
    }
}

/// Whether a row, as far as it was played, stands in the page.
fn is_written(page: &str, row: &str) -> bool {
    page.lines().any(|line| line.starts_with(row))
}

/// Every row as far as it was played stands in the page.
fn compare(page: &str, played: &str) {
    for row in played.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| |")) {
        assert!(
            is_written(page, row),
            "docs/transparency.md lacks this row; write the page again with UPDATE_DOCS=1: {row}"
        );
    }
}
