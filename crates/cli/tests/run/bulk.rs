//! Much text, and many connections.

use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::support::{FAMILIES, Server, client, lastack, require_all};

const SERVER: &str = r#"
import hashlib, socket, sys, threading
host, length = sys.argv[1], int(sys.argv[2])
listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
listener.bind((host, 0))
listener.listen()
print(listener.getsockname()[1], flush=True)
s, _ = listener.accept()
block = hashlib.sha256(b"down").digest() * 2048
sent = hashlib.sha256()
def send():
    left = length
    while left > 0:
        n = s.send(block[: min(left, len(block))])
        sent.update(block[:n])
        left -= n
    s.shutdown(socket.SHUT_WR)
thread = threading.Thread(target=send)
thread.start()
received = hashlib.sha256()
while piece := s.recv(1 << 20):
    received.update(piece)
thread.join()
expected = hashlib.sha256()
block = hashlib.sha256(b"up").digest() * 2048
left = length
while left > 0:
    expected.update(block[: min(left, len(block))])
    left -= len(block)
print(sent.hexdigest(), "same" if received.digest() == expected.digest() else "other")
"#;

/// 64 MiB each way at the same time.
fn both_ways(options: &[&str]) {
    const LENGTH: u64 = 64 << 20;
    require_all();
    for (host, gateway) in FAMILIES {
        let mut server = Command::new("python3")
            .args(["-c", SERVER, host, &LENGTH.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(server.stdout.take().unwrap()));
        let port = lines.next().unwrap().unwrap().parse().unwrap();
        let options = [options, &["--host-loopback"]].concat();
        let ran = lastack(&options, &client("bulk_both", gateway, port, &[&LENGTH.to_string()]));
        let verdict = lines.next().expect("the server says what it saw").unwrap();
        let (sent, received) = verdict.split_once(' ').unwrap();
        assert_eq!(received, "same", "what the program sent");
        assert_eq!(
            (ran.seen().field("received"), ran.seen().field("sha256")),
            (&LENGTH.into(), &sent.into())
        );
        let connection = ran.connection();
        assert_eq!(connection["outcome"], "orderly", "{connection}");
        assert_eq!(
            (&connection["octets"]["sent"], &connection["octets"]["received"]),
            (&LENGTH.into(), &LENGTH.into())
        );
        assert_eq!(ran.summary()["dropped"], 0);
        server.wait().unwrap();
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn sixty_four_mebibytes_each_way() {
    both_ways(&[]);
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn sixty_four_mebibytes_each_way_in_small_packets() {
    both_ways(&["--mtu", "1500"]);
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn sixty_four_mebibytes_each_way_over_veth() {
    both_ways(&["--device", "veth"]);
}

/// Connections that the program does not read: what is held for all of them has a bound, nobody is reset, and
/// every byte comes when it reads.
#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_program_that_does_not_read() {
    const EACH: usize = 3 << 20;
    const CONNECTIONS: usize = 60;
    require_all();
    for (host, gateway) in FAMILIES {
        let server = Server::new(host, CONNECTIONS, |mut stream: TcpStream| {
            std::thread::spawn(move || std::io::Write::write_all(&mut stream, &vec![7; EACH]).unwrap())
        });
        // The client looks for lastack among the processes before it.
        let options = ["--host-loopback", "--memory", "8", "--host-pids"];
        let ran = lastack(&options, &client("stalled", gateway, server.port(), &[&CONNECTIONS.to_string()]));
        assert_eq!(ran.seen().field("ends"), &serde_json::json!(["EOF"]), "{ran:?}");
        assert_eq!(ran.seen().field("octets"), EACH * CONNECTIONS);
        let memory = ran.seen().field("memory").as_u64().unwrap();
        println!("{memory} KiB");
        assert!((1000..60_000).contains(&memory), "{memory} KiB");
        server.join().into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn two_hundred_connections_at_once() {
    require_all();
    for (host, gateway) in FAMILIES {
        let server = Server::new(host, 200, |mut stream: TcpStream| {
            std::thread::spawn(move || {
                let mut writer = stream.try_clone().unwrap();
                std::io::copy(&mut stream, &mut writer).unwrap();
            })
        });
        let ran = lastack(&["--host-loopback"], &client("many", gateway, server.port(), &["200"]));
        assert_eq!(ran.seen().field("good"), 200, "{ran:?}");
        assert_eq!(ran.summary()["tcp"]["orderly"], 200, "{}", ran.summary());
        server.join().into_iter().for_each(|thread| thread.join().unwrap());
    }
}
