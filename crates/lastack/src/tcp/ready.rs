//! Readiness flags, in tokio's types.

use crate::tcp::TcpStream;
use crate::wakers::{self, Wait};
use lastack_engine::Readiness;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;
use tokio::io::{Interest, Ready};

impl TcpStream {
    /// Waits for any readiness of `interest` and returns it, as tokio's `TcpStream::ready` does, with the meaning
    /// that epoll gives to each bit. Consumes nothing.
    ///
    /// A pending error is reported as `ERROR` until a call has returned it.
    ///
    /// # Errors
    /// The link failed or the driver was dropped.
    ///
    /// ```
    /// # use lastack::{Config, Host, TcpListener, TcpStream, link};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let (a, b) = link::pipe(link::Capabilities::memory(1500));
    /// # let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
    /// # let server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
    /// # let listener = TcpListener::bind(&server, ([10, 0, 0, 2], 80))?;
    /// # let address = listener.local_addr()?;
    /// # let (near, far) = tokio::join!(TcpStream::connect(&client, address), listener.accept());
    /// # let (stream, _peer) = (near?, far?.0);
    /// use tokio::io::Interest;
    ///
    /// let ready = stream.ready(Interest::READABLE | Interest::WRITABLE).await?;
    /// assert!(ready.is_writable() && !ready.is_readable());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        let wanted = wanted(interest);
        let look = |inner: &mut crate::shared::Inner| {
            let Some(mut tcp) = inner.stack.tcp(self.id) else {
                return Poll::Ready(Err(inner.gone()));
            };
            let found = bits(tcp.readiness()) & wanted;
            if found.is_empty() { Poll::Pending } else { Poll::Ready(Ok(found)) }
        };
        // Any of them may become ready first, so wait for all.
        let reasons = [wakers::Interest::Read, wakers::Interest::Write, wakers::Interest::End];
        let mut waits = reasons.map(|reason| Wait::new(self.host.shared(), reason(self.id), look));
        poll_fn(|cx| {
            let first = waits.iter_mut().map(|wait| Pin::new(wait).poll(cx)).find(Poll::is_ready);
            first.unwrap_or(Poll::Pending)
        })
        .await
    }
}

impl TcpStream {
    /// Whether there is any readiness of `interest` now.
    pub(super) fn is_ready(&self, interest: Interest) -> io::Result<bool> {
        self.host.shared().with(|inner| {
            let Some(mut tcp) = inner.stack.tcp(self.id) else { return Err(inner.gone()) };
            Ok(!(bits(tcp.readiness()) & wanted(interest)).is_empty())
        })
    }
}

/// The bits that tokio reports for an interest.
fn wanted(interest: Interest) -> Ready {
    let mut wanted = Ready::EMPTY;
    if interest.is_readable() {
        wanted |= Ready::READABLE | Ready::READ_CLOSED;
    }
    if interest.is_writable() {
        wanted |= Ready::WRITABLE | Ready::WRITE_CLOSED;
    }
    if interest.is_error() {
        wanted |= Ready::ERROR;
    }
    wanted
}

/// The events of poll(2), mapped as tokio maps those of epoll.
fn bits(readiness: Readiness) -> Ready {
    let Readiness { readable, writable, error, read_closed, hung_up, .. } = readiness;
    [
        (readable, Ready::READABLE),
        (writable, Ready::WRITABLE),
        (error, Ready::ERROR),
        (hung_up || readable && read_closed, Ready::READ_CLOSED),
        (hung_up || writable && error, Ready::WRITE_CLOSED),
    ]
    .into_iter()
    .filter(|(is, _)| *is)
    .fold(Ready::EMPTY, |all, (_, bit)| all | bit)
}
