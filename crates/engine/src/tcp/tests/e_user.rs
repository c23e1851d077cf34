//! E: what the user of a connection sees when it ends.

use crate::tcp::tests::peer::{Kind, Peer, both};
use crate::{Cause, TcpError, TcpState};
use core::task::Poll;
use core::time::Duration;

/// What is called, and what it says.
type Calls = [(&'static str, &'static str)];

fn run(p: &mut Peer, calls: &Calls) {
    for (i, (call, expected)) in calls.iter().enumerate() {
        let said = match *call {
            "recv" => p.receive(),
            "send" => p.send(1),
            "so_error" => p.error(),
            "peek" => alloc::format!("{}", p.tcp().peek(&mut [0; 100])),
            "shutdown" => alloc::format!("{:?}", p.tcp().shutdown()),
            "readable" => show(p.tcp().poll_readable()),
            "writable" => show(p.tcp().poll_writable()),
            "drained" => show(p.tcp().poll_drained().map_ok(|()| 0)),
            _ => unreachable!(),
        };
        assert_eq!(said, *expected, "call {i}, {call}, of {calls:?}");
    }
}

fn show(poll: Poll<Result<usize, TcpError>>) -> alloc::string::String {
    match poll {
        Poll::Pending => "pending".into(),
        Poll::Ready(Ok(n)) => alloc::format!("{n}"),
        Poll::Ready(Err(error)) => alloc::format!("{error:?}"),
    }
}

/// A reset in ESTABLISHED, with so much unread.
fn reset_with(v6: bool, unread: usize) -> Peer {
    let mut p = Peer::established(v6, Kind::Plain);
    if unread > 0 {
        p.on(&alloc::format!("P. len={unread}"));
    }
    assert_eq!(p.on(&alloc::format!("R at={unread}")), "ended R1");
    p
}

/// Data first, then the error once, from the first call, then the end of the stream.
#[test]
fn t76_t77_t78_t80_a_reset_is_reported_once() {
    both(|v6| {
        let rows: [(usize, &Calls); 9] = [
            (0, &[("recv", "Reset"), ("recv", "0"), ("recv", "0"), ("send", "BrokenPipe")]),
            (5, &[("recv", "5"), ("recv", "Reset"), ("recv", "0"), ("send", "BrokenPipe")]),
            (5, &[("peek", "5"), ("peek", "5"), ("recv", "5"), ("recv", "Reset"), ("recv", "0")]),
            (0, &[("send", "Reset"), ("send", "BrokenPipe"), ("recv", "0")]),
            // The reset is invisible to the reader once a write has returned it; the record keeps it.
            (5, &[("send", "Reset"), ("recv", "5"), ("recv", "0"), ("send", "BrokenPipe")]),
            (5, &[("so_error", "Reset"), ("so_error", "none"), ("recv", "5"), ("recv", "0")]),
            (0, &[("so_error", "Reset"), ("recv", "0"), ("send", "BrokenPipe"), ("so_error", "none")]),
            (
                5,
                &[
                    ("readable", "5"),
                    ("writable", "Reset"),
                    ("readable", "5"),
                    ("recv", "5"),
                    ("readable", "0"),
                ],
            ),
            (0, &[("drained", "Reset"), ("drained", "BrokenPipe"), ("readable", "0")]),
        ];
        for (unread, calls) in rows {
            let mut p = reset_with(v6, unread);
            run(&mut p, calls);
            // T89: whichever call returned it, the reason stays available.
            assert_eq!(p.tcp().end().map(|end| end.cause), Some(Cause::Reset));
        }
    });
}

/// T81: peeking at data returns no error.
#[test]
fn t81_peek_does_not_consume_the_error() {
    both(|v6| {
        run(&mut reset_with(v6, 0), &[("peek", "0"), ("peek", "0"), ("recv", "Reset"), ("recv", "0")]);
    });
}

/// R15: after the FIN reads return the end; a write returns EPIPE, or by a setting ECONNRESET.
#[test]
fn t83_a_reset_after_the_fin_does_not_reach_the_reader() {
    both(|v6| {
        let rows: [(bool, &Calls); 6] = [
            (
                true,
                &[("recv", "5"), ("recv", "0"), ("recv", "0"), ("send", "BrokenPipe"), ("so_error", "none")],
            ),
            (true, &[("send", "BrokenPipe"), ("send", "BrokenPipe"), ("recv", "5"), ("recv", "0")]),
            (true, &[("so_error", "BrokenPipe"), ("so_error", "none"), ("recv", "5"), ("recv", "0")]),
            (false, &[("recv", "5"), ("recv", "0"), ("send", "Reset"), ("send", "BrokenPipe")]),
            (false, &[("so_error", "Reset"), ("send", "BrokenPipe"), ("recv", "5"), ("recv", "0")]),
            (false, &[("drained", "Reset"), ("drained", "BrokenPipe")]),
        ];
        for (linux, calls) in rows {
            let set = |config: &mut crate::Config| config.tcp.broken_pipe_in_close_wait = linux;
            let mut p = Peer::with(v6, set).listen(1).establish(Kind::Plain);
            p.on("FP. len=5");
            assert_eq!(p.on("R at=6"), "ended R15");
            run(&mut p, calls);
            assert_eq!(p.tcp().end().map(|end| end.cause), Some(Cause::Reset));
        }
    });
}

