//! A host for each queue of a TUN: the kernel's flows are distributed, and each stays with its host.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener as KernelListener, TcpStream as KernelStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use lastack::{Config, Host, Queues, TcpListener};
use lastack_device::{LinkSettings, Netlink, netlink};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lab::{NAME, PATIENCE, Pair, in_namespace, pairs};

const QUEUES: usize = 3;
const PORT: u16 = 8080;
const CONNECTIONS: usize = 40;

/// Runs `test` with hosts whose drivers run on threads of their own.
fn with_queues(test: fn(Queues, Pair)) {
    for pair in pairs() {
        in_namespace(move || {
            let (queues, drivers) = Queues::open(NAME, QUEUES, &Config::new([pair.ours]))
                .unwrap_or_else(|error| panic!("cannot run here: {error}"));
            let mut netlink = Netlink::open().unwrap();
            let index = netlink::index_of(NAME).unwrap();
            netlink.add_address(index, pair.kernel, if pair.kernel.is_ipv4() { 24 } else { 64 }).unwrap();
            netlink.set_up(index, &LinkSettings::default()).unwrap();
            for driver in drivers {
                thread::spawn(move || runtime().block_on(driver));
            }
            netlink.await_address(pair.kernel).unwrap();
            test(queues, pair);
        });
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Echoes what comes, and counts connections.
fn serve(host: Host, pair: Pair, accepted: Arc<AtomicUsize>) {
    thread::spawn(move || {
        runtime().block_on(async {
            let listener = TcpListener::bind(&host, (pair.ours, PORT)).unwrap();
            while let Ok((mut stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await.unwrap();
                    stream.shutdown().await.unwrap();
                });
            }
        });
    });
}

#[test]
#[ignore = "needs root, /dev/net/tun and bpf(2)"]
fn connections_of_the_kernel_are_distributed_and_each_is_served() {
    with_queues(|queues, pair| {
        let counts: Vec<_> = queues.hosts().iter().map(|_| Arc::<AtomicUsize>::default()).collect();
        for (host, accepted) in queues.hosts().iter().zip(&counts) {
            serve(host.clone(), pair, accepted.clone());
        }
        let there = SocketAddr::new(pair.ours, PORT);
        // A host is refused as long as its listener is not there.
        let connect = || loop {
            if let Ok(stream) = KernelStream::connect(there) {
                return stream;
            }
        };
        let mut streams: Vec<_> = (0..CONNECTIONS).map(|_| connect()).collect();
        for (number, stream) in streams.iter_mut().enumerate() {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let data = vec![number as u8; 100_000];
            stream.write_all(&data).unwrap();
            let mut echo = vec![0; data.len()];
            stream.read_exact(&mut echo).unwrap();
            assert!(echo == data, "connection {number}");
        }
        let counts: Vec<_> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        assert_eq!(counts.iter().sum::<usize>(), CONNECTIONS);
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    });
}

#[test]
#[ignore = "needs root, /dev/net/tun and bpf(2)"]
fn answers_to_a_connection_come_to_the_queue_that_opened_it() {
    with_queues(|queues, pair| {
        let listener = KernelListener::bind((pair.kernel, 0)).unwrap();
        let there = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            for _ in 0..4 * QUEUES {
                let (mut stream, _) = listener.accept().unwrap();
                let mut data = Vec::new();
                stream.read_to_end(&mut data).unwrap();
                stream.write_all(&data).unwrap();
            }
        });
        runtime().block_on(async {
            for queue in (0..QUEUES).cycle().take(4 * QUEUES) {
                let mut stream =
                    tokio::time::timeout(PATIENCE, queues.connect(queue, there)).await.unwrap().unwrap();
                stream.write_all(&[queue as u8; 1000]).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut echo = Vec::new();
                stream.read_to_end(&mut echo).await.unwrap();
                assert_eq!(echo, [queue as u8; 1000]);
            }
        });
        server.join().unwrap();
    });
}
