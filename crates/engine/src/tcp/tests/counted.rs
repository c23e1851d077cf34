//! Counters that no other test reads.

use super::peer::{Kind, Peer, both};
use crate::{Received, Rule};
use alloc::vec::Vec;
use lastack_wire::icmp::Icmp;
use lastack_wire::ip::IpHeader;

/// Each arrival that changes nothing has its reason, and each reason its number.
#[test]
fn every_reason_to_drop_counts() {
    both(|v6| {
        let mut p = Peer::listening(v6);
        p.stack.tcp_config_mut().receive_buffer = 1000;
        let mut p = p.establish(Kind::Plain);
        let before = p.stack.counters().ip_in_receives;
        p.on(". at=100 len=5");
        p.on(". at=100 len=5");
        p.on(". len=1000");
        p.on(". len=5 at=1000");
        let from = p.tcp().remote().ip();
        let to = p.tcp().local().ip();
        let header = IpHeader::new(from, to, if v6 { 58 } else { 1 });
        let (mut message, mut packet) = (Vec::new(), Vec::new());
        Icmp::Echo { reply: true, ident: 1, seq: 1, data: b"unasked" }.emit(&header, &mut message);
        header.emit(message.len(), &mut packet);
        packet.extend(message);
        p.on_packet(&packet);
        p.on_packet(&packet[..10]);
        let counters = *p.stack.counters();
        assert_eq!(counters.ip_in_receives - before, 6);
        assert_eq!((counters.dropped_duplicates, counters.dropped_no_space), (1, 1));
        assert_eq!((counters.dropped_unwanted, counters.dropped_malformed), (1, 1));
    });
}

/// A rule counts where it is followed: by what arrived, by what is sent, and by what ended.
#[test]
fn every_rule_counts() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        p.on("R at=9");
        p.on("R at=-9");
        p.on("R");
        p.on(". len=1");
        let counters = p.stack.counters();
        assert_eq!([Rule::R2, Rule::R4, Rule::R1, Rule::S10].map(|rule| counters.arrivals.of(rule)), [1; 4]);
        assert_eq!((counters.sent.of(Rule::R2), counters.sent.of(Rule::S10)), (1, 1));
        assert_eq!(counters.ends.iter().collect::<Vec<_>>(), [(Rule::R1, 1)]);
        assert_eq!(counters.tcp_established, 1);
    });
}

/// RFC 9293 section 3.8.6.3: an ACK that nothing took along goes when its time is over.
#[test]
fn an_ack_that_is_held_back_counts_when_it_goes() {
    both(|v6| {
        let mut p = Peer::listening(v6);
        p.stack.tcp_config_mut().quick_acks = 0;
        let mut p = p.establish(Kind::Plain);
        let _ = p.stack.handle_packet(p.now, &p.packet("P. len=5"), Received::default());
        p.run(100);
        assert!(p.stack.counters().tcp_delayed_acks <= 1, "{:?}", p.stack.counters());
        p.on("P. len=5 at=5");
        p.run(100);
        assert!(p.stack.counters().tcp_delayed_acks >= 1, "{:?}", p.stack.counters());
    });
}
