//! Each way in which a connection can end, as root and as a user without privileges: cause, who ended it, process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::scene::{HERE, Part, SILENT, Scene, THERE, User, Watch, require_root};

fn pause(milliseconds: u64) {
    sleep(Duration::from_millis(milliseconds));
}

/// Sessions come one after the other: without tracepoints what is reported depends on how soon sources are read.
static ALONE: Mutex<()> = Mutex::new(());

fn is_of_port(record: &Value, port: u16) -> bool {
    record["server"].as_str().unwrap_or_default().ends_with(&format!(":{port}"))
}

/// All that happened in a session, for the questions of the tests.
struct Session {
    records: Vec<Value>,
    summary: Value,
}

impl Session {
    fn all(&self, port: u16) -> Vec<&Value> {
        self.records.iter().filter(|record| is_of_port(record, port)).collect()
    }

    /// The only record of the connection to this port.
    fn one(&self, port: u16) -> &Value {
        let all = self.all(port);
        assert_eq!(all.len(), 1, "port {port}: {:#?}\nall: {:#?}", all, self.records);
        all[0]
    }

    /// Asserts cause and who ended it, of the only record of this port.
    fn assert_verdict(&self, port: u16, cause: &str, ended_by: &str) {
        let record = self.one(port);
        let found = (record["cause"].as_str().unwrap(), record["ended_by"].as_str().unwrap());
        assert_eq!(found, (cause, ended_by), "{record:#}\n{:#}", self.summary);
    }

    /// Asserts that the process is the one that owned the connection.
    fn owned_by(&self, port: u16, pid: u32) {
        let record = self.one(port);
        assert_eq!(record["process"]["pid"], pid, "{record:#?}");
        assert_eq!(record["process"]["comm"], "shop-cli", "{record:#?}");
    }
}

/// The owners, by the server's port of their connections.
type Pids = HashMap<u16, u32>;

/// The peer's programs.
fn servers(scene: &Scene) -> Vec<Part> {
    let servers = [
        ("waits", THERE, 8102),
        ("answers", THERE, 8103),
        ("answers", THERE, 8104),
        ("waits", SILENT, 8105),
        ("waits", SILENT, 8106),
        ("resets", THERE, 8107),
        ("late", THERE, 8108),
        ("waits", THERE, 8110),
        ("answers", THERE, 8111),
        ("waits", THERE, 8112),
    ];
    let play = |(what, address, port)| scene.play_there(&format!("peer server-{what} {address}:{port}"));
    servers.into_iter().map(play).collect()
}

/// Plays all rows under one watch.
fn play(scene: &Scene) -> (Session, Pids, Vec<String>) {
    let at = |address: &str, port: u16| format!("{address}:{port}");
    let mut watch: Watch = scene.watch(&[]);
    let sources: Vec<String> = ["packets", "tracepoints", "sockets", "destroyed"]
        .into_iter()
        .filter(|source| watch.has(source))
        .map(str::to_owned)
        .collect();
    let servers = servers(scene);
    let listener = scene.play_here(&format!("shop-cli server-closes {}", at(HERE, 9202)));
    let waiting: Vec<Part> =
        (0..2).map(|_| scene.play_there(&format!("peer client-mute {}", at(HERE, 9202)))).collect();

    let mut pids = Pids::from([(9202, listener.pid())]);
    let mut client = |what: &str, address: &str, port: u16| {
        let part = scene.play_here(&format!("shop-cli client-{what} {}", at(address, port)));
        pids.insert(port, part.pid());
        part
    };
    let silenced = [client("keepalive", SILENT, 8105), client("timeout", SILENT, 8106)];
    pause(500);
    scene.fall_silent();
    let refused = client("refused", THERE, 8101);
    let refusing = scene.play_there(&format!("peer client-refused {}", at(HERE, 8199)));
    // One after the other: without tracepoints the counters tell causes of single ends only.
    for (what, port) in [
        ("linger0", 8102),
        ("unread", 8103),
        ("killed", 8104),
        ("waits", 8107),
        ("closes", 8108),
        ("killed", 8112),
    ] {
        client(what, THERE, port).end();
        watch.await_records(&format!("port {port}"), 1, |record| is_of_port(record, port));
    }
    let administrator = client("waits", THERE, 8110);
    pause(500);
    scene.as_root("ss -K dport = 8110 >/dev/null");
    administrator.end();
    pause(500);
    let orderly = client("reads", THERE, 8111);
    for part in silenced.into_iter().chain([refused, refusing, orderly, listener]) {
        part.end();
    }
    let traced = watch.has("tracepoints");
    // Without tracepoints the port of a refused connection is not known, and data after a close is not seen.
    let ports = [8101, 8199].into_iter().filter(|_| traced);
    for port in ports.chain([8105, 8106, 8110, 8111]) {
        watch.await_records(&format!("port {port}"), 1, |record| is_of_port(record, port));
    }
    watch.await_records("the listener's end", 2, |record| is_of_port(record, 9202));
    let last = if traced { "data-after-close" } else { "refused" };
    watch.await_records(last, 1, |record| record["cause"] == last);
    drop((servers, waiting));
    let (records, summary) = watch.end();
    (Session { records, summary }, pids, sources)
}

