//! Names: the program asks lastack, and lastack asks the resolvers.

use std::process::Command;

use crate::support::{LASTACK, finish, require_all, require_tool};

/// Answers every question of type A with 192.0.2.77, by UDP and TCP, at this address.
const RESOLVER: &str = r#"
import socket, struct, sys, threading
host = sys.argv[1]
family = socket.AF_INET6 if ":" in host else socket.AF_INET
def answer(q):
    end = q.index(b"\0", 12) + 5
    a = q[end - 4 : end - 2] == b"\0\x01"
    head = q[:2] + b"\x81\x80" + b"\0\x01" + (b"\0\x01" if a else b"\0\0") + b"\0\0\0\0"
    return head + q[12:end] + (b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04" + socket.inet_aton("192.0.2.77") if a else b"")
udp = socket.socket(family, socket.SOCK_DGRAM)
udp.bind((host, 53))
tcp = socket.socket(family)
tcp.bind((host, 53))
tcp.listen()
def by_tcp():
    while True:
        s, _ = tcp.accept()
        n = struct.unpack("!H", s.recv(2))[0]
        a = answer(s.recv(n))
        s.sendall(struct.pack("!H", len(a)) + a)
        s.close()
threading.Thread(target=by_tcp, daemon=True).start()
print("ready", flush=True)
while True:
    q, who = udp.recvfrom(512)
    udp.sendto(answer(q), who)
"#;

const ASK: &str = r#"
import socket, struct
print(socket.gethostbyname("example.test"))
q = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x04test\0\0\x01\0\x01"
s = socket.create_connection(("10.0.2.3", 53), 5)
s.sendall(struct.pack("!H", len(q)) + q)
print(socket.inet_ntoa(s.recv(512)[-4:]))
print([line.split()[1] for line in open("/etc/resolv.conf") if line.startswith("nameserver")])
"#;

/// Runs the program's questions in a network of their own, with this resolver and these options.
fn ask(resolver: &str, options: &str) -> String {
    let script = format!(
        "ip link set lo up; mkfifo \"$0/ready\"; python3 -c \"$1\" {resolver} > \"$0/ready\" & \
         read line < \"$0/ready\"; {LASTACK} run {options} -- python3 -c \"$2\"; code=$?; kill $!; exit $code"
    );
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "sh", "-c", &script]).arg(place.path()).args([RESOLVER, ASK]);
    let output = finish(&mut command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const ANSWERS: &str = "192.0.2.77\n192.0.2.77\n['10.0.2.3']\n";
/// The same with two name servers, of which each has an address inside.
const ANSWERS_OF_TWO: &str = "192.0.2.77\n192.0.2.77\n['10.0.2.3', 'fd00::3']\n";

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn names_resolve_by_udp_and_tcp() {
    require_all();
    require_tool("unshare");
    require_tool("ip");
    assert_eq!(ask("127.0.0.1", "-D 127.0.0.1"), ANSWERS);
    assert_eq!(ask("::1", "-D ::1"), ANSWERS);
    // The run may answer queries itself, so that a server is connected to by the first query that needs one.
    assert_eq!(ask("127.0.0.1", "-D ::1 -D 127.0.0.1 --deny ads.example"), ANSWERS_OF_TWO);
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_resolver_that_refuses_is_passed_over() {
    require_all();
    require_tool("unshare");
    require_tool("ip");
    assert_eq!(ask("127.0.0.1", "-D ::1 -D 127.0.0.1"), ANSWERS_OF_TWO);
}

/// A refusal reaches the program over the family it asked over, whichever the resolver was asked over.
#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_refusing_resolver_is_not_waited_for() {
    require_all();
    require_tool("unshare");
    require_tool("ip");
    let question = "import socket, time\nt = time.monotonic()\ntry: socket.getaddrinfo('a.example', 80)\n\
                        except socket.gaierror: print('at once' if time.monotonic() - t < 4 else 'late')";
    let script = format!("ip link set lo up; {LASTACK} run -D 127.0.0.1 -- python3 -c \"$0\"");
    let mut command = Command::new("unshare");
    let output = finish(command.args(["--map-root-user", "--net", "sh", "-c", &script, question]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "at once\n", "{output:?}");
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(report.contains("ECONNREFUSED from 127.0.0.1:53"), "{report}");
    assert!(report.contains("--dns ADDRESS (-D) asks another name server"), "{report}");
}

/// Queries over TCP that the run itself answers reach no name server, and none is connected to for them.
#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_query_over_tcp_that_the_run_answers_contacts_no_server() {
    require_all();
    require_tool("unshare");
    require_tool("ip");
    let ask = "import socket, struct\n\
               q = b'\\x12\\x34\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0\\x07example\\x04test\\0\\0\\x01\\0\\x01'\n\
               s = socket.create_connection(('10.0.2.3', 53), 5)\n\
               s.sendall(struct.pack('!H', len(q)) + q)\n\
               print('rcode', s.recv(512)[5] & 15)";
    // Nothing listens there: a connection to it would be refused, and reported.
    for (option, rcode, reported) in [
        ("--offline", 5, "REFUSED from 10.0.2.3:53"),
        ("--inject dns=servfail", 2, "SERVFAIL from 10.0.2.3:53"),
    ] {
        let script =
            format!("ip link set lo up; {LASTACK} run -v -D 127.0.0.1 {option} -- python3 -c \"$0\"");
        let mut command = Command::new("unshare");
        let output = finish(command.args(["--map-root-user", "--net", "sh", "-c", &script, ask]));
        let report = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("rcode {rcode}\n"), "{report}");
        assert!(report.contains(reported) && !report.contains("127.0.0.1:53"), "{report}");
        assert!(!report.contains("matched nothing"), "{report}");
    }
}
