//! A connection that its user gives up.

use crate::tcp::tests::pair::{PORT, Pair};
use crate::{Cause, EndedBy, FourTuple, LostBytes, Rule, TcpState, Transmit, Verdict};
use core::net::SocketAddr;
use core::task::Poll;
use core::time::Duration;
use lastack_wire::ip::IpPacket;
use lastack_wire::reset_reason::ResetReason;
use lastack_wire::tcp::{TcpFlags, TcpHeader};

/// R8, S64 with data in flight and unsent data: both are lost, and counted.
#[test]
fn an_abort_discards_queued_data() {
    let mut pair = Pair::new(false);
    let (a, b) = pair.connect();
    pair.a.tcp(a).set_linger(Some(Duration::ZERO));
    assert_eq!(pair.a.tcp(a).send(b"in flight"), Poll::Ready(Ok(9)));
    let mut packet = alloc::vec::Vec::new();
    assert!(pair.a.stack.poll_transmit(pair.now, &mut packet).is_some());
    assert_eq!(pair.a.tcp(a).send(b"behind"), Poll::Ready(Ok(6)));
    pair.a.tcp(a).close();
    pair.run_until_idle();
    let by_rule = |(_, _, transmit): &&(_, _, Transmit)| transmit.rule == Some(Rule::RstAbort);
    let (_, reset, _) = pair.a.sent.iter().find(by_rule).expect("a reset by the rule");
    let reset = TcpHeader::parse(IpPacket::parse(reset).unwrap().payload).unwrap().0;
    let data = TcpHeader::parse(IpPacket::parse(&packet).unwrap().payload).unwrap().0;
    assert_eq!((reset.flags, reset.seq), (TcpFlags::RST | TcpFlags::ACK, data.seq.wrapping_add(9)));
    let end = &pair.a.ended[0].end;
    assert_eq!((end.cause, end.by), (Cause::Aborted, EndedBy::Application));
    assert_eq!(end.lost, LostBytes { unsent: 6, unacked: 9, unread: 0 });
    // The data was lost, so the reset is beyond RCV.NXT and only challenged (R2); the answer to the
    // challenge is exact (S4, R1).
    assert!(pair.b.verdicts.contains(&Verdict::Answered(Rule::AckChallengeRst)));
    assert_eq!(pair.b.tcp(b).state(), TcpState::Closed);
    assert_eq!(pair.b.ended[0].end.rule, Rule::PeerRstExact);
}

/// S66, and S60 in its place: after both FINs an abort is silent unless it discards unread data.
#[test]
fn an_abort_after_both_fins_is_silent_unless_data_is_unread() {
    for unread in [false, true] {
        let mut pair = Pair::new(false);
        let (a, b) = pair.connect();
        if unread {
            assert_eq!(pair.b.tcp(b).send(b"unread"), Poll::Ready(Ok(6)));
        }
        pair.b.tcp(b).shutdown().unwrap();
        pair.run_until_idle();
        pair.a.tcp(a).set_linger(Some(Duration::ZERO));
        pair.a.tcp(a).shutdown().unwrap();
        let mut lost = alloc::vec::Vec::new();
        assert!(pair.a.stack.poll_transmit(pair.now, &mut lost).is_some());
        assert_eq!(pair.a.tcp(a).state(), TcpState::LastAck);
        let before = pair.a.sent.len();
        pair.a.tcp(a).close();
        pair.run_until_idle();
        let rule = pair.a.sent.get(before).map(|(_, _, transmit)| transmit.rule);
        let end = &pair.a.ended[0].end;
        if unread {
            assert_eq!(
                (rule, end.rule, end.lost.unread),
                (Some(Some(Rule::RstUnreadDataAtClose)), Rule::RstUnreadDataAtClose, 6)
            );
        } else {
            assert_eq!((rule, end.rule), (None, Rule::EndAbortAfterFins));
        }
        assert_eq!((pair.a.ended.len(), end.cause), (1, Cause::Aborted));
    }
}

/// STATUS by the two ends: embryonic, open, in TIME-WAIT, gone.
#[test]
fn the_state_is_known_by_the_two_ends() {
    let mut pair = Pair::new(true);
    let (local, remote) =
        (SocketAddr::new(pair.a.addr, 9), SocketAddr::new(pair.b.addr, crate::tcp::tests::pair::PORT));
    let (at_a, at_b) = (FourTuple { local, remote }, FourTuple { local: remote, remote: local });
    let listener = pair.listen(1);
    assert_eq!(pair.a.stack.tcp_state(&at_a), None);
    let a = pair.a.stack.tcp_connect(Some(local), remote).unwrap();
    assert_eq!(pair.a.stack.tcp_state(&at_a), Some(TcpState::SynSent));
    pair.run_until_idle();
    // Nobody has accepted it yet.
    assert_eq!(pair.b.stack.tcp_state(&at_b), Some(TcpState::Established));
    let b = pair.b.stack.tcp_accept(listener).unwrap();
    pair.a.tcp(a).close();
    pair.run_until_idle();
    assert_eq!(pair.a.stack.tcp_state(&at_a), Some(TcpState::FinWait2));
    pair.b.tcp(b).close();
    pair.run_until_idle();
    assert_eq!(pair.a.stack.tcp_state(&at_a), Some(TcpState::TimeWait));
    assert_eq!(pair.b.stack.tcp_state(&at_b), None);
}

/// T200, T202, T203: a reset says why if asked to and if that fits the peer's window, and the peer
/// reads it; the reset of a closed port says nothing.
#[test]
fn a_reset_declares_its_reason() {
    for v6 in [false, true] {
        let mut pair = Pair::with(v6, |config| config.tcp.send_rst_reason = true);
        let (a, b) = pair.connect();
        assert!(pair.a.tcp(a).send(b"unread").is_ready());
        pair.run_until_idle();
        pair.b.tcp(b).close();
        pair.run_until_idle();
        let end = &pair.a.ended[0].end;
        assert_eq!((end.cause, end.peer_said), (Cause::Reset, Some(ResetReason::DataUnread)));
        let to_nobody = SocketAddr::new(pair.b.addr, PORT + 1);
        pair.a.stack.tcp_connect(None, to_nobody).unwrap();
        pair.run_until_idle();
        assert_eq!((pair.a.ended[1].end.cause, pair.a.ended[1].end.peer_said), (Cause::Refused, None));
    }
}

#[test]
fn a_reset_carries_a_reason_only_if_configured_and_if_it_fits() {
    for (declare, buffer) in [(false, 1 << 20), (true, 536)] {
        let mut pair = Pair::with(false, |config| {
            config.tcp.send_rst_reason = declare;
            config.tcp.receive_buffer = buffer;
        });
        let (a, b) = pair.connect();
        assert!(pair.b.tcp(b).send(&[0; 536]).is_ready());
        assert!(pair.a.tcp(a).send(b"unread").is_ready());
        pair.run_until_idle();
        pair.b.tcp(b).close();
        pair.run_until_idle();
        let end = &pair.a.ended[0].end;
        assert_eq!((end.cause, end.peer_said), (Cause::Reset, None), "{declare} {buffer}");
    }
}
