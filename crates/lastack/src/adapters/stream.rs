//! A listener as a [`Stream`] of connections.

use crate::{TcpListener, TcpStream};
use futures_core::Stream;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The accepted connections of a listener, as tokio-stream's `TcpListenerStream`. The stream does not end; once the
/// host has stopped, every item is that error.
#[derive(Debug)]
pub struct Accepts(TcpListener);

impl TcpListener {
    /// The connections it accepts, as a [`Stream`].
    pub fn into_stream(self) -> Accepts {
        Accepts(self)
    }
}

impl Accepts {
    /// Returns the listener.
    pub fn into_inner(self) -> TcpListener {
        self.0
    }
}

impl AsRef<TcpListener> for Accepts {
    fn as_ref(&self) -> &TcpListener {
        &self.0
    }
}

impl Stream for Accepts {
    type Item = io::Result<TcpStream>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_accept(cx).map(|accepted| Some(accepted.map(|(stream, _peer)| stream)))
    }
}
