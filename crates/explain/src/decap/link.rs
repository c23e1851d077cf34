//! Link headers, by LINKTYPE_ number.

use super::{Ip, Outer, any_ip, inside};

const LLC_SNAP: [u8; 3] = [0xaa, 0xaa, 0x03];

/// Whether packets of this link type can be read.
#[must_use]
pub fn is_known(link: u16) -> bool {
    matches!(
        link,
        0 | 1
            | 8
            | 9
            | 12
            | 14
            | 50
            | 51
            | 101
            | 104
            | 105
            | 107
            | 108
            | 109
            | 113
            | 119
            | 127
            | 163
            | 228
            | 229
            | 239
            | 276
    )
}

/// Takes the link header off.
pub(super) fn strip(link: u16, data: &[u8], outer: Outer) -> Option<Ip<'_>> {
    match link {
        1 => ethernet(data, outer),
        0 | 108 | 109 => loopback(data, outer),
        12 | 14 | 101 | 228 | 229 => any_ip(data, outer),
        8 => any_ip(data, outer).or_else(|| any_ip(data.get(16..)?, outer)),
        9 | 50 => ppp_or_hdlc(data, outer),
        51 => super::tunnel::pppoe(data, outer),
        104 => cisco_hdlc(data, outer),
        107 => frame_relay(data, outer),
        105 => wifi(data, outer),
        127 => wifi(data.get(usize::from(u16::from_le_bytes(*data.get(2..)?.first_chunk()?))..)?, outer),
        // Prism and AVS: the length of the head stands in it.
        119 | 163 => wifi(data.get(u32::from_be_bytes(*data.get(4..)?.first_chunk()?) as usize..)?, outer)
            .or_else(|| {
                wifi(data.get(u32::from_le_bytes(*data.get(4..)?.first_chunk()?) as usize..)?, outer)
            }),
        113 => cooked(data, outer),
        276 => cooked2(data, outer),
        239 => nflog(data, outer),
        _ => None,
    }
}

pub(super) fn ethernet(data: &[u8], mut outer: Outer) -> Option<Ip<'_>> {
    let head: &[u8; 14] = data.first_chunk()?;
    outer.mac.copy_from_slice(&head[6..12]);
    let kind = u16::from_be_bytes([head[12], head[13]]);
    if kind < 0x600 { llc(&data[14..], outer) } else { inside(kind, &data[14..], outer) }
}

/// IEEE 802.2 with SNAP.
pub(super) fn llc(data: &[u8], outer: Outer) -> Option<Ip<'_>> {
    if data.get(..3)? == LLC_SNAP {
        return inside(u16::from_be_bytes(*data.get(6..)?.first_chunk()?), data.get(8..)?, outer);
    }
    // The service access point of IP (RFC 948 and some devices).
    if data.get(..3)? == [6, 6, 3] { any_ip(data.get(3..)?, outer) } else { None }
}

/// BSD loopback: an address family of four bytes, whose numbers differ from system to system.
fn loopback(data: &[u8], outer: Outer) -> Option<Ip<'_>> {
    any_ip(data.get(4..)?, outer)
}

fn ppp_or_hdlc(data: &[u8], outer: Outer) -> Option<Ip<'_>> {
    match data {
        [0xff, 0x03, rest @ ..] => ppp(rest, outer),
        [0x0f | 0x8f, 0x00, ..] => cisco_hdlc(data, outer),
        _ => ppp(data, outer),
    }
}

/// Behind address and control: a protocol of one or two bytes.
pub(super) fn ppp(data: &[u8], outer: Outer) -> Option<Ip<'_>> {
    match *data {
        [0x00, 0x21 | 0x57, ref rest @ ..] | [0x21 | 0x57, ref rest @ ..] => any_ip(rest, outer),
        [0x02, 0x81 | 0x83, ref rest @ ..] => super::tunnel::mpls(rest, outer),
        _ => None,
    }
}

fn cisco_hdlc(data: &[u8], outer: Outer) -> Option<Ip<'_>> {
    inside(u16::from_be_bytes(*data.get(2..)?.first_chunk()?), data.get(4..)?, outer)
}

/// Q.922 with the network layer's identifier (RFC 2427), or with an ethertype (Cisco).
fn frame_relay(data: &[u8], outer: Outer) -> Option<Ip<'_>> {
    let rest = data.get(2..)?;
    match *rest {
        [0x03, 0xcc | 0x8e, ref ip @ ..] => any_ip(ip, outer),
        [0x03, 0x00, 0x80, _, _, _, a, b, ref inner @ ..] => inside(u16::from_be_bytes([a, b]), inner, outer),
        [a, b, ref inner @ ..] => inside(u16::from_be_bytes([a, b]), inner, outer),
        _ => None,
    }
}

/// IEEE 802.11 data frames that are not encrypted.
fn wifi(data: &[u8], mut outer: Outer) -> Option<Ip<'_>> {
    let control: [u8; 2] = *data.first_chunk()?;
    let is_data = control[0] & 0x0c == 0x08 && control[0] & 0x40 == 0;
    let protected = control[1] & 0x40 != 0;
    if !is_data || protected {
        return None;
    }
    let mut header = 24;
    if control[1] & 3 == 3 {
        header += 6;
    }
    if control[0] & 0x80 != 0 {
        header += 2;
        if control[1] & 0x80 != 0 {
            header += 4;
        }
    }
    outer.mac = *data.get(10..)?.first_chunk()?;
    llc(data.get(header..)?, outer)
}

/// Linux cooked capture: copies on several interfaces differ in the packet type.
fn cooked(data: &[u8], mut outer: Outer) -> Option<Ip<'_>> {
    let head: &[u8; 16] = data.first_chunk()?;
    outer.mac = *head[6..].first_chunk()?;
    outer.tap |= u32::from(head[1] & 7) + 1;
    cooked_protocol(u16::from_be_bytes([head[14], head[15]]), &data[16..], outer)
}

fn cooked2(data: &[u8], mut outer: Outer) -> Option<Ip<'_>> {
    let head: &[u8; 20] = data.first_chunk()?;
    outer.mac = *head[12..].first_chunk()?;
    let interface = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    outer.tap ^= (interface << 4) ^ (u32::from(head[10] & 7) + 1);
    cooked_protocol(u16::from_be_bytes([head[0], head[1]]), &data[20..], outer)
}

fn cooked_protocol(protocol: u16, data: &[u8], outer: Outer) -> Option<Ip<'_>> {
    match protocol {
        // 802.3 frames, and 802.2 without a length.
        1 | 4 => llc(data, outer),
        protocol => inside(protocol, data, outer).or_else(|| any_ip(data, outer)),
    }
}

/// netfilter's log: attributes, one of which is the packet.
fn nflog(data: &[u8], outer: Outer) -> Option<Ip<'_>> {
    const PAYLOAD: u16 = 9;
    let walk = |read: fn([u8; 2]) -> u16| {
        let mut rest = data.get(4..)?;
        loop {
            let size = usize::from(read(*rest.first_chunk()?));
            let kind = read(*rest.get(2..)?.first_chunk()?) & 0x7fff;
            let value = rest.get(4..size.max(4).min(rest.len()))?;
            if kind == PAYLOAD {
                return any_ip(value, outer);
            }
            if size < 4 {
                return None;
            }
            rest = rest.get(size.next_multiple_of(4)..)?;
        }
    };
    walk(u16::from_le_bytes).or_else(|| walk(u16::from_be_bytes))
}
