//! `lastack rules`: the rules of the stack and the causes of ends, by name or code.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Args;
use lastack::Rule;
use lastack_causes::Cause;

use crate::USAGE;

/// Print the rules by which packets are answered and connections end
///
/// Without a name: every rule, a line each. With the name or code of a rule (rst-no-listener, S1): its text, its source,
/// what Linux calls it and the tests that cover it. With the name or code of a cause of `explain`, `watch` and `run`
/// (close-unread, C06): what it means and what to do.
#[derive(Args, Debug)]
pub struct RulesArgs {
    /// Names or codes of rules or causes
    #[arg(value_name = "NAME|CODE")]
    names: Vec<String>,
}

/// The tests of each rule: code, a tab, the names of tests, separated by blanks. Written by the test `catalogue` of
/// lastack-engine.
const TESTS: &str = include_str!("tests.tsv");

/// Prints what is asked for.
pub fn main(args: &RulesArgs) -> ExitCode {
    let page = if args.names.is_empty() {
        Ok(list())
    } else {
        args.names
            .iter()
            .map(|name| entry(name))
            .collect::<Result<Vec<_>, _>>()
            .map(|entries| entries.join("\n"))
    };
    match page {
        Ok(page) => {
            // A reader that has seen enough, such as head(1), is no failure.
            let _closed = io::stdout().write_all(page.as_bytes());
            ExitCode::SUCCESS
        }
        Err(unknown) => {
            anstream::eprintln!("lastack rules: {unknown}");
            USAGE.into()
        }
    }
}

fn list() -> String {
    let mut page = String::new();
    for rule in Rule::ALL {
        writeln!(page, "{:5} {:37} {}", rule.code(), rule.name(), rule.text()).expect("a String takes all");
    }
    page
}

fn entry(name: &str) -> Result<String, String> {
    let code = name.to_ascii_uppercase();
    let rule = Rule::ALL
        .iter()
        .find(|rule| rule.name().eq_ignore_ascii_case(name) || rule.code().eq_ignore_ascii_case(&code));
    let cause = Cause::all()
        .find(|cause| cause.name().eq_ignore_ascii_case(name) || cause.code().eq_ignore_ascii_case(&code));
    match (rule, cause) {
        (Some(rule), _) => Ok(of_rule(*rule)),
        (None, Some(cause)) => Ok(of_cause(cause)),
        (None, None) => Err(format!(
            "unknown rule or cause {name:?}: `lastack rules` lists the rules, docs/explain.md the causes"
        )),
    }
}

fn of_rule(rule: Rule) -> String {
    let mut page = format!("{} ({})\n", rule.name(), rule.code());
    let mut row = |title: &str, text: &str| writeln!(page, "  {title:9} {text}").expect("a String takes all");
    row("rule", rule.text());
    row("source", rule.section());
    if let Some(linux) = rule.linux() {
        row("Linux", &format!("{linux} (tracepoint tcp_send_reset)"));
    }
    if let Some(reason) = rule.rst_reason() {
        row("declares", &format!("{reason} (if resets carry their reason)"));
    }
    for (nth, test) in tests(rule).enumerate() {
        row(if nth == 0 { "tests" } else { "" }, test);
    }
    page
}

fn tests(rule: Rule) -> impl Iterator<Item = &'static str> {
    let line = TESTS.lines().filter_map(|line| line.split_once('\t')).find(|(code, _)| *code == rule.code());
    line.into_iter().flat_map(|(_, tests)| tests.split(", "))
}

fn of_cause(cause: Cause) -> String {
    format!(
        "{} ({})\n  cause     {}\n  severity  {}\n  advice    {}\n",
        cause.name(),
        cause.code(),
        cause.sentence(),
        cause.severity(),
        cause.advice()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_listed_with_its_tests() {
        let page = list();
        for rule in Rule::ALL {
            assert!(page.contains(rule.name()) && page.contains(rule.text()));
            assert!(super::tests(*rule).next().is_some(), "{rule}: no test in tests.tsv");
        }
    }

    #[test]
    fn names_and_codes_find_the_same_entry() {
        assert_eq!(entry("rst-no-listener"), entry("s1"));
        assert!(entry("S1").unwrap().contains("  Linux     NO_SOCKET"));
        assert_eq!(entry("close-unread"), entry("C06"));
        assert!(entry("S999").unwrap_err().contains("unknown rule or cause \"S999\""));
    }
}
