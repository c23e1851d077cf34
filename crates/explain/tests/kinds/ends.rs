//! Ends of connections that other systems and devices make, as packets that are written here: what the laboratory of Linux
//! hosts cannot show.

use crate::packet::{ACK, FIN, PSH, RST, SYN, Tcp, explained, records, write};
use serde_json::Value;

/// The first sequence number of each end.
const START: [u32; 2] = [1_000_000, 7_000_000];
const MS: i64 = 1_000_000;

/// A packet of a connection. The numbers count from the end's own first one.
#[derive(Clone, Copy)]
struct Packet {
    /// Milliseconds after the packet before it.
    after: f64,
    /// 0: the client.
    from: usize,
    flags: u8,
    seq: u32,
    ack: u32,
    /// `ack` is in the header although the flag is not set.
    stale_ack: bool,
    data: &'static [u8],
    /// Zeros instead of `data`.
    zeros: usize,
    window: u16,
    ttl: u8,
    ident: u16,
    timestamp: bool,
    sack: Option<[u32; 2]>,
}

fn packet(after: f64, from: usize, flags: u8, seq: u32, ack: u32) -> Packet {
    Packet {
        after,
        from,
        flags,
        seq,
        ack,
        stale_ack: false,
        data: b"",
        zeros: 0,
        window: 8192,
        ttl: [64, 52][from],
        ident: 1,
        timestamp: false,
        sack: None,
    }
}

/// A capture of one connection, at the client.
#[derive(Default)]
struct Talk {
    packets: Vec<Packet>,
    ports: Option<[u16; 2]>,
}

impl Talk {
    /// A connection whose handshake took this long.
    fn opened(rtt: f64) -> Self {
        let mut talk = Self::default();
        talk.add(packet(0., 0, SYN, 0, 0)).add(packet(rtt, 1, SYN | ACK, 0, 1));
        talk.add(packet(0.05, 0, ACK, 1, 1));
        talk
    }

    fn add(&mut self, packet: Packet) -> &mut Self {
        self.packets.push(packet);
        self
    }

    fn bytes(&self, packet: &Packet, ident: u16) -> Vec<u8> {
        let ports = self.ports.unwrap_or([40_000, 8021]);
        let (own, peer) = (packet.from, 1 - packet.from);
        let end = |end: usize| ([[10, 0, 0, 1], [192, 0, 2, 9]][end], ports[end]);
        let has_ack = packet.flags & ACK != 0 || packet.stale_ack;
        let payload = if packet.zeros > 0 { &[0; 4096][..packet.zeros] } else { packet.data };
        write(&Tcp {
            src: end(own),
            dst: end(peer),
            seq: START[own].wrapping_add(packet.seq),
            ack: if has_ack { START[peer].wrapping_add(packet.ack) } else { 0 },
            flags: packet.flags,
            window: packet.window,
            ttl: packet.ttl,
            ident,
            tsval: packet.timestamp.then(|| 5000 + u32::from(ident) * 10),
            sack: packet.sack.map(|edges| edges.map(|edge| START[peer] + edge)),
            payload,
        })
    }

    /// The record of the connection; the capture ends `rest` seconds after the last packet.
    fn explain(&self, rest: i64) -> Value {
        let (mut time, mut counts) = (1_700_000_000_000 * MS, [100_u16, 9000]);
        let mut packets = Vec::new();
        for packet in &self.packets {
            time += (packet.after * MS as f64) as i64;
            counts[packet.from] += 1;
            let ident = if packet.ident == 1 { counts[packet.from] } else { packet.ident };
            packets.push((time, self.bytes(packet, ident)));
        }
        if rest > 0 {
            let other = Self { ports: Some([50_000, 9]), ..Self::default() };
            let syn = packet(0., 0, SYN, 0, 0);
            packets.push((time + rest * 1000 * MS, other.bytes(&syn, 1)));
        }
        let mut records = records(&packets, |_, _| true).into_iter();
        let wanted = format!("192.0.2.9:{}", self.ports.unwrap_or([0, 8021])[1]);
        records
            .find(|record| record["server"] == wanted)
            .expect("the connection, with the client and the server as said")
    }
}

#[track_caller]
fn assert_end(record: &Value, cause: &str, by: &str) {
    assert_eq!((record["cause"].as_str(), record["ended_by"].as_str()), (Some(cause), Some(by)), "{record}");
}

