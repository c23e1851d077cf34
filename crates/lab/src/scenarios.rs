//! The scenarios, and the helpers for writing them.

mod abort;
mod attack;
mod half_open;
mod refusal;
mod release;

use super::script::{Call, FROM, Outcome, PORT, Reset, Script, Side, Step};
use super::{Scenario, Topic};
use std::io::ErrorKind;
use std::time::Duration;

/// All scenarios, from the simplest on.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "refused",
        summary: "a SYN to port 1935, at which no socket listens",
        topic: Topic::Refusal,
        reference: "RFC 9293 section 3.5.2 group 1 and section 3.10.7.1",
        two_sided: true,
        script: refusal::refused,
    },
    Scenario {
        name: "refused-then-listening",
        summary: "refused, and a second later accepted at the same port",
        topic: Topic::Refusal,
        reference: "RFC 9293 section 3.5.2 group 1 and section 3.10.7.2",
        two_sided: true,
        script: refusal::refused_then_listening,
    },
    Scenario {
        name: "silent-host",
        summary: "a SYN that is never answered: not refused, only silence",
        topic: Topic::Refusal,
        reference: "RFC 9293 section 3.8.3 (MUST-23), RFC 6298",
        two_sided: false,
        script: refusal::silent_host,
    },
    Scenario {
        name: "udp-unreachable",
        summary: "a datagram to a port without a socket: ICMP instead of RST",
        topic: Topic::Refusal,
        reference: "RFC 1122 sections 3.2.2.1 and 4.1.3.1",
        two_sided: true,
        script: refusal::udp_unreachable,
    },
    Scenario {
        name: "simultaneous-open",
        summary: "both sides connect to each other at once: one connection, no listener",
        topic: Topic::Release,
        reference: "RFC 9293 section 3.5, figure 7",
        two_sided: true,
        script: release::simultaneous_open,
    },
    Scenario {
        name: "orderly",
        summary: "each side sends FIN, and each FIN is acknowledged",
        topic: Topic::Release,
        reference: "RFC 9293 section 3.6, figure 12",
        two_sided: true,
        script: release::orderly,
    },
    Scenario {
        name: "half-close",
        summary: "one side has sent FIN, the other continues to send",
        topic: Topic::Release,
        reference: "RFC 9293 section 3.6.1, RFC 1122 section 4.2.2.13",
        two_sided: true,
        script: release::half_close,
    },
    Scenario {
        name: "simultaneous-close",
        summary: "both sides send FIN at once, and both enter TIME-WAIT",
        topic: Topic::Release,
        reference: "RFC 9293 section 3.6, figure 13",
        two_sided: true,
        script: release::simultaneous_close,
    },
    Scenario {
        name: "abort-linger",
        summary: "close with SO_LINGER 0: queued data is discarded, and the peer is reset",
        topic: Topic::Abort,
        reference: "RFC 9293 section 3.10.5 (ABORT)",
        two_sided: true,
        script: abort::linger,
    },
    Scenario {
        name: "abort-unread",
        summary: "close with unread data: a RST informs the sender that it was not read",
        topic: Topic::Abort,
        reference: "RFC 9293 section 3.6.1 (SHLD-3), RFC 2525 section 2.17",
        two_sided: true,
        script: abort::unread,
    },
    Scenario {
        name: "half-open-data",
        summary: "data for a host that has rebooted and does not know the connection",
        topic: Topic::HalfOpen,
        reference: "RFC 9293 section 3.5.1, figure 10",
        two_sided: true,
        script: half_open::data,
    },
    Scenario {
        name: "half-open-keepalive",
        summary: "an idle side detects by keep-alive that its peer has rebooted",
        topic: Topic::HalfOpen,
        reference: "RFC 9293 section 3.8.4",
        two_sided: true,
        script: half_open::keepalive,
    },
    Scenario {
        name: "half-open-syn",
        summary: "a rebooted host connects again, from the same port",
        topic: Topic::HalfOpen,
        reference: "RFC 9293 section 3.5.1, figure 9, RFC 5961 section 4.2",
        two_sided: true,
        script: half_open::syn,
    },
    Scenario {
        name: "half-open-silent",
        summary: "the path fails: the sender gives up silently, and its peer is not informed",
        topic: Topic::HalfOpen,
        reference: "RFC 9293 section 3.8.3 (USER TIMEOUT), section 3.5.1",
        two_sided: true,
        script: half_open::silent,
    },
    Scenario {
        name: "blind-reset",
        summary: "an attacker's reset draws a challenge ACK, unless it hits the exact number",
        topic: Topic::Attack,
        reference: "RFC 5961 section 3.2",
        two_sided: true,
        script: attack::blind_reset,
    },
];

/// The listener of B is its socket 0; the first connection is socket 0 of A and socket 1 of B.
const LISTENER: usize = 0;
const ACCEPTED: usize = 1;

/// A pause long enough for all packets in flight, and for delayed ACKs.
const PAUSE: Step = Step::Wait(Duration::from_millis(200));

fn script(names: [&'static str; 2], steps: Vec<Step>) -> Script {
    Script { names, steps, expected: Vec::new() }
}

/// A calls on its connection.
fn a(call: Call, outcome: Outcome) -> Step {
    Step::Call { side: Side::A, socket: 0, call, outcome: Some(outcome) }
}

/// B calls on the connection that it accepted first.
fn b(call: Call, outcome: Outcome) -> Step {
    Step::Call { side: Side::B, socket: ACCEPTED, call, outcome: Some(outcome) }
}

fn connect(outcome: Outcome) -> Step {
    a(Call::Connect { from: FROM, to: PORT }, outcome)
}

fn listen() -> Step {
    Step::Call { side: Side::B, socket: LISTENER, call: Call::Listen(PORT), outcome: Some(Outcome::Done) }
}

fn accept(socket: usize) -> Step {
    Step::Call { side: Side::B, socket, call: Call::Accept(LISTENER), outcome: Some(Outcome::Done) }
}

/// B listens, A connects, B accepts.
fn connected() -> Vec<Step> {
    vec![listen(), connect(Outcome::Done), accept(ACCEPTED), PAUSE]
}

/// A sends five bytes, and B reads them.
fn hello() -> [Step; 3] {
    [a(Call::Send("hello"), Outcome::Bytes(5)), b(Call::Read(100), Outcome::Bytes(5)), PAUSE]
}

const fn failed(kind: ErrorKind) -> Outcome {
    Outcome::Failed(kind)
}

const fn reset(by: Side, seq: i64, ack: Option<i64>) -> Reset {
    Reset { by, seq, ack }
}
