//! F, continued: keep-alive finds a dead peer, whatever the user sets and whatever segments are forged.

use super::peer::{Kind, Peer, both};
use crate::{Keepalive, TcpState};
use core::time::Duration;

const TIMES: Keepalive =
    Keepalive { idle: Duration::from_secs(10), interval: Duration::from_secs(2), count: 3 };

fn idle(v6: bool) -> Peer {
    let mut p = Peer::established(v6, Kind::Full);
    p.tcp().set_keepalive(Some(TIMES));
    p
}

/// How many probes are sent, and after how many seconds the connection ends, if `each` happens every second.
fn probes(v6: bool, mut each: impl FnMut(&mut Peer)) -> (usize, Option<u64>) {
    let mut p = idle(v6);
    let mut probes = 0;
    for second in 1..=120 {
        probes += p.run(1000).matches(". seq=0 ack=1").count();
        if p.state() == TcpState::Closed {
            return (probes, Some(second));
        }
        each(&mut p);
    }
    (probes, None)
}

#[test]
fn s91_setters_do_not_start_keep_alive_anew() {
    both(|v6| {
        let undisturbed = (3, Some(16));
        assert_eq!(probes(v6, |_| {}), undisturbed);
        let setters: [fn(&mut Peer); 10] = [
            |p| p.tcp().set_nodelay(true),
            |p| p.tcp().set_cork(false),
            |p| p.tcp().set_linger(None),
            |p| p.tcp().set_dscp(10),
            |p| p.tcp().set_max_segment(None),
            |p| p.tcp().set_send_buffer(Some(10_000)),
            |p| p.tcp().set_keepalive(Some(TIMES)),
            |p| p.tcp().set_fin_wait_2(Some(Duration::from_secs(1))),
            |p| p.tcp().set_user_timeout(None),
            |p| p.tcp().set_reset_reason(None),
        ];
        for (n, set) in setters.into_iter().enumerate() {
            assert_eq!(probes(v6, set), undisturbed, "setter {n}");
        }
    });
}

/// Times that change count from when the peer was last heard, and the probes that it did not answer stay counted.
#[test]
fn s91_other_times_keep_the_count_of_probes() {
    both(|v6| {
        let mut n = 0;
        let (probes, ended) = probes(v6, |p| {
            n += 1;
            p.tcp()
                .set_keepalive(Some(Keepalive { idle: TIMES.idle + Duration::from_millis(n % 2), ..TIMES }));
        });
        assert!(probes <= 3 && ended.is_some_and(|second| second <= 16), "{probes} {ended:?}");
    });
}

/// Who knows the four-tuple and no numbers does not keep a connection to a dead peer.
#[test]
fn s91_segments_that_are_not_acceptable_do_not_count_as_heard() {
    both(|v6| {
        for forged in [
            ". seq=1000000000 ack=1 nots",
            "P. seq=-1000000 ack=1 len=10",
            ". seq=1 ack=777",
            ". seq=1 ack=-100000000",
            ". seq=1 ack=1 ts=-10000000",
            "R seq=1000",
            "S seq=1",
            "F seq=1",
        ] {
            let (_, ended) = probes(v6, |p| {
                let _ = p.on(forged);
            });
            assert_eq!(ended, Some(16), "{forged}");
        }
        // The peer itself, which answers the probes, does.
        let (_, ended) = probes(v6, |p| assert_eq!(p.on("."), "accepted"));
        assert_eq!(ended, None);
    });
}
