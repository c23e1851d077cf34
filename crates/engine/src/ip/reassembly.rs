//! Reassembly of fragments (RFC 791 section 3.2, RFC 8200 section 4.5, RFC 5722).

use crate::collections::lru::Aging;
use crate::icmp::{self, Icmp};
use crate::shared::Shared;
use crate::steps;
use crate::{DropReason, Instant, Rule};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;
use lastack_wire::Malformed;
use lastack_wire::checksum::Sum;
use lastack_wire::icmp::IcmpError;
use lastack_wire::ip::{Fragment, IpPacket};

/// Memory overhead of an incomplete packet, in bytes.
const PACKET_COST: usize = 640;
/// Memory overhead of a fragment, in bytes.
const FRAGMENT_COST: usize = 64;
/// The max value of the IP length field.
const MAX_LEN: usize = 65_535;
const HEADER_V6: usize = 40;
const FRAGMENT_HEADER_V6: usize = 8;

/// Incomplete packets, oldest first.
///
/// If there is no room for a fragment the oldest packets are evicted, so that a flood of fragments
/// does not block reassembly until its timeout.
#[derive(Debug, Default)]
pub(crate) struct Reassembly {
    packets: Aging<Key, Partial>,
    /// Bytes held, with overhead.
    held: usize,
}

/// The header fields that identify the fragments of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    src: IpAddr,
    dst: IpAddr,
    /// IPv4 only; in IPv6 the protocol of the first fragment applies.
    protocol: Option<u8>,
    ident: u32,
}

#[derive(Debug)]
struct Partial {
    deadline: Instant,
    /// The headers of the fragment at offset 0, once received.
    header: Option<Header>,
    pieces: BTreeMap<u32, Vec<u8>>,
    /// Bytes in `pieces`.
    bytes: u32,
    /// Length of the whole, once the last fragment was received.
    end: Option<u32>,
    held: usize,
    /// Fragments overlapped: later ones are dropped too (RFC 5722 section 4).
    discarded: bool,
}

#[derive(Debug)]
struct Header {
    bytes: Vec<u8>,
    next_header_at: usize,
}

impl Reassembly {
    /// Adds a fragment. `Ok`: it completes this packet.
    pub fn add(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        packet: &[u8],
        parsed: &IpPacket<'_>,
    ) -> Result<Vec<u8>, DropReason> {
        let Some(fragment) = parsed.fragment else { return Ok(packet.to_vec()) };
        if !fits(&fragment, parsed) {
            shared.counters.ip_reassembly_failed += 1;
            return Err(Malformed::Length.into());
        }
        let cost = FRAGMENT_COST + parsed.payload.len();
        self.make_room(shared, PACKET_COST + cost)?;
        let key = Key::of(&fragment, parsed);
        let partial = self.entry(key, now + shared.config.datagrams.reassembly_time);
        if let Err(reason) = partial.check(&fragment, parsed.payload) {
            if reason == Rule::DropOverlappingFragments.into() && !partial.discarded {
                shared.counters.ip_reassembly_failed += 1;
                self.held -= partial.discard();
            }
            return Err(reason);
        }
        partial.insert(&fragment, packet, parsed, cost);
        let complete = partial.end == Some(partial.bytes);
        self.held += cost;
        if !complete {
            return Err(DropReason::Incomplete);
        }
        let whole = self.remove(&key).and_then(Partial::assemble).ok_or(Malformed::Length)?;
        shared.counters.ip_reassembled += 1;
        Ok(whole)
    }

    /// Discards the packets that have timed out, and sends ICMP errors (`Rule::IcmpReassemblyTimeout`).
    pub fn handle_timeout(&mut self, shared: &mut Shared, icmp: &mut Icmp, now: Instant) {
        while self.packets.oldest().is_some_and(|partial| partial.deadline <= now) {
            let Some(partial) = self.pop_oldest() else { break };
            if partial.discarded {
                continue;
            }
            shared.counters.ip_reassembly_failed += 1;
            let Some(first) = partial.first_fragment() else { continue };
            let Ok(parsed) = IpPacket::parse(&first) else { continue };
            icmp.arrived(shared, now, parsed.header.src);
            let error = IcmpError::reassembly_timeout(parsed.header.is_v6());
            let _sent_or_limited =
                icmp::send_error(shared, icmp, now, &first, &parsed, error, Rule::IcmpReassemblyTimeout);
        }
    }

    /// When `handle_timeout` is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.packets.oldest().map(|partial| partial.deadline)
    }

    fn make_room(&mut self, shared: &mut Shared, cost: usize) -> Result<(), DropReason> {
        while self.held + cost > shared.config.datagrams.reassembly_bytes {
            self.pop_oldest().ok_or(DropReason::NoSpace)?;
            shared.counters.ip_reassembly_failed += 1;
        }
        Ok(())
    }

    fn entry(&mut self, key: Key, deadline: Instant) -> &mut Partial {
        if self.packets.get(&key).is_none() {
            self.held += PACKET_COST;
        }
        self.packets.get_or_insert_with(key, || Partial::new(deadline))
    }

    fn remove(&mut self, key: &Key) -> Option<Partial> {
        let partial = self.packets.remove(key)?;
        self.held -= partial.held;
        Some(partial)
    }

    fn pop_oldest(&mut self) -> Option<Partial> {
        let (_, partial) = self.packets.pop_oldest()?;
        self.held -= partial.held;
        Some(partial)
    }
}

