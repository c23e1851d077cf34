//! ICMP error messages.

use core::fmt;

/// An ICMP error of either version: type and code as on the wire, and the 32 bits behind the checksum.
///
/// ```
/// use lastack_wire::IcmpError;
///
/// let v6 = false;
/// for error in [
///     IcmpError::net_unreachable(v6),
///     IcmpError::host_unreachable(v6),
///     IcmpError::port_unreachable(v6),
///     IcmpError::admin_prohibited(v6),
///     IcmpError::time_exceeded(v6),
///     IcmpError::reassembly_timeout(v6),
/// ] {
///     assert!(IcmpError::is_error_kind(v6, error.kind));
///     println!("{error}"); // "host unreachable" and so on
/// }
/// // The pointer of these two is the position of the field that was refused.
/// assert_eq!(IcmpError::parameter_problem(v6, 20).kind, 12);
/// assert_eq!(IcmpError::protocol_unreachable(true, 6).info, 6);
///
/// // What an error quotes of the packet that it is about: 548 bytes at most.
/// let error = IcmpError::packet_too_big(v6, 1400);
/// assert_eq!((error.mtu(), error.quote(&[0; 1500]).len()), (Some(1400), 548));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IcmpError {
    /// Whether it is ICMPv6.
    pub v6: bool,
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The 32 bits behind the checksum: an MTU, a pointer, a gateway, or unused.
    pub info: u32,
}

/// Types of ICMP (RFC 792).
mod v4 {
    pub const UNREACHABLE: u8 = 3;
    pub const SOURCE_QUENCH: u8 = 4;
    pub const REDIRECT: u8 = 5;
    pub const TIME_EXCEEDED: u8 = 11;
    pub const PARAMETER_PROBLEM: u8 = 12;
    /// Code of `UNREACHABLE`.
    pub const FRAGMENTATION_NEEDED: u8 = 4;
}

/// Types of ICMPv6 (RFC 4443).
mod v6 {
    pub const UNREACHABLE: u8 = 1;
    pub const PACKET_TOO_BIG: u8 = 2;
    pub const TIME_EXCEEDED: u8 = 3;
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Types below this are errors.
    pub const INFORMATIONAL: u8 = 128;
}

impl IcmpError {
    const fn new(is_v6: bool, (kind4, code4): (u8, u8), (kind6, code6): (u8, u8)) -> Self {
        let (kind, code) = if is_v6 { (kind6, code6) } else { (kind4, code4) };
        Self { v6: is_v6, kind, code, info: 0 }
    }

    const fn with_info(mut self, info: u32) -> Self {
        self.info = info;
        self
    }

    /// No route to the destination.
    #[must_use]
    pub const fn net_unreachable(v6: bool) -> Self {
        Self::new(v6, (v4::UNREACHABLE, 0), (v6::UNREACHABLE, 0))
    }

    /// Host unreachable; for IPv6 "address unreachable".
    #[must_use]
    pub const fn host_unreachable(v6: bool) -> Self {
        Self::new(v6, (v4::UNREACHABLE, 1), (v6::UNREACHABLE, 3))
    }

    /// Protocol unreachable (`Rule::IcmpProtocolUnreachable`). `pointer` is the offset of the next-header field in an
    /// IPv6 packet (`IpPacket::next_header_at`); IPv4 has no such field.
    #[must_use]
    pub const fn protocol_unreachable(v6: bool, pointer: u32) -> Self {
        let error = Self::new(v6, (v4::UNREACHABLE, 2), (v6::PARAMETER_PROBLEM, 1));
        if v6 { error.with_info(pointer) } else { error }
    }

    /// Port unreachable.
    #[must_use]
    pub const fn port_unreachable(v6: bool) -> Self {
        Self::new(v6, (v4::UNREACHABLE, 3), (v6::UNREACHABLE, 4))
    }

    /// Communication administratively prohibited.
    #[must_use]
    pub const fn admin_prohibited(v6: bool) -> Self {
        Self::new(v6, (v4::UNREACHABLE, 13), (v6::UNREACHABLE, 1))
    }

    /// The packet is larger than `mtu` and must not be fragmented (RFC 1191, RFC 8201).
    ///
    /// # Panics
    /// If `mtu` is above 65535 for IPv4, which has 16 bits for it.
    #[must_use]
    pub const fn packet_too_big(v6: bool, mtu: u32) -> Self {
        assert!(v6 || mtu <= 0xffff, "an IPv4 packet is never larger than 65535 bytes");
        Self::new(v6, (v4::UNREACHABLE, v4::FRAGMENTATION_NEEDED), (v6::PACKET_TOO_BIG, 0)).with_info(mtu)
    }

    /// The hop limit was exceeded in transit.
    #[must_use]
    pub const fn time_exceeded(v6: bool) -> Self {
        Self::new(v6, (v4::TIME_EXCEEDED, 0), (v6::TIME_EXCEEDED, 0))
    }

    /// Fragment reassembly time exceeded (`Rule::IcmpReassemblyTimeout`).
    #[must_use]
    pub const fn reassembly_timeout(v6: bool) -> Self {
        Self::new(v6, (v4::TIME_EXCEEDED, 1), (v6::TIME_EXCEEDED, 1))
    }

