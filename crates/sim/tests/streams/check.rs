//! What must be true of every run.

use crate::application::{Application, Intent};
use crate::world::World;
use lastack_engine::{Cause, ConnId, Ended, FourTuple, TcpError, TimeLimit};
use std::collections::BTreeMap;

/// The records of one host's connections, by their flow.
fn ends(world: &World, side: usize) -> BTreeMap<FourTuple, Vec<&Ended>> {
    let mut ends: BTreeMap<FourTuple, Vec<&Ended>> = BTreeMap::new();
    for ended in world.net.trace().ends(world.hosts[side]) {
        ends.entry(ended.flow).or_default().push(ended);
    }
    ends
}

fn end_of(world: &World, flow: &FourTuple, id: ConnId) -> Ended {
    let all = [0, 1].into_iter().flat_map(|side| ends(world, side).remove(flow).unwrap_or_default());
    let own: Vec<_> = all.filter(|ended| ended.id == id).collect();
    assert_eq!(own.len(), 1, "{flow} has not exactly one end: {own:?}");
    own[0].clone()
}

pub fn check(world: &World) {
    for side in [0, 1] {
        let mut ids = Vec::new();
        for ended in ends(world, side).into_values().flatten() {
            assert!(!ids.contains(&ended.id), "two ends of one connection: {ended:?}");
            ids.push(ended.id);
        }
    }
    for (flow, app) in &world.applications {
        let ended = end_of(world, flow, app.id);
        alone(app, &ended);
        let back = FourTuple { local: flow.remote, remote: flow.local };
        match world.applications.get(&back) {
            Some(peer) if app.active => {
                let peer_ended = end_of(world, &back, peer.id);
                together(app, &ended, peer, &peer_ended);
                together(peer, &peer_ended, app, &ended);
                peaceful([(app, &ended), (peer, &peer_ended)]);
            }
            Some(_) => {}
            None => assert_eq!(app.read, 0, "octets from nobody: {app:?}"),
        }
    }
}

/// What one end says agrees with what its application did.
fn alone(app: &Application, ended: &Ended) {
    let (lost, bytes) = (ended.end.lost, ended.bytes);
    let accounted = bytes.sent + lost.unacked + lost.unsent;
    assert_eq!(accounted, app.written, "octets that nobody accounts for: {app:?}\n{ended:?}");
    assert!(bytes.received >= app.read, "read more than was received: {app:?}\n{ended:?}");
    if ended.end.cause == Cause::Orderly {
        assert_eq!((lost.unsent, lost.unacked), (0, 0), "an orderly end loses nothing: {app:?}\n{ended:?}");
    }
    if app.end_of_stream && app.error.is_none() {
        assert_eq!(app.read, bytes.received, "an end of the stream before its bytes: {app:?}\n{ended:?}");
    }
    let failed = app.error.is_some() && app.error != Some(TcpError::BrokenPipe);
    if failed {
        assert_ne!(ended.end.cause, Cause::Orderly, "an error, but an orderly end: {app:?}\n{ended:?}");
    }
}

/// What `sender` says agrees with what `receiver` has got.
fn together(sender: &Application, sent: &Ended, receiver: &Application, received: &Ended) {
    let show = || format!("{sender:?}\n{sent:?}\n{receiver:?}\n{received:?}");
    assert!(received.bytes.received <= sender.written, "more than was sent: {}", show());
    assert!(sent.bytes.sent <= received.bytes.received, "acknowledged and not received: {}", show());
    // The heart of it: a stream that ends cleanly is whole.
    if receiver.end_of_stream {
        assert_eq!(receiver.read, sender.written, "a short stream that ends well: {}", show());
    }
    if sent.end.cause == Cause::Orderly {
        assert_eq!(received.bytes.received, sender.written, "a short orderly release: {}", show());
    }
}

/// Who both mean well, part well, however bad the path.
fn peaceful(both: [(&Application, &Ended); 2]) {
    if both.iter().all(|(app, _)| app.intent == Intent::Orderly) {
        for (app, ended) in both {
            assert_eq!(ended.end.cause, Cause::Orderly, "{app:?}\n{ended:?}");
            assert!(app.end_of_stream && app.written == app.wants, "{app:?}\n{ended:?}");
        }
    }
}

/// How often what was met: a test that never meets a reset shows nothing about resets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Met {
    pub orderly: usize,
    pub reset: usize,
    pub aborted: usize,
    pub timed_out: usize,
    pub other: usize,
    pub packets: usize,
    pub bytes: u64,
    pub lost_bytes: u64,
}

impl Met {
    pub fn add(&mut self, other: Self) {
        self.orderly += other.orderly;
        self.reset += other.reset;
        self.aborted += other.aborted;
        self.timed_out += other.timed_out;
        self.other += other.other;
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.lost_bytes += other.lost_bytes;
    }

    pub fn assert_variety(&self) {
        assert!(self.orderly > 300 && self.reset > 50 && self.aborted > 50, "{self:?}");
        assert!(self.bytes > 10_000_000 && self.lost_bytes > 100_000, "{self:?}");
    }
}

pub fn met(world: &World) -> Met {
    let mut met = Met { packets: world.net.trace().packets.len(), ..Met::default() };
    for ended in world.hosts.iter().flat_map(|host| world.net.trace().ends(*host)) {
        let lost = ended.end.lost;
        met.bytes += ended.bytes.received;
        met.lost_bytes += lost.unsent + lost.unacked + lost.unread;
        match ended.end.cause {
            Cause::Orderly => met.orderly += 1,
            Cause::Reset => met.reset += 1,
            Cause::Aborted => met.aborted += 1,
            Cause::TimedOut(TimeLimit::Handshake | TimeLimit::Retransmission | TimeLimit::FinWait2) => {
                met.timed_out += 1;
            }
            _ => met.other += 1,
        }
    }
    met
}
