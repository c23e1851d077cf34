//! Encoding of rtnetlink messages: a header, a fixed body, attributes. Numbers are in host byte order.

use std::net::IpAddr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct nlmsghdr`.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(super) struct Header {
    pub(super) len: u32,
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) port: u32,
}

/// `struct ifinfomsg`: the body of RTM_NEWLINK, RTM_GETLINK and RTM_DELLINK.
#[derive(Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(super) struct LinkBody {
    pub(super) family: u8,
    pub(super) pad: u8,
    pub(super) kind: u16,
    pub(super) index: i32,
    pub(super) flags: u32,
    pub(super) change: u32,
}

/// `struct ifaddrmsg`: the body of RTM_NEWADDR.
#[derive(Immutable, IntoBytes)]
#[repr(C)]
pub(super) struct AddressBody {
    pub(super) family: u8,
    pub(super) prefix: u8,
    pub(super) flags: u8,
    pub(super) scope: u8,
    pub(super) index: u32,
}

/// `struct rtmsg`: the body of RTM_NEWROUTE and RTM_GETROUTE.
#[derive(Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(super) struct RouteBody {
    pub(super) family: u8,
    pub(super) destination_prefix: u8,
    pub(super) source_prefix: u8,
    pub(super) tos: u8,
    pub(super) table: u8,
    pub(super) protocol: u8,
    pub(super) scope: u8,
    pub(super) kind: u8,
    pub(super) flags: u32,
}

/// A request under construction.
pub(super) struct Message(Vec<u8>);

impl Message {
    /// A request of this type that the kernel acknowledges.
    pub(super) fn new(kind: u16, flags: i32, body: &(impl IntoBytes + Immutable)) -> Self {
        let flags = flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK;
        let header = Header { len: 0, kind, flags: flags as u16, sequence: 0, port: 0 };
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(body.as_bytes());
        Self(bytes)
    }

    /// Appends an attribute, padded to four bytes; its length does not count the padding.
    pub(super) fn attribute(&mut self, kind: u16, data: &[u8]) -> &mut Self {
        self.0.extend_from_slice(&((data.len() + 4) as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Appends a NUL-terminated attribute, for names.
    pub(super) fn name(&mut self, kind: u16, name: &str) -> &mut Self {
        let mut data = name.as_bytes().to_vec();
        data.push(0);
        self.attribute(kind, &data)
    }

    /// Appends a structure without attribute header (inside VETH_INFO_PEER).
    pub(super) fn body(&mut self, body: &(impl IntoBytes + Immutable)) -> &mut Self {
        self.0.extend_from_slice(body.as_bytes());
        self
    }

    /// Appends a nested attribute, whose content `fill` appends.
    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let at = self.0.len();
        self.attribute(kind, &[]);
        fill(self);
        let len = (self.0.len() - at) as u16;
        self.0[at..at + 2].copy_from_slice(&len.to_ne_bytes());
        self
    }

    /// The finished request.
    pub(super) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = self.0.len() as u32;
        self.0[0..4].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

/// The kernel's answer: `None` if `reply` is not the acknowledgement of request `sequence`, else 0 or the errno.
pub(super) fn acknowledgement(reply: &[u8], sequence: u32) -> Option<i32> {
    let (header, rest) = Header::read_from_prefix(reply).ok()?;
    if header.kind != libc::NLMSG_ERROR as u16 || header.sequence != sequence {
        return None;
    }
    let code = rest.first_chunk::<4>()?;
    Some(-i32::from_ne_bytes(*code))
}

/// The type of the route (RTN_*), if `reply` is the answer to the RTM_GETROUTE with this sequence number.
pub(super) fn route_type(reply: &[u8], sequence: u32) -> Option<u8> {
    answer::<RouteBody>(reply, libc::RTM_NEWROUTE, sequence).map(|body| body.kind)
}

/// The flags of the interface (IFF_*), if `reply` is the answer to the RTM_GETLINK with this sequence number.
pub(super) fn link_flags(reply: &[u8], sequence: u32) -> Option<u32> {
    answer::<LinkBody>(reply, libc::RTM_NEWLINK, sequence).map(|body| body.flags)
}

/// Copies: the reply may lie at any address.
fn answer<T: FromBytes>(reply: &[u8], kind: u16, sequence: u32) -> Option<T> {
    let (header, rest) = Header::read_from_prefix(reply).ok()?;
    if header.kind != kind || header.sequence != sequence {
        return None;
    }
    Some(T::read_from_prefix(rest).ok()?.0)
}

/// AF_INET or AF_INET6.
pub(super) fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

/// The address in network byte order.
pub(super) fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (kind, data) of each attribute.
    fn attributes(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            let len = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
            let kind = u16::from_ne_bytes([bytes[2], bytes[3]]);
            all.push((kind, bytes[4..len].to_vec()));
            bytes = &bytes[len.next_multiple_of(4).min(bytes.len())..];
        }
        all
    }

    #[test]
    fn a_request_states_its_length_kind_flags_and_sequence() {
        let body = LinkBody { index: 7, flags: 1, change: 1, ..LinkBody::default() };
        let bytes = Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE, &body).finish(0x0102_0304);
        assert_eq!(bytes.len(), 32);
        assert_eq!(bytes[0..4], 32u32.to_ne_bytes());
        assert_eq!(bytes[4..6], 16u16.to_ne_bytes(), "RTM_NEWLINK");
        assert_eq!(bytes[6..8], 0x405u16.to_ne_bytes(), "CREATE|REQUEST|ACK");
        assert_eq!(bytes[8..12], 0x0102_0304u32.to_ne_bytes());
        assert_eq!(bytes[20..24], 7i32.to_ne_bytes());
        assert_eq!(bytes[24..28], 1u32.to_ne_bytes());
    }

    #[test]
    fn attributes_are_padded_and_nests_count_their_content() {
        let mut message = Message::new(libc::RTM_NEWLINK, 0, &LinkBody::default());
        message.name(3, "tun0").nest(18, |message| {
            message.attribute(1, b"veth").attribute(2, b"abcde");
        });
        let bytes = message.finish(1);
        let top = attributes(&bytes[32..]);
        assert_eq!(top[0], (3, b"tun0\0".to_vec()));
        assert_eq!(top[1].0, 18);
        assert_eq!(attributes(&top[1].1), [(1, b"veth".to_vec()), (2, b"abcde".to_vec())]);
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn an_acknowledgement_is_the_error_message_of_that_request() {
        let reply = |kind: i32, sequence: u32, code: i32| {
            let header = Header { len: 36, kind: kind as u16, flags: 0, sequence, port: 0 };
            let mut bytes = header.as_bytes().to_vec();
            bytes.extend_from_slice(&code.to_ne_bytes());
            bytes.extend_from_slice(&[0; 16]);
            bytes
        };
        assert_eq!(acknowledgement(&reply(libc::NLMSG_ERROR, 5, 0), 5), Some(0));
        assert_eq!(acknowledgement(&reply(libc::NLMSG_ERROR, 5, -libc::EPERM), 5), Some(libc::EPERM));
        assert_eq!(acknowledgement(&reply(libc::NLMSG_ERROR, 4, 0), 5), None);
        assert_eq!(acknowledgement(&reply(libc::NLMSG_DONE, 5, 0), 5), None);
        assert_eq!(acknowledgement(&[0; 18], 0), None);
        // Wherever it lies.
        for offset in 0..8 {
            let mut bytes = vec![0; offset];
            bytes.extend(reply(libc::NLMSG_ERROR, 5, 0));
            assert_eq!(acknowledgement(&bytes[offset..], 5), Some(0), "{offset}");
        }
    }

    #[test]
    fn an_answer_is_of_its_kind_and_for_its_request() {
        let body = RouteBody { kind: libc::RTN_LOCAL, ..RouteBody::default() };
        let route = Message::new(libc::RTM_NEWROUTE, 0, &body).finish(9);
        assert_eq!(route_type(&route, 9), Some(libc::RTN_LOCAL));
        assert_eq!(route_type(&route, 8), None);
        assert_eq!(route_type(&route[..20], 9), None);
        assert_eq!(link_flags(&route, 9), None);
        let body = LinkBody { flags: 0x41, ..LinkBody::default() };
        assert_eq!(link_flags(&Message::new(libc::RTM_NEWLINK, 0, &body).finish(9), 9), Some(0x41));
    }

    #[test]
    fn addresses_are_in_network_order() {
        assert_eq!(bytes("10.0.2.100".parse().unwrap()), [10, 0, 2, 100]);
        assert_eq!(bytes("fd00::3".parse().unwrap())[15], 3);
        assert_eq!(family("10.0.2.100".parse().unwrap()), 2);
        assert_eq!(family("fd00::3".parse().unwrap()), 10);
    }
}
