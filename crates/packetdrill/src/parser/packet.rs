//! Packets: `< S 0:0(0) win 4000 <mss 1000>`.

use super::Parser;
use crate::error::Problem;
use crate::lexer::{Lexeme, Token};
use crate::syntax::{Body, Ecn, IcmpMessage, IpFields, Packet, Quoted, Segment, TcpOption, Udp};
use lastack_wire::tcp::TcpFlags;

/// The max length of options in a TCP header.
const OPTIONS: usize = 40;

impl Parser {
    pub fn packet(&mut self, outbound: bool) -> Result<Packet, Problem> {
        self.refuse_encapsulation()?;
        let ip = self.ip_fields()?;
        self.refuse_encapsulation()?;
        let body = if self.eat_word("udp") {
            let ports = self.ports()?;
            self.expect('(')?;
            let len = self.unsigned::<u16>("the length of a datagram")?.into();
            self.expect(')')?;
            Body::Udp(Udp { ports, len })
        } else if self.eat_word("icmp") {
            Body::Icmp(self.icmp()?)
        } else {
            Body::Tcp(self.segment(outbound)?)
        };
        Ok(Packet { ip, body })
    }

    fn refuse_encapsulation(&self) -> Result<(), Problem> {
        match self.token() {
            Token::Word(word)
                if matches!(word.as_str(), "ipv4" | "ipv6" | "gre" | "mpls" | "encap" | "psp") =>
            {
                let message = format!("encapsulated packets ({word}) are not supported");
                Err(Problem::unsupported(self.span(), message))
            }
            _ => Ok(()),
        }
    }

    /// `(ecn)`, `[tos 0x1, flowlabel 0x2]`
    fn ip_fields(&mut self) -> Result<IpFields, Problem> {
        let closing = match self.token() {
            Token::Sign('(') => ')',
            Token::Sign('[') => ']',
            _ => return Ok(IpFields::default()),
        };
        self.advance();
        let mut fields = IpFields::default();
        loop {
            let span = self.span();
            match self.word()?.as_str() {
                "noecn" => fields.ecn = Some(Ecn::None),
                "ect0" => fields.ecn = Some(Ecn::Ect0),
                "ect1" => fields.ecn = Some(Ecn::Ect1),
                "ect01" => fields.ecn = Some(Ecn::Ect),
                "ce" => fields.ecn = Some(Ecn::Ce),
                "tos" => fields.tos = Some(self.unsigned("the TOS byte")?),
                "ttl" => fields.ttl = Some(self.unsigned("the TTL")?),
                "flowlabel" => fields.flow_label = Some(self.unsigned("the flow label")?),
                other => {
                    return Err(Problem::syntax(span, format!("{other} is not a field of the IP header")));
                }
            }
            if !self.eat(',') {
                break;
            }
        }
        self.expect(closing)?;
        Ok(fields)
    }

    fn ports(&mut self) -> Result<Option<(u16, u16)>, Problem> {
        if !matches!((self.token(), self.after(1)), (Token::Number(_), Token::Sign('>'))) {
            return Ok(None);
        }
        let from = self.unsigned("a port")?;
        self.expect('>')?;
        Ok(Some((from, self.unsigned("a port")?)))
    }

    fn segment(&mut self, outbound: bool) -> Result<Segment, Problem> {
        let ports = self.ports()?;
        let (flags, ace) = self.flags()?;
        let (seq, len) = self.numbers()?;
        let mut segment =
            Segment { ports, flags, ace, seq, len, options: Some(Vec::new()), ..Segment::default() };
        if self.eat_word("ack") {
            segment.ack = Some(self.unsigned("an acknowledgment number")?);
        }
        if self.eat_word("win") {
            segment.window = Some(self.unsigned("the window field")?);
        }
        if self.eat_word("urg") {
            segment.urgent = Some(self.unsigned("the urgent pointer")?);
        }
        if segment.window.is_none() && !outbound {
            return Err(self.wanted("the window (`win N`) of an inbound packet"));
        }
        if self.eat('<') {
            segment.options = self.options(outbound)?;
        }
        Ok(segment)
    }

