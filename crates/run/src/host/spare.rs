//! The socket of an attempt that a remote has refused, for the next attempt to the same remote: a program that waits
//! for a service, or looks at one port after the other. It saves a system call of each attempt.
//!
//! Only for the same remote: the kernel derives the initial sequence number of the next attempt from that of the last
//! (`tcp_disconnect`), which another remote must not know.

use std::cell::RefCell;
use std::net::IpAddr;

use socket2::Socket;

thread_local! {
    static SPARE: RefCell<Option<(IpAddr, Socket)>> = const { RefCell::new(None) };
}

/// Keeps a socket whose attempt was refused with a reset, and on which nothing else was set. A call to connect must have
/// failed with the refusal, which resets the socket.
pub fn keep(socket: Socket, remote: IpAddr) {
    SPARE.with_borrow_mut(|spare| *spare = Some((remote, socket)));
}

/// The socket that is kept, if it is for this remote.
pub fn take(remote: IpAddr) -> Option<Socket> {
    SPARE.with_borrow_mut(|spare| spare.take_if(|(of, _)| *of == remote)).map(|(_, socket)| socket)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};

    use super::SPARE;
    use crate::host::connect::connect;
    use crate::host::tcp_info::{Attempt, Info};
    use crate::host::{Failure, Said};

    #[tokio::test]
    async fn a_refused_socket_connects_to_the_same_remote_later() {
        let refused = Failure { errno: libc::ECONNREFUSED, said: Said::Reset };
        for host in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let listener = TcpListener::bind((host, 0)).unwrap();
            let open = listener.local_addr().unwrap();
            let closed = TcpListener::bind((host, 0)).unwrap().local_addr().unwrap();
            for _ in 0..3 {
                assert_eq!(connect(closed).await.unwrap_err(), refused);
            }
            SPARE.with_borrow(|spare| {
                let (_, socket) = spare.as_ref().expect("it is kept");
                assert_eq!(
                    Info::of(socket).unwrap().attempt(),
                    Attempt::Closed,
                    "without traces of the refusal"
                );
            });
            let connected = connect(open).await.unwrap();
            assert_eq!(connected.stream.peer_addr().unwrap(), open);
            assert!(connected.reset.is_none());
            assert_eq!(listener.accept().unwrap().1, connected.stream.local_addr().unwrap());
            assert!(SPARE.with_borrow(|spare| spare.is_none()));
            assert_eq!(connect(closed).await.unwrap_err(), refused);
        }
    }

    #[tokio::test]
    async fn another_remote_gets_another_socket() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(connect(closed).await.is_err());
        assert!(super::take(Ipv4Addr::new(127, 0, 0, 2).into()).is_none());
        assert!(super::take(Ipv4Addr::LOCALHOST.into()).is_some());
    }
}
