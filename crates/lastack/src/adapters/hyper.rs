//! A connector for hyper-util's client.

use crate::addr::resolve;
use crate::{Host, TcpStream, Watch};
use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tower_service::Service;

/// Connects hyper-util's client over the sockets of a host, in plain HTTP (wrap it for TLS). A name in the URI is
/// resolved by the system.
///
/// ```
/// # use lastack::{Config, EndError, Host, HostConnector, LikelyCause, link};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let (a, b) = link::pipe(link::Capabilities::memory(1500));
/// # let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
/// # let server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
/// use hyper_util::{client::legacy::Client, rt::TokioExecutor};
/// let http = Client::builder(TokioExecutor::new()).build(HostConnector::new(&client));
/// # let http: Client<_, String> = http;
/// let error = http.get("http://10.0.0.2/".parse().unwrap()).await.unwrap_err();
/// assert_eq!(EndError::find(&error).unwrap().inferred, Some(LikelyCause::NoListener));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct HostConnector {
    host: Host,
    nodelay: bool,
}

impl HostConnector {
    /// A connector of this host.
    pub fn new(host: &Host) -> Self {
        Self { host: host.clone(), nodelay: true }
    }

    /// Whether small segments are sent at once; default `true`.
    #[must_use]
    pub const fn nodelay(mut self, nodelay: bool) -> Self {
        self.nodelay = nodelay;
        self
    }
}

impl Service<Uri> for HostConnector {
    type Response = HyperStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<HyperStream>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { host, nodelay } = self.clone();
        Box::pin(async move {
            let name = uri.host().ok_or_else(|| {
                io::Error::new(ErrorKind::InvalidInput, format!("{uri} names no host: write http://HOST/"))
            })?;
            let name = name.trim_start_matches('[').trim_end_matches(']');
            let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
            let port = uri.port_u16().unwrap_or(default);
            let mut last = None;
            for remote in resolve(&(name, port)).await? {
                match TcpStream::connect(&host, remote).await {
                    Ok(stream) => {
                        stream.set_nodelay(nodelay)?;
                        let watch = stream.watch();
                        return Ok(HyperStream { io: TokioIo::new(stream), watch });
                    }
                    Err(error) => last = Some(error),
                }
            }
            Err(last.unwrap_or_else(|| ErrorKind::NotFound.into()))
        })
    }
}

/// A connection of [`HostConnector`]. Its [`Watch`] is in the extensions of every response.
#[derive(Debug)]
pub struct HyperStream {
    io: TokioIo<TcpStream>,
    watch: Watch,
}

impl HyperStream {
    /// The inner stream.
    pub fn inner(&self) -> &TcpStream {
        self.io.inner()
    }
}

impl Connection for HyperStream {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.watch.clone())
    }
}

impl Read for HyperStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for HyperStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
