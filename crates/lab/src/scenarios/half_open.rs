//! One side has lost its state, and the other detects it.
//!
//! A is the side that loses its state, because a kernel that plays B cannot.

use super::{PAUSE, a, accept, b, connected, failed, hello, reset, script};
use crate::script::{Call, Ending, Expected, FROM, Outcome, PORT, Script, Side, Step};
use lastack_engine::{Cause, EndedBy, LostBytes, Rule, TimeLimit};
use lastack_wire::tcp::TcpFlags;
use std::io::ErrorKind;
use std::time::Duration;

const NAMES: [&str; 2] = ["client", "server"];
const RESET: Ending = Ending::new(Cause::Reset, EndedBy::Peer, Rule::PeerRstExact);
const SECOND: Step = Step::Wait(Duration::from_secs(1));

/// The peer sends data.
pub(super) fn data() -> Script {
    let mut steps = connected();
    steps.extend(hello());
    steps.extend([
        Step::Restart,
        SECOND,
        b(Call::Send("are you there?"), Outcome::Bytes(14)),
        b(Call::Read(100), failed(ErrorKind::ConnectionReset)),
        b(Call::Read(100), Outcome::EndOfStream),
        b(Call::Close, Outcome::Done),
    ]);
    let lost = LostBytes { unacked: 14, ..LostBytes::default() };
    let expected = vec![
        // SEQ is B's own acknowledgment number: exact.
        Expected::Resets(vec![reset(Side::A, 6, None)]),
        Expected::ByRule { by: Side::A, rule: Rule::RstNoConnection, times: 1 },
        Expected::Ends(Side::B, vec![Ending { lost, ..RESET }]),
        Expected::Open(Side::B, 0),
    ];
    Script { expected, ..script(NAMES, steps) }
}

/// Keep-alive detects it.
pub(super) fn keepalive() -> Script {
    let call = Call::KeepAlive { idle: Duration::from_secs(3), interval: Duration::from_secs(1), count: 3 };
    let mut steps = connected();
    steps.extend([b(call, Outcome::Done)]);
    steps.extend(hello());
    steps.extend([
        // One probe is answered, because the peer still has its state.
        Step::Wait(Duration::from_secs(4)),
        Step::Restart,
        b(Call::Read(100), failed(ErrorKind::ConnectionReset)),
        b(Call::Close, Outcome::Done),
    ]);
    let expected = vec![
        Expected::Resets(vec![reset(Side::A, 6, None)]),
        Expected::ByRule { by: Side::A, rule: Rule::RstNoConnection, times: 1 },
        Expected::Ends(Side::B, vec![RESET]),
        Expected::Open(Side::B, 0),
    ];
    Script { expected, ..script(NAMES, steps) }
}

/// The restarted side connects with the same ports.
pub(super) fn syn() -> Script {
    let call = Call::Connect { from: FROM, to: PORT };
    let mut steps = connected();
    steps.extend(hello());
    steps.extend([
        Step::Restart,
        SECOND,
        Step::Call { side: Side::A, socket: 0, call, outcome: None },
        b(Call::Read(100), failed(ErrorKind::ConnectionReset)),
        b(Call::Close, Outcome::Done),
        Step::Join { side: Side::A, socket: 0, outcome: Outcome::Done },
        accept(2),
        a(Call::Send("again"), Outcome::Bytes(5)),
        Step::Call { side: Side::B, socket: 2, call: Call::Read(100), outcome: Some(Outcome::Bytes(5)) },
        PAUSE,
    ]);
    let expected = vec![
        // The SYN is challenged; the challenge is answered with RST; the SYN is retransmitted.
        Expected::ByRule { by: Side::B, rule: Rule::AckChallengeSyn, times: 1 },
        Expected::ByRule { by: Side::A, rule: Rule::RstBadAckInSynSent, times: 1 },
        Expected::Resets(vec![reset(Side::A, 6, None)]),
        Expected::Count { by: Side::A, flags: TcpFlags::SYN, times: 3 },
        Expected::Ends(Side::B, vec![RESET]),
        Expected::Open(Side::A, 1),
        Expected::Open(Side::B, 1),
    ];
    Script { expected, ..script(NAMES, steps) }
}

/// The user timeout of B expires while the path is cut; then A sends data on the half-open connection.
pub(super) fn silent() -> Script {
    let mut steps = connected();
    steps.extend([b(Call::UserTimeout(Duration::from_secs(3)), Outcome::Done)]);
    steps.extend(hello());
    steps.extend([
        Step::Cut,
        b(Call::Send("are you there?"), Outcome::Bytes(14)),
        b(Call::Read(100), failed(ErrorKind::TimedOut)),
        b(Call::Close, Outcome::Done),
        SECOND,
        Step::Mend,
        a(Call::Send("yes"), Outcome::Bytes(3)),
        a(Call::Read(100), failed(ErrorKind::ConnectionReset)),
        a(Call::Close, Outcome::Done),
    ]);
    let lost = LostBytes { unacked: 14, ..LostBytes::default() };
    let gave_up = Ending::new(Cause::TimedOut(TimeLimit::User), EndedBy::Stack, Rule::EndUserTimeout);
    let expected = vec![
        // The timeout is silent; only the next segment from A is answered, by the listener.
        Expected::Resets(vec![reset(Side::B, 1, None)]),
        Expected::ByRule { by: Side::B, rule: Rule::RstAckToListener, times: 1 },
        Expected::Ends(Side::B, vec![Ending { lost, ..gave_up }]),
        Expected::Ends(
            Side::A,
            vec![Ending { lost: LostBytes { unacked: 3, ..LostBytes::default() }, ..RESET }],
        ),
        Expected::Open(Side::A, 0),
        Expected::Open(Side::B, 0),
    ];
    Script { expected, ..script(["client", "server"], steps) }
}
