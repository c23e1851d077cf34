//! SOCKS5 (RFC 1928, RFC 1929).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Destination, Proxy, Refused};

const VERSION: u8 = 5;
/// Methods of authentication.
const NONE: u8 = 0;
const PASSWORD: u8 = 2;
const NOT_ACCEPTABLE: u8 = 0xff;
/// The version of the exchange of user and password.
const PASSWORD_VERSION: u8 = 1;
/// Commands.
const CONNECT: u8 = 1;
const ASSOCIATE: u8 = 3;
/// Types of addresses.
const V4: u8 = 1;
const NAME: u8 = 3;
const V6: u8 = 4;

/// How long a proxy may take to agree on a method, which needs no other host.
const GREETING: Duration = Duration::from_secs(5);

/// Agrees on a method, and authenticates.
pub async fn greet(proxy: &Proxy, stream: &mut TcpStream) -> Result<(), Refused> {
    let silent = |_| proxy.refused(libc::EHOSTUNREACH, "does not answer: is it a SOCKS5 proxy?");
    timeout(GREETING, agree(proxy, stream)).await.map_err(silent)?
}

async fn agree(proxy: &Proxy, stream: &mut TcpStream) -> Result<(), Refused> {
    let lost = |error: io::Error| proxy.lost(&error);
    let methods: &[u8] = if proxy.credentials.is_some() { &[NONE, PASSWORD] } else { &[NONE] };
    let mut hello = vec![VERSION, methods.len() as u8];
    hello.extend(methods);
    stream.write_all(&hello).await.map_err(lost)?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await.map_err(lost)?;
    match (chosen, &proxy.credentials) {
        ([VERSION, NONE], _) => Ok(()),
        ([VERSION, PASSWORD], Some(credentials)) => {
            let mut login = vec![PASSWORD_VERSION, credentials.user.len() as u8];
            login.extend(&credentials.user);
            login.push(credentials.password.len() as u8);
            login.extend(&credentials.password);
            stream.write_all(&login).await.map_err(lost)?;
            let mut status = [0; 2];
            stream.read_exact(&mut status).await.map_err(lost)?;
            if status[1] == 0 {
                Ok(())
            } else {
                Err(proxy.refused(libc::EACCES, "refused the user and password"))
            }
        }
        ([VERSION, NOT_ACCEPTABLE], None) => Err(proxy
            .refused(libc::EACCES, "requires a user and password: --via socks5://USER:PASSWORD@HOST:PORT")),
        ([VERSION, _], _) => {
            Err(proxy
                .refused(libc::EACCES, "requires an authentication method that lastack does not support"))
        }
        _ => Err(proxy.refused(libc::EHOSTUNREACH, "is not a SOCKS5 proxy")),
    }
}

/// Asks for a connection.
pub async fn connect(proxy: &Proxy, stream: &mut TcpStream, to: &Destination) -> Result<(), Refused> {
    request(proxy, stream, CONNECT, to).await.map(|_bound| ())
}

/// Asks for a relay of datagrams; returns its address.
pub async fn associate(proxy: &Proxy, stream: &mut TcpStream) -> Result<SocketAddr, Refused> {
    // Where our datagrams come from is not known yet.
    let any = Destination::Address((Ipv4Addr::UNSPECIFIED, 0).into());
    let relay = request(proxy, stream, ASSOCIATE, &any).await?;
    let proxy_itself = stream.peer_addr().map_err(|error| proxy.lost(&error))?.ip();
    // An unspecified address stands for the proxy's own.
    let address = if relay.ip().is_unspecified() { proxy_itself } else { relay.ip() };
    Ok(SocketAddr::new(address, relay.port()))
}

async fn request(
    proxy: &Proxy,
    stream: &mut TcpStream,
    command: u8,
    to: &Destination,
) -> Result<SocketAddr, Refused> {
    let lost = |error: io::Error| proxy.lost(&error);
    let mut message = vec![VERSION, command, 0];
    write_destination(&mut message, to);
    stream.write_all(&message).await.map_err(lost)?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.map_err(lost)?;
    let bound = read_address(stream, head[3]).await.map_err(lost)?;
    match head[1] {
        0 => Ok(bound),
        code => Err(reply(proxy, code)),
    }
}

