//! Parse errors.

use core::fmt;

/// Why a packet, or a part of one, could not be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Malformed {
    /// It is shorter than the fixed header, or than the length in the header.
    Truncated,
    /// The IP version is neither 4 nor 6.
    Version,
    /// The header length is below the minimum, or past the end of the packet.
    HeaderLength,
    /// A length field contradicts its header.
    Length,
    /// The checksum is wrong, or absent where it is required.
    Checksum,
    /// An IP option is truncated, or is unknown and requires the packet to be discarded.
    Option,
    /// An IPv6 extension header is truncated, exceeds the max number, or requires further routing.
    ExtensionHeader,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the packet is cut short",
            Self::Version => "the IP version is neither 4 nor 6",
            Self::HeaderLength => "the header length is below the minimum or past the end of the packet",
            Self::Length => "a length field contradicts its header",
            Self::Checksum => "the checksum is wrong",
            Self::Option => "an IP option is malformed or must not be skipped",
            Self::ExtensionHeader => "an IPv6 extension header that cannot be skipped",
        })
    }
}

impl core::error::Error for Malformed {}
