//! `docs/resets.md` lists exactly the rules that the engine knows, and each of them has a test.

use lastack_engine::Rule;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

const HEAD: &str = "\
# The rules

Every answer, drop and end has a rule. Its id stands in reports (`rule`), in the comments of captures, in
`lastack lab` and in tests. This page is written by `UPDATE_DOCS=1 cargo test -p lastack-engine --test catalogue`,
and a test fails where a rule has no test; `grep -rw S60 crates/engine/src` finds the tests of S60.

Ids by their first letter: **N** never answered, **S** a reset or ACK is sent, **R** a reset is received, \
**U** UDP, **I** ICMP, **P** path MTU, **E** orderly release, **Q** TIME-WAIT, **D** limits against attacks, \
**X** decided by the program that uses the stack. *Declares*: what the reset says of its reason if \
`TcpConfig::declare_reasons` is on (draft-ietf-tcpm-rst-diagnostic-payload). *Linux*: the name in its tracepoint \
`tcp_send_reset`.

| id | rule | source | declares | Linux |
|---|---|---|---|---|
";

const TAIL: &str = "
## Not built, and why

| what others do | why not here |
|---|---|
| reset on a mismatch of security compartments (RFC 9293 A.1) | no compartments: the option is passed over |
| TCP-MD5, TCP-AO | no keys: what is signed is dropped (N7) |
| TCP Fast Open | not offered; text on a SYN is sent again by the peer |
| resets of MPTCP subflows (RFC 8684) | no MPTCP |
| reset on close when memory is short | buffers are bounded for each connection instead |
| reset of a connection whose urgent octet was read | urgent octets are ordinary text |
| a reset in TIME-WAIT ends it (RFC 793) | ignored (R17) |
| a connection accepts a simultaneous open's ACK of nothing (Linux) | answered with RST (S40) |
";

/// The names of the tests whose text names each id.
fn tests() -> BTreeMap<&'static str, Vec<String>> {
    let mut named: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut sources = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    sources.sort();
    for source in sources {
        let text = fs::read_to_string(source).unwrap();
        let parts: Vec<&str> = text.split("#[test]").collect();
        for pair in parts.windows(2) {
            // What stands before the attribute, back to the blank line, is the test's doc comment; what
            // stands behind the last blank line of its part is the next one's.
            let doc = pair[0].rsplit("\n\n").next().unwrap_or_default();
            let body = pair[1].rsplit_once("\n\n").map_or(pair[1], |(body, _)| body);
            let Some(name) = body.split("fn ").nth(1).and_then(|rest| rest.split('(').next()) else {
                continue;
            };
            for rule in Rule::ALL.iter().filter(|rule| names(doc, rule.id()) || names(body, rule.id())) {
                named.entry(rule.id()).or_default().push(name.to_owned());
            }
        }
    }
    named
}

fn collect(dir: &Path, into: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("src/rule.rs") {
            into.push(path);
        }
    }
}

/// Whether `text` has `id` as a word: `S1` is not in `S10`, and `s1_` of a test's name counts.
fn names(text: &str, id: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric();
    let found = |text: &str, id: &str| {
        text.match_indices(id)
            .any(|(at, _)| !text[..at].ends_with(word) && !text[at + id.len()..].starts_with(word))
    };
    found(text, id) || found(text, &id.to_lowercase())
}

fn page() -> String {
    let mut page = String::from(HEAD);
    for rule in Rule::ALL {
        let declares = rule.declared().map_or(String::new(), |reason| reason.to_string());
        writeln!(
            page,
            "| {} | {} | {} | {declares} | {} |",
            rule.id(),
            rule.text(),
            rule.section(),
            rule.linux().unwrap_or_default()
        )
        .unwrap();
    }
    page + TAIL
}

#[test]
fn the_catalogue_is_the_page() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/resets.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, page()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/resets.md is not up to date: UPDATE_DOCS=1 cargo test -p lastack-engine --test catalogue"
    );
}

#[test]
fn every_rule_has_a_test() {
    let tests = tests();
    let bare: Vec<_> = Rule::ALL.iter().filter(|rule| !tests.contains_key(rule.id())).collect();
    assert!(bare.is_empty(), "no test names these rules: {bare:?}");
}
