//! `docs/bounds.md` is what the code says: its defaults are read from the code, and the rules, counters and
//! tests that it names exist.

use lastack_engine::{Config, Counters, Rule};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the default of a bound stands.
enum Bound {
    /// A setting of [`Config`].
    Setting(&'static str),
    /// A constant in this file of the engine or the program.
    Constant(&'static str, &'static str),
    /// An argument of the caller's.
    Given(&'static str),
}

use Bound::{Constant, Given, Setting};

/// What is bounded, by what, what happens at the bound, the counters and rules that tell of it, and a test
/// that reaches it, if there is one.
struct Row(&'static str, Bound, &'static str, &'static str, &'static str);

const CONNECTION: &[Row] = &[
    Row(
        "data to be sent",
        Setting("send_buffer"),
        "the writer waits; below it the limit depends on the congestion window",
        "",
        "the_send_buffer_holds_twice_the_largest_window",
    ),
    Row(
        "data to be read",
        Setting("receive_buffer"),
        "the window closes; data beyond it is dropped, and the ACK repeated",
        "",
        "data_that_crosses_the_right_edge_is_cut_there",
    ),
    Row(
        "ranges of out-of-order data",
        Setting("max_ooo_ranges"),
        "more of them are dropped; the peer sends them again",
        "",
        "gaps_of_single_bytes",
    ),
    Row(
        "segments in flight kept apart",
        Constant("tcp/send/scoreboard/mod.rs", "MAX_SEGMENTS"),
        "new data counts as part of the segment before it",
        "",
        "new_data_past_the_bound_joins_the_last_segment",
    ),
    Row(
        "ranges of them that are SACKed, lost or retransmitted",
        Constant("tcp/send/scoreboard/marks.rs", "MAX_RANGES"),
        "a SACK block counts where it extends one (CVE-2019-11477, -11478); a retransmitted range joins the one before it",
        "",
        "ranges_past_the_bound_are_merged",
    ),
    Row(
        "min MSS of a peer",
        Constant("tcp/handshake/negotiate.rs", "MIN_MSS"),
        "a peer's smaller one is taken for this (CVE-2019-11479)",
        "",
        "t160_t161_t162_a_tiny_mss_and_a_storm_of_sacks",
    ),
    Row(
        "ends of records in the send buffer (`MSG_EOR`)",
        Constant("tcp/send/records.rs", "MAX_RECORDS"),
        "the records after them may share segments",
        "",
        "more_records_than_are_kept_share_segments",
    ),
    Row(
        "challenge ACKs",
        Setting("challenge_interval"),
        "one in this time; the others are not sent",
        "tcp_suppressed_acks",
        "a_blind_attacker_breaks_nothing",
    ),
];

const CONNECTIONS: &[Row] = &[
    Row(
        "bytes in all buffers",
        Setting("memory"),
        "above 1/4 a buffer grows only with what has passed through it, to 1/4 of what is free, and the last 1/4 is for these; above 7/8, out-of-order data is \
         dropped and stalled connections are reset, the longest first, 256 looked at in 10 ms",
        "D26 S99 S100 tcp_memory_aborts",
        "ten_thousand_zero_windows",
    ),
    Row(
        "bytes that each buffer may have in any case",
        Constant("tcp/memory.rs", "MIN"),
        "no buffer grows further, however large a segment is",
        "",
        "d26_the_total_holds_for_any_number",
    ),
    Row(
        "embryonic connections",
        Setting("max_embryonic"),
        "a SYN is answered with a cookie; without cookies, or if the embedder answers SYNs, it is dropped",
        "S18 tcp_cookies_sent tcp_listen_drops",
        "a_hundred_thousand_syns_do_not_keep_a_client_out",
    ),
    Row(
        "lifetime of an embryonic connection: SYN|ACK retransmissions",
        Setting("syn_ack_retries"),
        "it ends silently, after 63 s",
        "S36",
        "without_cookies_the_client_waits_until_the_flood_has_timed_out",
    ),
    Row(
        "time that an intercepted SYN waits for the embedder",
        Setting("intercept_timeout"),
        "it ends silently; a SYN that ends before it was answered is not kept",
        "X4",
        "x4_undecided_intercepted_syns_do_not_accumulate",
    ),
    Row(
        "cookies known to have come back",
        Constant("tcp/handshake/cookies.rs", "MAX_SPENT"),
        "the oldest is removed",
        "",
        "cookies_for_a_full_accept_queue",
    ),
    Row(
        "connections that wait to be accepted",
        Given("`backlog` + 1"),
        "a SYN is dropped, and so is an ACK that completes a handshake or brings a cookie (by option: RST)",
        "S17 S37 tcp_listen_overflows",
        "an_accept_queue_without_accepts",
    ),
    Row(
        "orphaned connections",
        Setting("max_orphans"),
        "a close sends RST; those that get no answer are reset before",
        "S99 S100 tcp_orphan_overflows",
        "orphans_and_fin_wait_2",
    ),
    Row(
        "time of an orphan in FIN-WAIT-2",
        Setting("fin_wait_2"),
        "the connection ends",
        "S96 S97",
        "orphans_and_fin_wait_2",
    ),
    Row(
        "entries in TIME-WAIT",
        Setting("max_time_wait"),
        "further connections skip TIME-WAIT (S101)",
        "tcp_time_wait_overflows",
        "time_wait",
    ),
    Row(
        "resets a second for segments that no connection accepts",
        Setting("reset_rate"),
        "the others are not sent",
        "D9 tcp_suppressed_resets",
        "limited_resets_tell_nothing",
    ),
    Row(
        "pieces of memory kept for connections to come",
        Constant("tcp/table/slot.rs", "MAX_SPARE"),
        "more are given back",
        "",
        "few_allocations_are_kept_for_connections_to_come",
    ),
    Row(
        "bytes of buffers of packets that were read, kept for packets to come",
        Constant("buffer/pool.rs", "MAX_BYTES"),
        "more are given back, and all if no packet is kept for `buffer_idle`",
        "",
        "buffers_kept_for_packets_are_bounded_and_released",
    ),
];

const DATAGRAMS: &[Row] = &[
    Row(
        "datagrams to be read, a socket",
        Setting("receive_queue"),
        "more are dropped",
        "udp_receive_overflows",
        "datagrams",
    ),
    Row("bytes of them", Setting("receive_bytes"), "more are dropped", "udp_receive_overflows", "datagrams"),
    Row(
        "datagrams to be sent, a socket",
        Setting("send_queue"),
        "the writer waits",
        "",
        "a_full_queue_refuses_and_tells_when_there_is_room",
    ),
    Row(
        "bytes held for incomplete packets, with what it costs to hold them",
        Setting("reassembly_bytes"),
        "the oldest packets are dropped",
        "ip_reassembly_failed",
        "fragments",
    ),
    Row(
        "wait for the rest of a packet",
        Setting("reassembly_time"),
        "it is dropped, and time exceeded is sent",
        "U7 ip_reassembly_failed",
        "fragments",
    ),
    Row(
        "burst of ICMP errors to a destination",
        Setting("error_burst"),
        "the others are not sent",
        "D9 icmp_suppressed_errors",
        "d9_a_destination_gets_six_at_once_and_one_each_second",
    ),
    Row(
        "and then one in this time",
        Setting("error_interval"),
        "the others are not sent",
        "D9 icmp_suppressed_errors",
        "d9_a_destination_gets_six_at_once_and_one_each_second",
    ),
    Row(
        "datagrams a second that may be answered with errors, delivered or not",
        Setting("error_rate"),
        "errors about the others are not sent",
        "D9 icmp_suppressed_errors",
        "icmp_errors_tell_no_open_port",
    ),
    Row(
        "burst of these, about",
        Setting("error_rate_burst"),
        "errors about the others are not sent",
        "D9 icmp_suppressed_errors",
        "icmp_errors_tell_no_open_port",
    ),
    Row(
        "destinations whose errors are counted",
        Constant("icmp/limiter.rs", "PLACES"),
        "a later one takes the place of another",
        "",
        "icmp_errors_tell_no_open_port",
    ),
    Row(
        "intercepted echo requests, and replies, to be read",
        Constant("icmp/echo.rs", "MAX_WAITING"),
        "more are dropped",
        "",
        "the_requests_that_wait_are_bounded",
    ),
    Row(
        "intercepted packets of other protocols to be read",
        Constant("ip/raw.rs", "MAX_WAITING"),
        "more are dropped",
        "",
        "the_packets_that_wait_are_bounded_and_there_is_one_event_for_them",
    ),
    Row(
        "echo requests of ours that wait for a reply",
        Constant("icmp/echo.rs", "MAX_ASKED"),
        "the oldest is removed",
        "",
        "our_oldest_request_is_dropped",
    ),
    Row(
        "answers to be sent that belong to no connection",
        Constant("outbox.rs", "MAX"),
        "more are not sent",
        "outbox_overflows",
        "echoes",
    ),
    Row(
        "bytes of those that are not kept as values",
        Constant("outbox.rs", "MAX_OCTETS"),
        "more are not sent",
        "outbox_overflows",
        "echoes",
    ),
    Row(
        "paths with an MTU below the link's",
        Constant("ip/paths.rs", "MAX"),
        "the one that expires first is removed",
        "",
        "the_table_is_bounded",
    ),
];

const RUN: &[Row] = &[
    Row(
        "bytes in the buffers of all connections of the program",
        Given("`--memory`"),
        "no buffer grows beyond 4096 bytes; no connection is reset: `reset_for_memory` is off",
        "",
        "a_program_that_does_not_read",
    ),
    Row(
        "descriptors of all flows",
        Given("the limit of descriptors, less a quarter, of at least 8 and at most 1088"),
        "the flow that is idle longest is closed; a connection waits, its SYN unanswered, until one is idle for a second or ends",
        "",
        "the_flow_that_is_idle_for_longest_goes_first",
    ),
    Row(
        "sockets of the program that have a datagram socket of the host",
        Given("half of the limit of descriptors"),
        "those that are idle longest are closed",
        "",
        "few_descriptors_are_enough_for_many_sockets",
    ),
    Row(
        "remotes of one such socket that are accounted for",
        Constant("run/src/udp/mapping.rs", "MAX_REMOTES"),
        "the records of those idle longest are written at once",
        "",
        "records_of_many_remotes_are_written_early",
    ),
    Row(
        "bytes that wait for the host's socket to take them, a socket",
        Constant("run/src/udp/mapping.rs", "MAX_WAITING"),
        "more are dropped and counted",
        "",
        "datagrams_waiting_for_the_hosts_socket_are_bounded",
    ),
    Row(
        "questions to name servers that wait for an answer",
        Constant("run/src/dns/question.rs", "MAX_WAITING"),
        "the oldest is given up",
        "",
        "the_oldest_question_is_given_up_for_another",
    ),
    Row(
        "addresses whose names are known",
        Constant("run/src/dns/names.rs", "MAX_NAMES"),
        "the oldest is removed",
        "",
        "the_latest_name_counts_and_the_oldest_is_evicted",
    ),
    Row(
        "connection attempts that were answered, other than by accepting them",
        Constant("run/src/attempts.rs", "MAX"),
        "the SYN of an older one, retransmitted, counts as a new connection",
        "",
        "memory_is_bounded",
    ),
    Row(
        "pings that wait for an answer",
        Constant("run/src/icmp.rs", "MAX_PINGS"),
        "more are dropped",
        "",
        "more_pings_than_are_kept_are_refused",
    ),
];

const HEAD: &str = "\
# Bounds

All state that packets can create has a bound. This page is generated from the code by a test, which also checks that the
rules ([resets.md](resets.md)), counters and tests exist: `UPDATE_DOCS=1 cargo test -p lastack-engine --test bounds`.

State that the application creates has no bound: sockets, listeners, connections that it opened or accepted, and events
that it does not poll. A connection with empty buffers takes about 1.6 KiB while it is in use, and 0.5 KiB once it is idle.
";

const WORK: &str = "
## What a packet costs

A step is one iteration of a loop over the state of a peer, a lookup, or the move of 64 elements. The tests count them; N
packets take at most this many times N, however large the state is.

| packets | steps a packet, at most | test |
|---|---|---|
| SACK blocks of any shape, cumulative ACKs, losses | constant, logarithmic for a block | `scoreboard::tests` |
| segments out of order with gaps, and those that fill them, in any order | 48: a range in the middle of 4096 moves half of them | `out_of_order_ranges` |
| segments of one byte, new or retransmitted | 16 | `tiny_segments` |
| SYNs with cookies, without, and within the bound | 16 | `syn_floods` |
| their timeouts, all retransmissions together | 100 | `syn_floods` |
| SYNs that reopen a connection in TIME-WAIT | 64 | `time_wait_is_reused` |
| segments that move a deadline among 1000 connections | 16 | `moving_deadlines` |
| fragments of many packets, of one, repeated, overlapping, IPv4 and IPv6 | 16 | `work_is_linear_in_fragments` |
";

const FLOODS: &str = "
## Memory under floods

Measured with a counting allocator, in `crates/sim/tests/attack/`, with the defaults unless noted; the tests fail above the
second figure.

| flood | takes | at most |
|---|---|---|
| 100,000 SYNs from as many hosts, cookies on or off | 6.0 MiB for 4096 embryonic connections | 8 MiB |
| 20,000 complete connections, 1000 bytes in each, that are not accepted; backlog 64 | 0.2 MiB | 1 MiB |
| 10,000 zero windows, each before 1 MiB of data, `memory` 64 MiB | 116 MiB: 64, and 5.3 KiB each | 130 MiB |
| 5000 unanswered orphans, 900 bytes in each, `max_orphans` 1000 | 3.5 MiB | 8 MiB |
| 12,000 connections in TIME-WAIT, `max_time_wait` 10,000 | 3.6 MiB | 5 MiB |
| 8000 SACK options of four single bytes each | 0.2 MiB | 2 MiB |
| 20,000 segments of one byte | 0.05 MiB | 0.125 MiB |
| 60,000 fragments of as many packets, small or large | 4.3 MiB | 5 MiB |
| 1000 datagrams of 40,000 bytes to one socket | 4.2 MiB | 5 MiB |
| 20,000 echo requests while the link accepts nothing | 4.5 MiB | 6 MiB |
| 100,000 resets, and segments to closed ports | nothing | 1 KB |

## CPU time and memory under a hostile peer

A release build over TUN, `crates/cli/tests/hostile/`: microseconds of CPU time of the process, system calls included, for a
packet of an ordinary peer and for a hostile one, and their ratio; 100,000 ordinary packets and 200,000 hostile ones of each kind,
20,000 in a second. The ordinary peer of the first four repeats its ACKs, of the others it sends single bytes that are echoed.
The test fails above a ratio of 3, if the second 100,000 packets add 1 MiB to the resident memory (they add nothing), if
another client waits half a second for an echo (the longest round trip was 1 ms), and if the process panics. `serve` had 29,500
segments of 88 bytes in flight for the first four. A flow that a guest of `run` opens takes a socket of the host, ordinary or
not; descriptors bound their number.

| packets | `serve` | `run` | memory of `serve` |
|---|---|---|---|
| SACK of four single segments, each time others | 2.2, 4.7, **2.11** | 2.2, 2.7, **1.21** | 17.0 MiB |
| SACK of four ranges of nearly everything | 2.5, 2.5, **0.99** | 2.6, 2.6, **1.01** | 16.1 MiB |
| ACKs that advance by a byte, in the middle of segments | 2.2, 2.5, **1.16** | 2.2, 2.7, **1.23** | 15.8 MiB |
| windows that shut and open | 2.1, 2.1, **0.99** | 2.3, 2.3, **1.00** | 16.0 MiB |
| single bytes out of order, with gaps | 2.5, 3.6, **1.43** | 2.5, 4.3, **1.70** | 7.1 MiB |
| out of order data that overlaps | 2.6, 3.7, **1.42** | 2.5, 3.6, **1.43** | 6.9 MiB |
| data behind the window, before and after it | 2.5, 3.4, **1.33** | 2.6, 3.5, **1.36** | 6.9 MiB |
| resets and SYNs in the window | 2.5, 2.0, **0.82** | 2.5, 1.9, **0.76** | 7.0 MiB |
| SYNs from as many addresses | 2.6, 3.8, **1.47** |   | 9.0 MiB |
| SYN and RST from as many addresses | 2.5, 2.4, **0.94** | 2.5, 6.6, **2.65** | 7.7 MiB |
| ACKs of no connection | 2.5, 3.4, **1.35** | 2.4, 3.3, **1.33** | 7.0 MiB |
| SYNs to closed ports | 2.5, 3.2, **1.29** |   | 6.6 MiB |
| fragments of packets that stay incomplete | 2.5, 2.4, **0.96** | 2.5, 2.4, **0.98** | 10.9 MiB |
| fragments that overlap, of one packet | 2.5, 1.9, **0.77** | 2.5, 1.8, **0.72** | 7.0 MiB |
| ICMP errors about the connection | 2.4, 2.7, **1.12** | 2.4, 2.5, **1.04** | 6.8 MiB |
| datagrams to closed ports | 2.5, 2.4, **0.93** |   | 6.8 MiB |
| echo requests of 1,400 bytes | 2.5, 3.8, **1.52** | 2.5, 3.8, **1.54** | 6.9 MiB |
| TCP options without meaning | 2.4, 2.2, **0.91** | 2.5, 2.2, **0.87** | 6.6 MiB |
| segments with damaged bits | 2.6, 2.3, **0.90** | 2.6, 2.3, **0.90** | 6.9 MiB |
| chains of IPv6 extension headers | 2.5, 5.7, **2.23** | 2.7, 5.3, **1.96** | 6.5 MiB |

## What is left to an attacker

An off-path attacker who has a four-tuple must guess: the exact sequence number for a reset; for data, a sequence number in
the window and an acknowledgment that is neither too new nor older than the largest window. No answer reveals whether a guess
was right (`crates/sim/tests/attack/side_channel.rs`). Before a connection is established less is needed: another SYN in the
window of 64 KiB ends an embryonic one (S32), and a bare SYN during SYN-SENT is a simultaneous open, after which a reset at
its sequence number refuses the attempt (R13); both are as in RFC 9293 and on Linux. An on-path attacker can do anything
except read what TLS encrypts.
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The default of a setting, as its debug form says it.
fn setting(name: &str) -> String {
    let all = format!("{:?}", Config::new([]));
    let start = all.find(&format!(" {name}: ")).unwrap_or_else(|| panic!("no setting `{name}`"));
    let rest = &all[start + name.len() + 3..];
    let end = rest.find([',', ' ', '}']).unwrap_or(rest.len());
    match rest[..end].parse() {
        Ok(number) => bytes(name, number),
        Err(_) => rest[..end].to_owned(),
    }
}

fn bytes(name: &str, number: u64) -> String {
    let sized = ["buffer", "bytes", "memory"].iter().any(|word| name.to_lowercase().contains(word));
    match number {
        n if sized && n.is_multiple_of(1 << 20) => format!("{} MiB", n >> 20),
        n => n.to_string(),
    }
}

/// The value of a constant, as its line says it.
fn constant(file: &str, name: &str) -> String {
    let places = ["crates/engine/src", "crates"].map(|place| root().join(place).join(file));
    let text = places.iter().find_map(|path| fs::read_to_string(path).ok());
    let text = text.unwrap_or_else(|| panic!("no file {file}"));
    let line = text.lines().find(|line| line.contains(&format!("const {name}: ")));
    let (_, value) =
        line.and_then(|line| line.split_once(" = ")).unwrap_or_else(|| panic!("no {name} in {file}"));
    let value = value.trim_end_matches(';');
    let value = value.strip_prefix("Limits ").map_or(value, |fields| fields.trim_matches(['{', '}', ' ']));
    value.replace("4 << 20", "4 MiB").replace('_', "")
}

fn row(row: &Row) -> String {
    let Row(what, bound, then, shown, test) = row;
    let (name, default) = match bound {
        Setting(name) => (format!("`{name}`"), setting(name)),
        Constant(file, name) => (format!("`{file}`"), constant(file, name)),
        Given(what) if what.contains("--memory") => ((*what).to_owned(), setting("memory")),
        Given(what) => ((*what).to_owned(), "the caller's".to_owned()),
    };
    let test = if test.is_empty() { String::new() } else { format!("`{test}`") };
    format!("| {what} | {name} | {default} | {then} | {shown} | {test} |\n")
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for (title, rows) in [
        ("One connection (`TcpConfig`)", CONNECTION),
        ("All connections (`TcpConfig`)", CONNECTIONS),
        ("Datagrams, packets and ICMP (`DatagramConfig`)", DATAGRAMS),
        ("`lastack run`", RUN),
    ] {
        page += &format!(
            "\n## {title}\n\n| what | set by | default | beyond it | rules, counters | test |\n|---|---|---|---|---|---|\n"
        );
        page.extend(rows.iter().map(row));
    }
    page + WORK + FLOODS
}

fn rows() -> impl Iterator<Item = &'static Row> {
    [CONNECTION, CONNECTIONS, DATAGRAMS, RUN].into_iter().flatten()
}

#[test]
fn the_page_matches_the_code() {
    let path = root().join("docs/bounds.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, page()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page(), "not up to date: UPDATE_DOCS=1 cargo test -p lastack-engine --test bounds");
}

#[test]
fn every_setting_that_is_a_bound_has_a_row() {
    let all = format!("{:?}", Config::new([]));
    let names = all.split([' ', '{']).filter_map(|word| word.strip_suffix(':'));
    let words = ["max_", "_queue", "_bytes", "_burst", "memory", "_buffer"];
    for name in names.filter(|name| words.iter().any(|word| name.contains(word))) {
        let listed = rows().any(|Row(_, bound, ..)| matches!(bound, Setting(listed) if *listed == name));
        assert!(
            listed || ["max_packet", "max_rto", "max_user_timeout", "reset_for_memory"].contains(&name),
            "{name} is a bound without a row"
        );
    }
}

#[test]
fn the_indicator_of_each_bound_exists() {
    for Row(what, _, _, shown, _) in rows() {
        for word in shown.split_whitespace() {
            let counter = Counters::default().iter().any(|(name, _)| name == word);
            assert!(counter || word.parse::<Rule>().is_ok(), "{what}: {word} is no counter and no rule");
        }
    }
}

#[test]
fn every_test_of_a_bound_exists() {
    let mut sources = String::new();
    let mut folders = vec![root().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                sources += &fs::read_to_string(path).unwrap();
            }
        }
    }
    for Row(what, .., test) in rows().filter(|Row(.., test)| !test.is_empty()) {
        assert!(sources.contains(&format!("fn {test}(")), "{what}: no test {test}");
    }
}
