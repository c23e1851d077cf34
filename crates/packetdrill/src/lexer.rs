//! From text to tokens. Line breaks have no meaning; the longest match wins.

use super::error::Problem;
use super::syntax::Span;
use std::collections::HashMap;

/// A token of the language.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Number(i64),
    /// With a decimal point: the span gives its digits.
    Float(f64),
    Text(Vec<u8>),
    Backquoted(String),
    Code(String),
    Word(String),
    Setting {
        name: String,
        value: Option<String>,
    },
    Ellipsis,
    Sign(char),
    End,
}

/// A token and its position.
#[derive(Clone, Debug)]
pub struct Lexeme {
    pub token: Token,
    pub span: Span,
}

/// Splits a text into tokens. Each plain word in `definitions` is replaced.
pub fn lex(source: &str, definitions: &HashMap<String, String>) -> Result<Vec<Lexeme>, Problem> {
    // A byte order mark is not part of the text.
    let at = if source.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut lexer = Lexer { source, at, definitions: definitions.clone() };
    let mut lexemes = Vec::new();
    loop {
        lexer.skip_blanks()?;
        let start = lexer.at;
        let token = lexer.next()?;
        if let Token::Setting { name, value: Some(value) } = &token
            && name == "define"
        {
            lexer.define(start, value)?;
        }
        let end = token == Token::End;
        // At the end of the text, an error points behind the last token, not at a line of its own.
        let start = if end { lexemes.last().map_or(0, |last: &Lexeme| last.span.end) } else { start };
        lexemes.push(Lexeme { token, span: start..if end { start } else { lexer.at } });
        if end {
            return Ok(lexemes);
        }
    }
}

/// Name and value of an option of the script.
pub fn setting(token: &Token) -> Option<(&str, Option<&str>)> {
    match token {
        Token::Setting { name, value } => Some((name, value.as_deref())),
        _ => None,
    }
}

/// The token of a defined name.
fn defined(value: &str) -> Token {
    let inside = |quote| value.strip_prefix(quote).and_then(|rest: &str| rest.strip_suffix(quote));
    if let Some(text) = inside('"') {
        return Token::Text(text.as_bytes().to_vec());
    }
    if let Some(text) = inside('`') {
        return Token::Backquoted(text.to_owned());
    }
    integer(value).map_or_else(|| Token::Word(value.to_owned()), Token::Number)
}

/// A number as strtol reads it: hexadecimal, octal or decimal.
pub fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let value = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        u64::from_str_radix(hex, 16).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(digits, 8).ok()?
    } else {
        digits.parse().ok()?
    };
    Some(if negative { (value as i64).wrapping_neg() } else { value as i64 })
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    definitions: HashMap<String, String>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// The value of a definition in a script is a word, a string or a backquoted text.
    fn define(&mut self, start: usize, value: &str) -> Result<(), Problem> {
        let place = start..self.at;
        let (name, value) = value.split_once('=').ok_or_else(|| {
            Problem::syntax(place.clone(), "invalid definition (expected --define=NAME=VALUE)")
        })?;
        if integer(value).is_some() {
            return Err(Problem::syntax(place, "a definition in a script must be a word or a quoted string"));
        }
        // Definitions given from outside take precedence.
        self.definitions.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        Ok(())
    }

    fn skip_blanks(&mut self) -> Result<(), Problem> {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if trimmed.starts_with("//") {
                self.at += trimmed.find('\n').unwrap_or(trimmed.len());
            } else if let Some(inside) = trimmed.strip_prefix("/*") {
                let Some(end) = inside.find("*/") else {
                    return Err(Problem::syntax(self.at..self.at + 2, "unterminated comment"));
                };
                self.at += end + 4;
            } else {
                return Ok(());
            }
        }
    }

    fn next(&mut self) -> Result<Token, Problem> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Token::End) };
        match first {
            '"' => self.text(),
            '`' => self.delimited('`', 1, "`").map(Token::Backquoted),
            '%' if rest.starts_with("%{") => {
                let code = self.delimited('%', 2, "}%")?;
                Ok(Token::Code(code.trim_matches([' ', '\t']).to_owned()))
            }
            '.' if rest.starts_with("...") => {
                self.at += 3;
                Ok(Token::Ellipsis)
            }
            '-' if rest.starts_with("--") && rest[2..].starts_with(|c: char| c.is_ascii_alphabetic()) => {
                Ok(self.setting())
            }
            _ => Ok(self.plain(first)),
        }
    }

    /// A text up to a closing delimiter; a backslash escapes it.
    fn delimited(&mut self, what: char, opening: usize, closing: &str) -> Result<String, Problem> {
        let body = &self.source[self.at + opening..];
        let mut from = 0;
        while let Some(found) = body[from..].find(closing) {
            let end = from + found;
            if closing == "`" && body[..end].ends_with('\\') {
                from = end + 1;
                continue;
            }
            self.at += opening + end + closing.len();
            return Ok(body[..end].to_owned());
        }
        let place = self.at..self.at + opening;
        Err(Problem::syntax(place, format!("unterminated {what}")))
    }

    fn text(&mut self) -> Result<Token, Problem> {
        let start = self.at;
        let bytes = self.source.as_bytes();
        let mut text = Vec::new();
        let mut at = start + 1;
        loop {
            match bytes.get(at) {
                None => return Err(Problem::syntax(start..start + 1, "unterminated string")),
                Some(b'"') => break,
                Some(b'\\') => at += escape(&bytes[at + 1..], &mut text),
                Some(&byte) => text.push(byte),
            }
            at += 1;
        }
        self.at = at + 1;
        Ok(Token::Text(text))
    }

    fn setting(&mut self) -> Token {
        let rest = &self.rest()[2..];
        let name_len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(name_len);
        self.at += 2 + name_len;
        let value = after.strip_prefix('=').map(|value| {
            let quote = value.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '_' && *c != '=');
            let len = match quote.filter(|quote| matches!(quote, '"' | '`')) {
                Some(quote) => {
                    let open = value.find(quote).unwrap_or(0);
                    value[open + 1..].find(quote).map_or(value.len(), |end| open + end + 2)
                }
                None => value.find(char::is_whitespace).unwrap_or(value.len()),
            };
            self.at += 1 + len;
            value[..len].to_owned()
        });
        Token::Setting { name: name.to_owned(), value }
    }

    /// Numbers, words and signs.
    fn plain(&mut self, first: char) -> Token {
        let rest = self.rest();
        let minus = usize::from(first == '-');
        let digits = count(&rest[minus..], |c| c.is_ascii_digit());
        let word = count(rest, |c| c.is_ascii_alphanumeric() || c == '_');
        let point = minus + digits;
        let fraction = match rest[point..].strip_prefix('.') {
            Some(after) => count(after, |c| c.is_ascii_digit()),
            None => 0,
        };
        if fraction > 0 {
            let len = point + 1 + fraction;
            self.at += len;
            return Token::Float(rest[..len].parse().unwrap_or_default());
        }
        if digits > 0 && word <= point {
            self.at += point;
            return Token::Number(rest[..point].parse().unwrap_or(i64::MAX));
        }
        if word > 0 {
            self.at += word;
            return self.word(&rest[..word]);
        }
        self.at += first.len_utf8();
        Token::Sign(first)
    }

    fn word(&self, word: &str) -> Token {
        if word.starts_with("0x")
            && let Some(number) = integer(word)
        {
            return Token::Number(number);
        }
        self.definitions.get(word).map_or_else(|| Token::Word(word.to_owned()), |value| defined(value))
    }
}

