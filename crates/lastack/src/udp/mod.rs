//! UDP sockets.

mod intercept;
mod socket;

pub use intercept::UdpInterceptor;
pub use socket::UdpSocket;