/// The signal that killed the process. In a network namespace it is known only of processes that are looked up while they
/// are alive: none, if the watch did not run for a second.
fn signal(record: &Value) -> Option<i64> {
    let signal = record["process"]["killed_by"].as_i64();
    assert!(signal.is_none_or(|signal| signal == 9), "{record:#}");
    signal
}

/// What both users are told.
fn check_common(session: &Session, pids: &Pids) {
    session.assert_verdict(8102, "abort", "client");
    session.owned_by(8102, pids[&8102]);
    session.assert_verdict(8103, "close-unread", "client");
    session.owned_by(8103, pids[&8103]);
    assert_eq!(session.one(8103)["lost"]["client"]["unread_max"], 2990);
    assert_eq!(session.one(8103)["detail"], "closed with 2990 bytes unread");
    assert!(session.one(8103)["confidence"].as_f64().unwrap() >= 0.9, "{:#?}", session.one(8103));
    session.assert_verdict(8104, "close-unread", "client");
    session.owned_by(8104, pids[&8104]);
    let detail = match signal(session.one(8104)) {
        Some(_) => "its process was killed by SIGKILL with 3000 bytes unread",
        None => "closed with 3000 bytes unread",
    };
    assert_eq!(session.one(8104)["detail"], detail);
    // Killed with nothing unread: the kernel closes as a program would.
    session.assert_verdict(8112, "orderly", "client");
    session.owned_by(8112, pids[&8112]);
    let expected = match signal(session.one(8112)) {
        Some(_) => ("its process was killed by SIGKILL", "suspicious"),
        None => ("", "benign"),
    };
    let record = session.one(8112);
    assert_eq!((&record["detail"], &record["severity"]), (&expected.0.into(), &expected.1.into()));
    session.assert_verdict(8105, "keepalive-timeout", "client");
    session.owned_by(8105, pids[&8105]);
    session.assert_verdict(8106, "delivery-timeout", "client");
    session.owned_by(8106, pids[&8106]);
    session.assert_verdict(8107, "abort", "server");
    session.owned_by(8107, pids[&8107]);
    session.assert_verdict(8110, "abort", "client");
    session.owned_by(8110, pids[&8110]);
    assert_eq!(session.one(8111)["cause"], "orderly");
    session.owned_by(8111, pids[&8111]);
    let closed = session.all(9202);
    assert_eq!(closed.len(), 2, "{closed:#?}");
    for record in closed {
        assert_eq!((&record["cause"], &record["ended_by"]), (&"listener-closed".into(), &"server".into()));
        assert_eq!(record["process"]["pid"], pids[&9202], "{record:#?}");
    }
    // How many depends on what else the machine does: `.ci/watch-load` measures it.
    let lost = session.summary["lost"].as_object().unwrap();
    assert!(lost.len() == 7 && lost.values().all(Value::is_u64), "{lost:?}");
}

