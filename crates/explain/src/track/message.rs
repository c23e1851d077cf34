//! The HTTP message that an end sends: whether it is complete, also where a part of it was not captured.

use crate::http::{HttpMessage, Lacks};
use crate::packet::ahead;

/// A message of HTTP/1, by the sequence numbers of its bytes.
#[derive(Clone, Debug)]
pub struct Followed {
    message: HttpMessage,
    /// The sequence number up to which it was read or skipped.
    at: u32,
    /// The number of bytes after `at` that are body data, which is skipped.
    body: u64,
    /// The bytes that had to be read are not in the capture.
    lost: bool,
}

impl Followed {
    /// One that begins at this sequence number.
    pub(super) fn new(message: HttpMessage, at: u32) -> Self {
        Self { message, at, body: 0, lost: false }
    }

    /// Reads a packet that has new bytes: `len` from `seq` on, of which the capture may have only the first, `payload`.
    pub(super) fn read(&mut self, payload: &[u8], seq: u32, len: u32) {
        let offset = i64::from(ahead(self.at, seq)) + i64::try_from(self.body).unwrap_or(i64::MAX / 2);
        self.lost |= offset < 0;
        if self.lost || self.message.is_unknown() {
            return;
        }
        if let Some(rest) = usize::try_from(offset).ok().and_then(|offset| payload.get(offset..))
            && !rest.is_empty()
        {
            self.message.skip(self.body);
            self.message.read(rest);
            self.at = seq.wrapping_add(payload.len() as u32);
            self.body = self.message.skippable();
        }
        let end = seq.wrapping_add(len);
        let skipped = u64::try_from(ahead(end, self.at)).unwrap_or(0).min(self.body);
        self.message.skip(skipped);
        self.at = self.at.wrapping_add(skipped as u32);
        self.body -= skipped;
    }

    /// Whether the message is known to be complete: its end is at `end`, or before.
    pub(super) fn is_whole(&self, end: u32) -> bool {
        let by_length = matches!(self.message.lacks(), Some(Lacks::Length(_))) && self.left(end) <= 0;
        !self.lost && (self.message.is_whole() || by_length)
    }

    /// What the message lacks if its sender has sent nothing after `end`, and the bytes of it until then.
    pub(super) fn lacks(&self, end: u32) -> Option<(u64, Lacks)> {
        let lacks = self.message.lacks().filter(|_| !self.lost)?;
        let left = self.left(end);
        let cut = if matches!(lacks, Lacks::Length(_)) { left > 0 } else { left >= 0 };
        let unseen = u64::try_from(ahead(self.at, end)).unwrap_or(0);
        cut.then(|| (self.message.bytes().saturating_sub(unseen), lacks))
    }

    /// Bytes of the body, or of the chunk, after `end`; negative: more was sent, and not captured.
    fn left(&self, end: u32) -> i64 {
        i64::from(ahead(self.at, end)) + i64::try_from(self.body).unwrap_or(i64::MAX / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Asked;

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// The state after packets at these distances from the first byte. Of each, this number of bytes was captured.
    fn after(data: &[u8], packets: &[(usize, usize, usize)]) -> Followed {
        let first = u32::MAX - 20;
        let mut followed = Followed::new(HttpMessage::new(Asked::Other), first);
        for &(at, len, captured) in packets {
            followed.read(&data[at..at + captured], first.wrapping_add(at as u32), len as u32);
        }
        followed
    }

    fn end(bytes: usize) -> u32 {
        (u32::MAX - 20).wrapping_add(bytes as u32)
    }

    #[test]
    fn data_of_chunks_may_be_lost_or_out_of_order_in_the_capture() {
        let data = [HEAD, b"40\r\n", &[b'x'; 64], b"\r\n", b"0\r\n\r\n"].concat();
        let (head, all) = (HEAD.len(), data.len());
        let of = |packets: &[(usize, usize, usize)], bytes| {
            let followed = after(&data, packets);
            (followed.lacks(end(bytes)).map(|(_, lacks)| lacks), followed.is_whole(end(bytes)))
        };
        let (cut, whole, unknown) = ((Some(Lacks::LastChunk), false), (None, true), (None, false));
        assert_eq!(of(&[(0, all, all)], all), whole);
        assert_eq!(of(&[(0, all - 3, all - 3)], all - 3), cut);
        let middle = head + 40;
        assert_eq!(of(&[(0, middle, middle), (middle, all - middle, all - middle)], all), whole);
        assert_eq!(of(&[(0, middle, middle), (middle + 9, all - middle - 9, all - middle - 9)], all), whole);
        assert_eq!(of(&[(0, middle, head + 4), (middle, 20, 0), (middle + 20, 8, 4)], middle + 28), cut);
        assert_eq!(of(&[(0, head, head), (head + 6, 20, 20)], head + 26), unknown, "the size was lost");
        assert_eq!(of(&[(0, all, head + 10)], all), unknown, "the rest was not captured");
    }

    #[test]
    fn a_length_needs_no_captured_body() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n";
        let mut followed = Followed::new(HttpMessage::new(Asked::Other), 7);
        let mut seq = 7_u32;
        followed.read(head, seq, head.len() as u32);
        seq = seq.wrapping_add(head.len() as u32);
        let lacks = Some(Lacks::Length(head.len() as u64 + 5_000_000_000));
        for _ in 0..5 {
            assert_eq!(followed.lacks(seq).map(|(_, lacks)| lacks), lacks);
            followed.read(&[], seq, 1_000_000_000);
            seq = seq.wrapping_add(1_000_000_000);
        }
        assert!(followed.is_whole(seq) && followed.lacks(seq).is_none());
    }
}
