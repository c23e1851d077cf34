//! The notation of packets and calls in a script.

use super::constants;
use super::syntax::{Body, Call, Ecn, Expr, IcmpMessage, IpFields, Node, Packet, Quoted, Segment, TcpOption};
use lastack_wire::tcp::TcpFlags;
use std::fmt;

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip.fmt(f)?;
        match &self.body {
            Body::Tcp(segment) => segment.fmt(f),
            Body::Udp(udp) => write!(f, "udp ({})", udp.len),
            Body::Icmp(message) => message.fmt(f),
        }
    }
}

impl fmt::Display for IpFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ecn = self.ecn.map(|ecn| match ecn {
            Ecn::None => "noecn".to_owned(),
            Ecn::Ect0 => "ect0".to_owned(),
            Ecn::Ect1 => "ect1".to_owned(),
            Ecn::Ce => "ce".to_owned(),
            Ecn::Ect => "ect01".to_owned(),
        });
        let tos = self.tos.map(|tos| format!("tos {tos:#x}"));
        let ttl = self.ttl.map(|ttl| format!("ttl {ttl}"));
        let label = self.flow_label.map(|label| format!("flowlabel {label:#x}"));
        let all: Vec<String> = [ecn, tos, ttl, label].into_iter().flatten().collect();
        if all.is_empty() { Ok(()) } else { write!(f, "({}) ", all.join(", ")) }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", flags(self.flags, self.ace))?;
        write!(f, "{}:{}({})", self.seq, self.seq.wrapping_add(self.len), self.len)?;
        if let Some(ack) = self.ack {
            write!(f, " ack {ack}")?;
        }
        if let Some(window) = self.window {
            write!(f, " win {window}")?;
        }
        if let Some(urgent) = self.urgent {
            write!(f, " urg {urgent}")?;
        }
        match &self.options {
            None => f.write_str(" <...>"),
            Some(options) if options.is_empty() => Ok(()),
            Some(options) => {
                let options: Vec<String> = options.iter().map(TcpOption::to_string).collect();
                write!(f, " <{}>", options.join(","))
            }
        }
    }
}

fn flags(flags: TcpFlags, ace: Option<u8>) -> String {
    const LETTERS: [(TcpFlags, char); 8] = [
        (TcpFlags::FIN, 'F'),
        (TcpFlags::SYN, 'S'),
        (TcpFlags::RST, 'R'),
        (TcpFlags::PSH, 'P'),
        (TcpFlags::URG, 'U'),
        (TcpFlags::ECE, 'E'),
        (TcpFlags::CWR, 'W'),
        (TcpFlags::AE, 'A'),
    ];
    let set = LETTERS.iter().filter(|(flag, _)| flags.contains(*flag));
    let mut text: String = set.map(|(_, letter)| *letter).collect();
    if flags.contains(TcpFlags::ACK) {
        text.push('.');
    }
    if let Some(ace) = ace {
        text.push_str(&ace.to_string());
    }
    if text.is_empty() { "-".to_owned() } else { text }
}

impl fmt::Display for TcpOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        match self {
            Self::Nop => f.write_str("nop"),
            Self::End => f.write_str("eol"),
            Self::Mss(mss) => write!(f, "mss {mss}"),
            Self::WindowScale(shift) => write!(f, "wscale {shift}"),
            Self::SackPermitted => f.write_str("sackOK"),
            Self::Sack(blocks) => {
                f.write_str("sack")?;
                blocks.iter().try_for_each(|(left, right)| write!(f, " {left}:{right}"))
            }
            Self::Timestamps { val, ecr } => write!(f, "TS val {val} ecr {ecr}"),
            Self::Md5(bytes) => write!(f, "md5 {}", hex(bytes)),
            Self::FastOpen(bytes) => write!(f, "FO {}", hex(bytes)),
            Self::ExperimentalFastOpen(bytes) => write!(f, "FOEXP {}", hex(bytes)),
            Self::AccurateEcn { kind, fields } => {
                let names = if *kind == 172 { ["e0b", "ceb", "e1b"] } else { ["e1b", "ceb", "e0b"] };
                f.write_str("ECN")?;
                names.iter().zip(fields).try_for_each(|(name, field)| write!(f, " {name} {field}"))
            }
            Self::Other { kind, data } => write!(f, "option {kind} {}", hex(data)),
        }
    }
}

impl fmt::Display for IcmpMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "icmp {}", self.kind)?;
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        match self.quoted {
            None => Ok(()),
            Some(Quoted::Tcp { seq, len }) => write!(f, " [{seq}:{}({len})]", seq.wrapping_add(len)),
            Some(Quoted::Udp { len }) => write!(f, " [udp ({len})]"),
            Some(Quoted::Raw { len }) => write!(f, " [raw ({len})]"),
        }
    }
}

/// The call without its result.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arguments: Vec<String> = self.arguments.iter().map(Expr::to_string).collect();
        write!(f, "{}({})", self.name, arguments.join(", "))
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |all: &[Self], by: &str| all.iter().map(Self::to_string).collect::<Vec<_>>().join(by);
        match &self.node {
            Node::Ellipsis => f.write_str("..."),
            Node::Number(number) => number.fmt(f),
            Node::Word(word) => f.write_str(word),
            Node::Text(text) => write!(f, "{:?}", String::from_utf8_lossy(text)),
            Node::TextEllipsis => f.write_str("\"\"..."),
            Node::Or(all) => f.write_str(&join(all, "|")),
            Node::List(all) => write!(f, "[{}]", join(all, ", ")),
            Node::Apply(name, all) => write!(f, "{name}({})", join(all, ", ")),
            Node::Assign(name, value) => write!(f, "{name}={value}"),
            Node::Struct(fields) => {
                let fields = fields.iter().map(|field| match field.name.as_str() {
                    "" => field.value.to_string(),
                    name => format!("{name}={}", field.value),
                });
                write!(f, "{{{}}}", fields.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// `-1 EPIPE`, or the number alone.
pub fn result(value: i64, errno: Option<i64>) -> String {
    match errno {
        None => value.to_string(),
        Some(number) => match constants::errno_name(number) {
            Some(name) => format!("{value} {name}"),
            None => format!("{value} errno {number}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use crate::parser::parse;
    use crate::syntax::Action;
    use std::collections::HashMap;

    #[test]
    fn written_notation_can_be_parsed() {
        for text in [
            "S 0:0(0) win 20000 <mss 1000,sackOK,TS val 1 ecr 2,nop,wscale 7>",
            "FP. 1:51(50) ack 1 win 20000 urg 3",
            "(ect0) .5 1:1(0) ack 1 win 0",
            "P. 1:1(0) ack 1 win 0 <nop,nop,sack 1:2 3:4>",
            "udp (100)",
            "icmp unreachable host_unreachable mtu 5 [7:8(1)]",
        ] {
            let script = parse(&format!("0 < {text}"), &HashMap::new()).unwrap();
            let Action::Inbound(packet) = &script.events[0].action else { panic!("it is a packet") };
            assert_eq!(packet.to_string(), text);
        }
        let text = "poll([{fd=3, events=POLLIN|POLLOUT}], 1, 0)";
        let script = parse(&format!("0 {text} = 0"), &HashMap::new()).unwrap();
        let Action::Call(call) = &script.events[0].action else { panic!("it is a call") };
        assert_eq!(call.to_string(), text);
    }
}
