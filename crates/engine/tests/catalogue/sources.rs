//! The tests of the workspace, and the ids that they name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use lastack_engine::Rule;

/// What the crates are called that have tests about the rules.
const CRATES: [&str; 10] =
    ["wire", "engine", "link", "device", "lastack", "sim", "lab", "packetdrill", "run", "cli"];

/// A test.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    /// `engine c_resets::t41_..`
    pub name: String,
    /// It is about both IP versions.
    pub both: bool,
    pub in_engine: bool,
}

/// The tests by the ids that they name.
pub type Index = BTreeMap<String, BTreeSet<Test>>;

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every test, with the ids in its name, its comment and its body.
fn all() -> Vec<(Test, BTreeSet<String>)> {
    let mut all = Vec::new();
    for name in CRATES {
        let mut sources = Vec::new();
        collect(&root().join("crates").join(name), &mut sources);
        for source in sources {
            let text = fs::read_to_string(&source).unwrap();
            all.extend(tests_of(name, &module(&source), &text));
        }
    }
    all
}

/// Every test by its ids.
pub fn tests() -> Index {
    let mut index = Index::new();
    for (test, ids) in all() {
        for id in ids {
            index.entry(id).or_default().insert(test.clone());
        }
    }
    index
}

/// The names of all tests, without their places.
pub fn names() -> BTreeSet<String> {
    let bare = |test: &Test| test.name.rsplit("::").next().unwrap_or_default().to_owned();
    all().iter().map(|(test, _)| bare(test)).collect()
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        // This list is no test of what it lists.
        if path.is_dir() && !path.ends_with("tests/catalogue") {
            collect(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
    into.sort();
}

/// The name of the module of a file: that of its folder if it is one of these.
fn module(source: &Path) -> String {
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    match stem(source).as_str() {
        "mod" | "tests" | "main" => stem(source.parent().unwrap_or(source)),
        name => name.to_owned(),
    }
}

fn tests_of(crate_name: &str, module: &str, text: &str) -> Vec<(Test, BTreeSet<String>)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let attribute = line.trim_start();
        if !attribute.starts_with("#[test]") && !attribute.starts_with("#[tokio::test") {
            continue;
        }
        let comment = lines[..at].iter().rev().take_while(|line| line.trim_start().starts_with("///"));
        let end = format!("{}}}", &line[..line.len() - attribute.len()]);
        let body: Vec<&str> = lines[at..].iter().take_while(|line| **line != end).copied().collect();
        let body = body.join("\n");
        let Some(name) = body.split("fn ").nth(1).and_then(|rest| rest.split('(').next()) else { continue };
        let mut ids = ids_in(&body);
        comment.for_each(|line| ids.append(&mut ids_in(line)));
        ids.append(&mut ids_of_name(name));
        let both =
            ["both(", "with_stack", "with_devices", "v6", "V6", "fd00", "2001:db8", "FAMILIES", "Family"]
                .iter()
                .any(|word| body.contains(word));
        let in_engine = crate_name == "engine";
        found.push((Test { name: format!("{crate_name} {module}::{name}"), both, in_engine }, ids));
    }
    found
}

/// Whether it is an id: `S60`, `T66a`.
pub fn is_id(word: &str) -> bool {
    let mut letters = word.chars();
    let Some('N' | 'S' | 'R' | 'H' | 'U' | 'I' | 'P' | 'E' | 'Q' | 'D' | 'T' | 'X') = letters.next() else {
        return false;
    };
    let digits = letters.as_str().trim_end_matches(['a', 'b', 'c']);
    !digits.is_empty() && digits.len() <= 3 && digits.chars().all(|c| c.is_ascii_digit())
}

/// The ids that are words of a text; `T1 to T5` is five.
pub fn ids_in(text: &str) -> BTreeSet<String> {
    let words: Vec<&str> =
        text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut ids: BTreeSet<String> =
        words.iter().filter(|word| is_id(word)).map(|word| (*word).to_owned()).collect();
    // A variant of `Rule` stands for its code.
    let codes: BTreeMap<String, &str> =
        Rule::ALL.iter().map(|rule| (format!("{rule:?}"), rule.code())).collect();
    ids.extend(words.iter().filter_map(|word| codes.get(*word)).map(|code| (*code).to_owned()));
    for window in words.windows(3) {
        if let [first, "to", last] = window
            && is_id(first)
            && is_id(last)
        {
            ids.extend(range(first, last));
        }
    }
    ids
}

/// The ids with which a test's name begins: `t1_to_t6_a_closed_port`, `s51_s59_what_is_outside`.
fn ids_of_name(name: &str) -> BTreeSet<String> {
    let parts: Vec<String> = name
        .split('_')
        .map(|part| {
            let mut letters = part.chars();
            letters
                .next()
                .map_or(String::new(), |first| format!("{}{}", first.to_ascii_uppercase(), letters.as_str()))
        })
        .take_while(|part| is_id(part) || part == "To")
        .collect();
    ids_in(&parts.join(" ").replace("To", "to"))
}

/// `T1` to `T5`.
pub fn range(first: &str, last: &str) -> Vec<String> {
    let number = |id: &str| id[1..].parse::<u32>();
    match (number(first), number(last)) {
        (Ok(from), Ok(to)) if first[..1] == last[..1] => {
            (from..=to).map(|n| format!("{}{n}", &first[..1])).collect()
        }
        _ => Vec::new(),
    }
}

/// The ids that scenarios of `docs/linux.md` have.
pub fn scenarios() -> BTreeSet<String> {
    let page = fs::read_to_string(root().join("docs/linux.md")).unwrap();
    let mut ids = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        for id in cells.get(2).into_iter().flat_map(|rules| rules.split(' ')).filter(|id| is_id(id)) {
            ids.insert(id.to_owned());
        }
    }
    ids
}
