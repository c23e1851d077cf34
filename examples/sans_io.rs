//! The engine without a runtime: two stacks, each with a thread, a clock and a channel of packets.

use lastack_engine::{Config, Event, Instant, Received, Stack};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::task::Poll;
use std::time::{Duration, Instant as Clock};

/// Drives a stack until `user` returns that it is done.
fn run(
    mut stack: Stack,
    wire: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
    mut user: impl FnMut(&mut Stack, Option<Event>) -> bool,
) {
    let start = Clock::now();
    let now = || Instant::since_start(start.elapsed());
    let mut packet = Vec::new();
    user(&mut stack, None);
    loop {
        while stack.poll_transmit(now(), &mut packet).is_some() {
            let _gone = wire.0.send(packet.clone());
        }
        while let Some(event) = stack.poll_event() {
            if user(&mut stack, Some(event)) {
                return;
            }
        }
        if stack.has_output() {
            continue;
        }
        let wait = stack
            .poll_timeout()
            .map_or(Duration::from_secs(3600), |at| at.elapsed().saturating_sub(start.elapsed()));
        match wire.1.recv_timeout(wait) {
            Ok(packet) => drop(stack.handle_packet(now(), &packet, Received::default())),
            Err(RecvTimeoutError::Timeout) => stack.handle_timeout(now()),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn main() {
    let (to_server, from_client) = channel();
    let (to_client, from_server) = channel();
    let ip = |last| [10, 0, 0, last].into();
    // A real program takes its secrets from the system.
    let client = Stack::new(Config::new([ip(1)]), [1; 16]);
    let server = Stack::new(Config::new([ip(2)]), [2; 16]);

    let server = std::thread::spawn(move || {
        let mut listener = None;
        run(server, (to_client, from_client), |stack, event| {
            let id = *listener
                .get_or_insert_with(|| stack.tcp_listen((ip(2), 7).into(), 8).expect("the port is free"));
            while let Some(connection) = stack.tcp_accept(id) {
                let mut tcp = stack.tcp(connection).expect("it was accepted");
                assert!(matches!(tcp.send(b"hello"), Poll::Ready(Ok(5))));
                tcp.close();
            }
            matches!(event, Some(Event::Ended(_)))
        });
    });
    let (mut connection, mut data) = (None, Vec::new());
    run(client, (to_server, from_server), |stack, _event| {
        let id = *connection
            .get_or_insert_with(|| stack.tcp_connect(None, (ip(2), 7).into()).expect("it has an address"));
        let mut buf = [0; 100];
        while let Some(Poll::Ready(Ok(n @ 1..))) = stack.tcp(id).map(|mut tcp| tcp.receive(&mut buf)) {
            data.extend_from_slice(&buf[..n]);
        }
        if data == b"hello"
            && let Some(mut tcp) = stack.tcp(id)
            && tcp.receive(&mut buf) == Poll::Ready(Ok(0))
        {
            tcp.close();
        }
        stack.connections() == 0
    });
    server.join().expect("the server has ended");
    println!("{}", String::from_utf8_lossy(&data));
}
