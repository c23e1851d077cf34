//! `--publish`: ports of this host that lead to ports at which the program listens.

use std::io::{ErrorKind, Read};
use std::net::{TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{LASTACK, closed_port, finish, require_all, require_tool};

/// Listens at an address and port after half a second, says hello to one client, and goes on for a while.
const SERVER: &str = "
import socket, sys, time
time.sleep(0.5)
l = socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)
c, who = l.accept()
c.sendall(('hello ' + who[0]).encode())
c.close()
l.close()
time.sleep(0.7)
";

/// What a client of this host hears, and what it is refused with before and after the server listens.
fn published(option: &str, address: &str, port: u16) -> (ErrorKind, String, ErrorKind, serde_json::Value) {
    let report = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(LASTACK);
    command
        .args(["run", "--json", "-o"])
        .arg(report.path())
        .args(["-p", option, "--", "python3", "-c", SERVER, address]);
    let mut run = command.arg(port.to_string()).stderr(Stdio::inherit()).spawn().unwrap();
    let client = || TcpStream::connect(("127.0.0.1", port));
    std::thread::sleep(Duration::from_millis(300));
    let before = client().unwrap_err().kind();
    let begun = Instant::now();
    let mut stream = loop {
        match client() {
            Ok(stream) => break stream,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    drop(stream);
    std::thread::sleep(Duration::from_millis(300));
    let after = client().unwrap_err().kind();
    assert!(run.wait().unwrap().success());
    let lines = std::fs::read_to_string(report.path()).unwrap();
    (before, heard, after, serde_json::from_str(lines.lines().next().unwrap()).unwrap())
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_port_listens_as_long_as_the_program_does() {
    require_all();
    let refused = ErrorKind::ConnectionRefused;
    for (option, address, client) in [
        ("PORT", "0.0.0.0", "10.0.2.2"),
        ("127.0.0.1:PORT:PORT", "127.0.0.1", "127.0.0.1"),
        ("auto", "::", "fd00::2"),
        ("auto", "::1", "::1"),
    ] {
        let port = closed_port("127.0.0.1");
        let option = option.replace("PORT", &port.to_string());
        let (before, heard, after, line) = published(&option, address, port);
        assert_eq!((before, after), (refused, refused), "{option} {address}");
        let expected =
            [format!("hello {client}"), format!("hello ::ffff:{client}"), "hello ::ffff:10.0.2.2".to_owned()];
        assert!(expected.contains(&heard), "{option} {address}: {heard}");
        assert_eq!((&line["direction"], &line["cause"]), (&"in".into(), &"orderly".into()), "{line}");
        assert_eq!(line["remote_ip"], "127.0.0.1", "{line}");
    }
}

/// A client in a network of its own reaches the program from its own address.
#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_clients_address_is_visible_inside() {
    require_all();
    require_tool("ip");
    require_tool("unshare");
    let script = format!(
        "ip link set lo up; ip addr add 192.0.2.1/32 dev lo; {LASTACK} run -q -p 192.0.2.1:8080:80 -- python3 -c \"$0\" 0.0.0.0 80 & \
         for i in $(seq 100); do sleep 0.05; python3 -c \"$1\" && break; done; wait"
    );
    let client = "import socket; s = socket.create_connection(('192.0.2.1', 8080), 3, ('192.0.2.1', 0)); print(s.recv(99).decode())";
    let mut command = Command::new("unshare");
    let output = finish(command.args(["--map-root-user", "--net", "sh", "-c", &script, SERVER, client]));
    assert!(String::from_utf8_lossy(&output.stdout).contains("hello 192.0.2.1\n"), "{output:?}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_port_in_use_is_reported_before_the_program_runs() {
    require_all();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = finish(Command::new(LASTACK).args(["run", "-p", &port, "--", "echo", "ran"]));
    assert_eq!((output.status.code(), output.stdout.len()), (Some(125), 0));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("127.0.0.1:{port}")), "{output:?}");
}

/// Answers datagrams, from half a second on for a second and a half: each with the address that it came from.
const ECHO: &str = "
import socket, sys, time
time.sleep(0.5)
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], int(sys.argv[2])))
s.settimeout(0.1)
end = time.monotonic() + 1.5
while time.monotonic() < end:
    try: data, who = s.recvfrom(65535)
    except TimeoutError: continue
    s.sendto(data + who[0].encode(), who)
