//! `assert a == b and c < 5, message`, `x = 1`, `x += 1`, `print(..)`.

use crate::syntax::DEEPEST;
use std::collections::HashMap;

/// The state that a snippet passes on to the next one.
#[derive(Clone, Debug, Default)]
pub struct Variables(HashMap<String, i64>);

impl Variables {
    pub fn set(&mut self, name: &str, value: i64) {
        self.0.insert(name.to_owned(), value);
    }

    /// Runs a snippet.
    pub fn run(&mut self, code: &str) -> Result<(), Failure> {
        // A backslash continues a line.
        let code = &code.replace("\\\n", " ");
        // An open parenthesis continues a statement on the next line.
        let mut statement = String::new();
        for line in code.lines().flat_map(|line| split(line, ';')) {
            statement.push_str(line);
            statement.push(' ');
            let depth = |open| statement.matches(open).count();
            if depth('(') > depth(')') || depth('[') > depth(']') {
                continue;
            }
            self.statement(statement.trim())?;
            statement.clear();
        }
        self.statement(statement.trim())
    }

    fn statement(&mut self, text: &str) -> Result<(), Failure> {
        let text = split(text, '#').next().unwrap_or_default().trim();
        if text.is_empty() || text.starts_with("print") || text == "pass" {
            return Ok(());
        }
        let tokens = tokens(text)?;
        if let [Token::Word(name), Token::Sign(sign @ ("=" | "+=" | "-=")), rest @ ..] = &tokens[..] {
            let before = self.0.get(name).copied();
            let value = self.evaluate(rest, text)?;
            let known = || before.ok_or_else(|| Failure::Unknown(name.clone()));
            let value = match *sign {
                "+=" => known()?.wrapping_add(value),
                "-=" => known()?.wrapping_sub(value),
                _ => value,
            };
            self.0.insert(name.clone(), value);
            return Ok(());
        }
        let [Token::Word(assert), test @ ..] = &tokens[..] else { return Err(foreign(text)) };
        if assert != "assert" {
            return Err(foreign(text));
        }
        if self.evaluate(test, text)? != 0 {
            return Ok(());
        }
        let mut values = Vec::new();
        for token in test {
            let Token::Word(name) = token else { continue };
            let Some(value) = self.0.get(name) else { continue };
            let shown = format!("{name} is {value}");
            if !values.contains(&shown) {
                values.push(shown);
            }
        }
        Err(Failure::False { test: text.to_owned(), values })
    }

    /// The value of an expression; the text after a comma is a message.
    fn evaluate(&self, tokens: &[Token], text: &str) -> Result<i64, Failure> {
        let mut expression = Expression { tokens, at: 0, depth: 0, variables: self, text };
        let value = expression.or()?;
        match expression.peek() {
            None | Some(Token::Sign(",")) => Ok(value),
            Some(_) => Err(foreign(text)),
        }
    }
}

/// Why a snippet failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An assertion does not hold.
    False { test: String, values: Vec<String> },
    /// This name is not defined.
    Unknown(String),
    /// This part of Python is not supported.
    Foreign(String),
    /// It is nested deeper than [`DEEPEST`].
    Deep,
}

fn foreign(text: &str) -> Failure {
    Failure::Foreign(text.to_owned())
}

/// The parts between separators; separators within quotes do not count.
fn split(text: &str, sign: char) -> impl Iterator<Item = &str> {
    let mut quote = None;
    text.split(move |c: char| {
        match quote {
            Some(open) if open == c => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            _ => {}
        }
        c == sign && quote.is_none()
    })
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Number(i64),
    Word(String),
    Text,
    Sign(&'static str),
}

/// Longer operators before their prefixes.
const SIGNS: [&str; 24] = [
    "==", "!=", "<=", ">=", "+=", "-=", "<<", ">>", "//", "<", ">", "=", "(", ")", "+", "-", "*", "&", "|",
    "~", ",", "%", "[", "]",
];

fn tokens(text: &str) -> Result<Vec<Token>, Failure> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let len = if word > 0 {
            let found = &rest[..word];
            let number = super::super::lexer::integer(found).filter(|_| first.is_ascii_digit());
            tokens.push(number.map_or_else(|| Token::Word(found.to_owned()), Token::Number));
            word
        } else if first == '"' || first == '\'' {
            tokens.push(Token::Text);
            rest[1..].find(first).ok_or_else(|| foreign(text))? + 2
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign)).ok_or_else(|| foreign(text))?;
            tokens.push(Token::Sign(sign));
            sign.len()
        };
        rest = rest[len..].trim_start();
    }
    Ok(tokens)
}

struct Expression<'a> {
    tokens: &'a [Token],
    at: usize,
    /// The nesting depth of expressions.
    depth: usize,
    variables: &'a Variables,
    text: &'a str,
}

