//! Values of every kind, for the properties.

use lastack_wire::{Fragment, IpHeader, SackBlocks, TcpFlags, TcpHeader, TcpOptions, Timestamps, ip};
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::IpAddr;

/// Source and destination of one version.
fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(src, dst)| (src.into(), dst.into())),
        any::<([u8; 16], [u8; 16])>().prop_map(|(src, dst)| (src.into(), dst.into())),
    ]
}

/// A header with a protocol that is no IPv6 extension header.
pub fn ip_header() -> impl Strategy<Value = IpHeader> {
    let protocol = prop_oneof![Just(ip::TCP), Just(ip::UDP), Just(ip::ICMP), Just(ip::ICMPV6), Just(132)];
    let rest = any::<(u8, u8, u32, u16, bool)>();
    (addresses(), protocol, rest).prop_map(|((src, dst), protocol, (hop_limit, class, label, ident, df))| {
        let v6 = src.is_ipv6();
        IpHeader {
            hop_limit,
            traffic_class: class,
            flow_label: if v6 { label & 0x000f_ffff } else { 0 },
            ident: if v6 { 0 } else { ident },
            dont_fragment: v6 || df,
            ..IpHeader::new(src, dst, protocol)
        }
    })
}

/// A real part of a packet; the identification fits IPv4 too.
pub fn fragment() -> impl Strategy<Value = Fragment> {
    any::<(u16, u16, bool)>()
        .prop_map(|(ident, offset, more)| Fragment {
            ident: u32::from(ident),
            offset: u32::from(offset & !7),
            more,
        })
        .prop_filter("a whole packet", |fragment| fragment.offset != 0 || fragment.more)
}

/// Options that can all be emitted: SACK blocks only as far as they fit beside the others.
pub fn tcp_options() -> impl Strategy<Value = TcpOptions> {
    let timestamps = any::<(u32, u32)>().prop_map(|(val, ecr)| Timestamps { val, ecr });
    (
        any::<Option<u16>>(),
        any::<Option<u8>>(),
        any::<bool>(),
        proptest::option::of(timestamps),
        any::<Option<u16>>(),
        vec(any::<(u32, u32)>(), 0..=SackBlocks::MAX),
    )
        .prop_map(|(mss, window_scale, sack_permitted, timestamps, user_timeout, blocks)| {
            let mut options = TcpOptions {
                mss,
                window_scale,
                sack_permitted,
                timestamps,
                user_timeout,
                ..Default::default()
            };
            let others = TcpHeader { options, ..Default::default() }.len();
            for block in blocks.into_iter().take((60 - others - 4) / 8) {
                assert!(options.sack.push(block));
            }
            options
        })
}

/// A header whose options can all be emitted.
pub fn tcp_header() -> impl Strategy<Value = TcpHeader> {
    (any::<(u16, u16, u32, u32, u16, u16, u16)>(), tcp_options()).prop_map(
        |((src_port, dst_port, seq, ack, flags, window, urgent), options)| TcpHeader {
            src_port,
            dst_port,
            seq,
            ack,
            flags: TcpFlags::from_bits_truncate(flags),
            window,
            urgent,
            options,
        },
    )
}

/// Bytes of a payload.
pub fn payload() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..200)
}

/// A packet of TCP, and what it was made of.
pub fn tcp_packet() -> impl Strategy<Value = (IpHeader, TcpHeader, Vec<u8>, Vec<u8>)> {
    (ip_header(), tcp_header(), payload()).prop_map(|(ip, tcp, text)| {
        let ip = IpHeader { protocol: ip::TCP, ..ip };
        let mut packet = Vec::new();
        ip.emit(tcp.len() + text.len(), &mut packet);
        tcp.emit(&mut packet);
        packet.extend_from_slice(&text);
        lastack_wire::tcp::fill_checksum(&ip, &mut packet[ip.len()..]);
        (ip, tcp, text, packet)
    })
}