s.close()
time.sleep(1)
";

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_port_of_datagrams_receives_as_long_as_the_program_does() {
    require_all();
    for (address, host, gateway) in [("0.0.0.0", "127.0.0.1", "10.0.2.2"), ("::", "::1", "fd00::2")] {
        let port = closed_port(host);
        let report = tempfile::NamedTempFile::new().unwrap();
        let published = match host {
            "::1" => format!("[::1]:{port}:5300/udp"),
            _ => format!("{host}:{port}:5300/udp"),
        };
        let mut command = Command::new(LASTACK);
        command.args(["run", "--json", "-o"]).arg(report.path());
        command.args(["-p", &published, "--", "python3", "-c", ECHO, address, "5300"]);
        let mut run = command.stderr(Stdio::inherit()).spawn().unwrap();
        let client = UdpSocket::bind((host, 0)).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        client.connect((host, port)).unwrap();
        let mut heard = [0; 3000];
        let (mut ends, begun) = (Vec::new(), Instant::now());
        let large = vec![b'x'; 2000];
        while run.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{ends:?}");
            let end = client.send(&large).and_then(|_| client.recv(&mut heard));
            let end = match end {
                Ok(length) => String::from_utf8_lossy(&heard[2000..length]).into_owned(),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => "refused".to_owned(),
                // Between a datagram and its fate.
                Err(_) => continue,
            };
            if ends.last() != Some(&end) {
                ends.push(end);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // The client may begin before the port is bound, and go on when it is not any more: refused, too.
        assert_eq!(ends, ["refused", gateway, "refused"]);
        let lines = std::fs::read_to_string(report.path()).unwrap();
        let line: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert_eq!(
            (&line["proto"], &line["direction"], &line["remote_ip"]),
            (&"udp".into(), &"in".into(), &host.into())
        );
        assert!(line["datagrams"]["sent"].as_u64().unwrap() > 0, "{line}");
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn every_port_of_datagrams_can_be_published() {
    require_all();
    let port = closed_port("127.0.0.1");
    let script = format!(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('0.0.0.0', {port})); s.settimeout(60)\n\
         while True: data, who = s.recvfrom(99); s.sendto(data + b' heard', who)"
    );
    let mut command = Command::new(LASTACK);
    let mut run =
        command.args(["run", "-q", "-p", "auto/udp", "--", "python3", "-c", &script]).spawn().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    client.connect(("127.0.0.1", port)).unwrap();
    let mut heard = [0; 99];
    let answer = loop {
        assert!(run.try_wait().unwrap().is_none(), "no question has reached the program");
        if let Ok(length) = client.send(b"hello").and_then(|_| client.recv(&mut heard)) {
            break &heard[..length];
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(answer, b"hello heard");
    run.kill().unwrap();
    run.wait().unwrap();
}

/// A server that connects to the port of each PORT command at once, twenty times in a session (FTP's active mode).
const ACTIVE: &str = "
import re, socket, threading
l = socket.create_server(('127.0.0.1', 0))
print(l.getsockname()[1], flush=True)
c, _ = l.accept()
c.sendall(b'220 hello\\r\\n')
for line in c.makefile('rb'):
    n = list(map(int, re.findall(rb'\\d+', line)))
    try:
        d = socket.create_connection(('127.0.0.1', n[4] * 256 + n[5]), 5)
        d.sendall(b'data')
        d.close()
        c.sendall(b'226 sent\\r\\n')
    except OSError as error:
        c.sendall(b'425 ' + str(error).encode() + b'\\r\\n')
";

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_port_is_published_before_the_remote_learns_of_it() {
    require_all();
    let program = "
import socket, sys
c = socket.create_connection(('10.0.2.2', int(sys.argv[1])))
f = c.makefile('rb')
f.readline()
for _ in range(20):
    l = socket.create_server(('0.0.0.0', 0))
    l.settimeout(10)
    p = l.getsockname()[1]
    c.sendall(b'PORT 127,0,0,1,%d,%d\\r\\n' % (p >> 8, p & 255))
    answer = f.readline()
    if not answer.startswith(b'226'): sys.exit(answer.decode())
    d, _ = l.accept()
    assert d.recv(99) == b'data'
    d.close(); l.close()
print('done')";
    let mut server = Command::new("python3").args(["-c", ACTIVE]).stdout(Stdio::piped()).spawn().unwrap();
    let mut port = String::new();
    let mut out = std::io::BufReader::new(server.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut port).unwrap();
    let mut command = Command::new(LASTACK);
    let output = finish(command.args([
        "run",
        "-q",
        "--host-loopback",
        "-p",
        "auto",
        "python3",
        "-c",
        program,
        port.trim(),
    ]));
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n", "{output:?}");
}
