//! Prefixes of addresses, as in `10.0.0.0/8`.

use core::fmt::{self, Display, Formatter};
use core::net::IpAddr;
use core::str::FromStr;

/// All addresses of one family that begin with the same bits, as in `10.0.0.0/8` or `2001:db8::/32`.
///
/// ```
/// use lastack_engine::Prefix;
///
/// let prefix: Prefix = "10.8.0.0/16".parse()?;
/// assert!(prefix.contains("10.8.255.1".parse()?) && !prefix.contains("10.9.0.1".parse()?));
/// assert!("10.8.0.0/33".parse::<Prefix>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    address: IpAddr,
    len: u8,
}

impl Prefix {
    /// The addresses that agree with `address` in the first `len` bits; the other bits are ignored. `None` if `len` is
    /// more than the address has: 32 bits for IPv4, 128 for IPv6.
    pub const fn new(address: IpAddr, len: u8) -> Option<Self> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if len <= bits { Some(Self { address, len }) } else { None }
    }

    /// Whether `address` begins with these bits.
    pub fn contains(&self, address: IpAddr) -> bool {
        let differs = match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(other)) => u128::from(ours.to_bits() ^ other.to_bits()) << 96,
            (IpAddr::V6(ours), IpAddr::V6(other)) => ours.to_bits() ^ other.to_bits(),
            _ => return false,
        };
        differs.leading_zeros() >= u32::from(self.len)
    }
}

impl Display for Prefix {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

/// A text is not a prefix of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidPrefix;

impl Display for InvalidPrefix {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("not an address prefix: write ADDRESS/LENGTH, as in 10.0.0.0/8 or 2001:db8::/32")
    }
}

impl core::error::Error for InvalidPrefix {}

impl FromStr for Prefix {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidPrefix> {
        let (address, len) = text.split_once('/').ok_or(InvalidPrefix)?;
        let (address, len) = (address.parse(), len.parse());
        let (Ok(address), Ok(len)) = (address, len) else { return Err(InvalidPrefix) };
        Self::new(address, len).ok_or(InvalidPrefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::addr;
    use alloc::string::ToString;

    #[test]
    fn the_bits_after_the_prefix_are_ignored() {
        for (prefix, inside, outside) in [
            ("10.0.0.1/8", "10.255.255.255", "11.0.0.0"),
            ("192.0.2.1/32", "192.0.2.1", "192.0.2.0"),
            ("192.0.2.0/31", "192.0.2.1", "192.0.2.2"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("fd00::1/128", "fd00::1", "fd00::"),
        ] {
            let parsed: Prefix = prefix.parse().unwrap();
            assert!(parsed.contains(addr(inside)) && !parsed.contains(addr(outside)), "{prefix}");
            assert_eq!(parsed.to_string(), prefix);
        }
    }

    #[test]
    fn a_length_of_zero_is_a_whole_family() {
        let all: Prefix = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains(addr("255.255.255.255")) && !all.contains(addr("::")));
        let all: Prefix = "::/0".parse().unwrap();
        assert!(all.contains(addr("ffff::")) && !all.contains(addr("0.0.0.0")));
    }

    #[test]
    fn other_strings_are_refused() {
        for text in
            ["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/-1", "10.0.0.0/8/8"]
        {
            assert_eq!(text.parse::<Prefix>(), Err(InvalidPrefix), "{text}");
        }
    }
}
