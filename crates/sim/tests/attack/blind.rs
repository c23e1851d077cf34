//! Blind attacks on an established transfer (RFC 5961, RFC 5927): the attacker knows the four-tuple and
//! guesses numbers. T57, T60, T64, T66, T71, T172 and T174 at every kind of offset.

use crate::forge::{Segment, icmp_error};
use crate::world::{Variables, World};
use lastack_engine::{Cause, FourTuple, Rule, Verdict};
use lastack_sim::Random;
use lastack_wire::icmp::IcmpError;
use lastack_wire::tcp::TcpFlags;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

const SEEDS: u64 = 3;
/// Forged packets in each millisecond.
const AT_ONCE: usize = 16;

/// What the attacker sends at an offset from the number that it would have to hit.
type Attack = fn(&mut Random, &Victim, i64) -> Option<Vec<u8>>;

/// Whom it sends that to, and what would have to be guessed.
struct Victim {
    /// As the victim sees it.
    flow: FourTuple,
    vars: Variables,
}

impl Victim {
    /// A segment in the name of the peer.
    fn segment(&self, flags: TcpFlags, seq: u32, ack: u32, text: &[u8]) -> Vec<u8> {
        let flow = FourTuple { local: self.flow.remote, remote: self.flow.local };
        Segment { flow, flags, seq, ack, text }.packet()
    }

    fn seq(&self, offset: i64) -> u32 {
        self.vars.rcv_nxt.wrapping_add(offset as u32)
    }

    /// An acknowledgment that is not acceptable (RFC 5961 section 5.2): the attacker has to guess that
    /// too, without success.
    fn wrong_ack(&self, random: &mut Random) -> u32 {
        let beyond = 1 + random.below(1 << 31) as u32;
        self.vars.snd_nxt.wrapping_add(beyond)
    }
}

fn reset(_: &mut Random, victim: &Victim, offset: i64) -> Option<Vec<u8>> {
    (offset != 0).then(|| reset_at(victim, offset))
}

fn reset_with_ack(random: &mut Random, victim: &Victim, offset: i64) -> Option<Vec<u8>> {
    let ack = random.draw() as u32;
    (offset != 0).then(|| victim.segment(TcpFlags::RST | TcpFlags::ACK, victim.seq(offset), ack, b"gone"))
}

fn syn(_: &mut Random, victim: &Victim, offset: i64) -> Option<Vec<u8>> {
    Some(victim.segment(TcpFlags::SYN, victim.seq(offset), 0, b""))
}

fn syn_with_ack(random: &mut Random, victim: &Victim, offset: i64) -> Option<Vec<u8>> {
    let ack = [victim.vars.snd_nxt, victim.vars.snd_una, random.draw() as u32][random.below(3) as usize];
    Some(victim.segment(TcpFlags::SYN | TcpFlags::ACK, victim.seq(offset), ack, b"text"))
}

fn text(random: &mut Random, victim: &Victim, offset: i64) -> Option<Vec<u8>> {
    let ack = victim.wrong_ack(random);
    Some(victim.segment(TcpFlags::ACK | TcpFlags::PSH, victim.seq(offset), ack, &[0xa5; 700]))
}

fn data_without_ack(_: &mut Random, victim: &Victim, offset: i64) -> Option<Vec<u8>> {
    Some(victim.segment(TcpFlags::PSH, victim.seq(offset), 0, &[0xa5; 700]))
}

fn fin(random: &mut Random, victim: &Victim, offset: i64) -> Option<Vec<u8>> {
    let ack = victim.wrong_ack(random);
    Some(victim.segment(TcpFlags::FIN | TcpFlags::ACK, victim.seq(offset), ack, b""))
}

fn fin_without_ack(_: &mut Random, victim: &Victim, offset: i64) -> Option<Vec<u8>> {
    Some(victim.segment(TcpFlags::FIN, victim.seq(offset), 0, b""))
}

fn nothing(_: &mut Random, victim: &Victim, offset: i64) -> Option<Vec<u8>> {
    Some(victim.segment(TcpFlags::empty(), victim.seq(offset), 0, b""))
}

/// An acknowledgment of what was never sent, at any sequence number.
fn ghost_ack(random: &mut Random, victim: &Victim, offset: i64) -> Option<Vec<u8>> {
    let ack = victim.wrong_ack(random);
    Some(victim.segment(TcpFlags::ACK, victim.seq(offset), ack, b""))
}

/// The right sequence number, and acknowledgments at every offset beyond what was sent.
fn acks_beyond(_: &mut Random, victim: &Victim, offset: i64) -> Option<Vec<u8>> {
    let ack = victim.vars.snd_nxt.wrapping_add(offset as u32);
    (offset > 0).then(|| victim.segment(TcpFlags::ACK, victim.vars.rcv_nxt, ack, &[0xa5; 100]))
}

