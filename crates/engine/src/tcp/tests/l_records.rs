//! L: what is left of an answer, a drop and an end, so that it can be explained.

use crate::tcp::tests::pair::Pair;
use crate::tcp::tests::peer::{Kind, Peer, both};
use crate::{
    Cause, DropReason, EndedBy, Keepalive, LikelyCause, Received, Rule, TcpState, TimeLimit, Verdict,
};
use TcpState::{CloseWait, Closed, Established, FinWait2, LastAck, SynReceived, SynSent, TimeWait};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use lastack_wire::icmp::IcmpError;
use lastack_wire::ip::{self, IpPacket};
use lastack_wire::tcp::{TcpFlags, TcpHeader};

/// A host in this state; CLOSED has no listener either.
fn host(v6: bool, state: TcpState) -> Peer {
    match state {
        Closed => Peer::new(v6),
        TcpState::Listen => Peer::listening(v6),
        SynSent => Peer::syn_sent(v6),
        SynReceived => Peer::syn_received(v6, Kind::Plain),
        state => Peer::in_state(v6, Kind::Plain, state, true),
    }
}

/// Each arrival has one verdict. What it draws is one packet, and both have the same rule; what it ends has
/// one record, with the rule, the state before, and the header that did it.
#[test]
fn t190_an_answer_and_an_end_have_one_record() {
    for (state, segment, rule, sends, ends) in [
        (Closed, "S", "S1", true, false),
        (Closed, ".", "S4", true, false),
        (Closed, "F", "S5", true, false),
        (Closed, "R", "R10", false, false),
        (TcpState::Listen, ".", "S10", true, false),
        (TcpState::Listen, "R", "S12", false, false),
        (TcpState::Listen, "P len=3", "S13", false, false),
        (SynSent, ". ack=9", "S20", true, false),
        (SynSent, "R. ack=9", "S21", false, false),
        (SynSent, "R. ack=1", "R11", false, true),
        (SynReceived, ". ack=9", "S30", true, false),
        (SynReceived, "S at=9", "S32", true, true),
        (SynReceived, "R", "R12", false, true),
        (SynReceived, "R at=1", "R2", true, false),
        (Established, "S", "S50", true, false),
        (Established, ". at=-9", "S51", true, false),
        (Established, ". ack=9", "S52", true, false),
        (Established, "P len=3", "S54", false, false),
        (Established, "R", "R1", false, true),
        (Established, "R at=1", "R2", true, false),
        (Established, "R at=-1", "R4", false, false),
        (CloseWait, "R", "R15", false, true),
        (CloseWait, "P. len=3", "S84", false, false),
        (LastAck, "R", "R16", false, true),
        (TimeWait, "F. at=-1", "Q1", true, false),
        (TimeWait, "R", "R17", false, false),
    ] {
        both(|v6| {
            let mut p = host(v6, state);
            p.out();
            p.ended.clear();
            let (packet, from) = (p.packet(segment), p.sent.len());
            let verdict = p.stack.handle_packet(p.now, &packet, Received::default());
            p.out();
            assert_eq!(verdict.rule().map(Rule::code), Some(rule), "{state} {segment}");
            let rules: Vec<_> = p.sent[from..].iter().map(|sent| sent.transmit.rule).collect();
            // The ACKs of TIME-WAIT, and of data outside the window, count as others.
            let ordinary = rule == "Q1";
            let expected = if ordinary { None } else { verdict.rule() };
            assert_eq!(rules, if sends { Vec::from([expected]) } else { Vec::new() }, "{state} {segment}");
            let header = TcpHeader::parse(IpPacket::parse(&packet).unwrap().payload).unwrap().0;
            let of =
                |end: &crate::End| (end.rule.code(), end.state, end.trigger.map(|t| (t.flags, t.seq, t.ack)));
            let records: Vec<_> = p.ended.iter().map(|ended| of(&ended.end)).collect();
            let record = (rule, state, Some((header.flags, header.seq, header.ack)));
            assert_eq!(records, if ends { Vec::from([record]) } else { Vec::new() }, "{state} {segment}");
            assert_eq!(matches!(verdict, Verdict::Ended(_)), ends);
        });
    }
}

/// A challenge ACK that is sent, one that the limit suppresses, and a silent drop: each has
/// its rule, and is counted.
#[test]
fn t191_silent_drops_have_a_rule_too() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        let mut verdict = |segment: &str| {
            let packet = p.packet(segment);
            let verdict = p.stack.handle_packet(p.now, &packet, Received::default());
            let out = p.out();
            let counters = p.stack.counters();
            (verdict, !out.is_empty(), counters.tcp_challenge_acks, counters.tcp_suppressed_acks)
        };
        assert_eq!(verdict("R at=5"), (Verdict::Answered(Rule::AckChallengeRst), true, 1, 0));
        assert_eq!(
            verdict("R at=5"),
            (Verdict::Dropped(DropReason::Rule(Rule::AckChallengeRst)), false, 1, 1)
        );
        assert_eq!(verdict("S"), (Verdict::Dropped(DropReason::Rule(Rule::AckChallengeSyn)), false, 1, 2));
        assert_eq!(
            verdict("R at=70000"),
            (Verdict::Dropped(DropReason::Rule(Rule::DropRstOutsideWindow)), false, 1, 2)
        );
        assert_eq!(verdict("-"), (Verdict::Dropped(DropReason::Rule(Rule::DropNoAck)), false, 1, 2));
    });
}

