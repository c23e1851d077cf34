//! The verdict of a socket whose end no tracepoint saw: from the reports of sock_diag and the kernel's counters.
//!
//! The counters do not show which connection they count. Where several connections ended between two reads, it is a guess
//! among them, and the confidence is low.

use lastack_causes::Cause;

use super::Join;
use super::connection::{Connection, FirstFin, Side};
use super::judge::{By, Opinion, Rank, first_fin};
use super::kernel::{is_zero_window, unacknowledged, undelivered};
use super::ledger::Claim;
use crate::ended::Role;
use crate::event::{Counters, SocketReport, Source, TcpState, Time};

/// The counters are read soon after an end; its cause is at most this long before, in milliseconds.
const BEFORE: u64 = 400;
const AFTER: u64 = 400;

/// Confidence of a counter, if it can only be about this connection, and if not.
const ALONE: f32 = 0.9;
const SHARED: f32 = 0.6;

type Field = fn(&mut Counters) -> &mut u64;

const ABORT_ON_DATA: Field = |counters| &mut counters.abort_on_data;
const ABORT_ON_TIMEOUT: Field = |counters| &mut counters.abort_on_timeout;
const ATTEMPT_FAILS: Field = |counters| &mut counters.attempt_fails;
const ESTAB_RESETS: Field = |counters| &mut counters.estab_resets;
const OUT_RESETS: Field = |counters| &mut counters.out_resets;

/// When a counter may have increased for an end at this time.
#[derive(Clone, Copy)]
struct Window {
    at: Time,
    since: Time,
    until: Time,
}

const fn confidence(claim: Claim) -> f32 {
    if claim.shared { SHARED } else { ALONE }
}

impl Join {
    pub(super) fn by_inference(&mut self, connection: &Connection, side: &Side) -> Opinion {
        let at = side.over_at().unwrap_or_default();
        // A socket that vanished did so after it was seen.
        let seen = side.listed.map(|(listed, _)| listed).or(side.opened);
        let since = side.vanished.map_or(at, |vanished| seen.unwrap_or(vanished));
        let window = Window {
            at,
            since: Time(since.0.saturating_sub(BEFORE * 1_000_000)),
            until: at.plus_millis(AFTER),
        };
        let destroyed = side.destroyed.map(|(_, report)| report);
        let never_established =
            destroyed.map_or(!side.established, |report| was_never_established(side, &report, at));
        let opinion = if never_established {
            // The call itself may be long ago: the program keeps the socket of a failed attempt.
            let since = side.opened.filter(|_| side.sources.contains(&Source::Calls)).unwrap_or(window.since);
            let window = Window { since: since.min(window.since), ..window };
            Some(self.failed_attempt(side, window))
        } else if destroyed.is_some_and(|report| !report.flow.is_complete()) {
            self.disconnected(side, window)
        } else {
            self.ended_established(connection, side, window)
        };
        let mut opinion = opinion.unwrap_or_else(|| self.unexplained(connection, side));
        opinion.by_confidence = opinion.by_confidence.min(opinion.confidence.max(0.5));
        opinion
            .limits
            .push("the cause is inferred from counters: the kernel's own reason needs tracepoints".into());
        opinion
    }

    /// Whether the counters show a failed attempt to connect between these times.
    pub(super) fn attempt_failed(&self, since: Time, until: Time) -> bool {
        let until = until.plus_millis(AFTER);
        self.ledger.has(ATTEMPT_FAILS, since, until) || self.ledger.has(ABORT_ON_TIMEOUT, since, until)
    }

