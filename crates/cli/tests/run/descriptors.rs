//! Few descriptors (`ulimit -n`): idle flows make room, busy ones stay, and the report names cause and cure.

use std::process::Command;

use crate::support::{LASTACK, finish, require_all};

/// Runs a Python program under lastack with this number of descriptors, and a server on the host's loopback that holds
/// its connections and sends what it gets back. The program has as many descriptors as it likes.
const OUTSIDE: &str = r#"
import json, os, resource, socket, subprocess, sys, threading
lastack, limit, inside = sys.argv[1], int(sys.argv[2]), sys.argv[3]
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
server = socket.create_server(("127.0.0.1", 0), backlog=500)
ends = []
def serve(c):
    try:
        while data := c.recv(100): c.sendall(data)
        ends.append("FIN")
    except OSError as e: ends.append(e.strerror)
def accept():
    while True: threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
threading.Thread(target=accept, daemon=True).start()
rd, wr = os.pipe(); lines = []
reader = threading.Thread(target=lambda: lines.extend(os.fdopen(rd))); reader.start()
limits = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
run = subprocess.run([lastack, "run", "--json", "-o", "/proc/self/fd/%d" % wr, "--host-loopback", "--", sys.executable, "-c", inside,
    str(server.getsockname()[1])], preexec_fn=limits, capture_output=True, text=True,
    pass_fds=[wr])
os.close(wr); reader.join()
report = [json.loads(line) for line in lines]
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps(dict(status=run.returncode, out=run.stdout.split("\n"), errors=run.stderr, report=report, ends=ends,
    cpu=used.ru_utime + used.ru_stime)))
"#;

fn play(limit: u32, inside: &str) -> serde_json::Value {
    let mut command = Command::new("python3");
    let output = finish(command.args(["-c", OUTSIDE, LASTACK, &limit.to_string(), inside]));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

fn ours(ran: &serde_json::Value) -> Vec<&serde_json::Value> {
    let lines = ran["report"].as_array().unwrap();
    lines.iter().filter(|line| line["cause"] == "host-resources").collect()
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_oldest_idle_connection_makes_room_for_a_new_one() {
    require_all();
    // The program's own limit is the one that lastack was given: several processes have many connections together.
    let inside = r#"
import os, socket, sys, time
port, (go, going) = int(sys.argv[1]), os.pipe()
for child in range(4):
    r, w = os.pipe()
    if os.fork() == 0:
        mine = []
        for i in range(15):
            s = socket.create_connection(("10.0.2.2", port), 30); s.sendall(b"x"); s.recv(1); mine.append(s)
        os.write(w, b".")
        os.close(going); os.read(go, 1)
        dead = 0
        for s in mine:
            s.setblocking(False)
            try: s.recv(1)
            except BlockingIOError: pass
            except ConnectionResetError: dead += 1
        os.write(1, b"%d\n" % dead)
        os._exit(0)
    os.read(r, 1)
time.sleep(0.1); os.close(going)
for child in range(4): os.wait()
"#;
    let ran = play(64, inside);
    assert_eq!(ran["status"], 0, "{ran}");
    let dead: u64 =
        ran["out"].as_array().unwrap().iter().filter_map(|n| n.as_str()?.parse::<u64>().ok()).sum();
    let ours = ours(&ran);
    assert!(
        dead >= 15 && ours.len() as u64 == dead,
        "{dead} of 60 were reset, {} reported: {ran}",
        ours.len()
    );
    for end in ours {
        assert_eq!((&end["by"], &end["outcome"]), (&"lastack".into(), &"reset".into()), "{end}");
        let (note, hint) = (end["note"].as_str().unwrap(), end["hint"].as_str().unwrap());
        assert!(note.contains("limit of 64 descriptors") && hint.contains("ulimit -n"), "{end}");
    }
    let warned = ran["report"].to_string();
    assert!(warned.contains("to stay within the limit of 64 descriptors"), "{warned}");
    // Both ends see a reset, not the end of the data.
    let reset =
        ran["ends"].as_array().unwrap().iter().filter(|end| *end == "Connection reset by peer").count();
    assert!(reset as u64 >= dead, "{ran}");
    assert!(ran["cpu"].as_f64().unwrap() < 5.0, "nothing spins: {ran}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn connections_in_use_stay_and_others_wait_their_turn() {
    require_all();
    // More at once than there are descriptors; each is in use, and ends by itself. On a busy machine the program may leave one
    // idle for a second: that one may be closed.
    let inside = r#"
import os, socket, sys, threading, time
for child in range(5):
    if os.fork() == 0:
        good = []
        def use():
            for i in range(12):
                c = socket.create_connection(("10.0.2.2", int(sys.argv[1])), 100); c.sendall(b"x"); time.sleep(0.02)
                try: good.append(c.recv(1) == b"x"); c.close()
                except ConnectionResetError: pass
        users = [threading.Thread(target=use) for i in range(10)]
        for user in users: user.start()
        for user in users: user.join()
        good = sum(good)
        os.write(1, b"%d\n" % good)
        os._exit(0)
for child in range(5): os.wait()
"#;
    let ran = play(64, inside);
    let good: u64 =
        ran["out"].as_array().unwrap().iter().filter_map(|n| n.as_str()?.parse::<u64>().ok()).sum();
    let closed = ours(&ran);
    assert!(good <= 600 && good + closed.len() as u64 >= 600 && good > 300, "{good} of 600 are good: {ran}");
    for end in closed {
        let note = end["note"].as_str().unwrap_or_default();
        assert!(note.starts_with("closed after ") && !note.starts_with("closed after 0"), "{end}");
    }
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn datagrams_of_many_sockets_need_no_more() {
    require_all();
    let inside = r#"
import socket, sys
kept = []
tcp = socket.create_connection(("10.0.2.2", int(sys.argv[1])), 30)
for i in range(200):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b"x", ("10.0.2.2", 9)); s.close()
tcp.sendall(b"still here"); print(tcp.recv(100).decode())
"#;
    let ran = play(64, inside);
    assert_eq!(ran["out"][0], "still here", "{ran}");
    assert_eq!(ours(&ran).len(), 0, "{ran}");
}