/// The error that a call gives, and the record behind it, also where the network said why.
#[test]
fn t192_an_error_leads_to_its_record() {
    type Make = fn(bool) -> Peer;
    fn silent(v6: bool, error: bool) -> Peer {
        let mut p = Peer::established(v6, Kind::Plain);
        p.send(10);
        p.out();
        if error {
            let about = p.last().bytes.clone();
            p.on_icmp(&about, IcmpError::host_unreachable(v6));
        }
        p.run(1_000_000);
        p
    }
    let table: [(Make, &str, &str); 5] = [
        (|v6| reset(v6, "R"), "Reset", "R1"),
        (|v6| refused(v6), "Refused", "R11"),
        (|v6| silent(v6, false), "TimedOut", "S92"),
        (|v6| silent(v6, true), "HostUnreachable", "S92"),
        (|v6| killed(v6), "Aborted", "S103"),
    ];
    for (make, error, rule) in table {
        both(|v6| {
            let mut p = make(v6);
            assert_eq!(p.error(), error);
            assert_eq!(
                p.tcp().end().map(|end| end.rule.code()),
                Some(rule),
                "the error is reported, the record stays"
            );
            assert_eq!(p.ended.len(), 1);
            assert_eq!(Some(&p.ended[0].end.clone()), p.tcp().end(), "both tell the same");
        });
    }
}

fn reset(v6: bool, segment: &str) -> Peer {
    let mut p = Peer::established(v6, Kind::Plain);
    p.on(segment);
    p
}

fn refused(v6: bool) -> Peer {
    let mut p = Peer::syn_sent(v6);
    p.on("R. seq=0 ack=1");
    p
}

fn killed(v6: bool) -> Peer {
    let mut p = Peer::established(v6, Kind::Plain);
    let flow = p.flow();
    assert!(p.stack.tcp_kill(&flow));
    p.out();
    p
}

/// By our program, by who runs it, by our stack, by the peer, by the path: no two of these ends look the
/// same.
#[test]
fn t193_the_ending_side_is_never_confused() {
    both(|v6| {
        let local = |act: fn(&mut Peer)| {
            let mut p = Peer::established(v6, Kind::Plain);
            act(&mut p);
            p.run(10_000_000);
            p.ended.pop().expect("it ended").end
        };
        let ends = [
            (local(drop_unread), Cause::Aborted, EndedBy::Application, "S60"),
            (local(|p| p.tcp().abort()), Cause::Aborted, EndedBy::Application, "S64"),
            (killed(v6).ended.remove(0).end, Cause::Aborted, EndedBy::Administrator, "S103"),
            (
                local(|p| p.tcp().set_keepalive(Some(Keepalive { count: 2, ..Keepalive::default() }))),
                Cause::TimedOut(TimeLimit::KeepAlive),
                EndedBy::Stack,
                "S91",
            ),
            (local(|p| drop(p.send(9))), Cause::TimedOut(TimeLimit::Retransmission), EndedBy::Stack, "S92"),
            (reset(v6, "R.").ended.remove(0).end, Cause::Reset, EndedBy::Peer, "R1"),
            (reset(v6, "R").ended.remove(0).end, Cause::Reset, EndedBy::Peer, "R1"),
            (refused(v6).ended.remove(0).end, Cause::Refused, EndedBy::Peer, "R11"),
            (
                prohibited(v6),
                Cause::Unreachable(IcmpError::admin_prohibited(v6)),
                EndedBy::Network(router(v6)),
                "I1",
            ),
        ];
        for (at, (end, cause, by, rule)) in ends.iter().enumerate() {
            assert_eq!((end.cause, end.by, end.rule.code()), (*cause, *by, *rule));
            let look = |end: &crate::End| (end.cause, end.by, end.rule, end.inferred);
            assert!(ends[..at].iter().all(|(other, ..)| look(other) != look(end)), "{end}");
        }
        let shapes: Vec<_> = ends[5..8].iter().filter_map(|(end, ..)| end.inferred).collect();
        let known = [LikelyCause::AbortedByPeer, LikelyCause::UnknownConnection, LikelyCause::NoListener];
        assert_eq!(shapes, known);
    });
}

fn drop_unread(p: &mut Peer) {
    p.on("P. len=5");
    p.tcp().close();
}

fn router(v6: bool) -> core::net::IpAddr {
    Peer::new(v6).router()
}

fn prohibited(v6: bool) -> crate::End {
    let mut p = Peer::syn_sent(v6);
    let about = p.last().bytes.clone();
    p.on_icmp(&about, IcmpError::admin_prohibited(v6));
    p.ended.remove(0).end
}

