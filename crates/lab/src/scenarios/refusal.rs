//! There is no listener, or no answer.

use super::release::{FIRST, SECOND};
use super::{ACCEPTED, a, accept, connect, failed, hello, listen, reset, script};
use crate::script::{Call, Ending, Expected, FROM, Outcome, PORT, Script, Side, Step};
use lastack_engine::{Cause, EndedBy, Rule, TimeLimit};
use lastack_wire::tcp::TcpFlags;
use std::io::ErrorKind;
use std::time::Duration;

const NAMES: [&str; 2] = ["client", "server"];
const REFUSED: Ending = Ending::new(Cause::Refused, EndedBy::Peer, Rule::PeerRstRefused);

pub(super) fn refused() -> Script {
    let mut script = script(NAMES, vec![connect(failed(ErrorKind::ConnectionRefused))]);
    script.expected = vec![
        Expected::Count { by: Side::A, flags: TcpFlags::SYN, times: 1 },
        Expected::Resets(vec![reset(Side::B, 0, Some(1))]),
        Expected::ByRule { by: Side::B, rule: Rule::RstNoListener, times: 1 },
        Expected::Ends(Side::A, vec![REFUSED]),
        Expected::Ends(Side::B, vec![]),
        Expected::Open(Side::A, 0),
        Expected::Open(Side::B, 0),
    ];
    script
}

pub(super) fn refused_then_listening() -> Script {
    let mut steps = vec![
        connect(failed(ErrorKind::ConnectionRefused)),
        Step::Wait(Duration::from_secs(1)),
        listen(),
        connect(Outcome::Done),
        accept(ACCEPTED),
    ];
    steps.extend(hello());
    steps.extend(super::release::both_close());
    let mut script = script(NAMES, steps);
    script.expected = vec![
        Expected::Resets(vec![reset(Side::B, 0, Some(1))]),
        Expected::Count { by: Side::A, flags: TcpFlags::FIN, times: 1 },
        Expected::Count { by: Side::B, flags: TcpFlags::FIN, times: 1 },
        Expected::Ends(Side::A, vec![REFUSED, FIRST]),
        Expected::Ends(Side::B, vec![SECOND]),
        Expected::Open(Side::A, 0),
        Expected::Open(Side::B, 0),
    ];
    script
}

pub(super) fn silent_host() -> Script {
    let steps = vec![Step::Cut, connect(failed(ErrorKind::TimedOut))];
    let mut script = script(["client", "silence"], steps);
    let timed_out = Cause::TimedOut(TimeLimit::Handshake);
    script.expected = vec![
        // The first and six retransmissions (R2 for SYN, RFC 9293 section 3.8.3), with doubled intervals.
        Expected::Count { by: Side::A, flags: TcpFlags::SYN, times: 7 },
        Expected::Lost(7),
        Expected::Resets(vec![]),
        Expected::Ends(Side::A, vec![Ending::new(timed_out, EndedBy::Stack, Rule::EndSynTimeout)]),
        Expected::Open(Side::A, 0),
    ];
    script
}

pub(super) fn udp_unreachable() -> Script {
    let steps = vec![
        a(Call::ConnectUdp { from: FROM, to: PORT }, Outcome::Done),
        a(Call::SendDatagram("hello"), Outcome::Bytes(5)),
        a(Call::ReadDatagram, failed(ErrorKind::ConnectionRefused)),
    ];
    let mut script = script(NAMES, steps);
    script.expected = vec![
        Expected::IcmpErrors(Side::B, 1),
        Expected::ByRule { by: Side::B, rule: Rule::IcmpPortUnreachable, times: 1 },
        Expected::Resets(vec![]),
    ];
    script
}
