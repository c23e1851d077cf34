//! Checks at the end of a run: of each end, and of both ends of a connection together.
//!
//! | if one end reports | then |
//! |---|---|
//! | orderly (`Rule::EndOrderly`) | all that it wrote was received; nothing is lost; the other end reports orderly too, or was in CLOSING or LAST-ACK |
//! | reset by the peer | that reset was sent, by a rule; see the next two |
//! | .. by a rule that ends a connection (`Rule::RstCloseInSynReceived`, `Rule::RstUnreadDataAtClose`, `Rule::RstAbort`, `Rule::RstFinWait2Refused`, `Rule::RstDataAfterClose`, `Rule::RstListenerClosed` to `Rule::EndUserTimeout`, `Rule::EndFinTimeout`, `Rule::RstFinWait2Timeout`, `Rule::LimitOrphansAtClose`, `Rule::LimitOrphans`, `Rule::RstKilled`, `Rule::RstListenerKilled`, `Rule::LimitMemory`) | the other end says so, with that rule |
//! | .. by a rule about no connection (`Rule::RstNoListener`, `Rule::RstNoConnection`, `Rule::RstNoConnectionNoAck`, `Rule::RstAckToListener`, `Rule::RstBadCookie`, `Rule::RstBadAckInSynSent`, `Rule::RstBadAckInSynReceived`, `Rule::RstOtherSynInSynReceived`, `Rule::DropAckAcceptQueueFull`, `Rule::RstBadAckSimultaneousOpen`) | the other end was over before, or lost its state, or never existed |
//! | aborted with a reset | that reset was sent at the reported time, once |
//! | no answer to the SYN (`Rule::EndSynTimeout`) | the other end was never established |
//! | an ICMP error ended it (`Rule::IcmpEndsAttempt`) | that error arrived then |
//! | anything | bytes acknowledged <= bytes received there <= bytes sent, and the bytes acknowledged, unacknowledged and unsent add up to those written |

use super::application::{Application, text};
use super::world::{EndOf, World};
use crate::trace::{Fate, PacketKind, PacketRecord};
use lastack_engine::{
    Cause, ConnId, Ended, EndedBy, FourTuple, InitialNumbers, Instant, LikelyCause, Rule, TcpError, TcpState,
    TimeLimit, Verdict,
};
use lastack_wire::icmp::Icmp;
use lastack_wire::ip::{self, IpPacket};
use lastack_wire::tcp::{TcpFlags, TcpHeader};
use std::collections::BTreeMap;

/// Rules by which a connection ends with a reset.
const ENDING: [Rule; 16] = [
    Rule::LimitMemory,
    Rule::RstCloseInSynReceived,
    Rule::RstUnreadDataAtClose,
    Rule::RstAbort,
    Rule::RstFinWait2Refused,
    Rule::RstDataAfterClose,
    Rule::RstListenerClosed,
    Rule::RstKeepaliveTimeout,
    Rule::EndRetransmissionTimeout,
    Rule::EndUserTimeout,
    Rule::EndFinTimeout,
    Rule::RstFinWait2Timeout,
    Rule::LimitOrphansAtClose,
    Rule::LimitOrphans,
    Rule::RstKilled,
    Rule::RstListenerKilled,
];

/// Retransmissions without an answer after which a timeout is the path's fault.
const MIN_RETRANSMISSIONS: usize = 4;

type Check = Result<(), String>;

fn demand(holds: bool, what: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(what()) }
}

/// A reset on the wire.
struct Reset<'a> {
    record: &'a PacketRecord,
    /// The flow from its sender's side.
    flow: FourTuple,
    tcp: TcpHeader,
}

/// The data of a run.
pub(super) struct Court<'a> {
    world: &'a World,
    ends: BTreeMap<(usize, usize, ConnId), &'a EndOf>,
    resets: Vec<Reset<'a>>,
}

/// All violations.
pub(super) fn judge(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut ends = BTreeMap::new();
    for end in &world.ends {
        if ends.insert((end.host, end.life, end.ended.id), end).is_some() {
            wrong.push(format!("two ends of one connection: {end:?}"));
        }
    }
    let court = Court { world, ends, resets: resets(world) };
    wrong.extend(court.leftovers().err());
    for app in &world.applications {
        wrong.extend(court.alone(app).err());
        wrong.extend(court.peaceful(app).err());
    }
    for end in &world.ends {
        wrong.extend(court.explained(end).err());
        wrong.extend(court.orderly(end).err());
        if let Some(peer) = court.peer(end) {
            wrong.extend(court.bytes(end, peer).err());
        }
    }
    for reset in &court.resets {
        wrong.extend(court.reported(reset).err());
    }
    wrong
}

fn resets(world: &World) -> Vec<Reset<'_>> {
    world.net.trace().packets.iter().filter_map(reset).collect()
}

