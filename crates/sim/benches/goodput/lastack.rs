//! lastack at work.

use crate::world::{Flow, Host, Text};
use lastack_engine::{Cause, Config, ConnId, Event, Instant, ListenerId, Received, Stack};
use std::net::SocketAddr;
use std::task::Poll;

const ADDRESSES: [[u8; 4]; 2] = [[10, 0, 0, 1], [10, 0, 0, 2]];
const PORT: u16 = 80;

/// The connections of a host, in the order in which they were opened.
struct Application {
    flows: Vec<Flow>,
    connections: Vec<ConnId>,
    done: Vec<u64>,
    text: Text,
    failures: Vec<String>,
}

/// A host that opens connections and sends.
struct Sender {
    stack: Stack,
    app: Application,
}

/// A host that takes connections and reads.
struct Receiver {
    stack: Stack,
    listener: ListenerId,
    app: Application,
}

/// A sender and a receiver whose settings `change` has changed.
pub fn hosts(change: impl Fn(&mut Config), flows: &[Flow], seed: u64) -> [Box<dyn Host>; 2] {
    let [client, mut server] = [0, 1].map(|i| {
        let mut config = Config::new([ADDRESSES[i].into()]);
        change(&mut config);
        Stack::new(config, [seed as u8 * 2 + i as u8; 16])
    });
    let listener = server.tcp_listen(SocketAddr::from((ADDRESSES[1], PORT)), 8).expect("the port is free");
    let app = || Application {
        flows: flows.to_vec(),
        connections: Vec::new(),
        done: vec![0; flows.len()],
        text: Text::new(),
        failures: Vec::new(),
    };
    [
        Box::new(Sender { stack: client, app: app() }),
        Box::new(Receiver { stack: server, listener, app: app() }),
    ]
}

impl Application {
    fn handle_ends(&mut self, stack: &mut Stack) {
        while let Some(event) = stack.poll_event() {
            if let Event::Ended(ended) = event
                && ended.end.cause != Cause::Orderly
            {
                self.failures.push(ended.end.to_string());
            }
        }
    }
}

impl Sender {
    fn send(&mut self, index: usize) {
        let Self { stack, app } = self;
        let Flow { bytes, .. } = app.flows[index];
        let Some(mut tcp) = stack.tcp(app.connections[index]) else { return };
        while app.done[index] < bytes {
            let Poll::Ready(Ok(n)) = tcp.send(app.text.from(app.done[index], bytes)) else { return };
            app.done[index] += n as u64;
            if app.done[index] == bytes {
                let _over_already = tcp.shutdown();
            }
        }
    }
}

impl Host for Sender {
    fn work(&mut self, now: Instant) {
        let next = self.app.connections.len();
        if self.app.flows.get(next).is_some_and(|flow| flow.start <= now) {
            let id = self.stack.tcp_connect(None, SocketAddr::from((ADDRESSES[1], PORT)));
            self.app.connections.push(id.expect("a port is free"));
        }
        (0..self.app.connections.len()).for_each(|index| self.send(index));
        self.app.handle_ends(&mut self.stack);
    }

    fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        let _verdict = self.stack.handle_packet(now, packet, Received::default());
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.stack.handle_timeout(now);
    }

    fn poll_timeout(&mut self, _: Instant) -> Option<Instant> {
        let next = self.app.flows.get(self.app.connections.len()).map(|flow| flow.start);
        self.stack.poll_timeout().into_iter().chain(next).min()
    }

    fn poll_transmit(&mut self, now: Instant, packet: &mut Vec<u8>) -> bool {
        self.stack.poll_transmit(now, packet).is_some()
    }

    fn received(&self) -> &[u64] {
        &self.app.done
    }

    fn failures(&self) -> &[String] {
        &self.app.failures
    }
}

impl Host for Receiver {
    fn work(&mut self, _: Instant) {
        while let Some(id) = self.stack.tcp_accept(self.listener) {
            self.app.connections.push(id);
        }
        for (index, id) in self.app.connections.iter().enumerate() {
            let Some(mut tcp) = self.stack.tcp(*id) else { continue };
            while let Poll::Ready(Ok(1..)) = tcp.poll_readable() {
                let pieces = tcp.readable().map(<[u8]>::len);
                for piece in tcp.readable() {
                    assert!(self.app.text.is(self.app.done[index], piece), "the text is not what was sent");
                    self.app.done[index] += piece.len() as u64;
                }
                tcp.consume(pieces.iter().sum());
            }
        }
        self.app.handle_ends(&mut self.stack);
    }

    fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        let _verdict = self.stack.handle_packet(now, packet, Received::default());
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.stack.handle_timeout(now);
    }

    fn poll_timeout(&mut self, _: Instant) -> Option<Instant> {
        self.stack.poll_timeout()
    }

    fn poll_transmit(&mut self, now: Instant, packet: &mut Vec<u8>) -> bool {
        self.stack.poll_transmit(now, packet).is_some()
    }

    fn received(&self) -> &[u64] {
        &self.app.done
    }

    fn failures(&self) -> &[String] {
        &self.app.failures
    }
}