#[test]
#[ignore = "needs root, ip, ss and setpriv"]
fn root_sees_every_end_with_the_reason_of_the_kernel() {
    require_root();
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let scene = Scene::new(User::Root);
    let (session, pids, sources) = play(&scene);
    assert!(sources.len() >= 4, "cannot run here: this kernel has only {sources:?}");
    check_common(&session, &pids);
    session.assert_verdict(8101, "refused", "server");
    session.owned_by(8101, pids[&8101]);
    // The kernel clears the counts of a socket that closes with linger 0; the numbers of its reset show them.
    assert_eq!(session.one(8102)["octets"], serde_json::json!({ "client": 1, "server": 0 }));
    session.assert_verdict(8199, "refused", "server");
    assert_eq!(session.one(8199)["process"], Value::Null, "nothing listens");
    let killed = session.one(8110)["detail"].as_str().unwrap();
    assert!(killed.starts_with("killed by ss (pid "), "{killed}");
    assert_eq!(session.one(8111)["ended_by"], "client");
    // Data after the close amends an end in order, if that was reported before the data came.
    let late = session.all(8108);
    let (last, before) = late.split_last().unwrap();
    assert_eq!((&last["cause"], &last["ended_by"]), (&"data-after-close".into(), &"client".into()));
    assert_eq!(last["process"]["pid"], pids[&8108]);
    assert_eq!(last["amends"] == true, !before.is_empty(), "{late:#?}");
    for record in before {
        assert_eq!((&record["cause"], &record["ended_by"]), (&"orderly".into(), &"client".into()));
        assert_eq!(record["id"], last["id"]);
    }
    for port in [8101, 8102, 8103, 8104, 8105, 8106, 8107, 8110] {
        let record = session.one(port);
        assert_eq!(record["roles"], "syn");
        assert!(record["confidence"].as_f64().unwrap() >= 0.6, "{record:#?}");
        assert!(!record["kernel"].as_array().unwrap().is_empty(), "{record:#?}");
        // What the packets show, in the fields of `explain`.
        let frames = &record["frames"];
        assert!(frames["first"].as_u64() <= frames["last"].as_u64(), "{record:#?}");
        assert!(frames["first"].is_u64(), "{record:#?}");
    }
    for port in [8101, 8102, 8103] {
        let record = session.one(port);
        assert!(!record["frames"]["decisive"].as_array().unwrap().is_empty(), "{record:#?}");
        assert!(record["rst_frames"][0]["frame"].is_u64(), "{record:#?}");
    }
}

#[test]
#[ignore = "needs root, ip, ss and setpriv"]
fn an_unprivileged_user_sees_what_needs_no_privilege() {
    require_root();
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let scene = Scene::new(User::Nobody);
    let (session, pids, sources) = play(&scene);
    assert!(!sources.iter().any(|source| source == "packets" || source == "tracepoints"), "{sources:?}");
    check_common(&session, &pids);
    // Gone before it could be seen, and the port is cleared by then: the record says so and names nobody.
    let refused: Vec<&Value> = session.records.iter().filter(|record| record["cause"] == "refused").collect();
    assert_eq!(refused.len(), 1, "{refused:#?}");
    assert_eq!((&refused[0]["ended_by"], &refused[0]["server"]), (&"server".into(), &"10.78.0.2:0".into()));
    assert_eq!(refused[0]["process"], Value::Null);
    assert!(refused[0]["limits"].as_array().unwrap().len() >= 3, "{:#?}", refused[0]["limits"]);
    // The kernel clears the counts of a socket that closes with linger 0.
    assert_eq!(session.one(8102)["octets"], serde_json::json!({ "client": null, "server": null }));
    // Invisible but to the counter of resets.
    assert!(session.all(8199).is_empty());
    assert!(session.summary["resets_sent"].as_u64().unwrap() > 0);
    assert_eq!(session.one(8108)["cause"], "orderly");
}
