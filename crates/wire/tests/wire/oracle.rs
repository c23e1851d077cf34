//! etherparse as a second opinion: it reads what we write, and we read what it writes.

use crate::arbitrary;
use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpHeaders, Ipv4Header, Ipv6Header,
    NetSlice, PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice, icmpv4, icmpv6,
};
use lastack_wire::{
    Icmp, IcmpError, IpHeader, IpPacket, SackBlocks, TcpFlags, TcpHeader, TcpOptions, Timestamps, UdpHeader,
    ip, tcp,
};
use proptest::prelude::*;
use std::net::IpAddr;

/// The header as etherparse has it.
fn theirs(header: &IpHeader) -> IpHeaders {
    match (header.src, header.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut v4 =
                Ipv4Header::new(0, header.hop_limit, header.protocol.into(), src.octets(), dst.octets())
                    .expect("nothing is no long payload");
            v4.dscp = (header.traffic_class >> 2).try_into().expect("6 bits");
            v4.ecn = (header.traffic_class & 3).try_into().expect("2 bits");
            v4.identification = header.ident;
            v4.dont_fragment = header.dont_fragment;
            IpHeaders::Ipv4(v4, Default::default())
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let v6 = Ipv6Header {
                traffic_class: header.traffic_class,
                flow_label: header.flow_label.try_into().expect("20 bits"),
                payload_length: 0,
                next_header: header.protocol.into(),
                hop_limit: header.hop_limit,
                source: src.octets(),
                destination: dst.octets(),
            };
            IpHeaders::Ipv6(v6, Default::default())
        }
        _ => unreachable!("both addresses are of one version"),
    }
}

/// The options as etherparse has them; it does not support the user timeout.
fn options_of(elements: impl Iterator<Item = TcpOptionElement>) -> TcpOptions {
    let mut options = TcpOptions::default();
    for element in elements {
        match element {
            TcpOptionElement::Noop => {}
            TcpOptionElement::MaximumSegmentSize(mss) => options.mss = Some(mss),
            TcpOptionElement::WindowScale(shift) => options.window_scale = Some(shift),
            TcpOptionElement::SelectiveAcknowledgementPermitted => options.sack_permitted = true,
            TcpOptionElement::SelectiveAcknowledgement(first, rest) => {
                options.sack = SackBlocks::new();
                for block in std::iter::once(first).chain(rest.into_iter().flatten()) {
                    assert!(options.sack.push(block));
                }
            }
            TcpOptionElement::Timestamp(val, ecr) => options.timestamps = Some(Timestamps { val, ecr }),
        }
    }
    options
}

fn sack_element(sack: &SackBlocks) -> Option<TcpOptionElement> {
    let mut blocks = sack.iter();
    let first = blocks.next()?;
    Some(TcpOptionElement::SelectiveAcknowledgement(first, [blocks.next(), blocks.next(), blocks.next()]))
}

/// The options in an order that is not ours, without padding between them.
fn elements_of(options: &TcpOptions) -> Vec<TcpOptionElement> {
    let timestamps = options.timestamps.map(|Timestamps { val, ecr }| TcpOptionElement::Timestamp(val, ecr));
    let sack_permitted =
        options.sack_permitted.then_some(TcpOptionElement::SelectiveAcknowledgementPermitted);
    let elements = [
        sack_element(&options.sack),
        timestamps,
        options.window_scale.map(TcpOptionElement::WindowScale),
        sack_permitted,
        options.mss.map(TcpOptionElement::MaximumSegmentSize),
    ];
    elements.into_iter().flatten().collect()
}

/// The header as etherparse has it.
fn their_tcp(header: &TcpHeader) -> etherparse::TcpHeader {
    let mut tcp = etherparse::TcpHeader::new(header.src_port, header.dst_port, header.seq, header.window);
    tcp.acknowledgment_number = header.ack;
    tcp.urgent_pointer = header.urgent;
    for (flag, theirs) in [
        (TcpFlags::FIN, &mut tcp.fin),
        (TcpFlags::SYN, &mut tcp.syn),
        (TcpFlags::RST, &mut tcp.rst),
        (TcpFlags::PSH, &mut tcp.psh),
        (TcpFlags::ACK, &mut tcp.ack),
        (TcpFlags::URG, &mut tcp.urg),
        (TcpFlags::ECE, &mut tcp.ece),
        (TcpFlags::CWR, &mut tcp.cwr),
        (TcpFlags::AE, &mut tcp.ns),
    ] {
        *theirs = header.flags.contains(flag);
    }
    tcp.set_options(&elements_of(&header.options)).expect("they fit us, so they fit etherparse");
    tcp
}

fn transport(packet: &[u8]) -> TransportSlice<'_> {
    let sliced = SlicedPacket::from_ip(packet).expect("etherparse reads it");
    sliced.transport.expect("etherparse knows the protocol")
}

