//! Turns of several relays, counted in bytes.

use std::cell::RefCell;
use std::rc::Rc;

use lastack::link::{Capabilities, pipe};
use lastack::{Config, Host, TcpListener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::LocalSet;

use super::*;

const STREAMS: usize = 4;
const BYTES: usize = 8 << 20;

/// Turns of all relays in their order: whose, and how many bytes.
type Turns = Rc<RefCell<Vec<(usize, usize)>>>;

/// A download: a server of the kernel sends, and the program reads everything.
async fn download(number: usize, program: Host, stack: TcpListener, turns: Turns) {
    let to = stack.local_addr().unwrap();
    let (near, accepted) = tokio::join!(TcpStream::connect(&program, to), stack.accept());
    let (mut near, (far, _)) = (near.unwrap(), accepted.unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (host, server) = tokio::join!(HostStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (host, (mut server, _)) = (host.unwrap(), server.unwrap());
    tokio::task::spawn_local(async move {
        server.write_all(&vec![number as u8; BYTES]).await.unwrap();
        server.shutdown().await.unwrap();
        // Until the program has closed as well.
        let _ended = server.read(&mut [0]).await;
    });
    tokio::task::spawn_local(async move {
        let (ledger, inner) = (RelayStats::default(), Inner::new(None));
        let urgent = crate::tap::Urgent::default();
        let relay = Relay::new(&far, &host, &ledger, &inner, &urgent, None);
        let mut run = pin!(relay.run());
        let over = poll_fn(|cx| {
            let before = ledger.from_remote.get();
            let over = run.as_mut().poll(cx);
            match ledger.from_remote.get() - before {
                0 => {}
                bytes => turns.borrow_mut().push((number, bytes as usize)),
            }
            over
        });
        assert!(matches!(over.await, Over::Orderly));
    });
    let mut data = Vec::new();
    near.read_to_end(&mut data).await.unwrap();
    assert!(data.len() == BYTES && data.iter().all(|byte| *byte == number as u8), "stream {number}");
    near.close().await.unwrap();
}

/// A relay moves no more than its share in a turn, and none is starved. On a busy machine the kernel does not deliver to all
/// at the same rate; without turns, one stream would end before another begins.
#[tokio::test]
async fn relays_take_turns_of_limited_size() {
    LocalSet::new()
        .run_until(async {
            let (a, b) = pipe(Capabilities::memory(65_520));
            let program = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
            let stack = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
            let turns = Turns::default();
            let mut streams = Vec::new();
            for number in 0..STREAMS {
                let listener = TcpListener::bind(&stack, ([10, 0, 0, 2], 80 + number as u16)).unwrap();
                let download = download(number, program.clone(), listener, turns.clone());
                streams.push(tokio::task::spawn_local(download));
            }
            for stream in streams {
                stream.await.unwrap();
            }
            let turns = turns.borrow();
            let largest = turns.iter().map(|(_, bytes)| *bytes).max().unwrap();
            assert!(largest <= 256 << 10, "{largest} bytes in one turn");
            let mut moved = [0; STREAMS];
            for &(number, bytes) in turns.iter() {
                moved[number] += bytes;
                // While all of them have data.
                if moved.iter().all(|moved| *moved < BYTES) && moved.iter().sum::<usize>() > BYTES {
                    let [min, max] = [moved.iter().min(), moved.iter().max()].map(|moved| *moved.unwrap());
                    assert!(min * 4 >= max, "{moved:?}");
                }
            }
        })
        .await;
}
