//! TCP options (RFC 9293 section 3.2, RFC 7323, RFC 2018, RFC 5482).

use alloc::vec::Vec;
use core::fmt;

/// Max length of the options in bytes.
const ROOM: usize = 40;

const END: u8 = 0;
pub(super) const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;
const MD5: u8 = 19;
const USER_TIMEOUT: u8 = 28;
const AO: u8 = 29;

/// The timestamps option (RFC 7323 section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// TSval.
    pub val: u32,
    /// TSecr; significant with ACK.
    pub ecr: u32,
}

/// The options that this stack supports, as in the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Maximum segment size.
    pub mss: Option<u16>,
    /// Shift of the window scale option, as received: above 14 it counts as 14 (RFC 7323 section 2.3).
    pub window_scale: Option<u8>,
    /// SACK permitted.
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// SACK blocks. `emit` omits the last ones if they do not fit beside the other options.
    pub sack: SackBlocks,
    /// There was a well-formed TCP-MD5 or TCP-AO option (`Rule::DropUnverifiedSignature`). Never emitted.
    pub signed: bool,
    /// User timeout with its granularity bit, as in the header (RFC 5482 section 3).
    pub user_timeout: Option<u16>,
}

impl TcpOptions {
    /// Length of the options with padding.
    #[inline]
    pub(super) const fn len(&self) -> usize {
        let others = self.len_without_sack();
        match self.sack_that_fit(others) {
            0 => others,
            n => others + 4 + 8 * n,
        }
    }

    /// The timestamps, if they are the only option, as in nearly every segment of an established connection.
    #[inline]
    pub(super) const fn timestamps_alone(&self) -> Option<Option<Timestamps>> {
        let none = self.mss.is_none() && self.window_scale.is_none() && self.user_timeout.is_none();
        if none && !self.sack_permitted && self.sack.is_empty() { Some(self.timestamps) } else { None }
    }

    #[inline]
    const fn len_without_sack(&self) -> usize {
        let timestamps_or_sack_permitted = match (self.timestamps.is_some(), self.sack_permitted) {
            (true, _) => 12,
            (false, true) => 4,
            (false, false) => 0,
        };
        timestamps_or_sack_permitted
            + 4 * (self.mss.is_some() as usize
                + self.window_scale.is_some() as usize
                + self.user_timeout.is_some() as usize)
    }

    /// Number of SACK blocks that fit beside `others` bytes of options.
    #[inline]
    const fn sack_that_fit(&self, others: usize) -> usize {
        let room = (ROOM - 4 - others) / 8;
        if self.sack.len() < room { self.sack.len() } else { room }
    }

    /// Parses the bytes behind the fixed header. An option of the wrong length is ignored; one without a length, or
    /// past the end, stops parsing.
    #[inline]
    pub(super) fn read(&mut self, bytes: &[u8]) {
        *self = Self::default();
        match *bytes {
            [] => {}
            // The layout in nearly every segment of an established connection (RFC 7323 appendix A).
            [NOP, NOP, TIMESTAMPS, 10, a, b, c, d, e, f, g, h] => {
                let (val, ecr) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
                self.timestamps = Some(Timestamps { val, ecr });
            }
            // The layout of our SYNs, and of Linux.
            [
                MSS,
                4,
                m,
                n,
                SACK_PERMITTED,
                2,
                TIMESTAMPS,
                10,
                a,
                b,
                c,
                d,
                e,
                f,
                g,
                h,
                NOP,
                WINDOW_SCALE,
                3,
                shift,
            ] => {
                let (val, ecr) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
                self.mss = Some(u16::from_be_bytes([m, n]));
                self.sack_permitted = true;
                self.timestamps = Some(Timestamps { val, ecr });
                self.window_scale = Some(shift);
            }
            _ => self.read_any(bytes),
        }
    }

    fn read_any(&mut self, mut bytes: &[u8]) {
        loop {
            match *bytes {
                [] | [END, ..] => return,
                [NOP, ref rest @ ..] => bytes = rest,
                [kind, len, ..] if len >= 2 && usize::from(len) <= bytes.len() => {
                    let (option, rest) = bytes.split_at(usize::from(len));
                    self.read_one(kind, &option[2..]);
                    bytes = rest;
                }
                _ => return,
            }
        }
    }

    fn read_one(&mut self, kind: u8, data: &[u8]) {
        match (kind, data) {
            (MSS, &[a, b]) => self.mss = Some(u16::from_be_bytes([a, b])),
            (WINDOW_SCALE, &[shift]) => self.window_scale = Some(shift),
            (SACK_PERMITTED, []) => self.sack_permitted = true,
            (SACK, blocks) => {
                if let Some(blocks) = SackBlocks::parse(blocks) {
                    self.sack = blocks;
                }
            }
            (TIMESTAMPS, &[a, b, c, d, e, f, g, h]) => {
                let (val, ecr) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
                self.timestamps = Some(Timestamps { val, ecr });
            }
            (USER_TIMEOUT, &[a, b]) => self.user_timeout = Some(u16::from_be_bytes([a, b])),
            (MD5, _) if data.len() == 16 => self.signed = true,
            (AO, [_, _, ..]) => self.signed = true,
            _ => {}
        }
    }

