//! G: the administrator's ABORT (S103 to S106).

use crate::tcp::tests::peer::{Kind, Peer, US, both};
use crate::{Answer, Event, TcpState};
use TcpState::{CloseWait, Closed, Closing, Established, FinWait1, FinWait2, LastAck, SynSent, TimeWait};
use alloc::format;
use core::net::SocketAddr;

const BY: &str = "aborted by the local administrator in";

fn kill(p: &mut Peer) -> bool {
    let flow = p.flow();
    p.stack.tcp_kill(&flow)
}

/// S103, S104: the application gets ECONNABORTED, once; after the peer's FIN only from a write.
#[test]
fn t119_an_administrator_ends_a_connection() {
    both(|v6| {
        for (state, expected, rule) in [
            (Established, "R. seq=1 ack=1", "S103"),
            (CloseWait, "R. seq=1 ack=2", "S103"),
            (FinWait1, "R. seq=2 ack=1", "S103"),
            (FinWait2, "R. seq=2 ack=1", "S103"),
            (Closing, "", "S104"),
            (LastAck, "", "S104"),
        ] {
            let mut p = Peer::in_state(v6, Kind::Plain, state, true);
            assert!(p.tcp().poll_readable().is_pending() || state.may_not_receive());
            p.new_events();
            assert!(kill(&mut p));
            assert_eq!(p.out(), expected, "{state}");
            assert_eq!(p.ends(), format!("{BY} {state} ({rule})"));
            p.assert_gone();
            assert!(!kill(&mut p), "it is gone");
            if !state.may_not_receive() {
                assert!(p.new_events().contains("Readable"), "{state}");
                assert_eq!((p.receive(), p.receive()), ("Aborted".into(), "0".into()));
                assert_eq!((p.send(1), p.error()), ("BrokenPipe".into(), "none".into()));
            } else {
                assert_eq!(p.receive(), "0", "{state}");
                assert_eq!((p.send(1), p.send(1)), ("Aborted".into(), "BrokenPipe".into()));
            }
            p.tcp().close();
            assert_eq!(p.on("."), format!("answered S10 | R seq={}", p.ack));
        }
    });
}

impl TcpState {
    fn may_not_receive(self) -> bool {
        matches!(self, CloseWait | Closing | LastAck)
    }
}

/// S103: received data is read first; unsent data is lost, and recorded as such.
#[test]
fn t119_unread_data_comes_before_the_error() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        p.on("P. len=5");
        p.on("P. at=100 len=50 win=0");
        assert_eq!(p.send(7), "7");
        p.out();
        assert!(kill(&mut p));
        assert_eq!(p.out(), "R. seq=1 ack=6 sack=101-151");
        assert_eq!(p.ends(), format!("{BY} ESTABLISHED (S103), lost 7+0+50"));
        assert_eq!((p.receive(), p.receive(), p.receive()), ("5".into(), "Aborted".into(), "0".into()));
        // Whoever asks first takes the error.
        let mut p = Peer::established(v6, Kind::Plain);
        p.on("P. len=5");
        assert!(kill(&mut p));
        p.out();
        assert_eq!((p.error(), p.receive(), p.receive()), ("Aborted".into(), "5".into(), "0".into()));
        assert_eq!(p.tcp().end().map(|end| end.rule.code()), Some("S103"));
    });
}

/// S103: orphans, too. (Linux removes one in FIN-WAIT-2 silently: it has only a
/// small socket left to send from.)
#[test]
fn t119_an_administrator_ends_an_orphan() {
    both(|v6| {
        for (state, expected, rule) in [
            (FinWait1, "R. seq=2 ack=1", "S103"),
            (FinWait2, "R. seq=2 ack=1", "S103"),
            (Closing, "", "S104"),
            (LastAck, "", "S104"),
        ] {
            let mut p = Peer::in_state(v6, Kind::Plain, state, false);
            assert!(kill(&mut p));
            assert_eq!((p.out().as_str(), p.state()), (expected, Closed));
            assert_eq!(p.ends(), format!("{BY} {state} ({rule})"));
            p.assert_gone();
            assert_eq!(p.stack.connections(), 0);
        }
    });
}

/// S104 even if the peer still expects data: RST is sent there by the user's ABORT (S66).
#[test]
fn s104_is_silent_with_data_unsent() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        assert_eq!(p.on("F. win=0"), "accepted | . seq=1 ack=2");
        p.seq = 2;
        assert_eq!(p.send(10), "10");
        p.tcp().shutdown().unwrap();
        assert_eq!((p.out(), p.state()), ("".into(), LastAck));
        assert!(kill(&mut p));
        assert_eq!(p.out(), "");
        assert_eq!(p.ends(), format!("{BY} LAST-ACK (S104), lost 10+0+0"));
        p.assert_gone();
    });
}