    /// Parameter problem: the header is erroneous at the byte `pointer`.
    ///
    /// # Panics
    /// If `pointer` is above 255 for IPv4, which has 8 bits for it.
    #[must_use]
    pub const fn parameter_problem(v6: bool, pointer: u32) -> Self {
        assert!(v6 || pointer <= 0xff, "an IPv4 header is never longer than 60 bytes");
        let info = if v6 { pointer } else { pointer << 24 };
        Self::new(v6, (v4::PARAMETER_PROBLEM, 0), (v6::PARAMETER_PROBLEM, 0)).with_info(info)
    }

    /// Whether messages of this type are errors, about which no error may be sent in turn (RFC 1122 section 3.2.2).
    #[must_use]
    pub const fn is_error_kind(v6: bool, kind: u8) -> bool {
        if v6 {
            return kind < v6::INFORMATIONAL;
        }
        matches!(
            kind,
            v4::UNREACHABLE | v4::SOURCE_QUENCH | v4::REDIRECT | v4::TIME_EXCEEDED | v4::PARAMETER_PROBLEM
        )
    }

    /// The next-hop MTU, if this is a packet-too-big error. 0 from an IPv4 router that does not report it (RFC 1191
    /// section 5).
    #[must_use]
    pub const fn mtu(&self) -> Option<u32> {
        match (self.v6, self.kind, self.code) {
            (false, v4::UNREACHABLE, v4::FRAGMENTATION_NEEDED) => Some(self.info & 0xffff),
            (true, v6::PACKET_TOO_BIG, _) => Some(self.info),
            _ => None,
        }
    }

    /// The part of the offending packet that the error may quote: the whole message is limited to 576 bytes for IPv4
    /// (RFC 1812 section 4.3.2.3), 1280 for IPv6 (RFC 4443 section 2.4 (c)).
    #[must_use]
    pub fn quote<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        let room = if self.v6 { 1280 - 40 } else { 576 - 20 } - super::HEADER;
        &packet[..packet.len().min(room)]
    }

    /// A short description.
    #[must_use]
    pub const fn describe(&self) -> &'static str {
        if self.v6 { self.describe_v6() } else { self.describe_v4() }
    }

    const fn describe_v4(&self) -> &'static str {
        match (self.kind, self.code) {
            (v4::UNREACHABLE, 0) => "network unreachable",
            (v4::UNREACHABLE, 1) => "host unreachable",
            (v4::UNREACHABLE, 2) => "protocol unreachable",
            (v4::UNREACHABLE, 3) => "port unreachable",
            (v4::UNREACHABLE, v4::FRAGMENTATION_NEEDED) => "fragmentation needed",
            (v4::UNREACHABLE, 5) => "source route failed",
            (v4::UNREACHABLE, 6) => "destination network unknown",
            (v4::UNREACHABLE, 7) => "destination host unknown",
            (v4::UNREACHABLE, 8) => "source host isolated",
            (v4::UNREACHABLE, 9) => "communication with the network prohibited",
            (v4::UNREACHABLE, 10) => "communication with the host prohibited",
            (v4::UNREACHABLE, 11) => "network unreachable for this type of service",
            (v4::UNREACHABLE, 12) => "host unreachable for this type of service",
            (v4::UNREACHABLE, 13) => "communication prohibited",
            (v4::UNREACHABLE, 14) => "host precedence violation",
            (v4::UNREACHABLE, 15) => "precedence cutoff in effect",
            (v4::UNREACHABLE, _) => "destination unreachable",
            (v4::SOURCE_QUENCH, _) => "source quench",
            (v4::REDIRECT, _) => "redirect",
            (v4::TIME_EXCEEDED, 0) => "hop limit exceeded",
            (v4::TIME_EXCEEDED, 1) => "fragment reassembly time exceeded",
            (v4::TIME_EXCEEDED, _) => "time exceeded",
            (v4::PARAMETER_PROBLEM, _) => "parameter problem",
            _ => "unknown ICMP error",
        }
    }

    const fn describe_v6(&self) -> &'static str {
        match (self.kind, self.code) {
            (v6::UNREACHABLE, 0) => "network unreachable",
            (v6::UNREACHABLE, 1) => "communication prohibited",
            (v6::UNREACHABLE, 2) => "beyond the scope of the source address",
            (v6::UNREACHABLE, 3) => "host unreachable",
            (v6::UNREACHABLE, 4) => "port unreachable",
            (v6::UNREACHABLE, 5) => "source address failed policy",
            (v6::UNREACHABLE, 6) => "route rejected",
            (v6::UNREACHABLE, 7) => "error in a source routing header",
            (v6::UNREACHABLE, _) => "destination unreachable",
            (v6::PACKET_TOO_BIG, _) => "packet too big",
            (v6::TIME_EXCEEDED, 0) => "hop limit exceeded",
            (v6::TIME_EXCEEDED, 1) => "fragment reassembly time exceeded",
            (v6::TIME_EXCEEDED, _) => "time exceeded",
            (v6::PARAMETER_PROBLEM, 0) => "erroneous header field",
            (v6::PARAMETER_PROBLEM, 1) => "protocol unreachable",
            (v6::PARAMETER_PROBLEM, 2) => "unrecognized IPv6 option",
            (v6::PARAMETER_PROBLEM, _) => "parameter problem",
            _ => "unknown ICMPv6 error",
        }
    }
}

/// As `host unreachable (3/1)`: description, type and code.
impl fmt::Display for IcmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}/{})", self.describe(), self.kind, self.code)
    }
}
