//! Names of connections that do not depend on the file.

use crate::packet::Endpoint;
use crate::track::Conn;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lastack_wire::TcpFlags;

/// Community ID, version 1, seed 0, of a flow.
#[must_use]
pub fn community_id(a: Endpoint, b: Endpoint, protocol: u8) -> String {
    let bytes = |end: Endpoint| match end.addr.ip() {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let (first, second) = if (bytes(a), a.port) <= (bytes(b), b.port) { (a, b) } else { (b, a) };
    let mut hash = sha1_smol::Sha1::new();
    hash.update(&[0, 0]);
    hash.update(&bytes(first));
    hash.update(&bytes(second));
    hash.update(&[protocol, 0]);
    hash.update(&first.port.to_be_bytes());
    hash.update(&second.port.to_be_bytes());
    format!("1:{}", STANDARD.encode(hash.digest().bytes()))
}

/// The identifier of a connection: Community ID, `#`, and the client's initial sequence number in hexadecimal; `#s` and
/// the server's without the client's; `#?` and an ordinal without both.
#[must_use]
pub fn connection_id(conn: &Conn) -> String {
    let id = community_id(conn.sides[0].at, conn.sides[1].at, 6);
    let isn = |ack: bool| {
        let syn = conn.sides.iter().filter_map(|side| side.syn).find(|syn| syn.has(TcpFlags::ACK) == ack);
        syn.map(|syn| syn.seq)
    };
    match (isn(false), isn(true)) {
        (Some(client), _) => format!("{id}#{client:08x}"),
        (None, Some(server)) => format!("{id}#s{server:08x}"),
        (None, None) => format!("{id}#?{}", conn.ordinal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    /// The example of the Community ID specification.
    #[test]
    fn it_is_the_published_example() {
        let end = |ip: &str, port| Endpoint { addr: ip.parse::<IpAddr>().unwrap().into(), port };
        let (a, b) = (end("128.232.110.120", 34855), end("66.35.250.204", 80));
        assert_eq!(community_id(a, b, 6), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
        assert_eq!(community_id(b, a, 6), community_id(a, b, 6));
    }
}
