//! Conversion and resolution of addresses.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs as _};

/// Types that can be resolved to addresses in [`net`](crate::net): the same as for tokio's trait of this name.
///
/// Names are resolved by the system, on a thread for blocking calls: the stack has no resolver.
pub trait ToSocketAddrs: sealed::Sealed {}

impl<T: sealed::Sealed + ?Sized> ToSocketAddrs for T {}

/// Resolves a host and port, as [`tokio::net::lookup_host`] does.
///
/// # Errors
/// If it is neither an address nor a name that the system can resolve.
pub async fn lookup_host<A: ToSocketAddrs>(host: A) -> io::Result<impl Iterator<Item = SocketAddr>> {
    resolve(&host).await.map(Vec::into_iter)
}

pub(crate) async fn resolve<A: ToSocketAddrs + ?Sized>(addr: &A) -> io::Result<Vec<SocketAddr>> {
    let addresses = match addr.target()? {
        Target::Addresses(addresses) => addresses,
        Target::Name(name, port) => {
            let lookup = tokio::task::spawn_blocking(move || {
                (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>)
            });
            lookup.await.map_err(io::Error::other)??
        }
    };
    if addresses.is_empty() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "no address was given"));
    }
    Ok(addresses)
}

/// Tries each address in turn until one succeeds.
pub(crate) async fn first<A, F, T>(addr: &A, mut attempt: impl FnMut(SocketAddr) -> F) -> io::Result<T>
where
    A: ToSocketAddrs + ?Sized,
    F: Future<Output = io::Result<T>>,
{
    let mut last = None;
    for address in resolve(addr).await? {
        match attempt(address).await {
            Ok(done) => return Ok(done),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(ErrorKind::InvalidInput, "no address was given")))
}

/// What to resolve.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// Addresses, without resolution.
    Addresses(Vec<SocketAddr>),
    /// A name and a port.
    Name(String, u16),
}

mod sealed {
    pub trait Sealed {
        fn target(&self) -> std::io::Result<super::Target>;
    }
}

use sealed::Sealed;

macro_rules! into_addr {
    ($($type:ty),*) => {$(
        impl Sealed for $type {
            fn target(&self) -> io::Result<Target> {
                Ok(Target::Addresses(vec![(*self).into()]))
            }
        }
    )*};
}

into_addr!(SocketAddr, SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));

impl Sealed for ([u8; 4], u16) {
    fn target(&self) -> io::Result<Target> {
        Ok(Target::Addresses(vec![(*self).into()]))
    }
}

impl Sealed for str {
    fn target(&self) -> io::Result<Target> {
        if let Ok(address) = self.parse() {
            return Ok(Target::Addresses(vec![address]));
        }
        let invalid = |cure: &str| io::Error::new(ErrorKind::InvalidInput, format!("{self:?}: {cure}"));
        let (name, port) = self.rsplit_once(':').ok_or_else(|| invalid("write HOST:PORT"))?;
        let port = port.parse().map_err(|_| invalid("a port is a number from 0 to 65535"))?;
        Ok(Target::Name(name.to_owned(), port))
    }
}

impl Sealed for String {
    fn target(&self) -> io::Result<Target> {
        self.as_str().target()
    }
}

impl Sealed for (&str, u16) {
    fn target(&self) -> io::Result<Target> {
        Ok(match self.0.parse::<IpAddr>() {
            Ok(ip) => Target::Addresses(vec![(ip, self.1).into()]),
            Err(_) => Target::Name(self.0.to_owned(), self.1),
        })
    }
}

impl Sealed for (String, u16) {
    fn target(&self) -> io::Result<Target> {
        (self.0.as_str(), self.1).target()
    }
}

impl Sealed for [SocketAddr] {
    fn target(&self) -> io::Result<Target> {
        Ok(Target::Addresses(self.to_vec()))
    }
}

impl<T: Sealed + ?Sized> Sealed for &T {
    fn target(&self) -> io::Result<Target> {
        (**self).target()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_are_taken_in_every_form() {
        let expected: SocketAddr = "192.0.2.1:80".parse().unwrap();
        let ip = [192, 0, 2, 1];
        assert_eq!(resolve("192.0.2.1:80").await.unwrap(), [expected]);
        assert_eq!(resolve(&"192.0.2.1:80".to_owned()).await.unwrap(), [expected]);
        assert_eq!(resolve(&("192.0.2.1", 80)).await.unwrap(), [expected]);
        assert_eq!(resolve(&(ip, 80)).await.unwrap(), [expected]);
        assert_eq!(resolve(&(IpAddr::from(ip), 80)).await.unwrap(), [expected]);
        assert_eq!(resolve(&[expected, expected][..]).await.unwrap(), [expected; 2]);
        assert_eq!(resolve("[fd00::1]:80").await.unwrap(), ["[fd00::1]:80".parse().unwrap()]);
        assert_eq!("name:80".target().unwrap(), Target::Name("name".to_owned(), 80));
    }

    #[tokio::test]
    async fn an_invalid_address_is_named_with_its_cure() {
        for (wrong, cure) in
            [("192.0.2.1", "HOST:PORT"), ("name:http", "a number"), ("name:65536", "a number")]
        {
            let error = resolve(wrong).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(cure), "{error}");
        }
        assert_eq!(resolve(&[][..]).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
