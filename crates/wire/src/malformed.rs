//! Why bytes are no packet.

use core::fmt;

/// Why a packet, or a part of one, could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// There are fewer bytes than the fixed header, or than the header says the packet has.
    Truncated,
    /// The IP version is neither 4 nor 6.
    Version,
    /// The header length is below the minimum, or past the end of the packet.
    HeaderLength,
    /// A length field contradicts the header it stands in.
    Length,
    /// The checksum is wrong, or absent where it is required.
    Checksum,
    /// An IP option is cut short, or is unknown and says that the packet is to be discarded.
    Option,
    /// An IPv6 extension header is cut short, is one too many, or asks to route further.
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
            Self::ExtensionHeader => "an IPv6 extension header cannot be passed over",
        })
    }
}

impl core::error::Error for Malformed {}
