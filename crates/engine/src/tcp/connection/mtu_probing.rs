//! Path MTU probes of a connection (RFC 4821): when one is sent, and what its outcome means.

use crate::Instant;
use crate::seq::SndSeq;
use crate::shared::Shared;
use crate::tcp::CaState;
use crate::tcp::connection::Connection;
use crate::tcp::send::mtu_discovery::{MIN_WINDOW, MtuDiscovery, MtuProbing, Outcome};
use alloc::boxed::Box;

impl Connection {
    /// The path drops large packets: starts the search for the largest that passes. Without SACK the loss of a
    /// probe cannot be distinguished from other losses.
    pub(in crate::tcp) fn start_mtu_discovery(&mut self, shared: &Shared) {
        if self.negotiated.sack && shared.config.tcp.mtu_probing != MtuProbing::Off {
            self.search = Some(Box::new(MtuDiscovery::new(self.largest_size(shared))));
        }
    }

    fn largest_size(&self, shared: &Shared) -> u32 {
        self.negotiated.data_size(shared.config.mtu, self.flow.remote.ip())
    }

    /// The size of a probe to be sent now.
    pub(in crate::tcp) fn next_probe_size(&self, shared: &Shared, now: Instant, cwnd: u32) -> Option<u32> {
        let search = self.search.as_ref()?;
        let size = search.next_size(self.mss, search.size_limit(now, self.largest_size(shared)))?;
        let needed = MtuDiscovery::needed(self.mss, size) as i32;
        let ready = self.end_of_data().offset_from(self.snd.nxt) >= needed
            && self.snd.edge().offset_from(self.snd.nxt) >= needed
            && cwnd >= MIN_WINDOW * self.mss
            && self.recovery.ca_state() == CaState::Open;
        ready.then_some(size)
    }

    /// A probe was sent.
    #[cold]
    pub(in crate::tcp) fn on_mtu_probe_sent(&mut self, shared: &Shared, now: Instant, seq: SndSeq, len: u32) {
        let largest = self.largest_size(shared);
        if let Some(search) = &mut self.search {
            search.sent(now, search.size_limit(now, largest), seq, len);
        }
        let start = self.recovery.scoreboard.position(seq);
        self.recovery.probes_size(start..start + u64::from(len));
    }

    /// After an ACK: handles a probe that was acknowledged or lost.
    pub(in crate::tcp) fn on_mtu_probe_outcome(&mut self, shared: &mut Shared, now: Instant) {
        let lost = self.recovery.take_size_probe_lost();
        let Some(search) = &mut self.search else { return };
        match search.outcome(now, shared.config.tcp.mtu_probe_interval, lost, self.snd.una) {
            None => {}
            Some(Outcome::Lost) => shared.counters.tcp_mtu_probes_lost += 1,
            Some(Outcome::Passed(len)) if len > self.mss => {
                self.mss = len;
                let remote = self.flow.remote.ip();
                shared.paths.raise(remote, self.negotiated.packet_size(len, remote), now);
                shared.counters.tcp_mtu_probes_arrived += 1;
            }
            Some(Outcome::Passed(_)) => {}
        }
    }
}
