//! Decide, then do: what is planned and not sent leaves no trace.

use crate::tcp::table::Socket;
use crate::tcp::tests::pair::Pair;
use crate::{ConnId, MtuProbing};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::task::Poll;
use core::time::Duration;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Send(usize),
    Receive(usize),
    Pass(u64),
    Shutdown,
    Cork(bool),
}

const LOSE: [fn(usize) -> bool; 3] = [|_| false, |n| n % 7 == 3, |n| n % 23 == 3];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1usize..60_000).prop_map(Step::Send),
        2 => (1usize..60_000).prop_map(Step::Receive),
        6 => prop_oneof![0u64..5, 0u64..60, 200u64..3000].prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::Cork),
        1 => Just(Step::Shutdown),
    ]
}

/// Plans for now and for later, and sends nothing.
fn plan(pair: &mut Pair, id: ConnId, later: u64) -> String {
    let now = pair.now;
    let stack = &pair.a.stack;
    let Some(Socket::Open(connection)) = stack.tcp.get(id) else {
        return String::new();
    };
    let before = format!("{connection:?}");
    let first = format!("{:?}", connection.plan_to_show(&stack.shared, now));
    connection.plan_to_show(&stack.shared, now + Duration::from_millis(later));
    assert_eq!(format!("{:?}", connection.plan_to_show(&stack.shared, now)), first, "twice the same");
    assert_eq!(format!("{connection:?}"), before);
    first
}

/// What A sends in a run with these steps, on a path that loses packets as `LOSE` says.
fn played(steps: &[Step], v6: bool, pacing: bool, lose: usize, plans: bool) -> Vec<Vec<u8>> {
    let mut pair = Pair::with(v6, |config| {
        config.tcp.pacing = pacing;
        config.tcp.mtu_probing = MtuProbing::Always;
        config.max_packet = if pacing { 1500 } else { 65_535 };
    });
    let (a, b) = pair.connect();
    pair.delay = Duration::from_millis(10);
    pair.lose = LOSE[lose];
    for (i, step) in steps.iter().enumerate() {
        match *step {
            Step::Send(len) => _ = pair.a.tcp(a).send(&alloc::vec![7; len]),
            Step::Receive(len) => {
                let mut buf = alloc::vec![0; len];
                let received = pair.b.stack.tcp(b).map(|mut tcp| tcp.receive(&mut buf));
                assert!(!matches!(received, Some(Poll::Ready(Err(_)))));
            }
            Step::Pass(ms) => pair.run(Duration::from_millis(ms)),
            Step::Shutdown => _ = pair.a.tcp(a).shutdown(),
            Step::Cork(on) => pair.a.tcp(a).set_cork(on),
        }
        if plans {
            plan(&mut pair, a, i as u64 * 37);
        }
    }
    pair.run(Duration::from_secs(5));
    pair.a.sent.into_iter().map(|(_, packet, _)| packet).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Two runs, of which one plans at any time for any time, send the same bytes.
    #[test]
    fn a_plan_that_is_not_sent_changes_nothing(
        steps in prop::collection::vec(step(), 1..40), v6: bool, pacing: bool, lose in 0..LOSE.len(),
    ) {
        let plain = played(&steps, v6, pacing, lose, false);
        prop_assert!(plain == played(&steps, v6, pacing, lose, true));
    }
}