fn reset(record: &PacketRecord) -> Option<Reset<'_>> {
    let packet = IpPacket::parse(&record.bytes).ok()?;
    let flow = crate::net::tcp_flow(&record.bytes)?;
    let (tcp, _) = TcpHeader::parse(packet.payload).ok()?;
    tcp.flags.contains(TcpFlags::RST).then_some(Reset { record, flow, tcp })
}

fn back(flow: FourTuple) -> FourTuple {
    FourTuple { local: flow.remote, remote: flow.local }
}

/// Whether these are the initial sequence numbers of one connection, seen from its two ends.
pub(super) fn mirrored(a: InitialNumbers, b: InitialNumbers) -> bool {
    let agree = |ours: Option<u32>, theirs: Option<u32>| theirs.is_none() || ours == theirs;
    (a.ours.is_some() && a.ours == b.peers && agree(b.ours, a.peers))
        || (b.ours.is_some() && b.ours == a.peers && agree(a.ours, b.peers))
}

impl Court<'_> {
    fn end_of(&self, app: &Application) -> Option<&EndOf> {
        self.ends.get(&(app.host, app.life, app.id)).copied()
    }

    /// The other end of a connection.
    fn peer(&self, end: &EndOf) -> Option<&EndOf> {
        let (flow, numbers) = (back(end.ended.flow), end.ended.numbers);
        let is_it = |other: &&EndOf| other.ended.flow == flow && mirrored(numbers, other.ended.numbers);
        self.world.ends.iter().find(is_it)
    }

    /// The program that wrote what this one read.
    fn writer(&self, app: &Application) -> Option<&Application> {
        let numbers = self.end_of(app).map_or(app.numbers, |end| end.ended.numbers);
        self.world.applications.iter().find(|other| {
            let theirs = self.end_of(other).map_or(other.numbers, |end| end.ended.numbers);
            other.flow == back(app.flow) && mirrored(numbers, theirs)
        })
    }

    /// No state is left anywhere.
    fn leftovers(&self) -> Check {
        for (index, host) in self.world.hosts.iter().enumerate() {
            let stack = self.world.net.stack_of(host.id);
            let left = (stack.connections(), stack.poll_timeout(), stack.has_output());
            demand(left == (0, None, false), || {
                format!("host{index} keeps (connections, timer, output) {left:?}")
            })?;
            let counters = stack.counters();
            let begun = counters.tcp_established + counters.tcp_attempt_fails;
            let ended =
                self.world.ends.iter().filter(|end| (end.host, end.life) == (index, host.life)).count();
            demand(begun == ended as u64, || {
                format!("host{index} has begun {begun} connections, and {ended} have an end")
            })?;
        }
        Ok(())
    }

    /// One end agrees with what its program did and observed, and with what was written to it.
    fn alone(&self, app: &Application) -> Check {
        let show = || format!("{app:?}\n  {:?}", self.end_of(app));
        let read = app.read.len() as u64;
        match self.writer(app) {
            Some(writer) => {
                let sent = text(writer.number, 0, read.min(writer.written));
                demand(app.read == sent, || format!("not what was written: {}\n  {writer:?}", brief(app)))?;
                let whole = app.deaf || !app.end_of_stream || app.error.is_some() || read == writer.written;
                demand(whole, || {
                    format!("a short stream that ends well: {}\n  {}", brief(app), brief(writer))
                })?;
            }
            None => demand(read == 0, || format!("octets from nobody: {}", brief(app)))?,
        }
        let Some(end) = self.end_of(app) else {
            return demand(app.vanished.is_some(), || format!("no end: {}", brief(app)));
        };
        let Ended { end, bytes, .. } = &*end.ended;
        let accounted = bytes.sent + end.lost.unacked + end.lost.unsent;
        demand(app.vanished.is_some() || accounted == app.written, || {
            format!("{accounted} bytes are accounted for, {} were written: {}", app.written, brief(app))
        })?;
        demand(bytes.received >= read, || format!("read more than was received: {}", show()))?;
        if app.end_of_stream && app.error.is_none() && !app.deaf {
            demand(bytes.received == read, || {
                format!("an end of the stream before its bytes: {}", brief(app))
            })?;
        }
        let Some(error) = app.error.filter(|error| *error != TcpError::BrokenPipe) else { return Ok(()) };
        let own = match (end.cause, error) {
            (Cause::Aborted, TcpError::Aborted) => true,
            (_, TcpError::Reset) => end.rule == Rule::RstDataAfterClose,
            _ => false,
        };
        demand(own || end.error() == Some(error), || format!("another error than its end: {}", show()))
    }

    /// An orderly end has lost nothing, and its peer agrees.
    fn orderly(&self, end: &EndOf) -> Check {
        let Ended { end: why, bytes, .. } = &*end.ended;
        if why.cause != Cause::Orderly {
            return Ok(());
        }
        let lost = why.lost.unsent + why.lost.unacked + why.lost.unread;
        demand(lost == 0, || format!("an orderly end that loses {lost} bytes: {end:?}"))?;
        if let Some(peer) = self.peer(end) {
            let theirs = &peer.ended.end;
            let agrees = theirs.cause == Cause::Orderly
                || matches!(theirs.state, TcpState::Closing | TcpState::LastAck);
            demand(agrees, || format!("an orderly end whose peer has not finished: {end:?}\n  {peer:?}"))?;
            let got = peer.ended.bytes.received;
            demand(got == bytes.sent, || format!("an orderly end of {got} bytes: {end:?}\n  {peer:?}"))?;
        }
        Ok(())
    }

    /// Two well-behaved programs end cleanly, if there is no fault.
    fn peaceful(&self, app: &Application) -> Check {
        let Some((writer, end)) = self.writer(app).zip(self.end_of(app)) else { return Ok(()) };
        let well = self.world.calm && app.means_well && writer.means_well;
        let parted = end.ended.end.cause == Cause::Orderly && app.end_of_stream;
        let failed = || self.is_cut_off(end) || self.peer(end).is_some_and(|peer| self.is_cut_off(peer));
        demand(!well || parted || failed(), || format!("they do not part well: {}\n  {end:?}", brief(app)))
    }

    /// Whether it timed out because the path lost every retransmission or its answer: on a path that loses every
    /// tenth packet that is rare, but no error.
    fn is_cut_off(&self, end: &EndOf) -> bool {
        let (host, flow) = (self.world.hosts[end.host].id, end.ended.flow);
        let packets = || self.world.net.trace().packets.iter();
        let last_arrival = packets()
            .filter(|record| record.kind != PacketKind::Damaged && record.to == Some(host))
            .filter(|record| crate::net::tcp_flow(&record.bytes) == Some(back(flow)))
            .filter_map(|record| match record.fate {
                Fate::Delivered { at, .. } => Some(at),
                _ => None,
            })
            .max();
        let unanswered = packets()
            .filter(|record| {
                record.from == host && last_arrival.is_none_or(|last_arrival| record.sent > last_arrival)
            })
            .filter(|record| crate::net::tcp_flow(&record.bytes) == Some(flow))
            .count();
        end.ended.end.cause == Cause::TimedOut(TimeLimit::Retransmission) && unanswered >= MIN_RETRANSMISSIONS
    }

    /// The byte counts of both ends agree.
    fn bytes(&self, end: &EndOf, peer: &EndOf) -> Check {
        let (sent, lost, got) = (end.ended.bytes.sent, end.ended.end.lost, peer.ended.bytes.received);
        let show = || format!("{end:?}\n  {peer:?}");
        demand(sent <= got, || format!("{sent} bytes acknowledged, {got} received: {}", show()))?;
        demand(got <= sent + lost.unacked, || format!("{got} bytes received, not sent: {}", show()))
    }

    /// A packet on the wire explains the reported cause.
    fn explained(&self, end: &EndOf) -> Check {
        let Ended { end: why, opened, .. } = &*end.ended;
        demand(*opened <= why.at, || format!("it ends before it begins: {end:?}"))?;
        match why.cause {
            Cause::Reset => self.reset_by_peer(end),
            Cause::Refused if why.by == EndedBy::Peer => self.reset_by_peer(end),
            Cause::Unreachable(_) if why.rule == Rule::IcmpEndsAttempt => {
                demand(self.error_arrived(end, why.at), || format!("no ICMP error arrived: {end:?}"))
            }
            Cause::TimedOut(TimeLimit::Handshake) if why.rule == Rule::EndSynTimeout => {
                let established = self.peer(end).and_then(|peer| peer.ended.established);
                demand(established.is_none(), || format!("it was answered: {end:?}"))
            }
            // In SYN-RECEIVED the end has the time of the call, before the reset is sent.
            Cause::Aborted if ENDING.contains(&why.rule) && why.state != TcpState::SynReceived => {
                let (sent, ended) = (self.sent(end), self.ended(end));
                // Rate limits apply to answers, and `Rule::RstDataAfterClose` is one.
                let max =
                    if self.world.hosts[end.host].config.tcp.resend_plain_rst { 2 * ended } else { ended };
                let agrees =
                    (ended..=max).contains(&sent) || why.rule == Rule::RstDataAfterClose && sent < ended;
                demand(agrees, || format!("{sent} resets for {ended} ends: {end:?}"))
            }
            _ => Ok(()),
        }
    }

    fn error_arrived(&self, end: &EndOf, at: Instant) -> bool {
        let host = self.world.hosts[end.host].id;
        self.world.net.trace().packets.iter().any(|record| {
            let then = matches!(record.fate, Fate::Delivered { at: arrived, .. } if arrived == at);
            then && record.to == Some(host) && is_error(&record.bytes)
        })
    }

    /// The number of resets that its host sent by the rule of this end at that time, damaged ones included.
    fn sent(&self, end: &EndOf) -> usize {
        let (host, why) = (self.world.hosts[end.host].id, &end.ended.end);
        let mine = |record: &&PacketRecord| {
            let whole = matches!(record.kind, PacketKind::Sent | PacketKind::Damaged);
            whole && (record.from, record.sent, record.transmit.rule) == (host, why.at, Some(why.rule))
        };
        self.world.net.trace().packets.iter().filter(mine).count()
    }

    /// The number of connections of its host that ended by the same rule at the same time.
    fn ended(&self, end: &EndOf) -> usize {
        let same = |other: &&EndOf| {
            let (a, b) = (&other.ended.end, &end.ended.end);
            (other.host, a.at, a.rule) == (end.host, b.at, b.rule)
        };
        self.world.ends.iter().filter(same).count()
    }

    /// Whether a reset was sent by this host, in the life and with the addresses of this connection.
    fn is_of(&self, reset: &Reset<'_>, end: &EndOf) -> bool {
        let mine = reset.record.from == self.world.hosts[end.host].id;
        mine && reset.flow == end.ended.flow
    }

    /// The reset that ended a connection was sent by its peer, which reports it or has no state for it.
    fn reset_by_peer(&self, end: &EndOf) -> Check {
        let Ended { end: why, flow, .. } = &*end.ended;
        let arrived = |reset: &&Reset<'_>| {
            let by = Verdict::Ended(why.rule);
            let then = reset.record.fate == Fate::Delivered { at: why.at, verdict: Some(by) };
            then && back(reset.flow) == *flow
        };
        let Some(reset) = self.resets.iter().find(arrived) else {
            return Err(format!("no reset arrived: {end:?}"));
        };
        let rule = reset.record.transmit.rule.filter(|_| reset.record.kind != PacketKind::Forged);
        let Some(rule) = rule else {
            return Err(format!("nobody sent the reset {}: {end:?}", reset.tcp.flags));
        };
        let said = (why.trigger.map(|header| header.seq), why.inferred);
        demand(said.0 == Some(reset.tcp.seq), || format!("another reset than {said:?}: {end:?}"))?;
        let aborted = ENDING.contains(&rule);
        let wrong = match why.inferred {
            Some(LikelyCause::AbortedByPeer) => !aborted,
            Some(LikelyCause::UnknownConnection) => aborted && rule != Rule::RstDataAfterClose,
            _ => false,
        };
        demand(!wrong, || format!("a reset by {rule} is taken for another: {end:?}"))?;
        let Some(peer) = self.peer(end) else { return Ok(()) };
        let theirs = &peer.ended.end;
        let then = reset.record.sent;
        let agrees =
            if aborted { theirs.rule == rule } else { theirs.at <= then || peer.ended.opened >= then };
        demand(agrees, || format!("reset by {rule}, and the peer says otherwise: {end:?}\n  {peer:?}"))
    }

    /// A reset that ends a connection is reported by its sender.
    fn reported(&self, reset: &Reset<'_>) -> Check {
        let Some(rule) = reset.record.transmit.rule.filter(|rule| ENDING.contains(rule)) else {
            return Ok(());
        };
        let sent = reset.record.sent;
        let of = |end: &EndOf| {
            let why = &end.ended.end;
            // In SYN-RECEIVED the end has the time of the call, before the reset is sent.
            let then = why.at == sent || why.state == TcpState::SynReceived && why.at <= sent;
            self.is_of(reset, end) && why.rule == rule && then
        };
        let strange = matches!(reset.record.kind, PacketKind::Copy | PacketKind::Damaged);
        let reported = self.world.ends.iter().any(of);
        demand(reported || strange, || {
            format!("a reset by {rule} that nobody reports: {} {}", reset.flow, reset.tcp.flags)
        })
    }
}

fn is_error(bytes: &[u8]) -> bool {
    IpPacket::parse(bytes).is_ok_and(|packet| {
        matches!(packet.header.protocol, ip::ICMP | ip::ICMPV6)
            && matches!(Icmp::parse(&packet.header, packet.payload), Ok(Icmp::Error { .. }))
    })
}

/// An application without the bytes that it read.
fn brief(app: &Application) -> String {
    let Application { host, flow, written, end_of_stream, error, closed, profile, .. } = app;
    let read = app.read.len();
    format!(
        "host{host} {flow}: {written} written, {read} read, end of stream {end_of_stream}, \
         error {error:?}, closed {closed}, {profile:?}"
    )
}
