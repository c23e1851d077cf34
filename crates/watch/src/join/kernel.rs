//! The verdict of a socket that tracepoints saw to its end: the kernel's own reason, and the errno of the program.

use lastack_causes::{Cause, Severity};

use super::Join;
use super::connection::{ActiveReset, Connection, FirstFin, Side};
use super::counts::unacked;
use super::judge::{By, Opinion, Rank, first_fin};
use crate::event::{TcpState, Time};

/// Reported by the kernel: the remaining doubt is that two events were joined wrongly.
pub(super) const KERNEL: f32 = 0.97;

impl Join {
    pub(super) fn by_kernel(&self, connection: &Connection, side: &Side) -> Opinion {
        let from = side.close.map(|close| close.from);
        if let Some(reset) = &side.active_reset {
            return self.active(connection, side, reset);
        }
        match side.errno.map(|(_, errno)| errno) {
            Some(libc::ETIMEDOUT) => timed_out(side, from),
            Some(libc::ECONNABORTED) => administrative(side, None),
            Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EACCES | libc::ENOPROTOOPT) => {
                unreachable(connection, side)
            }
            Some(errno) if side.received_reset.is_none() && errno == libc::ECONNREFUSED => {
                unreachable(connection, side)
            }
            _ if side.received_reset.is_some() => {
                self.with_packets(self.reset_by_peer(connection, side, from), side.flow)
            }
            _ => without_report(connection, side, from),
        }
    }

    fn active(&self, connection: &Connection, side: &Side, reset: &ActiveReset) -> Opinion {
        let reason = reset.reason.as_deref().unwrap_or("unknown: older kernel");
        let because = |opinion: Opinion| {
            opinion.because("kernel", reason, format!("the kernel sent a reset with reason {reason}"))
        };
        let from = side.close.map(|close| close.from);
        because(match reason {
            "TCP_ABORT_ON_CLOSE" => self.close_unread(connection, side, KERNEL),
            "TCP_KEEPALIVE_TIMEOUT" => Opinion::new(Rank::Acted, Cause::KeepaliveTimeout, KERNEL, By::Local)
                .detail("the peer did not answer keep-alive probes")
                .rule("S91"),
            "TCP_ABORT_ON_MEMORY" => Opinion::new(Rank::Acted, Cause::Abort, 0.95, By::Local)
                .detail("the kernel lacked memory for its sockets (net.ipv4.tcp_mem, tcp_max_orphans)")
                .severity(Severity::Harmful),
            "TCP_ABORT_ON_LINGER" => Opinion::new(Rank::Acted, Cause::Abort, KERNEL, By::Local)
                .detail("the linger time was over and the peer had not closed"),
            "TCP_DISCONNECT_WITH_DATA" => Opinion::new(Rank::Acted, Cause::Abort, KERNEL, By::Local)
                .detail("disconnected with data in its queues")
                .rule("S64"),
            "TCP_STATE" | "unknown: older kernel" | "NOT_SPECIFIED" => {
                self.aborted(connection, side, reset, from)
            }
            _ if reason.starts_with("MPTCP_RST") => {
                Opinion::new(Rank::Acted, Cause::Mptcp, KERNEL, By::Local).detail(reason.to_owned())
            }
            _ => Opinion::new(Rank::Acted, Cause::Abort, 0.8, By::Local).detail(reason.to_owned()),
        })
    }

    /// TCP_STATE has several uses: the events around it distinguish them.
    fn aborted(
        &self,
        connection: &Connection,
        side: &Side,
        reset: &ActiveReset,
        from: Option<TcpState>,
    ) -> Opinion {
        if side.unread().is_some_and(|unread| unread > 0) && reset.reason.is_none() {
            return self.close_unread(connection, side, 0.9);
        }
        if reset.is_administrative() || side.errno.is_some_and(|(_, errno)| errno == libc::ECONNABORTED) {
            return administrative(side, reset.actor.as_ref());
        }
        if let Some(owner) = &side.listener_closed {
            return Opinion::new(Rank::Acted, Cause::ListenerClosed, KERNEL, By::Local)
                .detail("the listener was closed before the connection was accepted")
                .because("kernel", &owner.comm, "the same thread closed the listener just before")
                .rule("S90");
        }
        if from == Some(TcpState::CloseWait) {
            return Opinion::new(Rank::Acted, Cause::ResetForFin, 0.95, By::Remote)
                .detail("closed with linger 0 after the peer's FIN")
                .also(Cause::Abort);
        }
        Opinion::new(Rank::Acted, Cause::Abort, 0.95, By::Local).detail("closed with linger 0").rule("S64")
    }

    /// Closed with unread data, or the process ended with it.
    pub(super) fn close_unread(&self, connection: &Connection, side: &Side, confidence: f32) -> Opinion {
        let killed = self.killed(side);
        let unread = side.unread();
        let what = match unread {
            Some(1) => "1 byte unread".into(),
            Some(unread) => format!("{unread} bytes unread"),
            None => "data unread".into(),
        };
        let detail = match killed {
            Some(signal) => format!("its process was killed by {} with {what}", signal_name(signal)),
            None => format!("closed with {what}"),
        };
        let mut opinion =
            Opinion::new(Rank::Acted, Cause::CloseUnread, confidence, By::Local).detail(detail).rule("S60");
        if let Some(unread) = unread {
            opinion = opinion.because("unread", unread, format!("{unread} bytes were received and not read"));
        }
        if let Some(signal) = killed {
            opinion = opinion.because(
                "kernel",
                signal,
                format!("its process was ended by {}", signal_name(signal)),
            );
        }
        let is_client = self.side_is_client(connection, side);
        if killed.is_none() && is_client && unread.is_some_and(|unread| unread > 0) {
            // A client that stops reading an answer: the mechanism is the same.
            opinion = opinion.also(Cause::ClientCancelled);
        }
        opinion
    }

    fn side_is_client(&self, connection: &Connection, side: &Side) -> bool {
        side.client.unwrap_or_else(|| connection.wire.syn.is_some_and(|(_, syn)| syn.flow == side.flow))
    }

    /// A reset answered a segment: this host had no usable socket for it.
    pub(super) fn by_reply(&self, connection: &Connection) -> Option<(Time, crate::event::Flow, Opinion)> {
        let reply = connection.replies.first()?;
        let reason = reply.reason.as_deref().unwrap_or("unknown: older kernel");
        let side = connection.sides[connection.place(reply.flow)].as_ref();
        let syn_from_peer = connection.wire.syn.is_some_and(|(_, syn)| syn.flow == reply.flow.mirrored());
        let closed_first = side.and_then(|side| first_fin(connection, side)) == Some(FirstFin::Ours);
        let opinion = match reason {
            "TCP_TIMEWAIT_SOCKET" | "TCP_ABORT_ON_DATA" => data_after_close(side),
            _ if reply.state == Some(TcpState::Listen) => {
                Opinion::new(Rank::Answered, Cause::LostState, 0.8, By::Local)
                    .detail("a segment arrived for a connection that the listening host does not have")
                    .rule("S10")
            }
            _ if reply.state == Some(TcpState::SynSent) => {
                Opinion::new(Rank::Answered, Cause::PortReuse, 0.8, By::Remote).rule("S20")
            }
            _ if side.is_some_and(Side::is_over) && closed_first => data_after_close(side),
            // The end is explained by the socket itself.
            _ if side.is_some() => return None,
            _ if connection.wire.syn_ack.is_some() => {
                Opinion::new(Rank::Answered, Cause::LostState, 0.7, By::Local).rule("S4")
            }
            _ if syn_from_peer => refused_here(KERNEL),
            _ if connection.wire.count == 0 => {
                refused_here(0.8).or(Cause::LostState, 0.15, "whether the answered segment was a SYN")
            }
            _ => Opinion::new(Rank::Answered, Cause::LostState, 0.6, By::Local).rule("S4").or(
                Cause::Stray,
                0.3,
                "whether this host had the connection before the watch began",
            ),
        };
        let text = format!("the kernel answered a segment with a reset: {reason}");
        Some((reply.at, reply.flow, opinion.because("kernel", reason, text)))
    }
}