/// R16, and a timeout after the FIN: the stream was complete, so its reader is not bothered; who asks
/// after what was sent is.
#[test]
fn t83_no_end_after_the_fin_reaches_the_reader() {
    both(|v6| {
        for state in [TcpState::Closing, TcpState::LastAck] {
            let mut p = Peer::in_state(v6, Kind::Plain, state, true);
            assert_eq!(p.on("R"), "ended R16");
            run(&mut p, &[("recv", "0"), ("drained", "Reset"), ("drained", "BrokenPipe"), ("recv", "0")]);
        }
        for state in [TcpState::CloseWait, TcpState::LastAck] {
            let mut p = Peer::in_state(v6, Kind::Plain, state, true);
            if state == TcpState::CloseWait {
                assert_eq!(p.send(5), "5");
            }
            p.run(1_000_000);
            run(&mut p, &[("recv", "0"), ("so_error", "TimedOut"), ("send", "BrokenPipe"), ("recv", "0")]);
        }
    });
}

/// A blocked call is notified of the error.
#[test]
fn t84_t86_a_reset_wakes_waiting_tasks() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        assert_eq!(p.receive(), "pending");
        let Poll::Ready(Ok(room)) = p.tcp().poll_writable() else { panic!("there is room") };
        assert_eq!(p.send(room + 1000), alloc::format!("{room}"), "as much as fits");
        assert_eq!(p.send(1), "pending");
        p.out();
        assert_eq!(p.new_events(), "");
        assert_eq!(p.on("R"), "ended R1");
        assert_eq!(p.new_events(), "Readable Writable");
        run(&mut p, &[("send", "Reset"), ("send", "BrokenPipe"), ("recv", "0")]);
        assert_eq!(p.new_events(), "", "nothing is pending any more");
    });
}

#[test]
fn t85_a_refused_attempt_is_reported_once() {
    both(|v6| {
        let rows: [&Calls; 4] = [
            &[("so_error", "Refused"), ("so_error", "none"), ("send", "BrokenPipe"), ("recv", "0")],
            &[("send", "Refused"), ("recv", "0"), ("recv", "0")],
            &[("recv", "Refused"), ("recv", "0"), ("send", "BrokenPipe")],
            &[("writable", "Refused"), ("writable", "BrokenPipe"), ("drained", "BrokenPipe")],
        ];
        for calls in rows {
            let mut p = Peer::syn_sent(v6);
            run(&mut p, &[("recv", "pending"), ("send", "pending"), ("so_error", "none")]);
            assert_eq!(p.on("R. seq=0 ack=1"), "ended R11");
            assert_eq!(p.new_events(), "Readable Writable");
            run(&mut p, calls);
            p.tcp().close();
            // The two ends are free for the next attempt at once.
            p.open();
            assert_eq!(p.out(), "S seq=0");
            p.complete(Kind::Plain);
        }
    });
}

#[test]
fn t88_after_a_reset_the_two_ends_are_still_known() {
    both(|v6| {
        let mut p = reset_with(v6, 3);
        let flow = p.flow();
        assert_eq!((p.tcp().local(), p.tcp().remote()), (flow.local, flow.remote));
        run(&mut p, &[("shutdown", "Err(NotConnected)"), ("recv", "3"), ("recv", "Reset")]);
        let info = p.tcp().info();
        assert_eq!((info.state, info.unread), (TcpState::Closed, 0));
        p.tcp().abort();
        p.tcp().close();
        assert_eq!((p.out(), p.ends().split(' ').next()), ("".into(), Some("reset")));
        assert!(p.stack.tcp(p.id).is_none());
        p.assert_gone();
    });
}

/// The user's own abort: unread data is lost, and the next call returns the error.
#[test]
fn s64_after_an_abort() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        p.on("P. len=7");
        p.tcp().abort();
        assert_eq!(p.out(), "R. seq=1 ack=8");
        run(&mut p, &[("recv", "Aborted"), ("recv", "0"), ("send", "BrokenPipe")]);
        assert_eq!(p.ends(), "aborted by the local application in ESTABLISHED (S64), lost 0+0+7");
    });
}

/// What the settings say is what was set; they outlive the connection.
#[test]
fn the_settings_can_be_read_back_in_every_life_of_a_connection() {
    both(|v6| {
        let keepalive = crate::Keepalive { idle: Duration::from_secs(9), ..crate::Keepalive::default() };
        let mut p = Peer::syn_sent(v6);
        p.tcp().set_linger(Some(Duration::from_secs(3)));
        p.tcp().set_nodelay(true);
        p.tcp().set_keepalive(Some(keepalive));
        p.tcp().set_user_timeout(Some(Duration::from_secs(7)));
        let check = |p: &mut Peer| {
            let tcp = p.tcp();
            assert_eq!((tcp.linger(), tcp.nodelay()), (Some(Duration::from_secs(3)), true));
            assert_eq!(
                (tcp.keepalive(), tcp.user_timeout()),
                (Some(keepalive), Some(Duration::from_secs(7)))
            );
        };
        check(&mut p);
        let mut p = p.complete(Kind::Plain);
        check(&mut p);
        p.on("R");
        check(&mut p);
        // No time at all is no limit, as on Linux.
        p.tcp().set_user_timeout(Some(Duration::ZERO));
        assert_eq!(p.tcp().user_timeout(), None);
    });
}
