//! Adapters for other crates, each behind a feature of its name.

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "hyper")]
mod hyper;
#[cfg(feature = "quinn")]
mod quinn;
#[cfg(feature = "stream")]
mod stream;
#[cfg(feature = "tun-rs")]
mod tun_rs;

#[cfg(feature = "axum")]
pub use axum::ConnectionInfo;
#[cfg(feature = "hyper")]
pub use hyper::{HostConnector, HyperStream};
#[cfg(feature = "quinn")]
pub use quinn::{QuicRuntime, quic_endpoint};
#[cfg(feature = "stream")]
pub use stream::Accepts;
#[cfg(feature = "tun-rs")]
pub use tun_rs::TunRs;
