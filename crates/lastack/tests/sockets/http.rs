//! hyper and axum over our sockets, unchanged.

use crate::{SERVER, hosts};
use axum::routing::{get, post};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lastack::{Host, TcpListener, TcpStream};
use std::net::SocketAddr;

struct Listener(TcpListener);

impl axum::serve::Listener for Listener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        self.0.accept().await.expect("the driver runs")
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

fn serve(host: &Host) -> tokio::task::JoinHandle<std::io::Result<()>> {
    let listener = Listener(TcpListener::bind(host, (SERVER, 80)).unwrap());
    let app = axum::Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/length", post(|body: Bytes| async move { body.len().to_string() }));
    tokio::spawn(async move { axum::serve(listener, app).await })
}

fn request(path: &str, body: Vec<u8>) -> hyper::Request<Full<Bytes>> {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let uri = format!("http://server{path}");
    hyper::Request::builder().method(method).uri(uri).header("host", "server").body(Full::from(body)).unwrap()
}

async fn text(response: hyper::Response<hyper::body::Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test(start_paused = true)]
async fn http1_with_many_requests_on_one_connection() {
    let (client, server) = hosts();
    let serving = serve(&server);
    let io = TokioIo::new(TcpStream::connect(&client, (SERVER, 80)).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);
    for n in 1..20 {
        assert_eq!(text(sender.send_request(request("/", vec![])).await.unwrap()).await, "hello");
        sender.ready().await.unwrap();
        let length = sender.send_request(request("/length", vec![7; n * 50_000])).await.unwrap();
        assert_eq!(text(length).await, (n * 50_000).to_string());
        sender.ready().await.unwrap();
    }
    drop(sender);
    connection.await.unwrap().unwrap();
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn http2_with_requests_at_once() {
    let (client, server) = hosts();
    let _serving = serve(&server);
    let io = TokioIo::new(TcpStream::connect(&client, (SERVER, 80)).await.unwrap());
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let requests: Vec<_> = (1..=20)
        .map(|n| {
            let mut sender = sender.clone();
            tokio::spawn(async move {
                sender.ready().await.unwrap();
                let response = sender.send_request(request("/length", vec![1; n * 10_000])).await.unwrap();
                assert_eq!(response.version(), hyper::Version::HTTP_2);
                assert_eq!(text(response).await, (n * 10_000).to_string());
            })
        })
        .collect();
    for request in requests {
        request.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn hypers_error_leads_to_the_reason() {
    let (client, server) = hosts();
    let listener = TcpListener::bind(&server, (SERVER, 80)).unwrap();
    let io = TokioIo::new(TcpStream::connect(&client, (SERVER, 80)).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(async move {
        // The request is never read, so closing resets (S60).
        let (stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
    });
    let (response, outcome) = tokio::join!(sender.send_request(request("/", vec![])), connection);
    let error = response.err().or(outcome.err()).expect("the server reset the connection");
    let end = lastack::EndError::find(&error).expect("the reason is in the chain");
    assert_eq!(end.by, lastack::EndedBy::Peer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_on_several_threads() {
    let (client, server) = hosts();
    let _serving = serve(&server);
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let io = TokioIo::new(TcpStream::connect(&client, (SERVER, 80)).await.unwrap());
                let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
                tokio::spawn(connection);
                let response = sender.send_request(request("/length", vec![1; 200_000])).await.unwrap();
                assert_eq!(text(response).await, "200000");
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}
