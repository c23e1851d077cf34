//! `--inject-file`: the same rules in TOML.

use toml::{Table, Value};

use super::rule::FaultRule;

/// Reads `[[fault]]` tables, and the optional seed.
///
/// # Errors
/// It is not TOML, or a rule is invalid: the error names which.
pub fn read(text: &str) -> Result<(Vec<FaultRule>, Option<u64>), String> {
    let file: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let (mut rules, mut seed) = (Vec::new(), None);
    for (key, value) in &file {
        match (key.as_str(), value) {
            ("seed", Value::Integer(number)) => {
                seed = Some(
                    u64::try_from(*number)
                        .map_err(|_| format!("seed = {number}: it must not be negative"))?,
                );
            }
            ("fault", Value::Array(faults)) => {
                for (number, fault) in faults.iter().enumerate() {
                    let of = |error| format!("fault {}: {error}", number + 1);
                    let fault =
                        fault.as_table().ok_or_else(|| of("expected a table: write [[fault]]".to_owned()))?;
                    rules.push(rule(fault).and_then(|text| text.parse()).map_err(of)?);
                }
            }
            (other, _) => return Err(format!("{other}: unknown key (expected seed = NUMBER or [[fault]])")),
        }
    }
    Ok((rules, seed))
}

/// Converts a table to the text of a rule.
fn rule(table: &Table) -> Result<String, String> {
    let kind =
        table.get("kind").and_then(Value::as_str).ok_or("a kind is missing, such as kind = \"rst\"")?;
    let mut text = kind.to_owned();
    for (key, value) in table.iter().filter(|(key, _)| *key != "kind") {
        let value = match value {
            Value::Array(values) => {
                values.iter().map(|value| scalar(key, value)).collect::<Result<Vec<_>, _>>()?.join(",")
            }
            value => scalar(key, value)?,
        };
        text += &format!(":{key}={value}");
    }
    Ok(text)
}

fn scalar(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) if key == "to" && text.contains(':') && !text.starts_with('[') => {
            Ok(format!("[{text}]"))
        }
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
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
    }

    #[test]
    fn errors_say_which_rule_is_wrong() {
        for (text, says) in [
            ("[[fault]]\nkind = \"refuse\"\n[[fault]]\nport = 1", "fault 2: a kind is missing"),
            ("[[fault]]\nkind = \"rst\"\nafer = 1", "fault 1: rst:afer=1: unknown key"),
            ("[[fault]]\nkind = \"rst\"\nwhen = true", "when: a boolean is not allowed"),
            ("faults = 1", "expected seed = NUMBER or [[fault]]"),
            ("seed = -1", "must not be negative"),
            ("kind = [", "TOML parse error"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
