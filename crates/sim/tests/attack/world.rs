//! Two hosts with a connection, and an off-path attacker who forges packets to them.

use lastack_engine::{
    Cause, Config, ConnId, Ended, Event, FourTuple, Instant, ListenerId, Received, Stack, Verdict,
};
use lastack_wire::ip::{self, IpPacket};
use lastack_wire::tcp::{TcpFlags, TcpHeader};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

pub const PORT: u16 = 1935;
/// How long a packet travels.
const DELAY: Duration = Duration::from_millis(5);

/// A host, and its end of the connection that is attacked.
#[derive(Debug)]
pub struct End {
    pub stack: Stack,
    pub addr: IpAddr,
    pub ended: Vec<Ended>,
    /// Its end of the connection, once it has one.
    pub id: Option<ConnId>,
    pub written: u64,
    pub read: u64,
    /// It has read the end of the stream.
    pub end_of_stream: bool,
    iss: u32,
}

/// The variables of a connection (RFC 9293 section 3.3.1): what the attacker has to guess.
#[derive(Clone, Copy, Debug)]
pub struct Variables {
    pub rcv_nxt: u32,
    pub rcv_wnd: u32,
    pub snd_una: u32,
    pub snd_nxt: u32,
}

/// Host 0, which connects, and host 1, which listens.
#[derive(Debug)]
pub struct World {
    pub now: Instant,
    pub ends: [End; 2],
    pub listener: ListenerId,
    /// How many packets the hosts sent to anybody else than each other.
    pub elsewhere: usize,
    /// The next segment with data to host 1 is lost.
    pub lose: bool,
    /// How many segments of host 1 reported out-of-order data.
    pub sacks: usize,
    wire: VecDeque<(Instant, usize, Vec<u8>)>,
}

/// The byte at this place of the stream that host `side` sends.
fn byte(side: usize, at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ side as u8
}

impl World {
    pub fn new(v6: bool, seed: u64, change: impl Fn(&mut Config)) -> Self {
        let ends = [1u16, 2].map(|host| {
            let addr: IpAddr = match v6 {
                true => [0x2001, 0xdb8, 0, 0, 0, 0, 0, host].into(),
                false => [192, 0, 2, host as u8].into(),
            };
            let mut config = Config::new([addr]);
            change(&mut config);
            let mut secret = [host as u8; 16];
            secret[..8].copy_from_slice(&seed.to_le_bytes());
            let stack = Stack::new(config, secret);
            End { stack, addr, ended: vec![], id: None, written: 0, read: 0, end_of_stream: false, iss: 0 }
        });
        let mut world = Self {
            now: Instant::from_millis(1000 + seed),
            ends,
            listener: ListenerId::default(),
            elsewhere: 0,
            lose: false,
            sacks: 0,
            wire: VecDeque::new(),
        };
        let local = world.server();
        world.listener = world.ends[1].stack.tcp_listen(local, 16).expect("the port is free");
        world
    }

    /// A world with a connection.
    pub fn connected(v6: bool, seed: u64, change: impl Fn(&mut Config)) -> Self {
        let mut world = Self::new(v6, seed, change);
        world.connect();
        world.pass(Duration::from_millis(50));
        world.accept();
        world
    }

    pub fn server(&self) -> SocketAddr {
        SocketAddr::new(self.ends[1].addr, PORT)
    }

    pub fn connect(&mut self) {
        self.ends[0].stack.handle_timeout(self.now);
        let server = self.server();
        self.ends[0].id = Some(self.ends[0].stack.tcp_connect(None, server).expect("a port is free"));
        self.flush(0);
    }

    pub fn accept(&mut self) {
        let id = self.ends[1].stack.tcp_accept(self.listener);
        self.ends[1].id = Some(id.expect("a connection waits"));
    }

    /// The four-tuple of the connection as host `side` sees it.
    pub fn flow(&mut self, side: usize) -> FourTuple {
        let id = self.ends[side].id.expect("it is open");
        let tcp = self.ends[side].stack.tcp(id).expect("its name is held");
        FourTuple { local: tcp.local(), remote: tcp.remote() }
    }

    /// The state that host `side` has of its connection.
    pub fn variables(&mut self, side: usize) -> Variables {
        let [ours, peers] = [self.ends[side].iss, self.ends[1 - side].iss];
        let id = self.ends[side].id.expect("it is open");
        let info = self.ends[side].stack.tcp(id).expect("its name is held").info();
        let snd_nxt = ours.wrapping_add(1).wrapping_add(info.bytes_sent as u32);
        Variables {
            rcv_nxt: peers.wrapping_add(1).wrapping_add(info.bytes_received as u32),
            rcv_wnd: info.rcv_wnd,
            snd_una: snd_nxt.wrapping_sub(info.unacked as u32),
            snd_nxt,
        }
    }

    /// A packet, forged or not, reaches host `side` now.
    pub fn forge(&mut self, side: usize, packet: &[u8]) -> Verdict {
        let verdict = self.ends[side].stack.handle_packet(self.now, packet, Received::default());
        self.flush(side);
        verdict
    }