/// The failure that a reply code reports (RFC 1928 section 6).
fn reply(proxy: &Proxy, code: u8) -> Refused {
    match code {
        2 => proxy.refused(libc::EACCES, "does not allow the connection (reply 2)"),
        3 => proxy.reported(libc::ENETUNREACH, "network unreachable (reply 3)"),
        4 => proxy.reported(libc::EHOSTUNREACH, "host unreachable (reply 4)"),
        5 => proxy.reported(libc::ECONNREFUSED, "connection refused (reply 5)"),
        6 => proxy.reported(libc::EHOSTUNREACH, "TTL expired (reply 6)"),
        7 => proxy.refused(libc::EACCES, "does not support the command (reply 7)"),
        8 => proxy.refused(libc::ENETUNREACH, "does not support the type of address (reply 8)"),
        other => proxy.refused(libc::EHOSTUNREACH, &format!("failed (reply {other})")),
    }
}

/// Appends type, address and port.
pub fn write_destination(message: &mut Vec<u8>, to: &Destination) {
    let port = match to {
        Destination::Name(name, port) => {
            // Names of DNS are not longer.
            let name = &name.as_bytes()[..name.len().min(255)];
            message.extend([NAME, name.len() as u8]);
            message.extend(name);
            *port
        }
        Destination::Address(address) => {
            match address.ip() {
                IpAddr::V4(v4) => {
                    message.push(V4);
                    message.extend(v4.octets());
                }
                IpAddr::V6(v6) => {
                    message.push(V6);
                    message.extend(v6.octets());
                }
            }
            address.port()
        }
    };
    message.extend(port.to_be_bytes());
}

/// Reads address and port. A name has no address here: it is read as unspecified.
async fn read_address(stream: &mut TcpStream, kind: u8) -> io::Result<SocketAddr> {
    let address: IpAddr = match kind {
        V4 => {
            let mut bytes = [0; 4];
            stream.read_exact(&mut bytes).await?;
            bytes.into()
        }
        V6 => {
            let mut bytes = [0; 16];
            stream.read_exact(&mut bytes).await?;
            bytes.into()
        }
        NAME => {
            let mut name = vec![0; stream.read_u8().await?.into()];
            stream.read_exact(&mut name).await?;
            Ipv4Addr::UNSPECIFIED.into()
        }
        _ => return Err(io::Error::other("its reply has an unknown type of address")),
    };
    Ok(SocketAddr::new(address, stream.read_u16().await?))
}

/// The source in the header of a relayed datagram (RFC 1928 section 7), and where the payload begins.
pub fn read_header(datagram: &[u8]) -> Option<(SocketAddr, usize)> {
    // Reserved, and the fragment number, which is unused.
    let rest = datagram.strip_prefix(&[0, 0, 0])?;
    let (kind, rest) = rest.split_first()?;
    let (address, rest): (IpAddr, &[u8]) = match *kind {
        V4 => {
            let (bytes, rest) = rest.split_first_chunk::<4>()?;
            (Ipv4Addr::from(*bytes).into(), rest)
        }
        V6 => {
            let (bytes, rest) = rest.split_first_chunk::<16>()?;
            (Ipv6Addr::from(*bytes).into(), rest)
        }
        _ => return None,
    };
    let (port, payload) = rest.split_first_chunk::<2>()?;
    Some((SocketAddr::new(address, u16::from_be_bytes(*port)), datagram.len() - payload.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_written_and_headers_read() {
        let mut message = Vec::new();
        write_destination(&mut message, &Destination::Name("a.test".to_owned(), 443));
        assert_eq!(message, b"\x03\x06a.test\x01\xbb");
        for text in ["192.0.2.1:53", "[2001:db8::1]:53"] {
            let address: SocketAddr = text.parse().unwrap();
            let mut datagram = vec![0, 0, 0];
            write_destination(&mut datagram, &Destination::Address(address));
            datagram.extend(b"payload");
            let (from, at) = read_header(&datagram).unwrap();
            assert_eq!((from, &datagram[at..]), (address, &b"payload"[..]));
            for length in 0..at {
                assert!(read_header(&datagram[..length]).is_none());
            }
            // Fragments are dropped, as RFC 1928 allows.
            datagram[2] = 1;
            assert!(read_header(&datagram).is_none());
        }
    }

    #[test]
    fn replies_are_what_the_program_would_see_without_a_proxy() {
        let proxy = Proxy::new("socks5://127.0.0.1:1").unwrap();
        for (code, errno, by_proxy) in [
            (1, libc::EHOSTUNREACH, true),
            (2, libc::EACCES, true),
            (3, libc::ENETUNREACH, false),
            (4, libc::EHOSTUNREACH, false),
            (5, libc::ECONNREFUSED, false),
            (8, libc::ENETUNREACH, true),
        ] {
            let refused = reply(&proxy, code);
            assert_eq!((refused.failure.errno, refused.by_proxy), (errno, by_proxy), "{code}");
            assert!(refused.note.contains(&format!("(reply {code})")) && refused.note.contains("socks5://"));
        }
    }
}
