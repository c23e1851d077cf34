//! Blind attacks on a connection that is being opened: the attacker knows the four-tuple, and neither ISN.

use crate::forge::{Segment, icmp_error};
use crate::world::World;
use lastack_engine::{FourTuple, TcpState, Verdict};
use lastack_sim::Random;
use lastack_wire::icmp::IcmpError;
use lastack_wire::tcp::TcpFlags;
use std::time::Duration;

const RST: TcpFlags = TcpFlags::RST;
const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const FIN: TcpFlags = TcpFlags::FIN;

/// Every combination of flags that matters.
const FLAGS: [&[TcpFlags]; 8] =
    [&[RST], &[RST, ACK], &[SYN, ACK], &[ACK], &[FIN], &[FIN, ACK], &[SYN, RST], &[]];

fn flags(of: &[TcpFlags]) -> TcpFlags {
    of.iter().fold(TcpFlags::empty(), |all, one| all | *one)
}

/// A segment to host `side` with the address of its peer, with and without data.
fn guess(world: &mut World, flow: FourTuple, side: usize, of: TcpFlags, seq: u32, ack: u32) -> Verdict {
    let peers = FourTuple { local: flow.remote, remote: flow.local };
    let text: &[u8] = if (seq ^ ack) & 1 == 0 { b"" } else { b"injected" };
    world.forge(side, &Segment { flow: peers, flags: of, seq, ack, text }.packet())
}

fn finish(mut world: World) {
    world.pass(Duration::from_secs(8));
    world.accept();
    world.work(0, 5000);
    world.work(1, 5000);
    world.part_well();
}

/// SYN-SENT: nothing counts that does not acknowledge our SYN, whose ISN is not to be guessed.
#[test]
fn syn_sent_ends_by_nothing_that_does_not_know_the_isn() {
    for seed in 0..6 {
        let (v6, mut random) = (seed % 2 == 0, Random::new(seed));
        let mut world = World::new(v6, seed, |_| {});
        world.connect();
        let flow = world.flow(0);
        for n in 0..2000 {
            let of = flags(FLAGS[n % FLAGS.len()]);
            let verdict = guess(&mut world, flow, 0, of, random.draw() as u32, random.draw() as u32);
            assert!(!matches!(verdict, Verdict::Ended(_) | Verdict::Accepted), "{of}: {verdict:?}");
        }
        for n in 0..500u64 {
            let error = IcmpError { v6, kind: if v6 { 1 } else { 3 }, code: (n % 8) as u8, info: 68 };
            let verdict = world.forge(0, &icmp_error(flow.remote.ip(), flow, random.draw() as u32, error));
            assert!(matches!(verdict, Verdict::Dropped(_)), "{error:?}: {verdict:?}");
        }
        assert!(world.ends[0].ended.is_empty());
        finish(world);
    }
}

/// A bare SYN opens simultaneously, as RFC 9293 figure 7 has it: it proves nothing. The SYN|ACK of the
/// real peer, which has our ISN, takes its place.
#[test]
fn a_blind_syn_does_not_divert_an_attempt() {
    for seed in 0..6 {
        let (v6, mut random) = (seed % 2 == 0, Random::new(seed));
        let mut world = World::new(v6, seed, |_| {});
        world.connect();
        let flow = world.flow(0);
        for of in [SYN, SYN | FIN, SYN] {
            let _ = guess(&mut world, flow, 0, of, random.draw() as u32, 0);
        }
        assert_eq!(world.ends[0].stack.tcp_state(&flow), Some(TcpState::SynReceived));
        finish(world);
    }
}

/// SYN-RECEIVED: resets at any number but the exact one, acknowledgments of another ISN, data and FIN
/// with them, and ICMP errors. (Another SYN in the window of 64 KiB ends it, S32; so it does on Linux.)
#[test]
fn syn_received_ends_by_nothing_that_does_not_know_the_isn() {
    for seed in 0..6 {
        let (v6, mut random) = (seed % 2 == 0, Random::new(seed));
        let mut world = World::new(v6, seed, |_| {});
        world.connect();
        let client = world.flow(0);
        let flow = FourTuple { local: client.remote, remote: client.local };
        world.pass(Duration::from_millis(6));
        let irs = world.isn(0);
        assert_eq!(world.ends[1].stack.connections(), 1, "it is in SYN-RECEIVED");
        let offsets = (-40..40i64).chain((-70_000..70_000).step_by(997)).filter(|offset| *offset != 1);
        for (n, offset) in offsets.enumerate() {
            for of in [&[RST] as &[_], &[RST, ACK], &[ACK], &[FIN, ACK], &[FIN], &[]] {
                let ack = world.isn(1).wrapping_add(2 + random.below(1 << 31) as u32);
                let verdict = guess(&mut world, flow, 1, flags(of), irs.wrapping_add(offset as u32), ack);
                assert!(!matches!(verdict, Verdict::Ended(_) | Verdict::Accepted), "{offset}: {verdict:?}");
            }
            let error = IcmpError { v6, kind: if v6 { 1 } else { 3 }, code: (n % 8) as u8, info: 68 };
            let seq = world.isn(1).wrapping_add(1 + random.below(1 << 31) as u32);
            let verdict = world.forge(1, &icmp_error(flow.remote.ip(), flow, seq, error));
            assert!(matches!(verdict, Verdict::Dropped(_)), "{error:?}: {verdict:?}");
        }
        assert!(world.ends[1].ended.is_empty());
        finish(world);
    }
}
