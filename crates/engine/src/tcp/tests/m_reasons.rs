//! M: reasons in resets (draft-ietf-tcpm-rst-diagnostic-payload), and what must not go wrong with them.

use crate::tcp::tests::peer::{Kind, Peer, US, both};
use crate::{Config, EndedBy, Rule, TcpState};
use alloc::format;
use alloc::vec::Vec;
use core::net::SocketAddr;
use lastack_wire::ip::IpPacket;
use lastack_wire::reset_reason::ResetReason;
use lastack_wire::tcp;

fn declaring(config: &mut Config) {
    config.tcp.send_rst_reason = true;
}

/// A reset of the peer with this data.
fn reset(p: &Peer, text: &str, payload: &[u8]) -> Vec<u8> {
    let mut packet = p.packet(&format!("{text} len={}", payload.len()));
    let at = packet.len() - payload.len();
    packet[at..].copy_from_slice(payload);
    let header = IpPacket::parse(&packet).unwrap().header;
    tcp::fill_checksum(&header, &mut packet[header.len()..]);
    packet
}

/// What the last reset sent says.
fn said(p: &Peer) -> Option<ResetReason> {
    ResetReason::from_payload(p.last().data())
}

/// Malformed in each way, the reset counts, what it says does not, and is counted.
#[test]
fn t197_a_malformed_reason_ends_the_connection_anyway() {
    let good = ResetReason::Abort.to_payload();
    for (payload, invalid) in [
        (&good[..7], 1),
        (&[&good[..], &[0]].concat()[..], 1),
        (&[0x33, 0xaa, 0, 0, 0, 0, 0, 0], 1),
        (&[0x33, 0xaa], 1),
        (b"go away!", 0),
    ] {
        both(|v6| {
            let mut p = Peer::established(v6, Kind::Plain);
            let packet = reset(&p, "R.", payload);
            assert_eq!(p.on_packet(&packet), "ended R1", "{payload:x?}");
            assert_eq!(p.ended[0].end.peer_said, None);
            let counters = p.stack.counters();
            assert_eq!((counters.tcp_reasons_invalid, counters.tcp_reasons_received), (invalid, 0));
        });
    }
}

/// D35: a reason is reported as numbers, in each state, and changes nothing: not whether the reset counts,
/// nor what is read. In SYN-SENT and SYN-RECEIVED too.
#[test]
fn t199_a_reason_is_reported_and_changes_nothing() {
    let vendor = ResetReason::Vendor { pen: 32473, code: 1234 };
    for reason in [ResetReason::NotAuthorized, ResetReason::Unassigned(700), vendor] {
        let payload = reason.to_payload();
        both(|v6| {
            for (mut p, text, rule) in [
                (Peer::established(v6, Kind::Full), "R.", "R1"),
                (Peer::in_state(v6, Kind::Plain, TcpState::CloseWait, true), "R", "R15"),
                (Peer::syn_sent(v6), "R. seq=0 ack=1", "R11"),
                (Peer::syn_received(v6, Kind::Plain), "R", "R12"),
                (Peer::simultaneous(v6, Kind::Plain), "R", "R13"),
            ] {
                let packet = reset(&p, text, &payload);
                assert_eq!(p.on_packet(&packet), format!("ended {rule}"));
                assert_eq!(p.ended[0].end.peer_said, Some(reason));
                assert_eq!(p.stack.counters().tcp_reasons_received, 1);
                if rule == "R1" {
                    assert_eq!((p.receive(), p.receive()), ("Reset".into(), "0".into()));
                }
            }
            // Not exact: judged by its number alone, so a reason left of the window draws no ACK, though it
            // reaches into it.
            for (text, verdict) in [("R at=-1", "dropped R4"), ("R at=1", "answered R2 | . seq=1 ack=1")] {
                let mut p = Peer::established(v6, Kind::Plain);
                let packet = reset(&p, text, &payload);
                assert_eq!(p.on_packet(&packet), verdict);
                assert_eq!(p.stack.counters().tcp_reasons_received, 0);
            }
        });
    }
}

/// R7a: at a zero window, with unread data: whatever the length of the reason.
#[test]
fn t46_a_reason_passes_a_shut_window() {
    both(|v6| {
        let p = Peer::with(v6, |config| config.tcp.receive_buffer = 1000).listen(8);
        let mut p = p.establish(Kind::Plain);
        p.on("P. len=1000");
        p.run(100);
        assert_eq!(p.last().header().window, 0);
        let packet = reset(&p, "R. at=1000", &ResetReason::Abort.to_payload());
        assert_eq!(p.on_packet(&packet), "ended R1");
        assert_eq!(p.ended[0].end.peer_said, Some(ResetReason::Abort));
        assert_eq!((p.receive(), p.receive()), ("1000".into(), "Reset".into()));
    });
}

