//! The arguments of a call, read as what they must be.

use crate::script::constants;
use crate::script::error::Problem;
use crate::script::syntax::{Call, Expr, Field, Node, Span};

/// The arguments of a call.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    call: &'a Call,
}

impl<'a> Arguments<'a> {
    pub fn new(call: &'a Call) -> Self {
        Self { call }
    }

    pub fn name(&self) -> &'a str {
        &self.call.name
    }

    pub fn len(&self) -> usize {
        self.call.arguments.len()
    }

    /// Where they stand.
    pub fn span(&self) -> Span {
        match self.call.arguments.as_slice() {
            [first, .., last] => first.span.start..last.span.end,
            [only] => only.span.clone(),
            [] => self.call.result_span.clone(),
        }
    }

    pub fn at(&self, index: usize) -> Result<&'a Expr, Problem> {
        self.call.arguments.get(index).ok_or_else(|| {
            let message = format!("{}() has more arguments than {}", self.call.name, self.len());
            Problem::syntax(self.call.result_span.clone(), message)
        })
    }

    pub fn number(&self, index: usize) -> Result<i64, Problem> {
        number(self.at(index)?)
    }

    /// A number of octets.
    pub fn size(&self, index: usize) -> Result<usize, Problem> {
        let expr = self.at(index)?;
        let number = number(expr)?;
        octets(number, expr)
    }
}

/// No call moves more than this, whatever it is asked for (`MAX_RW_COUNT` of Linux).
const MOST_OCTETS: usize = 0x7fff_f000;

fn octets(number: i64, expr: &Expr) -> Result<usize, Problem> {
    let octets = usize::try_from(number);
    let octets = octets.map_err(|_| Problem::syntax(expr.span.clone(), "a length is not negative"))?;
    Ok(octets.min(MOST_OCTETS))
}

/// A number, a constant, or several of them joined by `|`.
pub fn number(expr: &Expr) -> Result<i64, Problem> {
    match &expr.node {
        Node::Number(number) => Ok(*number),
        Node::Word(word) => constants::value(word)
            .ok_or_else(|| Problem::unsupported(expr.span.clone(), format!("the name {word} is not known"))),
        Node::Or(all) => all.iter().try_fold(0, |sum, part| Ok(sum | number(part)?)),
        Node::Apply(name, all) if matches!(name.as_str(), "htons" | "htonl") && all.len() == 1 => {
            number(&all[0])
        }
        _ => Err(Problem::syntax(expr.span.clone(), "a number is expected")),
    }
}

/// The only number of a list: `[4]`.
pub fn single(expr: &Expr) -> Result<i64, Problem> {
    match &expr.node {
        Node::List(all) if all.len() == 1 => number(&all[0]),
        _ => Err(Problem::syntax(expr.span.clone(), "a list with one number is expected")),
    }
}

pub fn list(expr: &Expr) -> Result<&[Expr], Problem> {
    match &expr.node {
        Node::List(all) => Ok(all),
        _ => Err(Problem::syntax(expr.span.clone(), "a list is expected")),
    }
}

pub fn fields(expr: &Expr) -> Result<&[Field], Problem> {
    match &expr.node {
        Node::Struct(fields) => Ok(fields),
        _ => Err(Problem::syntax(expr.span.clone(), "a struct is expected")),
    }
}

/// The member of this name.
pub fn field<'a>(fields: &'a [Field], name: &str) -> Option<&'a Expr> {
    fields.iter().find(|field| field.name == name).map(|field| &field.value)
}

/// The number of a member; 0 if it is not there.
pub fn field_number(fields: &[Field], name: &str) -> Result<i64, Problem> {
    field(fields, name).map_or(Ok(0), number)
}

/// The octets of all parts of a vector: `[{..., 10}, {..., 20}]`.
pub fn vector(expr: &Expr) -> Result<usize, Problem> {
    list(expr)?.iter().try_fold(0, |sum, part| {
        let fields = fields(part)?;
        let len = fields.last().ok_or_else(|| Problem::syntax(part.span.clone(), "a length is expected"))?;
        Ok(MOST_OCTETS.min(sum + octets(number(&len.value)?, &len.value)?))
    })
}

pub fn is_ellipsis(expr: &Expr) -> bool {
    matches!(expr.node, Node::Ellipsis)
}
