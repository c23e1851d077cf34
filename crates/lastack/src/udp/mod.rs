//! UDP sockets.

mod intercept;
mod nonblocking;
mod socket;

pub use intercept::UdpInterceptor;
pub use socket::UdpSocket;
