//! Plays a scenario against a stack, and writes down what it does.

use std::time::Duration;

use crate::{
    notation::{Action, Call, Origin, STEP, Segment, Step},
    packets::{Ends, Known, byte},
};

/// How the peer fills a window: segments of this size, and at most this number.
const MSS: usize = 1400;
const PSH_ACK: u16 = 0x18;
const FILLS: usize = 40;

/// The stack under test with an application on it.
pub trait Subject {
    fn call(&mut self, call: Call) -> Outcome;
    /// A packet arrives.
    fn deliver(&mut self, packet: &[u8]);
    /// Time passes: the packets that are sent meanwhile, and those that were not asked for yet.
    fn collect(&mut self, time: Duration) -> Vec<Vec<u8>>;
    /// The next packet, which should have been there already.
    fn collect_late(&mut self) -> Vec<Vec<u8>>;
}

/// What a call gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Count(usize),
    Text(Vec<u8>),
    /// Data and an error, where one call returns both.
    Partly(Vec<u8>, String),
    /// A word of its own.
    Said(String),
    /// The name of an errno; `0` from SO_ERROR if there was none.
    Errno(String),
}

/// What is ready, of `readable`, `writable`, and so on.
pub fn readiness(bits: [bool; 5]) -> String {
    const NAMES: [&str; 5] = ["readable", "writable", "read-closed", "write-closed", "error"];
    let set: Vec<&str> = NAMES.into_iter().zip(bits).filter(|(_, is)| *is).map(|(name, _)| name).collect();
    if set.is_empty() { "nothing".to_owned() } else { set.join(" ") }
}

/// What was done and seen, a line a step.
pub type Transcript = Vec<String>;

pub fn play(steps: &[Step], ends: &Ends, subject: &mut dyn Subject) -> Transcript {
    let mut player = Player { ends, subject, known: Known::default(), repeats: false, read: 1 };
    let mut lines = Vec::new();
    for step in steps {
        let seen = player.step(step);
        lines.push(line(&step.text, &seen));
    }
    if steps.last().is_some_and(|step| step.time.is_zero()) {
        let late = player.collect(STEP);
        if !late.is_empty() {
            lines.push(line("end", &late));
        }
    }
    lines
}

fn line(step: &str, seen: &[String]) -> String {
    if seen.is_empty() { step.to_owned() } else { format!("{step} => {}", seen.join(" | ")) }
}

struct Player<'a> {
    ends: &'a Ends,
    subject: &'a mut dyn Subject,
    known: Known,
    repeats: bool,
    /// The place in the peer's stream up to which was read.
    read: i64,
}

impl Player<'_> {
    fn step(&mut self, step: &Step) -> Vec<String> {
        let mut seen = Vec::new();
        match &step.action {
            Action::Segment(segment) => self.subject.deliver(&self.known.segment(self.ends, segment)),
            Action::Icmp(icmp) => self.subject.deliver(&self.known.icmp(self.ends, icmp)),
            Action::Call(call) => seen.push(self.call(*call)),
            Action::Wait => {}
            Action::Fill => seen.push(self.fill()),
            Action::Repeats => self.repeats = true,
            Action::Lead(steps) => {
                for step in steps {
                    // The result of a call is shown only if it is not the expected one.
                    let part = self.step(step);
                    seen.extend(part.into_iter().filter(|part| part != "ok" && part != "EINPROGRESS"));
                }
            }
        }
        if !step.time.is_zero() {
            let mut sent = self.collect(step.time);
            if sent.is_empty() && step.answered {
                sent = self.collect_late();
            }
            seen.extend(sent);
        }
        seen
    }

    /// The peer sends as much as it may, until it may no more.
    fn fill(&mut self) -> String {
        for _ in 0..FILLS {
            let len = self.known.room().min(MSS);
            if len == 0 {
                return "shut".to_owned();
            }
            let text = Segment { flags: PSH_ACK, origin: Origin::Next, len, ack: 1, ..Segment::default() };
            self.subject.deliver(&self.known.segment(self.ends, &text));
            self.collect(STEP);
        }
        "open".to_owned()
    }

    fn collect(&mut self, time: Duration) -> Vec<String> {
        let sent = self.subject.collect(time);
        self.show(&sent)
    }

    fn collect_late(&mut self) -> Vec<String> {
        let sent = self.subject.collect_late();
        self.show(&sent)
    }

    fn show(&mut self, sent: &[Vec<u8>]) -> Vec<String> {
        sent.iter().filter_map(|packet| self.known.show(self.ends, packet, self.repeats)).collect()
    }

    fn call(&mut self, call: Call) -> String {
        if matches!(call, Call::Accept | Call::Connect) {
            self.read = 1;
        }
        match self.subject.call(call) {
            Outcome::Done => "ok".to_owned(),
            // How much there is room for is a matter of buffers.
            Outcome::Count(n) if matches!(call, Call::Send(len) if n < len) => "part".to_owned(),
            Outcome::Count(n) => n.to_string(),
            Outcome::Said(said) => said,
            Outcome::Partly(text, errno) => format!("{}, then {errno}", self.text(call, &text)),
            Outcome::Errno(errno) => errno,
            Outcome::Text(text) => self.text(call, &text),
        }
    }

    fn text(&mut self, call: Call, text: &[u8]) -> String {
        let right = (self.read..).zip(text).all(|(at, found)| byte(at) == *found);
        if call != Call::Peek {
            self.read += text.len() as i64;
        }
        let len = match self.known.is_all(self.read) && !text.is_empty() {
            true => "all".to_owned(),
            false => text.len().to_string(),
        };
        len + if right { "" } else { " wrong" }
    }
}
