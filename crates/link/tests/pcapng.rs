//! Captures as the programs read them that people will use: tshark and tcpdump.
#![cfg(feature = "pcap")]

use lastack_engine::{Instant, Rule, Transmit, Verdict};
use lastack_link::{Capabilities, Capture, Link, PcapngWriter, Section, pipe};
use lastack_wire::{Icmp, IcmpError, IpHeader, TcpFlags, TcpHeader, UdpHeader, ip, tcp};
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

/// What a program prints on its standard output.
fn output(program: &str, args: &[&str], file: &Path) -> String {
    match Command::new(program).arg("-r").arg(file).args(args).env("TZ", "UTC").output() {
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program}: {errors}");
            String::from_utf8(output.stdout).unwrap()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            panic!("cannot run here: {program} is not installed");
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

fn addresses(v6: bool) -> (IpAddr, IpAddr) {
    if v6 {
        ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap())
    } else {
        ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap())
    }
}

/// A segment whose checksum is left to the link, from `(address, port)` to the same.
fn segment(from: (IpAddr, u16), to: (IpAddr, u16), flags: TcpFlags, seq: u32, text: &[u8]) -> Vec<u8> {
    let ip = IpHeader::new(from.0, to.0, ip::TCP);
    let (src_port, dst_port) = (from.1, to.1);
    let header = TcpHeader { src_port, dst_port, seq, ack: 1, flags, window: 500, ..TcpHeader::default() };
    let mut packet = Vec::new();
    ip.emit(header.len() + text.len(), &mut packet);
    header.emit(&mut packet);
    packet.extend_from_slice(text);
    tcp::fill_partial_checksum(&ip, &mut packet[ip.len()..]);
    packet
}

fn datagram(from: IpAddr, to: IpAddr, payload: &[u8]) -> Vec<u8> {
    let ip = IpHeader::new(from, to, ip::UDP);
    let mut packet = Vec::new();
    ip.emit(UdpHeader::LEN + payload.len(), &mut packet);
    UdpHeader { src_port: 55_555, dst_port: 40_001 }.emit_partial(&ip, payload, &mut packet);
    packet
}

fn unreachable(from: IpAddr, to: IpAddr, quoted: &[u8]) -> Vec<u8> {
    let ip = IpHeader::new(from, to, if from.is_ipv6() { ip::ICMPV6 } else { ip::ICMP });
    let error = IcmpError::port_unreachable(from.is_ipv6());
    let (mut icmp, mut packet) = (Vec::new(), Vec::new());
    Icmp::Error { error, quoted: &quoted[..quoted.len().min(100)] }.emit(&ip, &mut icmp);
    ip.emit(icmp.len(), &mut packet);
    packet.extend_from_slice(&icmp);
    packet
}

/// Packets of both versions in each: a SYN that is answered with a reset, a super-segment, a datagram that is
/// answered with an ICMP error, an ICMP error about the SYN, and a batch of three datagrams.
fn write(file: &Path) {
    let start = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let section = Section { application: "the test".into(), ..Section::default() };
    let mut writer = PcapngWriter::with_section(File::create(file).unwrap(), start, &section);
    let (near, mut far) = pipe(Capabilities::memory(1500));
    let mut link = Capture::new(near, &mut writer);
    let left = Transmit { partial_checksum: true, ..Transmit::default() };
    for (second, v6) in [(0u64, false), (1, true)] {
        let at = |nanos| Instant::from_nanos(second * 1_000_000_000 + nanos);
        let (a, b) = addresses(v6);
        let mut packet = Vec::new();
        let mut arrive = |link: &mut Capture<_, _>, sent: &[u8], now, verdict: Verdict| {
            far.send(now, sent, &left);
            assert!(link.recv(now, &mut packet).is_some());
            link.annotate(now, &verdict);
        };
        let syn = segment((b, 55_555), (a, 1935), TcpFlags::SYN, 0, b"");
        arrive(&mut link, &syn, at(123_456_789), Verdict::Answered(Rule::RstNoListener));
        let reset = segment((a, 1935), (b, 55_555), TcpFlags::RST | TcpFlags::ACK, 0, b"");
        link.send(at(123_456_790), &reset, &Transmit { rule: Some(Rule::RstNoListener), ..left });
        let text = segment((a, 1936), (b, 55_555), TcpFlags::ACK, 1, &[b'x'; 60_001]);
        link.send(at(200_000_000), &text, &Transmit { segment_size: Some(1400), header_len: 60, ..left });
        let asked = datagram(b, a, b"odd");
        arrive(&mut link, &asked, at(300_000_000), Verdict::Answered(Rule::IcmpPortUnreachable));
        let error = unreachable(a, b, &asked);
        link.send(
            at(300_000_001),
            &error,
            &Transmit { rule: Some(Rule::IcmpPortUnreachable), ..Transmit::default() },
        );
        let batch = datagram(a, b, &[7; 25]);
        let refused = unreachable(a, b, &syn);
        link.send(
            at(300_000_002),
            &refused,
            &Transmit { rule: Some(Rule::IcmpIntercepted), ..Transmit::default() },
        );
        link.send(at(400_000_000), &batch, &Transmit { segment_size: Some(10), header_len: 48, ..left });
    }
    drop(link);
    writer.finish().unwrap();
}

