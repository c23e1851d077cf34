//! QUIC (quinn) over the UDP sockets of two hosts: ECN, the destination address and several datagrams per call included.

use lastack::{Config, Host, UdpSocket, link, quic_endpoint};
use quinn::rustls::RootCertStore;
use quinn::rustls::pki_types::PrivateKeyDer;
use quinn::{ClientConfig, EndpointConfig, ServerConfig};
use std::sync::Arc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (a, b) = link::pipe(link::Capabilities::memory(1500));
    let client = Host::spawn(Config::new(["10.0.0.1".parse()?]), a);
    let server = Host::spawn(Config::new(["10.0.0.2".parse()?]), b);

    let identity = rcgen::generate_simple_self_signed(["example.test".to_owned()])?;
    let certificate = identity.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(identity.signing_key.serialize_der().into());
    let config = ServerConfig::with_single_cert(vec![certificate.clone()], key)?;
    let socket = UdpSocket::bind(&server, ([0, 0, 0, 0], 443))?;
    let endpoint = quic_endpoint(EndpointConfig::default(), Some(config), socket)?;
    tokio::spawn(async move {
        let connection = endpoint.accept().await?.await.ok()?;
        let (mut send, mut receive) = connection.accept_bi().await.ok()?;
        let data = receive.read_to_end(usize::MAX).await.ok()?;
        send.write_all(&data).await.ok()?;
        send.finish().ok()?;
        connection.closed().await;
        Some(())
    });

    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let socket = UdpSocket::bind(&client, ([10, 0, 0, 1], 0))?;
    let mut endpoint = quic_endpoint(EndpointConfig::default(), None, socket)?;
    endpoint.set_default_client_config(ClientConfig::with_root_certificates(Arc::new(roots))?);
    let connection = endpoint.connect(([10, 0, 0, 2], 443).into(), "example.test")?.await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    let data = vec![7; 5_000_000];
    let sent = data.clone();
    let (written, answer) = tokio::join!(
        async {
            send.write_all(&sent).await?;
            send.finish().map_err(std::io::Error::from)?;
            std::io::Result::Ok(())
        },
        receive.read_to_end(usize::MAX)
    );
    written?;
    assert!(answer? == data);
    println!("{} bytes there and back, {} packets lost", data.len(), connection.stats().path.lost_packets);
    connection.close(0u32.into(), b"done");
    endpoint.wait_idle().await;
    Ok(())
}
