//! `docs/explain.md` has the vocabulary as it is. `UPDATE_DOCS=1 cargo test -p lastack-explain --test docs` writes it.

use lastack_causes::Cause;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const BEGIN: &str = "<!-- vocabulary: begin -->\n";
const END: &str = "<!-- vocabulary: end -->";

fn table() -> String {
    let mut out =
        String::from("| code | cause | usually | what happened | what to do |\n|---|---|---|---|---|\n");
    for cause in Cause::all() {
        let _ = writeln!(
            out,
            "| {} | `{}` | {} | {} | {} |",
            cause.code(),
            cause.name(),
            cause.severity(),
            cause.sentence().replace('|', "\\|"),
            cause.advice().replace('|', "\\|")
        );
    }
    out
}

#[test]
fn the_page_has_the_vocabulary() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/explain.md");
    let page = fs::read_to_string(&path).unwrap();
    let (head, rest) = page.split_once(BEGIN).expect("the mark before the vocabulary");
    let (written, tail) = rest.split_once(END).expect("the mark behind the vocabulary");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{head}{BEGIN}{}{END}{tail}", table())).unwrap();
    } else {
        assert_eq!(
            written,
            table(),
            "UPDATE_DOCS=1 cargo test -p lastack-explain --test docs writes it anew"
        );
    }
}
