//! The README's commands that install the man pages and the completions by hand.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

const LASTACK: &str = env!("CARGO_BIN_EXE_lastack");

#[test]
fn the_commands_of_the_readme_install_man_pages_and_completions() {
    let readme = include_str!("../../../README.md");
    let commands: Vec<_> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("$ "))
        .filter(|line| {
            ["lastack man ", "mkdir ", "lastack completions "].iter().any(|it| line.starts_with(it))
        })
        .collect();
    let home = tempfile::tempdir().unwrap();
    let program = Path::new(LASTACK).parent().unwrap().display();
    let output = Command::new("sh")
        .args(["-ec", &commands.join("\n")])
        .env("HOME", home.path())
        .env("PATH", format!("{program}:/usr/bin:/bin"))
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    for (file, part) in [
        (".local/share/man/man1/lastack.1", ".TH lastack 1"),
        (".local/share/man/man1/lastack-run.1", "\\-\\-inject"),
        (".local/share/bash-completion/completions/lastack", "complete -F _lastack"),
        (".local/share/zsh/site-functions/_lastack", "#compdef lastack"),
        (".config/fish/completions/lastack.fish", "complete -c lastack"),
    ] {
        let content =
            fs::read_to_string(home.path().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(content.contains(part), "{file} lacks {part}");
    }
}

#[test]
fn completions_that_cannot_be_written_are_an_error_that_names_the_cause() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(LASTACK).args(["completions", "bash"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.starts_with("lastack completions: cannot write the script: No space left"), "{errors}");
    // A reader that has seen enough is no error.
    let mut child = Command::new(LASTACK)
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
