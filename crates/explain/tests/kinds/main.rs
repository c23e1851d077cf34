//! Kinds of ends that the captures of `captures/lab` do not have: other operating systems, long timers, middle boxes. Each is written
//! packet by packet, and judged whole and damaged.

mod ends;
mod faults;
mod packet;
mod script;

use packet::{ACK, Change, RST, SYN};
use script::{C, Os, S, Script, Segment};

use Os::{Linux, Mac, Windows};

/// A kind of end: its name, the causes that are right (the first is the truth), the parties, and the packets.
struct Kind {
    name: &'static str,
    causes: &'static [&'static str],
    by: &'static [&'static str],
    script: fn() -> Script,
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn tls(kind: u8, size: usize) -> Vec<u8> {
    let mut record = vec![kind, 3, 3, (size >> 8) as u8, size as u8];
    record.resize(size + 5, 0x5a);
    record
}

/// A connection on which one HTTP exchange took place.
fn http(client: Os, server: Os) -> Script {
    let mut script = Script::new(client, server).port(80);
    script.open().say(C, REQUEST).wait(5.0).say(S, ANSWER);
    script
}

/// A connection with TLS on which something was exchanged.
fn https(client: Os, server: Os) -> Script {
    let mut script = Script::new(client, server);
    script.open().say(C, &tls(22, 300)).wait(2.0).say(S, &tls(22, 1200)).wait(1.0);
    script.say(C, &tls(23, 400)).wait(9.0).say(S, &tls(23, 900));
    script
}