/// What tshark is asked about each packet.
const FIELDS: [&str; 8] = [
    "frame.time_epoch",
    "frame.packet_flags_direction",
    "ip.checksum.status",
    "tcp.checksum.status",
    "udp.checksum.status",
    "icmpv6.checksum.status",
    "_ws.malformed",
    "frame.comment",
];

/// Of the packets of one version: the time behind the second, the direction, how the comment begins.
const EXPECTED: [(&str, &str, &str); 9] = [
    ("123456789", "0x00000001", "answered: [rst-no-listener] SYN"),
    ("123456790", "0x00000002", "reset: [rst-no-listener] SYN"),
    ("200000000", "0x00000002", ""),
    ("300000000", "0x00000001", "answered: [icmp-port-unreachable] datagram"),
    ("300000001", "0x00000002", "ICMP error: [icmp-port-unreachable] datagram"),
    ("300000002", "0x00000002", "ICMP error: [icmp-intercepted] intercepted"),
    ("400000000", "0x00000002", ""),
    ("400000000", "0x00000002", ""),
    ("400000000", "0x00000002", ""),
];

#[test]
#[ignore = "needs tshark and tcpdump"]
fn tshark_finds_every_packet_with_its_comment_and_nothing_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.pcapng");
    write(&file);
    let mut args = vec!["-T", "fields", "-E", "separator=|"];
    for option in ["ip.check_checksum:TRUE", "tcp.check_checksum:TRUE", "udp.check_checksum:TRUE"] {
        args.extend(["-o", option]);
    }
    for field in FIELDS {
        args.extend(["-e", field]);
    }
    let printed = output("tshark", &args, &file);
    let expected = [1_700_000_000, 1_700_000_001].into_iter().flat_map(|second| {
        EXPECTED.map(|(time, direction, comment)| (format!("{second}.{time}"), direction, comment))
    });
    let mut lines = printed.lines();
    for (time, direction, comment) in expected {
        let line = lines.next().expect(&printed);
        let fields: Vec<_> = line.splitn(FIELDS.len(), '|').collect();
        assert_eq!(fields[..2], [time.as_str(), direction], "{line}");
        // Each is "1" (good), or nothing where there is no such header; "1,1" with what an error quotes.
        let statuses = fields[2..6].iter().flat_map(|statuses| statuses.split(','));
        assert!(statuses.clone().all(|status| status.is_empty() || status == "1"), "{line}");
        assert!(statuses.clone().any(|status| status == "1"), "{line}");
        assert_eq!(fields[6], "", "malformed: {line}");
        assert!(fields[7].starts_with(comment) && fields[7].is_empty() == comment.is_empty(), "{line}");
    }
    assert_eq!(lines.next(), None);
}

#[test]
#[ignore = "needs tshark and tcpdump"]
fn tcpdump_finds_every_packet_and_nothing_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.pcapng");
    write(&file);
    let printed = output("tcpdump", &["-n", "-tt", "--nano"], &file);
    let times: Vec<_> = printed.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(times.len(), 2 * EXPECTED.len(), "{printed}");
    assert_eq!((times[0], times[9]), ("1700000000.123456789", "1700000001.123456789"));
    let checked = output("tcpdump", &["-n", "-vv"], &file);
    assert!(checked.contains("(correct)") && checked.contains("[udp sum ok]"), "{checked}");
    for wrong in ["incorrect", "bad", "truncated", "invalid"] {
        assert!(!checked.contains(wrong), "{wrong}: {checked}");
    }
}

#[test]
#[ignore = "needs tshark and tcpdump"]
fn the_header_names_the_source_of_the_capture() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.pcapng");
    write(&file);
    match Command::new("capinfos").arg(&file).output() {
        Ok(output) => {
            let printed = String::from_utf8_lossy(&output.stdout);
            for part in ["the test", std::env::consts::ARCH, std::env::consts::OS, "Name = lastack", "Raw IP"]
            {
                assert!(printed.contains(part), "{part}: {printed}");
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            panic!("cannot run here: capinfos is not installed");
        }
        Err(error) => panic!("capinfos: {error}"),
    }
}
