//! rustls over our sockets, unchanged.

use crate::{connection, hosts};
use lastack::{EndError, TcpStream};
use std::io::ErrorKind;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// TLS between two ends of a connection.
async fn handshake(
    near: TcpStream,
    far: TcpStream,
) -> (client::TlsStream<TcpStream>, server::TlsStream<TcpStream>) {
    let provider = Arc::new(ring::default_provider());
    let own = rcgen::generate_simple_self_signed(vec!["server.test".into()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let certificate = own.cert.der().clone();
    let acceptor = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let connector = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "server.test".try_into().unwrap();
    let (near, far) = tokio::join!(
        TlsConnector::from(Arc::new(connector)).connect(name, near),
        TlsAcceptor::from(Arc::new(acceptor)).accept(far)
    );
    (near.unwrap(), far.unwrap())
}

#[tokio::test]
async fn secrets_pass_and_the_end_is_closed_by_both() {
    let (client, server) = hosts();
    let (near, far, _listener) = connection(&client, &server).await;
    let (mut near, mut far) = handshake(near, far).await;
    let text: Vec<u8> = (0..300_000_u32).map(|i| (i ^ (i >> 5)) as u8).collect();
    let sent = text.clone();
    let write = tokio::spawn(async move {
        near.write_all(&sent).await.unwrap();
        near.shutdown().await.unwrap();
        near.read_to_end(&mut Vec::new()).await.unwrap();
    });
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.unwrap();
    far.shutdown().await.unwrap();
    assert!(got == text);
    write.await.unwrap();
}

#[tokio::test]
async fn a_reset_under_tls_keeps_its_reason() {
    let (client, server) = hosts();
    let (near, far, _listener) = connection(&client, &server).await;
    let (mut near, far) = handshake(near, far).await;
    far.get_ref().0.abort();
    let error = near.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(EndError::find(&error).unwrap().by, lastack::EndedBy::Peer);
}
