//! `--inject help`.

use std::fmt::Write as _;

use super::kinds::{KEYS, KINDS};

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
    for kind in KINDS {
        row(&mut text, kind.name, kind.value, kind.effect);
        let keys: Vec<&str> =
            kind.own_keys().iter().copied().filter(|key| !["port", "proto"].contains(key)).collect();
        if !keys.is_empty() {
            let _ = writeln!(text, "  {:<33}keys: {}", "", keys.join(", "));
        }
    }
    text.push_str(
        "\nKeys: all kinds accept to, when, probability, from and until, all but dns port and proto.\n",
    );
    for (key, value, says) in KEYS {
        row(&mut text, key, value, says);
    }
    text.push_str(
        "\nConnections over --map-localhost, and of -p to the program's loopback, are relayed between sockets: refuse and rst reset\n\
         them after the kernel's handshake, half-open, blackhole, delay, rate, zero-window, slow-close and cut-fin act on their\n\
         data, and other kinds cannot act. Of connections of -p, to selects the client, and port is the program's.\n\
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

    /// A rule of each kind without keys, and what else a key of it needs.
    const RULES: [(&str, &str); 16] = [
        ("refuse", ""),
        ("unreach=net", ""),
        ("rst", ":after=1"),
        ("half-open", ":after=1"),
        ("blackhole", ""),
        ("delay=1s", ""),
        ("loss=1%", ""),
        ("reorder=1%", ""),
        ("duplicate=1%", ""),
        ("corrupt=1%", ""),
        ("rate=1k", ""),
        ("zero-window", ""),
        ("mtu-hole=1400", ""),
        ("slow-close=1s", ""),
        ("cut-fin", ""),
        ("dns=timeout", ""),
    ];

    /// Each key with a value that applies to all kinds that accept the key.
    const VALUES: [(&str, &str); 12] = [
        ("to", "a.example"),
        ("port", "80,8000-8080"),
        ("proto", "tcp"),
        ("when", "2..10+2"),
        ("probability", "50%"),
        ("from", "1s"),
        ("until", "2s"),
        ("direction", "up"),
        ("after", "4k"),
        ("state", "established"),
        ("seq", "exact"),
        ("jitter", "5ms"),
    ];

    #[test]
    fn each_kind_accepts_the_keys_that_the_help_lists_and_no_other() {
        let help = help();
        assert!(KEYS.iter().all(|(key, ..)| *key == "value" || VALUES.iter().any(|(known, _)| known == key)));
        for (kind, (rule, needed)) in KINDS.into_iter().zip(RULES) {
            assert_eq!(rule.split('=').next(), Some(kind.name));
            rule.parse::<FaultRule>().unwrap();
            for (key, value) in VALUES {
                let extra = if key == "direction" { needed } else { "" };
                let text = format!("{rule}:{key}={value}{extra}");
                let parsed = text.parse::<FaultRule>();
                assert_eq!(parsed.is_ok(), kind.accepts(key), "{text}: {parsed:?}");
                if let Err(error) = parsed {
                    let keys = kind.keys().collect::<Vec<_>>().join(", ");
                    let expected = format!("{key} does not apply to {}, which accepts {keys}", kind.name);
                    assert!(error.ends_with(&expected), "{error}");
                }
            }
            assert!(
                help.contains(&format!("\n  {}", head(kind.name, kind.value))) && help.contains(kind.effect)
            );
        }
        for (key, value, meaning) in KEYS {
            assert!(help.contains(&format!("\n  {key}={value}")) && help.contains(meaning), "{key}");
        }
    }

    /// `kind=VALUE`.
    fn head(name: &str, value: &str) -> String {
        if value.is_empty() { name.to_owned() } else { format!("{name}={value}") }
    }

    /// The kinds and keys as tables of the documentation.
    fn tables() -> String {
        let mut text = String::from("| kind | effect | keys besides those of all |\n|---|---|---|\n");
        let cell = |text: &str| text.replace('|', "\\|");
        for kind in KINDS {
            let keys: Vec<String> = kind.own_keys().iter().map(|key| format!("`{key}`")).collect();
            let head = cell(&head(kind.name, kind.value));
            writeln!(text, "| `{head}` | {} | {} |", kind.effect, keys.join(" ")).unwrap();
        }
        text.push_str("\n| key | meaning |\n|---|---|\n");
        for (key, value, meaning) in KEYS {
            writeln!(text, "| `{key}={}` | {meaning} |", cell(value)).unwrap();
        }
        text
    }

    #[test]
    fn the_documentation_lists_all_kinds_and_keys() {
        const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/faults.md");
        let page = std::fs::read_to_string(PAGE).unwrap();
        let (before, rest) = page.split_once("| kind |").expect("the table of kinds");
        let (_, after) = rest.split_once("\n\nTimes are").expect("the text after the tables");
        let right = format!("{before}{}\nTimes are{after}", tables());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(PAGE, right).unwrap();
        } else {
            assert_eq!(
                page, right,
                "make it anew: UPDATE_DOCS=1 cargo test -p lastack-run --lib documentation"
            );
        }
    }

    #[test]
    fn the_examples_are_rules() {
        let help = help();
        let examples = help.split_once("Examples:\n").unwrap().1;
        for line in examples.lines() {
            let rule = line.split_whitespace().next().unwrap();
            rule.parse::<FaultRule>().unwrap_or_else(|error| panic!("{error}"));
        }
    }
}
