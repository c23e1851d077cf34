//! Both sides finish with FIN, in every order.

use super::{PAUSE, a, b, connected, hello, script};
use crate::script::{Call, Ending, Expected, FROM, Outcome, PORT, Script, Side, Step};
use lastack_engine::{Cause, EndedBy, Rule};
use lastack_wire::tcp::TcpFlags;
use std::time::Duration;

const NAMES: [&str; 2] = ["client", "server"];
/// The orderly end of the side that sent the first FIN, and of the other side.
pub(super) const FIRST: Ending = Ending::new(Cause::Orderly, EndedBy::Application, Rule::EndOrderly);
pub(super) const SECOND: Ending = Ending::new(Cause::Orderly, EndedBy::Peer, Rule::EndOrderly);

/// A half-closes, B reads the end of the stream and closes, A reads it and closes.
pub(super) fn both_close() -> [Step; 6] {
    [
        a(Call::Shutdown, Outcome::Done),
        b(Call::Read(100), Outcome::EndOfStream),
        PAUSE,
        b(Call::Close, Outcome::Done),
        a(Call::Read(100), Outcome::EndOfStream),
        a(Call::Close, Outcome::Done),
    ]
}

/// The ends of an orderly release, in any order of FINs.
fn orderly_ends(endings: [Ending; 2]) -> Vec<Expected> {
    let mut expected = vec![Expected::Resets(vec![])];
    for (side, ending) in Side::BOTH.into_iter().zip(endings) {
        expected.extend([
            Expected::Count { by: side, flags: TcpFlags::FIN, times: 1 },
            Expected::Ends(side, vec![ending]),
            Expected::Open(side, 0),
        ]);
    }
    expected
}

pub(super) fn orderly() -> Script {
    let mut steps = connected();
    steps.extend(hello());
    steps.extend([b(Call::Send("welcome"), Outcome::Bytes(7)), a(Call::Read(100), Outcome::Bytes(7)), PAUSE]);
    steps.extend(both_close());
    Script { expected: orderly_ends([FIRST, SECOND]), ..script(NAMES, steps) }
}

pub(super) fn half_close() -> Script {
    let mut steps = connected();
    steps.extend([
        a(Call::Send("question"), Outcome::Bytes(8)),
        a(Call::Shutdown, Outcome::Done),
        b(Call::Read(100), Outcome::Bytes(8)),
        b(Call::Read(100), Outcome::EndOfStream),
        Step::Wait(Duration::from_secs(1)),
        b(Call::Send("late answer"), Outcome::Bytes(11)),
        a(Call::Read(100), Outcome::Bytes(11)),
        PAUSE,
        b(Call::Close, Outcome::Done),
        a(Call::Read(100), Outcome::EndOfStream),
        a(Call::Close, Outcome::Done),
    ]);
    Script { expected: orderly_ends([FIRST, SECOND]), ..script(NAMES, steps) }
}

pub(super) fn simultaneous_close() -> Script {
    let mut steps = connected();
    steps.extend([
        a(Call::Shutdown, Outcome::Done),
        b(Call::Shutdown, Outcome::Done),
        a(Call::Read(100), Outcome::EndOfStream),
        b(Call::Read(100), Outcome::EndOfStream),
        PAUSE,
        a(Call::Close, Outcome::Done),
        b(Call::Close, Outcome::Done),
    ]);
    Script { expected: orderly_ends([FIRST, FIRST]), ..script(["left", "right"], steps) }
}

pub(super) fn simultaneous_open() -> Script {
    let begin = |side, from, to| {
        let socket = usize::from(side == Side::B);
        Step::Call { side, socket, call: Call::Connect { from, to }, outcome: None }
    };
    let mut steps = vec![
        begin(Side::A, FROM, PORT),
        begin(Side::B, PORT, FROM),
        Step::Join { side: Side::A, socket: 0, outcome: Outcome::Done },
        Step::Join { side: Side::B, socket: 1, outcome: Outcome::Done },
        PAUSE,
    ];
    steps.extend(hello());
    steps.extend(both_close());
    Script { expected: orderly_ends([FIRST, SECOND]), ..script(["left", "right"], steps) }
}