    /// `S`, `S.`, `FP.`, `SEW`, `.5`, `-`
    fn flags(&mut self) -> Result<(TcpFlags, Option<u8>), Problem> {
        let start = self.span();
        let (mut flags, mut ace, mut end) = (TcpFlags::empty(), None, None);
        loop {
            let lexeme = self.lexemes[self.at].clone();
            if end.is_some_and(|end| end != lexeme.span.start) {
                break;
            }
            match &lexeme.token {
                Token::Word(letters) => flags |= letters_of(letters, &lexeme)?,
                Token::Sign('.') => flags |= TcpFlags::ACK,
                Token::Sign('-') => {}
                Token::Float(number) if *number < 0.8 => {
                    flags |= TcpFlags::ACK;
                    ace = Some((number * 10.0).round() as u8);
                }
                _ => break,
            }
            end = Some(lexeme.span.end);
            self.advance();
        }
        if end.is_none() {
            return Err(self.wanted("the flags of a segment"));
        }
        if ace.is_some() && flags.intersects(TcpFlags::ECE | TcpFlags::CWR | TcpFlags::AE) {
            let message = "use either the digit or the letters E, W and A";
            return Err(Problem::syntax(self.since(start.start), message));
        }
        Ok((flags, ace))
    }

    /// `SEQ:END(LEN)`
    fn numbers(&mut self) -> Result<(u32, u32), Problem> {
        let start = self.span().start;
        let seq: u32 = self.unsigned("a sequence number")?;
        self.expect(':')?;
        let end: u32 = self.unsigned("a sequence number")?;
        self.expect('(')?;
        let len: u32 = self.unsigned::<u16>("the length of a packet")?.into();
        self.expect(')')?;
        if seq.wrapping_add(len) != end {
            let message = format!("{seq} plus {len} bytes is {}, not {end}", seq.wrapping_add(len));
            return Err(Problem::syntax(self.since(start), message));
        }
        Ok((seq, len))
    }

    /// The options, after the opening `<`. `None`: any.
    fn options(&mut self, outbound: bool) -> Result<Option<Vec<TcpOption>>, Problem> {
        let start = self.span();
        if *self.token() == Token::Ellipsis {
            self.advance();
            self.expect('>')?;
            if !outbound {
                let message = "an inbound packet needs its options written out";
                return Err(Problem::syntax(start, message));
            }
            return Ok(None);
        }
        let mut options = Vec::new();
        loop {
            options.push(self.option()?);
            if !self.eat(',') {
                break;
            }
        }
        self.expect('>')?;
        let len: usize = options.iter().map(TcpOption::len).sum();
        if len > OPTIONS || !len.is_multiple_of(4) {
            let message =
                format!("these options take {len} bytes (must be a multiple of 4, at most {OPTIONS})");
            return Err(Problem::syntax(self.since(start.start), message));
        }
        Ok(Some(options))
    }

    fn option(&mut self) -> Result<TcpOption, Problem> {
        let span = self.span();
        Ok(match self.word()?.as_str() {
            "nop" => TcpOption::Nop,
            "eol" => TcpOption::End,
            "mss" => TcpOption::Mss(self.unsigned("an MSS")?),
            "wscale" => TcpOption::WindowScale(self.unsigned("a window scale")?),
            "sackOK" => TcpOption::SackPermitted,
            "sack" => TcpOption::Sack(self.sack_blocks()?),
            "TS" => self.timestamps()?,
            "FO" => TcpOption::FastOpen(self.bytes()?),
            "FOEXP" => TcpOption::ExperimentalFastOpen(self.bytes()?),
            "md5" => TcpOption::Md5(self.bytes()?),
            "ECN" => self.counters()?,
            other => return Err(Problem::syntax(span, format!("unknown TCP option {other}"))),
        })
    }

    fn sack_blocks(&mut self) -> Result<Vec<(u32, u32)>, Problem> {
        let mut blocks = Vec::new();
        while let Token::Number(_) = self.token() {
            let left = self.unsigned("a sequence number")?;
            self.expect(':')?;
            blocks.push((left, self.unsigned("a sequence number")?));
        }
        if blocks.is_empty() { Err(self.wanted("a block LEFT:RIGHT")) } else { Ok(blocks) }
    }

    fn timestamps(&mut self) -> Result<TcpOption, Problem> {
        if !self.eat_word("val") {
            return Err(self.wanted("`val`"));
        }
        let val = self.unsigned("a timestamp")?;
        if !self.eat_word("ecr") {
            return Err(self.wanted("`ecr`"));
        }
        Ok(TcpOption::Timestamps { val, ecr: self.unsigned("a timestamp")? })
    }

