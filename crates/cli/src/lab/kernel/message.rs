//! The messages of the helper process in the namespace, one line each.

use lastack_engine::{FourTuple, TcpState};
use lastack_lab::Outcome;
use std::fmt;
use std::io;
use std::str::FromStr;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Message {
    /// The call of this step has returned.
    Outcome { step: usize, outcome: Outcome },
    /// A connection of the kernel is now in this state.
    State { flow: FourTuple, state: TcpState },
}

/// The outcome of a call, formatted as a line.
pub(super) fn outcome(step: usize, result: &io::Result<Outcome>) -> String {
    match result {
        Ok(Outcome::Done) => format!("outcome {step} done"),
        Ok(Outcome::Bytes(n)) => format!("outcome {step} bytes {n}"),
        Ok(Outcome::EndOfStream) => format!("outcome {step} end"),
        Ok(Outcome::Failed(_)) => format!("outcome {step} errno 0"),
        Err(error) => format!("outcome {step} errno {}", error.raw_os_error().unwrap_or(0)),
    }
}

const STATES: [TcpState; 11] = [
    TcpState::Closed,
    TcpState::Listen,
    TcpState::SynSent,
    TcpState::SynReceived,
    TcpState::Established,
    TcpState::FinWait1,
    TcpState::FinWait2,
    TcpState::CloseWait,
    TcpState::Closing,
    TcpState::LastAck,
    TcpState::TimeWait,
];

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outcome { step, outcome: found } => f.write_str(&outcome(*step, &Ok(*found))),
            Self::State { flow, state } => write!(f, "state {} {} {state}", flow.local, flow.remote),
        }
    }
}

impl FromStr for Message {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |word: &str| word.parse::<usize>().ok();
        let message = match words[..] {
            ["outcome", step, "done"] => number(step).map(|step| (step, Outcome::Done)),
            ["outcome", step, "end"] => number(step).map(|step| (step, Outcome::EndOfStream)),
            ["outcome", step, "bytes", n] => number(step).zip(number(n).map(Outcome::Bytes)),
            ["outcome", step, "errno", n] => number(step).zip(n.parse().ok().map(failed)),
            ["state", local, remote, name] => return state(local, remote, name).ok_or_else(|| strange(line)),
            _ => None,
        };
        message.map(|(step, outcome)| Self::Outcome { step, outcome }).ok_or_else(|| strange(line))
    }
}

fn strange(line: &str) -> String {
    format!("unexpected message from the namespace helper: {line:?}")
}

fn failed(errno: i32) -> Outcome {
    Outcome::Failed(io::Error::from_raw_os_error(errno).kind())
}

fn state(local: &str, remote: &str, name: &str) -> Option<Message> {
    let flow = FourTuple { local: local.parse().ok()?, remote: remote.parse().ok()? };
    let state = STATES.into_iter().find(|state| state.to_string() == name)?;
    Some(Message::State { flow, state })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_messages_are_parsed() {
        let flow = FourTuple {
            local: "192.0.2.2:1935".parse().unwrap(),
            remote: "[2001:db8::1]:40001".parse().unwrap(),
        };
        let outcomes = [Outcome::Done, Outcome::EndOfStream, Outcome::Bytes(5)];
        let outcomes = outcomes.map(|outcome| Message::Outcome { step: 7, outcome });
        let states = STATES.map(|state| Message::State { flow, state });
        for message in outcomes.into_iter().chain(states) {
            assert_eq!(message.to_string().parse(), Ok(message));
        }
    }

    #[test]
    fn an_errno_becomes_its_kind() {
        let refused = outcome(3, &Err(io::Error::from_raw_os_error(libc::ECONNREFUSED)));
        let failed = Outcome::Failed(io::ErrorKind::ConnectionRefused);
        assert_eq!(refused.parse(), Ok(Message::Outcome { step: 3, outcome: failed }));
    }

    #[test]
    fn nonsense_is_not_understood() {
        for line in ["", "outcome", "outcome x done", "outcome 1 bytes", "state a b CLOSED", "state 1 2"] {
            assert!(line.parse::<Message>().is_err(), "{line:?}");
        }
    }
}
