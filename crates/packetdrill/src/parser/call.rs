//! Calls: `poll([{fd=3, events=POLLIN, revents=0}], 1, 0) = 0`.

use super::Parser;
use crate::error::Problem;
use crate::lexer::Token;
use crate::syntax::{Call, DEEPEST, Expr, Field, Node};

impl Parser {
    pub fn call(&mut self) -> Result<Call, Problem> {
        let until = match self.token() {
            Token::Ellipsis => {
                self.advance();
                Some(self.seconds()?)
            }
            _ => None,
        };
        let name = self.word()?;
        self.expect('(')?;
        let arguments = self.list(')')?;
        self.expect('=')?;
        let start = self.span().start;
        if *self.token() == Token::Ellipsis {
            let message = "the result * (anything) is not part of the language";
            return Err(Problem::syntax(self.span(), message));
        }
        let result = self.number()?;
        let mut errno = None;
        if let Token::Word(word) = self.token().clone() {
            self.advance();
            errno = Some(word);
        }
        let result_span = self.since(start);
        while *self.token() == Token::Sign('(') {
            self.skip_remark()?;
        }
        Ok(Call { until, name, arguments, result, errno, result_span })
    }

    /// A remark in parentheses.
    fn skip_remark(&mut self) -> Result<(), Problem> {
        let span = self.span();
        let mut depth = 0_usize;
        loop {
            match self.advance().token {
                Token::Sign('(') => depth += 1,
                Token::Sign(')') => depth -= 1,
                Token::End => return Err(Problem::syntax(span, "unclosed parenthesis")),
                _ => {}
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// Expressions up to the closing delimiter.
    fn list(&mut self, closing: char) -> Result<Vec<Expr>, Problem> {
        let mut list = Vec::new();
        if self.eat(closing) {
            return Ok(list);
        }
        loop {
            list.push(self.expr()?);
            if !self.eat(',') {
                break;
            }
        }
        self.expect(closing)?;
        Ok(list)
    }

    /// The nesting depth is bounded to protect the call stack.
    fn expr(&mut self) -> Result<Expr, Problem> {
        if self.depth == DEEPEST {
            let message = format!("arguments nested more than {DEEPEST} levels deep");
            return Err(Problem::syntax(self.span(), message));
        }
        self.depth += 1;
        let expr = self.alternatives();
        self.depth -= 1;
        expr
    }

    fn alternatives(&mut self) -> Result<Expr, Problem> {
        let start = self.span().start;
        let first = self.operand()?;
        if *self.token() != Token::Sign('|') {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.eat('|') {
            all.push(self.operand()?);
        }
        Ok(Expr { span: self.since(start), node: Node::Or(all) })
    }

    fn operand(&mut self) -> Result<Expr, Problem> {
        let start = self.span().start;
        let node = match self.token().clone() {
            Token::Ellipsis => {
                self.advance();
                Node::Ellipsis
            }
            Token::Number(number) => {
                self.advance();
                Node::Number(number)
            }
            Token::Text(_) => self.strings(),
            Token::Sign('[') => {
                self.advance();
                Node::List(self.list(']')?)
            }
            Token::Sign('{') => {
                self.advance();
                Node::Struct(self.fields()?)
            }
            Token::Sign('-') => {
                self.advance();
                return Err(self.wanted("a number after the sign"));
            }
            Token::Word(word) => self.word_expr(word)?,
            _ => return Err(self.wanted("an argument")),
        };
        Ok(Expr { span: self.since(start), node })
    }

    fn strings(&mut self) -> Node {
        let mut all = Vec::new();
        while let Token::Text(text) = self.token().clone() {
            self.advance();
            all.extend(text);
        }
        if *self.token() == Token::Ellipsis {
            self.advance();
            return Node::TextEllipsis;
        }
        Node::Text(all)
    }

    fn word_expr(&mut self, word: String) -> Result<Node, Problem> {
        self.advance();
        let node = if self.eat('(') { Node::Apply(word, self.list(')')?) } else { Node::Word(word) };
        if !self.eat('=') {
            return Ok(node);
        }
        let (Node::Apply(name, _) | Node::Word(name)) = node else { return Err(self.wanted("a name")) };
        Ok(Node::Assign(name, Box::new(self.expr()?)))
    }

    /// The members of a struct, after the opening brace.
    fn fields(&mut self) -> Result<Vec<Field>, Problem> {
        let list = self.list('}')?;
        let field = |expr: Expr| match expr.node {
            Node::Assign(name, value) => Field { name, value: *value },
            node => Field { name: String::new(), value: Expr { span: expr.span, node } },
        };
        Ok(list.into_iter().map(field).collect())
    }
}
