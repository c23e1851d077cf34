//! `docs/mechanisms.md`: where each mechanism is. A search for its usual name among the headers of the source files finds
//! the file, with few others, and the file names the RFC.

use std::fs;
use std::path::{Path, PathBuf};

/// A mechanism: its usual names, of which each is found in the header of the file; the RFC or `-`; the file below
/// `crates/`.
struct Row(&'static str, &'static [&'static str], &'static str, &'static str);

/// Max files whose header contains a name.
const MAX_FOUND: usize = 6;

const SEND: &[Row] = &[
    Row("Nagle algorithm", &["Nagle"], "9293", "engine/src/tcp/connection/plan.rs"),
    Row(
        "Sender's silly window avoidance",
        &["SWS", "silly window"],
        "9293",
        "engine/src/tcp/connection/plan.rs",
    ),
    Row(
        "Zero-window probe",
        &["zero-window probe", "persist"],
        "9293",
        "engine/src/tcp/connection/expire.rs",
    ),
    Row(
        "Retransmission timeout",
        &["retransmission timeout", "RTO", "RTT"],
        "6298",
        "engine/src/tcp/send/rtt.rs",
    ),
    Row(
        "RTT estimation",
        &["RTT estimation", "SRTT", "exponential backoff"],
        "6298",
        "engine/src/tcp/send/rtt.rs",
    ),
    Row("Minimum RTT", &["minimum RTT"], "-", "engine/src/tcp/send/min_rtt.rs"),
    Row("Karn's algorithm", &["Karn"], "6298", "engine/src/tcp/send/rtt.rs"),
    Row("Fast retransmit", &["fast retransmit", "NewReno"], "6582", "engine/src/tcp/send/recovery.rs"),
    Row("Limited transmit", &["limited transmit"], "3042", "engine/src/tcp/send/recovery.rs"),
    Row(
        "SACK scoreboard",
        &["SACK scoreboard", "retransmission queue"],
        "6675",
        "engine/src/tcp/send/scoreboard/mod.rs",
    ),
    Row("SACK reneging", &["reneging"], "2018", "engine/src/tcp/send/scoreboard/mod.rs"),
    Row("RACK", &["RACK", "reordering window"], "8985", "engine/src/tcp/send/rack.rs"),
    Row("Tail loss probe", &["tail loss probe", "TLP"], "8985", "engine/src/tcp/send/recovery.rs"),
    Row(
        "Proportional rate reduction",
        &["proportional rate reduction"],
        "6937",
        "engine/src/tcp/send/prr.rs",
    ),
    Row("Eifel detection", &["Eifel", "spurious"], "3522", "engine/src/tcp/send/recovery.rs"),
    Row("F-RTO", &["F-RTO"], "5682", "engine/src/tcp/send/recovery.rs"),
    Row("D-SACK", &["D-SACK"], "2883", "engine/src/tcp/send/recovery.rs"),
    Row(
        "Congestion window validation",
        &["congestion window validation"],
        "7661",
        "engine/src/tcp/send/recovery.rs",
    ),
    Row("CUBIC", &["CUBIC"], "9438", "engine/src/tcp/send/congestion/cubic.rs"),
    Row(
        "Slow start and congestion avoidance",
        &["Reno", "slow start and", "congestion avoidance"],
        "5681",
        "engine/src/tcp/send/congestion/reno.rs",
    ),
    Row(
        "Appropriate byte counting",
        &["appropriate byte counting", "ABC"],
        "3465",
        "engine/src/tcp/send/congestion/reno.rs",
    ),
    Row("HyStart++", &["HyStart"], "9406", "engine/src/tcp/send/congestion/hystart.rs"),
    Row("Initial window", &["initial window"], "6928", "engine/src/tcp/send/congestion/mod.rs"),
    Row(
        "Slow start after idle",
        &["slow start after idle"],
        "5681",
        "engine/src/tcp/connection/segmentize.rs",
    ),
    Row("Pacing", &["pacing"], "-", "engine/src/tcp/send/pacing.rs"),
    Row(
        "Explicit congestion notification",
        &["ECN", "explicit congestion notification"],
        "3168",
        "engine/src/tcp/send/ecn.rs",
    ),
    Row(
        "Packetization layer path MTU discovery",
        &["PLPMTUD", "packetization layer"],
        "4821",
        "engine/src/tcp/send/mtu_discovery.rs",
    ),
    Row("Segmentation offload", &["GSO", "TSO"], "-", "link/src/cut.rs"),
];

const RECEIVE: &[Row] = &[
    Row("Delayed ACK", &["delayed ACK", "quick ACK"], "9293", "engine/src/tcp/recv/ack_policy.rs"),
    Row("Receiver's silly window avoidance", &["window update"], "9293", "engine/src/tcp/connection/rcv.rs"),
    Row("SACK generation", &["SACK blocks"], "2018", "engine/src/tcp/connection/rcv.rs"),
    Row("Out-of-order queue", &["out-of-order"], "-", "engine/src/buffer/recv.rs"),
    Row("Receive buffer auto-tuning", &["auto-tuning"], "-", "engine/src/tcp/recv/autotune.rs"),
    Row("PAWS", &["PAWS"], "7323", "engine/src/tcp/connection/arrives.rs"),
    Row("Urgent data", &["urgent pointer", "URG"], "9293", "engine/src/tcp/connection/arrives.rs"),
    Row("Segment processing", &["SEGMENT ARRIVES"], "9293", "engine/src/tcp/connection/arrives.rs"),
    Row("Receive offload", &["GRO"], "-", "device/src/virtio.rs"),
];

const CONNECTION: &[Row] = &[
    Row(
        "Three-way handshake",
        &["three-way handshake", "SYN-SENT"],
        "9293",
        "engine/src/tcp/handshake/mod.rs",
    ),
    Row("Simultaneous open", &["simultaneous open"], "9293", "engine/src/tcp/handshake/arrives.rs"),
    Row("Window scaling", &["window scaling"], "7323", "engine/src/tcp/handshake/negotiate.rs"),
    Row("Timestamps", &["timestamps"], "7323", "engine/src/tcp/handshake/negotiate.rs"),
    Row("SYN cookies", &["SYN cookies", "SYN flood"], "4987", "engine/src/tcp/handshake/cookies.rs"),
    Row(
        "SYN queue, accept queue",
        &["backlog", "accept queue", "SYN queue"],
        "-",
        "engine/src/tcp/handshake/listener.rs",
    ),
    Row("Initial sequence numbers", &["initial sequence numbers", "ISN"], "6528", "engine/src/isn.rs"),
    Row("Ephemeral ports", &["ephemeral port"], "6056", "engine/src/tcp/handshake/active.rs"),
    Row("Keep-alive", &["keep-alive"], "9293", "engine/src/tcp/connection/expire.rs"),
    Row("User timeout", &["user timeout option"], "5482", "engine/src/tcp/connection/user_timeout.rs"),
    Row("Half-close, linger", &["half-close", "SO_LINGER"], "9293", "engine/src/tcp/socket/closing.rs"),
    Row("TIME-WAIT", &["TIME-WAIT", "2 MSL"], "1337", "engine/src/tcp/closed/time_wait.rs"),
    Row(
        "TIME-WAIT assassination",
        &["TIME-WAIT assassination"],
        "1337",
        "engine/src/tcp/closed/time_wait.rs",
    ),
    Row("Reuse of TIME-WAIT by timestamps", &["6191"], "6191", "engine/src/tcp/closed/time_wait.rs"),
    Row("Orphans", &["orphan"], "-", "engine/src/tcp/memory.rs"),
    Row("TCP_INFO", &["TCP_INFO"], "9293", "engine/src/tcp/socket/info.rs"),
];

const ATTACKS: &[Row] = &[
    Row(
        "Acceptance of a RST",
        &["RST is accepted", "blind reset", "5961"],
        "5961",
        "engine/src/tcp/acceptance.rs",
    ),
    Row("Challenge ACK", &["challenge ACK"], "5961", "engine/src/tcp/connection/arrives.rs"),
    Row("Reset generation", &["RST replies", "half-open"], "9293", "engine/src/tcp/closed/reset_reply.rs"),
    Row("ICMP attacks", &["5927", "soft errors"], "5927", "engine/src/tcp/connection/icmp.rs"),
    Row("ICMP rate limits", &["rate limits"], "4443", "engine/src/icmp/limiter.rs"),
];

const IP: &[Row] = &[
    Row("Path MTU discovery", &["path MTU discovery", "PMTUD", "1191"], "1191", "engine/src/ip/paths.rs"),
    Row("Black hole detection", &["black hole"], "4821", "engine/src/ip/paths.rs"),
    Row("Fragmentation, identification", &["fragmentation of", "6864"], "6864", "engine/src/ip/fragment.rs"),
    Row("Reassembly", &["reassembly of"], "5722", "engine/src/ip/reassembly.rs"),
    Row("Checksums", &["internet checksum"], "1071", "wire/src/checksum.rs"),
    Row("Checksum offload", &["partial checksum"], "-", "link/src/checksum.rs"),
    Row("Port unreachable", &["port unreachable"], "-", "engine/src/icmp/errors.rs"),
];

/// Not implemented; the README says so.
const ABSENT: &[&str] = &["TCP Fast Open", "MPTCP", "AccECN", "TCP-AO"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The source files below `crates/`, without tests, with the lines of their header comments in lower case.
fn headers() -> Vec<(String, Vec<String>)> {
    let crates = root().join("crates");
    let mut directories: Vec<_> =
        ["engine", "wire", "link", "device"].map(|name| crates.join(name).join("src")).into();
    let mut headers = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "tests" {
                directories.push(path);
            } else if name.ends_with(".rs") && name != "tests.rs" {
                let source = fs::read_to_string(&path).unwrap();
                let header: Vec<_> = source
                    .lines()
                    .map_while(|line| line.strip_prefix("//!"))
                    .map(|line| line.trim().to_lowercase())
                    .collect();
                let name = path.strip_prefix(&crates).unwrap().to_string_lossy().into_owned();
                headers.push((name, header));
            }
        }
    }
    headers
}

/// Whether a line has this term; a short one is a word of its own, as `ecn` in `ecn:` but not in `second`.
fn names(line: &str, term: &str) -> bool {
    if term.len() <= 4 && term.chars().all(char::is_alphanumeric) {
        line.split(|c: char| !c.is_alphanumeric()).any(|word| word == term)
    } else {
        line.contains(term)
    }
}

fn tables() -> [(&'static str, &'static [Row]); 5] {
    [
        ("Sending", SEND),
        ("Receiving", RECEIVE),
        ("The life of a connection", CONNECTION),
        ("Attacks and errors", ATTACKS),
        ("IP and links", IP),
    ]
}

fn page() -> String {
    let mut page = "# Where each mechanism is\n\n\
        A search for one of these names in the first lines of the source files finds the file, for example\n\
        `grep -rin '//!.*delayed ack' crates/*/src`. A test keeps that true (`crates/engine/tests/mechanisms.rs`).\n"
        .to_owned();
    for (title, rows) in tables() {
        page += &format!("\n## {title}\n\n| mechanism | search for | RFC | file |\n|---|---|---|---|\n");
        for Row(name, terms, rfc, file) in rows {
            let terms: Vec<_> = terms
                .iter()
                .map(|term| format!("`{}`", term.trim_end_matches([',', ':', ' ', '('])))
                .collect();
            let rfc = if *rfc == "-" {
                String::new()
            } else {
                format!("[{rfc}](https://www.rfc-editor.org/rfc/rfc{rfc})")
            };
            page += &format!("| {name} | {} | {rfc} | [`{file}`](../crates/{file}) |\n", terms.join(", "));
        }
    }
    page + &format!("\nNot implemented: {}.\n", ABSENT.join(", "))
}

#[test]
fn each_mechanism_is_found_by_its_name() {
    let headers = headers();
    let mut wrong = Vec::new();
    for (_, rows) in tables() {
        for Row(name, terms, rfc, file) in rows {
            let source = fs::read_to_string(root().join("crates").join(file)).unwrap_or_default();
            if *rfc != "-" && !source.contains(rfc) {
                wrong.push(format!("{name}: {file} does not name RFC {rfc}"));
            }
            for term in *terms {
                let found: Vec<_> = headers
                    .iter()
                    .filter(|(_, header)| header.iter().any(|line| names(line, &term.to_lowercase())))
                    .map(|(name, _)| name.as_str())
                    .collect();
                if !found.contains(file) || found.len() > MAX_FOUND {
                    wrong.push(format!(
                        "{name}: `{term}` is found in {found:?}, not in {file} and few others"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let rows: usize = tables().iter().map(|(_, rows)| rows.len()).sum();
    assert!(rows >= 40, "{rows}");
}

#[test]
fn mechanisms_not_implemented_are_in_the_readme() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for name in ABSENT {
        assert!(readme.contains(name), "{name}");
    }
}

#[test]
fn the_page_of_mechanisms_is_up_to_date() {
    let path = root().join("docs/mechanisms.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, page()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/mechanisms.md: UPDATE_DOCS=1 cargo test -p lastack-engine --test mechanisms"
    );
}
