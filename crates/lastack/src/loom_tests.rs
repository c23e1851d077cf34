//! Every order in which a user's thread, the driver's and the link's can take the lock and wake each other: no wake-up is
//! lost. Run by `.ci/run`: `cargo test --manifest-path .ci/loom/Cargo.toml loom_tests`.

use crate::{Config, Host, TcpListener, TcpStream, UdpSocket};
use lastack_engine::{Instant, Received, Transmit};
use lastack_link::{Capabilities, Link};
use lastack_wire::ip::{self, IpHeader, IpPacket};
use lastack_wire::tcp::{self, TcpFlags, TcpHeader, TcpOptions};
use loom::sync::Mutex;
use loom::thread;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

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
        Some(Received { checksum_good: true, ..Received::default() })
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
    // More than two preemptions find nothing more here, and take minutes.
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

/// A connection whose send buffer is full of data that the peer has not acknowledged. Nobody polls the driver: what it
/// does with a packet, the peer does here.
struct Full {
    host: Host,
    stream: TcpStream,
    peer: TcpHeader,
    _driver: crate::Driver<Near>,
}

/// The time of all packets: what is sent does not depend on the clock, so that each run of a model is alike.
const NOW: Instant = Instant::from_millis(1000);

/// What the peer gives to the stack.
#[derive(Clone)]
struct Peer {
    host: Host,
    header: TcpHeader,
}

impl Peer {
    fn send(&self, flags: TcpFlags) {
        let header = TcpHeader { flags, ..self.header };
        let ip = IpHeader::new(THERE.into(), HERE.into(), ip::TCP);
        let mut packet = Vec::new();
        ip.emit(header.len(), &mut packet);
        header.emit(&mut packet);
        tcp::fill_checksum(&ip, &mut packet[ip.len()..]);
        let _ = self.host.shared().with(|inner| inner.stack.handle_packet(NOW, &packet, Received::default()));
    }

    /// What the stack has to send: the end of the last segment.
    fn last(&self) -> Option<(u32, TcpFlags)> {
        let (mut packet, mut last) = (Vec::new(), None);
        while self.host.shared().with(|inner| inner.stack.poll_transmit(NOW, &mut packet)).is_some() {
            let (header, data) = TcpHeader::parse(IpPacket::parse(&packet).unwrap().payload).unwrap();
            last = Some((header.seq.wrapping_add(data.len() as u32), header.flags));
        }
        last
    }
}

impl Full {
    fn new() -> (Self, Peer) {
        let mut config = Config::new([HERE.into()]);
        config.tcp.send_buffer = 4096;
        let (host, driver) = Host::with_secret(config, Near::default(), [7; 16]);
        let listener = TcpListener::bind(&host, (HERE, 80)).unwrap();
        let options = TcpOptions { mss: Some(1460), ..TcpOptions::default() };
        let header = TcpHeader {
            src_port: 5000,
            dst_port: 80,
            seq: 1000,
            ack: 0,
            flags: TcpFlags::SYN,
            window: 65535,
            urgent: 0,
            options,
        };
        let mut peer = Peer { host: host.clone(), header };
        peer.send(TcpFlags::SYN);
        let (iss, flags) = peer.last().expect("a reply to the SYN");
        assert_eq!(flags, TcpFlags::SYN | TcpFlags::ACK);
        peer.header =
            TcpHeader { seq: 1001, ack: iss.wrapping_add(1), options: TcpOptions::default(), ..header };
        peer.send(TcpFlags::ACK);
        let (stream, _) = loom::future::block_on(listener.accept()).unwrap();
        while stream.try_write(&[7; 4096]).is_ok() {
            // Later ACKs are of all of it.
            peer.header.ack = peer.last().map_or(peer.header.ack, |(end, _)| end);
        }
        (Self { host, stream, peer: peer.header, _driver: driver }, peer)
    }
}

/// Counts the wake-ups of a task.
struct Counted {
    wakes: AtomicUsize,
    task: Waker,
}

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        self.task.wake_by_ref();
    }
}

/// Awaits `future`, which may be woken once: a task that is woken twice has waited for nothing.
fn woken_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut counted: Option<Arc<Counted>> = None;
    let result = loom::future::block_on(poll_fn(|cx| {
        let counted = counted.get_or_insert_with(|| {
            Arc::new(Counted { wakes: AtomicUsize::new(0), task: cx.waker().clone() })
        });
        future.as_mut().poll(&mut Context::from_waker(&counted.clone().into()))
    }));
    let wakes = counted.map_or(0, |counted| counted.wakes.load(Ordering::Relaxed));
    assert!(wakes <= 1, "woken {wakes} times");
    result
}

/// A write of one byte.
fn write(stream: &TcpStream) -> io::Result<usize> {
    woken_once(poll_fn(|cx| stream.poll_write_ref(cx, &[io::IoSlice::new(b"x")])))
}

