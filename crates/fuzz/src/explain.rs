//! The explainer: no file and no packets make it panic, every reset belongs to one verdict, and confidences are shares.

use crate::Input;
use lastack_explain::read::{Capture, Merge, RawPacket};
use lastack_explain::record::Writer;
use lastack_explain::{Explainer, Frame, Options, render};
use std::io::Cursor;

/// Reads the bytes as a file, or generates packets from them: of one capture, or of several that were made at the same time.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let options = Options { live: 8, kept: 16, all: true };
    let mut explainer = Explainer::new(options);
    match input.byte() & 3 {
        0 | 2 => read_file(&bytes[1.min(bytes.len())..], &mut explainer),
        1 => make_packets(&mut input, &mut explainer),
        _ => make_captures(&mut input, &mut explainer),
    }
    check(explainer);
}

fn read_file(bytes: &[u8], explainer: &mut Explainer) {
    let Ok(capture) = Capture::from_reader(Box::new(Cursor::new(bytes.to_vec())), "input", 0) else { return };
    let mut input = Merge::new(vec![capture]);
    // A few bytes of a compressed file may expand to very many.
    for _ in 0..10_000 {
        let Some(packet) = input.next_packet() else { return };
        explainer.packet(&packet);
    }
}

/// Generates segments between few ends with nearby sequence numbers, so that they interact.
fn make_packets(input: &mut Input<'_>, explainer: &mut Explainer) {
    let (mut time, mut number) = (0_i64, 0);
    while !input.is_empty() {
        number += 1;
        time += pause(input);
        let packet = if input.once_in(32) { icmp(input) } else { tcp(input) };
        let length = packet.len() as u32 + input.below(2) * 40;
        give(explainer, &packet, Frame::new(0, number), time, length, None, 0);
    }
}

fn pause(input: &mut Input<'_>) -> i64 {
    match input.byte() {
        0 => -5_000_000,
        pause @ 1..=200 => i64::from(pause) * 50_000,
        pause => i64::from(pause) * 50_000_000,
    }
}

fn give(
    explainer: &mut Explainer,
    data: &[u8],
    frame: Frame,
    time: i64,
    length: u32,
    comment: Option<&str>,
    vantage: u8,
) {
    explainer.packet(&RawPacket {
        frame,
        time,
        timed: true,
        link: 101,
        interface: 0,
        data,
        length,
        comment,
        vantage,
    });
}

/// What the stack that wrote a capture says of its packets.
const COMMENTS: &[&str] = &[
    "close-unread by the remote (rst-abort: abort, or close with SO_LINGER=0: RST)",
    "refused by the remote; --inject refuse",
    "lost by lastack: --inject blackhole:after=100",
    "sent: [rst-no-listener] SYN to a port with no listener; its receiver: closed the connection",
    "forged: not sent by its source",
    "lost on the way",
    "orderly",
    "no such thing by nobody (",
];

/// Generates packets of up to three captures, with comments. A packet may come again in another capture, as a NAT or a firewall
/// that chooses other sequence numbers passes it on.
fn make_captures(input: &mut Input<'_>, explainer: &mut Explainer) {
    let count = 2 + input.below(2) as u16;
    let shifts = [0, input.pick(&[0, 100, 0x8000_0000]), input.pick(&[0, 1, 0xffff_fc00])];
    let (mut time, mut numbers) = (0_i64, [0_u64; 3]);
    let mut packet = Vec::new();
    while !input.is_empty() {
        time += pause(input);
        let file = input.below(u32::from(count)) as u16;
        if packet.is_empty() || !input.once_in(2) {
            packet = if input.once_in(32) { icmp(input) } else { tcp(input) };
            if packet[9] == 6 && input.once_in(2) {
                add_clock(&mut packet, input.byte());
            }
        }
        let place = usize::from(file);
        let passed = pass_on(&packet, input.once_in(2) && file > 0, shifts[place], shifts[(place + 1) % 3]);
        let comment = input.once_in(4).then(|| input.pick(COMMENTS));
        numbers[place] += 1;
        let frame = Frame::new(file, numbers[place]);
        give(explainer, &passed, frame, time, passed.len() as u32, comment, file as u8 + 1);
    }
}

/// Puts timestamps between the header and the payload.
fn add_clock(packet: &mut Vec<u8>, value: u8) {
    let option = [1, 1, 8, 10, 0, 0, 0, value, 0, 0, 0, 1];
    packet.splice(40..40, option);
    packet[32] = 8 << 4;
    let total = packet.len() as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
}