proptest! {
    #[test]
    fn etherparse_reads_our_ip_header(header in arbitrary::ip_header(), payload in arbitrary::payload()) {
        let header = IpHeader { protocol: 132, ..header };
        let mut packet = vec![];
        header.emit(payload.len(), &mut packet);
        packet.extend_from_slice(&payload);
        let sliced = SlicedPacket::from_ip(&packet).unwrap();
        prop_assert_eq!(sliced.ip_payload().unwrap().payload, &payload[..]);
        match (sliced.net.unwrap(), theirs(&header)) {
            (NetSlice::Ipv4(read), IpHeaders::Ipv4(mut expected, _)) => {
                expected.total_len = packet.len() as u16;
                expected.header_checksum = expected.calc_header_checksum();
                prop_assert_eq!(read.header().to_header(), expected);
            }
            (NetSlice::Ipv6(read), IpHeaders::Ipv6(mut expected, _)) => {
                expected.payload_length = payload.len() as u16;
                prop_assert_eq!(read.header().to_header(), expected);
            }
            _ => prop_assert!(false, "another version was read"),
        }
    }

    #[test]
    fn etherparse_reads_our_tcp_header((ip, header, text, packet) in arbitrary::tcp_packet()) {
        let TransportSlice::Tcp(read) = transport(&packet) else { panic!("no TCP") };
        prop_assert_eq!(read.payload(), &text[..]);
        let options = TcpOptions { user_timeout: None, ..header.options };
        // It stops at the user timeout, which it does not support.
        if header.options.user_timeout.is_none() {
            prop_assert_eq!(options_of(read.options_iterator().map(Result::unwrap)), options);
        }
        let mut expected = their_tcp(&header);
        expected.checksum = read.checksum();
        let mut read_header = read.to_header();
        // The options were compared, and have another order here.
        read_header.set_options(&[]).unwrap();
        expected.set_options(&[]).unwrap();
        prop_assert_eq!(read_header, expected);
        let checksum = match (ip.src, ip.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => read.calc_checksum_ipv4(src.octets(), dst.octets()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => read.calc_checksum_ipv6(src.octets(), dst.octets()),
            _ => unreachable!(),
        };
        prop_assert_eq!(checksum.unwrap(), read.checksum());
    }

    #[test]
    fn we_read_the_tcp_packet_of_etherparse(
        ip in arbitrary::ip_header(), header in arbitrary::tcp_header(), text in arbitrary::payload(),
    ) {
        let ip = IpHeader { protocol: ip::TCP, ..ip };
        let mut header = header;
        header.options.user_timeout = None;
        let mut bytes = vec![];
        PacketBuilder::ip(theirs(&ip)).tcp_header(their_tcp(&header)).write(&mut bytes, &text).unwrap();
        let packet = IpPacket::parse(&bytes).unwrap();
        prop_assert_eq!(packet.header, ip);
        prop_assert!(tcp::checksum_ok(&ip, packet.payload));
        prop_assert_eq!(TcpHeader::parse(packet.payload), Ok((header, &text[..])));
    }

    #[test]
    fn we_write_the_udp_packet_of_etherparse(
        ip in arbitrary::ip_header(), src_port in any::<u16>(), dst_port in any::<u16>(), payload in arbitrary::payload(),
    ) {
        let ip = IpHeader { protocol: ip::UDP, ..ip };
        let mut theirs_bytes = vec![];
        PacketBuilder::ip(theirs(&ip)).udp(src_port, dst_port).write(&mut theirs_bytes, &payload).unwrap();
        let header = UdpHeader { src_port, dst_port };
        let mut ours = vec![];
        ip.emit(UdpHeader::LEN + payload.len(), &mut ours);
        header.emit(&ip, &payload, &mut ours);
        prop_assert_eq!(&ours, &theirs_bytes);
        let packet = IpPacket::parse(&theirs_bytes).unwrap();
        prop_assert_eq!(UdpHeader::parse(&packet.header, packet.payload), Ok((header, &payload[..])));
    }

    #[test]
    fn we_write_the_echo_of_etherparse(
        ip in arbitrary::ip_header(), reply in any::<bool>(), id in any::<u16>(), seq in any::<u16>(),
        data in arbitrary::payload(),
    ) {
        let ip = IpHeader { protocol: if ip.is_v6() { ip::ICMPV6 } else { ip::ICMP }, ..ip };
        let mut ours = vec![];
        Icmp::Echo { reply, ident: id, seq, data: &data }.emit(&ip, &mut ours);
        let echo = IcmpEchoHeader { id, seq };
        let mut theirs = match (ip.src, ip.dst) {
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let kind = if reply { Icmpv6Type::EchoReply(echo) } else { Icmpv6Type::EchoRequest(echo) };
                let header = Icmpv6Header::with_checksum(kind, src.octets(), dst.octets(), &data).unwrap();
                header.to_bytes().to_vec()
            }
            _ => {
                let kind = if reply { Icmpv4Type::EchoReply(echo) } else { Icmpv4Type::EchoRequest(echo) };
                Icmpv4Header::with_checksum(kind, &data).to_bytes().to_vec()
            }
        };
        theirs.extend_from_slice(&data);
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn we_write_the_icmp_errors_of_etherparse(mtu in any::<u16>(), pointer in any::<u8>(), quote in arbitrary::payload()) {
        use icmpv4::DestUnreachableHeader as Unreachable;
        let ip = IpHeader::new([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), ip::ICMP);
        let (too_big, too_big_type) =
            (IcmpError::packet_too_big(false, mtu.into()), Unreachable::FragmentationNeeded { next_hop_mtu: mtu });
        let problem = icmpv4::ParameterProblemHeader::PointerIndicatesError(pointer);
        for (error, kind) in [
            (IcmpError::net_unreachable(false), Icmpv4Type::DestinationUnreachable(Unreachable::Network)),
            (IcmpError::host_unreachable(false), Icmpv4Type::DestinationUnreachable(Unreachable::Host)),
            (IcmpError::protocol_unreachable(false, 9), Icmpv4Type::DestinationUnreachable(Unreachable::Protocol)),
            (IcmpError::port_unreachable(false), Icmpv4Type::DestinationUnreachable(Unreachable::Port)),
            (IcmpError::admin_prohibited(false), Icmpv4Type::DestinationUnreachable(Unreachable::FilterProhibited)),
            (too_big, Icmpv4Type::DestinationUnreachable(too_big_type)),
            (IcmpError::time_exceeded(false), Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit)),
            (
                IcmpError::reassembly_timeout(false),
                Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::FragmentReassemblyTimeExceeded),
            ),
            (IcmpError::parameter_problem(false, pointer.into()), Icmpv4Type::ParameterProblem(problem)),
        ] {
            let mut ours = vec![];
            Icmp::Error { error, quoted: &quote }.emit(&ip, &mut ours);
            let mut theirs = Icmpv4Header::with_checksum(kind, &quote).to_bytes().to_vec();
            theirs.extend_from_slice(&quote);
            prop_assert_eq!(ours, theirs, "{}", error);
        }
    }

    #[test]
    fn we_write_the_icmpv6_errors_of_etherparse(mtu in any::<u32>(), pointer in any::<u32>(), quote in arbitrary::payload()) {
        use icmpv6::{DestUnreachableCode as Unreachable, ParameterProblemCode, ParameterProblemHeader};
        let ip = IpHeader::new([0x20; 16].into(), [0x21; 16].into(), ip::ICMPV6);
        let problem =
            |code| Icmpv6Type::ParameterProblem(ParameterProblemHeader { code, pointer });
        for (error, kind) in [
            (IcmpError::net_unreachable(true), Icmpv6Type::DestinationUnreachable(Unreachable::NoRoute)),
            (IcmpError::admin_prohibited(true), Icmpv6Type::DestinationUnreachable(Unreachable::Prohibited)),
            (IcmpError::host_unreachable(true), Icmpv6Type::DestinationUnreachable(Unreachable::Address)),
            (IcmpError::port_unreachable(true), Icmpv6Type::DestinationUnreachable(Unreachable::Port)),
            (IcmpError::packet_too_big(true, mtu), Icmpv6Type::PacketTooBig { mtu }),
            (IcmpError::time_exceeded(true), Icmpv6Type::TimeExceeded(icmpv6::TimeExceededCode::HopLimitExceeded)),
            (
                IcmpError::reassembly_timeout(true),
                Icmpv6Type::TimeExceeded(icmpv6::TimeExceededCode::FragmentReassemblyTimeExceeded),
            ),
            (IcmpError::parameter_problem(true, pointer), problem(ParameterProblemCode::ErroneousHeaderField)),
            (IcmpError::protocol_unreachable(true, pointer), problem(ParameterProblemCode::UnrecognizedNextHeader)),
        ] {
            let mut ours = vec![];
            Icmp::Error { error, quoted: &quote }.emit(&ip, &mut ours);
            let header = Icmpv6Header::with_checksum(kind, [0x20; 16], [0x21; 16], &quote).unwrap();
            let mut theirs = header.to_bytes().to_vec();
            theirs.extend_from_slice(&quote);
            prop_assert_eq!(ours, theirs, "{}", error);
        }
    }

    #[test]
    fn same_sum_as_etherparse(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let theirs = etherparse::checksum::Sum16BitWords::new().add_slice(&bytes).ones_complement().to_be();
        prop_assert_eq!(lastack_wire::checksum::Sum::new().add(&bytes).finish(), theirs);
    }
}