    /// Appends the options, each on a word boundary as RFC 7323 appendix A advises.
    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        match self.of_usual_syn() {
            Some(options) => out.extend_from_slice(&options),
            None => self.emit_any(out),
        }
    }

    /// The options in one piece, if they are all those of a SYN and no others.
    fn of_usual_syn(&self) -> Option<[u8; 20]> {
        let &Self { mss: Some(mss), window_scale: Some(shift), timestamps: Some(timestamps), .. } = self
        else {
            return None;
        };
        if !self.sack_permitted || self.user_timeout.is_some() || !self.sack.is_empty() {
            return None;
        }
        let [m, n] = mss.to_be_bytes();
        let mut options = [MSS, 4, m, n, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NOP, WINDOW_SCALE, 3, shift];
        options[4..16].copy_from_slice(&timestamps.block([SACK_PERMITTED, 2]));
        Some(options)
    }

    fn emit_any(&self, out: &mut Vec<u8>) {
        if let Some(mss) = self.mss {
            let [a, b] = mss.to_be_bytes();
            out.extend_from_slice(&[MSS, 4, a, b]);
        }
        match (self.sack_permitted, self.timestamps) {
            (true, Some(timestamps)) => out.extend_from_slice(&timestamps.block([SACK_PERMITTED, 2])),
            (true, None) => out.extend_from_slice(&[NOP, NOP, SACK_PERMITTED, 2]),
            (false, Some(timestamps)) => out.extend_from_slice(&timestamps.block([NOP, NOP])),
            (false, None) => {}
        }
        if let Some(shift) = self.window_scale {
            out.extend_from_slice(&[NOP, WINDOW_SCALE, 3, shift]);
        }
        if let Some(timeout) = self.user_timeout {
            let [a, b] = timeout.to_be_bytes();
            out.extend_from_slice(&[USER_TIMEOUT, 4, a, b]);
        }
        self.emit_sack(out);
    }

    fn emit_sack(&self, out: &mut Vec<u8>) {
        let n = self.sack_that_fit(self.len_without_sack());
        if n == 0 {
            return;
        }
        out.extend_from_slice(&[NOP, NOP, SACK, 2 + 8 * n as u8]);
        for (start, end) in self.sack.iter().take(n) {
            out.extend_from_slice(&start.to_be_bytes());
            out.extend_from_slice(&end.to_be_bytes());
        }
    }
}

impl Timestamps {
    /// The option, preceded by two NOPs for alignment to a word boundary.
    #[inline]
    pub(super) const fn block(self, [first, second]: [u8; 2]) -> [u8; 12] {
        let ([a, b, c, d], [e, f, g, h]) = (self.val.to_be_bytes(), self.ecr.to_be_bytes());
        [first, second, TIMESTAMPS, 10, a, b, c, d, e, f, g, h]
    }
}

/// The blocks of a SACK option (RFC 2018 section 3), four at most: left edge and right edge.
///
/// ```
/// let mut blocks = lastack_wire::SackBlocks::new();
/// assert!(blocks.push((1000, 2000)));
/// assert_eq!(blocks.iter().next(), Some((1000, 2000)));
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct SackBlocks {
    /// Those from `len` on are (0, 0).
    blocks: [(u32, u32); Self::MAX],
    len: u8,
}

impl SackBlocks {
    /// Max blocks in an option.
    pub const MAX: usize = 4;

    /// No blocks.
    #[must_use]
    pub const fn new() -> Self {
        Self { blocks: [(0, 0); Self::MAX], len: 0 }
    }

    /// Appends a block; `false` if there are four already.
    #[inline]
    pub fn push(&mut self, block: (u32, u32)) -> bool {
        let Some(place) = self.blocks.get_mut(usize::from(self.len)) else {
            return false;
        };
        *place = block;
        self.len += 1;
        true
    }

    /// The blocks, in the order of the option.
    #[inline]
    pub fn iter(&self) -> core::iter::Copied<core::slice::Iter<'_, (u32, u32)>> {
        self.blocks[..self.len()].iter().copied()
    }

    /// Number of blocks.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are no blocks.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One to four blocks; otherwise the option has an illegal length.
    fn parse(data: &[u8]) -> Option<Self> {
        let (words, []) = data.as_chunks::<8>() else {
            return None;
        };
        let mut blocks = Self::new();
        for &[a, b, c, d, e, f, g, h] in words {
            if !blocks.push((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))) {
                return None;
            }
        }
        (!blocks.is_empty()).then_some(blocks)
    }
}

impl fmt::Debug for SackBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &'a SackBlocks {
    type Item = (u32, u32);
    type IntoIter = core::iter::Copied<core::slice::Iter<'a, (u32, u32)>>;

    fn into_iter(self) -> Self::IntoIter {
        self.blocks[..self.len()].iter().copied()
    }
}
