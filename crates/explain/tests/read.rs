//! Captures in every form: the same packets have to come out.

use lastack_explain::read::{Capture, ReadError};
use std::io::{Cursor, Write};
use std::process::{Command, Stdio};

const PACKETS: [&[u8]; 3] = [b"first packet", b"second, longer packet", b"3"];
const TIMES: [i64; 3] = [1_700_000_000_000_001_000, 1_700_000_000_500_000_000, 1_700_000_001_000_002_000];

/// What a capture holds: times, link types, bytes.
type Content = Vec<(i64, u16, Vec<u8>)>;

fn read(bytes: Vec<u8>) -> (Content, lastack_explain::read::FileFacts) {
    let mut capture = Capture::from_reader(Box::new(Cursor::new(bytes)), "test", 0).unwrap();
    let mut content = Vec::new();
    while let Some(packet) = capture.next_packet() {
        content.push((packet.time, packet.link, packet.data.to_vec()));
    }
    (content, capture.facts().clone())
}

fn expected(link: u16) -> Content {
    TIMES.iter().zip(PACKETS).map(|(time, data)| (*time, link, data.to_vec())).collect()
}

/// A number in the byte order of the file.
fn number<const N: usize>(big: bool, little: [u8; N]) -> [u8; N] {
    let mut bytes = little;
    if big {
        bytes.reverse();
    }
    bytes
}

fn word(big: bool, value: u32) -> [u8; 4] {
    number(big, value.to_le_bytes())
}

fn half(big: bool, value: u16) -> [u8; 2] {
    number(big, value.to_le_bytes())
}

fn pcap(big: bool, magic: u32, record: usize, unit: i64) -> Vec<u8> {
    let mut out = Vec::new();
    for value in [magic, if big { 2 << 16 | 4 } else { 4 << 16 | 2 }, 0, 0, 65_535, 101] {
        out.extend(word(big, value));
    }
    for (time, data) in TIMES.iter().zip(PACKETS) {
        let fraction = time % 1_000_000_000 / unit;
        for value in [(time / 1_000_000_000) as u32, fraction as u32, data.len() as u32, data.len() as u32] {
            out.extend(word(big, value));
        }
        out.extend(vec![0; record - 16]);
        out.extend_from_slice(data);
    }
    out
}

#[test]
fn pcap_of_every_kind() {
    for big in [false, true] {
        assert_eq!(read(pcap(big, 0xa1b2_c3d4, 16, 1000)).0, expected(101), "us, big-endian: {big}");
        assert_eq!(read(pcap(big, 0xa1b2_3c4d, 16, 1)).0, expected(101), "ns, big-endian: {big}");
        assert_eq!(read(pcap(big, 0xa1b2_cd34, 24, 1000)).0, expected(101), "modified, big-endian: {big}");
    }
}

fn block(big: bool, kind: u32, mut body: Vec<u8>) -> Vec<u8> {
    body.resize(body.len().next_multiple_of(4), 0);
    let length = word(big, body.len() as u32 + 12);
    [&word(big, kind)[..], &length, &body, &length].concat()
}

