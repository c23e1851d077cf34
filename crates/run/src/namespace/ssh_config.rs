//! The system's ssh configuration files, for a guest in whose user namespace root does not exist: ssh refuses to
//! include a file that belongs neither to root nor to its user ("Bad owner or permissions"). The guest sees its own
//! copies.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{Failure, resolv};

/// The top-level configuration file.
const CONFIG: &str = "/etc/ssh/ssh_config";
/// Relative paths are relative to this directory.
const DIRECTORY: &str = "/etc/ssh";
/// ssh's own limit of nested includes.
const DEPTH: usize = 16;

/// Provides copies of all files that ssh's configuration includes and whose owner does not exist here. Mounts have to
/// be private already.
pub(super) fn show_copies() -> Vec<Failure> {
    let mut included = BTreeSet::new();
    collect(Path::new(CONFIG), DEPTH, &mut included);
    // The user id shown for owners without a mapping.
    let overflow = fs::read_to_string("/proc/sys/kernel/overflowuid").unwrap_or_default();
    let overflow: u32 = overflow.trim().parse().unwrap_or(65_534);
    let foreign = included
        .into_iter()
        .filter(|path| fs::metadata(path).is_ok_and(|found| found.is_file() && found.uid() == overflow));
    let covered = foreign.filter_map(|path| {
        let text = fs::read_to_string(&path).ok()?;
        resolv::cover(&path, &text).err()
    });
    covered.collect()
}

/// Collects the files that this one includes, recursively.
fn collect(config: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) {
    let Ok(text) = fs::read_to_string(config) else { return };
    if depth == 0 {
        return;
    }
    for pattern in includes(&text) {
        for file in matching(Path::new(DIRECTORY).join(pattern).as_path()) {
            let Ok(file) = file.canonicalize() else { continue };
            if found.insert(file.clone()) {
                collect(&file, depth - 1, found);
            }
        }
    }
}

/// The arguments of `Include` lines (ssh_config(5)).
fn includes(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(|line| line.trim().split_once([' ', '\t', '=']));
    let lines = lines.flatten().filter(|(keyword, _)| keyword.eq_ignore_ascii_case("include"));
    lines
        .flat_map(|(_, arguments)| arguments.split_whitespace())
        .map(|argument| argument.trim_matches(['"', '=']))
}

/// The files that match a path whose last part may contain `*` and `?`, sorted.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) =
        (pattern.parent(), pattern.file_name().and_then(|name| name.to_str()))
    else {
        return Vec::new();
    };
    if !name.contains(['*', '?']) {
        return vec![pattern.to_owned()];
    }
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<_> = names
        .filter(|found| {
            (!found.starts_with('.') || name.starts_with('.')) && fits(name.as_bytes(), found.as_bytes())
        })
        .map(|found| directory.join(found))
        .collect();
    found.sort();
    found
}

fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            fits(rest, name) || name.split_first().is_some_and(|(_, shorter)| fits(pattern, shorter))
        }
        (Some((b'?', rest)), Some((_, shorter))) => fits(rest, shorter),
        (Some((letter, rest)), Some((found, shorter))) => letter == found && fits(rest, shorter),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn includes_are_found_whatever_their_case_and_form() {
        let text = "# Include no\nInclude /etc/ssh/ssh_config.d/*.conf\n  include \"a\" b\nHost x\n\tINCLUDE=c\nPort 1\n";
        assert_eq!(includes(text).collect::<Vec<_>>(), ["/etc/ssh/ssh_config.d/*.conf", "a", "b", "c"]);
    }

    #[test]
    fn patterns_match_the_last_part_of_a_path() {
        let place = tempfile::tempdir().unwrap();
        for name in ["10-a.conf", "20-b.conf", "README", ".hidden.conf"] {
            fs::write(place.path().join(name), "").unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            let found = matching(&place.path().join(pattern)).into_iter();
            found.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("*.conf"), ["10-a.conf", "20-b.conf"]);
        assert_eq!(names("?0-*"), ["10-a.conf", "20-b.conf"]);
        assert_eq!(names("README"), ["README"]);
        assert!(names("x*").is_empty());
    }
}
