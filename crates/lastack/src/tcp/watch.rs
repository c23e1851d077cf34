//! Observing a connection without holding it.

use crate::shared::{Inner, Shared};
use crate::tcp::TcpStream;
use crate::wakers::{Interest, Wait};
use lastack_engine::{ConnId, End, Ended, FourTuple, TcpInfo, TcpState};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::task::Poll;

/// The watched connections, each for as long as a [`Watch`] of it exists.
#[derive(Debug, Default)]
pub(crate) struct Watched(HashMap<ConnId, Entry>);

#[derive(Debug)]
struct Entry {
    watches: usize,
    end: Option<End>,
    ended: Option<Box<Ended>>,
}

impl Watched {
    /// A connection has ended.
    pub fn ended(&mut self, ended: &Ended) {
        if let Some(entry) = self.0.get_mut(&ended.id) {
            entry.end = Some(ended.end.clone());
            entry.ended = Some(Box::new(ended.clone()));
        }
    }
}

/// An observer of a connection that does not hold it: made by [`TcpStream::watch`], it outlives the stream and
/// reports how the connection ended. For access logs and metrics, where the stream itself is owned by a server.
///
/// ```
/// # use lastack::{Cause, Config, Host, TcpListener, TcpStream, link};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let (a, b) = link::pipe(link::Capabilities::memory(1500));
/// # let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
/// # let server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
/// # let listener = TcpListener::bind(&server, ([10, 0, 0, 2], 80))?;
/// # tokio::spawn(async move { TcpStream::connect(&client, ([10, 0, 0, 2], 80)).await.map(|s| s.abort()) });
/// let (stream, peer) = listener.accept().await?;
/// let watch = stream.watch();
/// tokio::spawn(async move { drop(stream) }); // given to a server
/// let end = watch.closed().await?;
/// println!("{peer}: {end}");
/// assert_eq!(end.cause, Cause::Reset);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    id: ConnId,
    flow: FourTuple,
}

impl TcpStream {
    /// An observer of this connection that outlives the stream.
    pub fn watch(&self) -> Watch {
        let flow = FourTuple { local: self.ends.local(), remote: self.ends.remote() };
        Watch::new(self.host.shared_arc(), self.id, flow)
    }
}

impl Watch {
    fn new(shared: &Arc<Shared>, id: ConnId, flow: FourTuple) -> Self {
        shared.with(|inner| {
            let end = inner.stack.tcp(id).and_then(|tcp| tcp.end().cloned());
            inner.watched.0.entry(id).or_insert(Entry { watches: 0, end, ended: None }).watches += 1;
        });
        Self { shared: shared.clone(), id, flow }
    }

    /// The id of the connection on its host, as in [`Ended`](crate::Ended::id).
    pub const fn id(&self) -> ConnId {
        self.id
    }

    /// Its addresses and ports.
    pub const fn flow(&self) -> FourTuple {
        self.flow
    }

    /// Its state; CLOSED once it has ended.
    pub fn state(&self) -> TcpState {
        self.shared.with(|inner| {
            if inner.watched.0.get(&self.id).is_some_and(|entry| entry.end.is_some()) {
                return TcpState::Closed;
            }
            inner.stack.tcp_state(&self.flow).unwrap_or(TcpState::Closed)
        })
    }

    /// Its statistics, as long as a stream holds it.
    pub fn info(&self) -> Option<TcpInfo> {
        self.shared.with(|inner| inner.stack.tcp(self.id).map(|tcp| tcp.info()))
    }

    /// How the connection ended; `None` while it has not.
    pub fn end(&self) -> Option<End> {
        self.shared.with(|inner| inner.watched.0.get(&self.id)?.end.clone())
    }

    /// The record of the ended connection: its end, when it was opened, and how many bytes it carried. `None` if it
    /// has not ended, or had ended before this watch was made.
    pub fn ended(&self) -> Option<Ended> {
        self.shared.with(|inner| inner.watched.0.get(&self.id)?.ended.as_deref().cloned())
    }

    /// Waits until the connection has ended and returns how.
    ///
    /// # Errors
    /// If the host stops before that; the inner error is a [`HostError`](crate::HostError).
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn closed(&self) -> io::Result<End> {
        let id = self.id;
        let over = move |inner: &mut Inner| {
            let end = inner.watched.0.get(&id).and_then(|entry| entry.end.clone());
            end.map_or(Poll::Pending, |end| Poll::Ready(Ok(end)))
        };
        Wait::new(&self.shared, Interest::Watch(id), over).await
    }
}

impl Clone for Watch {
    fn clone(&self) -> Self {
        Self::new(&self.shared, self.id, self.flow)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.with(|inner| {
            let Some(entry) = inner.watched.0.get_mut(&self.id) else { return };
            entry.watches -= 1;
            if entry.watches == 0 {
                inner.watched.0.remove(&self.id);
                inner.wakers.forget(Interest::Watch(self.id));
            }
        });
    }
}
