//! `docs/messages.md`: every text of more than one word that the program and the library can print, in one list to be
//! reviewed. The texts are the string literals of the source, without tests, assertions and panics; the help is that of
//! the program.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates whose texts users see.
const CRATES: [&str; 13] = [
    "cli",
    "run",
    "explain",
    "watch",
    "causes",
    "lab",
    "packetdrill",
    "diagram",
    "lastack",
    "device",
    "link",
    "engine",
    "wire",
];

/// Macros and methods whose texts only a bug shows.
const BUGS: [&str; 11] = [
    "assert",
    "assert_eq",
    "assert_ne",
    "debug_assert",
    "debug_assert_eq",
    "debug_assert_ne",
    "unreachable",
    "expect",
    "expect_err",
    "todo",
    "panic",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The source files of a crate, in order.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() {
            if name != "tests" {
                files.extend(sources(&path));
            }
        } else if name.ends_with(".rs")
            && !["tests.rs", "testing.rs", "check.rs", "loom_tests.rs"].contains(&&*name)
        {
            files.push(path);
        }
    }
    files
}

/// The texts of one file, in order.
#[derive(Default)]
struct Texts(Vec<String>);

impl Texts {
    fn walk(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Punct(hash) if hash.as_char() == '#' => {
                    let inner = usize::from(is_punct(tokens.get(at + 1), '!'));
                    if let Some(TokenTree::Group(attribute)) = tokens.get(at + 1 + inner) {
                        at += 2 + inner;
                        if is_for_tests(attribute) {
                            at = after_item(&tokens, at);
                        } else if is_shown(attribute) {
                            self.walk(attribute.stream());
                        }
                        continue;
                    }
                }
                TokenTree::Ident(name) if BUGS.contains(&name.to_string().as_str()) => {
                    let bang = usize::from(is_punct(tokens.get(at + 1), '!'));
                    if let Some(TokenTree::Group(_)) = tokens.get(at + 1 + bang) {
                        at += 1 + bang;
                    }
                }
                TokenTree::Group(group) => self.walk(group.stream()),
                TokenTree::Literal(literal) => self.add(&literal.to_string()),
                _ => {}
            }
            at += 1;
        }
    }

    fn add(&mut self, literal: &str) {
        let Ok(text) = syn::parse_str::<syn::LitStr>(literal) else { return };
        let text = text.value();
        let words =
            text.split_whitespace().filter(|word| word.chars().filter(|c| c.is_alphabetic()).count() > 1);
        if words.count() > 1 {
            self.0.push(text);
        }
    }
}

fn is_punct(token: Option<&TokenTree>, punct: char) -> bool {
    matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == punct)
}

fn is_for_tests(attribute: &Group) -> bool {
    let text = attribute.stream().to_string();
    text == "test" || text.starts_with("cfg") && text.contains("test") && !text.contains("not")
}

/// Whether an attribute has texts for users: of clap and thiserror. (Doc comments of arguments are in the help.)
fn is_shown(attribute: &Group) -> bool {
    let text = attribute.stream().to_string();
    ["arg", "command", "error", "value", "clap"]
        .iter()
        .any(|name| text.split_once(' ').unwrap_or((&text, "")).0 == *name)
}

/// The index after the item that begins at `at`.
fn after_item(tokens: &[TokenTree], mut at: usize) -> usize {
    while let Some(token) = tokens.get(at) {
        at += 1;
        let ends = match token {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            token => is_punct(Some(token), ';'),
        };
        if ends {
            break;
        }
    }
    at
}

fn help() -> String {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_lastack"))
            .args(arguments)
            .env("COLUMNS", "100")
            .output()
            .expect("the program runs");
        String::from_utf8(output.stdout).unwrap()
    };
    let commands = ["run", "explain", "watch", "probe", "lab", "serve", "script", "rules"];
    let mut page = format!("\n## lastack --help\n\n```text\n{}```\n", run(&["--help"]));
    for command in commands {
        page += &format!("\n## lastack {command} --help\n\n```text\n{}```\n", run(&[command, "--help"]));
    }
    page
}

fn page() -> String {
    let mut page = "# Every message\n\n\
        Every text of more than one word that the program and the library can print: first those in the code, by file, then\n\
        the help. `{}` stands for a value. A test keeps this page true (`crates/cli/tests/messages.rs`); read what changes:\n\
        a message states what happened, why, and what to do, in the words of RFCs and man pages.\n"
        .to_owned();
    for name in CRATES {
        let source = root().join("crates").join(name).join("src");
        for path in sources(&source) {
            let code = fs::read_to_string(&path).unwrap();
            let mut texts = Texts::default();
            texts.walk(code.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display())));
            let mut seen = HashSet::new();
            texts.0.retain(|text| seen.insert(text.clone()));
            if texts.0.is_empty() {
                continue;
            }
            page += &format!("\n## {name}/{}\n\n```text\n", path.strip_prefix(&source).unwrap().display());
            for text in &texts.0 {
                page += &text.trim_end_matches('\n').replace('\n', "\n  ");
                page.push('\n');
            }
            page += "```\n";
        }
    }
    let page = page + &help();
    page.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[test]
fn every_message_is_in_the_list() {
    let path = root().join("docs/messages.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let lines: HashSet<_> = written.lines().collect();
    let new: Vec<_> = page.lines().filter(|line| !lines.contains(line)).take(20).collect();
    assert!(
        written == page,
        "docs/messages.md is not up to date: read it after `UPDATE_DOCS=1 cargo test -p lastack-cli --test messages`; \
         new: {new:#?}"
    );
}

/// Words that mean something else, or nothing, to those who know TCP; each has a usual one.
const AVOID: [(&str, &str); 9] = [
    ("octet", "byte"),
    ("octets", "bytes"),
    ("nobody", "no socket, no host"),
    ("in vain", "without success"),
    ("told", "reported"),
    ("heed", "apply"),
    ("owed", "pending"),
    ("in silence", "silently"),
    ("without a word", "silently"),
];

#[test]
fn the_words_are_the_usual_ones() {
    let mut wrong = Vec::new();
    for line in page().lines() {
        let words: Vec<_> = without_values(&line.to_lowercase())
            .split(|c: char| !c.is_alphabetic() && c != '_')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect();
        let plain = format!(" {} ", words.join(" "));
        let found = AVOID.iter().filter(|(word, _)| plain.contains(&format!(" {word} ")));
        wrong.extend(found.map(|(word, usual)| format!("{line:?} has {word:?}: write {usual:?}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The line without `{..}`, whose content is a name of the code.
fn without_values(line: &str) -> String {
    let mut depth = 0;
    line.chars()
        .filter(|&c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0
        })
        .collect()
}
