//! Parsing of DNS messages (RFC 1035 section 4), as far as a relay needs it. A message that cannot be parsed is relayed
//! unchanged.

use std::net::{IpAddr, Ipv4Addr};

use simple_dns::Packet;
use simple_dns::rdata::RData;

/// Length of the header in bytes.
const HEADER: usize = 12;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The name, without the trailing dot.
    pub name: String,
    /// The type, such as `A`.
    pub kind: String,
}

/// The identifier.
pub fn id(message: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*message.first_chunk()?))
}

/// Whether it is a response to the question with this identifier.
pub fn answers(message: &[u8], id: Option<u16>) -> bool {
    // A message without a header is not DNS: its answer is accepted unchecked.
    message.len() < HEADER || message[2] & 0x80 != 0 && self::id(message) == id
}

/// The response code.
pub fn rcode(message: &[u8]) -> u8 {
    message.get(3).map_or(0, |flags| flags & 0x0f)
}

/// Whether to try another server: this one failed, does not implement the query, or refused it (SERVFAIL, NOTIMP,
/// REFUSED).
pub fn is_refusal(message: &[u8]) -> bool {
    matches!(rcode(message), 2 | 4 | 5)
}

/// The name of a response code.
pub fn rcode_name(rcode: u8) -> String {
    match rcode {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        other => return format!("RCODE {other}"),
    }
    .to_owned()
}

/// The question of a message.
pub fn asked(message: &[u8]) -> Option<Asked> {
    let packet = Packet::parse(message).ok()?;
    let question = packet.questions.first()?;
    let kind = match question.qtype {
        simple_dns::QTYPE::TYPE(kind) => format!("{kind:?}"),
        other => format!("{other:?}"),
    };
    Some(Asked { name: question.qname.to_string(), kind })
}

/// A response with no records and this response code: header and question, as received.
pub fn without_records(question: &[u8], rcode: u8) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    let packet = Packet::parse(question).ok()?;
    let first = packet.questions.first()?;
    // The name as labels, the root, type and class.
    let name: usize = first.qname.to_string().len() + 2;
    let end = HEADER + name + 4;
    let mut answer = question.get(..end)?.to_vec();
    // QR and RA are set; opcode and RD are copied from the query.
    answer[2] = (answer[2] & 0x79) | 0x80;
    answer[3] = 0x80 | rcode;
    // One question, no records.
    answer[4..HEADER].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    Some(answer)
}

/// A response with this address of the name; without one if another type of record is asked for.
pub fn with_address(question: &[u8], address: Ipv4Addr) -> Option<Vec<u8>> {
    /// The TTL in seconds: short, as the address is valid during the run only.
    const TTL: u32 = 60;
    let mut answer = without_records(question, 0)?;
    if asked(question)?.kind != "A" {
        return Some(answer);
    }
    answer[7] = 1;
    // A pointer to the name of the question, type A, class IN.
    answer.extend([0xc0, 12, 0, 1, 0, 1]);
    answer.extend(TTL.to_be_bytes());
    answer.extend([0, 4]);
    answer.extend(address.octets());
    Some(answer)
}

/// The addresses in the answer, and the name in the question.
pub fn addresses(message: &[u8]) -> Option<(String, Vec<IpAddr>)> {
    let packet = Packet::parse(message).ok()?;
    let name = packet.questions.first()?.qname.to_string();
    let addresses = packet.answers.iter().filter_map(|record| match &record.rdata {
        RData::A(a) => Some(IpAddr::V4(a.address.into())),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.address.into())),
        _ => None,
    });
    Some((name, addresses.collect()))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A question for the addresses of `name`, which has labels of less than 64 bytes.
    pub fn question(id: u16, name: &str) -> Vec<u8> {
        let mut message = id.to_be_bytes().to_vec();
        message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend(label.as_bytes());
        }
        message.extend([0, 0, 1, 0, 1]);
        message
    }

    /// The answer to a question, with this code and these addresses.
    pub fn answer(question: &[u8], rcode: u8, addresses: &[[u8; 4]]) -> Vec<u8> {
        let mut message = question.to_vec();
        (message[2], message[3], message[7]) = (0x81, 0x80 | rcode, addresses.len() as u8);
        for address in addresses {
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            message.extend(address);
        }
        message
    }

    #[test]
    fn a_truncated_message_is_read_as_far_as_possible() {
        let question = question(7, "www.example.test");
        let expected = Asked { name: "www.example.test".to_owned(), kind: "A".to_owned() };
        assert_eq!((id(&question), asked(&question)), (Some(7), Some(expected)));
        let answer = answer(&question, 0, &[[192, 0, 2, 1], [192, 0, 2, 2]]);
        assert!(answers(&answer, Some(7)) && !answers(&answer, Some(8)) && !answers(&question, Some(7)));
        let (name, found) = addresses(&answer).unwrap();
        assert_eq!(name, "www.example.test");
        assert_eq!(found, ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().unwrap()));
        for length in 0..answer.len() {
            let _whatever =
                (asked(&answer[..length]), addresses(&answer[..length]), rcode(&answer[..length]));
        }
    }

    #[test]
    fn only_failures_of_the_server_move_on() {
        let question = question(7, "a.test");
        let refusals: Vec<u8> = (0..16).filter(|&code| is_refusal(&answer(&question, code, &[]))).collect();
        assert_eq!(refusals, [2, 4, 5]);
        assert_eq!(
            [0, 2, 3, 5, 9].map(rcode_name),
            ["NOERROR", "SERVFAIL", "NXDOMAIN", "REFUSED", "RCODE 9"]
        );
    }

    #[test]
    fn an_answer_without_records_has_the_question_and_the_code() {
        let asked = question(7, "a.example.test");
        let answer = without_records(&asked, 3).unwrap();
        assert_eq!((id(&answer), rcode(&answer), answers(&answer, Some(7))), (Some(7), 3, true));
        assert_eq!(super::asked(&answer).unwrap().name, "a.example.test");
        assert_eq!(answer.len(), asked.len());
        assert_eq!(without_records(b"no question", 3), None);
    }
}
