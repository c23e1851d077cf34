//! What a connection is in view of other connections: a probe of a scan, a health check, a loser of a race.

use super::Context;
use super::{HashMap, HashSet};
use crate::packet::{Addr, Endpoint};
use crate::track::{Conn, Reset, Shape};
use crate::verdict::{idle_before, odd_syn};
use lastack_wire::TcpFlags;
use std::collections::{BTreeMap, BTreeSet};

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000_000_000;
/// Max time between ends of one cause.
const INSTANT: i64 = 100 * MS;
/// Probes of one scan follow each other within this time.
const SCAN_GAP: i64 = 15 * SECOND;

/// Connections of one server or client that others are compared with.
const LISTED: usize = 256;

/// The marks of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Marks {
    /// It is one of a series of checks: their number, and the seconds between them.
    pub health_check: Option<(u32, f64)>,
    /// Number of ports and of hosts that its client tried.
    pub scan: Option<(u32, u32)>,
    /// The number of connections of the server, never answered, that ended at the same time, and the first of them.
    pub same_instant: Option<(u32, i64)>,
    /// The number of connections of the server that ended after the same idle time, in seconds.
    pub equal_idle: Option<(u32, f64)>,
    /// The server's queue was full: connections that it never answered were open.
    pub queue_full: bool,
    /// The port answered other SYNs while this one was not answered.
    pub answered_meanwhile: bool,
    /// It goes on, with another port or address, where this packet of another connection left off.
    pub moved_from: Option<crate::packet::Frame>,
    /// The client's other connection to that port was established first.
    pub sibling_won: bool,
    /// The SYN of the next connection of the same ends met this one, and the answer was reset: that SYN, and the reset.
    pub superseded: Option<[crate::packet::Frame; 2]>,
}

/// Marks the connections.
pub(crate) fn mark(conns: &[Box<Conn>], context: &Context) -> HashMap<u64, Marks> {
    let mut marks = HashMap::default();
    health_checks(conns, &mut marks);
    scans(conns, &mut marks);
    same_instants(conns, &mut marks);
    equal_idles(conns, context, &mut marks);
    full_queues(conns, context, &mut marks);
    siblings(conns, &mut marks);
    moved(conns, &mut marks);
    superseded(conns, &mut marks);
    marks
}

type All = HashMap<u64, Marks>;

fn client(conn: &Conn) -> usize {
    let refused = lone_refusal(conn).map(|reset| 1 - reset.pkt.side);
    usize::from(conn.client.or(refused).unwrap_or(0))
}

/// The refusal of a SYN, where nothing else of the connection is in the capture.
fn lone_refusal(conn: &Conn) -> Option<&Reset> {
    let only_resets = conn.packets == conn.resets.len() as u64;
    first_reset(conn).filter(|reset| only_resets && reset.pkt.has(TcpFlags::ACK) && reset.pkt.seq == 0)
}

fn server_of(conn: &Conn) -> Endpoint {
    conn.sides[1 - client(conn)].at
}

fn first_reset(conn: &Conn) -> Option<&Reset> {
    conn.resets.iter().find(|reset| !reset.copy)
}

fn has_data(conn: &Conn) -> bool {
    conn.sides.iter().any(|side| side.bytes > 0)
}

/// Connections without data that the client resets, with a fixed period.
fn health_checks(conns: &[Box<Conn>], marks: &mut All) {
    let mut checks: BTreeMap<(Addr, Endpoint), Vec<&Conn>> = BTreeMap::new();
    for conn in conns {
        let client = client(conn);
        let by_client = first_reset(conn).is_some_and(|reset| usize::from(reset.pkt.side) == client);
        let answered = conn.sides[1 - client].syn.is_some();
        if conn.sides[client].syn.is_some_and(|syn| syn.tsval == Some(u32::MAX)) {
            continue; // a measurement of nmap
        }
        if conn.client.is_some() && by_client && answered && !has_data(conn) && conn.former_answer.is_none() {
            checks.entry((conn.sides[client].at.addr, server_of(conn))).or_default().push(conn);
        }
    }
    for checks in checks.values_mut().filter(|checks| checks.len() >= 3) {
        checks.sort_by_key(|conn| conn.first.0);
        let mut pauses: Vec<i64> = checks.windows(2).map(|pair| pair[1].first.0 - pair[0].first.0).collect();
        pauses.sort_unstable();
        let period = pauses[pauses.len() / 2];
        // A check that fell out makes a pause of several periods.
        let fits = |pause: i64| {
            let times = (pause as f64 / period as f64).round().max(1.0);
            (pause as f64 / (period as f64 * times) - 1.0).abs() < 0.15
        };
        let regular =
            period > 50 * MS && pauses.iter().filter(|&&pause| fits(pause)).count() * 10 >= pauses.len() * 9;
        if regular {
            for conn in checks.iter() {
                let mark = marks.entry(conn.ordinal).or_default();
                mark.health_check = Some((checks.len() as u32, period as f64 / 1e9));
            }
        }
    }
}

