//! TIME-WAIT assassination (RFC 1337), and what else old and forged segments may try there.

use crate::forge::Segment;
use crate::world::{PORT, World};
use lastack_engine::{Cause, FourTuple, TcpState, Verdict};
use lastack_wire::tcp::TcpFlags;
use std::net::SocketAddr;
use std::time::Duration;

/// A connection whose client is in TIME-WAIT; the numbers that it expects and sends next.
fn waiting(v6: bool, seed: u64) -> (World, FourTuple, u32, u32) {
    let mut world = World::connected(v6, seed, |_| {});
    let flow = world.flow(0);
    world.work(0, 3000);
    world.work(1, 3000);
    world.pass(Duration::from_millis(50));
    world.work(0, 0);
    let vars = world.variables(0);
    for side in [0, 1] {
        let id = world.ends[side].id.expect("it is open");
        world.read(side);
        world.ends[side].stack.tcp(id).expect("its name is held").close();
        world.flush(side);
        world.pass(Duration::from_millis(20));
    }
    assert_eq!(world.ends[0].ended[0].end.cause, Cause::Orderly, "{:?}", world.ends[0].ended);
    (world, flow, vars.rcv_nxt.wrapping_add(1), vars.snd_nxt.wrapping_add(1))
}

/// R17, Q1 to Q4: nothing that carries no new SYN shortens it, and what is no acknowledgment of ours is
/// not even answered more often than the limit lets.
#[test]
fn nothing_assassinates_time_wait() {
    for v6 in [false, true] {
        let (mut world, flow, rcv_nxt, snd_nxt) = waiting(v6, 3);
        let peers = FourTuple { local: flow.remote, remote: flow.local };
        let state = |world: &World| world.ends[0].stack.tcp_state(&flow);
        let (mut answers, before) = (0, world.now);
        for offset in (-300..300i64).chain((-200_000..200_000).step_by(3001)) {
            for flags in [
                TcpFlags::RST,
                TcpFlags::RST | TcpFlags::ACK,
                TcpFlags::ACK,
                TcpFlags::FIN | TcpFlags::ACK,
                TcpFlags::SYN | TcpFlags::ACK,
                TcpFlags::SYN | TcpFlags::RST,
                TcpFlags::empty(),
            ] {
                let (seq, ack) = (rcv_nxt.wrapping_add(offset as u32), snd_nxt.wrapping_add(offset as u32));
                let verdict = world.forge(0, &Segment { flow: peers, flags, seq, ack, text: b"" }.packet());
                assert!(!matches!(verdict, Verdict::Accepted | Verdict::Ended(_)), "{flags}: {verdict:?}");
                answers += usize::from(flags != TcpFlags::FIN | TcpFlags::ACK && answered(verdict));
                assert_eq!(state(&world), Some(TcpState::TimeWait), "{flags} at {offset}");
            }
        }
        assert_eq!((answers, world.now), (1, before), "one in the time of the limit");
        world.pass(Duration::from_secs(59));
        assert_eq!(state(&world), Some(TcpState::TimeWait));
        world.pass(Duration::from_secs(2));
        assert_eq!(state(&world), None, "and it ends in its time");
    }
}

fn answered(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Answered(_))
}

/// Hazard 1 of RFC 1337: old data of the previous connection is not accepted by a new one on the same
/// four-tuple.
#[test]
fn old_data_does_not_reach_the_next_connection() {
    for v6 in [false, true] {
        let (mut world, flow, rcv_nxt, snd_nxt) = waiting(v6, 4);
        world.pass(Duration::from_secs(70));
        let end = &mut world.ends[0];
        (end.written, end.read, end.end_of_stream) = (0, 0, false);
        (world.ends[1].written, world.ends[1].read, world.ends[1].end_of_stream) = (0, 0, false);
        world.ends.iter_mut().for_each(|end| end.ended.clear());
        let server = SocketAddr::new(flow.remote.ip(), PORT);
        let id = world.ends[0].stack.tcp_connect(Some(flow.local), server).expect("it is free again");
        world.ends[0].id = Some(id);
        world.flush(0);
        world.pass(Duration::from_millis(20));
        world.accept();
        let peers = FourTuple { local: flow.remote, remote: flow.local };
        for offset in (-3000..3000i64).step_by(50) {
            let (seq, ack) = (rcv_nxt.wrapping_add(offset as u32), snd_nxt);
            for flags in [TcpFlags::ACK, TcpFlags::ACK | TcpFlags::FIN] {
                let old = Segment { flow: peers, flags, seq, ack, text: &[0xa5; 500] }.packet();
                assert_ne!(world.forge(0, &old), Verdict::Accepted, "{flags} at {offset}");
            }
            world.work(0, 100);
            world.work(1, 100);
            world.pass(Duration::from_millis(1));
        }
        world.part_well();
    }
}