/// The same before what the largest window lets be (S53, MAX.SND.WND).
fn acks_too_old(_: &mut Random, victim: &Victim, offset: i64) -> Option<Vec<u8>> {
    const WINDOWS: u32 = 16 << 20;
    let ack = victim.vars.snd_una.wrapping_sub(WINDOWS).wrapping_add(offset as u32);
    (offset < 0).then(|| victim.segment(TcpFlags::ACK, victim.vars.rcv_nxt, ack, &[0xa5; 100]))
}

/// An ICMP error of any kind that quotes this number. MTUs are absurd.
fn icmp(random: &mut Random, victim: &Victim, offset: i64) -> Option<Vec<u8>> {
    let v6 = victim.flow.local.is_ipv6();
    let router: IpAddr = if v6 { [0x2001, 0xdb8, 9, 0, 0, 0, 0, 9].into() } else { [203, 0, 113, 9].into() };
    let (kinds, codes) = if v6 { (1..=4, 8) } else { (3..=12, 17) };
    let kind = *kinds.start() + random.below((kinds.end() - kinds.start() + 1).into()) as u8;
    let info = [0, 1, 67, 68, 295, 551, 1279, 1280, 1500, 65_535, u32::MAX][random.below(11) as usize];
    let error = IcmpError { v6, kind, code: random.below(codes) as u8, info };
    let seq = victim.vars.snd_una.wrapping_add(offset as u32);
    Some(icmp_error(router, victim.flow, seq, error))
}

const ATTACKS: [(&str, Attack); 13] = [
    ("reset", reset),
    ("reset with ACK", reset_with_ack),
    ("SYN", syn),
    ("SYN with ACK", syn_with_ack),
    ("text", text),
    ("text without ACK", data_without_ack),
    ("FIN", fin),
    ("FIN without ACK", fin_without_ack),
    ("no flags", nothing),
    ("ghost ACK", ghost_ack),
    ("ACKs beyond SND.NXT", acks_beyond),
    ("ACKs before MAX.SND.WND", acks_too_old),
    ("ICMP error", icmp),
];

/// Every byte near the edges of a window of this size, the rest of it and as much before and behind it
/// in strides, and some anywhere.
fn offsets(window: i64, random: &mut Random) -> Vec<i64> {
    let mut offsets = BTreeSet::new();
    for edge in [0, window, 1 << 16, 1 << 31] {
        offsets.extend(edge - 20..=edge + 20);
    }
    offsets.extend((-window..2 * window).step_by(window as usize / 100));
    offsets.extend((0..100).map(|_| random.below(1 << 32) as i64));
    offsets.into_iter().collect()
}

/// Lets both hosts speak while one of them is attacked in one way at every offset. Returns what became
/// of the attacker's packets.
fn attack(v6: bool, seed: u64, side: usize, make: Attack) -> Vec<Verdict> {
    let mut world = World::connected(v6, seed, |_| {});
    let mut random = Random::new(seed);
    let flow = world.flow(side);
    for _ in 0..20 {
        step(&mut world);
    }
    let window = i64::from(world.variables(side).rcv_wnd);
    assert!(window > 50_000, "a realistic window: {window}");
    let (started, before) = (world.now, world.ends[side].stack.counters().tcp_challenge_acks);
    let mut verdicts = Vec::new();
    for offsets in offsets(window, &mut random).chunks(AT_ONCE) {
        for offset in offsets {
            let victim = Victim { flow, vars: world.variables(side) };
            if let Some(packet) = make(&mut random, &victim, *offset) {
                verdicts.push(world.forge(side, &packet));
            }
        }
        step(&mut world);
    }
    let challenges = world.ends[side].stack.counters().tcp_challenge_acks - before;
    let allowed = 1 + (world.now - started).as_millis() as u64 / 500;
    assert!(challenges <= allowed, "{challenges} challenge ACKs, {allowed} allowed");
    world.part_well();
    verdicts
}

fn step(world: &mut World) {
    world.work(0, 900);
    world.work(1, 900);
    world.pass(Duration::from_millis(1));
}

/// Bytes arrive, and both ends are orderly, whatever is sent at whatever offset but the one that a
/// reset must hit exactly.
#[test]
fn a_blind_attacker_breaks_nothing() {
    for (name, make) in ATTACKS {
        let mut sent = 0;
        for seed in 0..SEEDS {
            for (v6, side) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
                let verdicts = attack(v6, seed, side, make);
                sent += verdicts.len();
                let ended = verdicts.iter().find(|verdict| matches!(verdict, Verdict::Ended(_)));
                assert_eq!(ended, None, "{name} to host {side}, IPv6 {v6}, seed {seed}");
            }
        }
        assert!(sent > 1000, "{name}: {sent}");
    }
}

