//! What happened how often: the counters of the engine beside those of /proc/net.

use std::{collections::BTreeMap, fs};

use lastack_engine::{Counters, NSTAT};

pub type Counts = BTreeMap<String, u64>;

/// What is compared, in this order: counters of TCP, of which no other traffic of a namespace makes any.
fn compared() -> impl Iterator<Item = &'static str> {
    NSTAT.iter().map(|counter| counter.name).filter(|name| name.starts_with("Tcp"))
}

pub fn ours(counters: &Counters) -> Counts {
    NSTAT.iter().map(|counter| (counter.name.to_owned(), (counter.value)(counters))).collect()
}

/// Those of the namespace of this thread.
pub fn of_linux() -> Counts {
    let mut counts = Counts::new();
    for file in ["snmp", "netstat"] {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        // Lines come in pairs, of names and of numbers.
        for pair in lines.chunks_exact(2) {
            let [names, numbers] = [pair[0], pair[1]].map(str::split_whitespace);
            let group = pair[0].split(':').next().unwrap_or_default();
            for (name, number) in names.zip(numbers).skip(1) {
                counts.insert(format!("{group}{name}"), number.parse().unwrap_or_default());
            }
        }
    }
    counts
}

/// Those that are compared and not zero.
pub fn show(counts: &Counts) -> String {
    let shown = compared().filter_map(|name| Some((name, counts.get(name).filter(|count| **count > 0)?)));
    shown.map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>().join(" ")
}

/// Linux has all that are compared.
#[test]
fn linux_has_the_names() {
    let known = of_linux();
    let unknown: Vec<&str> =
        NSTAT.iter().map(|counter| counter.name).filter(|name| !known.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
