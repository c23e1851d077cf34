//! `lastack probe`: its answers and exit statuses.

use std::net::{TcpListener, UdpSocket};
use std::process::Command;

const LASTACK: &str = env!("CARGO_BIN_EXE_lastack");

/// The exit status, and what was printed on both streams.
fn probe(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(LASTACK).arg("probe").args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

fn says(arguments: &[&str], code: i32, words: &str) {
    let (status, said) = probe(arguments);
    assert!(status == code && said.contains(words), "{arguments:?}: {status}, {said:?} lacks {words:?}");
}

fn at(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[test]
fn open_and_refused() {
    for host in ["127.0.0.1", "::1"] {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let there = at(host, listener.local_addr().unwrap().port());
        says(&[&there], 0, "/tcp: open, ");
        drop(listener);
        says(&[&there], 1, "/tcp: refused (RST), ");
    }
}

#[test]
fn datagrams_are_answered_or_refused_by_icmp() {
    for (host, code) in [("127.0.0.1", "3/3"), ("::1", "1/4")] {
        let socket = UdpSocket::bind((host, 0)).unwrap();
        let there = at(host, socket.local_addr().unwrap().port());
        says(
            &["-u", "--timeout", "200ms", &there],
            1,
            "no answer after 0.2 s: open, filtered, or no such host",
        );
        let server = std::thread::spawn(move || {
            // The first is the one that was not answered.
            let mut last = None;
            for _ in 0..2 {
                last = Some(socket.recv_from(&mut [0; 16]).unwrap().1);
            }
            socket.send_to(b"yes", last.unwrap()).unwrap();
        });
        says(&["-u", &there], 0, "/udp: open, ");
        server.join().unwrap();
        says(&["-u", &there], 1, &format!("/udp: refused (ICMP port unreachable ({code}) from {host}), "));
    }
}

#[test]
fn no_answer_differs_from_refusal() {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let there = listener.local_addr().unwrap().as_socket().unwrap();
    // They fill its queue.
    let _waiting: Vec<_> = (0..4)
        .map(|_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _pending = socket.connect(&there.into());
            socket
        })
        .collect();
    std::thread::sleep(std::time::Duration::from_millis(50));
    says(&["--timeout", "300ms", &there.to_string()], 1, "no answer after 0.3 s: filtered, or no such host");
}

#[test]
#[ignore = "needs namespaces"]
fn the_router_that_refuses_is_named() {
    let inside = |arguments: &[&str]| {
        let run = ["run", "-q", "--net6", "fd00::/64", "--", LASTACK, "probe"];
        let output = Command::new(LASTACK).args(run).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (status, said) = inside(&["10.0.2.99:80"]);
    if status == Some(125) {
        panic!("cannot run here: {said}");
    }
    assert_eq!(status, Some(1));
    assert!(said.contains("unreachable (ICMP host unreachable (3/1) from 10.0.2.2)"), "{said}");
    let (status, said) = inside(&["--json", "[fd00::99]:80"]);
    let line: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((status, &line["v"], &line["type"]), (Some(1), &1.into(), &"probe".into()));
    assert_eq!((&line["answer"], &line["by"]), (&"unreachable".into(), &"icmp".into()));
    assert_eq!(
        line["icmp"],
        serde_json::json!({
            "version": 6, "type": 1, "code": 3, "text": "host unreachable", "from": "fd00::2"
        })
    );
    let (_, said) = inside(&["-u", "10.0.2.99:80"]);
    assert!(said.contains("unreachable (ICMP host unreachable (3/1) from 10.0.2.2)"), "{said}");
}

#[test]
fn several_times() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap().to_string();
    let (status, said) = probe(&["-c", "3", "-i", "10ms", "--json", &there]);
    assert_eq!((status, said.lines().count()), (0, 3), "{said}");
}

#[test]
fn invalid_requests() {
    says(&["no-such-host.invalid:80"], 2, "unknown host \"no-such-host.invalid\"");
    says(&["127.0.0.1:70000"], 2, "choose from 1 to 65535");
    says(&["127.0.0.1"], 2, "has no port");
    says(&["-6", "127.0.0.1:80"], 2, "no address of IPv6");
    says(&["--timeout", "soon", "127.0.0.1:80"], 2, "invalid duration");
    says(&["--nonsense", "127.0.0.1:80"], 2, "--nonsense");
}
