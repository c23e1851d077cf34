//! The files that a run writes, which must differ.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::bail;

/// Ensures that these options name different files.
pub(super) fn ensure_apart(files: &[(&str, Option<&Path>)]) -> anyhow::Result<()> {
    let named: Vec<_> = files.iter().filter_map(|(option, file)| Some((option, (*file)?))).collect();
    for (place, (option, file)) in named.iter().enumerate() {
        let same = named[..place].iter().find(|(_, earlier)| same_file(earlier, file));
        if let Some((earlier, _)) = same {
            bail!("{earlier} and {option} name the same file, {}: each needs one of its own", file.display());
        }
    }
    Ok(())
}

/// Whether two paths lead to the same regular file, which exists or would be created, in any spelling or by links. A
/// device or a pipe may have several writers.
pub fn same_file(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => one.is_file() && (one.dev(), one.ino()) == (other.dev(), other.ino()),
        (Err(_), Err(_)) => match (place_of(one), place_of(other)) {
            (Some(one), Some(other)) => one == other,
            _ => one == other,
        },
        _ => false,
    }
}

/// The location of a file that does not exist: its directory, with links resolved, and its name there.
fn place_of(path: &Path) -> Option<PathBuf> {
    // A dangling link: the file is created at its target.
    let path = match fs::read_link(path) {
        Ok(target) => path.parent()?.join(target),
        Err(_) => path.to_owned(),
    };
    let directory = match path.parent()? {
        empty if empty.as_os_str().is_empty() => Path::new("."),
        directory => directory,
    };
    Some(directory.canonicalize().ok()?.join(path.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;

    #[test]
    fn two_spellings_of_a_path_are_one_file() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        assert!(same_file(&at("x"), &at("./x")) && !same_file(&at("x"), &at("y")));
        fs::create_dir(at("d")).unwrap();
        std::os::unix::fs::symlink(at("x"), at("link")).unwrap();
        assert!(same_file(&at("x"), &at("d/../x")) && same_file(&at("x"), &at("link")));
        fs::write(at("x"), "").unwrap();
        fs::hard_link(at("x"), at("y")).unwrap();
        assert!(same_file(&at("x"), &at("link")) && same_file(&at("x"), &at("y")));
        assert!(!same_file(&at("x"), &at("z")) && !same_file(Path::new("/dev/null"), Path::new("/dev/null")));
        let error = plan(|options| {
            options.write = Some(at("x"));
            options.output = Some(at("./x"));
        });
        assert!(error.unwrap_err().to_string().contains("name the same file"));
        let error = plan(|options| {
            options.html = Some(at("x"));
            options.output = Some(at("link"));
        });
        assert!(error.unwrap_err().to_string().starts_with("-o and --html name the same file"));
    }
}
