//! Resets between our stack and Linux' own: in each state in which one can be sent, the other takes it.

use std::{
    io::{ErrorKind, Read, Write},
    net::{self, SocketAddr},
    time::Duration,
};

use lastack::{Cause, Config, EndedBy, FourTuple, Host, ResetReason, Rule, TcpListener, TcpState, TcpStream};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::{
    kill,
    lab::{Lab, PATIENCE, Pair, with_devices},
};

const PORT: u16 = 8080;
/// How often it is looked whether something has come.
const LOOK: Duration = Duration::from_millis(1);

/// What happened before the reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    /// Our FIN: we are in FIN-WAIT-2, Linux in CLOSE-WAIT.
    OurFin,
    /// Linux' FIN: the other way round.
    LinuxFin,
    /// Linux reads nothing, and its window is shut.
    LinuxStalls,
    /// We read nothing, and our window is shut.
    WeStall,
}

const ALL: [Before; 5] =
    [Before::Nothing, Before::OurFin, Before::LinuxFin, Before::LinuxStalls, Before::WeStall];

/// How one side resets.
#[derive(Clone, Copy, Debug)]
enum How {
    /// It closes with unread data (S60).
    Unread,
    /// It closes with linger zero (S64).
    Linger,
    /// An administrator ends it (S103).
    Kill,
    /// It aborts, and says why where that fits (part of ours only).
    Reason,
}

fn with_stack(change: fn(&mut Config), test: impl AsyncFn(Host, Pair) + Copy + Send + 'static) {
    with_devices(move |Lab { device, runtime }, pair| {
        runtime.block_on(async {
            let mut config = Config::new([pair.ours]);
            change(&mut config);
            let host = Host::spawn(config, device);
            timeout(6 * PATIENCE, test(host, pair)).await.expect("it does not end");
        });
    });
}

/// A connection that Linux opened, and our end of it.
async fn connection(listener: &TcpListener) -> (TcpStream, net::TcpStream) {
    let to = listener.local_addr().unwrap();
    let connect = spawn_blocking(move || net::TcpStream::connect(to).unwrap());
    let (accepted, linux) = tokio::join!(listener.accept(), connect);
    let linux = linux.unwrap();
    linux.set_nonblocking(true).unwrap();
    (accepted.unwrap().0, linux)
}

async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        sleep(LOOK).await;
    }
}

async fn prepare(before: Before, ours: &mut TcpStream, linux: &mut net::TcpStream) {
    let text = [b'x'; 1 << 16];
    match before {
        Before::Nothing => {}
        Before::OurFin => {
            ours.shutdown().await.unwrap();
            until(|| ours.state() == TcpState::FinWait2).await;
        }
        Before::LinuxFin => {
            linux.shutdown(net::Shutdown::Write).unwrap();
            until(|| ours.state() == TcpState::CloseWait).await;
        }
        Before::LinuxStalls => {
            until(|| {
                let _full = ours.try_write(&text);
                ours.info().unwrap().snd_wnd == 0
            })
            .await;
        }
        Before::WeStall => {
            until(|| {
                let _full = linux.write(&text);
                // Less than the unit of the field is a window of zero to Linux.
                let info = ours.info().unwrap();
                info.rcv_wnd >> info.window_scaling.map_or(0, |(_, ours)| ours) == 0
            })
            .await;
        }
    }
}

/// The error that Linux reports for the connection.
async fn linux_error(linux: &net::TcpStream) -> i32 {
    let mut error = None;
    until(|| {
        error = linux.take_error().unwrap();
        error.is_some()
    })
    .await;
    error.and_then(|error| error.raw_os_error()).unwrap()
}

fn flow(ours: &TcpStream) -> FourTuple {
    FourTuple { local: ours.local_addr().unwrap(), remote: ours.peer_addr().unwrap() }
}

async fn reset_by_us(how: How, host: &Host, ours: TcpStream, linux: &mut net::TcpStream) {
    match how {
        How::Unread => {
            if ours.state() != TcpState::CloseWait {
                // What does not fit our window any more is there already.
                let _full = linux.write(b"unread");
                until(|| ours.info().unwrap().unread > 0).await;
            } else {
                ours.abort();
            }
            drop(ours);
        }
        How::Linger => {
            ours.set_linger(Some(Duration::ZERO)).unwrap();
            drop(ours);
        }
        How::Kill => {
            assert!(host.kill(flow(&ours)));
            assert_eq!(ours.closed().await.unwrap().by, EndedBy::Administrator);
        }
        How::Reason => {
            ours.set_reset_reason(Some(ResetReason::Abort)).unwrap();
            ours.abort();
        }
    }
}

