//! What a peer can do to the scoreboard: its bound is driven past its value, and what the send path reads
//! from it is tested against the send variables.

use crate::TcpState;
use crate::seq::SndSeq;
use crate::tcp::connection::Connection;
use crate::tcp::table::Socket;
use crate::tcp::tests::peer::{Kind, Peer, both};
use alloc::format;

/// The connection of the test.
fn connection(p: &mut Peer) -> &mut Connection {
    match p.stack.tcp.unparked_mut(p.id) {
        Socket::Open(connection) => connection,
        other => panic!("{other:?}"),
    }
}

/// A connection that has sent `n` bytes in segments of one byte.
fn single_bytes(v6: bool, kind: Kind, n: usize, max_segments: usize) -> Peer {
    let mut p = Peer::established(v6, kind);
    p.tcp().set_nodelay(true);
    let scoreboard = &mut connection(&mut p).recovery.scoreboard;
    (scoreboard.max_segments, scoreboard.max_ranges) = (max_segments, max_segments);
    for _ in 0..n {
        p.send(1);
        p.out();
    }
    p
}

/// The peer acknowledges the middle of what counts as one segment, then is silent: what is sent again begins
/// at SND.UNA, and the connection continues.
#[test]
fn an_ack_inside_a_segment_past_the_bound_of_the_scoreboard() {
    both(|v6| {
        for kind in Kind::ALL {
            for acked in 1..20 {
                let mut p = single_bytes(v6, kind, 20, 8);
                assert_eq!(p.on(&format!(". ack={}", 1 + acked)), "accepted");
                p.stack.check();
                let again = p.run(1500);
                assert!(again.contains(&format!("seq={}", 1 + acked)), "{acked}: {again}");
                assert_eq!(p.on(". ack=21").split(' ').next(), Some("accepted"));
                assert_eq!(connection(&mut p).recovery.scoreboard.len(), 0);
            }
        }
    });
}

/// SACK blocks of single bytes past the bound: whatever is noted of them, all that is missing is sent again.
#[test]
fn sack_blocks_past_the_bound_of_the_scoreboard() {
    both(|v6| {
        let mut p = single_bytes(v6, Kind::Full, 40, 8);
        for first in (2..36).step_by(2) {
            p.on(&format!(". ack=1 sack={first}-{}", first + 1));
            p.stack.check();
            assert!(connection(&mut p).recovery.scoreboard.len() <= 8 + 2 * 8 + 2);
        }
        p.on(". ack=4");
        p.stack.check();
        p.run(3000);
        assert_eq!(p.state(), TcpState::Established);
        p.on(". ack=41");
        assert_eq!(connection(&mut p).recovery.scoreboard.len(), 0);
    });
}

/// Nothing that the scoreboard says makes the send path read what is not there: it is rebuilt.
#[test]
fn a_scoreboard_that_does_not_fit_is_rebuilt() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        p.send(5000);
        p.out();
        let c = connection(&mut p);
        let una = c.snd.una;
        c.recovery.scoreboard.rebuild(SndSeq(una.0.wrapping_sub(3000)), una + 2000, c.cold.opened);
        p.run(1500);
        p.stack.check();
        assert_eq!(p.on(". ack=5001").split(' ').next(), Some("accepted"));
        assert_eq!(p.state(), TcpState::Established);
    });
}
