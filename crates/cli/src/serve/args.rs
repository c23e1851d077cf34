//! The options of `lastack serve`.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use lastack_run::units;

/// Serve test behaviors (echo, discard, reset, ..) on a TUN interface
///
/// lastack makes the interface, gives this machine's side of the link the address next to its own, and listens. Each
/// connection's end is printed. SIGINT or SIGTERM ends it, with status 0: open connections are closed as the kernel
/// closes those of a process that exits; those that have not ended one second later are printed as open (a second signal
/// ends it at once). It needs root, or CAP_NET_ADMIN.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "Examples:
  lastack serve --listen 7 --behave echo
  lastack serve --listen 80 --behave rst-after=1k -w resets.pcapng
  lastack serve --listen 80 --tun peer0 --addr 192.168.77.1/24

Behaviors:
  echo         sends back what it receives, and closes when the peer does
  discard      reads everything, and closes when the peer does
  rst-after=N  aborts with RST after N bytes (0: after the handshake)
  never-read   accepts and never reads: the window closes
  half-open=N  after N bytes (without =N: after the handshake) the whole host loses its
               connections, as in a reboot: the peer's next segment is answered with RST")]
pub struct ServeArgs {
    /// Listen on these ports (repeatable)
    #[arg(short, long, value_name = "PORT", required = true, num_args = 1.., value_delimiter = ',')]
    pub listen: Vec<u16>,

    /// What to do with a connection
    #[arg(short, long, value_name = "BEHAVIOR", default_value = "echo", value_parser = behaviour)]
    pub behave: Behaviour,

    /// Name of the interface
    #[arg(long, value_name = "NAME", default_value = "lastack0")]
    pub tun: String,

    /// Address and prefix length that lastack listens on (repeatable)
    #[arg(long, value_name = "ADDRESS/PREFIX", default_values = ["10.0.3.1/24", "fd00:3::1/64"], value_parser = place)]
    pub addr: Vec<Route>,

    /// MTU of the interface
    #[arg(short, long, value_name = "BYTES", default_value_t = 1500, value_parser = clap::value_parser!(u32).range(1280..=65_535))]
    pub mtu: u32,

    /// Serve at most N connections at once; further ones are reset
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub max_connections: usize,

    /// Close a connection after TIME without data
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = units::time)]
    pub idle: Duration,

    /// Write every packet to FILE (pcapng), with a comment on its outcome
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,

    /// Print JSON lines
    #[arg(long)]
    pub json: bool,

    /// Write "1" to this file descriptor when ready
    #[arg(long, value_name = "N")]
    pub ready_fd: Option<RawFd>,
}

/// The behavior on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Echo,
    Discard,
    RstAfter(u64),
    NeverRead,
    HalfOpen(u64),
}

fn behaviour(text: &str) -> Result<Behaviour, String> {
    let (name, bytes) = match text.split_once('=') {
        Some((name, bytes)) => (name, Some(units::bytes(bytes)?)),
        None => (text, None),
    };
    match (name, bytes) {
        ("echo", None) => Ok(Behaviour::Echo),
        ("discard", None) => Ok(Behaviour::Discard),
        ("rst-after", Some(bytes)) => Ok(Behaviour::RstAfter(bytes)),
        ("never-read", None) => Ok(Behaviour::NeverRead),
        ("half-open", bytes) => Ok(Behaviour::HalfOpen(bytes.unwrap_or(0))),
        _ => Err("choose echo, discard, rst-after=N, never-read, half-open or half-open=N".to_owned()),
    }
}

/// The stack's address on the link, and the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub ours: IpAddr,
    pub kernel: IpAddr,
    pub prefix: u8,
}

fn place(text: &str) -> Result<Route, String> {
    let malformed = || {
        format!("{text:?} is not an address with a prefix length (expected e.g. 10.0.3.1/24 or fd00:3::1/64)")
    };
    let (address, prefix) = text.split_once('/').ok_or_else(malformed)?;
    let ours: IpAddr = address.parse().map_err(|_| malformed())?;
    let prefix: u8 = prefix.parse().map_err(|_| malformed())?;
    let bits = if ours.is_ipv6() { 128 } else { 32 };
    if prefix == 0 || prefix > bits - 2 {
        return Err(format!(
            "{text}: the network is too small for two addresses: choose a prefix from 1 to {}",
            bits - 2
        ));
    }
    if !lastack_wire::ip::unicast(ours) || ours.is_loopback() {
        return Err(format!("{text} cannot be assigned to a host"));
    }
    Ok(Route { ours, kernel: next_to(ours, prefix), prefix })
}

/// The next address, or the previous one at the end of its network.
fn next_to(address: IpAddr, prefix: u8) -> IpAddr {
    let (number, bits) = match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    let host = (1_u128 << (bits - prefix)) - 1;
    // The last address of an IPv4 network is its broadcast address.
    let next = if (number & host) + 1 < host { number + 1 } else { number - 1 };
    match address {
        IpAddr::V4(_) => std::net::Ipv4Addr::from(next as u32).into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::from(next).into(),
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo => f.write_str("echo"),
            Self::Discard => f.write_str("discard"),
            Self::RstAfter(bytes) => write!(f, "rst-after={bytes}"),
            Self::NeverRead => f.write_str("never-read"),
            Self::HalfOpen(bytes) => write!(f, "half-open={bytes}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaviours() {
        for text in ["echo", "discard", "rst-after=5", "never-read", "half-open=0"] {
            assert_eq!(behaviour(text).unwrap().to_string(), text);
        }
        assert_eq!(behaviour("half-open"), Ok(Behaviour::HalfOpen(0)));
        assert_eq!(behaviour("rst-after=4k"), Ok(Behaviour::RstAfter(4096)));
        for wrong in ["rst-after", "echo=5", "rst-after=x", "sulk"] {
            assert!(behaviour(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_kernel_lives_next_door() {
        let kernel = |text| place(text).unwrap().kernel.to_string();
        assert_eq!(kernel("10.0.3.1/24"), "10.0.3.2");
        assert_eq!(kernel("10.0.3.254/24"), "10.0.3.253");
        assert_eq!(kernel("fd00:3::1/64"), "fd00:3::2");
        assert_eq!(kernel("192.0.2.1/30"), "192.0.2.2");
        for wrong in ["10.0.3.1", "10.0.3.1/31", "10.0.3.1/0", "224.0.0.1/4", "127.0.0.1/8", "x/8"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }
}