/// S60, S64, S103, with a reason too: in ESTABLISHED, FIN-WAIT-2, CLOSE-WAIT, and at a shut window of either
/// side. T206: a stalled Linux drops a reset whose data does not fit, so ours has none there.
#[test]
#[ignore = "needs root and /dev/net/tun"]
fn t206_linux_takes_our_resets_in_every_state() {
    with_stack(
        |_| {},
        async |host, pair| {
            let listener = TcpListener::bind(&host, (pair.ours, PORT)).unwrap();
            for before in ALL {
                for how in [How::Unread, How::Linger, How::Kill, How::Reason] {
                    let (mut ours, mut linux) = connection(&listener).await;
                    prepare(before, &mut ours, &mut linux).await;
                    let sent = host.counters().tcp_reasons_sent;
                    reset_by_us(how, &host, ours, &mut linux).await;
                    let expected = if before == Before::OurFin { libc::EPIPE } else { libc::ECONNRESET };
                    assert_eq!(linux_error(&linux).await, expected, "{before:?} {how:?}");
                    if let How::Reason = how {
                        let said = host.counters().tcp_reasons_sent - sent;
                        assert_eq!(said, u64::from(before != Before::LinuxStalls), "{before:?}");
                    }
                }
            }
        },
    );
}

/// The same from Linux (S60, S64, S103 there): R1, and R15 after its FIN.
#[test]
#[ignore = "needs root and /dev/net/tun"]
fn r1_r15_we_take_the_resets_of_linux_in_every_state() {
    with_stack(
        |_| {},
        async |host, pair| {
            let listener = TcpListener::bind(&host, (pair.ours, PORT)).unwrap();
            for before in ALL {
                for how in [How::Unread, How::Linger, How::Kill] {
                    let (mut ours, mut linux) = connection(&listener).await;
                    prepare(before, &mut ours, &mut linux).await;
                    match how {
                        How::Unread if before == Before::OurFin => continue, // nothing can be unread
                        How::Unread => {
                            let _full = ours.try_write(b"unread");
                            until(|| linux.peek(&mut [0]).is_ok()).await;
                        }
                        How::Linger => SockRef::from(&linux).set_linger(Some(Duration::ZERO)).unwrap(),
                        How::Kill => {
                            let FourTuple { local, remote } = flow(&ours);
                            kill::kill(remote, local).unwrap();
                        }
                        How::Reason => unreachable!("Linux says none"),
                    }
                    drop(linux);
                    let end = ours.closed().await.unwrap();
                    let rule =
                        if before == Before::LinuxFin { Rule::PeerRstAfterFin } else { Rule::PeerRstExact };
                    assert_eq!(
                        (end.cause, end.by, end.rule),
                        (Cause::Reset, EndedBy::Peer, rule),
                        "{before:?} {how:?}"
                    );
                }
            }
        },
    );
}

/// S80, S71, S97: what we send after our close, and Linux, which is in CLOSE-WAIT, takes: EPIPE.
#[test]
#[ignore = "needs root and /dev/net/tun"]
fn s80_s71_s97_linux_takes_our_resets_after_our_close() {
    with_stack(
        |config| config.tcp.reset_on_give_up = true,
        async |host, pair| {
            let listener = TcpListener::bind(&host, (pair.ours, PORT)).unwrap();
            for (wait, rule) in [
                (None, Rule::RstDataAfterClose),
                (Some(0), Rule::RstFinWait2Refused),
                (Some(50), Rule::RstFinWait2Timeout),
            ] {
                let mut ends = host.ended();
                let (ours, mut linux) = connection(&listener).await;
                ours.set_fin_wait_2(wait.map(Duration::from_millis)).unwrap();
                drop(ours);
                until(|| matches!(linux.read(&mut [0]), Ok(0)) || linux.take_error().unwrap().is_some())
                    .await;
                if rule == Rule::RstDataAfterClose {
                    linux.write_all(b"late").unwrap();
                    assert_eq!(linux_error(&linux).await, libc::EPIPE);
                }
                assert_eq!(ends.recv().await.unwrap().end.rule, rule);
                until(|| linux.write(b"x").is_err_and(|error| error.kind() == ErrorKind::BrokenPipe)).await;
            }
        },
    );
}