impl Expression<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn eat(&mut self, wanted: &str) -> bool {
        let is = match self.peek() {
            Some(Token::Sign(sign)) => *sign == wanted,
            Some(Token::Word(word)) => word == wanted,
            _ => false,
        };
        self.at += usize::from(is);
        is
    }

    /// Recurses one level; the depth is bounded to protect the call stack.
    fn within(&mut self, part: fn(&mut Self) -> Result<i64, Failure>) -> Result<i64, Failure> {
        if self.depth == DEEPEST {
            return Err(Failure::Deep);
        }
        self.depth += 1;
        let value = part(self);
        self.depth -= 1;
        value
    }

    fn or(&mut self) -> Result<i64, Failure> {
        let mut value = self.and()?;
        while self.eat("or") {
            let right = self.and()?;
            value = if value != 0 { value } else { right };
        }
        Ok(value)
    }

    fn and(&mut self) -> Result<i64, Failure> {
        let mut value = self.not()?;
        while self.eat("and") {
            let right = self.not()?;
            value = if value == 0 { value } else { right };
        }
        Ok(value)
    }

    fn not(&mut self) -> Result<i64, Failure> {
        if self.eat("not") { Ok(i64::from(self.within(Self::not)? == 0)) } else { self.comparison() }
    }

    /// Chained comparison: `a < b <= c` is `a < b and b <= c`.
    fn comparison(&mut self) -> Result<i64, Failure> {
        let mut left = self.bits()?;
        let mut all = None;
        loop {
            let operators = ["==", "!=", "<=", ">=", "<", ">"];
            let Some(operator) = operators.into_iter().find(|operator| self.eat(operator)) else {
                return Ok(all.map_or(left, i64::from));
            };
            let right = self.bits()?;
            let holds = match operator {
                "==" => left == right,
                "!=" => left != right,
                "<=" => left <= right,
                ">=" => left >= right,
                "<" => left < right,
                _ => left > right,
            };
            all = Some(all.unwrap_or(true) && holds);
            left = right;
        }
    }

    fn bits(&mut self) -> Result<i64, Failure> {
        let mut value = self.shift()?;
        loop {
            if self.eat("&") {
                value &= self.shift()?;
            } else if self.eat("|") {
                value |= self.shift()?;
            } else {
                return Ok(value);
            }
        }
    }

    fn shift(&mut self) -> Result<i64, Failure> {
        let mut value = self.sum()?;
        loop {
            let places = |value: i64| u32::try_from(value).unwrap_or(63).min(63);
            if self.eat("<<") {
                value <<= places(self.sum()?);
            } else if self.eat(">>") {
                value >>= places(self.sum()?);
            } else {
                return Ok(value);
            }
        }
    }

    fn sum(&mut self) -> Result<i64, Failure> {
        let mut value = self.product()?;
        loop {
            if self.eat("+") {
                value = value.wrapping_add(self.product()?);
            } else if self.eat("-") {
                value = value.wrapping_sub(self.product()?);
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<i64, Failure> {
        let mut value = self.unary()?;
        loop {
            if self.eat("*") {
                value = value.wrapping_mul(self.unary()?);
            } else if self.eat("//") {
                let divisor = self.unary()?;
                value = value.checked_div_euclid(divisor).ok_or_else(|| foreign(self.text))?;
            } else {
                return Ok(value);
            }
        }
    }

    fn unary(&mut self) -> Result<i64, Failure> {
        if self.eat("-") {
            return Ok(self.within(Self::unary)?.wrapping_neg());
        }
        if self.eat("~") {
            return Ok(!self.within(Self::unary)?);
        }
        if self.eat("(") {
            let value = self.within(Self::or)?;
            return if self.eat(")") { Ok(value) } else { Err(foreign(self.text)) };
        }
        let value = match self.peek() {
            Some(Token::Number(number)) => *number,
            Some(Token::Word(name)) => {
                let known = match name.as_str() {
                    "True" => Some(1),
                    "False" => Some(0),
                    name => self.variables.0.get(name).copied(),
                };
                known.ok_or_else(|| Failure::Unknown(name.clone()))?
            }
            _ => return Err(foreign(self.text)),
        };
        self.at += 1;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(code: &str) -> Result<(), Failure> {
        let mut variables = Variables::default();
        variables.set("cwnd", 10);
        variables.set("state", 1);
        variables.run(code)
    }

    #[test]
    fn tests_hold_or_do_not() {
        for holds in [
            "assert cwnd == 10, cwnd",
            "assert 5 <= cwnd < 11, 'cwnd'",
            "assert (cwnd + 2) * 2 - 1 == 23 and not state == 2",
            "assert cwnd & 2 != 0 or False",
            "x = 5\nx += 2; assert x == 7, \"a ; b\"",
            "assert (cwnd ==\n 10) # as it was",
            "print(cwnd)",
            "assert cwnd // 3 == 3",
        ] {
            assert_eq!(run(holds), Ok(()), "{holds}");
        }
        let Err(Failure::False { values, .. }) = run("assert cwnd == 11, cwnd") else {
            panic!("10 is not 11")
        };
        assert_eq!(values, ["cwnd is 10"]);
    }

    #[test]
    fn depth_has_an_end() {
        for (before, after) in [("(", ")"), ("not ", ""), ("-", ""), ("~", "")] {
            let nested = |depth| format!("assert {}1{} or True", before.repeat(depth), after.repeat(depth));
            assert_eq!(run(&nested(DEEPEST)), Ok(()), "{before}");
            assert_eq!(run(&nested(DEEPEST + 1)), Err(Failure::Deep), "{before}");
            assert_eq!(run(&nested(100_000)), Err(Failure::Deep), "{before}");
        }
        let largest = "x = 9223372036854775807\nx += 1\nassert x < 0";
        assert_eq!(run(largest), Ok(()));
    }

    #[test]
    fn unknown_fields_are_reported() {
        assert_eq!(run("assert rtt == 1"), Err(Failure::Unknown("rtt".into())));
        assert!(matches!(run("import os"), Err(Failure::Foreign(_))));
        assert!(matches!(run("assert f(1)"), Err(Failure::Unknown(_))));
        assert!(matches!(run("assert 1 +"), Err(Failure::Foreign(_))));
    }
}
