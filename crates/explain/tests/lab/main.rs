//! The captures of `captures/lab`: more kinds of ends between two Linux hosts behind two routers, seen from both ends.
//!
//! The truth is what was done, and the kernel's own reasons. A cause counts as right if it is the truth, or one that cannot be
//! told from it at one place and the truth is among the alternatives. `hidden` marks what no capture there can show.

mod forms;

use forms::{Form, Packet};
use lastack_explain::read::{Capture, Merge, offsets};
use lastack_explain::record::Writer;
use lastack_explain::{Explainer, Options};
use serde_json::Value;
use std::io::Cursor;
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

/// The records of a capture of `tests/captures/lab` in another form.
fn records(path: &Path, form: Form) -> Vec<Value> {
    let packets: Vec<Packet> = form(forms::read(path));
    let mut explainer = Explainer::new(Options { all: true, ..Options::default() });
    for packet in &packets {
        explainer.packet(&packet.raw());
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

/// How often the verdicts on all captures are right.
#[derive(Default)]
struct Score {
    looked: u32,
    right: u32,
    who: u32,
    /// Wrong causes that were said with a confidence of 0.7 or more. That a direction is missing is never wrong.
    sure_and_wrong: u32,
    brier: f64,
    wrong: Vec<String>,
}

impl Score {
    fn share(&self, n: u32) -> f64 {
        f64::from(n) / f64::from(self.looked)
    }
}

/// Compares all verdicts with the truth. Nobody may be accused of an injection that was not made.
fn score(form: Form, whole: bool) -> Score {
    let truth: Value =
        serde_json::from_str(&std::fs::read_to_string(directory().join("TRUTH.json")).unwrap()).unwrap();
    let mut score = Score::default();
    for (file, facts) in truth.as_object().unwrap() {
        let records = records(&directory().join(file), form);
        for truth in facts["connections"].as_array().unwrap() {
            let Some(record) = find(&records, truth) else {
                let cut = truth["hidden"] == true || !whole;
                assert!(cut, "{file}: nothing of {truth}");
                continue;
            };
            let forged = truth["cause"] == "injected";
            assert!(forged || record["cause"] != "injected", "{file}: a false accusation: {record}");
            if truth["hidden"] == true {
                continue;
            }
            let good = is_right(record, truth);
            score.looked += 1;
            score.right += u32::from(good);
            score.who += u32::from(record["ended_by"] == truth["ended_by"]);
            let sure = record["confidence"].as_f64().unwrap() >= 0.7 && record["cause"] != "one-sided";
            score.sure_and_wrong += u32::from(!good && sure);
            score.brier += (record["confidence"].as_f64().unwrap() - f64::from(u8::from(good))).powi(2);
            if !good {
                score.wrong.push(format!(
                    "{file} {}: {}, not {} ({})",
                    truth["client"], record["cause"], truth["cause"], truth["what"]
                ));
            }
        }
    }
    score
}

#[test]
fn most_causes_are_right_and_no_party_is_accused_wrongly() {
    let score = score(|packets| packets, true);
    assert!(score.looked > 400, "{}", score.looked);
    assert!(score.share(score.right) >= 0.98, "{} right:\n{}", score.right, score.wrong.join("\n"));
    assert!(score.share(score.who) >= 0.98, "who: {} of {}", score.who, score.looked);
    let brier = score.brier / f64::from(score.looked);
    assert!(brier < 0.1, "Brier score {brier:.3}");
    println!(
        "{} of {} causes right, {} times the right party, Brier score {brier:.3}",
        score.right, score.looked, score.who
    );
}

#[test]
fn captures_in_other_forms_give_the_same_causes() {
    let forms: &[(&str, Form, f64)] = &[
        ("each packet twice", forms::twice, 0.98),
        ("packets that overtake each other", forms::swapped, 0.97),
        ("96 bytes of each packet", forms::cut_to_96, 0.96),
        ("68 bytes of each packet", forms::cut_to_68, 0.91),
        ("begun after the handshake", forms::without_beginning, 0.86),
    ];
    for &(name, form, least) in forms {
        let score = score(form, false);
        println!("{name}: {} of {} right, {} times the right party", score.right, score.looked, score.who);
        assert!(score.share(score.right) >= least, "{name}: {}\n{}", score.right, score.wrong.join("\n"));
    }
}

/// Half of a conversation does not tell every cause. What it does not tell must not be said as if it did.
#[test]
fn one_direction_is_judged_with_care() {
    let forms: &[(&str, Form, f64, f64)] = &[
        ("only the client's packets", forms::of_client, 0.27, 0.44),
        ("only the server's", forms::of_server, 0.44, 0.66),
    ];
    for &(name, form, causes, who) in forms {
        let score = score(form, false);
        let (right, parties, wrong) =
            (score.share(score.right), score.share(score.who), score.share(score.sure_and_wrong));
        println!("{name}: {right:.2} right, {parties:.2} the right party, {wrong:.2} sure and wrong");
        assert!(right >= causes && parties >= who, "{name}: {right:.2} right, {parties:.2} the right party");
        assert!(wrong <= 0.03, "{name}: {wrong:.2} sure and wrong");
    }
}

/// The records of a connection seen from both ends, of two captures that are merged, the server's in another form.
fn merged(client: &Path, server: &Path, form: Form) -> Vec<Value> {
    let bytes = forms::pcap(&form(forms::read(server)));
    let open = || {
        let server = Capture::from_reader(Box::new(Cursor::new(bytes.clone())), "server", 1).unwrap();
        vec![Capture::open(client, 0).unwrap(), server]
    };
    let mut input = Merge::with_offsets(open(), offsets(open()));
    let mut explainer = Explainer::new(Options { all: true, ..Options::default() });
    while let Some(packet) = input.next_packet() {
        explainer.packet(&packet);
    }
    explainer.finish();
    let writer = Writer { digits: 6, files: vec!["client".into(), "server".into()], ..Writer::default() };
    let ready: Vec<_> = explainer.ready().collect();
    ready.iter().map(|explained| serde_json::to_value(writer.connection(explained, &[])).unwrap()).collect()
}

/// What the comparison of two captures proves, as the records say.
fn proofs(records: &[Value]) -> Vec<String> {
    let of = |record: &Value| {
        let proof = record["evidence"].as_array().unwrap().iter().any(|one| one["kind"] == "vantage");
        proof.then(|| format!("{} {}", record["client"].as_str().unwrap(), record["cause"].as_str().unwrap()))
    };
    records.iter().filter_map(of).collect()
}

#[test]
fn captures_of_both_ends_together_give_the_same_causes() {
    judge_merged(|packets| packets);
}

/// A firewall between the two captures that chooses other sequence numbers hides nothing.
#[test]
fn other_sequence_numbers_behind_a_firewall_change_nothing() {
    judge_merged(forms::renumbered);
}

fn judge_merged(form: Form) {
    let truth: Value =
        serde_json::from_str(&std::fs::read_to_string(directory().join("TRUTH.json")).unwrap()).unwrap();
    let (mut looked, mut right, mut proved, mut wrong) = (0, 0, 0, Vec::new());
    for (file, facts) in truth.as_object().unwrap().iter().filter(|(file, _)| file.contains(".client.")) {
        let server = file.replace(".client.", ".server.");
        let records = merged(&directory().join(file), &directory().join(server), form);
        let frames: Vec<&str> = records
            .iter()
            .flat_map(|record| record["rst_frames"].as_array().unwrap())
            .map(|reset| reset["frame"].as_str().unwrap())
            .collect();
        let different: std::collections::HashSet<_> = frames.iter().collect();
        assert_eq!(frames.len(), different.len(), "{file}: a reset in two records");
        for truth in facts["connections"].as_array().unwrap().iter().filter(|truth| truth["hidden"] != true) {
            let same =
                |record: &&Value| record["client"] == truth["client"] && record["server"] == truth["server"];
            looked += 1;
            if records.iter().filter(same).any(|record| is_right(record, truth)) {
                right += 1;
            } else {
                let said: Vec<_> = records.iter().filter(same).map(|record| &record["cause"]).collect();
                wrong.push(format!("{file} {}: {said:?}, not {}", truth["client"], truth["cause"]));
            }
            for record in records.iter().filter(same) {
                let made =
                    matches!(record["cause"].as_str(), Some("injected" | "inline-reset" | "idle-reset"));
                let proof =
                    record["evidence"][0]["kind"] == "vantage" || record["evidence"][1]["kind"] == "vantage";
                assert!(
                    !(made && proof) || truth["ended_by"] == "path",
                    "{file}: a false accusation: {truth}"
                );
                assert!(record["cause"] != "injected" || truth["cause"] == "injected", "{file}: {truth}");
                proved += u32::from(made && proof);
            }
        }
    }
    let enough = f64::from(right) >= 0.98 * f64::from(looked);
    assert!(looked > 200 && enough, "{right} of {looked}:\n{}", wrong.join("\n"));
    assert!(proved >= 25, "{proved}");
}

#[test]
fn a_clock_that_is_ahead_changes_nothing() {
    for name in ["box", "m1", "sil"] {
        let file = |end: &str| directory().join(format!("{name}.{end}.pcap"));
        let (client, server) = (file("client"), file("server"));
        let late = Cursor::new(forms::pcap(&forms::ahead(forms::read(&server))));
        let late = Capture::from_reader(Box::new(late), "server", 1).unwrap();
        let found = offsets(vec![Capture::open(&client, 0).unwrap(), late])[1];
        assert!((found + 7_000_000_000).abs() < 100_000_000, "{name}: {found}");
        let expected = proofs(&merged(&client, &server, |packets| packets));
        assert!(!expected.is_empty(), "{name}");
        assert_eq!(proofs(&merged(&client, &server, forms::ahead)), expected, "{name}");
    }
}

#[test]
fn a_connection_behind_a_nat_is_one_connection() {
    let file = |end: &str| directory().join(format!("nat.{end}.pcap.gz"));
    let translated = |record: &&Value| record["translated"].is_object();
    // With other numbers, too, if there is a SYN; a name that changes later cannot be followed then.
    let records = merged(&file("client"), &file("server"), forms::renumbered);
    assert_eq!((records.iter().filter(translated).count(), records.len()), (5, 6), "{records:#?}");
    let records = merged(&file("client"), &file("server"), |packets| packets);
    assert_eq!(records.iter().filter(translated).count(), 5, "{records:#?}");
    assert_eq!(records.len(), 5);
    let renamed = records.iter().find(|record| record["cause"] == "state-expired").unwrap();
    assert_eq!(renamed["ended_by"], "path");
    assert!(renamed["evidence"][0]["text"].as_str().unwrap().contains("other ports"), "{renamed:#}");
}