/// A probe: no data was sent, and it ended at once.
struct Probe<'a> {
    conn: &'a Conn,
    client: Addr,
    time: i64,
    /// It has what only a probe has.
    marked: bool,
}

fn probe(conn: &Conn) -> Option<Probe<'_>> {
    let client = client(conn);
    let probe = |marked| Probe { conn, client: conn.sides[client].at.addr, time: conn.first.0, marked };
    if has_data(conn) || conn.former_answer.is_some() || conn.is_orderly() {
        return None;
    }
    let odd = odd_syn(&conn.sides[client]).is_some();
    // A client that retries for a long time is not a scanner.
    if !odd && conn.sides[client].last_syn - conn.first.0 > SECOND / 2 {
        return None;
    }
    if lone_refusal(conn).is_some() {
        return Some(probe(false));
    }
    let Some(reset) = first_reset(conn) else {
        let first = conn.head.first()?;
        // Without a SYN and without an answer: a firewall drops what no connection has.
        let [from, to] = &conn.sides;
        let lone_ack = from.packets <= 2 && from.at.port > to.at.port && first.flags == TcpFlags::ACK;
        let stray = to.packets == 0 && from.syn.is_none() && (lone_ack || !first.has(TcpFlags::ACK));
        return (stray || conn.is_unanswered()).then(|| probe(odd || stray && !first.has(TcpFlags::ACK)));
    };
    let from_client = usize::from(reset.pkt.side) == client;
    let no_syn = conn.sides.iter().all(|side| side.syn.is_none());
    if no_syn {
        let trigger = reset.trigger?;
        return Some(probe(!trigger.has(TcpFlags::ACK)));
    }
    if !from_client {
        let refused = conn.sides[1 - client].syn.is_none();
        return refused.then(|| probe(odd));
    }
    let answer = conn.sides[1 - client].syn?;
    let syn = conn.sides[client].syn?;
    // At the server's side, the client's packets come a round trip after the SYN|ACK: its own ACK shows when it began.
    let opened = conn.sides[client].last.map_or(answer.time, |ack| ack.time.max(answer.time));
    let quick = reset.pkt.time - opened < 5 * MS && answer.time - syn.time < 200 * MS;
    // With the options of a usual stack, a half-open attempt is one that was given up, and a long one is no probe.
    let usual = !odd && reset.shape == Shape::Reply;
    (odd || quick && !usual).then(|| probe(true))
}

/// One client, many ports or hosts, no data.
fn scans(conns: &[Box<Conn>], marks: &mut All) {
    let mut probes: Vec<Probe<'_>> = conns.iter().filter_map(|conn| probe(conn)).collect();
    probes.retain(|probe| marks.get(&probe.conn.ordinal).is_none_or(|mark| mark.health_check.is_none()));
    probes.sort_unstable_by_key(|probe| (probe.client, probe.time));
    let near = |a: &Probe<'_>, b: &Probe<'_>| a.client == b.client && b.time - a.time < SCAN_GAP;
    for cluster in probes.chunk_by(near).filter(|cluster| cluster.len() >= 3) {
        mark_scan(cluster, marks);
    }
}

