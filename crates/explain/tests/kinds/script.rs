//! A connection written packet by packet, as a capture near the client shows it, by the habits of three operating systems.

use crate::packet::{ACK, Change, FIN, PSH, RST, SYN, Tcp, records, write};
use serde_json::Value;

/// What a stack writes into its packets.
#[derive(Clone, Copy, PartialEq)]
pub enum Os {
    Linux,
    Windows,
    Mac,
}

/// One end.
#[derive(Clone, Copy)]
pub struct End {
    pub os: Os,
    /// Hop limit of its packets where they are captured.
    pub ttl: u8,
    addr: [u8; 4],
    port: u16,
    nxt: u32,
    /// What it acknowledges.
    ack: u32,
    ident: u16,
    clock: u32,
}

/// A segment to be: every field may be changed before it is sent.
#[derive(Clone, Copy)]
pub struct Segment {
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    pub ttl: u8,
    pub ident: u16,
    pub tsval: Option<u32>,
}

pub const C: usize = 0;
pub const S: usize = 1;

/// A capture being written.
pub struct Script {
    pub ends: [End; 2],
    /// Milliseconds.
    pub now: f64,
    /// Milliseconds there and back.
    pub rtt: f64,
    pub packets: Vec<(i64, Vec<u8>)>,
}

impl Script {
    pub fn new(client: Os, server: Os) -> Self {
        let end = |os: Os, far: bool, addr, port, nxt| End {
            os,
            ttl: (if os == Os::Windows { 128 } else { 64 }) - if far { 9 } else { 0 },
            addr,
            port,
            nxt,
            ack: 0,
            ident: if far { 7000 } else { 300 },
            clock: if far { 900_000 } else { 4_000_000 },
        };
        Self {
            ends: [
                end(client, false, [10, 1, 0, 9], 50_123, 1_000_000),
                end(server, true, [192, 0, 2, 80], 443, 3_000_000_000),
            ],
            now: 1000.0,
            rtt: 30.0,
            packets: Vec::new(),
        }
    }

    /// The server's port.
    pub fn port(mut self, port: u16) -> Self {
        self.ends[S].port = port;
        self
    }

    /// Another connection of the same hosts, with its own ports and numbers.
    pub fn again(&mut self, port: u16) {
        for end in &mut self.ends {
            (end.nxt, end.ack) = (end.nxt.wrapping_mul(7).wrapping_add(u32::from(port) << 7), 0);
        }
        self.ends[C].port = port;
    }

    pub fn wait(&mut self, ms: f64) -> &mut Self {
        self.now += ms;
        self
    }

    /// The segment that this end's stack would send now.
    pub fn segment(&self, from: usize, flags: u8) -> Segment {
        let end = &self.ends[from];
        let timestamps = end.os != Os::Windows && self.ends[1 - from].os != Os::Windows;
        let reset = flags & RST != 0;
        let window = match (end.os, reset) {
            (Os::Windows, true) => 0,
            (Os::Mac, true) => 2048,
            _ => 501,
        };
        Segment {
            flags,
            seq: end.nxt,
            ack: if flags & ACK != 0 { end.ack } else { 0 },
            window: if flags & SYN != 0 { 64_240 } else { window },
            ttl: end.ttl,
            ident: if end.os == Os::Mac { 0 } else { end.ident.wrapping_add(1) },
            tsval: (timestamps && !(reset && end.os == Os::Mac)).then_some(end.clock + self.now as u32),
        }
    }

    /// Sends a segment with this payload. Numbers move on if they are those of its end.
    pub fn send(&mut self, from: usize, segment: Segment, payload: &[u8]) -> &mut Self {
        self.packets.push(((self.now * 1e6) as i64, frame(&self.ends, from, &segment, payload)));
        let end = &mut self.ends[from];
        end.ident = end.ident.wrapping_add(1);
        if segment.flags & RST == 0 && segment.seq == end.nxt {
            let control = u32::from(segment.flags & SYN != 0) + u32::from(segment.flags & FIN != 0);
            end.nxt = end.nxt.wrapping_add(payload.len() as u32 + control);
        }
        self
    }

