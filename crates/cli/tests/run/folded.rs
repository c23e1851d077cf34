//! Benign ends that look bad on the wire: the report counts them and prints no line.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{FAMILIES, Ran, Server, lastack, read_to_end, relayed, require_all, reset};

/// The cause of the run's only connection, and its severity.
fn cause(ran: &Ran) -> (&str, &str) {
    let connection = ran.connection();
    (connection["cause"].as_str().unwrap(), connection["severity"].as_str().unwrap())
}

/// Runs a program of Python with the host's loopback open to it.
fn python(script: &str) -> Ran {
    lastack(&["--host-loopback"], &["python3", "-c", script])
}

/// A record of TLS as long as an encrypted alert of TLS 1.3.
const CLOSE_NOTIFY: [u8; 24] =
    [23, 3, 3, 0, 19, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19];
/// The beginning of a TLS handshake.
const HELLO: &str = "b'\\x16\\x03\\x01\\x02\\0\\x01'";

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_closing_alert_of_a_server_comes_too_late() {
    require_all();
    for (host, gateway) in FAMILIES {
        let server = Server::new(host, 1, |mut stream: TcpStream| {
            stream.read_exact(&mut [0; 6]).unwrap();
            stream.write_all(b"data").unwrap();
            // The client has closed; the alert that answers is refused.
            read_to_end(&mut stream);
            std::thread::sleep(Duration::from_millis(50));
            stream.write_all(&CLOSE_NOTIFY).unwrap();
        });
        let ran = python(&format!(
            "import socket; s = socket.create_connection(('{gateway}', {})); s.send({HELLO}); s.recv(4); s.close()\n\
             import time; time.sleep(0.3)",
            server.port()
        ));
        assert_eq!(cause(&ran), ("close-notify-race", "benign"), "{}", ran.connection());
        assert_eq!((&ran.connection()["late"], &ran.connection()["lost"]["unread"]), (&24.into(), &0.into()));
        server.join();
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_closing_alert_of_a_client_comes_too_late() {
    require_all();
    for (host, gateway) in FAMILIES {
        let server = Server::new(host, 1, |mut stream: TcpStream| {
            stream.read_exact(&mut [0; 6]).unwrap();
            stream.write_all(b"data").unwrap();
        });
        let ran = python(&format!(
            "import socket, time; s = socket.create_connection(('{gateway}', {})); s.send({HELLO})\n\
             while s.recv(100): pass\n\
             s.send(bytes([23, 3, 3, 0, 19]) + bytes(19)); time.sleep(0.2); s.close()",
            server.port()
        ));
        assert_eq!(cause(&ran), ("close-notify-race", "benign"), "{}", ran.connection());
        assert_eq!(
            (&ran.connection()["late"], &ran.connection()["lost"]["unacked"]),
            (&24.into(), &0.into())
        );
        server.join();
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_request_after_the_servers_close_is_lost() {
    require_all();
    let server = Server::new("127.0.0.1", 1, |mut stream: TcpStream| {
        stream.read_exact(&mut [0; 6]).unwrap();
        stream.write_all(b"data").unwrap();
        // An idle timeout.
        std::thread::sleep(Duration::from_millis(1200));
    });
    let ran = python(&format!(
        "import socket, time; s = socket.create_connection(('10.0.2.2', {})); s.send(b'first!'); s.recv(4)\n\
         time.sleep(1.5); s.send(b'GET / HTTP/1.1\\r\\n' + bytes(100)); time.sleep(0.3)",
        server.port()
    ));
    assert_eq!(cause(&ran), ("keepalive-race", "harmful"), "{}", ran.connection());
    server.join();
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_probe_is_no_failure() {
    require_all();
    let server = Server::new("127.0.0.1", 1, |mut stream: TcpStream| read_to_end(&mut stream));
    let ran = python(&format!(
        "import socket, struct; s = socket.create_connection(('10.0.2.2', {}))\n\
         s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close()",
        server.port()
    ));
    assert_eq!(cause(&ran), ("health-check", "benign"), "{}", ran.connection());
    server.join();
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_cancelled_download_is_not_the_networks_fault() {
    require_all();
    let server = Server::new("127.0.0.1", 1, |mut stream: TcpStream| {
        // It ends with an error: the reader does not read to its end.
        let _cancelled = stream.write_all(&vec![b'x'; 8 << 20]);
    });
    let ran = relayed("close_unread", "10.0.2.2", server.port(), &[]);
    assert_eq!(cause(&ran), ("client-cancelled", "benign"), "{}", ran.connection());
    server.join();
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_remote_that_resets_a_request_is_no_probe() {
    require_all();
    let server = Server::new("127.0.0.1", 1, |mut stream: TcpStream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        reset(stream);
    });
    let ran = relayed("ask", "10.0.2.2", server.port(), &[]);
    assert_eq!(cause(&ran), ("close-unread", "harmful"), "{}", ran.connection());
    assert_eq!(ran.summary()["severity"]["harmful"], 1);
    server.join();
}
