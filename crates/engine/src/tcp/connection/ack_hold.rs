//! Acknowledgment under application control: a relay acknowledges a stream when its other side has, so that the
//! peer's timers (retransmission, user timeout, keep-alive) measure the whole path and not the path to the relay.
//!
//! Data is read as usual, and the window is advertised as usual; only the ACK field does not advance. A
//! retransmission of data whose ACK is held back, or a keep-alive probe, is not answered; the application is notified.

use crate::event::Event;
use crate::icmp;
use crate::seq::RcvSeq;
use crate::shared::Shared;
use crate::tcp::connection::Connection;
use crate::tcp::connection::timers::Timer;
use crate::tcp::segment::Arrival;
use crate::{Instant, Rule};
use alloc::vec::Vec;
use core::net::IpAddr;
use lastack_wire::icmp::IcmpError;
use lastack_wire::ip::{self, IpHeader};
use lastack_wire::tcp::{self, TcpFlags, TcpHeader, TcpOptions};

/// How far the application allows acknowledgment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AckHold {
    /// The sequence number up to which it does.
    pub upto: RcvSeq,
    /// The peer has sent a segment that requires an answer, and got none.
    pub asked: bool,
}

impl Connection {
    /// From now on only what the application allows is acknowledged.
    pub(in crate::tcp) fn hold_acks(&mut self) {
        let upto = self.rcv.nxt;
        self.rcv.hold.get_or_insert(AckHold { upto, asked: false });
    }

    /// Allows acknowledgment of the first `octets` bytes of the stream; `fin`: and of the FIN, if these are all.
    pub(in crate::tcp) fn acknowledge(&mut self, shared: &Shared, now: Instant, bytes: u64, fin: bool) {
        let Some(hold) = &mut self.rcv.hold else { return };
        let missing = self.bytes.received.saturating_sub(bytes);
        // The sequence number of a received FIN.
        let held_fin = u32::from(!(self.state.may_receive() || fin && missing == 0));
        let upto = self.rcv.nxt - missing as u32 - held_fin;
        hold.upto = hold.upto.later(upto);
        let asked = hold.upto == self.rcv.nxt && core::mem::take(&mut hold.asked);
        let fresh = hold.upto - self.rcv.last_ack.earlier(hold.upto);
        // As without a hold: at once after a full segment; else it may ride on outgoing data, or on a FIN.
        let rides = self.state.may_receive() && !self.ack_policy.is_quick()
            || !self.state.may_receive() && self.ack_policy.last_data().is_some();
        if asked || fresh > self.rcv.full_segment(self.mss) || fresh > 0 && !rides {
            self.pending.ack = true;
        } else if fresh > 0 && !self.timers.is_running(Timer::DelayedAck) {
            self.timers.set(Timer::DelayedAck, now + shared.config.tcp.ack_delay);
        }
    }

    /// Ends the hold: all received data is acknowledged.
    pub(in crate::tcp) fn release_acks(&mut self) {
        if self.rcv.hold.take().is_some() {
            self.pending.ack |= self.rcv.last_ack != self.rcv.nxt;
        }
    }

    /// Whether this unacceptable segment requires an answer that is held back: it retransmits data, or is a keep-alive
    /// probe. The application decides on the answer.
    pub(in crate::tcp) fn leaves_answer_to_user(&mut self, shared: &mut Shared, seg: &Arrival<'_>) -> bool {
        let Some(hold) = &mut self.rcv.hold else { return false };
        let end = seg.seq() + seg.len();
        let waits = hold.upto != self.rcv.nxt && end.after(hold.upto);
        let probes = seg.len() <= 1 && seg.seq() + 1 == self.rcv.nxt;
        if !waits && !probes {
            return false;
        }
        if !hold.asked {
            hold.asked = true;
            shared.events.push(Event::AckWanted(self.id));
        }
        true
    }

    /// Sends the peer an ICMP error about its data in flight, as a router on the path would.
    pub(in crate::tcp) fn report_error(&self, shared: &mut Shared, error: IcmpError, from: Option<IpAddr>) {
        let (local, remote) = (self.flow.local, self.flow.remote);
        let header = TcpHeader {
            src_port: remote.port(),
            dst_port: local.port(),
            seq: self.rcv.ack().0,
            ack: self.snd.una.0,
            flags: TcpFlags::ACK,
            window: u16::MAX,
            urgent: 0,
            options: TcpOptions::default(),
        };
        let ip = IpHeader::new(remote.ip(), local.ip(), ip::TCP);
        let mut packet = Vec::new();
        ip.emit(header.len(), &mut packet);
        header.emit(&mut packet);
        tcp::fill_checksum(&ip, &mut packet[ip.len()..]);
        // An error that may not be sent (another family, a source that is not a host) is ignored.
        let _ = icmp::order_error(shared, &packet, error, from, Rule::IcmpIntercepted);
    }
}
