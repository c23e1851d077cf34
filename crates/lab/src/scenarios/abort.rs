//! One side aborts the connection.

use super::{PAUSE, a, b, connected, failed, hello, reset, script};
use crate::script::{Call, Ending, Expected, Outcome, Script, Side};
use lastack_engine::{Cause, EndedBy, LostBytes, Rule};
use lastack_wire::tcp::TcpFlags;
use std::io::ErrorKind;

const NAMES: [&str; 2] = ["client", "server"];
const RESET: Ending = Ending::new(Cause::Reset, EndedBy::Peer, Rule::PeerRstExact);

fn no_fin_sent() -> [Expected; 4] {
    [
        Expected::Count { by: Side::A, flags: TcpFlags::FIN, times: 0 },
        Expected::Count { by: Side::B, flags: TcpFlags::FIN, times: 0 },
        Expected::Open(Side::A, 0),
        Expected::Open(Side::B, 0),
    ]
}

/// Five bytes were read, five are in flight, five wait behind them (Nagle) when A aborts: the
/// last are discarded. B reads what arrived; then the read fails with a reset, not with an end of the stream.
pub(super) fn linger() -> Script {
    let mut steps = connected();
    steps.extend(hello());
    steps.extend([
        a(Call::Send("and so"), Outcome::Bytes(6)),
        a(Call::Send("on"), Outcome::Bytes(2)),
        a(Call::Abort, Outcome::Done),
        PAUSE,
        b(Call::Read(100), Outcome::Bytes(6)),
        b(Call::Read(100), failed(ErrorKind::ConnectionReset)),
        b(Call::Close, Outcome::Done),
    ]);
    let lost = LostBytes { unsent: 2, unacked: 6, unread: 0 };
    let aborted = Ending { lost, ..Ending::new(Cause::Aborted, EndedBy::Application, Rule::RstAbort) };
    let mut expected = vec![
        Expected::FirstReset(reset(Side::A, 12, Some(1))),
        Expected::ByRule { by: Side::A, rule: Rule::RstAbort, times: 1 },
        Expected::Ends(Side::A, vec![aborted]),
        Expected::Ends(Side::B, vec![RESET]),
    ];
    expected.extend(no_fin_sent());
    Script { expected, ..script(NAMES, steps) }
}

pub(super) fn unread() -> Script {
    let mut steps = connected();
    steps.extend([
        a(Call::Send("hello"), Outcome::Bytes(5)),
        PAUSE,
        b(Call::Close, Outcome::Done),
        a(Call::Read(100), failed(ErrorKind::ConnectionReset)),
        a(Call::Close, Outcome::Done),
    ]);
    let lost = LostBytes { unsent: 0, unacked: 0, unread: 5 };
    let aborted =
        Ending { lost, ..Ending::new(Cause::Aborted, EndedBy::Application, Rule::RstUnreadDataAtClose) };
    let mut expected = vec![
        Expected::Resets(vec![reset(Side::B, 1, Some(6))]),
        Expected::ByRule { by: Side::B, rule: Rule::RstUnreadDataAtClose, times: 1 },
        Expected::Ends(Side::A, vec![RESET]),
        Expected::Ends(Side::B, vec![aborted]),
    ];
    expected.extend(no_fin_sent());
    Script { expected, ..script(NAMES, steps) }
}
