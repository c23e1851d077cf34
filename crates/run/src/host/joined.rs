//! Joins datagrams that were read together into groups, as the sender's UDP_SEGMENT would have: a group passes through
//! the stack and the device at nearly the cost of one datagram, and the program's kernel delivers each of its datagrams.

use std::net::SocketAddr;

use super::datagrams::{MAX_SEGMENTS, Shape};

/// Max bytes of a group, so that it fits into a packet with its headers.
const MAX_BYTES: usize = 65_535 - 60 - 8;

/// Passes datagrams on in their order, in groups where they have the same sender, header fields and size; the last of a
/// group may be shorter.
pub struct Joined<'a, 'b, F: FnMut(SocketAddr, &[u8], Shape)> {
    deliver: F,
    first: Option<First<'b>>,
    /// The data of a group of more than one.
    buffer: &'a mut Vec<u8>,
    count: usize,
}

/// The first datagram of a group.
struct First<'b> {
    from: SocketAddr,
    payload: &'b [u8],
    shape: Shape,
}

impl<'a, 'b, F: FnMut(SocketAddr, &[u8], Shape)> Joined<'a, 'b, F> {
    /// `buffer` is for the data of groups.
    pub fn new(buffer: &'a mut Vec<u8>, deliver: F) -> Self {
        Self { deliver, first: None, buffer, count: 0 }
    }

    /// The next datagram, or a group that the kernel has made.
    pub fn push(&mut self, from: SocketAddr, payload: &'b [u8], shape: Shape) {
        if !self.join(from, payload, shape) {
            self.finish();
            self.first = Some(First { from, payload, shape });
            self.count = 1;
        }
    }

    /// Joins it to the current group, if that is possible.
    fn join(&mut self, from: SocketAddr, payload: &[u8], shape: Shape) -> bool {
        let Some(first) = &self.first else { return false };
        let size = first.payload.len();
        let length = if self.count > 1 { self.buffer.len() } else { size };
        let fits = self.count < MAX_SEGMENTS && length + payload.len() <= MAX_BYTES;
        // Only the last one may be shorter.
        let is_open = length == size * self.count;
        let alike = first.from == from && first.shape == shape && shape.segment_size.is_none();
        if !(fits && is_open && alike && (1..=size).contains(&payload.len())) {
            return false;
        }
        if self.count == 1 {
            self.buffer.clear();
            self.buffer.extend_from_slice(first.payload);
        }
        self.buffer.extend_from_slice(payload);
        self.count += 1;
        true
    }

    /// Passes the current group on.
    pub fn finish(&mut self) {
        let Some(First { from, payload, shape }) = self.first.take() else { return };
        if self.count == 1 {
            return (self.deliver)(from, payload, shape);
        }
        let segment_size = u16::try_from(payload.len()).ok();
        (self.deliver)(from, self.buffer, Shape { segment_size, ..shape });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastack::IpFields;

    const IP: IpFields = IpFields { hop_limit: 64, traffic_class: 0, dont_fragment: false };
    const ONE: Shape = Shape { segment_size: None, ip: IP };

    /// The result for datagrams from these ports, with this length and traffic class: port, length and segment size.
    fn joined(datagrams: &[(u16, usize, u8)]) -> Vec<(u16, usize, Option<u16>)> {
        let data: Vec<Vec<u8>> = (0..).zip(datagrams).map(|(n, &(_, len, _))| vec![n; len]).collect();
        let (mut delivered, mut all) = (Vec::new(), Vec::new());
        let mut buffer = Vec::new();
        let mut joined = Joined::new(&mut buffer, |from, payload, shape| {
            delivered.push((from.port(), payload.len(), shape.segment_size));
            all.extend_from_slice(payload);
        });
        for (payload, &(port, _, traffic_class)) in data.iter().zip(datagrams) {
            let ip = IpFields { traffic_class, ..IP };
            joined.push(([127, 0, 0, 1], port).into(), payload, Shape { ip, ..ONE });
        }
        joined.finish();
        assert_eq!(all, data.concat(), "every byte, in order");
        delivered
    }

    #[test]
    fn datagrams_of_one_size_and_sender_are_a_group() {
        assert_eq!(joined(&[(1, 1400, 0); 16]), [(1, 16 * 1400, Some(1400))]);
        assert_eq!(joined(&[(1, 100, 0)]), [(1, 100, None)]);
        // The last may be shorter; what follows is another group.
        let sizes = [(1, 100, 0), (1, 100, 0), (1, 40, 0), (1, 100, 0), (1, 120, 0), (1, 120, 0)];
        assert_eq!(joined(&sizes), [(1, 240, Some(100)), (1, 100, None), (1, 240, Some(120))]);
    }

    #[test]
    fn different_datagrams_are_not_joined() {
        assert_eq!(joined(&[(1, 9, 0), (2, 9, 0), (2, 9, 4)]), [(1, 9, None), (2, 9, None), (2, 9, None)]);
        assert_eq!(joined(&[(1, 0, 0), (1, 0, 0), (1, 5, 0)]), [(1, 0, None), (1, 0, None), (1, 5, None)]);
        assert_eq!(joined(&[(1, 5, 0), (1, 0, 0), (1, 5, 0)]), [(1, 5, None), (1, 0, None), (1, 5, None)]);
    }

    #[test]
    fn a_group_has_bounds() {
        let groups = joined(&[(1, 1, 0); 2 * MAX_SEGMENTS + 1]);
        assert_eq!(groups, [(1, MAX_SEGMENTS, Some(1)), (1, MAX_SEGMENTS, Some(1)), (1, 1, None)]);
        assert!(joined(&[(1, 9000, 0); 20]).iter().all(|(_, bytes, _)| *bytes <= MAX_BYTES));
    }

    /// A group of the kernel is passed on as it is.
    #[test]
    fn a_group_of_the_kernel_stays_as_it_is() {
        let (mut buffer, mut delivered) = (Vec::new(), Vec::new());
        let mut joined = Joined::new(&mut buffer, |_, payload, shape| delivered.push((payload.len(), shape)));
        let whole = Shape { segment_size: Some(10), ..ONE };
        for shape in [ONE, whole, whole, ONE] {
            joined.push(([127, 0, 0, 1], 1).into(), &[7; 30], shape);
        }
        joined.finish();
        assert_eq!(delivered, [(30, ONE), (30, whole), (30, whole), (30, ONE)]);
    }
}