fn option(big: bool, code: u16, value: &[u8]) -> Vec<u8> {
    let mut out = [&half(big, code)[..], &half(big, value.len() as u16), value].concat();
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn section(big: bool) -> Vec<u8> {
    block(big, 0x0a0d_0d0a, [&word(big, 0x1a2b_3c4d)[..], &half(big, 1), &half(big, 0), &[0xff; 8]].concat())
}

fn interface(big: bool, link: u16, options: &[u8]) -> Vec<u8> {
    block(big, 1, [&half(big, link)[..], &[0; 2], &word(big, 0), options].concat())
}

fn enhanced(big: bool, interface: u32, ticks: u64, data: &[u8], comment: bool) -> Vec<u8> {
    let mut body = Vec::new();
    for value in [interface, (ticks >> 32) as u32, ticks as u32, data.len() as u32, data.len() as u32] {
        body.extend(word(big, value));
    }
    body.extend_from_slice(data);
    body.resize(body.len().next_multiple_of(4), 0);
    if comment {
        body.extend(option(big, 1, b"a comment"));
        body.extend(option(big, 0, b""));
    }
    block(big, 6, body)
}

#[test]
fn pcapng_with_several_interfaces_sections_and_resolutions() {
    let mut file = Vec::new();
    for big in [false, true] {
        file.extend(section(big));
        file.extend(interface(big, 1, &[]));
        let options =
            [option(big, 9, &[9]), option(big, 14, &number(big, 100_i64.to_le_bytes())), option(big, 0, b"")];
        file.extend(interface(big, 101, &options.concat()));
        // Of the first interface in microseconds, of the second in nanoseconds and 100 s late.
        file.extend(enhanced(big, 0, TIMES[0] as u64 / 1000, PACKETS[0], true));
        file.extend(block(big, 5, vec![0; 12]));
        file.extend(enhanced(big, 1, TIMES[1] as u64 - 100_000_000_000, PACKETS[1], false));
        // A block that nobody knows, and the old packet block.
        file.extend(block(big, 0x4321, vec![7; 9]));
        let mut old = [half(big, 1), half(big, 0)].concat();
        let ticks = TIMES[2] as u64 - 100_000_000_000;
        for value in [(ticks >> 32) as u32, ticks as u32, 1, 1] {
            old.extend(word(big, value));
        }
        old.extend_from_slice(PACKETS[2]);
        file.extend(block(big, 2, old));
    }
    let (content, facts) = read(file);
    let once: Content = expected(101)
        .into_iter()
        .enumerate()
        .map(|(n, (t, l, d))| (t, if n == 0 { 1 } else { l }, d))
        .collect();
    assert_eq!(content, [once.clone(), once].concat());
    assert!(!facts.partly && facts.warnings.is_empty() && facts.digits == 9, "{facts:?}");
}

#[test]
fn binary_resolution_frame_checks_and_packets_without_a_time() {
    let options = [option(false, 9, &[0x80 | 10]), option(false, 13, &[4]), option(false, 0, b"")].concat();
    let mut file = [section(false), interface(false, 1, &options)].concat();
    let with_fcs = [PACKETS[0], b"fcs!"].concat();
    file.extend(enhanced(false, 0, 3 << 10 | 512, &with_fcs, false));
    let simple = [&word(false, with_fcs.len() as u32)[..], &with_fcs].concat();
    file.extend(block(false, 3, simple));
    let (content, facts) = read(file);
    let packet = (3_500_000_000, 1, PACKETS[0].to_vec());
    assert_eq!(content, [packet.clone(), packet]);
    assert_eq!(facts.untimed, 1);
}

#[test]
fn a_truncated_file_is_reported_and_read_as_far_as_possible() {
    let whole = pcap(false, 0xa1b2_c3d4, 16, 1000);
    let (content, facts) = read(whole[..whole.len() - PACKETS[2].len() - 5].to_vec());
    assert_eq!(content.len(), 2);
    assert!(facts.partly && facts.warnings[0].contains("ends within"), "{facts:?}");
    let mut mad = whole;
    mad[24 + 16 + PACKETS[0].len() + 8..][..4].copy_from_slice(&[0xff; 4]);
    let (content, facts) = read(mad);
    assert!(content.len() == 1 && facts.warnings[0].contains("impossible length"), "{facts:?}");
    let ng = [section(false), interface(false, 1, &[]), enhanced(false, 9, 1, b"x", false)].concat();
    assert!(read(ng).1.warnings[0].contains("interface 9"));
}

#[test]
fn a_file_that_is_not_a_capture_is_refused() {
    let open = |bytes: &[u8]| Capture::from_reader(Box::new(Cursor::new(bytes.to_vec())), "x", 0).map(|_| ());
    assert!(matches!(open(b""), Err(ReadError::Empty)));
    assert!(matches!(open(b"GIF89a, certainly"), Err(ReadError::Unknown(_))));
    assert!(matches!(open(&0xa1b2_c3d4_u32.to_le_bytes()), Err(ReadError::Head(_))));
    assert!(matches!(open(&[0x0a, 0x0d, 0x0d, 0x0a, 0, 0, 0, 0, 1, 2, 3, 4]), Err(ReadError::Head(_))));
}

/// Runs a compressor.
fn compressed(program: &str, bytes: &[u8]) -> Vec<u8> {
    let child = Command::new(program)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        panic!("cannot run here: {program} is not installed");
    };
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{program}");
    out.stdout
}

#[test]
#[ignore = "needs gzip, zstd, xz, bzip2 and lz4"]
fn compressed_captures() {
    let file = pcap(false, 0xa1b2_c3d4, 16, 1000);
    for program in ["gzip", "zstd", "xz", "bzip2", "lz4"] {
        let packed = compressed(program, &file);
        assert_eq!(read(packed.clone()).0, expected(101), "{program}");
        let half = packed[..packed.len() / 2].to_vec();
        if let Ok(mut capture) = Capture::from_reader(Box::new(Cursor::new(half)), program, 0) {
            while capture.next_packet().is_some() {}
            assert!(capture.facts().partly, "{program}: half a file is read in part");
        }
    }
    for program in ["gzip", "zstd"] {
        let (head, tail) = file.split_at(50);
        let (a, b) = (compressed(program, head), compressed(program, tail));
        assert_eq!(read([a, b].concat()).0, expected(101), "{program}, two members");
    }
}
