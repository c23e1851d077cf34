//! `--publish`: ports of this host that lead to ports at which the program listens.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
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
fn a_port_that_is_taken_is_told_before_the_program_runs() {
    require_all();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = finish(Command::new(LASTACK).args(["run", "-p", &port, "--", "echo", "ran"]));
    assert_eq!((output.status.code(), output.stdout.len()), (Some(125), 0));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("127.0.0.1:{port}")), "{output:?}");
}
