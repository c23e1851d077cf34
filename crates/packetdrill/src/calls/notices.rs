//! The error queue of a stream: completion notifications of zero-copy sends (`MSG_ZEROCOPY`).

use super::Fd;
use crate::arguments::Control;
use crate::lastack::Lastack;
use crate::setup::IpVersion;

const SO_EE_ORIGIN_ZEROCOPY: i64 = 5;
const SO_EE_CODE_ZEROCOPY_COPIED: i64 = 1;

/// The zero-copy sends, and how many of their notifications were read.
#[derive(Debug, Default)]
pub struct Notices {
    /// For each call, the stream offset in bytes at its end.
    promised: Vec<u64>,
    fetched: usize,
}

impl Lastack {
    /// A call has sent data for which a notification is due.
    pub(super) fn promise_notice(&mut self, fd: i64) {
        let id = self.fds.get(&fd).and_then(Fd::connection);
        let info = id.and_then(|id| self.stack.tcp(id)).map(|tcp| tcp.info());
        let end = info.map_or(0, |info| info.bytes_sent + info.unsent as u64);
        if let Some(found) = self.fds.get_mut(&fd) {
            found.notices.promised.push(end);
        }
    }

    /// The number of calls that are complete: all their data was acknowledged, or never will be.
    fn noticed(&mut self, fd: i64) -> usize {
        let id = self.fds.get(&fd).and_then(Fd::connection);
        let info = id.and_then(|id| self.stack.tcp(id)).map(|tcp| tcp.info());
        let acked = info.map_or(u64::MAX, |info| info.bytes_sent - info.unacked as u64);
        let promised = self.fds.get(&fd).map_or(&[][..], |found| &found.notices.promised);
        promised.iter().take_while(|end| **end <= acked).count()
    }

    /// Whether a notification is pending.
    pub(super) fn has_notice(&mut self, fd: i64) -> bool {
        self.noticed(fd) > self.fds.get(&fd).map_or(0, |found| found.notices.fetched)
    }

    /// The number of notifications there ever were.
    pub(super) fn notices_total(&mut self, fd: i64) -> u64 {
        self.noticed(fd) as u64
    }

    /// The notification for all completed calls not reported yet, from first to last.
    pub(super) fn take_notice(&mut self, fd: i64) -> Option<Control> {
        let noticed = self.noticed(fd);
        let v4 = self.setup.version == IpVersion::V4;
        let notices = &mut self.fds.get_mut(&fd)?.notices;
        let first = std::mem::replace(&mut notices.fetched, noticed);
        let last = noticed.checked_sub(1).filter(|last| *last >= first)?;
        let data = [
            ("ee_errno", 0),
            ("ee_origin", SO_EE_ORIGIN_ZEROCOPY),
            ("ee_type", 0),
            ("ee_code", SO_EE_CODE_ZEROCOPY_COPIED),
            ("ee_info", first as i64),
            ("ee_data", last as i64),
        ];
        // SOL_IP and IP_RECVERR, SOL_IPV6 and IPV6_RECVERR.
        let (level, kind) = if v4 { (0, 11) } else { (41, 25) };
        Some(Control { level, kind, data: data.map(|(name, value)| (name.to_owned(), value)).to_vec() })
    }
}
