//! How connections end, in both directions, over IPv4 and IPv6.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{
    AT_ONCE, FAMILIES, NETWORKS, Ran, Server, answer_after_fin, closed_port, direct, lastack, read_to_end,
    relayed, require_all, require_namespaces, require_tool, reset,
};

/// The client sees the same with and without lastack, and the report says why.
fn same(what: &str, serve: impl Fn(TcpStream) + Clone + Send + 'static, check: impl Fn(&Ran)) {
    require_all();
    for (host, gateway) in FAMILIES {
        let server = Server::new(host, 2, serve.clone());
        let without = direct(what, host, server.port(), &[]);
        let with = relayed(what, gateway, server.port(), &[]);
        assert_eq!(
            (with.seen().data(), with.seen().end()),
            (without.data(), without.end()),
            "{host}: {with:?}"
        );
        check(&with);
        server.join();
    }
}

/// Asserts fields of the report's only connection.
fn assert_report(ran: &Ran, fields: &[(&str, &str)]) {
    let connection = ran.connection();
    for (name, value) in fields {
        assert_eq!(connection[name], *value, "{name} of {connection}");
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn refused_is_refused_at_once() {
    require_all();
    for (host, gateway) in FAMILIES {
        let port = closed_port(host);
        assert_eq!(direct("read", host, port, &[]).end(), "ECONNREFUSED");
        let ran = relayed("read", gateway, port, &[]);
        assert_eq!(ran.seen().end(), "ECONNREFUSED");
        assert!(ran.seen().seconds() < AT_ONCE, "{ran:?}");
        assert_report(
            &ran,
            &[("outcome", "refused"), ("by", "remote"), ("rule_code", "S1"), ("state", "SYN-SENT")],
        );
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn an_answer_ends_cleanly() {
    let serve = |mut stream: TcpStream| stream.write_all(b"hello").unwrap();
    same("read", serve, |ran| {
        assert_eq!(ran.seen().end(), "EOF");
        assert_report(ran, &[("outcome", "orderly"), ("by", "remote"), ("rule_code", "E0")]);
        assert_eq!(ran.connection()["octets"]["received"], 5);
    });
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn an_abort_comes_after_the_bytes_before_it() {
    let serve = |mut stream: TcpStream| {
        // A reset that comes before the client has seen that it is connected takes the bytes with it.
        std::thread::sleep(Duration::from_millis(100));
        stream.write_all(b"hello").unwrap();
        reset(stream);
    };
    same("read", serve, |ran| {
        assert_eq!((ran.seen().data(), ran.seen().end()), ("hello", "ECONNRESET"));
        assert_report(
            ran,
            &[("outcome", "reset"), ("by", "remote"), ("rule_code", "R1"), ("state", "ESTABLISHED")],
        );
        assert_eq!(ran.connection()["lost"]["unread"], 0);
    });
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn many_bytes_before_an_abort_all_arrive() {
    require_all();
    for (host, gateway) in FAMILIES {
        let server = Server::new(host, 1, |mut stream: TcpStream| {
            stream.write_all(&vec![b'x'; 300_000]).unwrap();
            // They must have left before the reset would discard them here.
            std::thread::sleep(Duration::from_millis(300));
            reset(stream);
        });
        let ran = relayed("read", gateway, server.port(), &[]);
        assert_eq!((ran.seen().data().len(), ran.seen().end()), (300_000, "ECONNRESET"));
        server.join();
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_close_with_unread_bytes_is_a_reset() {
    let serve = |stream: TcpStream| {
        // Something has come, and is never read.
        stream.peek(&mut [0]).unwrap();
    };
    same("ask", serve, |ran| {
        assert_eq!(ran.seen().end(), "ECONNRESET");
        assert_report(ran, &[("outcome", "reset"), ("by", "remote"), ("rule_code", "R1")]);
    });
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_half_closed_connection_waits_for_its_answer() {
    let serve = |stream: TcpStream| {
        let heard = answer_after_fin(stream, Duration::from_millis(1500), b"answer");
        assert_eq!(heard, (b"question".to_vec(), None));
    };
    same("half_close", serve, |ran| {
        assert_eq!((ran.seen().data(), ran.seen().end()), ("answer", "EOF"));
        assert!(ran.seen().seconds() >= 1.5);
        assert_report(ran, &[("outcome", "orderly"), ("by", "program")]);
    });
}

/// The program closes and goes on with other things, and the remote keeps its side open: the connections are not orderly.
#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_connection_that_only_the_program_closed_is_not_orderly() {
    require_all();
    let program = "import socket, sys, time\nfor _ in range(3):\n    with socket.create_connection(sys.argv[1:]) as s: \
                   s.sendall(b'hello')\ntime.sleep(2.5)";
    for (host, gateway) in FAMILIES {
        let server = Server::new(host, 3, |stream| stream);
        let port = server.port().to_string();
        let ran = lastack(&["--host-loopback"], &["python3", "-c", program, gateway, &port]);
        assert_eq!(ran.output.status.code(), Some(0), "{ran:?}");
        let connections: Vec<_> = ran.connections().collect();
        assert_eq!(connections.len(), 3, "{ran:?}");
        for connection in connections {
            for (name, value) in [
                ("cause", "open"),
                ("severity", "benign"),
                ("outcome", "open"),
                ("by", "nobody"),
                ("rule_code", "S96"),
                ("state", "FIN-WAIT-2"),
            ] {
                assert_eq!(connection[name], value, "{name} of {connection}");
            }
            assert_eq!(connection["octets"]["sent"], 5, "{connection}");
            // It is reported when no process holds it any more, and not at the end of the run.
            assert!(connection["duration_us"].as_u64().unwrap() < 2_400_000, "{connection}");
        }
        assert_eq!(ran.summary()["outcomes"], serde_json::json!({ "open": 3 }));
        // Until here the remote has kept its sides, which have received everything and the FIN.
        for mut stream in server.join() {
            assert_eq!(read_to_end(&mut stream), (b"hello".to_vec(), None));
        }
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_writer_gets_an_error_after_the_remote_is_gone() {
    // The remote closes; what comes after is answered with RST, and the write after that fails.
    let serve = |stream: TcpStream| drop(stream);
    same("push_until_error", serve, |ran| {
        assert_eq!(ran.seen().end(), "EPIPE");
        assert_report(ran, &[("outcome", "reset"), ("by", "remote"), ("rule_code", "R15")]);
    });
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_servers_see_the_programs_abort() {
    require_all();
    for (host, gateway) in FAMILIES {
        let server = Server::new(host, 2, |mut stream: TcpStream| read_to_end(&mut stream));
        direct("abort", host, server.port(), &[]);
        let ran = relayed("abort", gateway, server.port(), &[]);
        assert_report(
            &ran,
            &[("outcome", "aborted"), ("by", "program"), ("rule_code", "R1"), ("state", "ESTABLISHED")],
        );
        let heard = server.join();
        assert_eq!(heard, vec![(b"hello".to_vec(), Some(ErrorKind::ConnectionReset)); 2], "without and with");
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_servers_see_the_programs_close_with_unread_bytes() {
    require_all();
    for (host, gateway) in FAMILIES {
        let server = Server::new(host, 2, |mut stream: TcpStream| {
            stream.write_all(b"never read").unwrap();
            stream.read(&mut [0]).map_err(|error| error.kind())
        });
        direct("close_unread", host, server.port(), &[]);
        let ran = relayed("close_unread", gateway, server.port(), &[]);
        assert_report(&ran, &[("outcome", "aborted"), ("by", "program")]);
        assert_eq!(server.join(), [Err(ErrorKind::ConnectionReset), Err(ErrorKind::ConnectionReset)]);
    }
}

/// The server writes and reads at once when the program goes: the reset reaches one of the two, whichever asks
/// first, and never as an end of the stream to one and a broken pipe to the other.
#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn an_abort_with_bytes_in_flight_is_never_end_of_file() {
    require_all();
    let server = Server::new("127.0.0.1", 6, |stream: TcpStream| {
        let mut writer = stream.try_clone().unwrap();
        let writing = std::thread::spawn(move || {
            loop {
                if let Err(error) = writer.write_all(&[7; 65_536]) {
                    return error.kind();
                }
            }
        });
        let mut reader = stream;
        let read = read_to_end(&mut reader).1;
        (read, writing.join().unwrap())
    });
    for _ in 0..6 {
        relayed("close_unread", "10.0.2.2", server.port(), &[]);
    }
    for (read, written) in server.join() {
        let was_reset = read == Some(ErrorKind::ConnectionReset) || written == ErrorKind::ConnectionReset;
        assert!(was_reset, "the reader saw {read:?}, the writer {written:?}");
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn data_sent_before_the_program_ends_still_arrives() {
    require_all();
    let server = Server::new("127.0.0.1", 1, |mut stream: TcpStream| {
        // The program has ended long before this is read.
        std::thread::sleep(Duration::from_millis(1500));
        read_to_end(&mut stream).0.len()
    });
    let script = format!(
        "import socket; s = socket.create_connection(('10.0.2.2', {})); s.settimeout(0.2)\n\
         try:\n while True: s.send(b'x' * 65536)\n\
         except OSError: pass\n\
         s.settimeout(5); s.sendall(b'end')",
        server.port()
    );
    let ran = lastack(&["--host-loopback"], &["python3", "-c", &script]);
    let heard = server.join()[0] as u64;
    assert!(heard > 1_000_000, "{heard}");
    assert_eq!(ran.connection()["octets"]["sent"], heard, "{ran:?}");
    assert_report(&ran, &[("outcome", "orderly"), ("by", "program")]);
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_remote_that_does_not_close_is_open_at_the_end() {
    require_all();
    let server = Server::new("127.0.0.1", 1, |mut stream: TcpStream| {
        let heard = read_to_end(&mut stream);
        std::thread::sleep(Duration::from_secs(3));
        heard
    });
    let ran = relayed("hold", "10.0.2.2", server.port(), &["0"]);
    assert_report(&ran, &[("outcome", "open"), ("by", "nobody"), ("state", "FIN-WAIT-2")]);
    assert_eq!(ran.connection()["rule"], serde_json::Value::Null);
    // The FIN stays a FIN, though lastack is gone before the remote closes.
    assert_eq!(server.join(), [(b"hello".to_vec(), None)]);
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn curl_prints_the_same_as_without_lastack() {
    require_tool("curl");
    require_namespaces();
    for (host, gateway) in [("127.0.0.1", "10.0.2.2"), ("[::1]", "[fd00::2]")] {
        let bare = host.trim_matches(['[', ']']);
        let serve = |mut stream: TcpStream| {
            let mut request = [0; 4096];
            let _bytes = stream.read(&mut request).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
                .unwrap();
        };
        let server = Server::new(bare, 1, serve);
        let url = format!("http://{gateway}:{}/", server.port());
        let ran = lastack(&["--host-loopback"], &["curl", "-sS", "-m", "10", &url]);
        assert_eq!((ran.output.status.code(), &ran.output.stdout[..]), (Some(0), &b"hello"[..]), "{ran:?}");
        assert_report(&ran, &[("outcome", "orderly")]);
        server.join();

        let url = format!("http://{gateway}:{}/", closed_port(bare));
        let ran = lastack(&["--host-loopback"], &["curl", "-sS", "-m", "10", &url]);
        assert_eq!(ran.output.status.code(), Some(7), "curl: could not connect; {ran:?}");
        assert_report(&ran, &[("outcome", "refused"), ("by", "remote"), ("rule_code", "S1")]);
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_hosts_loopback_is_closed_unless_it_is_opened() {
    require_all();
    for (host, gateway) in FAMILIES {
        let listener = std::net::TcpListener::bind((host, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let ran = lastack(&NETWORKS, &crate::support::client("read", gateway, port, &[]));
        assert_eq!(ran.seen().end(), "ECONNREFUSED");
        assert_report(&ran, &[("outcome", "refused"), ("by", "lastack"), ("rule_code", "X1")]);
        assert!(ran.connection()["hint"].as_str().unwrap().contains("--host-loopback"), "{ran:?}");
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "nothing came through");
    }
}
