//! Captures of `lastack run` with injected faults: its comments name them, and only their effects count.

use crate::packet::{ACK, FIN, PSH, RST, SYN, Tcp, write};
use lastack_explain::record::Writer;
use lastack_explain::{Explainer, Frame, Options, RawPacket, Stated, render};
use serde_json::Value;

const CLIENT: ([u8; 4], u16) = ([10, 0, 2, 100], 40_000);
const SERVER: ([u8; 4], u16) = ([192, 0, 2, 9], 80);
const MS: i64 = 1_000_000;

/// A packet, and lastack's comment on it.
type Commented = (Vec<u8>, Option<&'static str>);

fn packet(from_client: bool, flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    let (src, dst) = if from_client { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
    let (window, ttl, ident) = (8192, 64, 1);
    write(&Tcp { src, dst, seq, ack, flags, window, ttl, ident, tsval: None, sack: None, payload })
}

/// A request and its answer. The capture ends before the last FIN is acknowledged.
fn exchange() -> Vec<Commented> {
    let packets = [
        packet(true, SYN, 1000, 0, b""),
        packet(false, SYN | ACK, 7000, 1001, b""),
        packet(true, ACK, 1001, 7001, b""),
        packet(true, PSH | ACK, 1001, 7001, b"question"),
        packet(false, PSH | ACK, 7001, 1009, b"answer"),
        packet(false, FIN | ACK, 7007, 1009, b""),
        packet(true, FIN | ACK, 1009, 7008, b""),
    ];
    packets.map(|packet| (packet, None)).into()
}

fn records(packets: &[Commented]) -> Vec<Value> {
    let mut explainer = Explainer::new(Options { all: true, ..Options::default() });
    for (place, (data, comment)) in packets.iter().enumerate() {
        explainer.packet(&RawPacket {
            frame: Frame::new(0, place as u64 + 1),
            time: place as i64 * MS,
            timed: true,
            link: 101,
            interface: 0,
            data,
            length: data.len() as u32,
            comment: *comment,
            vantage: 0,
        });
    }
    explainer.finish();
    let writer = Writer::default();
    let ready: Vec<_> = explainer.ready().collect();
    ready.iter().map(|one| serde_json::to_value(writer.connection(one, &[])).unwrap()).collect()
}

#[test]
fn a_forged_reset_that_was_ignored_is_not_the_cause() {
    let mut packets = exchange();
    let reset = packet(false, RST, 7001_u32.wrapping_add(1 << 30), 0, b"");
    packets.insert(4, (reset, Some("forged by lastack: --inject rst:seq=outside")));
    let found = records(&packets);
    assert_eq!(found.len(), 1);
    let also = found[0]["also"].to_string();
    assert_eq!(
        (&found[0]["cause"], &found[0]["severity"]),
        (&"orderly".into(), &"benign".into()),
        "{found:#?}"
    );
    assert!(also.contains("fault-injected") && also.contains("reset-ignored"), "{also}");
    // The connection goes on at the end of the capture: that is no effect of the reset, either.
    packets.truncate(6);
    let found = records(&packets);
    assert_ne!(found[0]["cause"], "fault-injected", "{found:#?}");
}

#[test]
fn a_packet_with_damaged_ports_begins_no_connection() {
    let damaged = Some("damaged by lastack: --inject corrupt=3%");
    let mut packets = exchange();
    let mut copy = packets[3].0.clone();
    // The source port; the checksum no longer matches.
    copy[20] ^= 0x41;
    packets.insert(3, (copy, damaged));
    let found = records(&packets);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["client"], "10.0.2.100:40000");
    // A wrong checksum alone is common: the device was to compute it.
    packets[3].1 = None;
    assert_eq!(records(&packets).len(), 2);
    // What was changed without effect on the checksum is a packet of the connection.
    let mut packets = exchange();
    packets[0].1 = damaged;
    let found = records(&packets);
    assert_eq!((found.len(), &found[0]["cause"]), (1, &"orderly".into()), "{found:#?}");
}

#[test]
fn the_stated_end_of_a_flow_without_packets_of_an_error_is_shown() {
    let ends = [
        "end of udp 10.0.2.100:40000 > 198.51.100.77:999: no-answer, suspicious, by nobody: no-answer (x)",
        "end of udp 10.0.2.100:40001 > 198.51.100.78:53: orderly, benign, by nobody: orderly",
    ];
    for all in [false, true] {
        let mut explainer = Explainer::new(Options { all, ..Options::default() });
        ends.iter().for_each(|end| explainer.state(&Stated::parse(end, MS).unwrap()));
        explainer.finish();
        let writer = Writer::default();
        let flows: Vec<_> = explainer.flows().collect();
        // Benign flows are listed on request only.
        assert_eq!(flows.len(), 1 + usize::from(all));
        let record = serde_json::to_value(writer.flow(flows[0])).unwrap();
        let fields = ["type", "proto", "client", "server", "cause", "severity", "ended_by"];
        let expected =
            ["flow", "udp", "10.0.2.100:40000", "198.51.100.77:999", "no-answer", "suspicious", "nobody"];
        assert_eq!(fields.map(|field| record[field].as_str().unwrap()), expected);
        let lines = render::lines(&writer, &[], &[], &flows, all, 10);
        assert!(lines.contains("udp 10.0.2.100:40000 > 198.51.100.77:999  no-answer by nobody"), "{lines}");
        assert_eq!(lines.lines().count(), flows.len(), "{lines}");
    }
}
