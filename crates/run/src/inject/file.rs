//! `--inject-file`: the same rules in TOML.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::rule::FaultRule;

/// Reads `[[fault]]` tables, and the optional seed, of this file.
///
/// # Errors
/// It is not TOML, a rule is invalid, or there is none: the error names which, and its line.
pub fn read(text: &str, name: &str) -> Result<(Vec<FaultRule>, Option<u64>), String> {
    let file = DeTable::parse(text).map_err(|error| error.to_string())?;
    let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    let (mut rules, mut seed) = (Vec::new(), None);
    for (key, value) in file.get_ref() {
        let at = line(key.span().start);
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("seed", DeValue::Integer(number)) => {
                let number = number.to_string();
                seed = Some(number.parse().map_err(|_| {
                    format!("line {at}: seed = {number}: write a number from 0 to {}", u64::MAX)
                })?);
            }
            ("fault", DeValue::Array(faults)) => {
                for (number, fault) in faults.iter().enumerate() {
                    let at = line(fault.span().start);
                    let of = |at, error| format!("line {at}: fault {}: {error}", number + 1);
                    let DeValue::Table(fault) = fault.get_ref() else {
                        return Err(of(at, "expected a table: write [[fault]]".to_owned()));
                    };
                    let parsed = rule(fault).and_then(|text| text.parse::<FaultRule>());
                    let place = |error: &str| concerned(fault, error).map_or(at, line);
                    let parsed = parsed.map_err(|error| of(place(&error), error))?;
                    rules.push(parsed.of_file(name, at));
                }
            }
            (other, _) => {
                let expected = "expected seed = NUMBER, or [[fault]] before the keys of a fault";
                return Err(format!("line {at}: {other}: unknown key ({expected})"));
            }
        }
    }
    match rules.is_empty() {
        true => Err(EMPTY.to_owned()),
        false => Ok((rules, seed)),
    }
}

/// Where the key is that an error is about: the first that it names, after the text of the rule.
fn concerned(table: &DeTable<'_>, error: &str) -> Option<usize> {
    let message = error.split_once(": ").map_or(error, |(_, message)| message);
    let word = |key: &str| {
        let whole = |at: &usize| {
            let (before, after) = (&message[..*at], &message[at + key.len()..]);
            let part = |next: Option<char>| next.is_some_and(char::is_alphanumeric);
            !part(before.chars().next_back()) && !part(after.chars().next())
        };
        message.match_indices(key).map(|(at, _)| at).find(whole)
    };
    let named = table.iter().filter_map(|(key, _)| Some((word(key.get_ref())?, key.span().start)));
    let starts = |(key, _): &(&Spanned<DeString<'_>>, _)| error.starts_with(&format!("{}: ", key.get_ref()));
    let first = table.iter().find(starts).map(|(key, _)| key.span().start);
    first.or_else(|| named.min().map(|(_, at)| at))
}

/// The message for a file without faults.
const EMPTY: &str =
    "it has no fault: write at least one, such as [[fault]], and in the next line kind = \"refuse\"";

/// Converts a table to the text of a rule.
fn rule(table: &DeTable<'_>) -> Result<String, String> {
    let of_kind = |(key, _): &(&Spanned<DeString<'_>>, _)| key.get_ref() == "kind";
    let kind = table.iter().find(of_kind).and_then(|(_, kind)| kind.get_ref().as_str());
    let mut text = kind.ok_or("a kind is missing, such as kind = \"rst\"")?.to_owned();
    for (key, value) in table.iter().filter(|entry| !of_kind(entry)) {
        let key = key.get_ref();
        let value = match value.get_ref() {
            DeValue::Array(values) => values
                .iter()
                .map(|value| scalar(key, value.get_ref()))
                .collect::<Result<Vec<_>, _>>()?
                .join(","),
            value => scalar(key, value)?,
        };
        text += &format!(":{key}={value}");
    }
    Ok(text)
}

fn scalar(key: &str, value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) if key == "to" && text.contains(':') && !text.starts_with('[') => {
            Ok(format!("[{text}]"))
        }
        DeValue::String(text) => Ok(text.clone().into_owned()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Float(number) => Ok(number.to_string()),
        other => {
            Err(format!("{key}: a {} is not allowed here: write a string or a number", other.type_str()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_rules_and_a_seed() {
        let (rules, seed) = read(
            "seed = 7\n[[fault]]\nkind = \"rst\"\nport = [5432, 5433]\nwhen = 3\nafter = \"4k\"\n\
             [[fault]]\nkind = \"loss\"\nvalue = 0.1\nto = \"2001:db8::1\"\n",
            "faults.toml",
        )
        .unwrap();
        assert_eq!(seed, Some(7));
        let expected: Vec<FaultRule> = ["rst:port=5432,5433:when=3:after=4k", "loss=0.1:to=[2001:db8::1]"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        for (rule, expected) in rules.iter().zip(&expected) {
            assert_eq!((&rule.kind, &rule.select), (&expected.kind, &expected.select));
        }
        assert_eq!(rules.len(), 2);
        assert_eq!(rules[1].text(), "loss:to=[2001:db8::1]:value=0.1 (line 7 of faults.toml)");
    }

    #[test]
    fn errors_say_which_rule_is_wrong_and_its_line() {
        for (text, says) in [
            ("[[fault]]\nkind = \"refuse\"\n[[fault]]\nport = 1", "line 3: fault 2: a kind is missing"),
            ("[[fault]]\nkind = \"rst\"\nafer = 1", "line 3: fault 1: rst:afer=1: unknown key"),
            ("\n\n[[fault]]\nkind = \"rst\"\nwhen = true", "line 5: fault 1: when: a boolean is not allowed"),
            ("[[fault]]\n\nkind = \"rts\"", "line 3: fault 1: rts: unknown kind"),
            ("# faults\nfault = [1]", "line 2: fault 1: expected a table"),
            (
                "[[fault]]\nkind = \"refuse\"\n\n[[fault]]\nkind = \"refuse\"\nafter = \"4k\"",
                "line 6: fault 2: refuse:after=4k: after does not apply to refuse, which accepts to, port, proto",
            ),
            (
                "[[fault]]\nkind = \"rst\"\nfrom = 5\nuntil = \"2s\"",
                "line 4: fault 1: rst:from=5:until=2s: until=2s is not later than from=5",
            ),
            ("seed = 1\nfaults = 1", "line 2: faults: unknown key (expected seed = NUMBER, or [[fault]]"),
            ("seed = -1", "line 1: seed = -1: write a number from 0"),
            ("kind = [", "TOML parse error"),
            ("", "it has no fault"),
            ("# only a comment\n", "it has no fault"),
            ("seed = 7\nfault = []\n", "it has no fault"),
        ] {
            let error = read(text, "faults.toml").unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
