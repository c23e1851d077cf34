//! The TCP header and its options.

use crate::arbitrary;
use lastack_wire::checksum::Sum;
use lastack_wire::tcp::{Checksum, HeaderTemplate, SegmentFields};
use lastack_wire::{IpHeader, Malformed, SackBlocks, TcpFlags, TcpHeader, TcpOptions, Timestamps, ip, tcp};
use proptest::prelude::*;

/// A segment with these options, padded with zeros, and data.
fn segment(options: &[u8], text: &[u8]) -> Vec<u8> {
    let words = options.len().div_ceil(4);
    let mut segment = vec![0; 20];
    segment[12] = (5 + words as u8) << 4;
    segment.extend_from_slice(options);
    segment.resize(20 + words * 4, 0);
    segment.extend_from_slice(text);
    segment
}

fn parse_options(options: &[u8]) -> TcpOptions {
    let segment = segment(options, b"text");
    let (header, text) = TcpHeader::parse(&segment).expect("options are never an error");
    assert_eq!(text, b"text");
    header.options
}

/// The bytes that these options are emitted as.
fn emit_options(options: TcpOptions) -> Vec<u8> {
    let header = TcpHeader { options, ..Default::default() };
    let mut out = vec![];
    header.emit(&mut out);
    assert_eq!(out.len(), header.len());
    assert_eq!(usize::from(out[12] >> 4) * 4, out.len());
    out.split_off(20)
}

fn blocks(blocks: &[(u32, u32)]) -> SackBlocks {
    let mut sack = SackBlocks::new();
    for &block in blocks {
        assert!(sack.push(block));
    }
    sack
}

#[test]
fn flags_are_shown_as_tcpdump_does() {
    for (flags, shown) in [
        (TcpFlags::SYN, "S"),
        (TcpFlags::SYN | TcpFlags::ACK, "S."),
        (TcpFlags::RST, "R"),
        (TcpFlags::RST | TcpFlags::ACK, "R."),
        (TcpFlags::PSH | TcpFlags::ACK, "P."),
        (TcpFlags::FIN | TcpFlags::ACK, "F."),
        (TcpFlags::FIN | TcpFlags::PSH | TcpFlags::ACK, "FP."),
        (TcpFlags::ACK, "."),
        (TcpFlags::SYN | TcpFlags::ECE | TcpFlags::CWR, "SEW"),
        (TcpFlags::all(), "FSRP.UEWe"),
        (TcpFlags::empty(), "-"),
    ] {
        assert_eq!(flags.to_string(), shown);
    }
}

#[test]
fn bytes_of_a_header() {
    let header = TcpHeader {
        src_port: 0x0102,
        dst_port: 0x0304,
        seq: 0x0506_0708,
        ack: 0x090a_0b0c,
        flags: TcpFlags::AE | TcpFlags::CWR | TcpFlags::FIN,
        window: 0x0d0e,
        urgent: 0x0f10,
        options: TcpOptions::default(),
    };
    let mut out = vec![];
    header.emit(&mut out);
    assert_eq!(out, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x51, 0x81, 13, 14, 0, 0, 15, 16]);
}

#[test]
fn reserved_bits_are_not_read() {
    let mut reserved = segment(&[], b"");
    reserved[12] |= 0x0e;
    assert_eq!(TcpHeader::parse(&reserved).unwrap().0, TcpHeader::default());
}

#[test]
fn data_offset_out_of_bounds() {
    assert_eq!(TcpHeader::parse(&[0; 19]), Err(Malformed::Truncated));
    for (offset, len) in [(4, 20), (0, 60), (9, 20), (6, 23), (15, 59)] {
        let mut segment = vec![0; len];
        segment[12] = offset << 4;
        assert_eq!(TcpHeader::parse(&segment), Err(Malformed::HeaderLength), "{offset} words in {len} bytes");
    }
}

#[test]
fn order_of_options() {
    let all = TcpOptions {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { val: 1, ecr: 2 }),
        user_timeout: Some(0x8005),
        sack: blocks(&[(3, 4)]),
        signed: true,
    };
    let expected: &[u8] = &[
        2, 4, 5, 180, // MSS
        4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, // SACK permitted, timestamps
        1, 3, 3, 7, // window scale
        28, 4, 0x80, 5, // user timeout
        1, 1, 5, 10, 0, 0, 0, 3, 0, 0, 0, 4, // SACK
    ];
    assert_eq!(emit_options(all), expected);
    assert_eq!(parse_options(expected), TcpOptions { signed: false, ..all });
}