    /// Books the count of a reset for a socket that vanished while its program holds it: nothing else ends such a socket.
    /// One that was closed at that time cannot take it any more.
    pub(super) fn book_reset(&mut self, id: super::Id) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        for side in connection.sides.iter_mut().flatten() {
            let held = side.listed.filter(|(_, report)| report.inode != 0 && side.destroyed.is_none());
            if let (Some(vanished), Some((listed, _)), None) = (side.vanished, held, side.reset) {
                let since = Time(listed.0.saturating_sub(BEFORE * 1_000_000));
                side.reset = self.ledger.claim(ESTAB_RESETS, vanished, (since, vanished.plus_millis(AFTER)));
            }
        }
    }

    fn claim(&mut self, field: Field, window: Window) -> Option<Claim> {
        self.ledger.claim(field, window.at, (window.since, window.until))
    }

    /// The other end of this connection is on this host, and aborted it: that explains one more increase.
    pub(super) fn explained_by_peer(&mut self, side: &Side) {
        let at = side.over_at().unwrap_or_default();
        let since = Time(at.0.saturating_sub(BEFORE * 1_000_000));
        let _explained = self.claim(ESTAB_RESETS, Window { at, since, until: at.plus_millis(AFTER) });
    }

    /// Whether the other end is on this host and had closed: its FIN was acknowledged, or its socket was destroyed before
    /// this one. A reset of its own would have ended both at once.
    fn peer_went_before(connection: &Connection, side: &Side, at: Time, is_client: Option<bool>) -> bool {
        let other = connection.sides[1 - connection.place(side.flow)].as_ref();
        let acked = |other: &Side| other.fin_acked(!is_client?);
        other.and_then(Side::over_at).is_some_and(|gone| gone.plus_millis(1) < at)
            || other.and_then(acked) == Some(true)
    }

    /// A socket that was never connected.
    fn failed_attempt(&mut self, side: &Side, window: Window) -> Opinion {
        if let Some(claim) = self.claim(ABORT_ON_TIMEOUT, window) {
            let _failed = self.claim(ATTEMPT_FAILS, window);
            let opinion = Opinion::new(Rank::Acted, Cause::SilentDrop, confidence(claim), By::Nobody);
            return counted(opinion.detail("no answer to the SYN"), "TCPAbortOnTimeout");
        }
        let refused = |confidence: f32| {
            Opinion::new(Rank::Affected, Cause::Refused, confidence, By::Remote)
                .detail("nothing accepts connections at that port")
                .or(Cause::IcmpPortUnreachable, 0.05, "the packets (CAP_NET_RAW)")
                .or(Cause::FirewallReject, 0.05, "the packets (CAP_NET_RAW)")
                .rule("S1")
        };
        // The kernel clears the addresses of a socket whose connect() has failed.
        let cleared = side.destroyed.is_some_and(|(_, report)| !report.flow.is_complete());
        match self.claim(ATTEMPT_FAILS, window) {
            Some(claim) => {
                let confidence = if cleared { ALONE } else { confidence(claim) };
                counted(refused(confidence.min(0.85)), "AttemptFails")
            }
            None if cleared => refused(0.5),
            None => Opinion::new(Rank::Acted, Cause::ConnectCancelled, 0.7, By::Local)
                .detail("closed before the peer had answered the SYN")
                .or(Cause::Refused, 0.1, "tracepoints (root)"),
        }
    }

    /// The kernel cleared the addresses: linger 0, or the close of a listener.
    fn disconnected(&mut self, side: &Side, window: Window) -> Option<Opinion> {
        // A socket without a file was never accepted: no program can have closed it.
        let never_accepted = side.listed.is_some_and(|(_, report)| report.inode == 0);
        let aborted = if never_accepted { None } else { self.claim(ABORT_ON_DATA, window) };
        let _established = self.claim(ESTAB_RESETS, window);
        let _sent = self.claim(OUT_RESETS, window);
        if let Some(claim) = aborted {
            let opinion = Opinion::new(Rank::Acted, Cause::Abort, confidence(claim), By::Local)
                .detail("closed with linger 0")
                .rule("S64");
            return Some(counted(opinion, "TCPAbortOnData"));
        }
        Some(if never_accepted {
            let text = "the socket had no file: no program had accepted it";
            Opinion::new(Rank::Acted, Cause::ListenerClosed, 0.85, By::Local)
                .detail("the listener was closed before the connection was accepted")
                .because("handshake", "inode 0", text)
                .rule("S90")
        } else {
            Opinion::new(Rank::Acted, Cause::Abort, 0.6, By::Local)
                .detail("the local side disconnected the socket")
                .or(Cause::ListenerClosed, 0.25, "tracepoints (root)")
        })
    }

    fn ended_established(&mut self, connection: &Connection, side: &Side, window: Window) -> Option<Opinion> {
        let shared = self.ledger.is_shared(window.at);
        let queued = side.destroyed.map_or(0, |(_, report)| report.rqueue);
        let (role, known) = self.role(connection, side.flow);
        let fin_acked = side.fin_acked(role == Role::Client).filter(|_| known);
        // One byte may be a FIN. A socket that has closed by a FIN of its own did not abort for it, and one that has not
        // did not close in order.
        let queued = match (queued, fin_acked) {
            (1, Some(true)) => 0,
            (1, Some(false)) => 2,
            _ => queued,
        };
        if side.unread().is_some_and(|unread| unread > 0)
            && let Some(claim) = self.ledger.claim_unread(queued, window.at, (window.since, window.until))
        {
            let _established = self.claim(ESTAB_RESETS, window);
            let _sent = self.claim(OUT_RESETS, window);
            return Some(counted(self.close_unread(connection, side, confidence(claim)), "TCPAbortOnClose"));
        }
        if let Some(claim) = self.claim(ABORT_ON_TIMEOUT, window) {
            if side.reset.is_none() {
                let _established = self.claim(ESTAB_RESETS, window);
            }
            return Some(counted(timed_out(side, claim), "TCPAbortOnTimeout"));
        }
        // The kernel counts a reset only of a socket that has not sent its FIN.
        if side.fin == Some(FirstFin::Ours) || fin_acked == Some(true) {
            return None;
        }
        // One of several connections was reset: which one is unknown.
        let claim = match side.reset {
            Some(claim) => claim,
            None if shared => return None,
            None => self.claim(ESTAB_RESETS, window)?,
        };
        let state = side.listed.map(|(_, report)| report.state);
        let peer_closed = matches!(first_fin(connection, side), Some(FirstFin::Theirs))
            || matches!(state, Some(TcpState::CloseWait | TcpState::LastAck))
            || Self::peer_went_before(connection, side, window.at, known.then_some(role == Role::Client));
        let state = if peer_closed { Some(TcpState::CloseWait) } else { state };
        // A reset of ours that no other end explains: the socket was killed. But a peer on this host that has closed
        // answers data by a reset of this host, too.
        let sent = self.claim(OUT_RESETS, window).is_some();
        let ours = sent && !(peer_closed && self.is_local(side.flow.remote.ip()));
        let opinion = if ours {
            Opinion::new(Rank::Acted, Cause::Abort, confidence(claim).min(0.7), By::Local)
                .detail("this host aborted the connection, as `ss -K` does")
                .or(Cause::ListenerClosed, 0.1, "tracepoints (root)")
                .rule("S103")
        } else {
            let mut opinion = self.with_packets(self.reset_by_peer(connection, side, state), side.flow);
            opinion.confidence = opinion.confidence.min(confidence(claim));
            opinion
        };
        Some(counted(opinion, "EstabResets"))
    }

    /// There is no evidence of anything but FINs.
    fn unexplained(&self, connection: &Connection, side: &Side) -> Opinion {
        let (by, by_confidence) = match first_fin(connection, side) {
            Some(FirstFin::Ours) => (By::Local, 0.9),
            Some(FirstFin::Theirs) => (By::Remote, 0.9),
            None => (By::Unknown, 0.5),
        };
        let (role, known) = self.role(connection, side.flow);
        let acked = known && side.fin_acked(role == Role::Client) == Some(true);
        if let Some(opinion) = unacknowledged(side) {
            return opinion;
        }
        let mut opinion = if side.destroyed.is_some() {
            Opinion::new(Rank::Orderly, Cause::Orderly, if acked { ALONE } else { 0.8 }, by)
        } else {
            Opinion::new(Rank::Affected, Cause::Abort, 0.3, By::Unknown)
                .detail("the socket was closed; the reason is unknown")
        };
        opinion.by_confidence = by_confidence;
        opinion
    }
}

