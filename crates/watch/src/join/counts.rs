//! How much the ends of a connection sent, left unread and left unacknowledged.

use lastack_causes::Cause;
use lastack_wire::TcpFlags;

use super::Join;
use super::connection::{Connection, FirstFin, Side};
use super::judge::{By, Opinion, by_role_of};
use crate::ended::Role;
use crate::event::Flow;

impl Join {
    /// Bytes that client and server sent.
    pub(super) fn bytes(
        connection: &Connection,
        flow: Flow,
        local: Role,
        opinion: &Opinion,
    ) -> [Option<u64>; 2] {
        let place = connection.place(flow);
        let (near, far) = (connection.sides[place].as_ref(), connection.sides[1 - place].as_ref());
        // The kernel clears the counts of a socket that is disconnected: what a list showed before may be too little.
        let info = |side: Option<&Side>| match side?.destroyed {
            Some((_, report)) => report.info.filter(|_| report.flow.is_complete()),
            None => side?.listed.and_then(|(_, report)| report.info),
        };
        // The kernel counts the SYN of the client and the FIN among what was acknowledged, and the FIN among what was
        // received.
        let fins = fins(near, far, opinion);
        let role_of = |place: usize| if place == 0 { local } else { local.other() };
        let received = |at: usize, side| {
            info(side).map(|info| info.bytes_received.saturating_sub(u64::from(fins[1 - at])))
        };
        let acked = |at: usize, side| {
            let extra = u64::from(role_of(at) == Role::Client) + u64::from(fins[at]);
            info(side).map(|info| info.bytes_acked.saturating_sub(extra))
        };
        // A FIN has a number, too.
        let by_reset: [Option<u64>; 2] = std::array::from_fn(|at| {
            by_reset(connection, flow)[at].map(|bytes| bytes.saturating_sub(fins[at].into()))
        });
        let sent = received(1, far).or(acked(0, near)).or(by_reset[0]);
        by_role_of(local, sent, received(0, near).or(acked(1, far)).or(by_reset[1]))
    }
}

/// Bytes that the two ends sent, by the numbers of the reset with which one of them aborted. Unknown beyond what the
/// numbers can distinguish.
fn by_reset(connection: &Connection, flow: Flow) -> [Option<u64>; 2] {
    let numbers = || {
        let (_, reset) = connection.wire.resets.first()?;
        let active = reset.flags.contains(TcpFlags::ACK) && reset.seq != 0;
        let (first, second) = (connection.wire.syn?.1, connection.wire.syn_ack?.1);
        let begun = [first, second].into_iter().find(|syn| syn.flow == reset.flow)?;
        let answer = [first, second].into_iter().find(|syn| syn.flow != reset.flow)?;
        let sent = reset.seq.wrapping_sub(begun.seq).wrapping_sub(1);
        let received = reset.ack.wrapping_sub(answer.seq).wrapping_sub(1);
        let plausible = |bytes: u32| (bytes < 1 << 31).then_some(u64::from(bytes));
        let (sent, received) = (plausible(sent)?, plausible(received)?);
        active.then_some(if reset.flow == flow {
            [Some(sent), Some(received)]
        } else {
            [Some(received), Some(sent)]
        })
    };
    numbers().unwrap_or_default()
}

/// Whether the near and the far end sent a FIN that the other end received.
fn fins(near: Option<&Side>, far: Option<&Side>, opinion: &Opinion) -> [bool; 2] {
    let fin = |side: Option<&Side>| side.and_then(|side| side.fin);
    let first = |ours: Option<FirstFin>, theirs: Option<FirstFin>| {
        ours == Some(FirstFin::Ours) || theirs == Some(FirstFin::Theirs)
    };
    let by = |by: By| opinion.by == by;
    let (near, far) = (first(fin(near), fin(far)), first(fin(far), fin(near)));
    match opinion.cause {
        Cause::Orderly => [true; 2],
        // It had closed, and data came later.
        Cause::DataAfterClose => [near || by(By::Local), far || by(By::Remote)],
        // It answered the peer's FIN.
        Cause::ResetForFin => [near || by(By::Remote), far || by(By::Local)],
        _ => [near, far],
    }
}

pub(super) fn unread(near: Option<&Side>, far: Option<&Side>, local: Role, cause: Cause) -> [Option<u32>; 2] {
    // With data unread the kernel would have sent a reset: what it counts then is the FIN.
    let unread = |side: &Side| side.unread().map(|unread| if cause == Cause::Orderly { 0 } else { unread });
    by_role_of(local, near.and_then(unread), far.and_then(unread))
}

pub(super) fn idle(side: &Side) -> Option<f64> {
    let info = side.report()?.info?;
    if side.established || info.bytes_received + info.bytes_acked > 0 {
        let last = side.idle(|info| info.last_data_recv.min(info.last_data_sent))?;
        // Without data ever, the kernel counts from its own start.
        let life = side.over_at()?.since(side.opened.unwrap_or_default()) / 1_000_000;
        return Some(last.min(life) as f64 / 1e3);
    }
    None
}

pub(super) fn unacked(side: &Side) -> Option<u32> {
    // In the handshake it is the SYN.
    side.destroyed
        .filter(|_| side.established || side.listed.is_some())
        .map(|(_, report)| report)
        .filter(|report| report.flow.is_complete())
        .map(|report| report.wqueue.saturating_sub(u32::from(side.fin_unacked())))
}
