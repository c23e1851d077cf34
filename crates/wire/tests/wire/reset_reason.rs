//! The reasons in RST segments.

use lastack_wire::ResetReason;
use lastack_wire::reset_reason::{LEN, has_magic};
use proptest::prelude::*;

/// T196.
#[test]
fn examples_of_the_draft() {
    for (payload, reason) in [
        ([0x33, 0xaa, 0x00, 0x05, 0, 0, 0, 0], ResetReason::AckInListen),
        ([0x33, 0xaa, 0x00, 0x10, 0, 0, 0, 0], ResetReason::ConnectionTimeout),
        ([0x33, 0xaa, 0x04, 0xd2, 0, 0, 0x7e, 0xd9], ResetReason::Vendor { pen: 32473, code: 1234 }),
    ] {
        assert_eq!(ResetReason::from_payload(&payload), Some(reason));
        assert_eq!(reason.to_payload(), payload);
    }
}

/// T198.
#[test]
fn the_registry_has_codes_1_to_19_in_order() {
    let codes: Vec<u16> = ResetReason::REGISTERED.iter().map(|reason| reason.code()).collect();
    assert_eq!(codes, (1..=19).collect::<Vec<_>>());
    for &reason in ResetReason::REGISTERED {
        assert_eq!(ResetReason::registered(reason.code()), Some(reason));
        assert_eq!(reason.pen(), 0);
    }
    assert_eq!(ResetReason::registered(0), None);
    assert_eq!(ResetReason::registered(20), Some(ResetReason::Unassigned(20)));
}

/// T205.
#[test]
fn versions_before_03_had_17_codes_with_other_meanings() {
    let both: Vec<_> =
        ResetReason::REGISTERED.iter().filter(|r| r.earlier_reading() == Some(r.text())).collect();
    assert_eq!(both, [&ResetReason::IllegalOptionLength], "the only number that kept its meaning");
    let known = ResetReason::REGISTERED.iter().filter(|r| r.earlier_reading().is_some()).count();
    assert_eq!(known, 17);
    // What both versions have, -03 has under another number: ABORT was 4 and is 3.
    assert_eq!(ResetReason::Closed.earlier_reading(), Some(ResetReason::Abort.text()));
    assert_eq!(ResetReason::ResetByPeer.earlier_reading(), Some(ResetReason::ConnectionTimeout.text()));
    assert_eq!(ResetReason::Unassigned(20).earlier_reading(), None);
    assert_eq!(ResetReason::Vendor { pen: 1, code: 1 }.earlier_reading(), None);
}

/// T197.
#[test]
fn a_malformed_reason_is_none() {
    let good = ResetReason::Abort.to_payload();
    for payload in [
        &[][..],
        &good[..LEN - 1],
        &[&good[..], &[0]].concat(),
        &[0xaa, 0x33, 0, 3, 0, 0, 0, 0],
        &[0x33, 0xaa, 0, 0, 0, 0, 0, 0],
        &[0x33, 0xaa, 0, 0, 0, 0, 0x7e, 0xd9],
        b"connection refused",
    ] {
        assert_eq!(ResetReason::from_payload(payload), None, "{payload:02x?}");
    }
}

#[test]
fn the_magic_distinguishes_a_malformed_reason_from_other_payload() {
    assert!(has_magic(&[0x33, 0xaa]));
    assert!(has_magic(&[0x33, 0xaa, 0, 0, 0, 0, 0, 0, 0]));
    assert!(!has_magic(&[0x33]));
    assert!(!has_magic(b"reset"));
}

/// T198, D35.
#[test]
fn shown_with_number_and_words() {
    assert_eq!(ResetReason::NotAuthorized.to_string(), "not authorized (11)");
    assert_eq!(ResetReason::Unassigned(700).to_string(), "unassigned reason (700)");
    assert_eq!(
        ResetReason::Vendor { pen: 32473, code: 1234 }.to_string(),
        "vendor's reason 1234 (PEN 32473)"
    );
}

proptest! {
    #[test]
    fn every_code_survives(code in 1..=u16::MAX, pen in any::<u32>()) {
        let [a, b] = code.to_be_bytes();
        let [c, d, e, f] = pen.to_be_bytes();
        let payload = [0x33, 0xaa, a, b, c, d, e, f];
        let reason = ResetReason::from_payload(&payload).expect("any code but 0 is a reason");
        prop_assert_eq!((reason.code(), reason.pen()), (code, pen));
        prop_assert_eq!(reason.to_payload(), payload);
    }
}
