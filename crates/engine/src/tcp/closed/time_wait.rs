//! One connection in TIME-WAIT for 2 MSL (RFC 9293 section 3.6.1), in a few words of memory. A RST does not end it
//! (TIME-WAIT assassination, RFC 1337); a SYN with a newer timestamp may reuse it (RFC 6191).

use crate::counters::TcpSent;
use crate::seq::{RcvSeq, SndSeq};
use crate::shared::Shared;
use crate::tcp::connection::Connection;
use crate::tcp::handshake::negotiate;
use crate::tcp::segment::{self, Arrival, ip_header};
use crate::{DropReason, FourTuple, Instant, Rule, Verdict};
use lastack_wire::tcp::{TcpFlags, TcpHeader, TcpOptions, Timestamps};

/// What is kept of a connection for 2 MSL.
#[derive(Debug)]
pub(crate) struct TimeWait {
    snd_nxt: SndSeq,
    rcv_nxt: RcvSeq,
    rcv_wnd: u32,
    rcv_shift: u8,
    /// TS.Recent, and the offset of our timestamp clock.
    timestamps: Option<(u32, u32)>,
    dscp: u8,
    last_ack: Option<Instant>,
    pub deadline: Instant,
}

/// The outcome of an arrival in TIME-WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    Done(Verdict),
    /// A new connection may be opened, with an ISS after this number (RFC 6191).
    Reopen(SndSeq),
}

impl TimeWait {
    pub fn new(shared: &Shared, now: Instant, connection: &Connection) -> Self {
        Self {
            snd_nxt: connection.snd.nxt,
            rcv_nxt: connection.rcv.nxt,
            rcv_wnd: connection.rcv.wnd(),
            rcv_shift: connection.rcv.shift,
            timestamps: connection
                .negotiated
                .timestamps
                .then_some((connection.rcv.ts_recent, connection.ts_offset)),
            dscp: connection.settings.dscp,
            last_ack: None,
            deadline: now + shared.config.tcp.time_wait,
        }
    }

    /// An entry that expires at this time.
    #[cfg(test)]
    pub fn until(deadline: Instant) -> Self {
        Self {
            snd_nxt: SndSeq(0),
            rcv_nxt: RcvSeq(0),
            rcv_wnd: 0,
            rcv_shift: 0,
            timestamps: None,
            dscp: 0,
            last_ack: None,
            deadline,
        }
    }

    /// A segment of the old connection has arrived (RFC 1337, RFC 6191).
    pub fn arrives(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) -> Waiting {
        if seg.has(TcpFlags::RST) {
            return Waiting::Done(Verdict::Dropped(Rule::DropRstInTimeWait.into()));
        }
        if seg.has(TcpFlags::SYN) {
            if !seg.has(TcpFlags::ACK | TcpFlags::FIN) && self.may_reopen(seg) {
                return Waiting::Reopen(self.snd_nxt);
            }
            return Waiting::Done(self.answer(shared, now, seg)); // the 2 MSL timer is not restarted
        }
        if !seg.has(TcpFlags::ACK) && !seg.has(TcpFlags::FIN) {
            return Waiting::Done(Verdict::Dropped(Rule::DropInTimeWait.into()));
        }
        if !self.acknowledges_only_sent_data(seg) {
            return Waiting::Done(Verdict::Dropped(Rule::DropInTimeWait.into()));
        }
        if self.is_expected(seg) {
            self.deadline = now + shared.config.tcp.time_wait;
        }
        if seg.len() == 0 && seg.seq() == self.rcv_nxt {
            return Waiting::Done(Verdict::Dropped(Rule::DropInTimeWait.into()));
        }
        Waiting::Done(self.answer(shared, now, seg))
    }

    /// Whether the segment is the peer's retransmitted FIN, or has SEQ = RCV.NXT: only these restart the 2 MSL timer
    /// (RFC 9293 section 3.10.7.4). (Linux checks no SEQ, so any host with the four-tuple could keep the entry for ever.)
    fn is_expected(&self, seg: &Arrival<'_>) -> bool {
        seg.seq() == self.rcv_nxt || seg.has(TcpFlags::FIN) && seg.seq() + seg.len() == self.rcv_nxt
    }

    /// Whether the segment acknowledges nothing that we never sent. (Linux does not check.)
    fn acknowledges_only_sent_data(&self, seg: &Arrival<'_>) -> bool {
        !seg.has(TcpFlags::ACK) || !seg.ack().after(self.snd_nxt)
    }

    /// RFC 6191: a newer timestamp, or without timestamps a later sequence number.
    fn may_reopen(&self, seg: &Arrival<'_>) -> bool {
        match (self.timestamps, seg.tcp.options.timestamps) {
            (Some((recent, _)), Some(ts)) if ts.val != recent => (ts.val.wrapping_sub(recent) as i32) > 0,
            _ => seg.seq().after(self.rcv_nxt),
        }
    }

    /// Acknowledges a segment. Answers to bare ACKs and SYNs are rate-limited: they could form an ACK loop.
    pub fn answer(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) -> Verdict {
        if seg.len() == 0 || seg.has(TcpFlags::SYN) {
            if self.last_ack.is_some_and(|last| now - last < shared.config.tcp.challenge_interval) {
                shared.counters.tcp_suppressed_acks += 1;
                return Verdict::Dropped(Rule::AckInTimeWait.into());
            }
            self.last_ack = Some(now);
        }
        if self.acknowledge(shared, now, &seg.flow()) {
            Verdict::Answered(Rule::AckInTimeWait)
        } else {
            Verdict::Dropped(DropReason::NoSpace)
        }
    }

    /// Sends an ACK; `false` if the outbox is full, so that the peer has to retransmit.
    pub fn acknowledge(&self, shared: &mut Shared, now: Instant, flow: &FourTuple) -> bool {
        let tcp = self.ack(now, flow);
        let ip = ip_header(&shared.config, flow, self.dscp);
        let sent = shared.outbox.push_segment(ip, tcp, None).is_ok();
        if sent {
            shared.counters.tcp_sent(TcpSent::Control, 1);
        } else {
            shared.counters.outbox_overflows += 1;
        }
        sent
    }

    fn ack(&self, now: Instant, flow: &FourTuple) -> TcpHeader {
        let timestamps =
            self.timestamps.map(|(ecr, offset)| Timestamps { val: negotiate::timestamp(now, offset), ecr });
        let fields = segment::Fields {
            seq: self.snd_nxt.0,
            ack: Some(self.rcv_nxt.0),
            flags: TcpFlags::empty(),
            window: (self.rcv_wnd >> self.rcv_shift).min(u32::from(u16::MAX)) as u16,
            options: TcpOptions { timestamps, ..TcpOptions::default() },
        };
        fields.header(flow)
    }
}
