//! What one datagram socket of the program sees, beside what it sees on the kernel.

use std::net::UdpSocket;
use std::process::Command;

use crate::support::{FAMILIES, LASTACK, Ran, finish, lastack, require_all, require_tool};

/// Runs a script of python against a host: on the kernel, and in front of lastack. Both print the same.
fn alike(script: &str, arguments: &[&str]) -> Vec<Ran> {
    let mut runs = Vec::new();
    for (host, gateway) in FAMILIES {
        let line = |host: &str| {
            let mut line = vec!["python3", "-c", script];
            line.push(host);
            line.extend(arguments);
            line.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let direct = line(host);
        let direct = finish(Command::new(&direct[0]).args(&direct[1..]));
        let direct = String::from_utf8_lossy(&direct.stdout).replace(host, gateway);
        let ran = lastack(&["--host-loopback"], &line(gateway));
        assert_eq!(String::from_utf8_lossy(&ran.output.stdout), direct, "{ran:?}");
        assert!(!direct.is_empty(), "the script prints something: {ran:?}");
        runs.push(ran);
    }
    runs
}

/// A server that tells each datagram's source port, and answers from another port if it is asked to.
fn server() -> [u16; 2] {
    FAMILIES.map(|(host, _)| {
        let socket = UdpSocket::bind((host, 0)).unwrap();
        let other = UdpSocket::bind((host, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, who)) = socket.recv_from(&mut buffer) {
                match &buffer[..length] {
                    b"from another port" => other.send_to(b"here", who),
                    _ => socket.send_to(who.port().to_string().as_bytes(), who),
                }
                .unwrap();
            }
        });
        port
    })
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn an_answer_from_another_port_arrives() {
    let script = "import socket, sys\n\
                  host, ports = sys.argv[1], [int(p) for p in sys.argv[2:4]]\n\
                  v6 = ':' in host\n\
                  s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)\n\
                  port = ports[v6]\n\
                  s.sendto(b'from another port', (host, port))\n\
                  data, who = s.recvfrom(100)\n\
                  print(data, who[0], 'another port' if who[1] != port else 'the same port')";
    require_all();
    let ports = server().map(|port| port.to_string());
    for ran in alike(script, &[&ports[0], &ports[1]]) {
        // The queried servers have answered, if from another address: no answer is missing.
        assert!(ran.connections().all(|flow| flow["cause"] == "answered"), "{ran:?}");
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn all_destinations_see_one_source_which_is_the_programs_own_port() {
    let script = "import socket, sys\n\
                  host, ports = sys.argv[1], sys.argv[2:]\n\
                  v6 = ':' in host\n\
                  s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)\n\
                  s.bind(('', 0))\n\
                  own = s.getsockname()[1]\n\
                  for port in ports[v6::2]:\n    \
                      s.sendto(b'?', (host, int(port)))\n    \
                      print('own port' if int(s.recv(100)) == own else 'another port')";
    require_all();
    let ports: Vec<String> = [server(), server()].concat().iter().map(ToString::to_string).collect();
    alike(script, &ports.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_port_that_is_taken_on_this_host_is_replaced_and_reported() {
    require_all();
    let taken = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
    // Below those that are drawn for programs: this one was asked for.
    let taken = (20_000..30_000).find_map(|port| UdpSocket::bind(("0.0.0.0", port)).ok()).unwrap_or(taken);
    let port = taken.local_addr().unwrap().port();
    let [server, _] = server();
    let script = format!(
        "import socket\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); s.bind(('', {port}))\n\
         s.sendto(b'?', ('10.0.2.2', {server})); print(int(s.recv(100)) != {port})"
    );
    let ran = lastack(&["--host-loopback"], &["python3", "-c", &script]);
    assert_eq!(String::from_utf8_lossy(&ran.output.stdout), "True\n", "{ran:?}");
    let flow = ran.connection();
    assert!(flow["note"].as_str().unwrap().contains(&format!("{port} is in use on this host")), "{flow}");
    let warning = ran.summary()["warnings"][0].as_str().unwrap();
    assert!(warning.contains(&format!("UDP port {port} is in use on this host")), "{warning}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn an_error_reaches_the_socket_that_it_is_about() {
    // Errors about two destinations of one unconnected socket, as IP_RECVERR tells them.
    let script = "import select, socket, sys, time\n\
                  host = sys.argv[1]\n\
                  v6 = ':' in host\n\
                  s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)\n\
                  s.setsockopt(41 if v6 else 0, 25 if v6 else 11, 1)\n\
                  for port in (21, 22):\n    \
                      try: s.sendto(b'knock', (host, port))\n    \
                      except OSError: s.sendto(b'knock', (host, port))\n    \
                      poll = select.poll(); poll.register(s, 0); poll.poll(20000)\n\
                  for _ in range(2):\n    \
                      for _ in range(1000):\n        \
                          try: data, anc, flags, to = s.recvmsg(512, 512, 0x2000); break\n        \
                          except BlockingIOError: time.sleep(0.02)\n    \
                      e = anc[0][2]\n    \
                      print(data, to[:2], 'errno', e[0], 'origin', e[4], 'type', e[5], 'code', e[6])";
    require_all();
    alike(script, &[]);
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn three_thousand_datagrams_back_to_back_arrive_each_way() {
    // What arrives in the namespace is counted there, because what the program's own buffer loses under load is not
    // lastack's loss.
    let script = r#"
import socket, sys, time
host, port = sys.argv[1], int(sys.argv[2 + (":" in sys.argv[1])])
def arrived():
    if ":" in host:
        counters = dict(line.split() for line in open("/proc/net/snmp6"))
        return int(counters["Udp6InDatagrams"]) + int(counters["Udp6InErrors"])
    names, values = [line.split() for line in open("/proc/net/snmp") if line.startswith("Udp:")]
    counters = dict(zip(names, values))
    return int(counters["InDatagrams"]) + int(counters["InErrors"])
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
s.connect((host, port))
for i in range(3000): s.send(b"q" * 1000)
s.send(b"count")
s.settimeout(5)
print("up", s.recv(100).decode())
before = arrived()
s.send(b"burst")
s.settimeout(1)
try:
    while True: s.recv(2000)
except OSError: pass
print("down", arrived() - before)
"#;
    require_all();
    let ports = FAMILIES.map(|(host, _)| {
        let socket = UdpSocket::bind((host, 0)).unwrap();
        enlarge(&socket);
        let port = socket.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut buffer, mut count) = ([0; 2048], 0);
            while let Ok((length, who)) = socket.recv_from(&mut buffer) {
                match &buffer[..length] {
                    b"count" => {
                        socket.send_to(count.to_string().as_bytes(), who).unwrap();
                        count = 0;
                    }
                    b"burst" => (0..3000).for_each(|_| {
                        socket.send_to(&[7; 1000], who).unwrap();
                    }),
                    _ => count += 1,
                }
            }
        });
        port.to_string()
    });
    for (_, gateway) in FAMILIES {
        let line = ["python3", "-c", script, gateway, &ports[0], &ports[1]];
        let ran = lastack(&["--host-loopback"], &line);
        assert_eq!(String::from_utf8_lossy(&ran.output.stdout), "up 3000\ndown 3000\n", "{ran:?}");
        assert_eq!(ran.summary()["dropped"], 0, "{ran:?}");
    }
}

/// Room for a burst in the test's own socket, beyond the host's limit if that may be.
fn enlarge(socket: &UdpSocket) {
    use nix::sys::socket::{setsockopt, sockopt};
    let size = 1 << 23;
    if setsockopt(socket, sockopt::RcvBufForce, &size).is_err() {
        setsockopt(socket, sockopt::RcvBuf, &size).unwrap();
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn few_descriptors_are_enough_for_many_sockets() {
    require_all();
    require_tool("sh");
    let [port, _] = server();
    let script = format!(
        "import socket\n\
         n = 0\n\
         for i in range(300):\n    \
             s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)\n    \
             s.sendto(b'?', ('10.0.2.2', {port})); n += len(s.recv(100)) > 0; s.close()\n\
         print(n)"
    );
    let line = format!("ulimit -n 100; exec {LASTACK} run -q --host-loopback -- python3 -c \"$0\"");
    let output = finish(Command::new("sh").args(["-c", &line, &script]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "300\n", "{output:?}");
}
