//! `--map-localhost`, and what the program's own loopback refuses.

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};

use crate::support::{
    FAMILIES, Server, client, closed_port, direct, lastack, read_to_end, require_all, reset,
};

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn refusals_on_its_own_loopback_are_reported() {
    require_all();
    for (host, _) in FAMILIES {
        let port = closed_port(host);
        let ran = lastack(&[], &client("read", host, port, &[]));
        assert_eq!(ran.seen().end(), "ECONNREFUSED");
        let connection = ran.connection();
        assert_eq!((&connection["outcome"], &connection["by"]), (&"refused".into(), &"program".into()));
        let warnings = ran.summary()["warnings"].to_string();
        assert!(warnings.contains(&format!("--map-localhost {port} leads to this host's")), "{warnings}");
    }
}

/// What is sent after the server has closed is lost: the program gets a reset, and the report says what was lost.
#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn data_that_a_closed_server_refuses_is_lost_over_a_mapped_port_too() {
    require_all();
    let script = "import select, socket, sys\n\
                  s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n\
                  s.sendall(b'question')\n\
                  while s.recv(100): pass\n\
                  s.sendall(b'x' * 500)\n\
                  p = select.poll()\np.register(s, select.POLLERR)\nprint(bool(p.poll(20000)))\n";
    for (host, gateway) in FAMILIES {
        let server = Server::new(host, 2, |mut stream: TcpStream| {
            let mut question = [0; 8];
            std::io::Read::read_exact(&mut stream, &mut question).unwrap();
            stream.write_all(b"answer").unwrap();
        });
        let port = server.port().to_string();
        let ended = |options: &[&str], to: &str| {
            let ran = lastack(options, &["python3", "-c", script, to, &port]);
            assert_eq!(String::from_utf8_lossy(&ran.output.stdout), "True\n", "{ran:?}");
            let fields = ["outcome", "by", "cause", "severity", "late"];
            fields.map(|field| ran.connection()[field].clone())
        };
        let mapped = ended(&["--map-localhost", &port], host);
        assert_eq!(mapped, ended(&["--host-loopback"], gateway));
        assert_eq!(mapped[2..], ["data-after-close".into(), "harmful".into(), serde_json::json!(500)]);
        server.join();
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_mapped_port_ends_connections_as_the_host_does() {
    require_all();
    type Serve = fn(TcpStream);
    let ends: [(&str, Serve); 3] = [
        ("read", |mut stream| stream.write_all(b"hello").unwrap()),
        ("read", |mut stream| {
            std::thread::sleep(Duration::from_millis(100));
            stream.write_all(b"hello").unwrap();
            std::thread::sleep(Duration::from_millis(100));
            reset(stream);
        }),
        ("half_close", |stream| {
            let heard = crate::support::answer_after_fin(stream, Duration::from_millis(50), b"answer");
            assert_eq!(heard, (b"question".to_vec(), None));
        }),
    ];
    for (host, _) in FAMILIES {
        for (what, serve) in ends {
            let server = Server::new(host, 2, serve);
            let port = server.port();
            let without = direct(what, host, port, &[]);
            let ran = lastack(&["--map-localhost", &port.to_string()], &client(what, host, port, &[]));
            assert_eq!((ran.seen().data(), ran.seen().end()), (without.data(), without.end()), "{ran:?}");
            assert_eq!(ran.connection()["comm"], "python3", "{ran:?}");
            server.join();
        }
        // The other way round.
        let server = Server::new(host, 2, |mut stream: TcpStream| read_to_end(&mut stream));
        let port = server.port();
        direct("abort", host, port, &[]);
        lastack(&["--map-localhost", &port.to_string()], &client("abort", host, port, &[]));
        assert_eq!(server.join(), vec![(b"hello".to_vec(), Some(ErrorKind::ConnectionReset)); 2]);
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_mapped_port_listens_while_the_host_does() {
    require_all();
    let port = closed_port("127.0.0.1");
    let option = port.to_string();
    let ran = lastack(&["--map-localhost", &option], &client("read", "127.0.0.1", port, &[]));
    assert_eq!(ran.seen().end(), "ECONNREFUSED");
    assert!(ran.summary()["warnings"].to_string().contains("nor on this host"), "{ran:?}");
    // Somebody listens later.
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.accept().unwrap().0.write_all(b"late").unwrap();
    });
    let script = format!("sleep 1; exec 3<>/dev/tcp/127.0.0.1/{port} && cat <&3");
    let ran = lastack(&["--map-localhost", &option], &["bash", "-c", &script]);
    assert_eq!(String::from_utf8_lossy(&ran.output.stdout), "late", "{ran:?}");
    later.join().unwrap();
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn urgent_data_passes_a_mapped_port() {
    require_all();
    let server = Server::new("127.0.0.1", 1, |mut stream: TcpStream| {
        stream.write_all(b"ab").unwrap();
        socket2::SockRef::from(&stream).send_out_of_band(b"!").unwrap();
        stream.write_all(b"cd").unwrap();
        std::thread::sleep(Duration::from_millis(500));
        let mut urgent = [0];
        recv(stream.as_raw_fd(), &mut urgent, MsgFlags::MSG_OOB).unwrap();
        (urgent, read_to_end(&mut stream).0)
    });
    let script = format!(
        "import socket, time\ns = socket.create_connection(('127.0.0.1', {}), 3)\ns.sendall(b'12'); \
         s.send(b'?', socket.MSG_OOB); s.sendall(b'34')\ntime.sleep(0.3)\n\
         print(s.recv(9), s.recv(1, socket.MSG_OOB), s.recv(9))",
        server.port()
    );
    let ran = lastack(&["--map-localhost", &server.port().to_string()], &["python3", "-c", &script]);
    assert_eq!(ran.output.stdout, b"b'ab' b'!' b'cd'\n", "{ran:?}");
    assert_eq!(server.join(), [([b'?'], b"1234".to_vec())]);
}
