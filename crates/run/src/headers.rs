//! Header fields of the program's connections, applied to the host sockets that stand for them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;

use lastack::IpFields;
use tokio::net::TcpStream;

use crate::account::ConnectionReport;
use crate::ends::Ends;
use crate::host::socket::set_header_fields;
use crate::tap::Seen;

/// A connection: the program's end and the other.
type Flow = (SocketAddr, SocketAddr);

/// Which socket of the host belongs to which connection.
#[derive(Debug)]
pub struct Headers {
    seen: Arc<Seen>,
    sockets: RefCell<HashMap<Ends, RawFd>>,
}

/// A socket of the host that is registered for a connection.
#[derive(Debug)]
pub struct Registered<'a> {
    headers: &'a Headers,
    account: Rc<ConnectionReport>,
    socket: TcpStream,
}

impl Headers {
    /// For the fields that the tap observes.
    pub fn new(seen: Arc<Seen>) -> Self {
        Self { seen, sockets: RefCell::default() }
    }

    /// The fields that the program has set for a connection that it opens.
    pub fn of_syn(&self, flow: Flow) -> Option<IpFields> {
        self.seen.lock().headers.of_syn(flow)
    }

    /// Registers the socket to which later changes by the program are applied.
    pub fn register(&self, account: Rc<ConnectionReport>, socket: TcpStream) -> Registered<'_> {
        self.sockets.borrow_mut().insert(account.ends().clone(), socket.as_raw_fd());
        Registered { headers: self, account, socket }
    }

    /// Applies all changes.
    pub fn apply(&self) {
        let changes = self.seen.lock().headers.take();
        let sockets = self.sockets.borrow();
        for (flow, ip) in changes {
            let Some(&fd) = sockets.get(&Ends::new(flow.0, flow.1)) else { continue };
            // SAFETY: the descriptor is in the table only while `Registered` has the socket that owns it.
            let socket = unsafe { BorrowedFd::borrow_raw(fd) };
            // Fails only on a connection that has ended.
            let _over = set_header_fields(&socket, flow.1.is_ipv6(), ip);
        }
    }
}

impl Registered<'_> {
    /// The connection.
    pub fn account(&self) -> &Rc<ConnectionReport> {
        &self.account
    }
}

impl Deref for Registered<'_> {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.socket
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.headers.sockets.borrow_mut().remove(self.account.ends());
    }
}