fn counted(opinion: Opinion, counter: &str) -> Opinion {
    opinion.because("kernel", counter, format!("the counter {counter} increased at that time"))
}

fn timed_out(side: &Side, claim: Claim) -> Opinion {
    let confidence = confidence(claim);
    let waiting = side.report().is_some_and(|report| report.wqueue > 0 && report.flow.is_complete());
    let timer = side.listed.map_or(0, |(_, report)| report.timer);
    if is_zero_window(side) {
        Opinion::new(Rank::Acted, Cause::ZeroWindow, confidence, By::Local)
            .detail("the peer's window stayed closed until the local side gave up")
            .rule("S92")
    } else if waiting || timer == 1 {
        Opinion::new(Rank::Acted, Cause::DeliveryTimeout, confidence, By::Local)
            .detail(undelivered(side))
            .rule("S92")
    } else {
        Opinion::new(Rank::Acted, Cause::KeepaliveTimeout, confidence, By::Local)
            .detail("the peer did not answer keep-alive probes")
            .or(Cause::DeliveryTimeout, 0.08, "tracepoints (root)")
            .rule("S91")
    }
}

/// Neither was an acknowledgment ever received, nor is anything else known of a connection. The kernel counts the time
/// since the last acknowledgment from its own start if there was none.
fn was_never_established(side: &Side, report: &SocketReport, at: Time) -> bool {
    if side.established || side.listed.is_some_and(|(_, report)| report.state != TcpState::SynSent) {
        return false;
    }
    let Some(info) = report.info else { return false };
    let uptime = at.0 / 1_000_000;
    let since_ack = u64::from(info.last_ack_recv);
    // The kernel's jiffies begin five minutes before its clock does, so that their overflow comes early.
    let never = since_ack > uptime || since_ack.abs_diff(uptime.saturating_sub(300_000)) < 2000;
    let nothing = info.bytes_acked == 0 && info.bytes_received == 0;
    nothing && (never || info.rtt == 0 && report.flow.is_complete())
}
