//! `lastack man`: writes the man pages, one for each command.

use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

use clap::Command;

/// Writes `lastack.1` and a page for each command into `directory`, which is created if it does not exist.
pub fn main(command: Command, directory: &Path) -> ExitCode {
    match write(command, directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            lastack_run::message(format_args!(
                "lastack man: cannot write to {}: {error}",
                directory.display()
            ));
            crate::USAGE.into()
        }
    }
}

fn write(command: Command, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(command, directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_has_a_page() {
        let place = tempfile::tempdir().unwrap();
        let command = crate::Cli::command();
        write(command.clone(), place.path()).unwrap();
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let page = place.path().join(format!("lastack-{}.1", sub.get_name()));
            let page =
                fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
            assert!(page.contains(".SH SYNOPSIS") && page.contains(".SH OPTIONS"), "{page}");
        }
        assert!(fs::read_to_string(place.path().join("lastack.1")).unwrap().contains("lastack\\-run(1)"));
    }
}