/// A record outlives its connection: with its user until that closes, and as an event of which there is
/// one; a thousand of them leave nothing behind in the stack.
#[test]
fn t194_records_outlive_their_connection() {
    both(|v6| {
        let mut p = Peer::new(v6);
        for n in 0..1000 {
            p.open();
            p.out();
            assert_eq!(p.on("R. seq=0 ack=1"), "ended R11");
            assert_eq!(p.tcp().end().map(|end| end.rule), Some(Rule::PeerRstRefused));
            p.tcp().close();
            assert!(p.stack.tcp(p.id).is_none());
            assert_eq!((p.stack.connections(), p.ended.len()), (0, n + 1));
        }
        assert_eq!(p.stack.poll_timeout(), None);
        // Of one without a socket there is only the event.
        let mut p = Peer::in_state(v6, Kind::Plain, FinWait2, false);
        assert_eq!(p.on("R"), "ended R1");
        assert_eq!(p.stack.connections(), 0);
        assert_eq!(p.ends(), "reset by the peer in FIN-WAIT-2 (R1), R");
    });
}

/// The counters are equal to what is counted in a capture.
#[test]
fn t195_the_counters_agree_with_a_capture() {
    both(|v6| {
        let mut pair = Pair::new(v6);
        pair.lose = |n| n % 7 == 5;
        let (a, b) = {
            let listener = pair.listen(8);
            let to = core::net::SocketAddr::new(pair.b.addr, crate::tcp::tests::pair::PORT);
            let a = pair.a.stack.tcp_connect(None, to).unwrap();
            pair.run(Duration::from_secs(20));
            (a, pair.b.stack.tcp_accept(listener).expect("it is established"))
        };
        let data: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        assert_eq!(pair.transfer(a, b, &data), data);
        let _ = pair.b.tcp(b).send(b"unread");
        pair.run(Duration::from_secs(5));
        pair.a.tcp(a).close();
        let nobody = core::net::SocketAddr::new(pair.b.addr, 9);
        for _ in 0..20 {
            pair.a.stack.tcp_connect(None, nobody).unwrap();
        }
        pair.run(Duration::from_secs(200));
        for host in [&pair.a, &pair.b] {
            let mut seen: Vec<(TcpHeader, usize, Option<Rule>)> = Vec::new();
            for (_, bytes, transmit) in &host.sent {
                let packet = IpPacket::parse(bytes).unwrap();
                assert_eq!(packet.header.protocol, ip::TCP);
                let (tcp, data) = TcpHeader::parse(packet.payload).unwrap();
                seen.push((tcp, data.len(), transmit.rule));
            }
            let resets = seen.iter().filter(|(tcp, ..)| tcp.flags.contains(TcpFlags::RST)).count();
            let challenges = seen
                .iter()
                .filter(|(tcp, _, rule)| rule.is_some() && !tcp.flags.contains(TcpFlags::RST))
                .count();
            let counters = host.stack.counters();
            // RFC 4022: what is sent again is no segment sent.
            assert_eq!(counters.tcp_out_segments + counters.tcp_retransmitted, seen.len() as u64);
            assert_eq!(counters.tcp_out_resets, resets as u64);
            assert_eq!(counters.tcp_challenge_acks, challenges as u64);
            assert_eq!(counters.tcp_retransmitted, again(&seen));
            assert_eq!(counters.ip_out_requests, seen.len() as u64);
            assert_eq!(counters.tcp_in_segments, host.verdicts.len() as u64);
        }
        assert!(pair.a.stack.counters().tcp_out_resets > 0 && pair.b.stack.counters().tcp_out_resets > 0);
        assert!(pair.a.stack.counters().tcp_retransmitted > 0);
    });
}

/// Segments of connections with data, SYN or FIN whose sequence numbers were used before.
fn again(seen: &[(TcpHeader, usize, Option<Rule>)]) -> u64 {
    let mut next: alloc::collections::BTreeMap<(u16, u16), u32> = alloc::collections::BTreeMap::new();
    let mut count = 0;
    for (tcp, len, rule) in seen {
        let bytes = [TcpFlags::SYN, TcpFlags::FIN].map(|flag| u32::from(tcp.flags.contains(flag)));
        let end = tcp.seq.wrapping_add(*len as u32 + bytes[0] + bytes[1]);
        if rule.is_some() || end == tcp.seq {
            continue;
        }
        let next = next.entry((tcp.src_port, tcp.dst_port)).or_insert(tcp.seq);
        count += u64::from((tcp.seq.wrapping_sub(*next) as i32) < 0);
        if (end.wrapping_sub(*next) as i32) > 0 {
            *next = end;
        }
    }
    count
}

/// The sentence of a record names who, where and by what.
#[test]
fn t193_a_record_reads_as_a_sentence() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        p.send(5);
        p.out();
        p.on("R.");
        let sentence = alloc::format!("{}", p.ended[0].end);
        let expected = "reset by the peer in ESTABLISHED; [peer-rst-exact] reset exactly at RCV.NXT: the connection \
                        ends; the peer aborted an existing connection; 5 bytes unacknowledged";
        assert_eq!(sentence, String::from(expected));
    });
}
