//! Typed access to the arguments of a call.

use super::constants;
use super::error::Problem;
use super::syntax::{Call, Expr, Field, Node, Span};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const AF_UNSPEC: i64 = 0;
/// The address family of IPv4.
pub const AF_INET: i64 = 2;
/// The address family of IPv6.
pub const AF_INET6: i64 = 10;

/// The arguments of a call.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    call: &'a Call,
}

impl<'a> Arguments<'a> {
    /// The arguments of this call.
    pub fn new(call: &'a Call) -> Self {
        Self { call }
    }

    /// The name of the call.
    pub fn name(&self) -> &'a str {
        &self.call.name
    }

    /// The number of arguments.
    pub fn count(&self) -> usize {
        self.call.arguments.len()
    }

    /// The position of the call in the script.
    pub fn span(&self) -> Span {
        match self.call.arguments.as_slice() {
            [first, .., last] => first.span.start..last.span.end,
            [only] => only.span.clone(),
            [] => self.call.result_span.clone(),
        }
    }

    /// The argument at this index.
    pub fn at(&self, index: usize) -> Result<&'a Expr, Problem> {
        self.call.arguments.get(index).ok_or_else(|| {
            let message = format!("{}() takes at most {} arguments", self.call.name, self.count());
            Problem::syntax(self.call.result_span.clone(), message)
        })
    }

    /// The argument as a number.
    pub fn number(&self, index: usize) -> Result<i64, Problem> {
        number(self.at(index)?)
    }

    /// The argument as a number of bytes.
    pub fn size(&self, index: usize) -> Result<usize, Problem> {
        let expr = self.at(index)?;
        let number = number(expr)?;
        bytes(number, expr)
    }
}

/// Linux's upper bound for the bytes moved by one call (`MAX_RW_COUNT`).
const MAX_OCTETS: usize = 0x7fff_f000;

fn bytes(number: i64, expr: &Expr) -> Result<usize, Problem> {
    let bytes = usize::try_from(number);
    let bytes = bytes.map_err(|_| Problem::syntax(expr.span.clone(), "a length must not be negative"))?;
    Ok(bytes.min(MAX_OCTETS))
}

/// A number, a constant, or several of them joined by `|`.
pub fn number(expr: &Expr) -> Result<i64, Problem> {
    match &expr.node {
        Node::Number(number) => Ok(*number),
        Node::Word(word) => constants::value(word)
            .ok_or_else(|| Problem::unsupported(expr.span.clone(), format!("unknown name {word}"))),
        Node::Or(all) => all.iter().try_fold(0, |sum, part| Ok(sum | number(part)?)),
        Node::Apply(name, all) if matches!(name.as_str(), "htons" | "htonl") && all.len() == 1 => {
            number(&all[0])
        }
        _ => Err(Problem::syntax(expr.span.clone(), "expected a number")),
    }
}

/// The only element of a list of one: `[4]`.
pub fn single(expr: &Expr) -> Result<i64, Problem> {
    match &expr.node {
        Node::List(all) if all.len() == 1 => number(&all[0]),
        _ => Err(Problem::syntax(expr.span.clone(), "expected a list with one number")),
    }
}

/// The elements of a list.
pub fn list(expr: &Expr) -> Result<&[Expr], Problem> {
    match &expr.node {
        Node::List(all) => Ok(all),
        _ => Err(Problem::syntax(expr.span.clone(), "expected a list")),
    }
}

/// The members of a struct.
pub fn fields(expr: &Expr) -> Result<&[Field], Problem> {
    match &expr.node {
        Node::Struct(fields) => Ok(fields),
        _ => Err(Problem::syntax(expr.span.clone(), "expected a struct")),
    }
}

/// The member with this name.
pub fn field<'a>(fields: &'a [Field], name: &str) -> Option<&'a Expr> {
    fields.iter().find(|field| field.name == name).map(|field| &field.value)
}

/// The number in a member; 0 if the member is missing.
pub fn field_number(fields: &[Field], name: &str) -> Result<i64, Problem> {
    field(fields, name).map_or(Ok(0), number)
}

