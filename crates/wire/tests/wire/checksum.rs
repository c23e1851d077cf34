//! The internet checksum.

use lastack_wire::checksum::Sum;
use proptest::prelude::*;

/// RFC 1071 section 1, word by word as it is defined.
fn by_definition(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[test]
fn example_of_rfc_1071() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(Sum::new().add(&bytes).folded(), 0xddf2);
    assert_eq!(Sum::new().add(&bytes).finish(), !0xddf2);
}

#[test]
fn nothing_and_zeros_sum_to_zero() {
    assert_eq!(Sum::new().folded(), 0);
    assert_eq!(Sum::new().finish(), 0xffff);
    assert_eq!(Sum::new().add(&[0; 100]).finish(), 0xffff);
    assert!(!Sum::new().is_valid());
}

#[test]
fn the_largest_packet_of_ones_does_not_overflow() {
    let ones = vec![0xff; 65535];
    assert_eq!(Sum::new().add(&ones).finish(), by_definition(&ones));
    let many =
        (0..1000).fold(Sum::new(), |sum, _| sum.add(&ones[..65534]).add_u32(u32::MAX).add_u16(u16::MAX));
    assert_eq!(many.folded(), 0xffff);
}

#[test]
fn ones_after_a_carry_keep_the_next_carry() {
    for len in [64, 128, 192, 256, 1448, 1472] {
        let mut bytes = vec![0xff; len];
        assert_eq!(Sum::new().add(&bytes).finish(), by_definition(&bytes), "{len} bytes");
        bytes[len - 1] = 0xfe;
        assert_eq!(Sum::new().add(&bytes).finish(), by_definition(&bytes), "{len} bytes");
        bytes[0] = 1;
        assert_eq!(Sum::new().add(&bytes).finish(), by_definition(&bytes), "{len} bytes");
    }
}

#[test]
fn every_length_agrees_with_the_definition() {
    let bytes: Vec<u8> = (0..600u32).map(|i| (i * 167 + 13) as u8).collect();
    for len in 0..bytes.len() {
        assert_eq!(Sum::new().add(&bytes[..len]).finish(), by_definition(&bytes[..len]), "{len} bytes");
    }
}

proptest! {
    #[test]
    fn parts_sum_to_the_whole(bytes in proptest::collection::vec(any::<u8>(), 0..2000), cut in any::<usize>()) {
        let cut = (cut % (bytes.len() + 1)) & !1;
        let (front, back) = bytes.split_at(cut);
        prop_assert_eq!(Sum::new().add(front).add(back).finish(), by_definition(&bytes));
    }

    #[test]
    fn two_strings_of_any_length_sum_to_the_whole(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        cut in any::<usize>(),
    ) {
        let (front, back) = bytes.split_at(cut % (bytes.len() + 1));
        prop_assert_eq!(Sum::new().add_both([front, back]).finish(), by_definition(&bytes));
    }

    #[test]
    fn numbers_count_as_their_bytes(a in any::<u16>(), b in any::<u32>(), rest in any::<[u8; 6]>()) {
        let mut bytes = a.to_be_bytes().to_vec();
        bytes.extend(b.to_be_bytes());
        bytes.extend(rest);
        prop_assert_eq!(Sum::new().add_u16(a).add_u32(b).add(&rest).finish(), by_definition(&bytes));
    }

    #[test]
    fn a_stored_checksum_makes_it_valid_and_a_changed_byte_does_not(
        mut bytes in proptest::collection::vec(any::<u8>(), 2..300),
        at in any::<usize>(),
        change in 1..=255u8,
    ) {
        bytes[0..2].fill(0);
        let checksum = Sum::new().add(&bytes).finish();
        bytes[0..2].copy_from_slice(&checksum.to_be_bytes());
        prop_assert!(Sum::new().add(&bytes).is_valid());
        let at = at % bytes.len();
        bytes[at] ^= change;
        prop_assert!(!Sum::new().add(&bytes).is_valid());
    }
}
