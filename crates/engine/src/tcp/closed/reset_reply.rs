//! RST replies to segments that belong to no usable connection (RFC 9293 section 3.5.2), as to those of a half-open
//! connection, of which this end has lost the state.

use crate::counters::TcpSent;
use crate::isn::Secret;
use crate::shared::Shared;
use crate::tcp::segment::{self, Arrival};
use crate::tcp::socket::settings::MAX_DSCP;
use crate::{DropReason, FourTuple, Instant, Rule, Verdict};
use lastack_wire::ip::IpHeader;
use lastack_wire::reset_reason::{self, ResetReason};
use lastack_wire::tcp::{TcpFlags, TcpHeader};

/// DSCP is copied from the segment being answered; ECN is not.
const DSCP: u8 = 0xfc;

/// Answers `seg` with RST (RFC 9293 section 3.10.7.1), unless it is one itself (`Rule::DropResetToReset`).
pub(crate) fn reply(shared: &mut Shared, seg: &Arrival<'_>, rule: Rule) -> Verdict {
    if seg.has(TcpFlags::RST) {
        return Verdict::Dropped(Rule::DropResetToReset.into());
    }
    if !shared.grants_reset() {
        shared.counters.tcp_suppressed_resets += 1;
        return Verdict::Dropped(Rule::LimitReplies.into());
    }
    let tcp = header(seg.tcp, seg.len());
    if shared.outbox.push_reset(ip_header(shared, seg.ip), &tcp, rule).is_err() {
        shared.counters.outbox_overflows += 1;
        return Verdict::Dropped(DropReason::NoSpace);
    }
    shared.counters.tcp_sent(TcpSent::Reset, 1);
    Verdict::Answered(rule)
}

/// `<SEQ=SEG.ACK><CTL=RST>`, or `<SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>` if there is no ACK.
#[inline]
fn header(seg: &TcpHeader, len: u32) -> TcpHeader {
    let acked = seg.flags.contains(TcpFlags::ACK);
    let fields = segment::Fields {
        seq: if acked { seg.ack } else { 0 },
        ack: (!acked).then(|| seg.seq.wrapping_add(len)),
        flags: TcpFlags::RST,
        ..segment::Fields::default()
    };
    fields.header_between(seg.dst_port, seg.src_port)
}

/// The reason in the payload of a reset that ends a connection. A malformed one is counted, and the reset is
/// accepted all the same (draft-ietf-tcpm-rst-diagnostic-payload section 4).
pub(crate) fn reason(shared: &mut Shared, seg: &Arrival<'_>) -> Option<ResetReason> {
    let said = ResetReason::from_payload(seg.payload);
    shared.counters.tcp_reasons_received += u64::from(said.is_some());
    shared.counters.tcp_reasons_invalid += u64::from(said.is_none() && reset_reason::has_magic(seg.payload));
    said
}

/// Sends a reset that is not triggered by an arrival, during a handshake.
pub(crate) fn push(shared: &mut Shared, flow: &FourTuple, tcp: TcpHeader, rule: Rule) {
    let ip = segment::ip_header(&shared.config, flow, shared.config.tcp.dscp & MAX_DSCP);
    match shared.outbox.push_reset(ip, &tcp, rule) {
        Ok(()) => shared.counters.tcp_sent(TcpSent::Reset, 1),
        Err(_) => shared.counters.outbox_overflows += 1,
    }
}

/// The header of a reply to `ip`: our hop limit, DSCP copied, ECN cleared, ID 0 with DF.
pub(crate) fn ip_header(shared: &Shared, ip: &IpHeader) -> IpHeader {
    let back = IpHeader::new(ip.dst, ip.src, ip.protocol);
    IpHeader { hop_limit: shared.config.hop_limit, traffic_class: ip.traffic_class & DSCP, ..back }
}

/// How often tokens are refilled, in nanoseconds.
const REFILL: u64 = 1_000_000_000;

/// The token bucket of resets that answer segments of no connection. Each refill is reduced by a random amount, so
/// that the tokens left do not reveal exactly how many others used.
///
/// Nor must they reveal whether those segments were answered, and so whether a connection exists (as the counter of
/// CVE-2016-5696 did): every segment takes a token, except one that its connection accepts and a reset, which is never answered.
#[derive(Debug, Default)]
pub(crate) struct ResetLimit {
    tokens: u32,
    refilled: Option<Instant>,
    /// When the last segment arrived, and whether it got a token, once it has asked for one.
    arrived: Instant,
    granted: Option<bool>,
}

impl ResetLimit {
    /// A segment has arrived.
    #[inline]
    pub fn arrived(&mut self, now: Instant) {
        (self.arrived, self.granted) = (now, None);
    }

