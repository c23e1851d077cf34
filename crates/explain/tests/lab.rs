//! The captures of `captures/lab`: more kinds of ends between two Linux hosts behind two routers, seen from both ends.
//!
//! The truth is what was done, and the kernel's own reasons. A cause counts as right if it is the truth, or one that cannot be
//! told from it at one place and the truth is among the alternatives. `hidden` marks what no capture there can show.

use lastack_explain::read::{Capture, Merge};
use lastack_explain::record::Writer;
use lastack_explain::{Explainer, Options};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Causes that one capture cannot tell apart.
const GROUPS: &[&[&str]] = &[
    &["C01", "C02"],
    &["C05", "C10", "C24"],
    &["C06", "C04"],
    &["C08", "C09", "C11"],
    &["C12", "C14"],
    &["C03", "C12"],
    &["C19", "C05"],
    &["C22", "C23", "C24a", "C28"],
    &["C25", "C05"],
    &["C07", "C24"],
    &["C26", "C06"],
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures/lab")
}

fn records(path: &Path) -> Vec<Value> {
    let mut input = Merge::new(vec![Capture::open(path, 0).unwrap()]);
    let mut explainer = Explainer::new(Options { all: true, ..Options::default() });
    while let Some(packet) = input.next_packet() {
        explainer.packet(&packet);
    }
    explainer.finish();
    let writer = Writer { digits: 6, ..Writer::default() };
    let ready: Vec<_> = explainer.ready().collect();
    ready.iter().map(|explained| serde_json::to_value(writer.connection(explained, &[])).unwrap()).collect()
}

fn codes(list: &Value, most: usize) -> Vec<&str> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    list.iter().take(most).map(|item| item["code"].as_str().unwrap()).collect()
}

fn is_right(record: &Value, truth: &Value) -> bool {
    let (said, code) = (record["code"].as_str().unwrap(), truth["code"].as_str().unwrap());
    let group = GROUPS.iter().any(|group| group.contains(&said) && group.contains(&code));
    let named =
        codes(&record["alternatives"], 3).contains(&code) || codes(&record["also"], 2).contains(&code);
    said == code || (group && named)
}

/// The record of a connection: that which has its first reset, where a tuple has several lives.
fn find<'a>(records: &'a [Value], truth: &Value) -> Option<&'a Value> {
    let first = truth["rst_frames"].get(0);
    let same = |record: &&Value| record["client"] == truth["client"] && record["server"] == truth["server"];
    let has = |record: &&Value| {
        first.is_none_or(|first| {
            record["rst_frames"].as_array().unwrap().iter().any(|reset| &reset["frame"] == first)
        })
    };
    let first = records.iter().filter(same).find(has);
    first.or_else(|| records.iter().find(same))
}

#[test]
fn most_causes_are_right_and_nobody_is_accused_wrongly() {
    let truth: Value =
        serde_json::from_str(&std::fs::read_to_string(directory().join("TRUTH.json")).unwrap()).unwrap();
    let (mut looked, mut right, mut who, mut brier) = (0, 0, 0, 0.0);
    let mut wrong = Vec::new();
    for (file, facts) in truth.as_object().unwrap() {
        let records = records(&directory().join(file));
        for truth in facts["connections"].as_array().unwrap() {
            let Some(record) = find(&records, truth) else {
                assert_eq!(truth["hidden"], true, "{file}: nothing of {truth}");
                continue;
            };
            let forged = truth["cause"] == "injected";
            assert!(forged || record["cause"] != "injected", "{file}: a false accusation: {record}");
            if truth["hidden"] == true {
                continue;
            }
            looked += 1;
            let good = is_right(record, truth);
            right += usize::from(good);
            who += usize::from(record["ended_by"] == truth["ended_by"]);
            brier += (record["confidence"].as_f64().unwrap() - f64::from(u8::from(good))).powi(2);
            if !good {
                wrong.push(format!(
                    "{file} {}: {}, not {} ({})",
                    truth["client"], record["cause"], truth["cause"], truth["what"]
                ));
            }
        }
    }
    assert!(looked > 100, "{looked}");
    let share = |n: usize| n as f64 / f64::from(looked);
    assert!(share(right) >= 0.97, "{right} of {looked} right:\n{}", wrong.join("\n"));
    assert!(share(who) >= 0.95, "who: {who} of {looked}");
    let brier = brier / f64::from(looked);
    assert!(brier < 0.1, "Brier score {brier:.3}");
    println!("{right} of {looked} causes right, {who} times the right party, Brier score {brier:.3}");
}
