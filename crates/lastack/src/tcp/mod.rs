//! TCP sockets.

mod hold;
mod intercept;
mod listener;
mod options;
mod ready;
mod split;
mod stream;

pub(crate) use intercept::Intercepted;
pub use intercept::{InterceptedTcp, TcpInterceptor};
pub use listener::TcpListener;
pub use split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
pub use stream::TcpStream;
