//! The two forms of output: copied, and with data lent.

use super::pair::Pair;
use crate::{Checksums, TransmitChecksum};
use alloc::vec::Vec;
use core::task::Poll;
use core::time::Duration;

/// Two pairs do the same; all packets of one pair are polled with their data lent.
#[test]
fn lent_packets_have_the_same_bytes_as_copied_ones() {
    for v6 in [false, true] {
        for transmit in [TransmitChecksum::Full, TransmitChecksum::Partial, TransmitChecksum::None] {
            for max_packet in [1500, 65_535] {
                let [copied, lent] = [false, true].map(|vectored| {
                    let mut pair = Pair::with(v6, |config| {
                        config.checksums = Checksums { verify: transmit == TransmitChecksum::Full, transmit };
                        config.max_packet = max_packet;
                        // A send buffer of a length that is no multiple of a segment's: data wraps around in it.
                        config.tcp.send_buffer = 20_001;
                    });
                    pair.vectored = vectored;
                    pair.delay = Duration::from_millis(3);
                    pair.lose = |n| n % 37 == 11;
                    exchange(&mut pair);
                    [pair.a.sent, pair.b.sent]
                });
                assert!(copied[0].len() > 30, "{} packets", copied[0].len());
                assert!(copied == lent, "{v6} {transmit:?} {max_packet}");
            }
        }
    }
}

/// Data in both directions, with losses.
fn exchange(pair: &mut Pair) {
    let listener = pair.listen(8);
    let a = pair.a.stack.tcp_connect(None, (pair.b.addr, super::pair::PORT).into()).unwrap();
    pair.run(Duration::from_secs(10));
    let b = pair.b.stack.tcp_accept(listener).unwrap();
    let data: Vec<u8> = (0..200_001u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    let (mut rest, mut got, mut buf) = (&data[..], Vec::new(), [0; 9999]);
    while got.len() < data.len() {
        if let Poll::Ready(n) = pair.a.tcp(a).send(rest) {
            rest = &rest[n.unwrap()..];
        }
        while let Poll::Ready(n) = pair.b.tcp(b).receive(&mut buf) {
            let n = n.unwrap();
            got.extend_from_slice(&buf[..n]);
            let _ = pair.b.tcp(b).send(&buf[..n / 10]);
        }
        while pair.a.tcp(a).receive(&mut buf).is_ready() {}
        pair.run(Duration::from_millis(2));
    }
    assert!(got == data);
}
