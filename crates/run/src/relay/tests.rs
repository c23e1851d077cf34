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

/// Turns of all relays in their order: whose, how many bytes, and whether it ended because it had moved its share.
type Turns = Rc<RefCell<Vec<(usize, usize, bool)>>>;

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
            let bytes = (ledger.from_remote.get() - before) as usize;
            let segment = far.info().map_or(1, |info| info.mss as usize);
            turns.borrow_mut().push((number, bytes, bytes >= TURN - TURN % segment));
            over
        });
        assert!(matches!(over.await, Over::Orderly));
        assert_eq!(ledger.facts().talk.run, BYTES as u64, "all that was read is observed");
    });
    let mut data = Vec::new();
    near.read_to_end(&mut data).await.unwrap();
    assert!(data.len() == BYTES && data.iter().all(|byte| *byte == number as u8), "stream {number}");
    near.close().await.unwrap();
}

/// A relay moves no more than its share in a turn, and then each other that is ready has one turn before its next, however much
/// the kernel delivers to it.
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
            assert!(turns.iter().all(|(_, bytes, _)| *bytes <= TURN), "{turns:?}");
            for (at, &(number, _, _)) in turns.iter().enumerate().filter(|(_, (.., full))| *full) {
                let others = turns[at + 1..].iter().map(|(other, ..)| *other);
                let between: Vec<usize> = others.take_while(|other| *other != number).collect();
                let once = |other| between.iter().filter(|between| **between == other).count() <= 1;
                assert!((0..STREAMS).all(once), "after turn {at} of stream {number}: {between:?}");
            }
        })
        .await;
}

/// A connection that the relay carries between two stacks and to a server of the kernel.
struct Carried {
    /// The program's end, and lastack's.
    near: TcpStream,
    far: TcpStream,
    /// The host's socket, and the server's.
    host: HostStream,
    server: HostStream,
    account: crate::account::ConnectionReport,
}

impl Carried {
    async fn begin() -> Self {
        let (a, b) = pipe(Capabilities::memory(1500));
        let program = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
        let stack = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
        let listener = TcpListener::bind(&stack, ([10, 0, 0, 2], 80)).unwrap();
        let to = listener.local_addr().unwrap();
        let (near, accepted) = tokio::join!(TcpStream::connect(&program, to), listener.accept());
        let (near, (far, _)) = (near.unwrap(), accepted.unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (host, server) =
            tokio::join!(HostStream::connect(listener.local_addr().unwrap()), listener.accept());
        let account = crate::account::ConnectionReport::new(near.local_addr().unwrap(), to);
        account.ledger.course.begin();
        Self { near, far, host: host.unwrap(), server: server.unwrap().0, account }
    }

    /// The record of the connection once the relay has ended: `server` acts first.
    async fn record(self, server: impl AsyncFnOnce(&mut TcpStream, HostStream)) -> crate::report::Record {
        let Self { mut near, far, host, server: socket, account } = self;
        let (inner, urgent) = (Inner::new(None), crate::tap::Urgent::default());
        let relay = Relay::new(&far, &host, &account.ledger, &inner, &urgent, None);
        let mut run = pin!(relay.run());
        let acted = server(&mut near, socket);
        let over = tokio::select! {
            biased;
            () = acted => run.await,
            over = &mut run => over,
        };
        let mut record = account.relayed(Some(&over), &far, &host, None);
        record.note_what_is_known();
        record
    }
}

/// Otherwise one upload fills the queue of the device with all that its congestion window allows, and others wait behind it.
#[tokio::test]
async fn the_window_for_bulk_data_is_limited() {
    let Carried { mut near, far, host, mut server, account } = Carried::begin().await;
    let (inner, urgent) = (Inner::new(None), crate::tap::Urgent::default());
    let relay = Relay::new(&far, &host, &account.ledger, &inner, &urgent, None);
    let exchange = async {
        let unlimited = far.recv_buffer_size().unwrap();
        assert!(unlimited > super::MAX_WINDOW);
        for (bytes, limit) in
            [(1000, unlimited), (super::BULK as usize, super::MAX_WINDOW), (8 << 20, super::MAX_WINDOW)]
        {
            let (data, mut received) = (vec![7; bytes], vec![0; bytes]);
            let (sent, read) = tokio::join!(near.write_all(&data), server.read_exact(&mut received));
            assert_eq!((sent.unwrap(), read.unwrap()), ((), bytes));
            assert_eq!(far.recv_buffer_size().unwrap(), limit, "{bytes}");
        }
    };
    tokio::select! {
        over = relay.run() => panic!("{over:?}"),
        () = exchange => {}
    }
}

/// What the program sends while lastack still holds the reset back is not the reason of that reset.
#[tokio::test]
async fn data_after_a_reset_is_not_called_unread() {
    let record = Carried::begin().await.record(async |near, server| {
        server.set_zero_linger().unwrap();
        drop(server);
        near.write_all(b"a request").await.unwrap();
    });
    let record = LocalSet::new().run_until(record).await;
    assert_eq!(record.verdict().cause.name(), "abort", "{record:?}");
    assert_eq!(record.note.as_deref(), Some("the reset came before the program had sent data"));
}

#[tokio::test]
async fn data_that_the_remote_had_and_did_not_read_is_called_unread() {
    let record = Carried::begin().await.record(async |near, server| {
        near.write_all(b"a request").await.unwrap();
        server.peek(&mut [0]).await.unwrap();
        drop(server);
    });
    let record = LocalSet::new().run_until(record).await;
    assert_eq!(record.verdict().cause.name(), "close-unread", "{record:?}");
}

/// The FIN of the program did not leave: the reset was there before.
#[tokio::test]
async fn a_fin_after_a_reset_is_not_its_reason() {
    let record = Carried::begin().await.record(async |near, server| {
        server.set_zero_linger().unwrap();
        drop(server);
        near.shutdown().await.unwrap();
    });
    let record = LocalSet::new().run_until(record).await;
    assert_eq!(record.verdict().cause.name(), "abort", "{record:?}");
}

/// Whoever reads the error of the socket first takes it: a read then only sees the end of the stream.
#[tokio::test]
async fn a_reset_that_is_read_with_the_soft_errors_is_a_reset() {
    let check = async {
        let Carried { near: _near, far, host, server, account } = Carried::begin().await;
        let (inner, urgent) = (Inner::new(None), crate::tap::Urgent::default());
        let relay = Relay::new(&far, &host, &account.ledger, &inner, &urgent, None);
        server.set_zero_linger().unwrap();
        drop(server);
        relay.acks.pass_on_errors(relay.sides(), &relay.failed);
        // The next call has no error, as if the remote had closed.
        host.readable().await.unwrap();
        assert_eq!(host.try_read(&mut [0]).unwrap(), 0);
        assert!(matches!(relay.run().await, Over::Host(libc::ECONNRESET)));
    };
    LocalSet::new().run_until(check).await;
}

#[test]
fn all_pieces_that_a_read_has_filled_are_observed() {
    let (mut a, mut b, mut c) = (*b"abc", *b"", *b"defgh");
    let room = [&mut a[..], &mut b[..], &mut c[..]].map(IoSliceMut::new);
    let read = |bytes| read_pieces(&room, bytes).concat();
    assert_eq!(
        (read(8), read(5), read(3), read(0)),
        (b"abcdefgh".into(), b"abcde".into(), b"abc".into(), vec![])
    );
}
