//! `docs/resets.md` lists exactly the rules that the engine knows.

use lastack_engine::Rule;
use std::fmt::Write;
use std::path::Path;

const HEAD: &str = "\
# The rules

Every answer, drop and end has a rule. Its id stands in reports (`rule`), in the comments of captures, in
`lastack lab` and in the names of tests. This page is written by
`UPDATE_DOCS=1 cargo test -p lastack-engine catalogue`.

Ids by their first letter: **N** never answered, **S** a reset or ACK is sent, **R** a reset is received, \
**U** UDP, **I** ICMP, **E** orderly release, **Q** TIME-WAIT, **D** limits against attacks, **X** decided by \
the program that uses the stack.

| id | rule | source |
|---|---|---|
";

fn page() -> String {
    let mut page = String::from(HEAD);
    for rule in Rule::ALL {
        writeln!(page, "| {} | {} | {} |", rule.id(), rule.text(), rule.section()).unwrap();
    }
    page
}

#[test]
fn the_catalogue_is_the_page() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/resets.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/resets.md is not up to date: UPDATE_DOCS=1 cargo test -p lastack-engine catalogue"
    );
}
