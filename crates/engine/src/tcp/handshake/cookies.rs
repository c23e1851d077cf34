//! SYN cookies (RFC 4987 section 3.6) against SYN floods: when the SYN queue is full, the state of the handshake is encoded
//! in the SYN|ACK, and none is kept.
//!
//! ISS = minute (6 bits) | MSS class (2 bits) | MAC (24 bits). Options are encoded in the low bits of our TSval, which
//! the peer echoes.

use crate::collections::lru::Aging;
use crate::counters::TcpSent;
use crate::end::FourTuple;
use crate::isn::Secret;
use crate::seq::SndSeq;
use crate::shared::Shared;
use crate::tcp::handshake::negotiate::{self, Offered};
use crate::tcp::handshake::syn::Syn;
use crate::tcp::segment::{Arrival, ip_header};
use crate::tcp::socket::settings::MAX_DSCP;
use crate::{DropReason, Instant, Rule, Verdict};
use core::time::Duration;
use lastack_wire::tcp::{TcpFlags, TcpOptions, Timestamps};

/// The MSS values that a cookie can encode; the peer's is rounded down.
const CLASSES: [u16; 4] = [536, 1220, 1300, 1440];

/// Number of minutes for which a cookie is valid, including the one it was made in.
const MINUTES: u64 = 2;

/// How long after the last cookie was sent ACKs are checked for cookies.
const RECENT: Duration = Duration::from_secs(60 * MINUTES);

/// The low bits of TSval: window scale (15: none) and SACK permitted.
const OPTION_BITS: u32 = 0x1f;
const NO_SCALE: u32 = 0xf;
const SACK_BIT: u32 = 0x10;

/// Max number of used cookies kept.
const MAX_SPENT: usize = 1024;

/// When the last cookie was sent, and which cookies have been used.
#[derive(Debug, Default)]
pub(crate) struct Cookies {
    last: Option<Instant>,
    /// Used cookies, by four-tuple and ISS, and the time until which each is valid. Otherwise a late duplicate of the
    /// ACK would reopen the connection after its end with the same sequence numbers, and mix two streams.
    spent: Aging<(FourTuple, u32), Instant>,
}

impl Cookies {
    /// Whether an ACK to a listener may carry a cookie.
    pub fn are_out(&self, now: Instant) -> bool {
        self.last.is_some_and(|at| now - at < RECENT)
    }

    /// The contents of a cookie, if it is valid and unused.
    pub fn check(&self, shared: &Shared, now: Instant, seg: &Arrival<'_>) -> Option<(SndSeq, TcpOptions)> {
        let (iss, options) = read(shared, now, seg)?;
        let spent = self.spent.get(&(seg.flow(), iss.0)).is_some_and(|until| *until > now);
        (!spent).then_some((iss, options))
    }

    /// Marks a cookie as used, so that it is no longer valid.
    pub fn spend(&mut self, now: Instant, seg: &Arrival<'_>, iss: SndSeq) {
        while self.spent.oldest().is_some_and(|until| *until <= now) {
            self.spent.pop_oldest();
        }
        if self.spent.len() >= MAX_SPENT {
            self.spent.pop_oldest();
        }
        self.spent.insert((seg.flow(), iss.0), now + RECENT);
    }

    /// Answers a SYN without keeping state.
    pub fn answer(&mut self, shared: &mut Shared, now: Instant, seg: &Arrival<'_>) -> Verdict {
        let flow = seg.flow();
        let class =
            CLASSES.iter().rposition(|mss| *mss <= seg.tcp.options.mss.unwrap_or(CLASSES[0])).unwrap_or(0);
        let iss = cookie(&shared.secret, &flow, seg.tcp.seq, minute(now), class);
        let clock = negotiate::timestamp(now, shared.secret.of_flow(&flow).timestamp_offset);
        let syn = Syn {
            flow: &flow,
            iss: SndSeq(iss),
            answers: Some((seg.seq(), &seg.tcp.options)),
            flags: TcpFlags::SYN,
            offered: &Offered::new(&shared.config.tcp),
            clock: marked(clock, &seg.tcp.options),
        };
        let mut tcp = syn.header(&shared.config);
        if tcp.options.timestamps.is_none() {
            // Without timestamps the agreed options cannot be recovered from the ACK.
            tcp.options.window_scale = None;
            tcp.options.sack_permitted = false;
        }
        let ip = ip_header(&shared.config, &flow, shared.config.tcp.dscp & MAX_DSCP);
        if shared.outbox.push_segment(ip, tcp, Some(Rule::LimitSynQueue)).is_err() {
            shared.counters.outbox_overflows += 1;
            return Verdict::Dropped(DropReason::NoSpace);
        }
        self.last = Some(now);
        shared.counters.tcp_sent(TcpSent::Control, 1);
        shared.counters.tcp_cookies_sent += 1;
        Verdict::Answered(Rule::LimitSynQueue)
    }
}

/// Decodes the ACK of a cookie: our ISS, and the options of the SYN, as far as they were encoded.
fn read(shared: &Shared, now: Instant, seg: &Arrival<'_>) -> Option<(SndSeq, TcpOptions)> {
    let flow = seg.flow();
    let (iss, irs) = (seg.tcp.ack.wrapping_sub(1), seg.tcp.seq.wrapping_sub(1));
    let class = (iss >> 24 & 3) as usize;
    let made = (0..MINUTES).filter_map(|age| minute(now).checked_sub(age));
    made.into_iter().find(|at| cookie(&shared.secret, &flow, irs, *at, class) == iss)?;
    let mut options = TcpOptions { mss: Some(CLASSES[class]), ..TcpOptions::default() };
    if let Some(timestamps) = seg.tcp.options.timestamps.filter(|_| shared.config.tcp.timestamps) {
        let marks = timestamps.ecr & OPTION_BITS;
        options.timestamps = Some(Timestamps { val: timestamps.val, ecr: 0 });
        options.window_scale = (marks & NO_SCALE != NO_SCALE).then_some((marks & NO_SCALE) as u8);
        options.sack_permitted = marks & SACK_BIT != 0;
    }
    Some((SndSeq(iss), options))
}

fn minute(now: Instant) -> u64 {
    now.as_millis() / 60_000
}

fn cookie(secret: &Secret, flow: &FourTuple, irs: u32, minute: u64, class: usize) -> u32 {
    let mac = secret.cookie(flow, irs, minute, class as u8) & 0x00ff_ffff;
    (minute as u32 & 0x3f) << 26 | (class as u32) << 24 | mac
}

/// TSval with the options in its low bits, never ahead of the clock.
fn marked(clock: u32, options: &TcpOptions) -> u32 {
    let scale = options.window_scale.map_or(NO_SCALE, |shift| u32::from(shift.min(14)));
    let sack = if options.sack_permitted { SACK_BIT } else { 0 };
    let marked = clock & !OPTION_BITS | scale | sack;
    if marked > clock { marked.wrapping_sub(OPTION_BITS + 1) } else { marked }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_never_show_a_time_to_come() {
        let options = TcpOptions { window_scale: Some(7), sack_permitted: true, ..TcpOptions::default() };
        for clock in [1000, 1023, 1024, 5000] {
            let marked = marked(clock, &options);
            assert!(marked <= clock && clock - marked <= 64, "{clock}: {marked}");
            assert_eq!((marked & NO_SCALE, marked & SACK_BIT), (7, SACK_BIT));
        }
    }
}