fn mark_scan(cluster: &[Probe<'_>], marks: &mut All) {
    let mut ports: BTreeMap<Addr, BTreeSet<u16>> = BTreeMap::new();
    let mut hosts: BTreeMap<u16, BTreeSet<Addr>> = BTreeMap::new();
    for probe in cluster {
        let server = server_of(probe.conn);
        ports.entry(server.addr).or_default().insert(server.port);
        hosts.entry(server.port).or_default().insert(server.addr);
    }
    let marked = cluster.iter().filter(|probe| probe.marked).count();
    let max_ports = ports.values().map(BTreeSet::len).max().unwrap_or(0);
    let max_hosts = hosts.values().map(BTreeSet::len).max().unwrap_or(0);
    let is_scan =
        if marked > 0 { max_ports >= 3 || max_hosts >= 5 } else { max_ports >= 10 || max_hosts >= 25 };
    if !is_scan {
        return;
    }
    for probe in cluster {
        let server = server_of(probe.conn);
        let wide = ports.get(&server.addr).is_some_and(|ports| ports.len() >= 3)
            || hosts.get(&server.port).is_some_and(|hosts| hosts.len() >= 5);
        if wide {
            let mark = marks.entry(probe.conn.ordinal).or_default();
            mark.scan = Some((max_ports as u32, ports.len() as u32));
        }
    }
}

/// Connections that a server had never answered, reset in the same instant.
fn same_instants(conns: &[Box<Conn>], marks: &mut All) {
    let mut ends: BTreeMap<Endpoint, Vec<(i64, u64, i64)>> = BTreeMap::new();
    for conn in conns {
        let server = 1 - client(conn);
        let Some(reset) = conn.reset_by.map(|index| &conn.resets[index]) else { continue };
        let wordless = conn.sides[server].bytes == 0 && conn.sides[server].syn.is_some();
        if usize::from(reset.pkt.side) == server && reset.shape == Shape::Active && wordless {
            ends.entry(server_of(conn)).or_default().push((reset.pkt.time, conn.ordinal, conn.first.0));
        }
    }
    for ends in ends.values_mut() {
        ends.sort_unstable();
        for cluster in ends.chunk_by(|a, b| b.0 - a.0 < INSTANT) {
            // One event ends only what was there when it came.
            let first = cluster[0].0;
            let waiting: Vec<_> = cluster.iter().filter(|(.., began)| *began < first).collect();
            for (_, ordinal, _) in waiting.iter().filter(|_| waiting.len() >= 2) {
                marks.entry(*ordinal).or_default().same_instant = Some((waiting.len() as u32, first));
            }
        }
    }
}

/// Connections of one server that ended after the same idle time.
fn equal_idles(conns: &[Box<Conn>], context: &Context, marks: &mut All) {
    let mut idles: BTreeMap<Addr, Vec<(i64, u64, i64)>> = BTreeMap::new();
    for conn in conns {
        let short = conn.last.0 - conn.first.0 < SECOND;
        if short || conn.reset_by.is_none() || conn.sides.iter().any(|side| side.fin.is_some()) {
            continue;
        }
        let idle = idle_before(conn, context);
        if idle >= SECOND {
            idles.entry(server_of(conn).addr).or_default().push((idle, conn.ordinal, conn.last.0));
        }
    }
    for idles in idles.values_mut() {
        idles.sort_unstable();
        let near = |a: &(i64, u64, i64), b: &(i64, u64, i64)| b.0 - a.0 <= (a.0 / 50).max(20 * MS);
        for cluster in idles.chunk_by(near).filter(|cluster| cluster.len() >= 3 && is_spread(cluster)) {
            let mean = cluster.iter().map(|(idle, ..)| *idle as f64).sum::<f64>() / cluster.len() as f64;
            for (_, ordinal, _) in cluster {
                marks.entry(*ordinal).or_default().equal_idle = Some((cluster.len() as u32, mean / 1e9));
            }
        }
    }
}

/// Whether the ends are at different times: what ends in one instant was ended by one event, not by a timer.
fn is_spread(cluster: &[(i64, u64, i64)]) -> bool {
    let ends = cluster.iter().map(|(.., end)| *end);
    ends.clone().max().zip(ends.min()).is_some_and(|(last, first)| last - first > 2 * INSTANT)
}

/// SYNs that were dropped while the server had connections that it never answered, or answered others.
fn full_queues(conns: &[Box<Conn>], context: &Context, marks: &mut All) {
    let mut stalled: HashMap<Endpoint, Vec<(i64, i64)>> = HashMap::default();
    for conn in conns {
        let server = &conn.sides[1 - client(conn)];
        let accepted = conn.established && server.syn.is_some() && server.fin.is_none();
        if accepted && server.bytes == 0 && !is_half_accepted(conn) {
            stalled
                .entry(server.at)
                .or_default()
                .push((conn.first.0, conn.last.0.max(context.end.min(conn.first.0 + 60 * SECOND))));
        }
    }
    for conn in conns {
        let (opener, server) = (&conn.sides[client(conn)], &conn.sides[1 - client(conn)]);
        if is_half_accepted(conn) {
            let others = stalled.get(&server.at).map_or(&[][..], Vec::as_slice);
            let near =
                |&(start, end): &(i64, i64)| start < conn.first.0 + SECOND / 2 && end + SECOND > conn.first.0;
            marks.entry(conn.ordinal).or_default().queue_full = others.iter().any(near);
            continue;
        }
        if server.syn.is_some() || opener.syns == 0 {
            continue;
        }
        let (from, to) = (conn.first.0, opener.last_syn);
        let full = stalled
            .get(&server.at)
            .is_some_and(|stalled| stalled.iter().any(|&(start, end)| start < from && end + SECOND > from));
        // One SYN alone may be lost; a queue drops its repetitions, too.
        let full = full && (opener.syns > 1 || !conn.resets.is_empty());
        let near = |&time: &i64| time > from - 3 * SECOND / 2 && time < to + 3 * SECOND / 2;
        let answered = context.accepted(server.at).iter().any(near);
        if full || answered {
            let mark = marks.entry(conn.ordinal).or_default();
            (mark.queue_full, mark.answered_meanwhile) = (full, answered);
        }
    }
}

/// The server sent SYN|ACK, and seems not to have received what answers it: it repeats the SYN|ACK, or acknowledges none of the
/// client's data.
fn is_half_accepted(conn: &Conn) -> bool {
    let (opener, server) = (&conn.sides[client(conn)], &conn.sides[1 - client(conn)]);
    let taken = || opener.first_data.is_some_and(|data| server.has_acked(data.end()));
    server.syn.is_some()
        && server.bytes == 0
        && !taken()
        && (server.syns >= 2 || opener.bytes > 0 && opener.stuck.sends >= 3)
}

/// Connections without a SYN whose first data has the numbers at which another connection to that server stands: a NAT gave it
/// another port.
fn moved(conns: &[Box<Conn>], marks: &mut All) {
    let begins = |conn: &Conn| {
        if conn.resets.is_empty() || conn.sides.iter().any(|side| side.syn.is_some()) {
            return None;
        }
        let first = conn.head.first().filter(|pkt| pkt.len > 0 && !pkt.has(TcpFlags::SYN))?;
        Some((conn.sides[1 - usize::from(first.side)].at, first.seq, first.ack))
    };
    let mut stands: HashMap<(Endpoint, u32, u32), crate::packet::Frame> = HashMap::default();
    if conns.iter().all(|conn| begins(conn).is_none()) {
        return;
    }
    for conn in conns.iter().filter(|conn| conn.established && has_data(conn)) {
        for index in 0..2 {
            let (own, peer) = (&conn.sides[index], &conn.sides[1 - index]);
            if own.started && peer.started {
                // The peer may have closed since.
                for known in [Some(peer.max), peer.fin_seq()].into_iter().flatten() {
                    stands.insert((peer.at, own.max, known), conn.last.1);
                }
            }
        }
    }
    for conn in conns {
        if let Some(frame) = begins(conn).and_then(|key| stands.get(&key)) {
            marks.entry(conn.ordinal).or_default().moved_from = Some(*frame);
        }
    }
}

/// Connections that one end still had when the other began a new one with the same ports, and reset the old one.
fn superseded(conns: &[Box<Conn>], marks: &mut All) {
    let next = |conn: &Conn| {
        let answer = conn.former_answer?;
        let reset = conn.resets.iter().find(|reset| !reset.copy && reset.pkt.seq == answer.ack)?;
        let syn = conn.sides[usize::from(reset.pkt.side)].syn?;
        Some([syn.frame, reset.pkt.frame])
    };
    let key = |conn: &Conn| {
        let [a, b] = [conn.sides[0].at, conn.sides[1].at];
        if a <= b { (a, b) } else { (b, a) }
    };
    let ends: HashSet<_> = conns.iter().filter(|conn| next(conn).is_some()).map(|conn| key(conn)).collect();
    let mut last = HashMap::default();
    for conn in conns.iter().filter(|conn| ends.contains(&key(conn))) {
        let before = last.insert(key(conn), conn.ordinal);
        if let Some((before, frames)) = before.zip(next(conn)) {
            marks.entry(before).or_default().superseded = Some(frames);
        }
    }
}

/// Attempts that were dropped because another one of the same client was faster.
fn siblings(conns: &[Box<Conn>], marks: &mut All) {
    let key = |conn: &Conn| (conn.sides[client(conn)].at.addr, server_of(conn).port);
    let mut established: HashMap<(Addr, u16), Vec<&Conn>> = HashMap::default();
    for conn in conns.iter().filter(|conn| conn.client.is_some() && conn.established && has_data(conn)) {
        let list = established.entry(key(conn)).or_default();
        if list.len() < LISTED {
            list.push(conn);
        }
    }
    for conn in
        conns.iter().filter(|conn| conn.client.is_some() && !has_data(conn) && !conn.resets.is_empty())
    {
        let won = established.get(&key(conn)).is_some_and(|list| {
            list.iter().any(|peer| {
                (peer.first.0 - conn.first.0).abs() < SECOND && server_of(peer).addr != server_of(conn).addr
            })
        });
        if won {
            marks.entry(conn.ordinal).or_default().sibling_won = true;
        }
    }
}