#[test]
fn a_write_that_waits_for_room_goes_on_after_an_ack() {
    model(|| {
        let (full, peer) = Full::new();
        let peer = thread::spawn(move || peer.send(TcpFlags::ACK));
        let result = write(&full.stream);
        assert_eq!(result.unwrap(), 1);
        peer.join().unwrap();
    });
}

#[test]
fn two_tasks_that_wait_for_room_are_both_woken_by_one_ack() {
    model(|| {
        let (full, peer) = Full::new();
        let stream = Arc::new(full.stream);
        let other = stream.clone();
        let other = thread::spawn(move || loom::future::block_on(other.writable()).unwrap());
        peer.send(TcpFlags::ACK);
        woken_once(stream.writable()).unwrap();
        other.join().unwrap();
    });
}

#[test]
fn a_write_that_waits_fails_when_the_peer_resets() {
    model(|| {
        let (full, peer) = Full::new();
        let peer = thread::spawn(move || peer.send(TcpFlags::RST));
        let result = write(&full.stream);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset);
        peer.join().unwrap();
    });
}

#[test]
fn a_write_that_waits_fails_when_another_task_shuts_down() {
    model(|| {
        let (full, _peer) = Full::new();
        let stream = Arc::new(full.stream);
        let other = stream.clone();
        let other = thread::spawn(move || other.shutdown_write().unwrap());
        assert_eq!(write(&stream).unwrap_err().kind(), ErrorKind::BrokenPipe);
        other.join().unwrap();
    });
}

#[test]
fn a_write_that_waits_fails_when_another_task_aborts() {
    model(|| {
        let (full, peer) = Full::new();
        let stream = Arc::new(full.stream);
        let other = stream.clone();
        let other = thread::spawn(move || {
            other.abort();
            let (_, flags) = peer.last().expect("a reset");
            assert!(flags.contains(TcpFlags::RST));
        });
        assert!(write(&stream).is_err());
        other.join().unwrap();
    });
}

/// The ACK that makes room comes with, before or after the shutdown: the waiting task gets one of both, and the FIN is
/// sent behind what was written.
#[test]
fn an_ack_and_a_shutdown_race_for_a_write_that_waits() {
    model(|| {
        let (full, peer) = Full::new();
        let stream = Arc::new(full.stream);
        let other = stream.clone();
        let closer = thread::spawn(move || other.shutdown_write().unwrap());
        let sender = peer.clone();
        let sender = thread::spawn(move || sender.send(TcpFlags::ACK));
        let result = write(&stream);
        closer.join().unwrap();
        sender.join().unwrap();
        let written = u32::from(result.is_ok());
        let (end, flags) = peer.last().expect("a FIN");
        assert!(flags.contains(TcpFlags::FIN));
        assert_eq!(end, full.peer.ack.wrapping_add(written));
    });
}

/// A future that was woken and is dropped before it is polled takes nothing from the next one.
#[test]
fn a_dropped_wait_leaves_room_for_the_next() {
    model(|| {
        let (full, peer) = Full::new();
        let peer = thread::spawn(move || peer.send(TcpFlags::ACK));
        {
            let mut first = pin!(full.stream.writable());
            let _either =
                loom::future::block_on(poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx).is_ready())));
        }
        loom::future::block_on(full.stream.writable()).unwrap();
        peer.join().unwrap();
    });
}

#[test]
fn a_driver_that_is_dropped_wakes_a_write_that_waits() {
    model(|| {
        let (full, _peer) = Full::new();
        let driver = full._driver;
        let driver = thread::spawn(move || drop(driver));
        let result = write(&full.stream);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::NetworkDown);
        driver.join().unwrap();
        drop(full.host);
    });
}

/// A datagram waits for room in the queue; the driver, on a thread of its own, makes it.
#[test]
fn a_datagram_that_waits_for_room_is_sent() {
    model(|| {
        let mut config = Config::new([HERE.into()]);
        config.datagrams.send_queue = 1;
        let near = Near::default();
        let (host, driver) = Host::with_secret(config, near.clone(), [7; 16]);
        let socket = UdpSocket::bind(&host, (HERE, 53)).unwrap();
        socket.try_send_to(b"x", (THERE, 53)).unwrap();
        assert_eq!(socket.try_send_to(b"y", (THERE, 53)).unwrap_err().kind(), ErrorKind::WouldBlock);
        let driver = thread::spawn(move || loom::future::block_on(driver));
        loom::future::block_on(socket.send_to(b"y", (THERE, 53))).unwrap();
        drop(socket);
        drop(host);
        driver.join().unwrap().unwrap();
        assert_eq!(near.0.lock().unwrap().sent.len(), 2);
    });
}
