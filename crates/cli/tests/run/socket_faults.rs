//! `--inject` on connections without packets: over `--map-localhost`, and to published ports.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::{
    LASTACK, Ran, Running, Server, client, closed_port, connect_often, lastack, require_all,
};

/// A server that answers with 8 KiB to what it is sent.
fn server(connections: usize) -> Server<usize> {
    Server::new("127.0.0.1", connections, |mut stream: TcpStream| {
        let mut data = Vec::new();
        // The fault may be the server's to see.
        let _seen = stream.read_to_end(&mut data).and_then(|_| stream.write_all(&[7; 8192]));
        data.len()
    })
}

/// What a client of a mapped port sees, what its server gets, and the run.
fn mapped(fault: &str, options: &[&str], connections: usize) -> (Vec<(String, u64)>, Vec<usize>, Ran) {
    let server = server(connections);
    let port = server.port().to_string();
    let mut all = vec!["--map-localhost", &port, "--inject", fault];
    all.extend(options);
    let (seen, heard, ran) = connect_often(&all, "localhost", server, connections);
    let seen =
        seen.iter().map(|seen| (seen["end"].as_str().unwrap().to_owned(), seen["bytes"].as_u64().unwrap()));
    (seen.collect(), heard, ran)
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn faults_of_data_act_on_a_mapped_port() {
    require_all();
    for (fault, end, bytes) in [
        ("refuse:to=localhost", "ECONNRESET", 0),
        ("rst:state=syn:to=127.0.0.1", "ECONNRESET", 0),
        ("rst", "ECONNRESET", 0),
        ("rst=program:after=100:direction=up", "ECONNRESET", 0),
        ("rst:after=5000:direction=down", "ECONNRESET", 5000),
        ("rst:state=fin:direction=down", "ECONNRESET", 8192),
        ("half-open:after=5000:direction=down", "ECONNRESET", 5000),
        ("half-open:after=5000", "ECONNRESET", 5000),
        ("rst=remote:after=5000:direction=down", "ECONNRESET", 5000),
        ("blackhole", "TIMEOUT", 0),
        ("blackhole:after=5000:direction=down", "TIMEOUT", 5000),
        ("zero-window", "TIMEOUT", 0),
        ("zero-window:after=100:direction=down", "TIMEOUT", 100),
        ("cut-fin:direction=down", "TIMEOUT", 8192),
    ] {
        let (seen, _, ran) = mapped(fault, &[], 1);
        assert_eq!(seen, [(end.to_owned(), bytes)], "{fault}: {ran:?}");
        let connection = ran.connection();
        assert_eq!(
            (&connection["cause"], &connection["injected"][0]),
            (&"fault-injected".into(), &fault.into())
        );
        // The kernel had accepted it before the fault let nothing pass.
        let unknown = fault.starts_with("blackhole") && connection["state"] == "SYN-SENT";
        assert!(!unknown && connection["outcome"] != "timed-out", "{fault}: {connection}");
        let of_rule = &ran.summary()["injected"][0];
        assert_eq!((&of_rule["matched"], &of_rule["missed"]), (&1.into(), &Value::Null), "{fault}");
        assert!(of_rule["acted"].as_u64() > Some(0), "{fault}: {ran:?}");
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_fault_selects_connections_of_a_mapped_port() {
    require_all();
    let (seen, got, ran) = mapped("rst:when=2:after=1000:direction=up", &["-w", "/dev/null"], 3);
    let ends: Vec<&str> = seen.iter().map(|(end, _)| end.as_str()).collect();
    assert_eq!(ends, ["EOF", "ECONNRESET", "EOF"], "{ran:?}");
    assert_eq!(got, [4096, 1000, 4096], "exactly so many bytes pass");
    let of_rule = &ran.summary()["injected"][0];
    assert_eq!((&of_rule["matched"], &of_rule["acted"]), (&3.into(), &1.into()));
    let warnings = ran.summary()["warnings"].to_string();
    assert!(warnings.contains("-w has no packets of 3 connections over --map-localhost"), "{warnings}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn late_data_of_a_mapped_port_arrives() {
    require_all();
    for (fault, least) in
        [("delay=150ms", 0.3), ("delay=100ms:jitter=50ms", 0.2), ("rate=20k", 0.6), ("slow-close=400ms", 0.8)]
    {
        let (seen, _, ran) = mapped(fault, &[], 1);
        assert_eq!(seen, [("EOF".to_owned(), 8192)], "{fault}: {ran:?}");
        let seconds = ran.connection()["duration_us"].as_f64().unwrap() / 1e6;
        assert!(seconds >= least, "{fault}: {seconds} s");
        assert!(ran.summary()["injected"][0]["acted"].as_u64() > Some(0), "{fault}: {ran:?}");
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_fault_that_cannot_act_on_sockets_gives_the_reason() {
    require_all();
    for fault in ["corrupt=10%", "unreach", "mtu-hole=600"] {
        let (seen, _, ran) = mapped(fault, &[], 1);
        assert_eq!(seen, [("EOF".to_owned(), 8192)], "{fault}: {ran:?}");
        let of_rule = &ran.summary()["injected"][0];
        assert_eq!((&of_rule["matched"], &of_rule["missed"]), (&0.into(), &1.into()), "{fault}");
    }
    // A rule for nothing else is refused.
    let run = Command::new(LASTACK)
        .args(["run", "--map-localhost", "5432", "--inject", "corrupt=10%:to=127.0.0.1:port=5432", "true"])
        .output()
        .unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.code() == Some(125) && said.contains("relayed between sockets"), "{said}");
}

/// Listens at an address, and answers each client with its data twice until its input ends.
const LISTENER: &str = r#"
import socket, sys, threading
l = socket.create_server((sys.argv[1], int(sys.argv[2])))
def serve(c):
    try:
        data = b""
        while d := c.recv(65536): data += d
        c.sendall(data * 2)
    except OSError: pass
    c.close()
def accept():
    while True:
        threading.Thread(target=serve, args=(l.accept()[0],), daemon=True).start()
threading.Thread(target=accept, daemon=True).start()
print("listens", flush=True)
sys.stdin.read()
"#;

/// What two clients of a published port get of 8 KiB, and the report of the rule.
fn published(address: &str, fault: &str) -> (Vec<Result<usize, std::io::ErrorKind>>, Value) {
    let (port, report) = (closed_port("127.0.0.1").to_string(), tempfile::NamedTempFile::new().unwrap());
    let mut command = Command::new(LASTACK);
    command.args(["run", "--json", "-o"]).arg(report.path());
    command.args(["-p", &port, "--inject", fault, "--", "python3", "-c", LISTENER, address, &port]);
    let mut run = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    BufReader::new(run.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let client = || {
        let mut stream = loop {
            match TcpStream::connect(format!("127.0.0.1:{port}")) {
                Ok(stream) => break stream,
                // The port of the host listens a little later.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => panic!("{error}"),
            }
        };
        stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let mut data = Vec::new();
        stream
            .write_all(&[1; 4096])
            .and_then(|()| stream.shutdown(Shutdown::Write))
            .and_then(|()| stream.read_to_end(&mut data))
            .map_err(|error| error.kind())
    };
    let seen = vec![client(), client()];
    drop(run.stdin.take());
    assert!(run.wait().unwrap().success());
    let lines = std::fs::read_to_string(report.path()).unwrap();
    let summary: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    (seen, summary["injected"][0].clone())
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn faults_act_on_published_ports() {
    use std::io::ErrorKind::{ConnectionReset, WouldBlock};
    require_all();
    for address in ["127.0.0.1", "0.0.0.0"] {
        for (fault, second) in [
            ("refuse:when=2", Err(ConnectionReset)),
            ("rst:when=2:after=100:direction=up", Err(ConnectionReset)),
            ("blackhole:when=2:after=1:direction=down", Err(WouldBlock)),
            ("delay=50ms:when=2", Ok(8192)),
        ] {
            let (seen, of_rule) = published(address, fault);
            assert_eq!(seen, [Ok(8192), second], "{address} {fault}: {of_rule}");
            assert_eq!(of_rule["matched"], 2, "{fault}");
            assert!(of_rule["acted"].as_u64() > Some(0), "{address} {fault}: {of_rule}");
        }
        let (seen, of_rule) = published(address, "unreach");
        assert_eq!((seen, &of_rule["missed"]), (vec![Ok(8192); 2], &2.into()));
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_program_that_uses_the_hosts_name_for_a_mapped_port_is_hit() {
    require_all();
    for host in ["127.0.0.1", "::1"] {
        let server = Server::new(host, 1, |mut stream: TcpStream| stream.write_all(b"hello").unwrap());
        let port = server.port();
        let options = ["--map-localhost", &port.to_string(), "--inject", "refuse:to=localhost"];
        let ran = lastack(&options, &client("read", host, port, &[]));
        assert_eq!(ran.seen().end(), "ECONNRESET", "{ran:?}");
        let _filler = TcpStream::connect(server.address);
        server.join();
    }
}

/// Otherwise its descriptors would be kept, and its end would not be reported, until the fault is over.
#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_program_that_is_gone_is_noticed_in_a_black_hole() {
    require_all();
    for (fault, cause) in [("blackhole:after=1", "fault-injected"), ("blackhole", "fault-injected")] {
        // Held open until the test has ended.
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port().to_string();
        let report = tempfile::NamedTempFile::new().unwrap();
        let connect = "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); s.send(b'ab')";
        let script = format!(
            "python3 -c \"$0\" {port}; for i in $(seq 600); do grep -q '\"connection\"' {0} && exit 0; sleep 0.1; done; exit 1",
            report.path().display()
        );
        let mut command = Command::new(LASTACK);
        command.args(["run", "--json", "-o"]).arg(report.path());
        command.args(["--map-localhost", &port, "--inject", fault, "--", "sh", "-c", &script, connect]);
        let output = crate::support::finish(&mut command);
        let ran = crate::support::read_report(output, &std::fs::read_to_string(report.path()).unwrap());
        assert!(ran.output.status.success(), "{fault}: {ran:?}");
        assert_eq!(ran.connection()["cause"], cause, "{fault}: {ran:?}");
    }
}
