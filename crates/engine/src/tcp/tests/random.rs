//! Any calls and any segments in any order: nothing breaks, nothing spins, and each connection ends
//! exactly once. The peer in tests by hand asserts most of it after every step.

use crate::tcp::tests::peer::{Kind, Peer};
use crate::{Answer, ConnId, Event, TcpState};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use lastack_wire::icmp::IcmpError;

/// A small generator (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// Numbers that matter: close to what is next, at the edges of windows, anywhere.
    fn offset(&mut self) -> i64 {
        match self.below(8) {
            0..4 => 0,
            4 => self.below(7) as i64 - 3,
            5 => self.pick(&[-70_000, -1500, 100, 1460, 65_534, 65_535, 65_536, 131_072]),
            6 => self.below(4000) as i64,
            _ => self.below(1 << 32) as i64,
        }
    }

    fn segment(&mut self) -> String {
        let flags = self.pick(&[
            ".", ".", ".", "P.", "P.", "P.", "F.", "FP.", "S", "S", "S.", "R", "R.", "-", "F", "SF", "U.",
        ]);
        let mut text =
            format!("{flags} at={} len={}", self.offset(), self.pick(&[0, 0, 1, 5, 100, 1400, 3000]));
        if flags.contains('.') && self.below(3) == 0 {
            text += &format!(" ack={}", self.offset() as u32);
        }
        for (odds, option) in
            [(3, " win=0"), (4, " win=300"), (20, " port=5001"), (6, " tsok"), (9, " ts=-5")]
        {
            if self.below(odds) == 0 {
                text += option;
            }
        }
        if flags.starts_with('S') {
            text += self.pick(&["", " mss=1460", " mss=1460 ws=7 sackok tsok", " mss=3"]);
        }
        if self.below(9) == 0 {
            text += &format!(" sack={}-{}", self.below(3000), self.below(3000));
        }
        text
    }
}

pub(super) struct Run {
    pub p: Peer,
    random: Random,
    /// The connections that have a user.
    ids: Vec<ConnId>,
    /// All that were ever named, and how many ended.
    named: Vec<ConnId>,
}

