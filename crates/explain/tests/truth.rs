//! The captures of `captures/` against what is known of them: what was done, and the kernel's own reasons.

use lastack_causes::Cause;
use lastack_explain::read::{Capture, Merge};
use lastack_explain::record::Writer;
use lastack_explain::{Explainer, Options};
use serde_json::Value;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures")
}

/// The records of a capture, as values.
fn records(path: &Path) -> Vec<Value> {
    let mut input = Merge::new(vec![Capture::open(path, 0).unwrap()]);
    let mut explainer = Explainer::new(Options { all: true, ..Options::default() });
    while let Some(packet) = input.next_packet() {
        explainer.packet(&packet);
    }
    explainer.finish();
    let writer = Writer { digits: 6, ..Writer::default() };
    let mut records: Vec<Value> = Vec::new();
    let ready: Vec<_> = explainer.ready().collect();
    records.extend(
        ready.iter().map(|explained| serde_json::to_value(writer.connection(explained, &[])).unwrap()),
    );
    records
        .extend(explainer.icmp_errors().map(|error| serde_json::to_value(writer.icmp_error(error)).unwrap()));
    records.push(serde_json::to_value(writer.summary(explainer.summary(), Vec::new())).unwrap());
    records
}

fn truth() -> Value {
    serde_json::from_str(&std::fs::read_to_string(directory().join("TRUTH.json")).unwrap()).unwrap()
}

fn resets(record: &Value) -> Vec<u64> {
    let list = record["rst_frames"].as_array().map_or(&[][..], Vec::as_slice);
    list.iter().map(|reset| reset["frame"].as_u64().unwrap()).collect()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(|item| item["cause"].as_str().unwrap())
        .collect()
}

/// The record that a truth is about: of the same ends, with most of its resets.
fn find<'a>(records: &'a [Value], truth: &Value) -> Option<&'a Value> {
    let wanted: HashSet<u64> = truth["rst_frames"].as_array()?.iter().filter_map(Value::as_u64).collect();
    let same = |record: &&Value| record["client"] == truth["client"] && record["server"] == truth["server"];
    records.iter().filter(same).max_by_key(|record| {
        let there: HashSet<u64> = resets(record).into_iter().collect();
        (there.intersection(&wanted).count(), std::cmp::Reverse(there.difference(&wanted).count()))
    })
}

#[test]
fn every_connection_has_its_true_cause() {
    let mut wrong = Vec::new();
    let mut looked = 0;
    for (file, facts) in truth().as_object().unwrap() {
        let records = records(&directory().join(file));
        for truth in facts["connections"].as_array().unwrap() {
            // What only the other vantage can know, or see.
            if facts["vantage"] == "server" && truth["server_view"].is_string() {
                continue;
            }
            looked += 1;
            let label = format!("{file} {} > {}", truth["client"], truth["server"]);
            let Some(record) = find(&records, truth) else {
                wrong.push(format!("{label}: no record"));
                continue;
            };
            for field in ["cause", "code", "ended_by"] {
                if record[field] != truth[field] {
                    wrong.push(format!("{label}: {field} {} is not {}", record[field], truth[field]));
                }
            }
            let also = names(&record["also"]);
            for expected in truth["also"].as_array().into_iter().flatten() {
                if !also.contains(&expected.as_str().unwrap()) {
                    wrong.push(format!("{label}: {expected} is not in {also:?}"));
                }
            }
            let wanted: Vec<u64> =
                truth["rst_frames"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
            if !wanted.is_empty() && resets(record) != wanted {
                wrong.push(format!("{label}: resets {:?} are not {wanted:?}", resets(record)));
            }
            let stated = truth["declared"].is_string();
            if stated && record["declared"].as_array().is_none_or(Vec::is_empty) {
                wrong.push(format!("{label}: {} is not declared", truth["declared"]));
            }
        }
    }
    assert!(looked > 80, "{looked}");
    assert!(wrong.is_empty(), "{} of {looked}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_reset_frame_is_in_exactly_one_verdict() {
    for file in truth().as_object().unwrap().keys() {
        let records = records(&directory().join(file));
        let frames: Vec<u64> = records.iter().flat_map(resets).collect();
        let different: HashSet<u64> = frames.iter().copied().collect();
        let summary = records.last().unwrap();
        assert_eq!(frames.len(), different.len(), "{file}: a frame twice");
        assert_eq!(frames.len() as u64, summary["rst_frames"].as_u64().unwrap(), "{file}");
        assert_eq!(summary["rst_frames"], summary["rst_explained"], "{file}");
    }
}

#[test]
fn confidences_are_bounded() {
    let group = |a: Cause, b: Cause| {
        let groups: &[&[&str]] =
            &[&["C01", "C02"], &["C05", "C10", "C24"], &["C08", "C09", "C11"], &["C12", "C14"]];
        groups.iter().any(|group| group.contains(&a.code()) && group.contains(&b.code()))
    };
    for file in truth().as_object().unwrap().keys() {
        for record in records(&directory().join(file)).iter().filter(|record| record["type"] == "connection")
        {
            let cause: Cause = record["cause"].as_str().unwrap().parse().unwrap();
            let confidence = record["confidence"].as_f64().unwrap();
            let others = record["alternatives"].as_array().unwrap();
            let sum: f64 = others.iter().map(|other| other["confidence"].as_f64().unwrap()).sum();
            assert!(confidence + sum <= 1.0 + 1e-9, "{file} {record}");
            assert!(confidence <= f64::from(cause.cap()) + 0.006, "{file} {record}");
            assert!(
                others.len() <= 3 && others.iter().all(|other| !other["settle"].as_str().unwrap().is_empty())
            );
            let fellow =
                others.iter().any(|other| group(cause, other["cause"].as_str().unwrap().parse().unwrap()));
            assert!(!fellow || confidence <= 0.6, "{file} {record}");
        }
    }
}

#[test]
fn the_same_capture_gives_the_same_bytes() {
    let path = directory().join("web.client.pcap");
    assert_eq!(records(&path), records(&path));
}