fn refused_here(confidence: f32) -> Opinion {
    let mut opinion = Opinion::new(Rank::Answered, Cause::Refused, confidence, By::Local)
        .detail("no socket listens at that port")
        .rule("S1");
    opinion.limits.push("there is no process: nothing listens".into());
    opinion
}

fn data_after_close(side: Option<&Side>) -> Opinion {
    let closed = if side.is_some_and(|side| side.closer.is_some()) { "closed" } else { "had closed" };
    Opinion::new(Rank::Answered, Cause::DataAfterClose, 0.95, By::Local)
        .detail(format!("{closed}; the peer sent data after that"))
        .rule("S80")
}

fn administrative(side: &Side, actor: Option<&super::Actor>) -> Opinion {
    let who = match actor {
        Some(actor) => format!("killed by {} (pid {}), as `ss -K` does", actor.comm, actor.pid),
        None => "killed by an administrator, as `ss -K` does".into(),
    };
    let opinion = Opinion::new(Rank::Acted, Cause::Abort, 0.95, By::Local).detail(who).rule("S103");
    match side.errno {
        Some((_, errno)) => opinion.because("kernel", errno, format!("the program gets error {errno}")),
        None => opinion,
    }
}

/// Ended by a timer, without a segment to the peer.
fn timed_out(side: &Side, from: Option<TcpState>) -> Opinion {
    let opinion = if from == Some(TcpState::SynSent) {
        Opinion::new(Rank::Acted, Cause::SilentDrop, KERNEL, By::Nobody).detail("no answer to the SYN")
    } else if is_zero_window(side) {
        Opinion::new(Rank::Acted, Cause::ZeroWindow, 0.95, By::Local)
            .detail("the peer's window stayed closed until the local side gave up")
            .rule("S92")
    } else {
        Opinion::new(Rank::Acted, Cause::DeliveryTimeout, KERNEL, By::Local)
            .detail(undelivered(side))
            .rule("S92")
    };
    opinion.because("kernel", libc::ETIMEDOUT, "the program gets ETIMEDOUT, and no reset was sent")
}

