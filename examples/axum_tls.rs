//! axum over TLS (rustls) over lastack, with an access log of how each connection ended.

use axum::{Router, routing::get};
use lastack::{Config, Host, TcpListener, TcpStream, link};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::{self, pki_types::PrivateKeyDer};
use tokio_rustls::{TlsAcceptor, TlsConnector, server::TlsStream};

/// A listener whose connections use TLS.
struct TlsListener(TcpListener, TlsAcceptor);

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, peer) = axum::serve::Listener::accept(&mut self.0).await;
            let watch = stream.watch();
            tokio::spawn(async move {
                println!("{peer}: {}", watch.closed().await?);
                io::Result::Ok(())
            });
            match self.1.accept(stream).await {
                Ok(stream) => return (stream, peer),
                Err(error) => println!("{peer}: TLS: {error}"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (a, b) = link::pipe(link::Capabilities::memory(1500));
    let client = Host::spawn(Config::new(["10.0.0.1".parse()?]), a);
    let server = Host::spawn(Config::new(["10.0.0.2".parse()?]), b);

    let identity = rcgen::generate_simple_self_signed(["example.test".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(identity.signing_key.serialize_der().into());
    let certificate = identity.cert.der().clone();
    let tls = rustls::ServerConfig::builder().with_no_client_auth();
    let tls = tls.with_single_cert(vec![certificate.clone()], key)?;
    let listener = TlsListener(TcpListener::bind(&server, ([10, 0, 0, 2], 443))?, Arc::new(tls).into());
    let app = Router::new().route("/", get(|| async { "hello" }));
    tokio::spawn(async move { axum::serve(listener, app).await });

    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate)?;
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(&client, ([10, 0, 0, 2], 443)).await?;
    let mut stream = TlsConnector::from(Arc::new(tls)).connect("example.test".try_into()?, stream).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"), "{answer}");
    drop(stream);
    client.shutdown(Duration::from_secs(2)).await;
    server.shutdown(Duration::from_secs(2)).await;
    Ok(())
}