/// S104, S105 and, after a simultaneous open, S103.
#[test]
fn t119_an_administrator_ends_a_handshake() {
    both(|v6| {
        let mut p = Peer::syn_sent(v6);
        assert_eq!((p.state(), kill(&mut p)), (SynSent, true));
        assert_eq!((p.out(), p.ends()), ("".into(), format!("{BY} SYN-SENT (S104)")));
        assert_eq!((p.send(1), p.send(1)), ("Aborted".into(), "BrokenPipe".into()));
        assert_eq!(p.on("S. seq=0 mss=1460"), "answered S4 | R seq=1");

        let mut p = Peer::syn_received(v6, Kind::Plain);
        assert!(kill(&mut p));
        assert_eq!((p.out(), p.ends()), ("".into(), format!("{BY} SYN-RECEIVED (S105)")));
        p.assert_gone();
        assert_eq!(p.on("."), "answered S10 | R seq=1");
        assert_eq!(p.stack.tcp_waiting(p.listener.unwrap()), 0);

        let mut p = Peer::simultaneous(v6, Kind::Plain);
        assert!(kill(&mut p));
        assert_eq!((p.out().as_str(), p.ends()), ("R. seq=1 ack=1", format!("{BY} SYN-RECEIVED (S103)")));
        assert_eq!(p.error(), "Aborted");
    });
}

/// S105: as if it had never been. The SYN that the embedder still thinks about goes too.
#[test]
fn s105_removes_connections_without_a_socket() {
    both(|v6| {
        let mut p = Peer::in_state(v6, Kind::Plain, TimeWait, true);
        assert!(p.ends().starts_with("orderly"));
        assert!(kill(&mut p));
        assert_eq!((p.out(), p.state(), p.ends()), ("".into(), Closed, "".into()));
        assert_eq!(p.stack.poll_timeout(), None);
        assert_eq!(p.on("F. at=-1"), format!("answered S10 | R seq={}", p.ack));

        let mut p = Peer::with(v6, |config| config.intercept.tcp = true);
        assert_eq!(p.on("S seq=0"), "accepted");
        let Some(Event::Intercepted(id)) = p.events.pop() else { panic!("{:?}", p.events) };
        assert!(kill(&mut p));
        assert_eq!((p.out(), p.ends()), ("".into(), format!("{BY} SYN-RECEIVED (S105)")));
        p.stack.tcp_answer(id, Answer::Accept);
        assert_eq!(p.out(), "");
        assert_eq!((p.stack.tcp(id).is_none(), p.stack.connections()), (true, 0));
    });
}

/// A connection that waits to be accepted is accepted all the same, as one that was reset (R19).
#[test]
fn s103_leaves_the_accept_queue_alone() {
    both(|v6| {
        let mut p = Peer::syn_received(v6, Kind::Plain);
        p.on("P. len=5");
        assert!(kill(&mut p));
        assert_eq!(p.out(), "R. seq=1 ack=6");
        p.accept();
        assert_eq!((p.receive(), p.receive(), p.receive()), ("5".into(), "Aborted".into(), "0".into()));
    });
}

/// S106: connections in the accept queue are reset, embryonic ones removed, accepted ones stay.
#[test]
fn t119_an_administrator_closes_a_listener() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        assert_eq!(p.on("S seq=0 mss=1460 port=5001"), "accepted | 5001: S. seq=0 ack=1");
        assert_eq!(p.on("P. seq=1 ack=1 len=2 port=5001"), "accepted");
        assert_eq!(p.on("S seq=0 mss=1460 port=5002"), "accepted | 5002: S. seq=0 ack=1");
        p.new_events();
        let local = SocketAddr::new(p.us, US);
        assert!(!p.stack.tcp_kill_listener(SocketAddr::new(p.us, US + 1)));
        assert!(!p.stack.tcp_kill_listener(SocketAddr::new(p.them, US)));
        assert!(p.stack.tcp_kill_listener(local));
        assert_eq!(p.out(), "5001: R. seq=1 ack=3");
        assert_eq!(
            p.ends(),
            format!("{BY} SYN-RECEIVED (S105) | {BY} ESTABLISHED (S106), lost 0+0+2"),
            "embryonic ones end at once"
        );
        let listener = p.listener.unwrap();
        assert_eq!((p.stack.tcp_listener_addr(listener), p.stack.tcp_accept(listener)), (None, None));
        assert_eq!(p.on("S seq=0 port=5003"), "answered S1 | 5003: R. seq=0 ack=1");
        assert_eq!(p.state(), Established);
        assert!(!p.stack.tcp_kill_listener(local));
    });
}

/// S106: who waits at the listener is woken.
#[test]
fn s106_wakes_waiting_accepts() {
    both(|v6| {
        let mut p = Peer::listening(v6);
        let local = SocketAddr::new(p.us, US);
        assert_eq!(p.stack.tcp_accept(p.listener.unwrap()), None);
        assert!(p.stack.tcp_kill_listener(local));
        assert_eq!((p.new_events().as_str(), p.out().as_str()), ("Incoming", ""));
    });
}