/// Whether the last that is known of the socket is a window of 0 that is being probed.
pub(super) fn is_zero_window(side: &Side) -> bool {
    let report = side.report();
    let shut = report.and_then(|report| report.info).is_some_and(|info| info.snd_wnd == Some(0));
    let probing = side.listed.is_some_and(|(_, report)| report.timer == 4);
    shut || probing && report.is_some_and(|report| report.info.is_some_and(|info| info.unacked == 0))
}

pub(super) fn undelivered(side: &Side) -> String {
    let report = side.destroyed.as_ref().map(|(_, report)| report).filter(|report| report.flow.is_complete());
    match report {
        Some(report) => {
            let retransmissions = report.info.map_or(0, |info| info.total_retrans);
            match unacked(side).unwrap_or(report.wqueue) {
                0 => format!("gave up: its FIN was not acknowledged after {retransmissions} retransmissions"),
                bytes => {
                    format!("gave up with {bytes} bytes undelivered after {retransmissions} retransmissions")
                }
            }
        }
        None => "gave up: nothing that it sent was acknowledged".into(),
    }
}

/// The network reports that the peer cannot be reached.
pub(super) fn unreachable(connection: &Connection, side: &Side) -> Opinion {
    let errno = side.errno.map_or(0, |(_, errno)| errno);
    let (cause, confidence) = match connection.wire.icmp {
        Some((_, report)) => (Cause::of_icmp(report.error.v6, report.error.kind, report.error.code), 0.97),
        None if errno == libc::ECONNREFUSED => (Cause::IcmpPortUnreachable, 0.9),
        None if errno == libc::ENETUNREACH => (Cause::IcmpNoRoute, 0.8),
        None if errno == libc::EACCES => (Cause::IcmpProhibited, 0.8),
        None => (Cause::IcmpHostUnreachable, 0.7),
    };
    let by = match connection.wire.icmp {
        Some((_, report)) if report.from == side.flow.remote.ip() => By::Remote,
        // No packet of it was seen although packets are: this host itself found out.
        _ => By::Path,
    };
    let detail = match connection.wire.icmp {
        Some((_, report)) => format!("{} reports: {}", report.from, report.error.describe()),
        None => String::new(),
    };
    Opinion::new(Rank::Affected, cause, confidence, by).detail(detail).because(
        "kernel",
        errno,
        format!("the program gets error {errno}"),
    )
}

