//! `--publish`: ports of this host that lead to ports at which the program listens.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{LASTACK, NETWORKS, Running, closed_port, finish, require_all, require_tool};

/// Listens at an address and port after it has read a line, says hello to one client, closes its port, and goes on until it has
/// read another one. The end of its input stands for both lines.
const SERVER: &str = "
import socket, sys
print('begun', flush=True)
sys.stdin.readline()
l = socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)
c, who = l.accept()
c.sendall(('hello ' + who[0]).encode())
c.close()
l.close()
sys.stdin.readline()
";

/// What a client of this host hears, and what it is refused with before and after the server listens.
fn published(option: &str, address: &str, port: u16) -> (ErrorKind, String, ErrorKind, serde_json::Value) {
    let report = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(LASTACK);
    command.args(["run", "--json", "-o"]).arg(report.path()).args([
        "--net6",
        "fd00::/64",
        "-p",
        option,
        "--",
        "python3",
        "-c",
        SERVER,
        address,
    ]);
    command.arg(port.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut run = Running::start(command.stderr(Stdio::inherit()));
    let client = || TcpStream::connect(("127.0.0.1", port));
    // What a client gets as soon as this is so.
    let wait_for = |is_so: fn(&std::io::Result<TcpStream>) -> bool| {
        let begun = Instant::now();
        loop {
            let result = client();
            if is_so(&result) {
                return result;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "still {result:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let mut line = String::new();
    BufReader::new(run.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let before = client().unwrap_err().kind();
    let mut input = run.stdin.take().unwrap();
    input.write_all(b"listen\n").unwrap();
    let mut heard = String::new();
    let mut stream = wait_for(Result::is_ok).unwrap();
    stream.read_to_string(&mut heard).unwrap();
    drop(stream);
    let after = wait_for(Result::is_err).unwrap_err().kind();
    assert!(run.try_wait().unwrap().is_none(), "the program still runs");
    drop(input);
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
        "ip link set lo up; ip addr add 192.0.2.1/32 dev lo; {LASTACK} run -q -p 192.0.2.1:8080:80 -- python3 -c \"$0\" 0.0.0.0 80 </dev/null & \
         for i in $(seq 400); do sleep 0.05; python3 -c \"$1\" && break; done; wait"
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

/// Answers datagrams from one line that it has read until the next: each with the address that it came from. After a third
/// line it ends.
const ECHO: &str = "
import select, socket, sys
sys.stdin.readline()
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], int(sys.argv[2])))
while sys.stdin not in (ready := select.select([s, sys.stdin], [], [])[0]):
    data, who = s.recvfrom(65535)
    s.sendto(data + who[0].encode(), who)
sys.stdin.readline()
s.close()
sys.stdin.readline()
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
        command.args(NETWORKS).args(["-p", &published, "--", "python3", "-c", ECHO, address, "5300"]);
        let mut run = Running::start(command.stdin(Stdio::piped()).stderr(Stdio::inherit()));
        let mut input = run.stdin.take().unwrap();
        let client = UdpSocket::bind((host, 0)).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        client.connect((host, port)).unwrap();
        let mut heard = [0; 3000];
        let (mut ends, mut sent, begun) = (Vec::new(), 0, Instant::now());
        while run.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{ends:?}");
            sent += 1;
            let question = format!("{sent:02000}");
            let end = client.send(question.as_bytes()).and_then(|_| client.recv(&mut heard));
            let end = match end {
                Ok(length) => match heard[..length].strip_prefix(question.as_bytes()) {
                    Some(gateway) => String::from_utf8_lossy(gateway).into_owned(),
                    // The late answer to an earlier one.
                    None => continue,
                },
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => "refused".to_owned(),
                // Between a datagram and its fate.
                Err(_) => continue,
            };
            if ends.last() != Some(&end) {
                ends.push(end);
                // The next step: it listens, closes, ends.
                let _ended = input.write_all(b"\n");
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
    command.args(["run", "-q", "-p", "auto/udp", "--", "python3", "-c", &script]);
    let mut run = Running::start(&mut command);
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
    let mut server = Running::start(Command::new("python3").args(["-c", ACTIVE]).stdout(Stdio::piped()));
    let mut port = String::new();
    let mut out = BufReader::new(server.stdout.take().unwrap());
    out.read_line(&mut port).unwrap();
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
    drop(server);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n", "{output:?}");
}

/// A client that resets, and one that closes: the program sees what a program without lastack sees.
#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_program_sees_whether_a_client_resets_or_closes() {
    require_all();
    let program = "
import socket, sys
l = socket.create_server(('0.0.0.0', int(sys.argv[1])))
print('listens', flush=True)
for _ in range(2):
    c, _ = l.accept()
    heard = []
    try:
        while data := c.recv(99):
            heard.append(data)
            c.sendall(b'y')
        heard.append('closed')
    except OSError as e: heard.append(type(e).__name__)
    print(heard, flush=True)
";
    let port = closed_port("127.0.0.1");
    let mut command = Command::new(LASTACK);
    command.args(["run", "-q", "-p", &port.to_string(), "--", "python3", "-c", program, &port.to_string()]);
    let mut run = Running::start(command.stdout(Stdio::piped()));
    let mut output = BufReader::new(run.stdout.take().unwrap()).lines();
    assert_eq!(output.next().unwrap().unwrap(), "listens");
    for (linger, expected) in
        [(Some(Duration::ZERO), "[b'x', 'ConnectionResetError']"), (None, "[b'x', 'closed']")]
    {
        let begun = Instant::now();
        let mut client = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(client) => break client,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        socket2::SockRef::from(&client).set_linger(linger).unwrap();
        drop(client);
        assert_eq!(output.next().unwrap().unwrap(), expected);
    }
    assert!(run.wait().unwrap().success());
}