impl Key {
    fn of(fragment: &Fragment, parsed: &IpPacket<'_>) -> Self {
        let header = &parsed.header;
        let protocol = (!header.is_v6()).then_some(header.protocol);
        Self { src: header.src, dst: header.dst, protocol, ident: fragment.ident }
    }
}

impl Partial {
    fn new(deadline: Instant) -> Self {
        Self {
            deadline,
            header: None,
            pieces: BTreeMap::new(),
            bytes: 0,
            end: None,
            held: PACKET_COST,
            discarded: false,
        }
    }

    /// Whether a fragment is accepted. An exact duplicate is dropped; any other overlap is an attack or
    /// an error and discards the packet (RFC 5722 section 4, RFC 8200 section 4.5).
    fn check(&self, fragment: &Fragment, payload: &[u8]) -> Result<(), DropReason> {
        let overlap = Err(Rule::DropOverlappingFragments.into());
        let (start, end) = span(fragment, payload);
        if self.discarded {
            return overlap;
        }
        if let Some(piece) = self.pieces.get(&start)
            && piece == payload
            && (self.end == Some(end)) != fragment.more
        {
            return Err(DropReason::Duplicate);
        }
        steps::count();
        let before = self.pieces.range(..=start).next_back();
        let after = self.pieces.range(start..).next();
        let last = self.pieces.last_key_value();
        if before.is_some_and(|(at, piece)| at + piece.len() as u32 > start)
            || after.is_some_and(|(at, _)| *at < end)
            || self.end.is_some_and(|whole| !fragment.more || end >= whole)
            || !fragment.more && last.is_some_and(|(at, piece)| at + piece.len() as u32 > end)
        {
            return overlap;
        }
        Ok(())
    }

    fn insert(&mut self, fragment: &Fragment, packet: &[u8], parsed: &IpPacket<'_>, cost: usize) {
        let (start, end) = span(fragment, parsed.payload);
        if start == 0 {
            let bytes = packet[..parsed.unfragmentable].to_vec();
            self.header = Some(Header { bytes, next_header_at: parsed.next_header_at });
        }
        if !fragment.more {
            self.end = Some(end);
        }
        self.bytes += end - start;
        self.held += cost;
        steps::count();
        self.pieces.insert(start, parsed.payload.to_vec());
    }

    /// Discards the fragments and returns the bytes freed.
    fn discard(&mut self) -> usize {
        let freed = self.held - PACKET_COST;
        *self = Self { discarded: true, ..Self::new(self.deadline) };
        freed
    }

    /// The fragment at offset 0 as it arrived.
    fn first_fragment(&self) -> Option<Vec<u8>> {
        let (header, piece) = (self.header.as_ref()?, self.pieces.get(&0)?);
        Some([&header.bytes[..], piece].concat())
    }

    /// The whole packet, with the headers of the first fragment; `None` if it is too long.
    fn assemble(self) -> Option<Vec<u8>> {
        let Header { bytes, next_header_at } = self.header?;
        let mut whole = if bytes[0] >> 4 == 4 { bytes } else { strip_fragment_header(bytes, next_header_at) };
        whole.reserve_exact(self.bytes as usize);
        let header_len = whole.len();
        for piece in self.pieces.values() {
            whole.extend_from_slice(piece);
        }
        set_lengths(&mut whole, header_len)?;
        Some(whole)
    }
}

/// Where a fragment begins and ends in its packet.
fn span(fragment: &Fragment, payload: &[u8]) -> (u32, u32) {
    (fragment.offset, fragment.offset + payload.len() as u32)
}

/// Whether a fragment is valid: all but the last have a multiple of eight bytes, and the whole does
/// not exceed the IP length field.
fn fits(fragment: &Fragment, parsed: &IpPacket<'_>) -> bool {
    let headers = if parsed.header.is_v6() {
        parsed.unfragmentable - HEADER_V6 - FRAGMENT_HEADER_V6
    } else {
        parsed.unfragmentable
    };
    let (_, end) = span(fragment, parsed.payload);
    !parsed.payload.is_empty()
        && (!fragment.more || parsed.payload.len().is_multiple_of(8))
        && headers + end as usize <= MAX_LEN
}

/// The headers of an IPv6 packet without the fragment header, which is the last of them.
fn strip_fragment_header(mut bytes: Vec<u8>, fragment_header_at: usize) -> Vec<u8> {
    const NEXT_HEADER_AT: usize = 6;
    let (mut named_at, mut at) = (NEXT_HEADER_AT, HEADER_V6);
    while at < fragment_header_at {
        named_at = at;
        at += (usize::from(bytes[at + 1]) + 1) * 8;
    }
    bytes[named_at] = bytes[fragment_header_at];
    bytes.truncate(fragment_header_at);
    bytes
}

/// Sets the length fields of the reassembled packet, and clears the fragmentation fields.
fn set_lengths(whole: &mut [u8], header_len: usize) -> Option<()> {
    if whole[0] >> 4 == 6 {
        let len = u16::try_from(whole.len() - HEADER_V6).ok()?;
        whole[4..6].copy_from_slice(&len.to_be_bytes());
        return Some(());
    }
    let len = u16::try_from(whole.len()).ok()?;
    whole[2..4].copy_from_slice(&len.to_be_bytes());
    whole[6..8].fill(0);
    whole[10..12].fill(0);
    let checksum = Sum::new().add(&whole[..header_len]).finish();
    whole[10..12].copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

#[cfg(test)]
mod tests;
