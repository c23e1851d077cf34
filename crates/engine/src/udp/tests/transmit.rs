use super::*;
use crate::TransmitChecksum;
use core::task::Poll;
use lastack_wire::udp::UdpHeader;

#[test]
fn a_datagram_leaves_with_the_headers_of_the_stack() {
    for v6 in [false, true] {
        let mut bench = Bench::with(v6, |config| config.hop_limit = 99);
        let (id, local, remote) = (bench.connected(), bench.us(9), bench.peer(5));
        assert_eq!(bench.udp(id).send(b"1", None), Ok(()));
        assert!(bench.stack.has_output());
        let sent = bench.take_one();
        assert_eq!(sent.udp(), (local, remote, &b"1"[..]));
        let header = sent.ip().header;
        assert_eq!((header.hop_limit, header.dont_fragment), (99, v6), "a router may fragment");
        assert_eq!(usize::from(sent.transmit.header_len), header.len() + 8);
        bench.udp(id).set_hop_limit(Some(3));
        bench.udp(id).set_dont_fragment(true);
        assert_eq!(bench.udp(id).send(b"1", None), Ok(()));
        let header = bench.take_one().ip().header;
        assert_eq!((header.hop_limit, header.dont_fragment, header.ident), (3, true, 0));
        assert_eq!(bench.stack.counters().udp_out_datagrams, 2);
    }
}

#[test]
fn a_datagram_larger_than_the_path_mtu_is_fragmented() {
    for mut bench in Bench::both() {
        let (id, peer) = (bench.connected(), bench.peer);
        let payload: Vec<u8> = (0..3000).map(|i| i as u8).collect();
        for (mtu, count) in [(1500, 3), (1300, 3)] {
            if mtu < 1500 {
                assert!(bench.stack.shared.paths.lower(peer, mtu, bench.now));
            }
            assert_eq!(bench.udp(id).send(&payload, None), Ok(()));
            assert_eq!(bench.udp(id).send(b"next", None), Ok(()));
            let sent = bench.take();
            assert_eq!(sent.len(), count + 1);
            let (next, parts) = sent.split_last().unwrap();
            assert_eq!(next.udp().2, b"next");
            assert!(parts.iter().all(|part| part.bytes.len() <= mtu));
            let fragments: Vec<_> = parts.iter().map(|part| part.ip().fragment.unwrap()).collect();
            assert!(fragments.iter().all(|fragment| fragment.ident == fragments[0].ident));
            let whole: Vec<u8> = parts.iter().flat_map(|part| part.ip().payload.to_vec()).collect();
            let (_, text) = UdpHeader::parse(&parts[0].ip().header, &whole).unwrap();
            assert_eq!(text, payload);
        }
        assert_eq!(bench.stack.counters().ip_out_fragments, 6);
    }
}

#[test]
fn fragments_are_checksummed_in_full_whatever_the_link_offloads() {
    for checksum in [TransmitChecksum::Partial, TransmitChecksum::None] {
        for v6 in [false, true] {
            let mut bench = Bench::with(v6, |config| config.checksums.transmit = checksum);
            let id = bench.connected();
            assert_eq!(bench.udp(id).send(&[1; 2000], None), Ok(()));
            let parts = bench.take();
            assert!(parts.iter().all(|part| !part.transmit.partial_checksum));
            let whole: Vec<u8> = parts.iter().flat_map(|part| part.ip().payload.to_vec()).collect();
            assert!(UdpHeader::parse(&parts[0].ip().header, &whole).is_ok());
        }
    }
}

#[test]
fn the_checksum_is_as_the_link_requires() {
    for v6 in [false, true] {
        let sent =
            [TransmitChecksum::Full, TransmitChecksum::Partial, TransmitChecksum::None].map(|checksum| {
                let mut bench = Bench::with(v6, |config| config.checksums.transmit = checksum);
                let id = bench.connected();
                assert_eq!(bench.udp(id).send(b"1", None), Ok(()));
                bench.take_one()
            });
        let [full, partial, none] = sent.each_ref().map(|sent| {
            let payload = sent.ip().payload;
            (u16::from_be_bytes([payload[6], payload[7]]), sent.transmit.partial_checksum)
        });
        let ip = sent[0].ip().header;
        assert!(UdpHeader::parse(&ip, sent[0].ip().payload).is_ok() && !full.1);
        assert_eq!(partial, (ip.pseudo(9).folded(), true));
        assert_eq!(none, (0, false));
    }
}

