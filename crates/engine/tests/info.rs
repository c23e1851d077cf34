//! `docs/info.md` says for every field of Linux's `struct tcp_info` what we have for it, and what more there is.

use lastack_engine::{Instant, TCP_INFO, TcpInfo};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

const HEAD: &str = "\
# The numbers of a connection

`TcpStream::info()` gives a `TcpInfo`: what `getsockopt(TCP_INFO)` gives of a socket of Linux, as far as it has a meaning \
here. This page is written by `UPDATE_DOCS=1 cargo test -p lastack-engine --test info`. The fields that a fixed exchange \
fixes are compared with Linux, exchange by exchange, by `cargo test -p lastack --test differential` (the scenarios named \
*info*; [linux.md](linux.md) has them), and scripts of packetdrill read all of them under Linux's names.

Linux counts in segments what is here in bytes, where there are both.

After the end of a connection the numbers are those that it ended with, for as long as its user holds the stream, as on Linux: \
the state is `Closed` at once (or `TimeWait`), nothing is in flight any more, `unacked` and `unsent` are what was lost and \
`unread` is what can still be read. An attempt that failed has none.

| Linux | `TcpInfo` | what differs, or why there is none |
|---|---|---|
";

/// What Linux's struct does not have.
const MORE: &[(&str, &str)] = &[
    ("unread", "bytes received in order and not yet read (`SIOCINQ`)"),
    ("out_of_order", "bytes received out of order"),
];

/// The names of the fields of `TcpInfo`.
fn fields() -> BTreeSet<String> {
    let shown = format!("{:#?}", TcpInfo::default());
    let lines = shown.lines().filter_map(|line| line.strip_prefix("    ")?.split_once(':'));
    lines.map(|(name, _)| name.to_owned()).collect()
}

fn page() -> String {
    let mut page = String::from(HEAD);
    let code = |names: &str| names.split(", ").map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    for field in TCP_INFO {
        let ours = if field.ours.is_empty() { "none".to_owned() } else { code(field.ours) };
        writeln!(page, "| `{}` | {ours} | {} |", field.linux, field.note).unwrap();
    }
    page.push_str("\nBeyond these:\n\n| `TcpInfo` | |\n|---|---|\n");
    for (name, meaning) in MORE {
        writeln!(page, "| `{name}` | {meaning} |").unwrap();
    }
    page
}

#[test]
fn the_page_has_every_field() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/info.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, page()).unwrap();
    }
    assert!(
        fs::read_to_string(&path).is_ok_and(|written| written == page()),
        "docs/info.md is not up to date: UPDATE_DOCS=1 cargo test -p lastack-engine --test info"
    );
}

/// Nothing of ours is left out, nothing is named that is not there, and what is absent has a reason.
#[test]
fn every_field_of_ours_has_its_place() {
    let mut named = BTreeSet::new();
    for field in TCP_INFO {
        assert_eq!(field.ours.is_empty(), field.value.is_none(), "{}", field.linux);
        assert!(field.value.is_some() || !field.note.is_empty(), "{}: no reason", field.linux);
        named.extend(field.ours.split(", ").filter(|name| !name.is_empty()).map(str::to_owned));
    }
    named.extend(MORE.iter().map(|(name, _)| (*name).to_owned()));
    assert_eq!(named, fields());
}

/// The header of the machine's kernel knows no field that is not in the table.
#[test]
#[ignore = "needs the headers of Linux"]
fn every_field_of_the_kernel_has_its_place() {
    let Ok(header) = fs::read_to_string("/usr/include/linux/tcp.h") else {
        panic!("cannot run here: needs /usr/include/linux/tcp.h");
    };
    let (_, rest) = header.split_once("struct tcp_info {").expect("the struct is in the header");
    let (body, _) = rest.split_once("};").expect("it ends");
    let words = body.split(|c: char| !c.is_alphanumeric() && c != '_');
    let names: Vec<&str> = words.filter(|word| word.starts_with("tcpi_")).collect();
    assert!(names.len() > 50, "{names:?}");
    for name in names {
        assert!(TCP_INFO.iter().any(|field| field.linux == name), "{name} is missing");
    }
}

/// A connection that never was says nothing.
#[test]
fn the_numbers_of_nothing_are_zero() {
    let info = TcpInfo::default();
    for field in TCP_INFO.iter().filter(|field| !["tcpi_state", "tcpi_last_ack_recv"].contains(&field.linux))
    {
        let value = field.value.map_or(0, |value| value(&info, Instant::ZERO));
        assert_eq!(value, 0, "{}", field.linux);
    }
}
