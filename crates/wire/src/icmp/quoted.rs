//! The packet that an ICMP error quotes.

use crate::Malformed;
use crate::ip::{self, Fragment, IpHeader};

/// The packet that an ICMP error quotes: its header, and the first bytes of its payload.
///
/// ```
/// use lastack_wire::{IpHeader, Quoted, ip};
///
/// let mut packet = Vec::new();
/// IpHeader::new("192.0.2.1".parse()?, "192.0.2.2".parse()?, ip::TCP).emit(1480, &mut packet);
/// packet.extend([0xc0, 0, 0, 80, 0, 0, 0, 9]);   // and no more: RFC 792 asks for eight bytes
/// let quoted = Quoted::parse(&packet)?;
/// assert_eq!(quoted.ports(), Some((49152, 80)));
/// assert_eq!(quoted.seq(), Some(9));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted<'a> {
    /// The header. Hop limit, traffic class and even addresses may have been changed on the path.
    pub header: IpHeader,
    /// Set if the packet was a fragment.
    pub fragment: Option<Fragment>,
    /// The total length according to the header.
    pub total_len: usize,
    /// The payload, often truncated.
    pub payload: &'a [u8],
}

impl<'a> Quoted<'a> {
    /// Parses the quoted packet. Neither lengths nor checksum are verified: the quote is truncated, and routers
    /// modify the packets they quote.
    ///
    /// # Errors
    /// If the header, with its extension headers, is incomplete.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        ip::quoted(bytes)
    }

    /// Source and destination port, if the packet was TCP or UDP and the quote contains them.
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        match *self.transport()? {
            [a, b, c, d, ..] => Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))),
            _ => None,
        }
    }

    /// Sequence number, if the packet was TCP and the quote contains it.
    #[must_use]
    pub fn seq(&self) -> Option<u32> {
        match *self.transport()? {
            [_, _, _, _, a, b, c, d, ..] if self.header.protocol == ip::TCP => {
                Some(u32::from_be_bytes([a, b, c, d]))
            }
            _ => None,
        }
    }

    /// The payload, if it begins with a header of TCP or UDP.
    fn transport(&self) -> Option<&'a [u8]> {
        let first = self.fragment.is_none_or(|fragment| fragment.offset == 0);
        (first && matches!(self.header.protocol, ip::TCP | ip::UDP)).then_some(self.payload)
    }
}