/// What the sweeps leave out is what it takes: the exact number for a reset (R1), and for data, beside a
/// number in the window, an acknowledgment that is neither too old by one byte nor too new (S52, S53).
#[test]
fn only_the_exact_numbers_do_anything() {
    for (v6, side) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
        let mut world = World::connected(v6, 7, |_| {});
        let flow = world.flow(side);
        for _ in 0..50 {
            step(&mut world);
        }
        world.pass(Duration::from_secs(1));
        let victim = Victim { flow, vars: world.variables(side) };
        let sent = world.ends[side].written as u32;
        for (ack, rule) in [
            (victim.vars.snd_nxt.wrapping_add(1), Rule::AckUnsentData),
            (victim.vars.snd_una.wrapping_sub(sent + 1), Rule::AckTooOld),
        ] {
            let verdict = world.forge(side, &victim.segment(TcpFlags::ACK, victim.seq(0), ack, b"x"));
            assert_eq!(verdict, Verdict::Answered(rule), "text with the acknowledgment {ack}");
            world.pass(Duration::from_millis(600));
        }
        let oldest = victim.vars.snd_una.wrapping_sub(sent);
        let injected = victim.segment(TcpFlags::ACK, victim.seq(5), oldest, b"x");
        assert_eq!(world.forge(side, &injected), Verdict::Accepted, "its numbers are good");
        for (offset, expected) in
            [(1, Verdict::Answered(Rule::AckChallengeRst)), (0, Verdict::Ended(Rule::PeerRstExact))]
        {
            let verdict = world.forge(side, &reset_at(&victim, offset));
            assert_eq!(verdict, expected, "a reset at {offset}");
        }
        assert_eq!(world.ends[side].ended[0].end.cause, Cause::Reset);
    }
}

fn reset_at(victim: &Victim, offset: i64) -> Vec<u8> {
    victim.segment(TcpFlags::RST, victim.seq(offset), 0, b"")
}

/// Every type and code of ICMP, with MTUs that no path has, at the edges of what is in flight and within
/// (T172, T174, T179, T182): hard errors are soft, and a small MTU is no smaller than the floor.
#[test]
fn no_icmp_error_breaks_a_transfer() {
    for v6 in [false, true] {
        for side in [0, 1] {
            let mut world = World::connected(v6, 3, |_| {});
            let flow = world.flow(side);
            let router: IpAddr =
                if v6 { [0x2001, 0xdb8, 9, 0, 0, 0, 0, 9].into() } else { [9, 9, 9, 9].into() };
            let (kinds, codes) = if v6 { (1..=4u8, 0..8u8) } else { (3..=12, 0..17) };
            let kinds = kinds.filter(|kind| IcmpError::is_error_kind(v6, *kind));
            let errors = kinds.flat_map(|kind| codes.clone().map(move |code| (kind, code)));
            let infos = [65_535, 1280, 1279, 551, 67, 0];
            for (info, (kind, code)) in errors.flat_map(|error| infos.map(|info| (info, error))) {
                for place in 0..8 {
                    let Variables { snd_una, snd_nxt, .. } = world.variables(side);
                    let middle = snd_una.wrapping_add(snd_nxt.wrapping_sub(snd_una) / 2);
                    let (before, far) = (snd_una.wrapping_sub(1), snd_una.wrapping_add(1 << 31));
                    let (last, after) = (snd_nxt.wrapping_sub(1), snd_nxt.wrapping_add(1));
                    let seq = [before, snd_una, middle, last, snd_nxt, after, far, 0][place];
                    let verdict =
                        world.forge(side, &icmp_error(router, flow, seq, IcmpError { v6, kind, code, info }));
                    assert!(!matches!(verdict, Verdict::Ended(_)), "{kind}/{code}: {verdict:?}");
                    if [0, 5, 6].contains(&place) {
                        assert!(matches!(verdict, Verdict::Dropped(_)), "{kind}/{code}: {verdict:?}");
                    }
                }
                step(&mut world);
            }
            let id = world.ends[side].id.expect("it is open");
            let mss = world.ends[side].stack.tcp(id).expect("it is held").info().mss;
            assert_eq!(mss, if v6 { 1280 - 60 - 12 } else { 552 - 40 - 12 }, "the floor, less headers");
            world.part_well();
        }
    }
}
