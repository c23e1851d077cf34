//! `--allow`, `--deny`, `--offline`, `--log-only`.

use std::io::Write;

use crate::support::{FAMILIES, Ran, Server, client, lastack, require_all};

fn read(options: &[&str], gateway: &str, port: u16) -> Ran {
    let options: Vec<&str> = ["--host-loopback"].into_iter().chain(options.iter().copied()).collect();
    lastack(&options, &client("read", gateway, port, &[]))
}

fn hello(host: &str) -> Server<()> {
    Server::new(host, 1, |mut stream| stream.write_all(b"hello").unwrap())
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn denied_destinations_are_prohibited_by_lastack() {
    require_all();
    for (host, gateway) in FAMILIES {
        let server = hello(host);
        let port = server.port();
        let errno = if gateway.contains(':') { "EACCES" } else { "EHOSTUNREACH" };
        for option in ["--deny=all".to_owned(), format!("--deny=all:{port}"), "--offline".to_owned()] {
            let ran = read(&[&option], gateway, port);
            assert_eq!(ran.seen().end(), errno, "{option}: {ran:?}");
            let connection = ran.connection();
            assert_eq!(
                (&connection["cause"], &connection["by"]),
                (&"policy-denied".into(), &"lastack".into())
            );
            assert_eq!(connection["denied"], option.replacen('=', " ", 1), "{connection}");
        }
        // The server has seen nobody yet.
        let ran = read(&["--deny=192.0.2.0/24", "--deny=all:1"], gateway, port);
        assert_eq!(ran.seen().data(), "hello", "{ran:?}");
        server.join();
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn only_destinations_on_the_allow_list_are_reached() {
    require_all();
    let server = hello("127.0.0.1");
    let port = server.port();
    let denied = read(&["--allow=192.0.2.7"], "10.0.2.2", port);
    assert_eq!(denied.connection()["denied"], "not in any --allow", "{denied:?}");
    // The host's loopback has a name of its own.
    let allowed = read(&[&format!("--allow=127.0.0.1:{port}/tcp")], "10.0.2.2", port);
    assert_eq!(allowed.seen().data(), "hello", "{allowed:?}");
    server.join();
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn with_log_only_denials_are_only_reported() {
    require_all();
    let server = hello("127.0.0.1");
    let ran = read(&["--offline", "--log-only"], "10.0.2.2", server.port());
    assert_eq!(ran.seen().data(), "hello");
    assert_eq!(
        (&ran.connection()["would_deny"], &ran.connection()["cause"]),
        (&"--offline".into(), &"orderly".into())
    );
    server.join();
}

/// A ping has no line of its own: the summary names the option.
#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn denied_pings_are_counted() {
    require_all();
    let ping = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1); s.settimeout(2)\n\
                s.connect(('192.0.2.77', 0)); s.send(bytes([8, 0, 0, 0, 0, 0, 0, 1]))\ntry: s.recv(99)\n\
                except OSError as e: print(e.errno)";
    let ran = lastack(&["--deny=192.0.2.0/24"], &["python3", "-c", ping]);
    assert_eq!(ran.output.stdout, b"113\n", "{ran:?}");
    let echo = &ran.summary()["echo"];
    assert_eq!((&echo["failed"], &echo["denied"]["--deny 192.0.2.0/24"]), (&1.into(), &1.into()), "{echo}");
}
