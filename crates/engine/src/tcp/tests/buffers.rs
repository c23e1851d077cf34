//! Socket options about buffers and packet sizes: `MSG_EOR`, `TCP_NOTSENT_LOWAT`, `SO_RCVBUF`, `IP_MTU_DISCOVER`; and
//! `tcp_base_mss`.

use crate::MtuProbing;
use crate::tcp::tests::peer::{Kind, Peer, both};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::task::Poll;
use lastack_wire::icmp::IcmpError;
use lastack_wire::tcp::TcpFlags;

/// The lengths of the data segments sent since the `from`th.
fn lengths(p: &Peer, from: usize) -> Vec<usize> {
    p.sent[from..].iter().map(|sent| sent.data().len()).filter(|len| *len > 0).collect()
}

fn send_record(p: &mut Peer, len: usize) {
    assert_eq!(p.tcp().send_record(&alloc::vec![7; len]), Poll::Ready(Ok(len)));
}

#[test]
fn no_segment_spans_the_end_of_a_record() {
    both(|v6| {
        let mss = if v6 { 1440 } else { 1460 };
        let mut p = Peer::established(v6, Kind::Plain);
        p.on(". win=60000");
        let from = p.sent.len();
        for len in [400, 1700, 1, 300] {
            send_record(&mut p, len);
        }
        p.send(500);
        p.tcp().shutdown().unwrap();
        p.out();
        assert_eq!(lengths(&p, from), [400, mss, 1700 - mss, 1, 300, 500]);
        let pushed: Vec<bool> =
            p.sent[from..].iter().map(|sent| sent.header().flags.contains(TcpFlags::PSH)).collect();
        assert_eq!(pushed, [true, false, true, true, true, true]);
        assert!(p.last().header().flags.contains(TcpFlags::FIN));
        // Nor does one that is sent again: the timeout repeats the first, its ACK lets the next go.
        let from = p.sent.len();
        p.run(250);
        p.on(". ack=401 win=60000");
        p.on(&format!(". ack={} win=60000", 401 + mss));
        p.run(10);
        assert_eq!(lengths(&p, from)[..5], [400, mss, 1700 - mss, 1, 300]);
    });
}

/// Minshall's variant of the Nagle algorithm holds back the last small segment, not one that data follows.
#[test]
fn the_end_of_a_record_does_not_wait_for_an_acknowledgment() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        p.on(". win=60000");
        let from = p.sent.len();
        send_record(&mut p, 400);
        p.out();
        send_record(&mut p, 100);
        p.send(50);
        p.out();
        assert_eq!(lengths(&p, from), [400, 100]);
        p.on(". ack=501 win=60000");
        assert_eq!(lengths(&p, from), [400, 100, 50]);
    });
}

#[test]
fn a_super_segment_ends_with_its_record() {
    let mut p = Peer::with(false, |config| config.max_packet = 65_535).listen(1).establish(Kind::Plain);
    p.on(". win=60000");
    let from = p.sent.len();
    p.tcp().set_nodelay(true);
    send_record(&mut p, 4000);
    p.send(4000);
    p.out();
    assert_eq!(lengths(&p, from), [4000, 4000]);
}

#[test]
fn the_fin_shares_the_segment_of_the_last_record_again() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Full);
        send_record(&mut p, 100);
        p.tcp().shutdown().unwrap();
        p.out();
        let from = p.sent.len();
        p.run(1500);
        let again = &p.sent[from];
        assert_eq!((again.data().len(), again.header().flags.contains(TcpFlags::FIN)), (100, true));
    });
}

/// Records past the bound are sent like other data, and none is lost.
#[test]
fn more_records_than_are_kept_share_segments() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        p.on(". win=0");
        let from = p.sent.len();
        for _ in 0..2000 {
            send_record(&mut p, 5);
        }
        let mut acked = 0;
        for _ in 0..3000 {
            p.on(&format!(". ack={} win=60000", acked + 1));
            p.out();
            acked = lengths(&p, from).iter().sum::<usize>();
        }
        assert_eq!(acked, 10_000);
        let sizes = lengths(&p, from);
        assert_eq!(sizes.iter().filter(|len| **len == 5).count(), 1024);
        assert!(sizes.len() < 1100, "{}", sizes.len());
        p.on(". ack=10001 win=60000");
        p.stack.check();
    });
}

#[test]
fn unsent_data_is_limited() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        p.tcp().set_not_sent_low_water(Some(2000));
        assert_eq!(p.tcp().not_sent_low_water(), Some(2000));
        p.on(". win=3000");
        // What the window allows, and so much more.
        assert_eq!(p.tcp().send(&[7; 10_000]), Poll::Ready(Ok(5000)));
        p.out();
        p.new_events();
        assert!(p.tcp().send(&[7; 10]).is_pending());
        // 500 bytes of the limit are free: not enough to notify a writer; then 1500.
        p.on(". ack=1 win=3500");
        p.out();
        assert_eq!(p.new_events(), "");
        p.on(". ack=1 win=4500");
        p.out();
        assert_eq!(p.new_events(), "Writable");
        assert_eq!(p.tcp().send(&[7; 10_000]), Poll::Ready(Ok(1500)));
        p.tcp().set_not_sent_low_water(None);
        assert!(matches!(p.tcp().send(&[7; 10_000]), Poll::Ready(Ok(10_000))));
    });
}