/// A request of 40 bytes, its ACK, and 1000 bytes of answer.
fn asked(talk: &mut Talk) -> &mut Talk {
    talk.add(Packet { zeros: 40, ..packet(1., 0, PSH | ACK, 1, 1) });
    talk.add(packet(30., 1, ACK, 1, 41));
    talk.add(Packet { zeros: 1000, ..packet(2., 1, PSH | ACK, 1, 41) });
    talk.add(packet(0.1, 0, ACK, 41, 1001))
}

/// A device in the path takes the request and resets at once, with the server's TTL: it is too soon for the server.
#[test]
fn an_abort_that_comes_too_soon_is_of_a_nearer_device() {
    let mut talk = Talk::opened(30.);
    asked(&mut talk).add(Packet { zeros: 60, ..packet(500., 0, PSH | ACK, 41, 1001) });
    for packet in &mut talk.packets {
        packet.timestamp = true;
    }
    let reset = Packet { window: 0, ident: 0, ..packet(0.4, 1, RST | ACK, 1001, 101) };
    talk.add(reset);
    assert_end(&talk.explain(0), "inline-reset", "path");
    // With its round trip, it is the server's.
    talk.packets.pop();
    talk.add(Packet { after: 31., ..reset });
    assert_end(&talk.explain(0), "close-unread", "server");
}

/// A proxy answers the SYN only when it has reached the server, and all data at once: it is soon every time.
#[test]
fn a_proxy_that_opens_slowly_and_answers_at_once_is_no_device_in_the_path() {
    let mut talk = Talk::opened(30.);
    talk.add(Packet { zeros: 40, ..packet(1., 0, PSH | ACK, 1, 1) }).add(packet(0.2, 1, ACK, 1, 41));
    talk.add(Packet { zeros: 900, ..packet(20., 1, PSH | ACK, 1, 41) }).add(packet(0.1, 0, ACK, 41, 901));
    talk.add(Packet { zeros: 40, ..packet(9., 0, PSH | ACK, 41, 901) });
    talk.add(packet(0.4, 1, RST | ACK, 901, 81));
    assert_end(&talk.explain(0), "close-unread", "server");
}

/// Bare resets answer segments of a stream that were sent a round trip before, one each.
#[test]
fn a_server_that_lost_a_stream_is_not_taken_for_a_nearer_device() {
    let mut talk = Talk::opened(12.);
    for part in 0..12 {
        talk.add(Packet { zeros: 1000, ..packet(3., 0, ACK, 1 + part * 1000, 1) });
        if part > 3 {
            match part {
                ..8 => talk.add(packet(0.5, 1, ACK, 1, 1 + (part - 3) * 1000)),
                _ => talk.add(Packet { window: 0, ident: 0, ..packet(0.5, 1, RST, 1, 0) }),
            };
        }
    }
    assert_end(&talk.explain(0), "lost-state", "server");
}

/// Three aborts with the same numbers for one packet, each with another TTL, and the host goes on to acknowledge.
#[test]
fn aborts_of_one_number_with_other_ttls_are_injected() {
    let mut talk = Talk::opened(200.);
    talk.add(Packet { zeros: 500, ..packet(1., 0, PSH | ACK, 1, 1) });
    for (after, ttl, window, ident) in [(30., 97, 1000, 700), (0.1, 46, 4021, 55), (0.1, 203, 200, 9)] {
        talk.add(Packet { ttl, window, ident, ..packet(after, 1, RST | ACK, 1, 501) });
    }
    talk.add(packet(170., 1, ACK, 1, 501)).add(Packet { window: 0, ident: 0, ..packet(0.1, 0, RST, 501, 0) });
    assert_end(&talk.explain(0), "injected", "path");
}

/// An alert and a FIN of the server; the client's reset only follows.
#[test]
fn the_end_that_refused_tls_ended_it() {
    let mut talk = Talk::opened(30.);
    talk.add(Packet { data: b"\x16\x03\x01\0\x28\x01\0\0\x24\x03\x03", ..packet(1., 0, PSH | ACK, 1, 1) });
    talk.add(Packet { data: b"\x15\x03\x03\0\x02\x02\x28", ..packet(30., 1, PSH | ACK, 1, 12) });
    talk.add(packet(0.1, 1, FIN | ACK, 8, 12)).add(packet(0.1, 0, RST | ACK, 12, 9));
    assert_end(&talk.explain(0), "protocol-mismatch", "server");
}