/// The packet as it leaves a device: behind a NAT that translates clients, and with other numbers of each direction.
fn pass_on(packet: &[u8], translated: bool, up: u32, down: u32) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[9] != 6 || packet.len() < 40 {
        return packet;
    }
    packet[8] = packet[8].wrapping_sub(1);
    let of_client = packet[12] == 10;
    let (own, peer) = if of_client { (up, down) } else { (down, up) };
    for (at, shift) in [(24, own), (28, peer)] {
        if let Some(field) = packet[at..].first_chunk_mut::<4>() {
            *field = u32::from_be_bytes(*field).wrapping_add(shift).to_be_bytes();
        }
    }
    if translated {
        let (address, port) = if of_client { (12, 20) } else { (16, 22) };
        packet[address..address + 4].copy_from_slice(&[203, 0, 113, 1]);
        packet[port] ^= 0x40;
    }
    packet
}

fn tcp(input: &mut Input<'_>) -> Vec<u8> {
    let way = input.byte();
    let flags = input.pick(&[0x10, 0x18, 0x02, 0x12, 0x11, 0x04, 0x14, 0x01, 0x00, 0x29]);
    let near = |input: &mut Input<'_>| {
        1000_u32.wrapping_add(input.below(6) * 100).wrapping_add(input.below(3)).wrapping_sub(1)
    };
    let (seq, ack) = (near(input), near(input));
    let window = input.pick(&[0, 1, 1024, 8201, 9300, 64_000]);
    let len = input.pick(&[0_usize, 0, 1, 24, 31, 100, 1400]);
    let said = if input.once_in(3) { 16 } else { 0 };
    let payload = input.take(said);
    let (ttl, ident) = (input.pick(&[64, 63, 57, 31, 255]), u16::from(input.byte()));
    let ends = (way >> 1 & 1, way >> 2 & 1);
    let (up, host) = (way & 1 == 0, 1 + (way >> 3 & 1));
    let total = 40 + payload.len().max(len);
    let mut b = vec![0; total];
    (b[0], b[8], b[9]) = (0x45, ttl, 6);
    b[2..4].copy_from_slice(&(total as u16).to_be_bytes());
    b[4..6].copy_from_slice(&ident.to_be_bytes());
    let (client, server) = ([10, 0, 0, ends.0 + 1], [192, 0, 2, host]);
    b[12..16].copy_from_slice(if up { &client } else { &server });
    b[16..20].copy_from_slice(if up { &server } else { &client });
    let (from, to) = (5000 + u16::from(ends.1), 443);
    b[20..22].copy_from_slice(&(if up { from } else { to }).to_be_bytes());
    b[22..24].copy_from_slice(&(if up { to } else { from }).to_be_bytes());
    b[24..28].copy_from_slice(&seq.to_be_bytes());
    b[28..32].copy_from_slice(&ack.to_be_bytes());
    (b[32], b[33]) = (5 << 4, flags);
    b[34..36].copy_from_slice(&(window as u16).to_be_bytes());
    b[40..40 + payload.len()].copy_from_slice(payload);
    b
}

/// An ICMP error about a segment generated by [`tcp`].
fn icmp(input: &mut Input<'_>) -> Vec<u8> {
    let quoted = tcp(input);
    let mut b = vec![0; 28];
    (b[0], b[8], b[9]) = (0x45, 60, 1);
    b[12..16].copy_from_slice(&[198, 51, 100, 1]);
    b[16..20].copy_from_slice(&quoted[12..16]);
    (b[20], b[21]) = (input.pick(&[3, 11, 12, 4]), input.byte() & 15);
    b.extend_from_slice(&quoted[..28]);
    let total = b.len() as u16;
    b[2..4].copy_from_slice(&total.to_be_bytes());
    b
}

fn check(mut explainer: Explainer) {
    explainer.finish();
    let files = ["a", "b", "c"].map(str::to_owned).to_vec();
    let writer = Writer { digits: 9, anonymize: true, files, ..Writer::default() };
    let ready: Vec<_> = explainer.ready().collect();
    for explained in &ready {
        let verdict = &explained.verdict;
        let others: f32 = verdict.alternatives.iter().map(|other| other.confidence).sum();
        assert!(
            (0.0..=1.0).contains(&verdict.confidence) && verdict.confidence + others < 1.01,
            "{verdict:?}"
        );
        assert_eq!(explained.conn.resets.len(), verdict.roles.len());
        let json = serde_json::to_string(&writer.connection(explained, &[])).expect("a record");
        assert!(json.contains("\"type\":\"connection\""));
        assert!(render::detail(&writer, explained, &[]).contains(verdict.cause.name()));
    }
    let summary = explainer.summary();
    assert_eq!(summary.rst_frames, summary.rst_explained, "each reset in one verdict");
    let groups = explainer.groups();
    assert!(!render::headline(&writer, summary, &groups, &ready).is_empty());
    let page = render::markdown(&writer, summary, &groups, &ready, true, 100);
    assert!(page.starts_with("# "));
}
