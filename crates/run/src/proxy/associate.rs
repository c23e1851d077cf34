//! Datagrams by a SOCKS5 proxy (RFC 1928 section 7): one association for each socket of the program.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use lastack::IpFields;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Notify;

use super::{Destination, Proxy, Refused, socks};
use crate::host::Source;
use crate::host::datagrams::{Heard, Shape};

/// The longest datagram, with the header of the proxy.
const LONGEST: usize = 65_536;

/// An association, which exists as long as its connection to the proxy.
#[derive(Debug)]
pub struct Association {
    proxy: Rc<Proxy>,
    source: Source,
    ready: OnceCell<Established>,
    changed: Notify,
    refused: RefCell<Option<Refused>>,
    dropped: Cell<u64>,
    /// Where answers come from that the proxy sends from another address: those to names, by their ports.
    names: RefCell<HashMap<u16, SocketAddr>>,
}

#[derive(Debug)]
struct Established {
    socket: UdpSocket,
    control: TcpStream,
}

impl Association {
    /// Is established when it is first waited for.
    pub fn new(proxy: Rc<Proxy>, source: Source) -> Self {
        Self {
            proxy,
            source,
            ready: OnceCell::new(),
            changed: Notify::new(),
            refused: RefCell::default(),
            dropped: Cell::default(),
            names: RefCell::default(),
        }
    }

    /// Why the proxy does not carry datagrams.
    pub fn refused(&self) -> Option<Refused> {
        self.refused.borrow().clone()
    }

    /// Datagrams that were dropped because they did not come from the proxy in its format.
    pub fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    /// The local port; 0 before it is established.
    pub fn port(&self) -> io::Result<u16> {
        self.ready.get().map_or(Ok(0), |ready| Ok(ready.socket.local_addr()?.port()))
    }

    /// Sends datagrams; `seen` is the program's address of the destination. [`ErrorKind::WouldBlock`]: it is not
    /// established yet, or the queue is full.
    pub fn send(&self, to: &Destination, seen: SocketAddr, payload: &[u8], shape: Shape) -> io::Result<()> {
        let Some(ready) = self.ready.get() else { return Err(ErrorKind::WouldBlock.into()) };
        if let Destination::Name(_, port) = to {
            self.names.borrow_mut().insert(*port, seen);
        }
        let size = shape.segment_size.map_or(payload.len(), usize::from).max(1);
        let mut header = vec![0, 0, 0];
        socks::write_destination(&mut header, to);
        let pieces: Vec<&[u8]> =
            if payload.is_empty() { vec![payload] } else { payload.chunks(size).collect() };
        for piece in pieces {
            let datagram = [&header[..], piece].concat();
            // The first failure may be the error of an earlier datagram.
            socket2::SockRef::from(&ready.socket)
                .send(&datagram)
                .or_else(|_| socket2::SockRef::from(&ready.socket).send(&datagram))?;
        }
        Ok(())
    }

    /// Waits until it is established, and for room in the queue.
    pub async fn writable(&self) -> io::Result<()> {
        loop {
            if let Some(ready) = self.ready.get() {
                ready.socket.writable().await?;
                let _forgotten: io::Result<()> =
                    ready.socket.try_io(tokio::io::Interest::WRITABLE, || Err(ErrorKind::WouldBlock.into()));
                return Ok(());
            }
            self.changed.notified().await;
        }
    }

    /// Waits for the next datagram, which is passed to `deliver` with its source.
    ///
    /// # Errors
    /// The proxy does not carry datagrams ([`refused`](Self::refused)), or has ended the association.
    pub async fn hear(&self, mut deliver: impl FnMut(SocketAddr, &[u8], Shape)) -> io::Result<Heard> {
        let ready = match self.ready.get() {
            Some(ready) => ready,
            None => match self.establish().await {
                Ok(established) => {
                    let ready = self.ready.get_or_init(|| established);
                    self.changed.notify_one();
                    ready
                }
                Err(refused) => {
                    let error = io::Error::other(refused.note.clone());
                    *self.refused.borrow_mut() = Some(refused);
                    return Err(error);
                }
            },
        };
        let mut buffer = vec![0; LONGEST];
        loop {
            let length = tokio::select! {
                received = ready.socket.recv(&mut buffer) => match received {
                    Ok(length) => length,
                    // An error of an earlier datagram: the proxy's own port was closed for it.
                    Err(_) => continue,
                },
                ended = ended(&ready.control) => return Err(ended),
            };
            let Some((from, at)) = socks::read_header(&buffer[..length]) else {
                self.dropped.set(self.dropped.get() + 1);
                continue;
            };
            let from = self.names.borrow().get(&from.port()).copied().unwrap_or(from);
            let ip = IpFields { hop_limit: 64, traffic_class: 0, dont_fragment: false };
            deliver(from, &buffer[at..length], Shape { segment_size: None, ip });
            return Ok(Heard::Datagrams(1));
        }
    }

    async fn establish(&self) -> Result<Established, Refused> {
        let mut control = self.proxy.reach(&self.source).await?;
        socks::greet(&self.proxy, &mut control).await?;
        let relay = socks::associate(&self.proxy, &mut control).await?;
        let lost = |error: io::Error| self.proxy.lost(&error);
        let socket = Socket::new(Domain::for_address(relay), Type::DGRAM.nonblocking(), Some(Protocol::UDP));
        let socket = socket.map_err(lost)?;
        self.source.apply(&socket, relay.ip()).map_err(lost)?;
        if self.source.is_any() {
            let any: IpAddr =
                if relay.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
            socket.bind(&SocketAddr::new(any, 0).into()).map_err(lost)?;
        }
        socket.connect(&relay.into()).map_err(lost)?;
        let socket = UdpSocket::from_std(socket.into()).map_err(lost)?;
        Ok(Established { socket, control })
    }
}

/// Waits for the end of the connection to the proxy, and with it of the association.
async fn ended(control: &TcpStream) -> io::Error {
    loop {
        if let Err(error) = control.readable().await {
            return error;
        }
        match control.try_read(&mut [0; 64]) {
            Ok(0) => return io::Error::other("the proxy has ended the association"),
            Err(error) if error.kind() != ErrorKind::WouldBlock => return error,
            _ => {}
        }
    }
}
