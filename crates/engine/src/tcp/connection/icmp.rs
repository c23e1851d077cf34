//! ICMP errors about segments that TCP sent (RFC 9293 section 3.9.2.2, RFC 5927, RFC 1191): soft errors, hard errors
//! during the handshake, packet too big.

use crate::end::{Cause, EndedBy, FourTuple, Origin};
use crate::seq::SndSeq;
use crate::shared::Shared;
use crate::tcp::connection::Connection;
use crate::tcp::handshake::{Handshake, Phase};
use crate::tcp::table::{Slot, Socket, TcpTable};
use crate::{DropReason, Instant, Rule, Verdict};
use alloc::boxed::Box;
use core::net::IpAddr;
use lastack_wire::icmp::IcmpError;

/// The meaning of an ICMP error for TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// Source quench, redirect, reassembly timeout: ignored (`Rule::IcmpIgnored`).
    Nothing,
    /// Packet too big: the path MTU.
    TooBig(u32),
    /// Soft error: no route, possibly transient.
    Soft,
    /// Hard error: the peer or the network refuses.
    Hard,
}

fn meaning(error: IcmpError) -> Meaning {
    if let Some(mtu) = error.mtu() {
        return Meaning::TooBig(mtu);
    }
    match (error.v6, error.kind, error.code) {
        (false, 4 | 5, _) | (false, 11, 1) | (true, 2, _) => Meaning::Nothing,
        (false, 3, 0 | 1 | 5 | 11 | 12) | (false, 11, _) | (true, 1, 0 | 2 | 3) | (true, 3, _) => {
            Meaning::Soft
        }
        _ => Meaning::Hard,
    }
}

impl TcpTable {
    /// An ICMP error quotes a segment that we sent with this SEQ.
    pub fn icmp_error(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        flow: &FourTuple,
        seq: u32,
        error: IcmpError,
        from: IpAddr,
    ) -> Verdict {
        let Some(id) = self.live(flow) else {
            return Verdict::Dropped(DropReason::Unwanted);
        };
        let seq = SndSeq(seq);
        let verdict = match self.unparked_mut(id) {
            Socket::Opening(handshake) => handshake.icmp_error(shared, now, seq, error, from),
            Socket::Open(connection) => connection.icmp_error(shared, now, seq, error, from),
            Socket::Closed(_) => Verdict::Dropped(DropReason::Unwanted),
        };
        self.enqueue(id);
        self.after_step(shared, now, id);
        verdict
    }
}

impl Handshake {
    fn icmp_error(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        seq: SndSeq,
        error: IcmpError,
        from: IpAddr,
    ) -> Verdict {
        let passive = self.origin == Origin::Passive;
        if self.end.is_some()
            || self.phase == Phase::AwaitingDecision
            || (seq != self.iss && (passive || seq != self.iss + 1))
        {
            return Verdict::Dropped(Rule::IcmpNotInFlight.into());
        }
        match meaning(error) {
            Meaning::Nothing => Verdict::Dropped(DropReason::Unwanted),
            // A SYN|ACK fits any path, and an attacker would only have to guess its ISS.
            Meaning::TooBig(_) if passive => Verdict::Dropped(DropReason::Unwanted),
            Meaning::TooBig(mtu) => {
                shared.paths.lower(self.flow.remote.ip(), mtu as usize, now);
                Verdict::Accepted
            }
            // A listener's connection in SYN-RECEIVED is ended only by a hard error (RFC 5927 section 5.2).
            Meaning::Soft if passive => Verdict::Dropped(Rule::IcmpSoftError.into()),
            Meaning::Soft | Meaning::Hard => {
                self.finish(
                    Cause::Unreachable(error),
                    EndedBy::Network(from),
                    Rule::IcmpEndsAttempt,
                    None,
                    now,
                );
                Verdict::Ended(Rule::IcmpEndsAttempt)
            }
        }
    }
}

impl Connection {
    fn icmp_error(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        seq: SndSeq,
        error: IcmpError,
        from: IpAddr,
    ) -> Verdict {
        if self.fate.is_some() || seq.before(self.snd.una) || seq.after(self.snd.nxt) {
            return Verdict::Dropped(Rule::IcmpNotInFlight.into());
        }
        match meaning(error) {
            Meaning::Nothing => Verdict::Dropped(DropReason::Unwanted),
            Meaning::TooBig(_) if self.settings.may_fragment && !error.v6 => {
                Verdict::Dropped(DropReason::Unwanted)
            }
            Meaning::TooBig(mtu) => {
                shared.paths.lower(self.flow.remote.ip(), mtu as usize, now);
                self.fit_path(shared, now);
                Verdict::Accepted
            }
            // Hard errors are soft here: a forged one must not end a connection (`Rule::IcmpSoftError`).
            Meaning::Soft | Meaning::Hard => {
                self.soft_error = Some(Box::new((error, from)));
                Verdict::Dropped(Rule::IcmpSoftError.into())
            }
        }
    }

    /// Applies the path MTU; segments that were too big are retransmitted at once, in smaller segments and without a
    /// congestion control reaction.
    pub(in crate::tcp) fn fit_path(&mut self, shared: &Shared, now: Instant) {
        let remote = self.flow.remote.ip();
        let mss = self.negotiated.data_size(shared.paths.mtu(remote, shared.config.mtu, now), remote);
        if let Some(search) = &mut self.search {
            search.limit(mss.max(self.mss));
        }
        if mss < self.mss {
            self.mss = mss;
            self.recovery.resegment();
        }
    }
}

impl TcpTable {
    /// The link MTU has changed. Parked connections stay parked.
    pub fn fit_paths(&mut self, shared: &Shared) {
        let now = self.clock();
        let Self { entries, ready, .. } = self;
        for (id, entry) in entries.iter_mut() {
            match &mut entry.slot {
                Slot::Parked(parked) => parked.fit_path(shared, now),
                Slot::Socket(Socket::Open(connection)) => {
                    connection.fit_path(shared, now);
                    if !core::mem::replace(&mut entry.queued, true) {
                        ready.push_back(id);
                    }
                }
                Slot::Socket(Socket::Opening(_) | Socket::Closed(_)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_4_5() {
        use Meaning::{Hard, Nothing, Soft, TooBig};
        let error = |v6, kind, code| IcmpError { v6, kind, code, info: 1300 };
        for (v6, kind, code, expected) in [
            (false, 3, 0, Soft),
            (false, 3, 1, Soft),
            (false, 3, 2, Hard),
            (false, 3, 3, Hard),
            (false, 3, 4, TooBig(1300)),
            (false, 3, 13, Hard),
            (false, 4, 0, Nothing),
            (false, 5, 1, Nothing),
            (false, 11, 0, Soft),
            (false, 11, 1, Nothing),
            (false, 12, 0, Hard),
            (true, 1, 0, Soft),
            (true, 1, 1, Hard),
            (true, 1, 4, Hard),
            (true, 2, 0, TooBig(1300)),
            (true, 3, 0, Soft),
            (true, 4, 1, Hard),
        ] {
            assert_eq!(meaning(error(v6, kind, code)), expected, "{v6} {kind}/{code}");
        }
    }
}