/// The total number of bytes in an I/O vector: `[{..., 10}, {..., 20}]`.
pub fn vector(expr: &Expr) -> Result<usize, Problem> {
    list(expr)?.iter().try_fold(0, |sum, part| {
        let fields = fields(part)?;
        let len = fields.last().ok_or_else(|| Problem::syntax(part.span.clone(), "expected a length"))?;
        Ok(MAX_OCTETS.min(sum + bytes(number(&len.value)?, &len.value)?))
    })
}

/// The unspecified address: `{sa_family = AF_UNSPEC, ...}`.
pub fn is_unspecified(expr: &Expr) -> bool {
    let family = fields(expr).ok().and_then(|fields| field(fields, "sa_family"));
    family.is_some_and(|family| number(family) == Ok(AF_UNSPEC))
}

/// `{sa_family = AF_INET, sin_port = htons(8080), sin_addr = inet_addr("192.0.2.1")}`
pub fn socket_address(expr: &Expr) -> Option<SocketAddr> {
    let fields = fields(expr).ok()?;
    let member = |name: &str| fields.iter().find(|member| member.name == name).map(|member| &member.value);
    let port = u16::try_from(number(member("sin_port").or(member("sin6_port"))?).ok()?).ok()?;
    let Node::Apply(_, written) = &member("sin_addr").or(member("sin6_addr"))?.node else { return None };
    let [Expr { node: Node::Text(text), .. }] = written.as_slice() else { return None };
    let ip: IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
    let family = number(member("sa_family")?).ok()?;
    (family == if ip.is_ipv4() { AF_INET } else { AF_INET6 }).then_some(SocketAddr::new(ip, port))
}

/// An ellipsis, for which the runner chooses the value: `...`.
pub fn is_ellipsis(expr: &Expr) -> bool {
    matches!(expr.node, Node::Ellipsis)
}

/// `{onoff=1, linger=0}`
pub fn linger(expr: &Expr) -> Result<Option<Duration>, Problem> {
    let fields = fields(expr)?;
    if let Some(other) = fields.iter().find(|field| !matches!(field.name.as_str(), "onoff" | "linger")) {
        let message = "only the struct {onoff=.., linger=..} is supported as a socket option value";
        return Err(Problem::unsupported(other.value.span.clone(), message));
    }
    let on = field_number(fields, "onoff")? != 0;
    let seconds = field_number(fields, "linger")?.unsigned_abs();
    Ok(on.then(|| Duration::from_secs(seconds)))
}

/// The `msghdr` of `sendmsg` and `recvmsg`.
#[derive(Clone, Debug)]
pub struct Message {
    /// The total number of bytes in the I/O vector.
    pub len: usize,
    /// Whether `msg_name` gives an address.
    pub name: bool,
    /// `msg_flags`
    pub flags: i64,
    /// `msg_control`
    pub control: Vec<Control>,
}

/// A control message: `{cmsg_level=SOL_TCP, cmsg_type=TCP_CM_INQ, cmsg_data=9000}`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// `cmsg_level`
    pub level: i64,
    /// `cmsg_type`
    pub kind: i64,
    /// The numbers in its data by name; a single number has an empty name.
    pub data: Vec<(String, i64)>,
}

impl Control {
    fn read(expr: &Expr) -> Result<Self, Problem> {
        let fields = fields(expr)?;
        let data = field(fields, "cmsg_data").map(|data| match &data.node {
            Node::Struct(members) => {
                members.iter().map(|member| Ok((member.name.clone(), number(&member.value)?))).collect()
            }
            _ => Ok(vec![(String::new(), number(data)?)]),
        });
        Ok(Self {
            level: field_number(fields, "cmsg_level")?,
            kind: field_number(fields, "cmsg_type")?,
            data: data.transpose()?.unwrap_or_default(),
        })
    }
}

impl Message {
    /// `{msg_name(...)=..., msg_iov(1)=[{..., 10}], msg_flags=0}`
    pub fn read(expr: &Expr) -> Result<Self, Problem> {
        let fields = fields(expr)?;
        let control = field(fields, "msg_control").map_or(Ok(&[][..]), list)?;
        let iov = field(fields, "msg_iov");
        Ok(Self {
            len: iov.map_or(Ok(0), vector)?,
            name: field(fields, "msg_name").is_some_and(|name| number(name) != Ok(0)),
            flags: field_number(fields, "msg_flags")?,
            control: control.iter().map(Control::read).collect::<Result<_, _>>()?,
        })
    }
}
