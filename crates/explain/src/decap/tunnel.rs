//! Tunnels: IP, Ethernet or PPP inside another packet. The inner connection is the one to explain.

use super::{Ip, Outer, Tunnel, TunnelKind, any_ip, inside, link};

const UDP: u8 = 17;

/// The innermost packet of `ip`, or `ip` itself if it is not a tunnel's.
pub(super) fn within(ip: Ip<'_>, outer: Outer) -> Option<Ip<'_>> {
    let missing = ip.length.saturating_sub(ip.payload.len() as u32);
    let mut inner = Outer { missing, depth: outer.depth + 1, ..outer };
    if inner.depth > super::DEPTH || ip.fragment {
        return Some(ip);
    }
    inner.tunnel = Tunnel { kind: None, id: 0, outer: Some((ip.src, ip.dst)) };
    let found = match ip.protocol {
        4 | 41 => any_ip(ip.payload, named(inner, TunnelKind::IpInIp, 0)),
        47 => gre(ip.payload, inner),
        // Authentication header: what follows is in clear.
        51 => authenticated(ip, outer),
        UDP => udp(ip.payload, inner),
        _ => None,
    };
    Some(found.unwrap_or(ip))
}

fn named(mut outer: Outer, kind: TunnelKind, id: u32) -> Outer {
    outer.tunnel.kind = Some(kind);
    outer.tunnel.id = id;
    outer
}

fn authenticated<'a>(ip: Ip<'a>, outer: Outer) -> Option<Ip<'a>> {
    let size = (usize::from(*ip.payload.get(1)?) + 2) * 4;
    let length = ip.length.checked_sub(size as u32)?;
    let inner = Ip { protocol: *ip.payload.first()?, payload: ip.payload.get(size..)?, length, ..ip };
    within(inner, Outer { depth: outer.depth + 1, ..outer })
}

fn gre(data: &[u8], outer: Outer) -> Option<Ip<'_>> {
    let head: [u8; 4] = *data.first_chunk()?;
    let version = head[1] & 7;
    if version > 1 {
        return None;
    }
    let kind = u16::from_be_bytes([head[2], head[3]]);
    let mut at = 4;
    if head[0] & 0xc0 != 0 {
        at += 4; // checksum, or routing
    }
    let mut key = 0;
    if head[0] & 0x20 != 0 {
        key = u32::from_be_bytes(*data.get(at..)?.first_chunk()?);
        at += 4;
    }
    let sequence = head[0] & 0x10 != 0;
    if sequence {
        at += 4;
    }
    if version == 1 {
        // PPTP: an acknowledgment, then PPP.
        at += usize::from(head[1] & 0x80 != 0) * 4;
        let rest = data.get(at..)?;
        let rest = rest.strip_prefix(&[0xff, 0x03]).unwrap_or(rest);
        return link::ppp(rest, named(outer, TunnelKind::Gre, key));
    }
    let rest = data.get(at..)?;
    let id = |rest: &[u8]| Some(u32::from(u16::from_be_bytes(*rest.get(2..)?.first_chunk()?) & 0x3ff));
    match kind {
        // ERSPAN I has no head of its own, and no sequence number in GRE.
        0x88be if !sequence => link::ethernet(rest, named(outer, TunnelKind::Erspan, 0)),
        0x88be => link::ethernet(rest.get(8..)?, named(outer, TunnelKind::Erspan, id(rest)?)),
        0x22eb => {
            let more = if rest.get(11)? & 1 != 0 { 8 } else { 0 };
            link::ethernet(rest.get(12 + more..)?, named(outer, TunnelKind::Erspan, id(rest)?))
        }
        _ => inside(kind, rest, named(outer, TunnelKind::Gre, key)),
    }
}

