//! Acknowledgment by the user: which ACKs are withheld, what is reported, and the window meanwhile.

use crate::tcp::tests::peer::{Kind, Peer, both};
use crate::testing::Sent;
use lastack_wire::icmp::IcmpError;

fn held(v6: bool) -> Peer {
    let mut p = Peer::established(v6, Kind::Plain);
    p.tcp().hold_acks();
    p
}

#[test]
fn nothing_is_acknowledged_before_the_user_releases_it() {
    both(|v6| {
        let mut p = held(v6);
        assert_eq!(p.on("P. len=10"), "accepted");
        assert_eq!(p.run(300), "");
        assert_eq!(p.tcp().readable()[0].len(), 10);
        p.tcp().acknowledge(4, false);
        assert_eq!(p.run(50), "0: . seq=1 ack=5");
        // A segment of ours carries what may be acknowledged, and a window that counts from there.
        p.send(3);
        assert_eq!(p.out(), "P. seq=1 ack=5 len=3");
        p.tcp().acknowledge(10, false);
        assert_eq!(p.run(50), "40: . seq=4 ack=11");
        // Once is enough.
        p.tcp().acknowledge(10, false);
        p.tcp().acknowledge(5, false);
        assert_eq!(p.run(100), "");
    });
}

#[test]
fn a_probe_is_not_answered_and_the_user_is_notified() {
    both(|v6| {
        let mut p = held(v6);
        p.on("P. len=10");
        p.new_events();
        // Again what has come: its sender waits for an acknowledgment.
        assert_eq!(p.on("P. seq=1 len=10"), "dropped S51");
        assert!(p.tcp().ack_wanted());
        assert_eq!(p.new_events(), "AckWanted");
        assert_eq!(p.on("P. seq=1 len=10"), "dropped S51");
        assert_eq!(p.new_events(), "");
        p.tcp().acknowledge(10, false);
        assert_eq!(p.out(), ". seq=1 ack=11");
        assert!(!p.tcp().ack_wanted());
        // A probe of keep-alive, with and without a byte.
        for probe in [". seq=10", ". seq=10 len=1"] {
            assert_eq!(p.on(probe), "dropped S51");
            assert_eq!(p.new_events(), "AckWanted");
            p.tcp().acknowledge(10, false);
            assert_eq!(p.out(), ". seq=1 ack=11");
        }
        // What is older than that is answered as ever.
        assert_eq!(p.on("P. seq=1 len=4"), "answered S51 | . seq=1 ack=11");
    });
}

#[test]
fn a_fin_is_acknowledged_with_all_before_it() {
    both(|v6| {
        let mut p = held(v6);
        assert_eq!(p.on("FP. len=10"), "accepted");
        assert_eq!(p.run(300), "");
        p.tcp().acknowledge(10, false);
        assert_eq!(p.run(50), "0: . seq=1 ack=11");
        p.tcp().acknowledge(10, true);
        assert_eq!(p.run(50), "0: . seq=1 ack=12");
        assert_eq!(p.on("FP. len=10"), "answered S51 | . seq=1 ack=12");
    });
}

#[test]
fn a_muted_connection_is_silent_until_it_is_reset() {
    both(|v6| {
        let mut p = held(v6);
        p.on("P. len=10");
        p.tcp().mute();
        p.send(5);
        assert_eq!(p.run(1000), "");
        assert_eq!(p.on("P. seq=1 len=10"), "dropped Unwanted");
        assert_eq!(p.on("R seq=11"), "ended R1");
    });
}

#[test]
fn an_error_quotes_what_is_in_flight() {
    both(|v6| {
        let mut p = held(v6);
        p.on("P. len=10");
        p.tcp().report_error(IcmpError::host_unreachable(v6), None);
        assert_eq!(p.out(), if v6 { "protocol 58" } else { "protocol 1" });
        let sent = Sent { bytes: p.last().bytes.clone(), transmit: p.last().transmit };
        let (error, quoted) = sent.error();
        assert_eq!(error, IcmpError::host_unreachable(v6));
        // Ports and sequence number are those of the first byte that is not acknowledged.
        let tcp = if v6 { 40 } else { 20 };
        assert_eq!(quoted[tcp..tcp + 8], p.packet("P. len=10")[tcp..tcp + 8]);
    });
}

#[test]
fn a_close_acknowledges_everything_and_a_muted_connection_nothing() {
    both(|v6| {
        let mut p = held(v6);
        p.on("FP. len=10");
        p.tcp().consume(10);
        p.tcp().close();
        assert_eq!(p.out(), "F. seq=1 ack=12");
        let mut p = held(v6);
        p.on("FP. len=10");
        p.tcp().mute();
        p.tcp().close();
        assert_eq!(p.run(1000), "");
        p.assert_gone();
    });
}