    /// Hexadecimal digits, which may look like a word or a number; they may be missing.
    fn bytes(&mut self) -> Result<Vec<u8>, Problem> {
        let span = self.span();
        let digits = match self.token().clone() {
            Token::Word(digits) => digits,
            Token::Number(number) => number.to_string(),
            Token::Text(digits) => String::from_utf8_lossy(&digits).into_owned(),
            _ => return Ok(Vec::new()),
        };
        self.advance();
        // The leading zeros of an all-decimal number count.
        let digits = if digits.len() < span.len() && digits.bytes().all(|b| b.is_ascii_digit()) {
            format!("{digits:0>width$}", width = span.len())
        } else {
            digits
        };
        let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
        let bytes = (0..digits.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>();
        bytes.ok_or_else(|| Problem::syntax(span, "expected an even number of hexadecimal digits"))
    }

    /// `ECN e0b N ceb N e1b N`
    fn counters(&mut self) -> Result<TcpOption, Problem> {
        let (mut kind, mut fields) = (0, Vec::new());
        loop {
            let first = fields.is_empty();
            if self.eat_word("e0b") || self.eat_word("e1b") || self.eat_word("ceb") {
                if let (true, Token::Word(name)) = (first, &self.lexemes[self.at - 1].token) {
                    kind = if name == "e0b" { 172 } else { 174 };
                }
                fields.push(self.unsigned("a counter")?);
            } else if first {
                return Err(self.wanted("`e0b` or `e1b`"));
            } else {
                return Ok(TcpOption::AccurateEcn { kind, fields });
            }
        }
    }

    /// `unreachable host_unreachable [0:0(0)]`
    fn icmp(&mut self) -> Result<IcmpMessage, Problem> {
        let mut message = IcmpMessage { kind: self.word()?, ..IcmpMessage::default() };
        loop {
            match self.token().clone() {
                Token::Word(word) if word == "mtu" => {
                    self.advance();
                    message.mtu = Some(self.unsigned("an MTU")?);
                }
                Token::Word(word) if word == "id" => {
                    self.advance();
                    message.ident = Some(self.unsigned("an identifier")?);
                }
                Token::Word(word) if message.code.is_none() => {
                    self.advance();
                    message.code = Some(word);
                }
                Token::Sign('[') => {
                    self.advance();
                    message.quoted = Some(self.quoted()?);
                    self.expect(']')?;
                }
                _ => return Ok(message),
            }
        }
    }

    fn quoted(&mut self) -> Result<Quoted, Problem> {
        let udp = self.eat_word("udp");
        if udp || self.eat_word("raw") {
            self.expect('(')?;
            let len = self.unsigned::<u16>("a length")?.into();
            self.expect(')')?;
            return Ok(if udp { Quoted::Udp { len } } else { Quoted::Raw { len } });
        }
        let (seq, len) = self.numbers()?;
        Ok(Quoted::Tcp { seq, len })
    }
}

fn letters_of(letters: &str, lexeme: &Lexeme) -> Result<TcpFlags, Problem> {
    let flag = |letter| match letter {
        'F' => Some(TcpFlags::FIN),
        'S' => Some(TcpFlags::SYN),
        'R' => Some(TcpFlags::RST),
        'P' => Some(TcpFlags::PSH),
        'U' => Some(TcpFlags::URG),
        'E' => Some(TcpFlags::ECE),
        'W' => Some(TcpFlags::CWR),
        'A' => Some(TcpFlags::AE),
        _ => None,
    };
    let mut flags = TcpFlags::empty();
    for letter in letters.chars() {
        flags |= flag(letter).ok_or_else(|| {
            let message = format!("`{letter}` is not a TCP flag (expected F S R P U E W A, or . for ACK)");
            Problem::syntax(lexeme.span.clone(), message)
        })?;
    }
    Ok(flags)
}

impl TcpOption {
    /// The length of the option in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Nop | Self::End => 1,
            Self::Mss(_) => 4,
            Self::WindowScale(_) => 3,
            Self::SackPermitted => 2,
            Self::Sack(blocks) => 2 + 8 * blocks.len(),
            Self::Timestamps { .. } => 10,
            Self::Md5(bytes) | Self::FastOpen(bytes) => 2 + bytes.len(),
            Self::ExperimentalFastOpen(bytes) => 4 + bytes.len(),
            Self::AccurateEcn { fields, .. } => 2 + 3 * fields.len(),
            Self::Other { data, .. } => 2 + data.len(),
        }
    }
}
