//! `--via`: SOCKS5 and HTTP proxies as the way out.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};

use crate::support::{LASTACK, Ran, Server, closed_port, finish, lastack, require_all};

struct Proxy {
    child: Child,
    ports: Vec<u16>,
    output: BufReader<std::process::ChildStdout>,
}

impl Proxy {
    fn new() -> Self {
        let mut child = Command::new("python3")
            .args(["-c", include_str!("proxy.py")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let ports = line.split_whitespace().map(|port| port.parse().unwrap()).collect();
        Self { child, ports, output }
    }

    /// With a password, without, without datagrams.
    fn socks(&self, at: usize, scheme: &str) -> String {
        let user = if at == 0 { "user:secret@" } else { "" };
        format!("{scheme}://{user}127.0.0.1:{}", self.ports[at])
    }

    fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[3])
    }

    /// What it was asked for.
    fn asked(mut self) -> Vec<String> {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        self.child.wait().unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

fn hello() -> Server<()> {
    Server::new("127.0.0.1", 1, |mut stream| {
        let mut word = [0; 4];
        stream.read_exact(&mut word).unwrap();
        stream.write_all(&[b"hello ", &word[..]].concat()).unwrap();
    })
}

const ASK: &str = "import errno, socket, sys\n\
    try:\n    \
        s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10); s.sendall(b'word'); print(s.makefile().read())\n\
    except OSError as e: print(errno.errorcode.get(e.errno, e))";

fn ask(via: &str, host: &str, port: u16) -> (String, Ran) {
    let program = ["python3", "-c", ASK, host, &port.to_string()].map(str::to_owned);
    let ran = lastack(&["--via", via], &program);
    (String::from_utf8_lossy(&ran.output.stdout).trim().to_owned(), ran)
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn names_and_addresses_reach_the_proxy_as_they_are() {
    require_all();
    let proxy = Proxy::new();
    let mut expected = Vec::new();
    for via in [proxy.socks(0, "socks5h"), proxy.socks(1, "socks5h"), proxy.http()] {
        let server = hello();
        let port = server.port();
        let (said, ran) = ask(&via, "some.name.test", port);
        assert_eq!(said, "hello word", "{via}: {ran:?}");
        server.join();
        let end = ran.connections().find(|end| end["proto"] == "tcp").unwrap();
        assert_eq!((&end["cause"], &end["name"]), (&"orderly".into(), &"some.name.test".into()), "{end}");
        let shown = end["via"].as_str().unwrap();
        assert!(shown.contains("127.0.0.1") && !shown.contains("secret"), "{end}");
        expected.push(if via.starts_with("http") {
            format!("connect some.name.test:{port}")
        } else {
            format!("tcp some.name.test {port}")
        });
    }
    // An address that the program knows by itself.
    let port = closed_port("127.0.0.1");
    for via in [proxy.socks(1, "socks5"), proxy.http()] {
        let (said, ran) = ask(&via, "192.0.2.7", 9);
        assert!(matches!(said.as_str(), "EHOSTUNREACH" | "EACCES"), "{said} {ran:?}");
        let (said, ran) = ask(&via, "192.0.2.7", 3);
        assert!(matches!(said.as_str(), "ENETUNREACH" | "EHOSTUNREACH"), "{said} {ran:?}");
    }
    let (said, _) = ask(&proxy.socks(1, "socks5h"), "closed.test", port);
    assert_eq!(said, "ECONNREFUSED");
    let asked = proxy.asked();
    assert_eq!(asked[..3], expected);
    assert!(
        asked.contains(&"tcp 192.0.2.7 9".to_owned()) && asked.contains(&"connect 192.0.2.7:3".to_owned()),
        "{asked:?}"
    );
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn failures_are_those_of_the_remote_or_of_the_proxy_and_say_which() {
    require_all();
    let proxy = Proxy::new();
    let closed = closed_port("127.0.0.1");
    let nobody = format!("socks5h://127.0.0.1:{}", closed_port("127.0.0.1"));
    let wrong = format!("socks5h://user:wrong@127.0.0.1:{}", proxy.ports[0]);
    let no_password = format!("socks5h://127.0.0.1:{}", proxy.ports[0]);
    let no_socks = format!("socks5h://127.0.0.1:{}", proxy.ports[3]);
    let socks = proxy.socks(1, "socks5h");
    for (via, port, errno, cause, note) in [
        (&socks, closed, "ECONNREFUSED", "refused", "connection refused (reply 5)"),
        (&proxy.http(), closed, "ECONNREFUSED", "refused", "502 Bad Gateway"),
        (&socks, 3, "ENETUNREACH", "icmp-no-route", "network unreachable (reply 3)"),
        (&socks, 4, "EHOSTUNREACH", "icmp-host-unreachable", "host unreachable (reply 4)"),
        (&socks, 2, "EHOSTUNREACH", "proxy-failed", "does not allow the connection (reply 2)"),
        (&socks, 10, "EHOSTUNREACH", "proxy-failed", "closed the connection before it had answered"),
        (&proxy.http(), 9, "EHOSTUNREACH", "proxy-failed", "403 Forbidden"),
        (&nobody, 80, "EHOSTUNREACH", "proxy-failed", "cannot be reached: refused (RST)"),
        (&wrong, 80, "EHOSTUNREACH", "proxy-failed", "refused the user and password"),
        (&no_password, 80, "EHOSTUNREACH", "proxy-failed", "requires a user and password"),
        (&no_socks, 80, "EHOSTUNREACH", "proxy-failed", "is it a SOCKS5 proxy?"),
    ] {
        let (said, ran) = ask(via, "x.test", port);
        let end = ran.connections().find(|end| end["proto"] == "tcp").unwrap();
        assert_eq!((said.as_str(), end["cause"].as_str().unwrap()), (errno, cause), "{via} {port}: {end}");
        assert!(end["note"].as_str().unwrap().contains(note), "{via} {port}: {end}");
    }
    proxy.asked();
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_proxy_that_is_silent_is_named() {
    require_all();
    // The kernel accepts, and nothing answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let via = format!("http://{}", silent.local_addr().unwrap());
    let ask =
        "import socket\ntry: socket.create_connection(('192.0.2.7', 80), 1)\nexcept OSError as e: print(e)";
    let ran = lastack(&["--via", &via], &["python3", "-c", ask]);
    assert_eq!(ran.output.stdout, b"timed out\n");
    let note = ran.connection()["note"].as_str().unwrap();
    assert!(note.starts_with(&format!("given up before the proxy {via} had answered")), "{note}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn datagrams_pass_where_the_proxy_carries_them_and_are_refused_elsewhere() {
    require_all();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((length, who)) = server.recv_from(&mut buffer) {
            server.send_to(&buffer[..length], who).unwrap();
        }
    });
    let script = "import errno, socket, sys\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10)\n\
        s.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR\n\
        s.connect((sys.argv[1], int(sys.argv[2])))\n\
        try:\n    \
            for i in range(3): s.send(b'datagram %d' % i); print(s.recv(100).decode())\n\
        except OSError as e: print(errno.errorcode.get(e.errno, e))";
    let proxy = Proxy::new();
    let run = |via: &str| {
        let program = ["python3", "-c", script, "datagrams.test", &port.to_string()].map(str::to_owned);
        let ran = lastack(&["--via", via], &program);
        (String::from_utf8_lossy(&ran.output.stdout).into_owned(), ran)
    };
    for at in [0, 1] {
        let (said, ran) = run(&proxy.socks(at, "socks5h"));
        assert_eq!(said, "datagram 0\ndatagram 1\ndatagram 2\n", "{ran:?}");
        assert!(
            ran.connections().any(|flow| flow["cause"] == "answered" && flow["name"] == "datagrams.test"),
            "{ran:?}"
        );
    }
    for (via, words) in
        [(proxy.socks(2, "socks5h"), "does not support the command"), (proxy.http(), "carries TCP only")]
    {
        let (said, ran) = run(&via);
        assert_eq!(said, "EHOSTUNREACH\n", "{via}: {ran:?}");
        let flow = ran
            .connections()
            .find(|flow| flow["cause"] == "proxy-failed")
            .unwrap_or_else(|| panic!("{ran:?}"));
        assert!(flow["note"].as_str().unwrap().contains(words), "{flow}");
    }
    assert!(proxy.asked().iter().filter(|line| line.starts_with("udp datagrams.test")).count() == 6);
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_hosts_loopback_needs_no_proxy() {
    require_all();
    let server = hello();
    let nobody = format!("socks5h://127.0.0.1:{}", closed_port("127.0.0.1"));
    let program = ["python3", "-c", ASK, "10.0.2.2", &server.port().to_string()].map(str::to_owned);
    let ran = lastack(&["--host-loopback", "--via", &nobody], &program);
    assert_eq!(String::from_utf8_lossy(&ran.output.stdout).trim(), "hello word", "{ran:?}");
    server.join();
}

#[test]
fn a_server_that_is_not_a_proxy_is_an_error_before_the_program_runs() {
    for (via, words) in [("127.0.0.1:1080", "socks5://HOST:PORT"), ("ftp://x", "http://HOST:PORT")] {
        let output = finish(Command::new(LASTACK).args(["run", "--via", via, "echo", "ran"]));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains("--via") && error.contains(words), "{error}");
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(125), &b""[..]));
    }
}
