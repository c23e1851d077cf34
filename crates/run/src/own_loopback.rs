//! Connections refused by the program's own loopback: the most common surprise in a private network namespace. These
//! packets do not reach lastack, but the kernel shows the resets (`InnerSocket::Refusals`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use lastack_wire::IpPacket;
use lastack_wire::ip;
use nix::errno::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::account::ConnectionReport;
use crate::run::Run;

/// Max ports whose refusals are counted separately.
const MAX_PORTS: usize = 64;

/// The number of refusals by address and port.
#[derive(Debug, Default)]
pub struct Refusals(RefCell<HashMap<SocketAddr, u64>>);

impl Refusals {
    /// Counts every refusal that the socket shows. Never returns.
    pub async fn watch(&self, run: &Run, socket: OwnedFd) {
        // SAFETY: the descriptor moves into the AsyncFd, which lends it out as a shared reference only.
        let Ok(watched) = (unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }) else {
            return;
        };
        loop {
            let Ok(mut ready) = watched.readable().await else { return };
            while let Ok((program, refused)) = read(watched.get_ref()) {
                self.note(run, program, refused);
            }
            ready.clear_ready();
        }
    }

    fn note(&self, run: &Run, program: SocketAddr, refused: SocketAddr) {
        run.record(ConnectionReport::new(program, refused).refused_by_itself());
        let mut ports = self.0.borrow_mut();
        if ports.len() < MAX_PORTS || ports.contains_key(&refused) {
            *ports.entry(refused).or_default() += 1;
        }
    }

    /// The warnings at the end of the run.
    pub fn warnings(&self, mapped: &[u16]) -> Vec<String> {
        let ports = self.0.borrow();
        let mut ports: Vec<_> = ports.iter().collect();
        ports.sort();
        ports.into_iter().map(|(refused, times)| warning(*refused, *times, mapped)).collect()
    }
}

fn warning(refused: SocketAddr, times: u64, mapped: &[u16]) -> String {
    let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
    if mapped.contains(&refused.port()) {
        return format!(
            "the program was refused {times} at {refused}: no socket listens there, neither in its own network nor on this host, to which --map-localhost leads"
        );
    }
    format!(
        "the program was refused {times} at {refused}: that is the loopback of its own network, where no socket listens at that port. --map-localhost {} leads to this host's",
        refused.port()
    )
}

/// The next refusal: the client's address, and the refusing one.
fn read(socket: &OwnedFd) -> std::io::Result<(SocketAddr, SocketAddr)> {
    loop {
        let mut packet = [0; 128];
        // SAFETY: the kernel writes no more bytes than the array has.
        let len = unsafe {
            libc::recv(socket.as_raw_fd(), packet.as_mut_ptr().cast(), packet.len(), libc::MSG_DONTWAIT)
        };
        let len = Errno::result(len)?.cast_unsigned();
        if let Some(found) = parse(&packet[..len]) {
            return Ok(found);
        }
    }
}

/// The two addresses of a reset: destination, and source.
fn parse(packet: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let parsed = IpPacket::parse(packet).ok()?;
    if parsed.header.protocol != ip::TCP {
        return None;
    }
    let port = |at: usize| Some(u16::from_be_bytes(parsed.payload.get(at..at + 2)?.try_into().ok()?));
    let address = |ip: IpAddr, port: u16| SocketAddr::new(ip, port);
    Some((address(parsed.header.dst, port(2)?), address(parsed.header.src, port(0)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_both_ends() {
        let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1];
        packet.extend([0x15, 0x38, 0x9c, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 0x50, 0x14, 0, 0, 0, 0, 0, 0]);
        let sum =
            packet[..20].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let (program, refused) = parse(&packet).unwrap();
        assert_eq!(
            (program.to_string(), refused.to_string()),
            ("127.0.0.1:40000".into(), "127.0.0.1:5432".into())
        );
        assert_eq!(parse(&packet[..10]), None);
        assert!(warning(refused, 2, &[]).contains("refused 2 times at 127.0.0.1:5432"));
        assert!(warning(refused, 1, &[]).contains("--map-localhost 5432 leads"));
        assert!(warning(refused, 1, &[5432]).contains("nor on this host"));
    }
}