    /// Whether the last segment to arrive gets a token. It takes one when it is first asked for.
    fn grants(&mut self, rate: Option<u32>, secret: &mut Secret) -> bool {
        let Some(rate) = rate else { return true };
        if let Some(granted) = self.granted {
            return granted;
        }
        let now = self.arrived;
        if self.refilled.is_none_or(|at| now.nanos_since(at) >= REFILL) {
            self.refilled = Some(now);
            self.tokens = rate - (secret.draw() % u64::from(rate / 8 + 1)) as u32;
        }
        let granted = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        self.granted = Some(granted);
        granted
    }
}

impl Shared {
    /// Whether a reset may answer the segment that has arrived (`Rule::LimitReplies`). The segment takes its token with
    /// this call, whether or not it is answered.
    fn grants_reset(&mut self) -> bool {
        let Self { resets, config, secret, .. } = self;
        resets.grants(config.tcp.reset_rate, secret)
    }

    /// The segment that has arrived was not accepted by its connection.
    #[inline]
    pub fn take_reset_token(&mut self, seg: &Arrival<'_>) {
        if self.config.tcp.reset_rate.is_some() && !seg.has(TcpFlags::RST) {
            self.grants_reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastack_wire::tcp::TcpOptions;

    fn seg(flags: TcpFlags) -> TcpHeader {
        TcpHeader {
            src_port: 1,
            dst_port: 2,
            seq: 1000,
            ack: 7000,
            flags,
            window: 100,
            urgent: 0,
            options: TcpOptions::default(),
        }
    }

    /// `Rule::DropResetToReset`, whatever rule asks for an answer.
    #[test]
    fn a_reset_is_never_answered() {
        let mut shared = Shared::new(crate::Config::new([]), [1; 16]);
        let ip = IpHeader::new([10, 0, 0, 2].into(), [10, 0, 0, 1].into(), lastack_wire::ip::TCP);
        for flags in [TcpFlags::RST, TcpFlags::RST | TcpFlags::ACK, TcpFlags::RST | TcpFlags::SYN] {
            let arrival = Arrival { ip: &ip, tcp: &seg(flags), payload: &[], segment_size: 0, hash: 0 };
            let verdict = reply(&mut shared, &arrival, Rule::RstNoConnection);
            assert_eq!(verdict, Verdict::Dropped(Rule::DropResetToReset.into()));
        }
        assert!(shared.outbox.is_empty());
    }

    /// `Rule::LimitReplies`
    #[test]
    fn the_limit_holds_and_recovers() {
        let (mut limit, mut secret) = (ResetLimit::default(), Secret::new([1; 16]));
        let mut count = |ms, accepted: bool| {
            let mut grants = |_: &i32| {
                limit.arrived(Instant::from_millis(ms));
                // Twice: it takes one token.
                accepted || limit.grants(Some(200), &mut secret) && limit.grants(Some(200), &mut secret)
            };
            (0..10_000).filter(&mut grants).count()
        };
        let (first, same) = (count(0, false), count(999, false));
        assert!((175..=200).contains(&first) && same == 0);
        assert_eq!(count(1000, true), 10_000, "what is accepted costs nothing");
        assert!((175..=200).contains(&count(1001, false)));
    }

    /// `Rule::RstNoListener` to `Rule::RstNoConnectionNoAck`.
    #[test]
    fn the_shape_follows_the_ack_flag() {
        for (flags, text, expected) in [
            (TcpFlags::SYN, 0, (0, 1001, "R.")),
            (TcpFlags::SYN, 10, (0, 1011, "R.")),
            (TcpFlags::SYN | TcpFlags::FIN, 0, (0, 1002, "R.")),
            (TcpFlags::empty(), 0, (0, 1000, "R.")),
            (TcpFlags::PSH, 5, (0, 1005, "R.")),
            (TcpFlags::ACK, 0, (7000, 0, "R")),
            (TcpFlags::SYN | TcpFlags::ACK, 0, (7000, 0, "R")),
            (TcpFlags::FIN | TcpFlags::ACK, 3, (7000, 0, "R")),
        ] {
            let controls =
                u32::from(flags.contains(TcpFlags::SYN)) + u32::from(flags.contains(TcpFlags::FIN));
            let reply = header(&seg(flags), text + controls);
            let shape = alloc::string::ToString::to_string(&reply.flags);
            assert_eq!((reply.seq, reply.ack, shape.as_str()), expected, "{flags}");
            assert_eq!((reply.src_port, reply.dst_port, reply.window, reply.len()), (2, 1, 0, 20));
        }
    }
}