impl Run {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let intercept = random.below(4) == 0;
        let (buffers, v6) = (random.pick(&[3000, 20_000, 6 << 20]), random.below(2) == 0);
        let pacing = random.below(3) == 0;
        let p = Peer::with(v6, |config| {
            config.intercept.tcp = intercept;
            config.tcp.receive_buffer = buffers;
            config.tcp.send_buffer = buffers;
            config.tcp.retries = 6;
            config.tcp.pacing = pacing;
            config.max_packet = if buffers == 20_000 { 65_535 } else { 1500 };
        });
        let p = if intercept { p } else { p.listen(1) };
        Self { p, random, ids: Vec::new(), named: Vec::new() }
    }

    /// Guesses what the peer would say next, so that connections come about.
    fn follow(&mut self) {
        let flow = self.p.flow();
        let p = &mut self.p;
        p.timestamps = false;
        if let Some(sent) = p.sent.iter().rev().find(|sent| sent.tcp.is_some()) {
            let header = sent.header();
            let iss = p.iss();
            p.seq = i64::from(header.ack.wrapping_sub(crate::tcp::tests::peer::IRS));
            p.ack = i64::from(header.seq.wrapping_sub(iss)) + sent.data().len() as i64;
            p.ack += i64::from(header.flags.bits() & 3 != 0);
            p.timestamps = header.options.timestamps.is_some();
        }
        if p.stack.tcp_state(&flow).is_none_or(|state| state == TcpState::SynSent) {
            p.seq = 0;
        }
    }

    pub fn step(&mut self) {
        self.follow();
        match self.random.below(12) {
            0..6 => {
                let segment = self.random.segment();
                self.p.on(&segment);
            }
            6 => {
                let wait = self.random.pick(&[1, 10, 45, 250, 1100, 5000, 61_000]);
                self.p.run(wait);
            }
            7 => {
                let error = self.random.pick(&[
                    IcmpError::host_unreachable(self.p.v6),
                    IcmpError::port_unreachable(self.p.v6),
                    IcmpError::packet_too_big(self.p.v6, 1300),
                ]);
                if let Some(about) = self.p.sent.last().map(|sent| sent.bytes.clone()) {
                    self.p.on_icmp(&about, error);
                }
            }
            8 => self.open(),
            _ => self.call(),
        }
        self.note();
    }

    fn note(&mut self) {
        self.p.out();
        self.p.stack.check();
        for event in core::mem::take(&mut self.p.events) {
            if let Event::Intercepted(id) = event {
                self.name(id);
            }
        }
    }

    pub fn name(&mut self, id: ConnId) {
        self.ids.push(id);
        self.named.push(id);
    }

    /// A user holds all but an intercepted SYN that ended before it was answered.
    fn assert_ended(&self, id: ConnId) {
        assert!(self.p.ended.iter().any(|ended| ended.id == id && ended.established.is_none()));
    }

    fn open(&mut self) {
        let flow = self.p.flow();
        if let Some(id) = self.p.listener.and_then(|listener| self.p.stack.tcp_accept(listener)) {
            self.name(id);
        } else if let Ok(id) = self.p.stack.tcp_connect(Some(flow.local), flow.remote) {
            self.name(id);
        }
    }

    fn call(&mut self) {
        let Some(at) = self.ids.len().checked_sub(1) else { return };
        let (id, random) = (self.ids[at], &mut self.random);
        if random.below(3) == 0 {
            let v6 = self.p.v6;
            let unreachable = Answer::Unreachable { error: IcmpError::host_unreachable(v6), from: None };
            let answer =
                random.pick(&[Answer::Accept, Answer::Accept, Answer::Refuse, unreachable, Answer::Drop]);
            self.p.stack.tcp_answer(id, answer);
        }
        let Some(mut tcp) = self.p.stack.tcp(id) else {
            self.assert_ended(id);
            self.ids.pop();
            return;
        };
        let mut buf = [0; 2000];
        match random.below(14) {
            0..4 => drop(tcp.send(&buf[..random.below(2000) as usize])),
            4..7 => drop(tcp.receive(&mut buf)),
            7 => drop(tcp.shutdown()),
            8 => tcp.set_nodelay(random.below(2) == 0),
            9 => tcp.set_linger(random.pick(&[None, Some(Duration::ZERO), Some(Duration::from_secs(1))])),
            10 => {
                tcp.set_user_timeout(random.pick(&[None, Some(Duration::ZERO), Some(Duration::from_secs(3))]))
            }
            11 => {
                let seconds = |n| Duration::from_secs(n);
                let keepalive = crate::Keepalive { idle: seconds(4), interval: seconds(0), count: 2 };
                tcp.set_keepalive(random.pick(&[None, Some(keepalive)]));
            }
            12 => tcp.abort(),
            _ => {
                tcp.close();
                self.ids.pop();
            }
        }
    }

    /// Everything is given up: what is left ends, and leaves nothing.
    fn end(&mut self) {
        if let Some(listener) = self.p.listener {
            self.p.stack.tcp_unlisten(listener);
        }
        for id in core::mem::take(&mut self.ids) {
            match self.p.stack.tcp(id) {
                Some(tcp) => tcp.close(),
                None => self.assert_ended(id),
            }
        }
        self.p.run(3_000_000);
        self.note();
        assert_eq!((self.p.state(), self.p.stack.poll_timeout()), (TcpState::Closed, None));
        for id in &self.named {
            let ends = self.p.ended.iter().filter(|ended| ended.id == *id).count();
            assert_eq!(ends, 1, "each connection ends once: {id:?}");
            assert!(self.p.stack.tcp(*id).is_none());
        }
        assert_eq!(self.p.stack.tcp.len(), 0, "nothing is left");
    }
}

#[test]
fn whatever_is_called_and_arrives() {
    let mut rules = BTreeSet::new();
    for seed in 1..=120 {
        let mut run = Run::new(seed);
        if seed % 2 == 0 && run.p.listener.is_some() {
            run.p = run.p.establish(Kind::Full);
            run.name(run.p.id);
        }
        (0..150).for_each(|_| run.step());
        run.end();
        rules.extend(run.p.ended.iter().map(|ended| ended.end.rule));
    }
    assert!(rules.len() > 20, "it comes to many kinds of ends: {rules:?}");
}
