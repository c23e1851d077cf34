//! `--inject help`.

use std::fmt::Write as _;

use super::rule::{KEYS, KINDS};

/// The list of faults, with examples.
pub fn help() -> String {
    let mut text = String::from(
        "--inject KIND[=VALUE][:KEY=VALUE..] injects a fault into the program's connections. It can be repeated.\nThe report and the capture name each fault that acted, and each rule that matched nothing.\n\nKinds:\n",
    );
    let row = |text: &mut String, name: &str, value: &str, says: &str| {
        let head = if value.is_empty() { name.to_owned() } else { format!("{name}={value}") };
        // Writing to a string does not fail.
        let _ = match head.len() {
            0..=32 => writeln!(text, "  {head:<33}{says}"),
            _ => writeln!(text, "  {head}\n  {:<33}{says}", ""),
        };
    };
    for (kind, value, says) in KINDS {
        row(&mut text, kind, value, says);
    }
    text.push_str("\nKeys:\n");
    for (key, value, says) in KEYS {
        row(&mut text, key, value, says);
    }
    text.push_str(
        "\nConnections over --map-localhost and to ports published with -p are not hit: they are relayed between sockets.\n\
         Times are 200ms, 1.5s, 2m; bytes 812, 4k, 1M; shares 0.1 or 10%. With the same --seed the same packets are hit.\n\
         A file for --inject-file holds the same in TOML:\n\
         \n  seed = 7\n  [[fault]]\n  kind = \"rst\"\n  port = 5432\n  when = 3\n  after = \"4k\"\n\
         \nExamples:\n\
         \x20 rst:port=5432:when=3:after=4k      the third connection to port 5432 is reset after 4 KiB\n\
         \x20 unreach=admin:to=*.example.org     a firewall rejects these\n\
         \x20 loss=5%:direction=down             one packet in twenty to the program is lost\n\
         \x20 blackhole:from=10s:until=20s       the network is gone for ten seconds\n\
         \x20 dns=servfail:to=api.example.org    its name server fails\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::super::FaultRule;
    use super::*;

    #[test]
    fn everything_is_explained_and_the_examples_are_rules() {
        let help = help();
        for (kind, ..) in KINDS {
            assert!(help.contains(&format!("\n  {kind}")), "{kind}");
        }
        let examples = help.split_once("Examples:\n").unwrap().1;
        for line in examples.lines() {
            let rule = line.split_whitespace().next().unwrap();
            rule.parse::<FaultRule>().unwrap_or_else(|error| panic!("{error}"));
        }
    }
}
