//! `--inject`: the program sees the fault, the report says that it was ours, and other connections are left alone.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{
    CONNECTS, LASTACK, Ran, Server, connect_often, finish, lastack, require_all, require_namespaces,
    require_tool,
};

/// A server that gives back twice what it gets, and its run with these options.
fn inject(faults: &[&str], connections: usize) -> (Vec<Value>, Ran) {
    let server = Server::new("127.0.0.1", connections, |mut stream: TcpStream| {
        let mut data = Vec::new();
        // The fault may be the server's to see.
        let _seen =
            stream.read_to_end(&mut data).and_then(|_| stream.write_all(&data).and(stream.write_all(&data)));
    });
    let mut options = vec!["--host-loopback"];
    faults.iter().for_each(|fault| options.extend(["--inject", fault]));
    let (seen, _, ran) = connect_often(&options, "10.0.2.2", server, connections);
    (seen, ran)
}

fn ends(seen: &[Value]) -> Vec<&str> {
    seen.iter().map(|seen| seen["end"].as_str().unwrap()).collect()
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_third_connection_is_reset_after_4_kib() {
    require_all();
    let (seen, ran) = inject(&["rst:when=3:after=4k:direction=down"], 4);
    assert_eq!(ends(&seen), ["EOF", "EOF", "ECONNRESET", "EOF"], "{ran:?}");
    assert_eq!([&seen[1]["bytes"], &seen[2]["bytes"]], [8192, 4096]);
    let reset: Vec<&Value> = ran.connections().filter(|line| line["outcome"] == "reset").collect();
    let [reset] = reset[..] else { panic!("{ran:?}") };
    assert_eq!((&reset["by"], &reset["cause"]), (&"lastack".into(), &"fault-injected".into()));
    assert_eq!(reset["injected"][0], "rst:when=3:after=4k:direction=down");
    let of_rule = &ran.summary()["injected"][0];
    assert_eq!((&of_rule["matched"], &of_rule["acted"]), (&4.into(), &1.into()));
    assert_eq!(ran.summary()["severity"]["harmful"], 0, "what was asked for is no failure");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn each_fault_is_seen_by_the_program() {
    require_all();
    for (fault, end) in [
        ("refuse", "ECONNREFUSED"),
        ("rst:state=syn", "ECONNREFUSED"),
        ("unreach=net", "ENETUNREACH"),
        ("unreach", "EHOSTUNREACH"),
        ("rst", "ECONNRESET"),
        ("rst:state=fin", "ECONNRESET"),
        ("rst=program:after=100", "ECONNRESET"),
        ("rst:seq=window", "EOF"),
        ("rst:seq=outside", "EOF"),
        ("blackhole", "TIMEOUT"),
        ("blackhole:after=1:direction=down", "TIMEOUT"),
        ("cut-fin:direction=down", "TIMEOUT"),
        ("mtu-hole=600", "TIMEOUT"),
        ("zero-window", "TIMEOUT"),
        ("zero-window:after=100:direction=down", "TIMEOUT"),
        ("loss=20%", "EOF"),
        ("reorder=50%", "EOF"),
        ("duplicate=50%", "EOF"),
        ("corrupt=20%", "EOF"),
    ] {
        let (seen, ran) = inject(&[fault], 1);
        assert_eq!(ends(&seen), [end], "{fault}: {ran:?}");
        let connection = ran.connection();
        let acted = ran.summary()["injected"][0]["acted"].as_u64().unwrap();
        if end != "EOF" {
            assert_eq!(connection["cause"], "fault-injected", "{fault}: {connection}");
            assert_eq!(connection["injected"][0], fault, "{connection}");
            assert!(acted > 0, "{fault}: {ran:?}");
        }
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn an_attempt_whose_answer_is_ignored_is_one_connection() {
    require_all();
    // TCP_SYNCNT (7): one retransmission.
    let script = "import socket, sys\ns = socket.socket()\ns.setsockopt(socket.IPPROTO_TCP, 7, 1)\n\
                  try: s.connect(('192.0.2.7', 80))\nexcept TimeoutError: sys.exit(7)";
    let ran = lastack(&["--inject", "unreach=4"], &["python3", "-c", script]);
    assert_eq!(ran.output.status.code(), Some(7), "{ran:?}");
    let connection = ran.connection();
    assert_eq!((&connection["cause"], &connection["icmp"]["code"]), (&"fault-injected".into(), &4.into()));
    assert!(connection["duration_us"].as_u64() > Some(1_000_000), "until the program gave up: {connection}");
    let of_rule = &ran.summary()["injected"][0];
    assert_eq!(of_rule["matched"], 1, "{ran:?}");
    assert!(of_rule["acted"].as_u64() >= Some(2), "every SYN was answered: {ran:?}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_fault_begins_at_the_byte_that_it_names() {
    require_all();
    for kind in ["blackhole", "rst", "half-open"] {
        let fault = format!("{kind}:after=5000:direction=down");
        let (seen, ran) = inject(&[&fault], 1);
        assert_eq!(
            (&seen[0]["bytes"], &ran.connection()["cause"]),
            (&5000.into(), &"fault-injected".into()),
            "{fault}"
        );
    }
    // What the program sends: the remote gets so much of it.
    for kind in ["blackhole", "rst", "zero-window"] {
        let server = Server::new("127.0.0.1", 1, |stream: TcpStream| {
            stream.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
            let (mut stream, mut total, mut data) = (stream, 0, [0; 4096]);
            while let Ok(bytes @ 1..) = stream.read(&mut data) {
                total += bytes;
            }
            total
        });
        let script = format!(
            "import socket\ns = socket.create_connection(('10.0.2.2', {}), 3)\ns.settimeout(1)\n\
             try: s.sendall(bytes(100000)); s.recv(1)\nexcept OSError: pass",
            server.port()
        );
        let fault = format!("{kind}:after=5000:direction=up");
        let ran = lastack(&["--host-loopback", "--inject", &fault], &["python3", "-c", &script]);
        assert_eq!(server.join(), [5000], "{fault}: {ran:?}");
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_reset_comes_at_its_time_to_a_connection_that_is_open() {
    require_all();
    let server = Server::new("127.0.0.1", 1, |mut stream: TcpStream| {
        let _reset = (stream.write_all(b"hello"), stream.read(&mut [0; 1]));
    });
    let script = format!(
        "import socket\ns = socket.create_connection(('10.0.2.2', {}), 30)\nprint(s.recv(5))\n\
         try: s.recv(1)\nexcept ConnectionResetError: print('reset')",
        server.port()
    );
    let begun = Instant::now();
    let ran = lastack(&["--host-loopback", "--inject", "rst:from=4s"], &["python3", "-c", &script]);
    assert_eq!(ran.output.stdout, b"b'hello'\nreset\n", "{ran:?}");
    assert!(begun.elapsed() >= Duration::from_secs(4), "{ran:?}");
    assert_eq!(ran.connection()["cause"], "fault-injected");
    server.join();
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn late_packets_and_late_closes_take_their_time() {
    require_all();
    for (fault, least) in [("delay=150ms", 0.44), ("rate=10k", 0.8), ("slow-close=700ms:direction=down", 0.7)]
    {
        let (seen, ran) = inject(&[fault], 1);
        assert_eq!(ends(&seen), ["EOF"], "{fault}: {ran:?}");
        assert!(seen[0]["seconds"].as_f64().unwrap() >= least, "{fault}: {seen:?}");
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn data_on_a_connection_whose_state_was_lost_is_reset() {
    require_all();
    let server =
        Server::new("127.0.0.1", 1, |mut stream: TcpStream| stream.read(&mut [0; 10]).map_err(|e| e.kind()));
    let script = format!(
        "import socket, time\ns = socket.create_connection(('10.0.2.2', {}), 3)\ntime.sleep(0.3)\ns.setblocking(False)\n\
         try: s.recv(1)\nexcept BlockingIOError: print('nothing yet')\ns.setblocking(True)\ns.send(b'hello?')\n\
         try: s.recv(1)\nexcept ConnectionResetError: print('reset')",
        server.port()
    );
    let ran = lastack(&["--host-loopback", "--inject", "half-open"], &["python3", "-c", &script]);
    assert_eq!(ran.output.stdout, b"nothing yet\nreset\n", "{ran:?}");
    assert_eq!(ran.connection()["cause"], "fault-injected");
    assert_eq!(server.join(), [Err(std::io::ErrorKind::ConnectionReset)]);
}

/// What the program saw of a server that sends 20 KiB in two parts, and answers nothing else.
fn of_a_sender(fault: &str, script: &str) -> (String, Ran, Result<usize, std::io::ErrorKind>) {
    let server = Server::new("127.0.0.1", 1, |mut stream: TcpStream| {
        stream.write_all(&[b'x'; 10 << 10]).and_then(|()| stream.write_all(&[b'x'; 10 << 10])).unwrap();
        stream.read(&mut [0; 10]).map_err(|error| error.kind())
    });
    let begin =
        format!("import socket, time\ns = socket.create_connection(('10.0.2.2', {}), 3)\n", server.port());
    let ran = lastack(&["--host-loopback", "--inject", fault], &["python3", "-c", &(begin + script)]);
    let seen = String::from_utf8(ran.output.stdout.clone()).unwrap();
    let [at_server] = server.join()[..] else { panic!("{ran:?}") };
    (seen, ran, at_server)
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_remote_that_was_reset_answers_the_program_with_a_reset() {
    require_all();
    let script = "try:\n time.sleep(1.5)\n s.send(b'more')\n time.sleep(0.3)\n s.send(b'again')\n\
                  except (ConnectionResetError, BrokenPipeError): print('reset')";
    let (seen, ran, at_server) = of_a_sender("rst=remote:from=1s", script);
    assert_eq!(seen, "reset\n", "{ran:?}");
    assert_eq!(at_server, Err(std::io::ErrorKind::ConnectionReset));
    let connection = ran.connection();
    assert_eq!((&connection["cause"], &connection["by"]), (&"fault-injected".into(), &"lastack".into()));
    assert!(
        connection["duration_us"].as_u64() > Some(1_000_000),
        "it ended when the program sent: {connection}"
    );
}

/// RFC 9293 section 3.10.7.1: any segment that is not a reset is answered, an acknowledgment alone as well.
#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn an_acknowledgment_alone_is_answered_by_a_remote_without_state() {
    require_all();
    let script = "n = 0\ntry:\n while d := s.recv(65536): n += len(d)\n print(n, 'EOF')\n\
                  except OSError as e: print(n, type(e).__name__)";
    for fault in ["half-open:after=10k:direction=down", "rst=remote:after=10k:direction=down"] {
        let (seen, ran, at_server) = of_a_sender(fault, script);
        assert_eq!(seen, "10240 ConnectionResetError\n", "{fault}: {ran:?}");
        assert_eq!(at_server, Err(std::io::ErrorKind::ConnectionReset));
        let connection = ran.connection();
        assert_eq!(connection["octets"]["received"], 10240, "{fault}: {connection}");
        assert_eq!(connection["lost"]["unread"], 0, "{fault}: {connection}");
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_fin_that_was_cut_is_no_lost_data() {
    require_all();
    let (_, ran) = inject(&["cut-fin:direction=down"], 1);
    let note = ran.connection()["note"].as_str().unwrap_or_default();
    assert!(note.contains("a FIN had not arrived"), "{ran:?}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_rule_that_matches_nothing_is_reported() {
    require_namespaces();
    let mut command = std::process::Command::new(LASTACK);
    let output =
        finish(command.args(["run", "--inject", "refuse:port=9", "--inject", "loss=1%", "--", "true"]));
    let report = String::from_utf8(output.stderr).unwrap();
    assert!(report.contains("lastack: --inject refuse:port=9: matched nothing\n"), "{report}");
}

#[test]
fn rules_are_explained_and_wrong_ones_refused_before_the_program_runs() {
    let run = |arguments: &[&str]| finish(std::process::Command::new(LASTACK).arg("run").args(arguments));
    let help = run(&["--inject", "help"]);
    assert!(
        help.status.success() && String::from_utf8_lossy(&help.stdout).contains("mtu-hole=BYTES"),
        "{help:?}"
    );
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let unprinted =
        std::process::Command::new(LASTACK).args(["run", "--inject", "help"]).stdout(full).output().unwrap();
    assert_eq!(unprinted.status.code(), Some(1), "{unprinted:?}");
    assert!(String::from_utf8_lossy(&unprinted.stderr).contains("No space left on device"), "{unprinted:?}");
    let wrong = run(&["--inject", "rst:afer=4k", "--", "echo", "ran"]);
    assert_eq!((wrong.status.code(), wrong.stdout.len()), (Some(125), 0));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("unknown key \"afer\""), "{wrong:?}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[[fault]]\nkind = \"rts\"\n").unwrap();
    let wrong = run(&["--inject-file", file.path().to_str().unwrap(), "--", "echo", "ran"]);
    assert_eq!((wrong.status.code(), wrong.stdout.len()), (Some(125), 0));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("fault 1: rts: unknown kind"), "{wrong:?}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_comments_of_the_capture_match_the_report() {
    require_all();
    require_tool("tshark");
    let comments = |options: &[&str]| {
        let capture = tempfile::NamedTempFile::new().unwrap();
        let path = capture.path().to_str().unwrap();
        let port = crate::support::closed_port("127.0.0.1").to_string();
        let options: Vec<&str> =
            ["--host-loopback", "-w", path].into_iter().chain(options.iter().copied()).collect();
        lastack(&options, &["python3", "-c", CONNECTS, "10.0.2.2", &port, "1"]);
        let mut tshark = std::process::Command::new("tshark");
        let output = finish(tshark.args(["-r", path, "-T", "fields", "-e", "frame.comment"]));
        String::from_utf8(output.stdout).unwrap()
    };
    let refused = comments(&[]);
    assert!(refused.contains("refused by the remote (rst-no-listener"), "{refused}");
    assert!(!refused.contains("intercepted"), "{refused}");
    let injected = comments(&["--inject", "unreach=host"]);
    assert!(injected.contains("--inject unreach=host"), "{injected}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn dns_and_udp_faults_are_injected() {
    require_all();
    let ask = "import socket, time\nt = time.monotonic()\ntry: socket.getaddrinfo('a.example.test', 80)\n\
               except socket.gaierror as e: print(e.errno, time.monotonic() - t < 4)";
    let of = |options: &[&str]| lastack(options, &["python3", "-c", ask]);
    let missing = of(&["--inject", "dns=nxdomain:to=*.example.test"]);
    assert_eq!(missing.output.stdout, b"-2 True\n", "EAI_NONAME: {missing:?}");
    let question = missing.connections().next().unwrap();
    assert_eq!(
        (&question["cause"], &question["by"]),
        (&"fault-injected".into(), &"lastack".into()),
        "{question}"
    );
    assert_eq!(question["questions"][0]["name"], "a.example.test");
    let failed = of(&["--inject", "dns=servfail"]);
    assert_eq!(failed.output.stdout, b"-3 True\n", "EAI_AGAIN: {failed:?}");
    let denied = of(&["--offline"]);
    assert_eq!(denied.output.stdout, b"-3 True\n", "{denied:?}");
    let question = denied.connections().next().unwrap();
    assert_eq!((&question["cause"], &question["denied"]), (&"policy-denied".into(), &"--offline".into()));
    assert_eq!(question["questions"][0]["rcode"], "REFUSED", "{question}");

    let send = "import errno, socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(1)\n\
                s.connect(('192.0.2.7', 9))\ntry: s.send(b'x'); s.recv(1)\n\
                except OSError as e: print(errno.errorcode.get(e.errno, 'TIMEOUT'))";
    for (options, sees) in [
        (["--inject", "refuse"], "ECONNREFUSED"),
        (["--inject", "unreach=admin"], "EHOSTUNREACH"),
        (["--inject", "blackhole"], "TIMEOUT"),
        (["--deny", "192.0.2.0/24:9/udp"], "EHOSTUNREACH"),
    ] {
        let ran = lastack(&options, &["python3", "-c", send]);
        assert_eq!(ran.output.stdout, format!("{sees}\n").as_bytes(), "{options:?}: {ran:?}");
        if sees != "TIMEOUT" {
            assert_eq!(ran.connection()["by"], "lastack", "{options:?}: {}", ran.connection());
        }
    }
}

/// Asks an echo server for datagrams, and pings it; prints what came back.
const DATAGRAM_CLIENT: &str = r#"
import json, socket, sys, time
host, port = sys.argv[1], int(sys.argv[2])
def ask(s, data):
    s.settimeout(20 if sys.argv[3] == "wait" else 1)
    began = time.monotonic()
    try:
        s.sendto(data, (host, port))
        return [len(s.recv(65535)), time.monotonic() - began]
    except OSError: return None
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
p = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1)
print(json.dumps([ask(u, b"x"), ask(u, bytes(5000)), ask(p, bytes([8, 0, 0, 0, 0, 0, 0, 1]) + bytes(8))]))
"#;

/// Datagrams in fragments and pings are hit as others are, and an answer that a fault suppresses is no answer.
#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn faults_of_packets_hit_datagrams_and_pings() {
    require_all();
    require_tool("unshare");
    require_tool("ip");
    let server = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('192.0.2.1', 7000))\n\
                  print('ready', flush=True)\nwhile 1: d, w = s.recvfrom(65535); s.sendto(d, w)";
    let play = |fault: &str, wait: &str| -> (Vec<Value>, Vec<Value>) {
        let script = format!(
            "ip link set lo up; ip addr add 192.0.2.1/32 dev lo; \
             mkfifo \"$0/ready\"; python3 -c \"$1\" > \"$0/ready\" & server=$!; read line < \"$0/ready\"; \
             {LASTACK} run --json -o \"$0/report\" --inject {fault} -- python3 -c \"$2\" 192.0.2.1 7000 {wait}; \
             kill $server"
        );
        let place = tempfile::tempdir().unwrap();
        let mut command = std::process::Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c", &script]).arg(place.path());
        let output = finish(command.args([server, DATAGRAM_CLIENT]));
        let report = std::fs::read_to_string(place.path().join("report")).unwrap();
        let seen = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?} {report}"));
        (seen, report.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    };
    for fault in ["loss=100%:direction=down", "blackhole"] {
        let (seen, report) = play(fault, "no");
        assert_eq!(seen, [Value::Null, Value::Null, Value::Null], "{fault}: {report:?}");
        let flow = report.iter().find(|line| line["proto"] == "udp").unwrap();
        assert_eq!((&flow["cause"], &flow["octets"]["received"]), (&"fault-injected".into(), &0.into()));
        assert_eq!(report.last().unwrap()["injected"][0]["matched"], 2, "the flow and the ping: {report:?}");
    }
    // Each way takes a tenth of a second, for the first packet as well.
    let (seen, report) = play("delay=100ms", "wait");
    for answer in &seen {
        assert!(answer[1].as_f64().is_some_and(|seconds| seconds >= 0.2), "{seen:?} {report:?}");
    }
}
