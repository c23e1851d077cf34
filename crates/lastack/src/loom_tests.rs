//! Every order in which a user's thread, the driver's and the link's can take the lock and wake each other: no wake-up is
//! lost. `.ci/loom` runs it.

use crate::{Config, Host, UdpSocket};
use lastack_engine::{Instant, Received, Transmit};
use lastack_link::{Capabilities, Link};
use loom::sync::Mutex;
use loom::thread;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A wire in the test's hands.
#[derive(Default)]
struct Wire {
    arriving: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    reader: Option<Waker>,
}

#[derive(Clone, Default)]
struct Near(Arc<Mutex<Wire>>);

impl Link for Near {
    fn capabilities(&self) -> Capabilities {
        Capabilities::memory(1500)
    }

    fn send(&mut self, _now: Instant, packet: &[u8], _transmit: &Transmit) {
        self.0.lock().unwrap().sent.push(packet.to_vec());
    }

    fn recv(&mut self, _now: Instant, packet: &mut Vec<u8>) -> Option<Received> {
        *packet = self.0.lock().unwrap().arriving.pop_front()?;
        Some(Received { checksum_good: true })
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.lock().unwrap();
        if !wire.arriving.is_empty() {
            return Poll::Ready(Ok(()));
        }
        wire.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

const HERE: [u8; 4] = [10, 0, 0, 1];
const THERE: [u8; 4] = [10, 0, 0, 2];

fn model(test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    // Two changes of threads at places where none has to be find what there is to find, and end in minutes.
    builder.preemption_bound = Some(2);
    builder.check(test);
}

fn host() -> (Host, crate::Driver<Near>, Near) {
    let near = Near::default();
    let (host, driver) = Host::with_secret(Config::new([HERE.into()]), near.clone(), [7; 16]);
    (host, driver, near)
}

/// A datagram from [`THERE`] to port 53 here.
fn datagram() -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 29, 0, 0, 0x40, 0, 64, 17, 0, 0];
    packet.extend(THERE);
    packet.extend(HERE);
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend([0, 99, 0, 53, 0, 9, 0, 0, b'x']);
    packet
}

#[test]
fn data_written_while_the_driver_parks_is_sent() {
    model(|| {
        let (host, driver, near) = host();
        let driver = thread::spawn(move || loom::future::block_on(driver));
        let socket = UdpSocket::bind(&host, (HERE, 53)).unwrap();
        socket.try_send_to(b"x", (THERE, 53)).unwrap();
        drop(socket);
        // The last handle goes: the driver sends what there is, and ends.
        drop(host);
        driver.join().unwrap().unwrap();
        assert_eq!(near.0.lock().unwrap().sent.len(), 1);
    });
}

#[test]
fn data_that_arrives_while_its_reader_parks_is_read() {
    model(|| {
        let (host, driver, near) = host();
        let socket = UdpSocket::bind(&host, (HERE, 53)).unwrap();
        let driver = thread::spawn(move || loom::future::block_on(driver));
        let wire = thread::spawn(move || {
            let reader = {
                let mut wire = near.0.lock().unwrap();
                wire.arriving.push_back(datagram());
                wire.reader.take()
            };
            if let Some(reader) = reader {
                reader.wake();
            }
        });
        let mut buf = [0; 4];
        let (len, from) = loom::future::block_on(socket.recv_from(&mut buf)).unwrap();
        assert_eq!((&buf[..len], from), (&b"x"[..], SocketAddr::from((THERE, 99))));
        wire.join().unwrap();
        drop(socket);
        drop(host);
        driver.join().unwrap().unwrap();
    });
}

#[test]
fn a_dropped_driver_wakes_waiting_tasks() {
    model(|| {
        let (host, driver, _near) = host();
        let socket = UdpSocket::bind(&host, (HERE, 53)).unwrap();
        let driver = thread::spawn(move || drop(driver));
        assert!(loom::future::block_on(socket.recv_from(&mut [0; 1])).is_err());
        driver.join().unwrap();
        drop(host);
    });
}

#[test]
fn a_shutdown_ends_the_driver() {
    model(|| {
        let (host, driver, _near) = host();
        let driver = thread::spawn(move || loom::future::block_on(driver));
        host.shared().with(crate::shared::Inner::begin_shutdown);
        driver.join().unwrap().unwrap();
    });
}