#[test]
fn a_datagram_too_long_for_udp_is_refused() {
    for mut bench in Bench::both() {
        let id = bench.connected();
        let max = if bench.v6 { 65_527 } else { 65_507 };
        let mut udp = bench.udp(id);
        assert_eq!(udp.send(&vec![0; max + 1], None), Err(UdpError::MessageTooLong));
        assert_eq!(udp.send(&vec![0; max], None), Ok(()));
        let parts = bench.take();
        assert_eq!(parts.len(), if bench.v6 { 46 } else { 45 });
        assert_eq!(parts.iter().map(|part| part.ip().payload.len()).sum::<usize>(), max + 8);
    }
}

#[test]
fn a_datagram_with_df_that_does_not_fit_is_refused_or_reported() {
    for mut bench in Bench::both() {
        let (id, peer) = (bench.connected(), bench.peer);
        let max = 1500 - 8 - if bench.v6 { 40 } else { 20 };
        bench.udp(id).set_dont_fragment(true);
        assert_eq!(bench.udp(id).send(&vec![0; max + 1], None), Err(UdpError::MessageTooLong));
        assert_eq!(bench.udp(id).send(&vec![0; max], None), Ok(()));
        assert_eq!(bench.take_one().bytes.len(), 1500);
        assert!(bench.stack.shared.paths.lower(peer, 1400, bench.now));
        assert_eq!(bench.udp(id).send(&vec![0; max], None), Ok(()));
        assert_eq!(bench.udp(id).send(b"fits", None), Ok(()));
        assert_eq!(bench.take_one().udp().2, b"fits");
        assert_eq!(bench.events(), [Event::UdpReadable(id)]);
        assert_eq!(bench.udp(id).receive(), Err(UdpError::MessageTooLong));
        assert_eq!(bench.udp(id).receive(), Ok(None));
    }
}

#[test]
fn a_full_queue_refuses_and_tells_when_there_is_room() {
    for v6 in [false, true] {
        let mut bench = Bench::with(v6, |config| config.datagrams.send_queue = 4);
        let id = bench.connected();
        for _ in 0..4 {
            assert_eq!(bench.udp(id).poll_writable(), Poll::Ready(()));
            assert_eq!(bench.udp(id).send(b"1", None), Ok(()));
        }
        assert_eq!(bench.take().len(), 4);
        assert_eq!(bench.events(), [], "nobody found it full");
        for _ in 0..4 {
            assert_eq!(bench.udp(id).send(b"1", None), Ok(()));
        }
        assert_eq!(bench.udp(id).send(b"1", None), Err(UdpError::Full));
        assert_eq!(bench.udp(id).poll_writable(), Poll::Pending);
        let mut packet = Vec::new();
        assert!(bench.stack.poll_transmit(bench.now, &mut packet).is_some());
        assert_eq!(bench.events(), []);
        assert_eq!(bench.take().len(), 3);
        assert_eq!(bench.events(), [Event::UdpWritable(id)]);
        assert_eq!(bench.udp(id).send(b"1", None), Ok(()));
    }
}

#[test]
fn sockets_take_turns() {
    let mut bench = Bench::new(false);
    let to = bench.peer(5);
    let ids = [1, 2, 3].map(|port| bench.bind(bench.us(port)));
    for id in ids {
        for _ in 0..3 {
            assert_eq!(bench.udp(id).send(b"1", Some(to)), Ok(()));
        }
    }
    let ports: Vec<_> = bench.take().iter().map(|sent| sent.udp().0.port()).collect();
    assert_eq!(ports, [1, 2, 3, 1, 2, 3, 1, 2, 3]);
}

#[test]
fn datagrams_sent_before_the_close_still_leave() {
    for mut bench in Bench::both() {
        let (id, local, remote) = (bench.connected(), bench.us(9), bench.peer(5));
        for payload in [b"1", b"2"] {
            assert_eq!(bench.udp(id).send(payload, None), Ok(()));
        }
        bench.udp(id).close();
        assert!(bench.stack.udp(id).is_none());
        assert_eq!(bench.give_datagram(remote, local, b"1"), NO_PORT);
        let sent = bench.take();
        assert_eq!(sent.len(), 3);
        assert_eq!((sent[1].udp().2, sent[2].udp().2), (&b"1"[..], &b"2"[..]));
        assert!(bench.stack.udp.sockets.len() == 0 && bench.stack.udp.ready.is_empty());
        assert_eq!(bench.events(), []);
    }
}

#[test]
fn the_destination_of_one_send_does_not_change_the_peer() {
    for mut bench in Bench::both() {
        let (id, other, peer) = (bench.connected(), bench.peer(6), bench.peer(5));
        assert_eq!(bench.udp(id).send(b"1", Some(other)), Ok(()));
        assert_eq!(bench.udp(id).send(b"2", None), Ok(()));
        let to: Vec<_> = bench.take().iter().map(|sent| sent.udp().1).collect();
        assert_eq!(to, [other, peer]);
        assert_eq!(bench.udp(id).remote(), Some(peer));
    }
}
