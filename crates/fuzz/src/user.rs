//! The calls of an application, as decided by the input.

use crate::Input;
use crate::host::{Host, Named, byte};
use lastack_engine::{ConnId, Keepalive, Tcp, TcpError};
use std::task::Poll;
use std::time::Duration;

impl Host {
    fn named_mut(&mut self, id: ConnId) -> &mut Named {
        self.named.get_mut(&id).expect("it has a name")
    }

    fn tcp<R>(&mut self, id: ConnId, call: impl FnOnce(Tcp<'_>) -> R) -> R {
        self.call(|stack| call(stack.tcp(id).expect("a user has it")))
    }

    /// SEND, once.
    pub fn send(&mut self, id: ConnId, input: &mut Input<'_>) {
        let (len, more) = (input.pick(&[1, 100, 1460, 20_000]), input.byte() & 1 == 1);
        let from = self.named[&id].written;
        let text: Vec<_> = (from..from + len).map(byte).collect();
        let sent = self.tcp(id, |mut tcp| if more { tcp.send_more(&text) } else { tcp.send(&text) });
        let named = self.named_mut(id);
        match sent {
            Poll::Ready(Ok(n)) => named.written += n as u32,
            // A closed send direction does not affect the other one. Other errors are reported once,
            // by the first call.
            Poll::Ready(Err(TcpError::BrokenPipe)) | Poll::Pending => {}
            Poll::Ready(Err(_)) => named.failed |= !named.end_of_stream,
        }
    }

    /// RECEIVE, once.
    pub fn receive(&mut self, id: ConnId, input: &mut Input<'_>) {
        let mut buf = vec![0; input.pick(&[100_000, 1, 700])];
        let received = self.tcp(id, |mut tcp| tcp.receive(&mut buf));
        let named = self.named_mut(id);
        match received {
            Poll::Ready(Ok(0)) => named.end_of_stream |= !named.failed,
            Poll::Ready(Ok(n)) => {
                assert!(!named.end_of_stream, "text behind the end of the stream");
                named.read.extend_from_slice(&buf[..n]);
            }
            Poll::Ready(Err(_)) => named.failed = true,
            Poll::Pending => assert!(!named.end_of_stream, "after the end, nothing is to come"),
        }
    }

    /// CLOSE of the send direction.
    pub fn shutdown(&mut self, id: ConnId) {
        // It fails only if the connection no longer exists.
        let _ = self.tcp(id, |mut tcp| tcp.shutdown());
    }

    /// ABORT. A later end of the stream does not count.
    pub fn abort(&mut self, id: ConnId) {
        let named = self.named_mut(id);
        named.failed |= !named.end_of_stream;
        self.tcp(id, |mut tcp| tcp.abort());
    }

    /// CLOSE.
    pub fn close(&mut self, id: ConnId) {
        self.named_mut(id).closed = true;
        self.tcp(id, |tcp| tcp.close());
    }

    /// An option of the socket.
    pub fn set(&mut self, id: ConnId, input: &mut Input<'_>) {
        let (what, on) = (input.below(6), input.byte() & 1 == 0);
        let seconds = Duration::from_secs(u64::from(input.byte() % 4));
        self.tcp(id, |mut tcp| match what {
            0 => tcp.set_linger(on.then_some(seconds)),
            1 => tcp.set_user_timeout(on.then_some(seconds)),
            2 => {
                // A shorter interval would make the hours until the end take too long.
                let pause = seconds + Duration::from_secs(1);
                let keepalive = Keepalive { idle: pause, interval: pause, count: 2 };
                tcp.set_keepalive(on.then_some(keepalive));
            }
            3 => tcp.set_nodelay(on),
            4 => tcp.set_cork(on),
            _ => tcp.set_send_buffer(on.then_some(2000)),
        });
    }
}
