//! Header prediction changes no result: the same segments and calls, with it and without it, give the same packets at the
//! same times, the same events and the same state.

use super::pair::Pair;
use super::peer::Kind;
use super::random::Run;
use crate::shared::Prediction;
use crate::{Config, ConnId, Ecn, Stack};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::task::Poll;
use core::time::Duration;

/// All of its state, and how many segments were predicted.
fn state(stack: &mut Stack) -> (String, u64) {
    let predicted = core::mem::take(&mut stack.shared.prediction);
    (format!("{stack:?}"), predicted.segments)
}

fn without() -> Prediction {
    Prediction { is_off: true, segments: 0 }
}

#[test]
fn any_calls_and_any_segments_have_the_same_result() {
    let mut predicted = 0;
    for seed in 1..=300 {
        let [with, all_steps] = [false, true].map(|is_off| {
            let mut run = Run::new(seed);
            run.p.stack.shared.prediction.is_off = is_off;
            if run.p.listener.is_some() {
                run.p = run.p.establish(if seed % 2 == 0 { Kind::Full } else { Kind::Plain });
                run.name(run.p.id);
            }
            (0..120).for_each(|_| run.step());
            let sent: Vec<_> = run.p.sent.iter().map(|sent| (sent.bytes.clone(), sent.transmit)).collect();
            (sent, format!("{:?}", run.p.ended), state(&mut run.p.stack))
        });
        assert!(with.0 == all_steps.0, "seed {seed}: other packets");
        assert_eq!(with.1, all_steps.1, "seed {seed}");
        assert_eq!(with.2.0, all_steps.2.0, "seed {seed}");
        assert_eq!(all_steps.2.1, 0);
        predicted += with.2.1;
    }
    assert!(predicted > 150, "{predicted} segments were predicted");
}

#[test]
fn data_both_ways_over_a_path_that_loses_has_the_same_result() {
    type Change = fn(&mut Config);
    let changes: [Change; 6] = [
        |_| {},
        |config| config.tcp.timestamps = false,
        |config| config.tcp.sack = false,
        |config| config.tcp.ecn = Ecn::Request,
        |config| (config.tcp.receive_buffer, config.tcp.send_buffer) = (9000, 30_000),
        |config| (config.max_packet, config.tcp.pacing, config.tcp.memory) = (65_535, true, 60_000),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        for lose in [|_| false, |n| n % 53 == 7, |n| n % 11 == 3] {
            let [with, all_steps] = [false, true].map(|is_off| {
                let mut pair = Pair::with(number % 2 == 1, change);
                pair.lose = lose;
                pair.delay = Duration::from_millis(4);
                if is_off {
                    pair.a.stack.shared.prediction = without();
                    pair.b.stack.shared.prediction = without();
                }
                exchange(&mut pair, number % 3 == 1);
                let ends = [&mut pair.a, &mut pair.b].map(|host| {
                    let sent = core::mem::take(&mut host.sent);
                    (sent, format!("{:?} {:?}", host.events, host.ended), state(&mut host.stack))
                });
                (ends, pair.now)
            });
            for (with, all_steps) in with.0.into_iter().zip(all_steps.0) {
                assert!(with.0 == all_steps.0, "{number}: other packets");
                assert_eq!(with.1, all_steps.1, "{number}");
                assert_eq!(with.2.0, all_steps.2.0, "{number}");
                assert!(all_steps.2.1 == 0 && (with.2.1 > 5 || number == 3), "{number}: {}", with.2.1);
            }
            assert_eq!(with.1, all_steps.1);
        }
    }
}

/// Requests and answers, a large transfer one way, then the other, then both close. `low_water`: writers wait until little
/// is unsent.
pub(super) fn exchange(pair: &mut Pair, low_water: bool) {
    let listener = pair.listen(8);
    let a = pair.a.stack.tcp_connect(None, (pair.b.addr, super::pair::PORT).into()).unwrap();
    pair.run(Duration::from_secs(8));
    let b = pair.b.stack.tcp_accept(listener).unwrap();
    if low_water {
        pair.a.tcp(a).set_not_sent_low_water(Some(3000));
        pair.b.tcp(b).set_not_sent_low_water(Some(500));
    }
    for round in 0..30 {
        let question = [round; 70];
        let _ = pair.a.tcp(a).send(&question[..1 + usize::from(round) * 2]);
        pair.run(Duration::from_millis(9));
        let _ = pair.b.tcp(b).send(&question[..70 - usize::from(round)]);
        pair.run(Duration::from_millis(9));
        drain(pair, a, b);
    }
    let data: Vec<u8> = (0..120_000u32).map(|i| (i >> 3) as u8).collect();
    for from_a in [true, false] {
        let mut rest = &data[..];
        for _ in 0..2000 {
            let sender = if from_a { pair.a.tcp(a) } else { pair.b.tcp(b) };
            rest = send(sender, rest);
            pair.run(Duration::from_millis(3));
            drain(pair, a, b);
            if rest.is_empty() {
                break;
            }
        }
        assert!(rest.is_empty(), "{} bytes are left", rest.len());
    }
    pair.a.tcp(a).close();
    pair.run(Duration::from_secs(3));
    drain_one(pair.b.tcp(b));
    pair.b.tcp(b).close();
    pair.run(Duration::from_secs(100));
}

fn send<'t>(mut tcp: crate::Tcp<'_>, data: &'t [u8]) -> &'t [u8] {
    match tcp.send(data) {
        Poll::Ready(sent) => &data[sent.unwrap()..],
        Poll::Pending => data,
    }
}

fn drain(pair: &mut Pair, a: ConnId, b: ConnId) {
    drain_one(pair.a.tcp(a));
    drain_one(pair.b.tcp(b));
}

fn drain_one(mut tcp: crate::Tcp<'_>) {
    while let Poll::Ready(Ok(1..)) = tcp.receive(&mut [0; 5000]) {}
}
