//! The program `lastack`: `run`, `explain`, `lab`, `probe`, `serve`, `script`, `watch`.

mod compat;
mod explain;
mod fail_on;
mod lab;
mod man;
mod nearest;
mod probe;
mod rules;
mod run;
mod script;
mod serve;
mod watch;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum, error::ErrorKind};

/// A user-space TCP/IP stack that reports how every connection ended, and why.
#[derive(Debug, Parser)]
#[command(name = "lastack", version, propagate_version = true, disable_help_subcommand = true)]
struct Cli {
    /// When to use color in the output
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,

    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::RunArgs>),
    Explain(explain::ExplainArgs),
    Watch(watch::WatchArgs),
    Lab(lab::LabArgs),
    Probe(probe::ProbeArgs),
    Serve(serve::ServeArgs),
    Script(script::ScriptArgs),
    Rules(rules::RulesArgs),
    #[command(name = "slirp4netns")]
    Slirp4netns(compat::SlirpArgs),
    Pasta(Box<compat::PastaArgs>),
    /// Write the man pages into a directory
    Man {
        /// The directory
        directory: std::path::PathBuf,
    },
    /// Print a shell completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The exit status for bad options, except for `run`.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    lastack_run::namespace::intercept();
    lab::intercept();
    if let Some(status) = compat::by_name(std::env::args_os().next().as_deref()) {
        return status;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return complain(&error),
    };
    match cli.color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
    match cli.command {
        Command::Run(args) => run::main(*args),
        Command::Slirp4netns(args) => compat::main(args),
        Command::Pasta(args) => compat::main(*args),
        Command::Explain(args) => explain::main(&args),
        Command::Lab(args) => lab::main(&args),
        Command::Probe(args) => probe::main(&args),
        Command::Serve(args) => serve::main(args),
        Command::Script(args) => script::main(&args),
        Command::Rules(args) => rules::main(&args),
        Command::Watch(args) => watch::main(&args),
        Command::Man { directory } => man::main(Cli::command(), &directory),
        Command::Completions { shell } => print_completions(shell),
    }
}

fn print_completions(shell: clap_complete::Shell) -> ExitCode {
    let (mut script, mut out) = (Vec::new(), io::stdout().lock());
    clap_complete::generate(shell, &mut Cli::command(), "lastack", &mut script);
    match out.write_all(&script).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            lastack_run::message(format_args!("lastack completions: cannot write the script: {error}"));
            USAGE.into()
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Prints help, version or an error in the options.
fn complain(error: &clap::Error) -> ExitCode {
    // A failure to print is ignored.
    let _unread = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ if is_run(std::env::args_os().skip(1)) => lastack_run::EXIT_INTERNAL.into(),
        _ => USAGE.into(),
    }
}

/// Whether these arguments are for `run`, whose exit statuses differ.
fn is_run(mut arguments: impl Iterator<Item = OsString>) -> bool {
    while let Some(argument) = arguments.next() {
        if argument == "--color" {
            arguments.next();
        } else if !argument.as_encoded_bytes().starts_with(b"-") {
            return argument == "run";
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_found_behind_the_options_of_all() {
        let is_run = |line: &str| is_run(line.split_whitespace().map(OsString::from));
        assert!(is_run("run --nonsense") && is_run("--color never run -x") && is_run("--color=never run"));
        assert!(!is_run("probe run") && !is_run("--nonsense") && !is_run(""));
    }

    #[test]
    fn the_programs_options_are_its_own() {
        let cli = Cli::try_parse_from(["lastack", "run", "-v", "curl", "-v", "--json"]).unwrap();
        let Command::Run(args) = cli.command else { panic!("it is run") };
        assert!(args.verbose == 1 && !args.json);
        assert_eq!(args.command, ["curl", "-v", "--json"]);
    }
}
