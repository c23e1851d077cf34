//! The inputs that were worth keeping, each tried again.
//!
//! `LASTACK_FUZZ=TARGET:FILE cargo test -p lastack-fuzz --test corpus` tries one file, which is how a
//! crash that `.ci/fuzz` found is played again.

use lastack_fuzz::{TARGETS, Target, target};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::{env, fs};

fn corpus(target: &Target) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a directory entry").path()).collect();
    files.sort();
    files
}

/// Tries one file, and says how to try it again if it fails.
fn play(target: &Target, path: &Path) {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if let Err(failure) = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes))) {
        let (name, path) = (target.name, path.display());
        eprintln!(
            "\n{name} fails; again: LASTACK_FUZZ={name}:{path} cargo test -p lastack-fuzz --test corpus"
        );
        panic::resume_unwind(failure);
    }
}

/// The one input that is asked for.
fn asked() -> Option<(&'static Target, PathBuf)> {
    let text = env::var("LASTACK_FUZZ").ok()?;
    let (name, path) =
        text.split_once(':').unwrap_or_else(|| panic!("LASTACK_FUZZ={text} is no TARGET:FILE"));
    Some((target(name).unwrap_or_else(|| panic!("{name} is no target")), PathBuf::from(path)))
}

#[test]
fn every_input_that_was_kept() {
    if let Some((target, path)) = asked() {
        return play(target, &path);
    }
    for target in TARGETS {
        let files = corpus(target);
        assert!(!files.is_empty(), "{} has no corpus", target.name);
        for path in files {
            play(target, &path);
        }
    }
}

/// So that a run which begins with them begins quickly.
#[test]
fn the_inputs_are_small() {
    for target in TARGETS {
        for path in corpus(target) {
            let len = fs::metadata(&path).expect("a file of the corpus").len() as usize;
            assert!(len <= target.longest, "{} has {len} bytes", path.display());
        }
    }
}
