//! TCP sockets.

mod buffers;
mod ends;
mod hold;
mod intercept;
mod listener;
mod nonblocking;
pub(crate) mod options;
mod ready;
mod socket;
mod split;
mod stream;
mod watch;

pub use hold::RelayRead;
pub(crate) use intercept::Intercepted;
pub use intercept::{InterceptedTcp, TcpInterceptor};
pub use listener::TcpListener;
pub use socket::TcpSocket;
pub use split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
pub use stream::TcpStream;
pub use watch::Watch;
pub(crate) use watch::Watched;
