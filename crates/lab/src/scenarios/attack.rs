//! An off-path attacker sends into the connection.

use super::{a, b, connected, failed, hello, reset, script};
use crate::script::{Call, Ending, Expected, Outcome, Script, Side, Step};
use lastack_engine::{Cause, EndedBy, LostBytes, Rule};
use std::io::ErrorKind;
use std::time::Duration;

const RESET: Ending = Ending::new(Cause::Reset, EndedBy::Peer, Rule::PeerRstExact);

/// `Rule::DropRstOutsideWindow`, `Rule::AckChallengeRst`, `Rule::PeerRstExact`: a reset outside the window is dropped,
/// one in the window is challenged, an exact one is accepted.
pub(super) fn blind_reset() -> Script {
    let later = Step::Wait(Duration::from_secs(1));
    let mut steps = connected();
    steps.extend([Step::ForgeReset { offset: 1 << 30 }, later.clone()]);
    steps.extend([Step::ForgeReset { offset: 1000 }, later]);
    steps.extend(hello());
    steps.extend([
        Step::ForgeReset { offset: 0 },
        b(Call::Read(100), failed(ErrorKind::ConnectionReset)),
        b(Call::Close, Outcome::Done),
        a(Call::Send("hello?"), Outcome::Bytes(6)),
        a(Call::Read(100), failed(ErrorKind::ConnectionReset)),
        a(Call::Close, Outcome::Done),
    ]);
    let lost = LostBytes { unacked: 6, ..LostBytes::default() };
    let expected = vec![
        Expected::ByRule { by: Side::B, rule: Rule::AckChallengeRst, times: 1 },
        // The half-open connection that the exact reset left behind ends with a reset.
        Expected::Resets(vec![reset(Side::B, 1, None)]),
        Expected::Ends(Side::B, vec![RESET]),
        Expected::Ends(Side::A, vec![Ending { lost, ..RESET }]),
        Expected::Open(Side::A, 0),
        Expected::Open(Side::B, 0),
    ];
    Script { expected, ..script(["client", "server"], steps) }
}
