//! A proxy as the way out (`--via`): SOCKS5 or HTTP CONNECT for TCP, SOCKS5 UDP ASSOCIATE for datagrams.
//!
//! The destination is passed on as the name that the program has resolved, where it is known. The proxy's answer is
//! translated into what the program would see without it: a refusal into RST, an unreachable destination into ICMP.

mod associate;
mod http;
mod socks;

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use tokio::net::TcpStream;

use crate::host::{self, Connected, Failure, Said, Source};

pub use associate::Association;

/// A proxy, and its protocol.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    protocol: Protocol,
    /// As given, without credentials.
    shown: String,
    addresses: Vec<SocketAddr>,
    credentials: Option<Credentials>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// SOCKS5 (RFC 1928); the host's name servers are queried.
    Socks5,
    /// SOCKS5, and the proxy resolves all names.
    Socks5Names,
    /// HTTP CONNECT (RFC 9110 section 9.3.6); the proxy resolves all names.
    Http,
}

/// The user and the password.
#[derive(Clone, PartialEq, Eq)]
struct Credentials {
    user: Vec<u8>,
    password: Vec<u8>,
}

/// A destination, as the proxy gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A name that the program has resolved, and a port.
    Name(String, u16),
    /// An address.
    Address(SocketAddr),
}

/// The proxy did not connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The equivalent failure of a direct connection.
    pub failure: Failure,
    /// The proxy's answer, or why there is none.
    pub note: String,
    /// It was not the destination that failed, but the proxy.
    pub by_proxy: bool,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl Proxy {
    /// Reads `socks5://[USER:PASSWORD@]HOST:PORT`, `socks5h://..` or `http://..`, and resolves the host.
    ///
    /// # Errors
    /// The cause, and how to avoid it.
    pub fn new(text: &str) -> Result<Self, String> {
        let wrong = || {
            "expected socks5://HOST:PORT, socks5h://HOST:PORT or http://HOST:PORT, with USER:PASSWORD@ before HOST if needed"
                .to_owned()
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let (protocol, port) = match scheme {
            "socks5" => (Protocol::Socks5, 1080),
            "socks5h" => (Protocol::Socks5Names, 1080),
            "http" => (Protocol::Http, 8080),
            _ => return Err(wrong()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, host) = match rest.rsplit_once('@') {
            Some((credentials, host)) => (Some(Credentials::new(credentials)?), host),
            None => (None, rest),
        };
        if host.is_empty() || host.contains(['/', '?', '#']) {
            return Err(wrong());
        }
        let end = host.rfind(']').map_or(0, |at| at + 1);
        if let Some((_, port)) = host[end..].rsplit_once(':')
            && !matches!(port.parse::<u16>(), Ok(1..))
        {
            return Err(format!("the proxy {host:?} has no port {port:?}: write one from 1 to 65535"));
        }
        let with_port = if host[end..].contains(':') { host.to_owned() } else { format!("{host}:{port}") };
        let addresses = with_port
            .to_socket_addrs()
            .map_err(|error| format!("the proxy {host:?} has no address ({error}): correct the name"))?;
        let shown = format!("{scheme}://{with_port}");
        Ok(Self { protocol, shown, addresses: addresses.collect(), credentials })
    }

    /// Whether the proxy resolves all names: the program's queries are then answered with substitute addresses.
    pub fn resolves_names(&self) -> bool {
        matches!(self.protocol, Protocol::Socks5Names | Protocol::Http)
    }

    /// Whether it may carry datagrams.
    pub fn carries_datagrams(&self) -> bool {
        matches!(self.protocol, Protocol::Socks5 | Protocol::Socks5Names)
    }

    /// Connects by the proxy.
    pub async fn connect(&self, to: &Destination, source: &Source) -> Result<Connected, Refused> {
        let mut stream = self.reach(source).await?;
        match self.protocol {
            Protocol::Http => http::connect(self, &mut stream, to).await?,
            _ => {
                socks::greet(self, &mut stream).await?;
                socks::connect(self, &mut stream, to).await?;
            }
        }
        Ok(Connected { stream, reset: None, max_segment: None })
    }

    /// A connection to the proxy itself.
    async fn reach(&self, source: &Source) -> Result<TcpStream, Refused> {
        let mut last = None;
        for &address in &self.addresses {
            match host::connect_with(address, None, source).await {
                Ok(connected) => return Ok(connected.stream),
                Err(failure) => last = Some(failure),
            }
        }
        let why = last.map_or_else(|| "it has no address".to_owned(), |failure| failure.to_string());
        Err(self.refused(libc::EHOSTUNREACH, &format!("cannot be reached: {why}")))
    }

    /// The proxy itself failed.
    fn refused(&self, errno: i32, what: &str) -> Refused {
        let note = format!("the proxy {self} {what}");
        Refused { failure: failure(errno), note, by_proxy: true }
    }

    /// The proxy reports what the destination or the network did.
    fn reported(&self, errno: i32, what: &str) -> Refused {
        Refused { by_proxy: false, ..self.refused(errno, &format!("reported: {what}")) }
    }

    fn lost(&self, error: &io::Error) -> Refused {
        let what = match error.kind() {
            io::ErrorKind::UnexpectedEof => "closed the connection before it had answered".to_owned(),
            _ => format!("failed before it had answered: {error}"),
        };
        self.refused(libc::EHOSTUNREACH, &what)
    }
}

/// The failure of a direct connection with this errno.
fn failure(errno: i32) -> Failure {
    let said = match errno {
        libc::ECONNREFUSED => Said::Reset,
        libc::EACCES => Said::Forbidden,
        _ => Said::NoRoute,
    };
    Failure { errno, said }
}

impl Credentials {
    fn new(text: &str) -> Result<Self, String> {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        let decode = |text: &str| -> Vec<u8> { percent_encoding::percent_decode_str(text).collect() };
        let (user, password) = (decode(user), decode(password));
        if user.is_empty() || user.len() > 255 || password.len() > 255 {
            return Err("a user has 1 to 255 bytes, and a password up to 255".to_owned());
        }
        Ok(Self { user, password })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_written_as_urls() {
        let proxy = Proxy::new("socks5://user:p%40ss@127.0.0.1:9050").unwrap();
        assert_eq!((proxy.to_string().as_str(), proxy.resolves_names()), ("socks5://127.0.0.1:9050", false));
        assert_eq!(proxy.credentials.as_ref().unwrap().password, b"p@ss");
        assert!(!format!("{proxy:?}").contains("ss@"), "no password in messages");
        let proxy = Proxy::new("http://[::1]/").unwrap();
        assert_eq!((proxy.addresses[0], proxy.resolves_names()), ("[::1]:8080".parse().unwrap(), true));
        assert_eq!(Proxy::new("socks5h://127.0.0.1").unwrap().addresses[0].port(), 1080);
    }

    #[test]
    fn other_strings_are_errors_with_a_cure() {
        for (text, cure) in [
            ("127.0.0.1:1080", "socks5://HOST:PORT"),
            ("https://127.0.0.1:1", "http://HOST:PORT"),
            ("socks5://", "HOST"),
            ("socks5://:x@127.0.0.1", "1 to 255 bytes"),
            ("socks5://192.0.2.9:70000", "write one from 1 to 65535"),
            ("http://[2001:db8::9]:x", "write one from 1 to 65535"),
            ("socks5://no.such.host.invalid:1", "correct the name"),
        ] {
            let error = Proxy::new(text).unwrap_err();
            assert!(error.contains(cure), "{text}: {error}");
        }
    }
}