/// Neither a reset nor an error was reported. The kernel reports no error of a socket that its program has closed, and a
/// kernel before 5.15 none at all: what is left in the send queue tells whether the peer acknowledged everything.
fn without_report(connection: &Connection, side: &Side, from: Option<TcpState>) -> Opinion {
    let fin_sent = matches!(from, Some(TcpState::FinWait1 | TcpState::Closing | TcpState::LastAck));
    let fin_missing = matches!(from, Some(TcpState::Established | TcpState::CloseWait));
    if let Some(opinion) = unacknowledged(side).filter(|_| fin_sent || fin_missing) {
        return if fin_sent {
            Opinion { confidence: 0.95, alternatives: Vec::new(), ..opinion }
        } else {
            opinion
        };
    }
    if fin_missing {
        let detail = "the socket left its state without a FIN; no reset and no error was reported";
        return Opinion::new(Rank::Affected, Cause::Abort, 0.3, By::Unknown).detail(detail);
    }
    orderly(connection, side, from)
}

/// A socket that was destroyed with data, or a FIN, that the peer has not acknowledged.
pub(super) fn unacknowledged(side: &Side) -> Option<Opinion> {
    let report = side.destroyed.map(|(_, report)| report);
    let known = side.established || side.listed.is_some();
    let wqueue = report.filter(|report| report.flow.is_complete() && known)?.wqueue;
    if wqueue == 0 {
        return None;
    }
    let (cause, detail) = if is_zero_window(side) {
        (Cause::ZeroWindow, "the peer's window stayed closed until the local side gave up".into())
    } else {
        (Cause::DeliveryTimeout, undelivered(side))
    };
    let opinion = Opinion::new(Rank::Acted, cause, 0.6, By::Local).detail(detail).rule("S92");
    Some(
        opinion.because("queue", wqueue, "the socket was destroyed before the peer had acknowledged all").or(
            Cause::Abort,
            0.3,
            "the packets (CAP_NET_RAW)",
        ),
    )
}

/// Nothing but FINs, or a connect that was given up.
fn orderly(connection: &Connection, side: &Side, from: Option<TcpState>) -> Opinion {
    if from == Some(TcpState::SynSent) {
        return Opinion::new(Rank::Acted, Cause::ConnectCancelled, 0.95, By::Local)
            .detail("closed before the peer had answered the SYN");
    }
    let (by, confidence) = match first_fin(connection, side) {
        Some(FirstFin::Ours) => (By::Local, 0.97),
        Some(FirstFin::Theirs) => (By::Remote, 0.97),
        None => (By::Unknown, 0.5),
    };
    let mut opinion = Opinion::new(Rank::Orderly, Cause::Orderly, KERNEL, by);
    opinion.by_confidence = confidence;
    opinion
}

/// `SIGKILL` and its like.
pub(super) fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal)
        .map_or_else(|_| format!("signal {signal}"), |signal| signal.as_str().to_owned())
}

/// A signal that no user sends to end a program in the usual way: of a fault, or one that cannot be caught.
pub(super) fn is_crash(signal: i32) -> bool {
    use libc::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSYS, SIGTRAP, SIGXCPU, SIGXFSZ};
    [SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSYS, SIGTRAP, SIGXCPU, SIGXFSZ].contains(&signal)
}