/// S90, S106, and S99 where no connection may live on without a user.
#[test]
#[ignore = "needs root and /dev/net/tun"]
fn s90_s106_s99_linux_takes_the_resets_of_listeners_and_orphans() {
    with_stack(
        |config| config.tcp.max_orphans = 0,
        async |host, pair| {
            for rule in [Rule::RstListenerClosed, Rule::RstListenerKilled, Rule::LimitOrphansAtClose] {
                let mut ends = host.ended();
                let listener = TcpListener::bind(&host, (pair.ours, PORT)).unwrap();
                let to = SocketAddr::new(pair.ours, PORT);
                let linux = if rule == Rule::LimitOrphansAtClose {
                    connection(&listener).await.1
                } else {
                    let linux = spawn_blocking(move || net::TcpStream::connect(to).unwrap()).await.unwrap();
                    // The last ACK of the handshake is on its way.
                    let flow = FourTuple { local: to, remote: linux.local_addr().unwrap() };
                    until(|| {
                        host.connections().iter().any(|c| c.flow == flow && c.state == TcpState::Established)
                    })
                    .await;
                    linux
                };
                match rule {
                    Rule::RstListenerKilled => assert!(host.kill_listener(to)),
                    _ => drop(listener),
                }
                assert_eq!(linux_error(&linux).await, libc::ECONNRESET, "{rule}");
                assert_eq!(ends.recv().await.unwrap().end.rule, rule);
            }
        },
    );
}

/// S93, then S4 or S10: a connection that we ended silently, and that Linux keeps until it sends.
/// S20: or until we connect again, from the same port.
#[test]
#[ignore = "needs root and /dev/net/tun"]
fn s4_s10_s20_linux_takes_our_answers_to_a_connection_that_we_lost() {
    with_stack(
        |_| {},
        async |host, pair| {
            let theirs = net::TcpListener::bind((pair.kernel, PORT)).unwrap();
            theirs.set_nonblocking(true).unwrap();
            for again in [false, true] {
                let to = SocketAddr::new(pair.kernel, PORT);
                let local = SocketAddr::new(pair.ours, 4000 + u16::from(again));
                let mut ours = TcpStream::connect_from(&host, local, to).await.unwrap();
                let (mut linux, _) = theirs.accept().unwrap();
                linux.set_nonblocking(true).unwrap();
                prepare(Before::LinuxStalls, &mut ours, &mut linux).await;
                ours.set_user_timeout(Some(Duration::from_millis(50))).unwrap();
                assert_eq!(ours.closed().await.unwrap().rule, Rule::EndUserTimeout);
                drop(ours);
                if again {
                    let mut ours = TcpStream::connect_from(&host, local, to).await.unwrap();
                    assert_eq!(linux_error(&linux).await, libc::ECONNRESET);
                    ours.write_all(b"new").await.unwrap();
                    let (next, _) = theirs.accept().unwrap();
                    next.set_nonblocking(true).unwrap();
                    until(|| next.peek(&mut [0]).is_ok()).await;
                } else {
                    // What it reads makes it tell of its window.
                    until(|| matches!(linux.read(&mut [0; 1 << 16]), Err(e) if e.kind() != ErrorKind::WouldBlock)).await;
                }
            }
        },
    );
}

/// Linux' answers to what we send after its close (S80 there), to a listener that closed (S90), and to a
/// port with no listener.
#[test]
#[ignore = "needs root and /dev/net/tun"]
fn r15_r1_r11_we_take_the_resets_of_linux_after_its_close() {
    with_stack(
        |_| {},
        async |host, pair| {
            let listener = TcpListener::bind(&host, (pair.ours, PORT)).unwrap();
            let (mut ours, linux) = connection(&listener).await;
            drop(linux);
            assert_eq!(ours.read(&mut [0]).await.unwrap(), 0);
            ours.write_all(b"late").await.unwrap();
            assert_eq!(ours.closed().await.unwrap().rule, Rule::PeerRstAfterFin);

            let theirs = net::TcpListener::bind((pair.kernel, PORT)).unwrap();
            let ours = TcpStream::connect(&host, (pair.kernel, PORT)).await.unwrap();
            drop(theirs);
            assert_eq!(ours.closed().await.unwrap().rule, Rule::PeerRstExact);
            let error = TcpStream::connect(&host, (pair.kernel, PORT)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        },
    );
}
