//! From tokens to a script: recursive descent, one function per grammar rule.

mod call;
mod packet;

use super::error::Problem;
use super::lexer::{self, Lexeme, Token};
use super::syntax::{Action, Event, Script, Setting, Span, Text, Time};
use std::collections::HashMap;
use std::time::Duration;

/// Parses a whole file. Plain words in `definitions` are replaced.
pub fn parse(source: &str, definitions: &HashMap<String, String>) -> Result<Script, Problem> {
    let lexemes = lexer::lex(source, definitions)?;
    Parser { lexemes, at: 0, depth: 0 }.script()
}

/// An upper bound for times in a script: some thirty years.
const MAX_SECONDS: f64 = 1e9;

struct Parser {
    lexemes: Vec<Lexeme>,
    at: usize,
    /// The nesting depth of arguments.
    depth: usize,
}

impl Parser {
    fn token(&self) -> &Token {
        &self.lexemes[self.at].token
    }

    fn after(&self, n: usize) -> &Token {
        &self.lexemes[(self.at + n).min(self.lexemes.len() - 1)].token
    }

    fn span(&self) -> Span {
        self.lexemes[self.at].span.clone()
    }

    /// The span from this position to the end of the last token read.
    fn since(&self, start: usize) -> Span {
        let end = self.lexemes[self.at.saturating_sub(1)].span.end;
        start..end.max(start)
    }

    fn advance(&mut self) -> Lexeme {
        let lexeme = self.lexemes[self.at].clone();
        self.at = (self.at + 1).min(self.lexemes.len() - 1);
        lexeme
    }

    /// Consumes this sign if it is next.
    fn eat(&mut self, sign: char) -> bool {
        let is = *self.token() == Token::Sign(sign);
        if is {
            self.advance();
        }
        is
    }

    fn expect(&mut self, sign: char) -> Result<(), Problem> {
        if self.eat(sign) { Ok(()) } else { Err(self.wanted(&format!("`{sign}`"))) }
    }

    /// Consumes this word if it is next.
    fn eat_word(&mut self, word: &str) -> bool {
        let is = matches!(self.token(), Token::Word(found) if found == word);
        if is {
            self.advance();
        }
        is
    }

    fn word(&mut self) -> Result<String, Problem> {
        match self.token().clone() {
            Token::Word(word) => {
                self.advance();
                Ok(word)
            }
            _ => Err(self.wanted("a word")),
        }
    }

    fn number(&mut self) -> Result<i64, Problem> {
        match *self.token() {
            Token::Number(number) => {
                self.advance();
                Ok(number)
            }
            _ => Err(self.wanted("a number")),
        }
    }

    /// A number of the width of `T`; a negative one is taken modulo 2^32 where that fits.
    fn unsigned<T: TryFrom<i64>>(&mut self, what: &str) -> Result<T, Problem> {
        let span = self.span();
        let number = self.number()?;
        T::try_from(number).map_err(|_| Problem::syntax(span, format!("{number} is out of range for {what}")))
    }

    fn wanted(&self, what: &str) -> Problem {
        let found = match self.token() {
            Token::End => "the end of the file".to_owned(),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::Word(word) => format!("`{word}`"),
            Token::Number(number) => format!("`{number}`"),
            Token::Float(number) => format!("`{number}`"),
            Token::Ellipsis => "`...`".to_owned(),
            Token::Text(_) => "a string".to_owned(),
            Token::Backquoted(_) => "a command".to_owned(),
            Token::Code(_) => "code".to_owned(),
            Token::Setting { name, .. } => format!("the option --{name}"),
        };
        Problem::syntax(self.span(), format!("expected {what}, found {found}"))
            .label(format!("expected {what}"))
    }