/// A third of a full send buffer has to be free before a writer is notified.
#[test]
fn a_writer_is_notified_of_a_third() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        p.tcp().set_send_buffer(Some(3000));
        p.on(". win=60000");
        assert_eq!(p.tcp().send(&[7; 4000]), Poll::Ready(Ok(3000)));
        assert!(p.tcp().send(&[7; 1000]).is_pending());
        p.out();
        p.new_events();
        p.on(". ack=1000 win=60000");
        assert_eq!((p.new_events().as_str(), p.tcp().readiness().writable), ("", false));
        p.on(". ack=1001 win=60000");
        assert_eq!((p.new_events().as_str(), p.tcp().readiness().writable), ("Writable", true));
    });
}

#[test]
fn a_receive_buffer_is_offered_and_kept() {
    both(|v6| {
        let mut p = Peer::new(v6).listen(1);
        let listener = p.listener.unwrap();
        p.stack.tcp_set_listener_receive_buffer(listener, Some(10_000));
        let mut p = p.establish(Kind::Plain);
        let mss = if v6 { 1440 } else { 1460 };
        let whole = 10_000 / mss * mss;
        assert_eq!((p.tcp().receive_buffer(), usize::from(p.last().header().window)), (10_000, whole));
        // A window that was promised is kept, and then it shrinks with what arrives.
        p.tcp().set_receive_buffer(Some(3000));
        p.on("P. len=1000 win=60000");
        p.run(100);
        assert_eq!(usize::from(p.last().header().window), whole - 1000);
        let mut read = [0; 1000];
        assert_eq!(p.tcp().receive(&mut read), Poll::Ready(Ok(1000)));
        p.on("P. seq=1001 len=1000 win=60000");
        p.run(100);
        assert_eq!(usize::from(p.last().header().window), whole - 2000);
        let rest = whole - 2000;
        p.on(&format!("P. seq=2001 len={rest} win=60000"));
        assert_eq!(p.tcp().info().unread, whole - 1000);
        p.stack.check();
    });
}

/// Without path MTU discovery segments may be fragmented, each has an identification, and no router's word changes
/// their size.
#[test]
fn without_df_packet_too_big_is_ignored() {
    let mut p = Peer::established(false, Kind::Full);
    p.tcp().set_path_mtu_discovery(false);
    assert!(!p.tcp().path_mtu_discovery());
    p.send(3000);
    p.out();
    let mut idents: Vec<u16> = p.sent[p.sent.len() - 3..].iter().map(|sent| sent.ip.ident).collect();
    assert!(p.sent[p.sent.len() - 3..].iter().all(|sent| !sent.ip.dont_fragment));
    idents.sort_unstable();
    idents.dedup();
    assert_eq!(idents.len(), 3);
    let about = p.last().bytes.clone();
    p.on_icmp(&about, IcmpError::packet_too_big(false, 600));
    assert_eq!((p.tcp().info().mss, p.tcp().info().path_mtu), (1448, 1500));
    p.tcp().set_path_mtu_discovery(true);
    p.on_icmp(&about, IcmpError::packet_too_big(false, 600));
    assert_eq!(p.tcp().info().mss, 548);
    // IPv6 has no such bit.
    let mut p = Peer::established(true, Kind::Full);
    p.tcp().set_path_mtu_discovery(false);
    p.send(1400);
    p.out();
    let about = p.last().bytes.clone();
    p.on_icmp(&about, IcmpError::packet_too_big(true, 1280));
    assert_eq!(p.tcp().info().mss, 1208);
}

#[test]
fn the_base_mss_is_where_a_search_begins() {
    let p = |base_mss| {
        let change = |config: &mut crate::Config| {
            config.tcp.mtu_probing = MtuProbing::Always;
            config.tcp.base_mss = base_mss;
        };
        Peer::with(false, change).listen(1).establish(Kind::Full).tcp().info().mss
    };
    assert_eq!([512, 1024, 60_000].map(p), [500, 1012, 1448]);
    let mut config = crate::TcpConfig::default();
    assert!(config.set_base_mss(87).unwrap_err().to_string().contains("the min is 88"));
}

/// What a call waits for is decided by another call: it is notified at once.
#[test]
fn a_writer_that_waits_is_notified_of_a_shutdown() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        while p.send(100_000) != "pending" {}
        p.out();
        p.new_events();
        p.tcp().shutdown().unwrap();
        assert_eq!(p.new_events(), "Writable");
        assert_eq!(p.send(1), "BrokenPipe");
        // No call waits any more.
        p.on(". ack=1461 win=60000");
        assert_eq!(p.new_events(), "");
    });
}

/// The same in SYN-RECEIVED, where a write waits for the handshake.
#[test]
fn a_writer_that_waits_for_the_handshake_is_notified_of_a_shutdown() {
    both(|v6| {
        let mut p = Peer::simultaneous(v6, Kind::Plain);
        assert_eq!(p.state(), crate::TcpState::SynReceived);
        assert_eq!(p.send(1), "pending");
        p.new_events();
        p.tcp().shutdown().unwrap();
        assert_eq!(p.new_events(), "Writable");
        assert_eq!(p.send(1), "BrokenPipe");
    });
}

#[test]
fn a_writer_that_waits_is_notified_of_a_larger_send_buffer() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        p.tcp().set_send_buffer(Some(8192));
        while p.send(100_000) != "pending" {}
        p.out();
        p.new_events();
        p.tcp().set_send_buffer(Some(8300));
        assert_eq!(p.new_events(), "", "a third of it has to be free");
        p.tcp().set_send_buffer(Some(65_536));
        assert_eq!(p.new_events(), "Writable");
        assert_ne!(p.send(1), "pending");
    });
}
