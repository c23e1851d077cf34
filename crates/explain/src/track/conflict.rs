//! Two different payloads for the same sequence numbers: one of them is not the sender's.

use crate::packet::{Pkt, ahead};
use crate::segment::Segment;

/// Max segments kept for one direction.
const RECENT: usize = 8;
/// Max bytes kept of each.
const PREFIX: usize = 16;
/// Number of bytes that have to be comparable, and of those that have to differ: a damaged byte is not another payload.
const COMPARED: usize = 8;
const DIFFERENT: usize = 4;
/// Numbers come again after 4 GB; within this time they do not.
const WITHIN: i64 = 10_000_000_000;

/// A segment with payload, as far as it is kept.
#[derive(Clone, Copy, Debug)]
struct Said {
    pkt: Pkt,
    prefix: [u8; PREFIX],
    kept: u8,
}

/// The last segments of one direction, and the first two that contradict each other.
#[derive(Clone, Debug, Default)]
pub struct Payloads {
    recent: Vec<Said>,
    next: u8,
    /// Two segments with different payload for the same numbers.
    pub conflict: Option<Box<[Pkt; 2]>>,
}

impl Payloads {
    pub(super) const NONE: Self = Self { recent: Vec::new(), next: 0, conflict: None };

    /// Records a segment with payload. `max`: the end of what the sender had sent before.
    pub(super) fn add(&mut self, segment: &Segment<'_>, pkt: &Pkt, max: Option<u32>) {
        let kept = segment.payload.len().min(PREFIX);
        if kept == 0 {
            return;
        }
        let mut said = Said { pkt: *pkt, prefix: [0; PREFIX], kept: kept as u8 };
        said.prefix[..kept].copy_from_slice(&segment.payload[..kept]);
        let again = max.is_some_and(|max| ahead(pkt.seq, max) < 0);
        if again
            && self.conflict.is_none()
            && let Some(other) = self.recent.iter().find(|old| contradict(old, &said))
            && segment.has_bad_checksum() != Some(true)
        {
            self.conflict = Some(Box::new([other.pkt, *pkt]));
        }
        if self.recent.len() < RECENT {
            if self.recent.is_empty() {
                self.recent.reserve_exact(1);
            }
            self.recent.push(said);
        } else {
            self.recent[usize::from(self.next)] = said;
            self.next = (self.next + 1) % RECENT as u8;
        }
    }

    /// Frees the memory of what is needed only while packets come.
    pub(super) fn shrink(&mut self) {
        self.recent = Vec::new();
    }
}

/// Whether two segments have different bytes for the same numbers.
fn contradict(old: &Said, new: &Said) -> bool {
    let offset = ahead(new.pkt.seq, old.pkt.seq);
    let (first, second) = if offset >= 0 { (old, new) } else { (new, old) };
    let skip = offset.unsigned_abs() as usize;
    let (a, b) = (&first.prefix[..first.kept.into()], &second.prefix[..second.kept.into()]);
    let Some(a) = a.get(skip..) else { return false };
    let compared = a.len().min(b.len());
    let different = a.iter().zip(b).filter(|(a, b)| a != b).count();
    compared >= COMPARED && different >= DIFFERENT && (new.pkt.time - old.pkt.time).abs() < WITHIN
}