fn count(text: &str, is: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is(c)).unwrap_or(text.len())
}

/// Decodes an escape sequence and returns its length in bytes.
fn escape(after: &[u8], text: &mut Vec<u8>) -> usize {
    let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    match after {
        [b'x', a, b, ..] if hex(&[*a, *b]).is_some() => {
            text.push(hex(&[*a, *b]).unwrap_or_default());
            return 3;
        }
        [b'f', ..] => text.push(0x0c),
        [b'n', ..] => text.push(b'\n'),
        [b'r', ..] => text.push(b'\r'),
        [b't', ..] => text.push(b'\t'),
        [b'v', ..] => text.push(0x0b),
        [other, ..] => text.push(*other),
        [] => return 0,
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(source: &str) -> Vec<Token> {
        let definitions = [("LEN".to_owned(), "10".to_owned()), ("A".to_owned(), "\"b\"".to_owned())];
        let mut tokens: Vec<Token> =
            lex(source, &definitions.into()).unwrap().into_iter().map(|lexeme| lexeme.token).collect();
        assert_eq!(tokens.pop(), Some(Token::End));
        tokens
    }

    fn word(text: &str) -> Token {
        Token::Word(text.into())
    }

    #[test]
    fn a_range_of_points_is_no_fraction() {
        let plus = Token::Sign('+');
        assert_eq!(
            tokens("+0...0.020"),
            [plus.clone(), Token::Number(0), Token::Ellipsis, Token::Float(0.02)]
        );
        assert_eq!(
            tokens("+.01 P.5 S."),
            [plus, Token::Float(0.01), word("P"), Token::Float(0.5), word("S"), Token::Sign('.')]
        );
    }

    #[test]
    fn the_longest_match_wins() {
        assert_eq!(
            tokens("3021b9d889017eeb 0x10 -1"),
            [word("3021b9d889017eeb"), Token::Number(16), Token::Number(-1)]
        );
        assert_eq!(tokens("1:1(0)").len(), 6);
    }

    #[test]
    fn defined_words_are_replaced() {
        assert_eq!(tokens("LEN A LENA"), [Token::Number(10), Token::Text(b"b".into()), word("LENA")]);
    }

    #[test]
    fn comments_are_blanks_but_not_inside_quotes() {
        assert_eq!(
            tokens("1 // 2\n /* 3 */ `a // b` %{ x # /* }%"),
            [Token::Number(1), Token::Backquoted("a // b".into()), Token::Code("x # /*".into())]
        );
        assert_eq!(tokens(r#""a\x41\n""#), [Token::Text(b"aA\n".into())]);
    }

    #[test]
    fn an_unterminated_token_is_shown_at_its_start() {
        let problem = |source| lex(source, &HashMap::new()).unwrap_err().span;
        assert_eq!(problem("1 \"a"), 2..3);
        assert_eq!(problem("1 `a"), 2..3);
        assert_eq!(problem("/* a"), 0..2);
    }
}
