//! `lastack explain` as a program: what it prints, what it writes, and its exit status.

use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn capture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../explain/tests/captures").join(name)
}

fn explain(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lastack")).arg("explain").args(arguments).output().unwrap()
}

fn name(name: &str) -> String {
    capture(name).display().to_string()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn records(output: &Output) -> Vec<Value> {
    out(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_list_begins_with_the_worst_and_folds_the_benign() {
    let output = explain(&[&name("web.client.pcap")]);
    let text = out(&output);
    assert!(output.status.success());
    assert!(text.starts_with("7 of 11 connections ended badly"), "{text}");
    assert!(
        text.contains("benign: ") && text.contains("1 close-notify-race") && !text.contains(":7443"),
        "{text}"
    );
    let all = out(&explain(&["--all", &name("web.client.pcap")]));
    assert!(all.contains(":7443") && all.contains("orderly by the client"), "{all}");
}

#[test]
fn one_connection_is_shown_in_full() {
    let file = name("web.client.pcap");
    for which in
        ["frame:26", "10.77.1.2:40542 > 10.77.2.2:7103", "10.77.1.2:40542", "1:GbjTM1axG5ISEB992+3sEdeXsdk="]
    {
        let text = out(&explain(&["--conn", which, &file]));
        for part in [
            "close-unread by the server",
            "Evidence",
            "Alternatives",
            "What to do",
            "Not visible",
            "RST: decision",
        ] {
            assert!(text.contains(part), "{which}: no {part} in\n{text}");
        }
    }
    let output = explain(&["--conn", "nonsense", &file]);
    assert!(
        !output.status.success() && complaint(&output).contains("no connection matches"),
        "{}",
        complaint(&output)
    );
}

/// The fields of a connection's record.
const FIELDS: &str = "v type proto id client server roles started ended octets idle frames cause code confidence ended_by ended_by_confidence severity alternatives also evidence rst_frames icmp declared lost rules advice limits tunnel kernel path";

#[test]
fn json_has_every_field_of_the_schema() {
    let output = explain(&["--json", "--all", &name("firewall.client.pcap"), &name("backlog.server.pcap")]);
    let records = records(&output);
    let of = |kind: &str| records.iter().filter(|record| record["type"] == kind).collect::<Vec<_>>();
    assert_eq!(of("connection").len(), 11);
    for record in of("connection") {
        for field in FIELDS.split(' ') {
            assert!(record.get(field).is_some(), "no {field} in {record}");
        }
        assert!(
            record["frames"]["first"].as_str().unwrap().contains(".pcap:"),
            "a frame of several files names its file"
        );
        assert!(record["started"].as_str().unwrap().ends_with('Z'));
    }
    assert_eq!(of("icmp")[0]["proto"], "udp");
    assert_eq!(of("file").len(), 2);
    assert!(
        of("group").iter().all(
            |group| group["count"].as_u64().unwrap() >= 2 && !group["ids"].as_array().unwrap().is_empty()
        )
    );
    let summary = records.last().unwrap();
    assert_eq!(
        (&summary["type"], &summary["rst_frames"]),
        (&Value::from("summary"), &summary["rst_explained"])
    );
    assert_eq!(
        output.stdout,
        explain(&["--json", "--all", &name("firewall.client.pcap"), &name("backlog.server.pcap")]).stdout
    );
}

#[test]
fn without_all_json_leaves_out_orderly_ends() {
    let records = records(&explain(&["--json", &name("web.client.pcap")]));
    assert!(records.iter().all(|record| record["cause"] != "orderly"));
    assert_eq!(records.last().unwrap()["connections"], 11);
}

#[test]
fn bad_input_gets_a_message_and_a_status() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let whole = fs::read(capture("web.client.pcap")).unwrap();
    let (empty, text) = (path("empty", b""), path("text", b"this is no capture"));
    let cut = path("cut.pcap", &whole[..3001]);
    for (file, status, words) in [
        (empty.as_str(), 3, "empty"),
        (&text, 3, "not a packet capture"),
        ("/nowhere/at/all", 3, "No such file"),
        (directory.path().to_str().unwrap(), 3, "directory"),
        (&cut, 4, "ends within packet"),
    ] {
        let output = explain(&[file]);
        assert_eq!(output.status.code(), Some(status), "{file}: {}", complaint(&output));
        assert!(complaint(&output).contains(words), "{file}: {}", complaint(&output));
    }
    assert!(out(&explain(&[&cut])).contains("refused by the server"), "what could be read is explained");
    let output = explain(&[&text, &name("web.client.pcap")]);
    assert_eq!(output.status.code(), Some(4));
    assert!(out(&output).contains("7 of 11"));
    let unknown = path("link.pcap", &[&whole[..20], &[0x93, 0, 0, 0], &whole[24..]].concat());
    let said = explain(&[&unknown]);
    assert!(complaint(&said).contains("link type 147 is not known"));
    assert_eq!(said.status.code(), Some(3));
    let said = explain(&[&unknown, &path("whole.pcap", &whole)]);
    assert_eq!(said.status.code(), Some(4), "{}", complaint(&said));
    let output = explain(&["--fail-on", "nonsense", &cut]);
    assert_eq!(output.status.code(), Some(2));
    assert!(complaint(&output).contains("Causes: orderly, refused, "), "{}", complaint(&output));
    assert_eq!(explain(&["-", "-w", "x.pcapng"]).status.code(), Some(2));
    assert_eq!(explain(&[]).status.code(), Some(2));
}

#[test]
fn the_exit_status_tells_of_findings() {
    let file = name("web.client.pcap");
    let status = |arguments: &[&str]| explain(&[arguments, &[&file]].concat()).status.code();
    assert_eq!(status(&["-q", "--fail-on", "harmful"]), Some(1));
    assert_eq!(status(&["-q", "--fail-on", "refused"]), Some(1));
    assert_eq!(status(&["-q", "--fail-on", "refused:0.9"]), Some(0));
    assert_eq!(status(&["-q", "--fail-on", "injected,firewall-reject"]), Some(0));
    assert!(explain(&["-q", &file]).stdout.is_empty());
    let directory = tempfile::tempdir().unwrap();
    let old = directory.path().join("old.json");
    fs::write(&old, explain(&["--json", &file]).stdout).unwrap();
    let old = old.display().to_string();
    assert_eq!(status(&["-q", "--fail-on", "suspicious", "--baseline", &old]), Some(0));
    let other = explain(&["--json", "--baseline", &old, &name("inject.client.pcap")]);
    assert!(records(&other).iter().any(|record| record["cause"] == "injected"));
}

#[test]
fn a_baseline_leaves_what_is_new() {
    let file = name("web.client.pcap");
    let all = out(&explain(&["--json", &file]));
    let directory = tempfile::tempdir().unwrap();
    let compared = |lines: usize| {
        let old = directory.path().join("old.json");
        fs::write(&old, all.lines().take(lines).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        let old = old.display().to_string();
        (out(&explain(&["--baseline", &old, &file])), out(&explain(&["--json", "--baseline", &old, &file])))
    };
    let (whole, _) = compared(usize::MAX);
    assert!(
        whole.starts_with("Nothing new: of 11 connections, 7 ended badly, and the baseline has all of them."),
        "{whole}"
    );
    let (part, json) = compared(3);
    assert!(part.starts_with("4 of 11 connections ended badly and are not in the baseline: "), "{part}");
    assert!(part.contains(" 3 more are in the baseline."), "{part}");
    assert!(
        !json.contains("\"type\":\"group\",\"cause\":\"close-unread\""),
        "one of the two is known: {json}"
    );
}

#[test]
fn words_follow_the_confidence() {
    let sentence = |which: &str| {
        let shown = out(&explain(&["--conn", which, &name("web.client.pcap")]));
        shown.lines().find(|line| line.starts_with("The cause")).unwrap().to_owned()
    };
    let cause = |which: &str, start: &str| assert!(sentence(which).starts_with(start), "{}", sentence(which));
    cause("frame:46", "The cause is data-after-close by the server (C07, ");
    cause("frame:26", "The cause is very likely close-unread by the server (C06, harmful, confidence 0.75).");
    cause(
        "frame:12",
        "The cause is either refused by the server (C01, harmful, confidence 0.60) or firewall-reject (C02, 0.30).",
    );
    let list = out(&explain(&[&name("web.client.pcap")]));
    assert!(
        list.contains("refused by the server  confidence 0.60, or firewall-reject 0.30  after "),
        "{list}"
    );
}

#[test]
fn the_same_packets_of_two_captures_are_one() {
    let text = out(&explain(&[&name("web.client.pcap"), &name("web.server.pcap")]));
    assert!(text.starts_with("7 of 11 connections ended badly"), "{text}");
    assert!(text.contains(" 4 harmless resets folded."), "{text}");
    assert!(text.contains("web.client.pcap: near the client; "), "{text}");
}

#[test]
fn standard_input_and_compressed_files_are_read() {
    let whole = fs::read(capture("web.client.pcap")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lastack"))
        .args(["explain", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&whole).unwrap();
    assert!(out(&child.wait_with_output().unwrap()).contains("7 of 11"));
}

#[test]
fn written_packets_have_comments_and_are_explained_alike() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.pcapng").display().to_string();
    assert!(explain(&["-w", &path, &name("web.client.pcap")]).status.success());
    let bytes = fs::read(&path).unwrap();
    assert!(bytes.windows(12).any(|window| window == b"close-unread"));
    let again = records(&explain(&["--json", &path]));
    let causes: Vec<_> = again.iter().filter_map(|record| record["cause"].as_str()).collect();
    assert!(causes.contains(&"close-unread") && !causes.contains(&"reset-for-fin"), "{causes:?}");
    let hidden = directory.path().join("hidden.pcapng").display().to_string();
    assert!(explain(&["-w", &hidden, "--anonymize", &name("web.client.pcap")]).status.success());
    let bytes = fs::read(&hidden).unwrap();
    let address = [10, 77, 1, 2];
    assert!(
        !bytes.windows(4).any(|window| window == address)
            && !bytes.windows(4).any(|window| window == b"HTTP")
    );
}

#[test]
fn anonymous_and_redacted_output_hides_what_it_should() {
    let text = out(&explain(&["--json", "--all", "--anonymize", "--redact", &name("web.client.pcap")]));
    assert!(!text.contains("10.77.") && !text.contains("403 Forbidden"), "{text}");
    let text = out(&explain(&["--all", "--anonymize", &name("firewall.client.pcap")]));
    assert!(!text.contains("10.77."), "{text}");
}

#[test]
fn the_kernels_reason_decides() {
    let truth: Value = serde_json::from_str(&fs::read_to_string(capture("TRUTH.json")).unwrap()).unwrap();
    let connections = truth["web.client.pcap"]["connections"].as_array().unwrap();
    let lines = connections.iter().flat_map(|one| one["kernel"].as_array().into_iter().flatten());
    let text: Vec<_> = lines.map(|line| format!("  x-1 [0] ..s1. 1.0: {}", line.as_str().unwrap())).collect();
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    fs::write(&trace, text.join("\n")).unwrap();
    let trace = trace.display().to_string();
    let records = records(&explain(&["--json", "--all", "--kernel-trace", &trace, &name("web.client.pcap")]));
    for one in connections.iter().filter(|one| one["kernel"].is_array()) {
        let record = records.iter().find(|record| record["client"] == one["client"]).unwrap();
        assert_eq!(record["cause"], one["cause"], "{record}");
        assert!(
            record["confidence"].as_f64().unwrap() > 0.9 && !record["kernel"].as_array().unwrap().is_empty()
        );
    }
    fs::write(directory.path().join("none"), "nothing").unwrap();
    let output = explain(&[
        "--kernel-trace",
        directory.path().join("none").to_str().unwrap(),
        &name("web.client.pcap"),
    ]);
    assert!(complaint(&output).contains("no tcp_send_reset events"));
}

#[test]
fn markdown_is_a_table() {
    let text = out(&explain(&["--md", &name("web.client.pcap")]));
    assert!(text.starts_with("# ") && text.contains("| close-unread by the server |"), "{text}");
}

#[test]
fn a_number_of_the_list_selects_in_every_form_of_output() {
    let file = name("web.client.pcap");
    let text = out(&explain(&[&file]));
    let line = text.lines().find(|line| line.trim_start().starts_with("4 ")).unwrap();
    let output = explain(&["--json", "--conn", "4", &file]);
    let of_connections: Vec<Value> =
        records(&output).into_iter().filter(|record| record["type"] == "connection").collect();
    assert_eq!(of_connections.len(), 1, "{output:?}");
    let client = of_connections[0]["client"].as_str().unwrap();
    assert!(line.contains(client), "{line}: {client}");
    let place = tempfile::tempdir().unwrap();
    let written = place.path().join("one.pcapng").display().to_string();
    assert!(explain(&["--conn", "4", "-w", &written, &file]).status.success());
    let again = records(&explain(&["--json", "--all", &written]));
    let clients: Vec<&Value> = again
        .iter()
        .filter(|record| record["type"] == "connection")
        .map(|record| &record["client"])
        .collect();
    assert_eq!(clients, [client]);
    for format in [&["--json"][..], &[]] {
        let none = explain(&[format, &["--conn", "99", &file]].concat());
        assert_eq!(none.status.code(), Some(3), "{none:?}");
        assert!(complaint(&none).contains("no connection matches --conn 99"), "{none:?}");
    }
}

#[test]
fn no_output_replaces_an_input_or_another_output() {
    let place = tempfile::tempdir().unwrap();
    let at = |file: &str| place.path().join(file).display().to_string();
    let before = fs::read(capture("web.client.pcap")).unwrap();
    fs::write(at("in.pcap"), &before).unwrap();
    std::os::unix::fs::symlink(at("in.pcap"), at("link")).unwrap();
    let dotted = format!("{}/./in.pcap", place.path().display());
    fs::write(at("base.json"), explain(&["--json", &at("in.pcap")]).stdout).unwrap();
    for options in [
        &["--html", &dotted][..],
        &["-w", &dotted],
        &["--html", &at("link")],
        &["--baseline", &at("base.json"), "--html", &at("base.json")],
        &["-w", &at("out"), "--html", &at("out")],
    ] {
        let output = explain(&[options, &[&at("in.pcap")]].concat());
        assert_eq!(output.status.code(), Some(2), "{options:?}: {output:?}");
        assert_eq!(fs::read(at("in.pcap")).unwrap(), before, "{options:?}");
    }
    assert!(!Path::new(&at("out")).exists());
}