    /// Lets time pass, and happen what happens in it.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let timers = self.ends.iter().filter_map(|end| end.stack.poll_timeout());
            let arrival = self.wire.front().map(|(at, ..)| *at);
            let Some(at) = timers.chain(arrival).min().filter(|at| *at <= until) else { break };
            self.now = self.now.max(at);
            for side in [0, 1] {
                if self.ends[side].stack.poll_timeout().is_some_and(|due| due <= self.now) {
                    self.ends[side].stack.handle_timeout(self.now);
                    self.flush(side);
                }
            }
            while self.wire.front().is_some_and(|(at, ..)| *at <= self.now)
                && let Some((_, to, packet)) = self.wire.pop_front()
            {
                let _ = self.forge(to, &packet);
            }
        }
        self.now = until;
    }

    /// Sends what host `side` owes, and takes its events.
    pub fn flush(&mut self, side: usize) {
        let mut packet = Vec::new();
        while self.ends[side].stack.poll_transmit(self.now, &mut packet).is_some() {
            let parsed = IpPacket::parse(&packet).expect("our packets are whole");
            if parsed.header.dst == self.ends[1 - side].addr {
                if parsed.header.protocol == ip::TCP
                    && let Ok((tcp, text)) = TcpHeader::parse(parsed.payload)
                {
                    if tcp.flags.contains(TcpFlags::SYN) {
                        self.ends[side].iss = tcp.seq;
                    }
                    self.sacks += usize::from(side == 1 && !tcp.options.sack.is_empty());
                    if side == 0 && !text.is_empty() && std::mem::take(&mut self.lose) {
                        continue;
                    }
                }
                self.wire.push_back((self.now + DELAY, 1 - side, packet.clone()));
            } else {
                self.elsewhere += 1;
            }
        }
        while let Some(event) = self.ends[side].stack.poll_event() {
            if let Event::Ended(ended) = event {
                self.ends[side].ended.push(*ended);
            }
        }
    }

    /// The program of host `side` writes up to `octets`, and reads what there is.
    pub fn work(&mut self, side: usize, bytes: u64) {
        let end = &mut self.ends[side];
        let mut tcp = end.stack.tcp(end.id.expect("it is open")).expect("its name is held");
        let text: Vec<u8> = (end.written..end.written + bytes).map(|at| byte(side, at)).collect();
        match tcp.send(&text) {
            Poll::Ready(Ok(n)) => end.written += n as u64,
            Poll::Ready(Err(error)) => panic!("host {side} cannot write: {error}: {:?}", tcp.end()),
            Poll::Pending => {}
        }
        self.read(side);
        self.flush(side);
    }

    /// The ISN of host `side`.
    pub fn isn(&self, side: usize) -> u32 {
        self.ends[side].iss
    }

    /// The program of host `side` reads what there is.
    pub fn read(&mut self, side: usize) {
        let end = &mut self.ends[side];
        let mut tcp = end.stack.tcp(end.id.expect("it is open")).expect("its name is held");
        let mut buf = [0; 4096];
        while !end.end_of_stream {
            match tcp.receive(&mut buf) {
                Poll::Ready(Ok(0)) => end.end_of_stream = true,
                Poll::Ready(Ok(n)) => {
                    let sent = (end.read..).map(|at| byte(1 - side, at));
                    assert!(
                        buf[..n].iter().copied().eq(sent.take(n)),
                        "octets of somebody else at {}",
                        end.read
                    );
                    end.read += n as u64;
                }
                Poll::Ready(Err(error)) => panic!("host {side} cannot read: {error}: {:?}", tcp.end()),
                Poll::Pending => return,
            }
        }
    }

    /// Both half-close, read to the end, and close; every byte has arrived, and both ends are orderly.
    pub fn part_well(&mut self) {
        self.part();
        for end in &self.ends {
            let causes: Vec<_> = end.ended.iter().map(|ended| ended.end.cause).collect();
            assert_eq!(causes, [Cause::Orderly], "{:?}", end.ended);
        }
    }

    /// The same where host 1 has other connections that end as well.
    pub fn part_well_amid_others(&mut self) {
        let flow = self.flow(1);
        self.part();
        for (side, end) in self.ends.iter().enumerate() {
            let ours = end.ended.iter().filter(|ended| side == 0 || ended.flow == flow);
            let causes: Vec<_> = ours.map(|ended| ended.end.cause).collect();
            assert_eq!(causes, [Cause::Orderly], "{:?}", end.ended);
        }
    }

    fn part(&mut self) {
        for side in [0, 1] {
            let end = &mut self.ends[side];
            end.stack.tcp(end.id.expect("it is open")).expect("it is held").shutdown().expect("it is open");
            self.flush(side);
        }
        for _ in 0..10_000 {
            self.pass(Duration::from_millis(10));
            [0, 1].into_iter().for_each(|side| self.read(side));
            if self.ends.iter().all(|end| end.end_of_stream) {
                break;
            }
        }
        for side in [0, 1] {
            let (written, end) = (self.ends[1 - side].written, &mut self.ends[side]);
            assert!(end.end_of_stream && end.read == written, "{} of {written} bytes at {side}", end.read);
            end.stack.tcp(end.id.expect("it is open")).expect("it is held").close();
            self.flush(side);
        }
        self.pass(Duration::from_secs(10));
    }
}
