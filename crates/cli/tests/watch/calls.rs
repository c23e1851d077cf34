//! A program that a user without privileges watches: its connections that are refused, and that it never waits for the
//! watch.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::scene::{Scene, User, require_root};

const LIMIT: Duration = Duration::from_secs(30);

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The records of the connections of a part. The watch needs seccomp for it: the test fails if that is missing.
fn records(scene: &Scene, part: &str) -> Vec<Value> {
    let output = scene.watch_part(&["--json"], part).output().unwrap();
    let lines: Vec<Value> =
        text(&output).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let sources =
        lines.iter().find(|line| line["type"] == "watch").and_then(|line| line["sources"].as_array());
    let calls = sources.into_iter().flatten().find(|source| source["source"] == "calls");
    assert_eq!(calls.map(|calls| &calls["open"]), Some(&Value::Bool(true)), "{output:?}");
    lines.into_iter().filter(|line| line["type"] == "connection").collect()
}

/// What was refused: the server's address. The process must be the part.
fn refused(record: &Value) -> &str {
    let verdict = (&record["cause"], &record["ended_by"], &record["process"]["comm"]);
    assert_eq!(verdict, (&"refused".into(), &"server".into(), &"shop-cli".into()), "{record:#?}");
    record["server"].as_str().unwrap()
}

#[test]
#[ignore = "needs root, ip, ss and setpriv"]
fn a_refused_connection_is_reported_with_its_process() {
    require_root();
    let scene = Scene::new(User::Nobody);
    for (part, expected) in [
        ("refused", &["127.0.0.1:9"][..]),
        // A program that does not close the socket.
        ("refused-kept", &["127.0.0.1:9"]),
        // A question how the attempt gets on is not another attempt.
        ("refused-asked", &["127.0.0.1:9"]),
        ("refused-twice", &["127.0.0.1:10", "127.0.0.1:9"]),
    ] {
        let records = records(&scene, &format!("shop-cli client-{part} 127.0.0.1:9"));
        let mut servers: Vec<&str> = records.iter().map(refused).collect();
        servers.sort_unstable();
        assert_eq!(servers, expected, "{part}: {records:#?}");
        for record in &records {
            assert!(record["confidence"].as_f64().unwrap() >= 0.8, "{record:#?}");
            assert!(record["started"].is_string() && record["roles"] == "syn", "{record:#?}");
        }
    }
    let v6 = records(&scene, "shop-cli client-refused [::1]:9");
    assert_eq!(v6.iter().map(refused).collect::<Vec<_>>(), ["[::1]:9"]);
    // Before a segment was sent: there is no connection.
    assert_eq!(records(&scene, "shop-cli client-unroutable 203.0.113.9:9"), Vec::<Value>::new());
}

#[test]
#[ignore = "needs root, ip, ss and setpriv"]
fn a_refused_connection_meets_the_condition_to_fail() {
    require_root();
    let scene = Scene::new(User::Nobody);
    let status = |options: &[&str]| {
        let output = scene.watch_part(options, "shop-cli client-refused 127.0.0.1:9").output().unwrap();
        (output.status.code().unwrap(), text(&output))
    };
    let (met, said) = status(&["--fail-on", "refused:0.8"]);
    assert!(met == 1 && said.contains("1 end met the condition of --fail-on"), "{met} {said}");
    let (other, said) = status(&["--fail-on", "close-unread"]);
    assert_eq!(other, 0, "{said}");
    let (unseen, said) = status(&["--fail-on", "refused", "--without", "calls"]);
    assert!(unseen == 0 && said.contains("of processes that are not known"), "{unseen} {said}");
}

fn await_file(path: &Path) -> String {
    let begun = Instant::now();
    loop {
        match fs::read_to_string(path) {
            Ok(content) if !content.is_empty() => return content,
            _ => assert!(begun.elapsed() < LIMIT, "{} does not appear", path.display()),
        }
        sleep(Duration::from_millis(20));
    }
}

/// Until no process is left in the namespace.
fn await_end(scene: &Scene) {
    let begun = Instant::now();
    while !scene.processes().is_empty() {
        assert!(begun.elapsed() < LIMIT, "left: {:?}", scene.processes());
        sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "needs root, ip, ss and setpriv"]
fn a_program_that_outlives_the_watch_connects_as_before() {
    require_root();
    let scene = Scene::new(User::Nobody);
    let result = scene.file_for_all("result");
    let later = scene.part_command("shop-cli client-later 127.0.0.1:9", &result);
    let output =
        scene.watch_command(&["-q"], &["sh", "-c", &format!("{later} >/dev/null 2>&1 &")]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(await_file(&result), "Connection refused (os error 111)");
    await_end(&scene);
}

#[test]
#[ignore = "needs root, ip, ss and setpriv"]
fn a_program_whose_watch_is_killed_connects_as_before() {
    require_root();
    let scene = Scene::new(User::Nobody);
    let result = scene.file_for_all("result");
    let later = scene.part_command("shop-cli client-later 127.0.0.1:9", &result);
    let mut command = scene.watch_command(&["-q"], &["sh", "-c", &format!("echo begun; exec {later}")]);
    let mut watch = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut first = [0];
    std::io::Read::read_exact(watch.stdout.as_mut().unwrap(), &mut first).unwrap();
    kill(Pid::from_raw(watch.id() as i32), Signal::SIGKILL).unwrap();
    watch.wait().unwrap();
    assert_eq!(await_file(&result), "Connection refused (os error 111)");
    await_end(&scene);
}