    fn script(mut self) -> Result<Script, Problem> {
        let mut script = Script::default();
        while let Token::Setting { name, value } = self.token().clone() {
            let span = self.advance().span;
            script.options.push(Setting { span, name, value });
        }
        script.init = self.text();
        while *self.token() != Token::End {
            if let Some(text) = self.text() {
                if *self.token() != Token::End {
                    let message = "only the first and the last command of a script may omit the time";
                    return Err(Problem::syntax(text.span, message));
                }
                script.cleanup = Some(text);
                break;
            }
            script.events.push(self.event()?);
        }
        self.verify(&script)?;
        Ok(script)
    }

    fn verify(&self, script: &Script) -> Result<(), Problem> {
        let Some(first) = script.events.first() else {
            return Err(Problem::syntax(self.span(), "the script has no event"));
        };
        if !matches!(first.time, Time::At(Duration::ZERO) | Time::After(Duration::ZERO)) {
            return Err(Problem::syntax(first.span.clone(), "the time of the first event must be 0"));
        }
        let mut last = Duration::ZERO;
        for event in &script.events {
            let (Time::At(at) | Time::AtRange(at, _)) = event.time else { continue };
            if at < last {
                let message = "this event is earlier than the one before it";
                return Err(Problem::syntax(event.span.clone(), message));
            }
            last = at;
        }
        Ok(())
    }

    /// A command without a time.
    fn text(&mut self) -> Option<Text> {
        let Token::Backquoted(text) = self.token().clone() else { return None };
        let span = self.advance().span;
        Some(Text { span, text })
    }

    fn event(&mut self) -> Result<Event, Problem> {
        let start = self.span().start;
        let time = self.time()?;
        let time_span = self.since(start);
        let action = self.action()?;
        let range = matches!(time, Time::Any | Time::AtRange(..) | Time::AfterRange(..));
        if range && !matches!(action, Action::Outbound(_)) {
            return Err(Problem::syntax(time_span, "only an outbound packet can have a time range"));
        }
        Ok(Event { span: self.since(start), time, action })
    }

    fn time(&mut self) -> Result<Time, Problem> {
        if self.eat('*') {
            return Ok(Time::Any);
        }
        let relative = self.eat('+');
        let from = self.seconds()?;
        if !self.eat('~') {
            return Ok(if relative { Time::After(from) } else { Time::At(from) });
        }
        let start = self.span().start;
        if self.eat('+') != relative {
            let message = "both ends of a time range must be absolute, or both relative";
            return Err(Problem::syntax(start..start + 1, message));
        }
        let to = self.seconds()?;
        if to < from {
            return Err(Problem::syntax(self.since(start), "the time range ends before it starts"));
        }
        Ok(if relative { Time::AfterRange(from, to) } else { Time::AtRange(from, to) })
    }

    fn seconds(&mut self) -> Result<Duration, Problem> {
        let seconds = match *self.token() {
            Token::Number(seconds) => seconds as f64,
            Token::Float(seconds) => seconds,
            _ => return Err(self.wanted("a time in seconds")),
        };
        if seconds < 0.0 {
            return Err(Problem::syntax(self.span(), "a time must not be negative"));
        }
        if seconds >= MAX_SECONDS {
            let message = format!("a time must be less than {MAX_SECONDS} seconds");
            return Err(Problem::syntax(self.span(), message));
        }
        self.advance();
        Ok(Duration::from_micros((seconds * 1e6).round() as u64))
    }

    fn action(&mut self) -> Result<Action, Problem> {
        match self.token().clone() {
            Token::Sign('<') => {
                self.advance();
                self.packet(false).map(Action::Inbound)
            }
            Token::Sign('>') => {
                self.advance();
                self.packet(true).map(Action::Outbound)
            }
            Token::Backquoted(text) => {
                self.advance();
                Ok(Action::Command(text))
            }
            Token::Code(text) => {
                self.advance();
                Ok(Action::Code(text))
            }
            Token::Ellipsis | Token::Word(_) => self.call().map(Action::Call),
            _ => Err(self.wanted("a packet, a call, a command or code")),
        }
    }
}

#[cfg(test)]
mod tests;
