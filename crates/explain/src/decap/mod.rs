//! From the bytes of a link to the IP packet that matters: through link headers and tunnels.

mod link;
mod tunnel;

use crate::packet::Addr;
use std::fmt;

pub use link::is_known;

/// How deep headers may be nested.
const DEPTH: u8 = 12;

/// The tunnel around a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tunnel {
    kind: Option<TunnelKind>,
    /// Its number: VNI, TEID, key, session.
    id: u32,
    outer: Option<(Addr, Addr)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum TunnelKind {
    Vxlan,
    Geneve,
    Gtp,
    Gre,
    Erspan,
    Teredo,
    IpInIp,
    Mpls,
    Pppoe,
}

impl Tunnel {
    /// Whether there is a tunnel.
    #[must_use]
    pub const fn is_some(&self) -> bool {
        self.kind.is_some()
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(kind) = self.kind else { return Ok(()) };
        match kind {
            TunnelKind::Vxlan => write!(f, "VXLAN {}", self.id)?,
            TunnelKind::Geneve => write!(f, "Geneve {}", self.id)?,
            TunnelKind::Gtp => write!(f, "GTP-U {:#010x}", self.id)?,
            TunnelKind::Gre => write!(f, "GRE")?,
            TunnelKind::Erspan => write!(f, "ERSPAN {}", self.id)?,
            TunnelKind::Teredo => write!(f, "Teredo")?,
            TunnelKind::IpInIp => write!(f, "IP-in-IP")?,
            TunnelKind::Mpls => write!(f, "MPLS {}", self.id)?,
            TunnelKind::Pppoe => write!(f, "PPPoE {}", self.id)?,
        }
        if let Some((src, dst)) = self.outer {
            write!(f, " between {} and {}", src.min(dst), src.max(dst))?;
        }
        Ok(())
    }
}

/// An IP packet, without its headers.
#[derive(Clone, Copy, Debug)]
pub struct Ip<'a> {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Hop limit.
    pub ttl: u8,
    /// Identification; 0 for IPv6.
    pub ident: u16,
    /// The payload as far as it was captured.
    pub payload: &'a [u8],
    /// Bytes of the payload on the wire.
    pub length: u32,
    /// Whether it is the first fragment of several.
    pub fragment: bool,
    /// The sender's hardware address; zeros if there is none.
    pub mac: [u8; 6],
    /// What distinguishes copies of one packet on several interfaces.
    pub tap: u32,
    /// The tunnel around it.
    pub tunnel: Tunnel,
}

/// The state while headers are removed.
#[derive(Clone, Copy, Default)]
struct Outer {
    mac: [u8; 6],
    tap: u32,
    tunnel: Tunnel,
    /// Bytes that were not captured, at the end of the packet.
    missing: u32,
    depth: u8,
}

/// Finds the IP packet in what was captured on a link. `None`: there is none, or only a later fragment.
#[must_use]
pub fn dissect(link: u16, data: &[u8], length: u32, interface: u32) -> Option<Ip<'_>> {
    let missing = length.saturating_sub(data.len() as u32);
    let outer = Outer { missing, tap: interface << 4, ..Outer::default() };
    link::strip(link, data, outer)
}

fn inside<'a>(ethertype: u16, data: &'a [u8], mut outer: Outer) -> Option<Ip<'a>> {
    outer.depth += 1;
    if outer.depth > DEPTH {
        return None;
    }
    match ethertype {
        0x0800 | 0x86dd => any_ip(data, outer),
        0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
            let next = u16::from_be_bytes(*data.get(2..)?.first_chunk()?);
            if next < 0x600 { link::llc(data.get(4..)?, outer) } else { inside(next, data.get(4..)?, outer) }
        }
        0x8847 | 0x8848 => tunnel::mpls(data, outer),
        0x8864 => tunnel::pppoe(data, outer),
        0x6558 => link::ethernet(data, outer),
        // Cisco metadata: two bytes, the options, then an ethertype.
        0x8909 => inside(u16::from_be_bytes(*data.get(6..)?.first_chunk()?), data.get(8..)?, outer),
        _ => None,
    }
}

/// IP of the version in the first byte.
fn any_ip(data: &[u8], outer: Outer) -> Option<Ip<'_>> {
    match data.first()? >> 4 {
        4 => ipv4(data, outer),
        6 => ipv6(data, outer),
        _ => None,
    }
}

fn ipv4(data: &[u8], outer: Outer) -> Option<Ip<'_>> {
    let head: &[u8; 20] = data.first_chunk()?;
    let header = usize::from(head[0] & 15) * 4;
    if header < 20 {
        return None;
    }
    let total = u32::from(u16::from_be_bytes([head[2], head[3]]));
    let on_wire = data.len() as u32 + outer.missing;
    // A total length of 0: the device was to cut the packet and fill it in.
    let total = if total == 0 { on_wire } else { total.min(on_wire.max(total.min(65_535))) };
    let length = total.checked_sub(header as u32)?;
    let offset = u16::from_be_bytes([head[6], head[7]]);
    if offset & 0x1fff != 0 {
        return None;
    }
    let captured = data.get(header..)?;
    let payload = &captured[..captured.len().min(length as usize)];
    let ip = Ip {
        src: Addr::v4([head[12], head[13], head[14], head[15]]),
        dst: Addr::v4([head[16], head[17], head[18], head[19]]),
        protocol: head[9],
        ttl: head[8],
        ident: u16::from_be_bytes([head[4], head[5]]),
        payload,
        length,
        fragment: offset & 0x2000 != 0,
        mac: outer.mac,
        tap: outer.tap,
        tunnel: outer.tunnel,
    };
    tunnel::within(ip, outer)
}

fn ipv6(data: &[u8], outer: Outer) -> Option<Ip<'_>> {
    let head: &[u8; 40] = data.first_chunk()?;
    let on_wire = (data.len() as u32 + outer.missing).checked_sub(40)?;
    let mut length = match u32::from(u16::from_be_bytes([head[4], head[5]])) {
        0 => on_wire,
        length => length,
    };
    let mut payload = &data[40..];
    payload = &payload[..payload.len().min(length as usize)];
    let mut protocol = head[6];
    let mut fragment = false;
    for _ in 0..8 {
        let size = match protocol {
            0 | 43 | 60 | 135 => (usize::from(*payload.get(1)?) + 1) * 8,
            51 => (usize::from(*payload.get(1)?) + 2) * 4,
            44 => {
                let field = u16::from_be_bytes(*payload.get(2..)?.first_chunk()?);
                if field & 0xfff8 != 0 {
                    return None;
                }
                fragment |= field & 1 != 0;
                8
            }
            _ => break,
        };
        protocol = *payload.first()?;
        payload = payload.get(size..)?;
        length = length.checked_sub(size as u32)?;
    }
    let ip = Ip {
        src: Addr::v6(*data[8..].first_chunk()?),
        dst: Addr::v6(*data[24..].first_chunk()?),
        protocol,
        ttl: head[7],
        ident: 0,
        payload,
        length,
        fragment,
        mac: outer.mac,
        tap: outer.tap,
        tunnel: outer.tunnel,
    };
    tunnel::within(ip, outer)
}
