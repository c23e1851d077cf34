//! Every example runs to its end and finds what it expects.

use std::process::Command;

fn runs(mut command: Command) -> String {
    let output = command.output().expect("it starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {out}{err}", output.status);
    out.into_owned()
}

#[test]
fn axum_tls() {
    let out = runs(Command::new(env!("CARGO_BIN_EXE_axum-tls")));
    assert!(out.contains("10.0.0.1:"), "the access log: {out}");
}

#[test]
fn wireguard() {
    assert!(runs(Command::new(env!("CARGO_BIN_EXE_wireguard"))).contains("5000000 bytes through the tunnel"));
}

#[test]
fn sans_io() {
    assert_eq!(runs(Command::new(env!("CARGO_BIN_EXE_sans-io"))), "hello\n");
}

#[test]
fn fault_test() {
    assert!(runs(Command::new(env!("CARGO_BIN_EXE_fault-test"))).contains("[Refused, Reset, Reset"));
}

#[test]
fn quic() {
    assert!(runs(Command::new(env!("CARGO_BIN_EXE_quic"))).contains("5000000 bytes there and back"));
}

#[test]
fn packetdrill() {
    let out = runs(Command::new(env!("CARGO_BIN_EXE_packetdrill")));
    assert!(out.starts_with("passed\n") && out.contains("challenge.pkt:"), "{out}");
}

/// A command in a network namespace of its own.
fn in_namespace(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-ec", script]);
    command
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn echo_tun() {
    let out = runs(in_namespace(concat!("exec ", env!("CARGO_BIN_EXE_echo-tun"), " --check")));
    assert!(out.starts_with("echo at 10.0.9.1:7\n10.0.9.2:"), "{out}");
}

/// A SOCKS5 proxy that connects to port 80 (an echo), and answers "connection refused" for other ports.
const PROXY: &str = r#"
import socket, threading
s = socket.create_server(("127.0.0.1", 1080))
def serve(c):
    c.recv(3); c.sendall(b"\5\0")
    request = c.recv(10)
    port = int.from_bytes(request[8:10], "big")
    c.sendall(bytes([5, 0 if port == 80 else 5, 0, 1]) + bytes(6))
    while port == 80:
        data = c.recv(1000)
        if not data: break
        c.sendall(data)
    c.close()
while True: threading.Thread(target=serve, args=[s.accept()[0]], daemon=True).start()
"#;
const CLIENT: &str = r#"
import socket
s = socket.create_connection(("198.51.100.1", 80), 5)
s.sendall(b"hello"); s.shutdown(socket.SHUT_WR)
print(s.recv(100), s.recv(100))
try: socket.create_connection(("198.51.100.1", 81), 5)
except ConnectionRefusedError: print("refused")
"#;

#[test]
#[ignore = "needs root, /dev/net/tun and python3"]
fn tun2socks() {
    let mut command = in_namespace(&format!(
        "ip link set lo up; python3 -c \"$0\" & proxy=$!; sleep 0.5; {} 127.0.0.1:1080 & tunnel=$!; \
         for i in 1 2 3 4 5 6 7 8 9; do ip link show lastack-socks >/dev/null 2>&1 && break; sleep 0.2; done; \
         ip addr add 10.0.8.1/24 dev lastack-socks; ip link set lastack-socks up; \
         ip route add default dev lastack-socks; python3 -c \"$1\"; kill $proxy $tunnel",
        env!("CARGO_BIN_EXE_tun2socks")
    ));
    let out = runs({
        command.args([PROXY, CLIENT]);
        command
    });
    assert!(out.contains("b'hello' b''\n") && out.contains("refused\n"), "{out}");
}
