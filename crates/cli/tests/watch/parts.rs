//! The programs whose connections end: copies of this test program that play a part.

use std::env;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Tells a copy of this test program to play a part.
pub const PART: &str = "LASTACK_TEST_PART";

/// Names a file for what the part has to say.
pub const RESULT: &str = "LASTACK_TEST_RESULT";

/// Not a test of its own: plays a part if the environment names one.
#[test]
fn play() {
    let Ok(part) = env::var(PART) else { return };
    let words: Vec<&str> = part.split(' ').collect();
    let [name, what, address] = words[..] else { panic!("{part:?}") };
    // The name of the process, and that of this thread.
    std::fs::write("/proc/self/comm", name).unwrap();
    std::fs::write("/proc/thread-self/comm", name).unwrap();
    let address: SocketAddr = address.parse().unwrap();
    match what.split_once('-') {
        Some(("server", what)) => server(what, address),
        Some(("client", what)) => client(what, address),
        _ => panic!("{part:?}"),
    }
    exit(0);
}

fn pause(milliseconds: u64) {
    sleep(Duration::from_millis(milliseconds));
}

fn server(what: &str, address: SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    println!("ready");
    if what == "closes" {
        // Until all clients have connected.
        pause(4000);
        drop(listener);
        pause(300);
        return;
    }
    let (mut stream, _) = listener.accept().unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    match what {
        "answers" => {
            stream.write_all(&[7; 3000]).unwrap();
            let _end = stream.read_to_end(&mut Vec::new());
        }
        "resets" => {
            pause(900);
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        "late" => {
            // The peer's FIN, and data after it.
            let _end = stream.read_to_end(&mut Vec::new());
            pause(700);
            let _refused = stream.write_all(b"late");
            pause(200);
        }
        "waits" => pause(20_000),
        _ => panic!("{what:?}"),
    }
}

/// A client that is not connected.
fn fails(what: &str, address: SocketAddr) {
    use std::io::ErrorKind::{ConnectionRefused, NetworkUnreachable};
    let socket = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let connect = |socket: &socket2::Socket, to: SocketAddr| socket.connect(&to.into());
    match what {
        "refused-kept" => {
            let socket = socket();
            assert_eq!(connect(&socket, address).unwrap_err().kind(), ConnectionRefused);
            pause(2500);
        }
        "refused-asked" => {
            let socket = socket();
            socket.set_nonblocking(true).unwrap();
            let _in_progress = connect(&socket, address);
            pause(50);
            assert_eq!(connect(&socket, address).unwrap_err().kind(), ConnectionRefused);
        }
        "refused-twice" => {
            let socket = socket();
            assert_eq!(connect(&socket, address).unwrap_err().kind(), ConnectionRefused);
            pause(300);
            let next = SocketAddr::new(address.ip(), address.port() + 1);
            assert_eq!(connect(&socket, next).unwrap_err().kind(), ConnectionRefused);
        }
        "unroutable" => assert_eq!(connect(&socket(), address).unwrap_err().kind(), NetworkUnreachable),
        "later" => {
            pause(1500);
            let error = TcpStream::connect(address).unwrap_err();
            std::fs::write(env::var(RESULT).unwrap(), error.to_string()).unwrap();
        }
        _ => assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ConnectionRefused),
    }
}

fn client(what: &str, address: SocketAddr) {
    if what.starts_with("refused") || matches!(what, "unroutable" | "later") {
        return fails(what, address);
    }
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    if what == "mute" {
        let _reset = stream.read(&mut [0]);
        return;
    }
    stream.write_all(b"x").unwrap();
    // Long enough to be seen by a list of sockets.
    match what {
        "linger0" => {
            pause(900);
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        "unread" => {
            pause(900);
            stream.read_exact(&mut [0; 10]).unwrap();
        }
        "killed" => {
            pause(900);
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        "keepalive" => {
            let probes =
                TcpKeepalive::new().with_time(Duration::from_secs(1)).with_interval(Duration::from_secs(1));
            SockRef::from(&stream).set_tcp_keepalive(&probes.with_retries(2)).unwrap();
            let error = stream.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        }
        "timeout" => {
            SockRef::from(&stream).set_tcp_user_timeout(Some(Duration::from_millis(1500))).unwrap();
            pause(1200);
            stream.write_all(b"lost").unwrap();
            let error = stream.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        }
        "waits" => {
            let error = stream.read(&mut [0]).unwrap_err();
            assert!(matches!(
                error.kind(),
                std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::ConnectionAborted
            ));
            pause(1500);
        }
        "reads" => {
            pause(300);
            stream.read_exact(&mut [0; 3000]).unwrap();
        }
        "closes" => pause(600),
        _ => panic!("{what:?}"),
    }
}