/// nginx on a port of TLS answers HTTP without TLS in HTTP, and says what it expects.
#[test]
fn http_to_a_port_of_tls_is_a_mismatch_though_the_answer_is_http() {
    let mut talk = Talk::opened(30.);
    talk.add(Packet { data: b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", ..packet(1., 0, PSH | ACK, 1, 1) });
    let answer = b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nConnection: close\r\n\r\n<title>400 The plain HTTP request was sent to HTTPS port</title>";
    talk.add(Packet { data: answer, ..packet(31., 1, PSH | ACK, 1, 36) });
    let end = 1 + answer.len() as u32;
    talk.add(packet(0.1, 1, FIN | ACK, end, 36)).add(packet(0.1, 0, FIN | ACK, 36, end + 1));
    talk.add(packet(30., 1, ACK, end + 1, 37));
    assert_end(&talk.explain(0), "protocol-mismatch", "server");
}

/// Old Windows aborts without the ACK flag, and leaves the number in the header.
#[test]
fn an_abort_of_old_windows_after_the_peers_fin_is_reset_for_fin() {
    let mut talk = Talk::opened(30.);
    asked(&mut talk).add(packet(5000., 1, FIN | ACK, 1001, 41)).add(packet(0.1, 0, ACK, 41, 1002));
    talk.add(Packet { stale_ack: true, window: 0, ..packet(8000., 0, RST, 41, 1002) });
    let record = talk.explain(0);
    assert_end(&record, "reset-for-fin", "client");
    assert_eq!(record["rst_frames"][0]["shape"], "active", "{record}");
}

/// A goodbye asks for no answer: a reset in place of the FIN lost nothing.
#[test]
fn a_reset_for_the_fin_after_a_goodbye_is_harmless() {
    let goodbyes: [&'static [u8]; 4] =
        [b"0\x05\x02\x01\x02B\0", b"QUIT\r\n", b"X\0\0\0\x04", b"\x01\0\0\0\x01"];
    for data in goodbyes {
        let mut talk = Talk::opened(3.);
        asked(&mut talk).add(Packet { data, ..packet(90., 0, PSH | ACK, 41, 1001) });
        let end = 41 + data.len() as u32;
        talk.add(packet(0.1, 0, FIN | ACK, end, 1001)).add(packet(3., 1, RST | ACK, 1001, end + 1));
        let record = talk.explain(0);
        assert_eq!(
            (&record["cause"], &record["severity"]),
            (&"reset-for-fin".into(), &"benign".into()),
            "{record}"
        );
    }
    let mut talk = Talk::opened(3.);
    asked(&mut talk).add(Packet { zeros: 60, ..packet(90., 0, PSH | ACK, 41, 1001) });
    talk.add(packet(0.1, 0, FIN | ACK, 101, 1001)).add(packet(3., 1, RST | ACK, 1001, 102));
    assert_end(&talk.explain(0), "close-unread", "server");
}

/// BSD sends RST when the last of many retransmissions, at the longest pause, has had no answer.
#[test]
fn a_reset_at_the_end_of_the_retransmissions_is_of_the_stack() {
    let mut talk = Talk::opened(30.);
    asked(&mut talk);
    for pause in [1., 1., 2., 4., 8., 16., 32., 64., 64.] {
        talk.add(Packet { zeros: 40, ..packet(pause * 1000., 0, PSH | ACK, 41, 1001) });
    }
    talk.add(packet(64_000., 0, RST | ACK, 81, 1001));
    assert_end(&talk.explain(0), "delivery-timeout", "client");
    // A program gives up when it likes.
    talk.packets.last_mut().unwrap().after = 21_000.;
    assert_end(&talk.explain(0), "silent-drop", "client");
}

/// The client acknowledged the server's answer, which the capture lacks: the server answered.
#[test]
fn data_that_only_the_capture_lacks_is_not_lost() {
    let mut talk = Talk::opened(30.);
    talk.add(Packet { zeros: 40, ..packet(1., 0, PSH | ACK, 1, 1) }).add(packet(30., 1, ACK, 1, 41));
    talk.add(packet(40., 0, ACK, 41, 1001)).add(packet(500., 1, RST | ACK, 1001, 41));
    assert_end(&talk.explain(0), "abort", "server");
    // Without that ACK, it may never have arrived.
    talk.packets.remove(5);
    assert_end(&talk.explain(0), "silent-drop", "server");
}

/// The receiver reports a gap, and no repetition reaches it.
#[test]
fn a_gap_at_the_receiver_that_is_never_filled_is_a_silent_drop() {
    let mut talk = Talk::opened(20.);
    asked(&mut talk).add(Packet { zeros: 200, ..packet(100., 1, PSH | ACK, 6001, 41) });
    talk.add(Packet { sack: Some([6001, 6201]), ..packet(0.1, 0, ACK, 41, 1001) });
    assert_end(&talk.explain(20), "silent-drop", "nobody");
    assert_end(&talk.explain(1), "open", "nobody");
}

/// The server's SYN|ACK comes again although the client sends data: the data is lost.
#[test]
fn a_request_that_a_firewall_of_one_direction_drops_is_harmful() {
    let mut talk = Talk::opened(20.);
    talk.add(Packet { zeros: 40, ..packet(1., 0, PSH | ACK, 1, 1) });
    for _ in 0..3 {
        talk.add(packet(1000., 1, SYN | ACK, 0, 1)).add(packet(0.1, 0, ACK, 1, 1));
        talk.add(Packet { zeros: 40, ..packet(10., 0, PSH | ACK, 1, 1) });
    }
    let record = talk.explain(0);
    assert_end(&record, "one-sided", "path");
    assert_eq!(record["severity"], "harmful", "{record}");
}

/// Without a SYN, a registered port tells the server though its number is the higher one.
#[test]
fn a_registered_port_tells_the_server() {
    let mut talk = Talk { ports: Some([1077, 1863]), ..Talk::default() };
    talk.add(Packet { data: b"QNG 42\r\n", ..packet(0., 1, PSH | ACK, 1, 1) })
        .add(packet(150., 0, ACK, 1, 9));
    talk.add(Packet { data: b"OUT\r\n", ..packet(30_000., 0, PSH | ACK, 1, 9) });
    talk.add(Packet { window: 0, ..packet(0.4, 0, RST | ACK, 6, 9) });
    assert_end(&talk.explain(0), "client-cancelled", "client");
}

/// A SYN in the client's name from elsewhere is challenged, and the connection goes on: it is one.
#[test]
fn a_forged_syn_begins_no_connection() {
    let mut talk = Talk::opened(20.);
    asked(&mut talk).add(Packet { ttl: 200, ..packet(90., 0, SYN, 77_000, 0) });
    talk.add(packet(20., 1, ACK, 1001, 41));
    talk.add(Packet { zeros: 60, ..packet(300., 0, PSH | ACK, 41, 1001) })
        .add(packet(20., 1, ACK, 1001, 101));
    talk.add(packet(9., 0, FIN | ACK, 101, 1001)).add(packet(20., 1, FIN | ACK, 1001, 102));
    talk.add(packet(0.1, 0, ACK, 102, 1002));
    assert_end(&talk.explain(0), "orderly", "client");
}

/// A proxy of SYNs passes on that the server behind it refused: its SYN|ACK offers no window.
#[test]
fn a_reset_after_a_syn_ack_without_window_is_of_a_syn_proxy() {
    let mut talk = Talk::default();
    talk.add(packet(0., 0, SYN, 0, 0)).add(Packet { window: 0, ttl: 63, ..packet(20., 1, SYN | ACK, 0, 1) });
    talk.add(packet(0.1, 0, ACK, 1, 1)).add(Packet {
        window: 0,
        ident: 0,
        ..packet(30., 1, RST | ACK, 1, 1)
    });
    assert_end(&talk.explain(0), "syn-proxy", "path");
}

/// Two paths: the reset took the other one. The flow's own clock and count of IP ids go on in it.
#[test]
fn an_abort_of_the_host_over_another_path_is_the_hosts() {
    let mut talk = Talk::opened(30.);
    asked(&mut talk).add(Packet { ttl: 48, ..packet(2300., 1, RST | ACK, 1001, 41) });
    talk.packets.iter_mut().for_each(|packet| packet.timestamp = true);
    assert_end(&talk.explain(0), "abort", "server");
    let reset = talk.packets.last_mut().unwrap();
    (reset.timestamp, reset.window, reset.ident) = (false, 0, 0);
    assert_end(&talk.explain(0), "idle-reset", "path");
}

/// Connections that one event ends were idle for as long as each other: the event is the fact, not a timer.
#[test]
fn a_group_that_ends_at_once_says_so() {
    let mut packets = Vec::new();
    let mut talk = Talk::opened(1.);
    asked(&mut talk).add(Packet { window: 0, ..packet(33_000., 1, RST | ACK, 1001, 41) });
    let mut time = 1_700_000_000_000 * MS;
    for (place, sent) in talk.packets.iter().enumerate() {
        time += (sent.after * MS as f64) as i64;
        for client in 0..3 {
            let other = Talk { ports: Some([40_000 + client, 8021]), ..Talk::default() };
            let later = i64::from(client) * MS / 10;
            packets.push((time + later, other.bytes(sent, 100 + place as u16)));
        }
    }
    let mut explainer = explained(&packets, |_, _| true);
    let ended: Vec<_> = explainer.ready().collect();
    let groups = explainer.groups_of(&ended);
    assert_eq!(groups.len(), 1, "{groups:?}");
    assert_eq!(groups[0].fact, "all at the same time, 33.0 s after the last traffic");
}

/// The causes of connections to these ports, each of one packet that is captured three times.
fn causes_of(ports: std::ops::Range<u16>, packet: Packet) -> Vec<String> {
    let mut packets = Vec::new();
    for (place, port) in ports.enumerate() {
        let talk = Talk { ports: Some([40_000, port]), ..Talk::default() };
        let time = 1_700_000_000_000 * MS + place as i64 * 20 * MS;
        packets.extend((0..3).map(|copy| (time + copy * 2000, talk.bytes(&packet, 700 + port))));
    }
    let records = records(&packets, |_, _| true);
    records.iter().map(|record| record["cause"].as_str().unwrap().to_owned()).collect()
}

/// A scan is one though its probes are dropped, or only the answers are in the capture.
#[test]
fn scans_are_found_in_one_direction_alone() {
    let probe = |flags| Packet { window: 1024, ..packet(0., 0, flags, 0, 0) };
    for flags in [FIN, 0, FIN | PSH | 32, ACK] {
        let causes = causes_of(20..40, probe(flags));
        assert!(causes.iter().all(|cause| cause == "scan"), "flags {flags}: {causes:?}");
    }
    let refusal = Packet { window: 0, seq: 0_u32.wrapping_sub(START[1]), ..packet(0., 1, RST | ACK, 0, 1) };
    assert!(causes_of(20..40, refusal).iter().all(|cause| cause == "scan"));
    assert!(causes_of(20..24, refusal).iter().all(|cause| cause == "refused"));
}

/// USER begins FTP and POP3, and POP3's errors look like those of Redis.
#[test]
fn mail_that_is_refused_is_no_mismatch() {
    for greeting in [b"+OK ready\r\n" as &'static [u8], b"-ERR busy\r\n"] {
        let end = 1 + greeting.len() as u32;
        let mut talk = Talk { ports: Some([40_000, 110]), ..Talk::opened(20.) };
        talk.add(Packet { data: greeting, ..packet(5., 1, PSH | ACK, 1, 1) })
            .add(packet(0.1, 0, ACK, 1, end));
        talk.add(Packet { data: b"USER a\r\n", ..packet(5., 0, PSH | ACK, 1, end) });
        talk.add(Packet { data: b"-ERR no\r\n", ..packet(20., 1, PSH | ACK, end, 9) });
        talk.add(packet(0.1, 1, FIN | ACK, end + 9, 9)).add(packet(0.1, 0, FIN | ACK, 9, end + 10));
        talk.add(packet(20., 1, ACK, end + 10, 10));
        assert_end(&talk.explain(0), "orderly", "server");
    }
}

/// A stack that aborts without the ACK flag, right after it acknowledged all data.
#[test]
fn a_bare_reset_of_an_end_that_just_acknowledged_is_an_abort() {
    let mut talk = Talk::opened(20.);
    asked(&mut talk).add(Packet { window: 0, ..packet(0.4, 0, RST, 41, 0) });
    assert_end(&talk.explain(0), "abort", "client");
}

/// ACKs overtake each other on the way: the older one's SACK and window tell nothing of the end.
#[test]
fn an_overtaken_ack_reports_no_gap() {
    let mut talk = Talk::opened(20.);
    talk.add(Packet { data: b"GET / HTTP/1.1\r\n\r\n", ..packet(1., 0, ACK | PSH, 1, 1) });
    talk.add(Packet { zeros: 1400, ..packet(20., 1, ACK, 1, 19) });
    talk.add(Packet { zeros: 1400, ..packet(0.1, 1, ACK | PSH, 1401, 19) });
    talk.add(packet(0.1, 0, ACK, 19, 2801));
    talk.add(Packet { sack: Some([1401, 2801]), window: 0, ..packet(0.1, 0, ACK, 19, 1) });
    talk.add(packet(4000., 1, RST | ACK, 2801, 19));
    assert_end(&talk.explain(0), "abort", "server");
}