/// Where eight bytes do not fit the peer's window the reset says nothing: Linux would drop it.
#[test]
fn t200_a_reason_must_fit_the_window() {
    both(|v6| {
        for (window, sent, fits) in
            [(65_535, 0, true), (8, 0, true), (7, 0, false), (0, 0, false), (20, 13, false)]
        {
            let mut p = Peer::with(v6, declaring).listen(8).establish(Kind::Plain);
            p.on(&format!(". win={window}"));
            p.tcp().set_nodelay(true);
            if sent > 0 {
                p.send(sent);
                p.out();
            }
            p.tcp().abort();
            let expected = format!("R. seq={} ack=1", 1 + sent);
            assert_eq!(p.out(), if fits { expected + " len=8" } else { expected }, "{window}");
            assert_eq!(said(&p), fits.then_some(ResetReason::Abort));
            assert_eq!(p.stack.counters().tcp_reasons_sent, u64::from(fits));
        }
    });
}

/// For paths that drop resets with data: a second one without, and then the connection ends.
#[test]
fn t201_a_reset_with_its_reason_and_again_without() {
    both(|v6| {
        let mut p = Peer::with(v6, |config| {
            declaring(config);
            config.tcp.resend_plain_rst = true;
        })
        .listen(8)
        .establish(Kind::Full);
        p.on("P. len=5");
        p.tcp().close();
        assert_eq!(p.out(), "R. seq=1 ack=6 len=8 | R. seq=1 ack=6");
        assert_eq!(p.stack.counters().tcp_out_resets, 2);
        assert_eq!(p.ends(), "aborted by the local application in ESTABLISHED (S60), lost 0+0+5");
        p.assert_gone();

        // What says nothing is not sent twice.
        let mut p =
            Peer::with(v6, |config| config.tcp.resend_plain_rst = true).listen(8).establish(Kind::Plain);
        p.tcp().abort();
        assert_eq!(p.out(), "R. seq=1 ack=1");
        p.assert_gone();
    });
}

/// Off unless the stack, or the user of the connection, enables it; a reason of the user applies to what the
/// user does, not of what the stack does.
#[test]
fn t202_reasons_of_the_stack_and_of_the_application() {
    both(|v6| {
        let mut p = Peer::established(v6, Kind::Plain);
        p.tcp().abort();
        assert_eq!(p.out(), "R. seq=1 ack=1");

        // By the listener's stack, for each connection that it takes.
        let mut p = Peer::with(v6, declaring).listen(8).establish(Kind::Plain);
        p.tcp().abort();
        assert_eq!((p.out().as_str(), said(&p)), ("R. seq=1 ack=1 len=8", Some(ResetReason::Abort)));

        for declares in [false, true] {
            let p = Peer::with(v6, |config| config.tcp.send_rst_reason = declares).listen(8);
            let mut p = p.establish(Kind::Plain);
            p.tcp().set_reset_reason(Some(ResetReason::ResetByPeer));
            p.on("P. len=5");
            p.tcp().close();
            assert_eq!(
                (p.out().as_str(), said(&p)),
                ("R. seq=1 ack=6 len=8", Some(ResetReason::ResetByPeer))
            );
            assert_eq!(p.ended[0].end.rule, Rule::RstUnreadDataAtClose);
        }
        let mut p = Peer::established(v6, Kind::Plain);
        p.tcp().set_reset_reason(Some(ResetReason::DestinationUnreachable));
        let flow = p.flow();
        assert!(p.stack.tcp_kill(&flow));
        assert_eq!((p.out().as_str(), p.ended[0].end.by), ("R. seq=1 ack=1", EndedBy::Administrator));
    });
}

/// Resets that answer strangers are never longer than what they answer, which may have a forged source.
#[test]
fn t203_a_reply_to_an_off_path_attacker_has_no_reason() {
    both(|v6| {
        let mut p = Peer::with(v6, |config| {
            declaring(config);
            config.tcp.abort_on_overflow = true;
        });
        for text in ["S seq=0", ". ack=7", "- seq=4"] {
            assert!(p.on(text).contains("| R"), "{text}");
        }
        p.listener = Some(p.stack.tcp_listen(SocketAddr::new(p.us, US), 0).unwrap());
        assert_eq!(p.on(". seq=5 ack=7"), "answered S10 | R seq=7");
        let mut p = p.receive_syn(Kind::Plain);
        assert_eq!(p.on(". ack=9"), "answered S30 | R seq=9");
        assert_eq!(p.on("S at=5"), "ended S32 | R. seq=0 ack=7");
        assert!(p.sent.iter().all(|sent| sent.data().is_empty()));
        assert_eq!(p.stack.counters().tcp_reasons_sent, 0);
    });
}