const KINDS: &[Kind] = &[
    Kind {
        name: "Windows tries a closed port three times",
        causes: &["refused"],
        by: &["server"],
        script: || {
            let mut s = Script::new(Windows, Linux).port(8080);
            let syn = s.segment(C, SYN);
            for _ in 0..3 {
                let seq = s.ends_seq(C);
                s.send(C, Segment { seq, ..syn }, b"").wait(30.0).refuse().wait(500.0);
            }
            s
        },
    },
    Kind {
        name: "a browser on Windows resets after the server's FIN",
        causes: &["reset-for-fin"],
        by: &["client"],
        script: || {
            let mut s = http(Windows, Linux);
            s.wait(5000.0).fin(S).wait(0.1).ack(C).wait(2000.0).abort(C, true);
            s
        },
    },
    Kind {
        name: "a tab is closed in the middle of a download (Windows)",
        causes: &["client-cancelled"],
        by: &["client"],
        script: || {
            let mut s = Script::new(Windows, Linux);
            s.open().say(C, &tls(22, 300)).say(S, &tls(22, 1200)).say(C, &tls(23, 400)).wait(8.0);
            for _ in 0..6 {
                s.say(S, &[7; 1448]);
            }
            s.abort(C, true).wait(0.3);
            for _ in 0..4 {
                s.push(S, &[7; 1448]).wait(0.02).bare(C);
            }
            s
        },
    },
    Kind {
        name: "macOS closes while data is on its way",
        causes: &["client-cancelled", "data-after-close"],
        by: &["client"],
        script: || {
            let mut s = https(Mac, Linux);
            for _ in 0..8 {
                s.say(S, &[7; 1448]);
            }
            s.fin(C).wait(0.2);
            for _ in 0..3 {
                s.push(S, &[7; 1448]).wait(0.02).bare(C);
            }
            s
        },
    },
    Kind {
        name: "TLS: both say goodbye, the server's socket is gone",
        causes: &["close-notify-race"],
        by: &["server"],
        script: || {
            let mut s = https(Mac, Linux);
            s.wait(5000.0).push(S, &tls(23, 19)).wait(0.02).fin(S).wait(0.1).ack(C).wait(0.1);
            s.push(C, &tls(23, 19)).wait(0.02).fin(C).wait(30.0).bare(S).wait(0.02).bare(S);
            s
        },
    },
    Kind {
        name: "a client closes and resets at once (Windows)",
        causes: &["abort", "client-cancelled"],
        by: &["client"],
        script: || {
            let mut s = http(Windows, Windows);
            s.wait(20.0).fin(C).wait(0.2).abort(C, true);
            s
        },
    },
    Kind {
        name: "a balancer resets an idle connection after 60 s",
        causes: &["idle-reset", "abort"],
        by: &["path", "server"],
        script: || {
            let mut s = https(Linux, Linux);
            s.wait(60_010.0).abort(S, true);
            s
        },
    },
    Kind {
        name: "a NAT gateway resets the first packet after 350 s, with a TTL of its own",
        causes: &["state-expired"],
        by: &["path"],
        script: || {
            let mut s = https(Linux, Linux);
            s.wait(351_000.0).push(C, &tls(23, 300)).wait(1.0);
            let seq = s.ends_ack(C);
            let reset = s.segment(S, RST);
            s.send(S, Segment { seq, ttl: 62, window: 0, tsval: None, ident: 0, ..reset }, b"");
            s
        },
    },
    Kind {
        name: "a firewall forgot the connection after an hour, and resets with the server's TTL",
        causes: &["state-expired", "lost-state", "keepalive-race"],
        by: &["path", "server"],
        script: || {
            let mut s = https(Windows, Windows);
            s.wait(3_605_000.0).push(C, &tls(23, 300)).wait(30.0).bare(S);
            s
        },
    },
    Kind {
        name: "data for a client in FIN-WAIT-2 whose timer ran out",
        causes: &["data-after-close"],
        by: &["client"],
        script: || {
            let mut s = http(Linux, Linux);
            s.wait(10.0).fin(C).wait(30.0).ack(S).wait(61_000.0).push(S, b"HTTP/1.1 408 Timeout\r\n\r\n");
            s.wait(0.1).bare(C);
            s
        },
    },
    Kind {
        name: "the client half-closes, the server goes on",
        causes: &["orderly"],
        by: &["client"],
        script: || {
            let mut s = Script::new(Linux, Linux).port(4000);
            s.open().say(C, b"all my data").fin(C).wait(30.0).ack(S).wait(2000.0).say(S, ANSWER);
            s.wait(10.0).fin(S).wait(0.1).ack(C);
            s
        },
    },
    Kind {
        name: "three resets with growing numbers, then the server's answer",
        causes: &["injected"],
        by: &["path"],
        script: || {
            let mut s = Script::new(Linux, Linux).port(80);
            s.open().push(C, REQUEST).wait(8.0);
            let (base, ack) = (s.ends_ack(C), s.ends_seq(C));
            let reset =
                Segment { seq: base, ack, ttl: 47, ident: 0xbeef, tsval: None, ..s.segment(S, RST | ACK) };
            for step in [0, 1460, 4380] {
                s.send(S, Segment { seq: base.wrapping_add(step), ..reset }, b"").wait(0.02);
            }
            s.wait(22.0).ack(S).wait(1.0).push(S, ANSWER).wait(0.05).bare(C);
            s
        },
    },
    Kind {
        name: "an inspecting firewall swallows the ClientHello",
        causes: &["inline-reset"],
        by: &["path"],
        script: || {
            let mut s = Script::new(Linux, Linux);
            s.open().push(C, &tls(22, 512)).wait(0.6);
            let ack = s.ends_seq(C);
            let reset = Segment { ack, ttl: 63, window: 0, ident: 0, tsval: None, ..s.segment(S, RST | ACK) };
            s.send(S, reset, b"");
            s
        },
    },
    Kind {
        name: "Windows without answer to its SYN",
        causes: &["silent-drop"],
        by: &["nobody"],
        script: || {
            let mut s = Script::new(Windows, Linux);
            let syn = s.segment(C, SYN);
            s.send(C, syn, b"").wait(1000.0).send(C, syn, b"").wait(2000.0).send(C, syn, b"").wait(4000.0);
            s.send(C, syn, b"").wait(8000.0).send(C, syn, b"");
            s
        },
    },
    Kind {
        name: "Windows keep-alive probes without answer",
        causes: &["keepalive-timeout"],
        by: &["client"],
        script: || {
            let mut s = https(Windows, Linux);
            s.wait(7_200_000.0);
            for _ in 0..10 {
                let seq = s.ends_seq(C).wrapping_sub(1);
                let probe = Segment { seq, ..s.segment(C, ACK) };
                s.send(C, probe, b"\0").wait(1000.0);
            }
            s.abort(C, true);
            s
        },
    },
    Kind {
        name: "Windows gives up on data without ACK, and says so",
        causes: &["delivery-timeout", "silent-drop"],
        by: &["client"],
        script: || {
            let mut s = http(Windows, Linux);
            s.wait(500.0).push(C, REQUEST).wait(300.0);
            for pause in [600.0, 1200.0, 2400.0, 4800.0, 9600.0] {
                s.repeat(C, REQUEST).wait(pause);
            }
            s.abort(C, false);
            s
        },
    },
    Kind {
        name: "a server is killed while a request is in its buffer",
        causes: &["close-unread"],
        by: &["server"],
        script: || {
            let mut s = http(Linux, Linux);
            s.wait(900.0).say(C, REQUEST).wait(40.0).abort(S, true);
            s
        },
    },
    Kind {
        name: "the answer to a large upload, then the rest is not read",
        causes: &["close-unread"],
        by: &["server"],
        script: || {
            let mut s = Script::new(Linux, Linux).port(80);
            s.open();
            for _ in 0..4 {
                s.say(C, &[b'x'; 1448]);
            }
            s.push(S, b"HTTP/1.1 413 Payload Too Large\r\n\r\n").wait(0.05).push(C, &[b'x'; 1448]).wait(0.1);
            s.abort(S, false);
            s
        },
    },
    Kind {
        name: "a Windows client ends a finished session with a reset",
        causes: &["abort", "client-cancelled"],
        by: &["client"],
        script: || {
            let mut s = Script::new(Windows, Windows).port(445);
            s.open()
                .say(C, &[1; 120])
                .say(S, &[2; 200])
                .say(C, &[1; 60])
                .say(S, &[2; 70])
                .wait(3.0)
                .abort(C, true);
            s
        },
    },
    Kind {
        name: "a server resets an idle connection while the next request is on its way",
        causes: &["abort", "keepalive-race", "idle-reset"],
        by: &["server"],
        script: || {
            let mut s = http(Linux, Linux);
            s.wait(5000.0).push(C, REQUEST).wait(12.0).abort(S, false).wait(18.0).bare(S);
            s
        },
    },
    Kind {
        name: "the request after 65 s meets a closed socket, no FIN was seen",
        causes: &["keepalive-race", "lost-state", "state-expired"],
        by: &["server", "path"],
        script: || {
            let mut s = http(Linux, Linux);
            s.wait(65_000.0).push(C, REQUEST).wait(30.0).bare(S);
            s
        },
    },
    Kind {
        name: "a client that gave up gets a late SYN|ACK",
        causes: &["connect-cancelled"],
        by: &["client"],
        script: || {
            let mut s = Script::new(Linux, Linux);
            s.plain_syn().wait(3200.0);
            s.syn_ack().wait(0.05).bare(C);
            s
        },
    },
    Kind {
        name: "a health check of a balancer, every 5 s",
        causes: &["health-check"],
        by: &["client"],
        script: || {
            let mut s = Script::new(Linux, Linux).port(8443);
            for n in 0..5 {
                s.again(40_000 + n);
                s.open().abort(C, true).wait(5000.0);
            }
            s
        },
    },
    Kind {
        name: "a connect scan",
        causes: &["scan"],
        by: &["client"],
        script: || {
            let mut s = Script::new(Linux, Linux);
            for n in 0..12 {
                s.again(41_000 + n);
                s = s.port(20 + n);
                if n == 2 {
                    s.open().abort(C, true);
                } else {
                    s.plain_syn().wait(30.0).refuse();
                }
                s.wait(20.0);
            }
            s
        },
    },
    Kind {
        name: "a port is used again while the server is in TIME-WAIT",
        causes: &["port-reuse"],
        by: &["client"],
        script: || {
            let mut s = http(Linux, Windows);
            s.fin(S).wait(0.1).fin(C).wait(30.0).ack(S).wait(4000.0);
            let (seq, ack) = (s.ends_seq(S), s.ends_seq(C));
            let old = Segment { seq, ack, ..s.segment(S, ACK) };
            s.restart(C, 500);
            s.plain_syn().wait(30.0).send(S, old, b"").wait(0.1);
            let reset = Segment { seq: ack, window: 0, tsval: None, ident: 0, ..s.segment(C, RST) };
            s.send(C, reset, b"").wait(1000.0);
            let again = Segment { seq: s.ends_seq(C).wrapping_sub(1), ..s.segment(C, SYN) };
            s.send(C, again, b"");
            s
        },
    },
    Kind {
        name: "the server's program does not read, the client aborts",
        causes: &["zero-window"],
        by: &["client"],
        script: || {
            let mut s = Script::new(Linux, Linux).port(80);
            s.open();
            for _ in 0..20 {
                s.say(C, &[b'x'; 1448]);
            }
            for pause in [200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0, 12_800.0, 25_600.0] {
                let shut = Segment { window: 0, ack: s.ends_seq(C), ..s.segment(S, ACK) };
                s.send(S, shut, b"").wait(pause);
                let probe = Segment { seq: s.ends_seq(C).wrapping_sub(1), ..s.segment(C, ACK) };
                s.send(C, probe, b"").wait(30.0);
            }
            s.abort(C, true);
            s
        },
    },
    Kind {
        name: "HTTP to an SSH server",
        causes: &["protocol-mismatch"],
        by: &["server"],
        script: || {
            let mut s = Script::new(Linux, Linux).port(22);
            s.open().say(C, REQUEST).say(S, b"SSH-2.0-OpenSSH_9.6\r\n").wait(1.0);
            s.push(S, b"Invalid SSH identification string.\r\n").wait(0.1).ack(C).wait(0.2).abort(S, true);
            s
        },
    },
    Kind {
        name: "the host restarted without a word",
        causes: &["lost-state"],
        by: &["server"],
        script: || {
            let mut s = Script::new(Linux, Linux).port(5432);
            s.open().say(C, &[1; 60]).say(S, &[2; 90]).wait(31_000.0).push(C, &[1; 80]).wait(30.0).bare(S);
            s
        },
    },
    Kind {
        name: "the peer's socket vanished in the middle of a stream",
        causes: &["lost-state", "client-cancelled"],
        by: &["client"],
        script: || {
            let mut s = https(Linux, Linux);
            for _ in 0..5 {
                s.say(S, &[7; 900]).wait(200.0);
            }
            s.push(S, &[7; 900]).wait(0.1).bare(C);
            s
        },
    },
    Kind {
        name: "a reset after both FINs",
        causes: &["orderly", "reset-for-fin"],
        by: &["server"],
        script: || {
            let mut s = http(Windows, Linux);
            s.fin(S).wait(0.1).ack(C).wait(1.0).fin(C).wait(0.1).abort(C, true).wait(30.0).bare(S);
            s
        },
    },
    Kind {
        name: "an old Windows aborts without the ACK flag",
        causes: &["abort", "client-cancelled"],
        by: &["client"],
        script: || {
            let mut s = http(Windows, Linux);
            s.wait(3000.0);
            let reset = Segment { ack: s.ends_seq(S).wrapping_sub(77), window: 0, ..s.segment(C, RST) };
            s.send(C, reset, b"");
            s
        },
    },
    Kind {
        name: "backscatter",
        causes: &["stray"],
        by: &["unknown", "client", "server"],
        script: || {
            let mut s = Script::new(Linux, Linux);
            s.syn_ack().wait(0.05).bare(C);
            s
        },
    },
    Kind {
        name: "a database closes an idle session, and the client asks much later",
        causes: &["data-after-close"],
        by: &["server"],
        script: || {
            let mut s = Script::new(Linux, Linux).port(3306);
            s.open()
                .say(S, b"J\0\0\0\n8.0.36\0abcdefgh")
                .say(C, &[1; 80])
                .say(S, &[0; 11])
                .wait(28_800_000.0);
            s.fin(S).wait(40.0).ack(C).wait(600_000.0).push(C, b"\x09\0\0\0\x03SELECT 1").wait(30.0).bare(S);
            s
        },
    },
    Kind {
        name: "a proxy resets with a stated cause",
        causes: &["idle-reset", "declared", "abort"],
        by: &["path", "server"],
        script: || {
            let mut s = https(Linux, Linux);
            s.wait(300_000.0);
            let reset = Segment { tsval: None, window: 0, ..s.segment(S, RST | ACK) };
            s.send(S, reset, b"BIG-IP: [0x2b3e17a:4412] Flow expired (sweeper)");
            s
        },
    },
    Kind {
        name: "the server aborts after it answered and waited (a worker's limit)",
        causes: &["abort", "idle-reset", "close-unread"],
        by: &["server"],
        script: || {
            let mut s = http(Linux, Linux);
            s.wait(400.0).abort(S, true);
            s
        },
    },
    Kind {
        name: "the server's data is lost beyond the capture, then it gives up",
        causes: &["silent-drop", "delivery-timeout", "abort"],
        by: &["server", "client", "nobody"],
        script: || {
            let mut s = http(Linux, Linux);
            s.wait(1000.0).push(C, REQUEST).wait(200.0);
            for pause in [400.0, 800.0, 1600.0, 3200.0] {
                s.repeat(C, REQUEST).wait(pause);
            }
            s.wait(3000.0).abort(S, false);
            s
        },
    },
];