    /// What the end sends that has received all so far.
    fn plain(&mut self, from: usize, flags: u8, payload: &[u8]) -> &mut Self {
        if flags & ACK != 0 && flags & RST == 0 {
            self.ends[from].ack = self.ends[1 - from].nxt;
        }
        let segment = self.segment(from, flags);
        self.send(from, segment, payload)
    }

    pub fn open(&mut self) -> &mut Self {
        let rtt = self.rtt;
        self.plain(C, SYN, b"").wait(rtt);
        self.plain(S, SYN | ACK, b"").wait(0.05);
        self.plain(C, ACK, b"").wait(0.2)
    }

    /// Data that the other end acknowledges after the way there and back, or at once if that end is near.
    pub fn say(&mut self, from: usize, payload: &[u8]) -> &mut Self {
        for part in payload.chunks(1448) {
            self.plain(from, ACK | PSH, part).wait(0.02);
        }
        let wait = if from == C { self.rtt } else { 0.1 };
        self.wait(wait).plain(1 - from, ACK, b"")
    }

    /// Data that gets no answer yet.
    pub fn push(&mut self, from: usize, payload: &[u8]) -> &mut Self {
        self.plain(from, ACK | PSH, payload)
    }

    pub fn ack(&mut self, from: usize) -> &mut Self {
        self.plain(from, ACK, b"")
    }

    pub fn fin(&mut self, from: usize) -> &mut Self {
        self.plain(from, ACK | FIN, b"")
    }

    /// An abort: `taken`, the end had received all so far.
    pub fn abort(&mut self, from: usize, taken: bool) -> &mut Self {
        if taken {
            self.ends[from].ack = self.ends[1 - from].nxt;
        }
        let segment = self.segment(from, RST | ACK);
        self.send(from, segment, b"")
    }

    /// A bare reset of a host without a socket, which answers the other end's last segment.
    pub fn bare(&mut self, from: usize) -> &mut Self {
        let seq = self.ends[1 - from].ack;
        let ident = 0;
        let segment = Segment { seq, window: 0, tsval: None, ident, ..self.segment(from, RST) };
        self.send(from, segment, b"")
    }

    /// The refusal of a SYN.
    pub fn refuse(&mut self) -> &mut Self {
        let ack = self.ends[C].nxt;
        let segment = Segment { seq: 0, ack, window: 0, tsval: None, ident: 0, ..self.segment(S, RST | ACK) };
        self.send(S, segment, b"")
    }

    /// Sends the last data of this end again.
    pub fn repeat(&mut self, from: usize, payload: &[u8]) -> &mut Self {
        let seq = self.ends[from].nxt.wrapping_sub(payload.len() as u32);
        let segment = Segment { seq, ..self.segment(from, ACK | PSH) };
        self.send(from, segment, payload)
    }

    /// The next number of an end, and what it acknowledges.
    pub fn ends_seq(&self, end: usize) -> u32 {
        self.ends[end].nxt
    }

    pub fn ends_ack(&self, end: usize) -> u32 {
        self.ends[end].ack
    }

    pub fn restart(&mut self, end: usize, nxt: u32) {
        (self.ends[end].nxt, self.ends[end].ack) = (nxt, 0);
    }

    pub fn plain_syn(&mut self) -> &mut Self {
        self.plain(C, SYN, b"")
    }

    pub fn syn_ack(&mut self) -> &mut Self {
        self.plain(S, SYN | ACK, b"")
    }

    /// The records of all connections.
    pub fn records(&self, change: Change) -> Vec<Value> {
        records(&self.packets, change)
    }
}

/// The packet as raw IP.
fn frame(ends: &[End; 2], from: usize, segment: &Segment, payload: &[u8]) -> Vec<u8> {
    let (own, peer) = (&ends[from], &ends[1 - from]);
    let &Segment { flags, seq, ack, window, ttl, ident, tsval } = segment;
    let (src, dst) = ((own.addr, own.port), (peer.addr, peer.port));
    write(&Tcp { src, dst, seq, ack, flags, window, ttl, ident, tsval, sack: None, payload })
}