/// RFC 9293 MUST-64.
#[test]
fn options_may_begin_at_any_byte() {
    for before in 0..4 {
        let mut bytes = vec![1; before];
        bytes.extend([2, 4, 5, 180, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 3, 3, 7]);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let timestamps = Some(Timestamps { val: 1, ecr: 2 });
        let expected =
            TcpOptions { mss: Some(1460), window_scale: Some(7), timestamps, ..TcpOptions::default() };
        assert_eq!(parse_options(&bytes), expected, "{before}");
    }
}

#[test]
fn padding_of_single_options() {
    let options = TcpOptions { timestamps: Some(Timestamps { val: 1, ecr: 2 }), ..Default::default() };
    assert_eq!(emit_options(options), [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    let options = TcpOptions { sack_permitted: true, ..Default::default() };
    assert_eq!(emit_options(options), [1, 1, 4, 2]);
    assert_eq!(emit_options(TcpOptions::default()), []);
}

#[test]
fn sack_blocks_that_do_not_fit_are_left_out_from_the_end() {
    let sack = blocks(&[(1, 2), (3, 4), (5, 6), (7, 8)]);
    assert_eq!(emit_options(TcpOptions { sack, ..Default::default() }).len(), 36);

    let timestamps = Some(Timestamps::default());
    let with_timestamps = TcpOptions { sack, timestamps, ..Default::default() };
    let out = emit_options(with_timestamps);
    assert_eq!(out.len(), 40);
    assert_eq!(parse_options(&out).sack, blocks(&[(1, 2), (3, 4), (5, 6)]));

    let mss_and_timeout =
        TcpOptions { mss: Some(1), window_scale: Some(1), user_timeout: Some(1), ..with_timestamps };
    assert_eq!(parse_options(&emit_options(mss_and_timeout)).sack, blocks(&[(1, 2)]));
}

#[test]
fn a_fifth_block_is_refused() {
    let mut sack = blocks(&[(1, 2), (3, 4), (5, 6), (7, 8)]);
    assert!(!sack.push((9, 10)));
    assert_eq!(sack.len(), 4);
    assert_eq!((&sack).into_iter().last(), Some((7, 8)));
    assert_eq!(format!("{:?}", blocks(&[(1, 2)])), "[(1, 2)]");
    assert!(SackBlocks::new().is_empty());
}

#[test]
fn fast_and_slow_path_agree_on_timestamps() {
    let expected =
        TcpOptions { timestamps: Some(Timestamps { val: 0x0102_0304, ecr: 5 }), ..Default::default() };
    for options in [
        &[1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0, 5][..],
        &[8, 10, 1, 2, 3, 4, 0, 0, 0, 5, 1, 1],
        &[8, 10, 1, 2, 3, 4, 0, 0, 0, 5, 0, 0],
        &[1, 8, 10, 1, 2, 3, 4, 0, 0, 0, 5],
        &[1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0, 5, 1, 1, 1, 1],
    ] {
        assert_eq!(parse_options(options), expected, "{options:?}");
    }
}

#[test]
fn options_of_illegal_length_are_as_if_absent() {
    let mss = TcpOptions { mss: Some(1460), ..Default::default() };
    for illegal in [
        &[2, 3, 9][..],
        &[2, 5, 9, 9, 9],
        &[3, 2],
        &[3, 4, 9, 9],
        &[4, 3, 9],
        &[5, 2],
        &[5, 9, 9, 9, 9, 9, 9, 9, 9],
        &[8, 9, 9, 9, 9, 9, 9, 9, 9],
        &[19, 17, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9],
        &[28, 3, 9],
        &[29, 3, 9],
        &[77, 6, 9, 9, 9, 9], // unknown
        &[254, 2],
    ] {
        assert_eq!(parse_options(&[illegal, &[2, 4, 5, 180]].concat()), mss, "{illegal:?}");
    }
}

#[test]
fn an_option_without_length_ends_the_reading() {
    let scale = TcpOptions { window_scale: Some(7), ..Default::default() };
    for end in [&[0][..], &[2, 0], &[2, 1], &[77, 0], &[77, 41], &[77, 255], &[1, 1, 5]] {
        // Behind it, an MSS that must not be found.
        assert_eq!(parse_options(&[&[3, 3, 7], end, &[2, 4, 5, 180]].concat()), scale, "{end:?}");
    }
    assert_eq!(parse_options(&[3, 3, 7, 2]), scale, "a kind as the last byte");
}

#[test]
fn of_two_equal_options_the_last_counts() {
    assert_eq!(parse_options(&[2, 4, 0, 1, 2, 4, 0, 2]).mss, Some(2));
}

#[test]
fn signatures_are_seen() {
    let md5 = [&[19, 18][..], &[0; 16]].concat();
    assert!(parse_options(&md5).signed);
    assert!(parse_options(&[29, 4, 0, 0]).signed);
    assert!(parse_options(&[&[29, 16][..], &[7; 14]].concat()).signed);
    assert_eq!(emit_options(parse_options(&md5)), [], "a signature cannot be repeated");
}

#[test]
fn five_sack_blocks_cannot_be() {
    // 2 + 5 * 8 bytes do not fit in 40, so the length reaches past the end.
    let five = [&[5, 42][..], &[0; 38]].concat();
    assert_eq!(parse_options(&five), TcpOptions::default());
}

#[test]
fn partial_checksum_is_completed_by_summing_the_segment() {
    for ip in [
        IpHeader::new([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), ip::TCP),
        IpHeader::new([0x20; 16].into(), [0x21; 16].into(), ip::TCP),
    ] {
        let mut full = segment(&[], b"text");
        let mut partial = full.clone();
        tcp::fill_checksum(&ip, &mut full);
        tcp::fill_partial_checksum(&ip, &mut partial);
        // What a device does (checksum start 0, offset 16).
        let checksum = Sum::new().add(&partial).finish();
        partial[16..18].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(partial, full);
        assert!(tcp::checksum_ok(&ip, &partial));
        assert!(
            !tcp::checksum_ok(&IpHeader { protocol: ip::UDP, ..ip }, &partial),
            "the pseudo-header counts"
        );
    }
}

proptest! {
    /// A template gives the same bytes as building both headers from their fields.
    #[test]
    fn a_template_writes_the_fields(
        ip in arbitrary::ip_header(),
        header in arbitrary::tcp_header(),
        timestamps in any::<Option<(u32, u32)>>(),
        data in arbitrary::payload(),
        cut in any::<usize>(),
        checksum in prop_oneof![Just(Checksum::Full), Just(Checksum::Partial), Just(Checksum::None)],
    ) {
        let ip = IpHeader { protocol: ip::TCP, ..ip };
        let timestamps = timestamps.map(|(val, ecr)| Timestamps { val, ecr });
        let options = TcpOptions { timestamps, ..TcpOptions::default() };
        let header = TcpHeader { options, urgent: 0, ..header };
        let (first, second) = data.split_at(cut % (data.len() + 1));
        let mut expected = vec![];
        let len = tcp::emit_packet(&ip, &header, [first, second], checksum, &mut expected);
        let other = IpHeader { hop_limit: 1, traffic_class: 0xff, ..ip };
        let template =
            HeaderTemplate::new(&other, header.src_port, header.dst_port, timestamps.is_some());
        let fields = SegmentFields {
            seq: header.seq,
            ack: header.ack,
            flags: header.flags,
            window: header.window,
            timestamps: timestamps.unwrap_or_default(),
            ..SegmentFields::of(&ip)
        };
        let mut packet = vec![1; 100];
        template.emit(&fields, [first, second], checksum, &mut packet);
        prop_assert_eq!((packet.len(), template.len()), (len, len));
        prop_assert_eq!(&packet[..], &expected[..len]);
    }

    #[test]
    fn emitted_headers_are_parsed(header in arbitrary::tcp_header(), text in arbitrary::payload()) {
        let mut segment = vec![];
        header.emit(&mut segment);
        prop_assert_eq!(segment.len(), header.len());
        prop_assert_eq!(segment.len() % 4, 0);
        segment.extend_from_slice(&text);
        prop_assert_eq!(TcpHeader::parse(&segment), Ok((header, &text[..])));
    }

    #[test]
    fn a_filled_checksum_is_right_and_any_change_wrong(
        (ip, _, _, mut packet) in arbitrary::tcp_packet(), at in any::<usize>(), change in 1..=255u8,
    ) {
        let segment = &mut packet[ip.len()..];
        prop_assert!(tcp::checksum_ok(&ip, segment));
        let at = at % segment.len();
        segment[at] ^= change;
        prop_assert!(!tcp::checksum_ok(&ip, segment));
    }
}