fn udp(data: &[u8], outer: Outer) -> Option<Ip<'_>> {
    let head: [u8; 8] = *data.first_chunk()?;
    let (source, destination) =
        (u16::from_be_bytes([head[0], head[1]]), u16::from_be_bytes([head[2], head[3]]));
    let inner = &data[8..];
    match destination {
        4789 | 8472 => vxlan(inner, outer),
        6081 => geneve(inner, outer),
        2152 => gtp(inner, outer),
        6635 => mpls(inner, outer),
        _ if destination == 3544 || source == 3544 => teredo(inner, outer),
        _ => None,
    }
}

fn vxlan(data: &[u8], outer: Outer) -> Option<Ip<'_>> {
    let head: [u8; 8] = *data.first_chunk()?;
    if head[0] & 0x08 == 0 {
        return None;
    }
    let id = u32::from_be_bytes([0, head[4], head[5], head[6]]);
    link::ethernet(&data[8..], named(outer, TunnelKind::Vxlan, id))
}

fn geneve(data: &[u8], outer: Outer) -> Option<Ip<'_>> {
    let head: [u8; 8] = *data.first_chunk()?;
    if head[0] >> 6 != 0 {
        return None;
    }
    let options = usize::from(head[0] & 0x3f) * 4;
    let id = u32::from_be_bytes([0, head[4], head[5], head[6]]);
    let kind = u16::from_be_bytes([head[2], head[3]]);
    inside(kind, data.get(8 + options..)?, named(outer, TunnelKind::Geneve, id))
}

fn gtp(data: &[u8], outer: Outer) -> Option<Ip<'_>> {
    let head: [u8; 8] = *data.first_chunk()?;
    let (version, user_data) = (head[0] >> 4, head[1] == 255);
    if version != 3 || !user_data {
        return None;
    }
    let id = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let mut at = 8;
    if head[0] & 7 != 0 {
        at = 12;
        let mut next = if head[0] & 4 != 0 { *data.get(11)? } else { 0 };
        while next != 0 {
            let size = usize::from(*data.get(at)?) * 4;
            if size == 0 {
                return None;
            }
            next = *data.get(at + size - 1)?;
            at += size;
        }
    }
    any_ip(data.get(at..)?, named(outer, TunnelKind::Gtp, id))
}

fn teredo(mut data: &[u8], outer: Outer) -> Option<Ip<'_>> {
    if let [0, 1, client, auth, ..] = *data {
        data = data.get(13 + usize::from(client) + usize::from(auth)..)?;
    }
    if let [0, 0, ..] = *data {
        data = data.get(8..)?;
    }
    if data.first()? >> 4 == 6 { any_ip(data, named(outer, TunnelKind::Teredo, 0)) } else { None }
}

/// Labels up to the bottom of the stack; what is below is known by its first half byte.
pub(super) fn mpls(mut data: &[u8], mut outer: Outer) -> Option<Ip<'_>> {
    outer.depth += 1;
    if outer.depth > super::DEPTH {
        return None;
    }
    let mut label = 0;
    for _ in 0..16 {
        let entry = u32::from_be_bytes(*data.first_chunk()?);
        data = &data[4..];
        label = entry >> 12;
        if entry & 0x100 != 0 {
            break;
        }
    }
    let outer = named(outer, TunnelKind::Mpls, label);
    match data.first()? >> 4 {
        4 | 6 => any_ip(data, outer),
        // A pseudowire's control word before Ethernet, or none.
        0 => link::ethernet(data.get(4..)?, outer).or_else(|| link::ethernet(data, outer)),
        _ => link::ethernet(data, outer),
    }
}

pub(super) fn pppoe(data: &[u8], outer: Outer) -> Option<Ip<'_>> {
    let head: [u8; 6] = *data.first_chunk()?;
    if head[0] != 0x11 || head[1] != 0 {
        return None;
    }
    let session = u32::from(u16::from_be_bytes([head[2], head[3]]));
    link::ppp(&data[6..], named(outer, TunnelKind::Pppoe, session))
}