const DAMAGES: &[(&str, Change)] = &[
    ("whole", |_, _| true),
    ("96 bytes of each packet", |_, packet| {
        packet.1.truncate(96);
        true
    }),
    ("54 bytes of each packet", |_, packet| {
        packet.1.truncate(54);
        true
    }),
];

fn judge(kind: &Kind, damage: Change) -> Result<String, String> {
    let records = (kind.script)().records(damage);
    let resets = |record: &&serde_json::Value| record["rst_frames"].as_array().map_or(0, Vec::len);
    let Some(record) = records.iter().rev().max_by_key(resets) else { return Err("no record".into()) };
    let named = |list: &str, most: usize| {
        let list = record[list].as_array().map_or(&[][..], Vec::as_slice);
        list.iter().take(most).map(|one| one["cause"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let cause = record["cause"].as_str().unwrap();
    let truth = kind.causes[0];
    let seen = cause == truth
        || kind.causes.contains(&cause)
            && (named("alternatives", 3).iter().any(|name| name == truth)
                || named("also", 2).iter().any(|name| name == truth));
    let by = kind.by.contains(&record["ended_by"].as_str().unwrap());
    let said = format!(
        "{cause} {} by {}, alternatives {:?}, also {:?}",
        record["confidence"],
        record["ended_by"],
        named("alternatives", 3),
        named("also", 9)
    );
    if seen && by { Ok(said) } else { Err(said) }
}

#[test]
fn each_kind_has_its_cause_and_party() {
    let mut wrong = Vec::new();
    for kind in KINDS {
        for &(form, damage) in DAMAGES {
            match judge(kind, damage) {
                Ok(said) if form == "whole" => println!("{}: {said}", kind.name),
                Ok(_) => {}
                Err(said) => wrong.push(format!("{} ({form}): {said}", kind.name)),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a server sends of an answer before it closes, and whether that is harmful.
#[test]
fn an_answer_that_ends_before_its_end_is_harmful() {
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    const LENGTH: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345";
    let judged = |request: &[u8], parts: &[&[u8]], closer: usize| {
        let mut script = Script::new(Linux, Linux).port(80);
        script.open().say(C, request).wait(5.0);
        for part in parts {
            script.say(S, part).wait(2.0);
        }
        script.fin(closer).wait(0.1).fin(1 - closer).wait(0.1).ack(closer);
        let record = script.records(|_, _| true).remove(0);
        let text = record["evidence"].as_array().unwrap().iter().find_map(|one| one["text"].as_str());
        assert!(text.is_some(), "{record:#}");
        let cut = record["evidence"].to_string().contains("closed within its HTTP answer");
        let ended = ["cause", "ended_by", "severity"].map(|field| record[field].as_str().unwrap().to_owned());
        assert_eq!((&*ended[0], &*ended[1]), ("orderly", if closer == S { "server" } else { "client" }));
        assert_eq!(ended[2] == "harmful", cut, "{record:#}");
        cut
    };
    assert!(judged(REQUEST, &[CHUNKED], S) && judged(REQUEST, &[CHUNKED, b"a0\r\nxx"], S));
    assert!(
        judged(REQUEST, &[LENGTH], S) && judged(REQUEST, &[&LENGTH[..30]], S),
        "by its length, in its head"
    );
    assert!(!judged(REQUEST, &[CHUNKED, b"0\r\n\r\n"], S) && !judged(REQUEST, &[LENGTH, b"67890"], S));
    assert!(!judged(REQUEST, &[ANSWER, ANSWER], S), "two requests were sent at once");
    assert!(!judged(b"HEAD / HTTP/1.1\r\n\r\n", &[&LENGTH[..39]], S), "the answer to HEAD has no body");
    assert!(!judged(REQUEST, &[b"HTTP/1.1 200 OK\r\n\r\nup to the end"], S));
    assert!(!judged(REQUEST, &[LENGTH], C), "the client stopped it");
}
