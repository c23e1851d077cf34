//! `docs/preserved.md`: what a program keeps of its kernel's behaviour under `lastack run`, and the tests that show it.
//! Each named test and each named row of `docs/transparency.md` has to exist.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// What is shown, and where: `run FILE::TEST` in `crates/cli/tests/run`, `cli FILE::TEST` in `crates/cli/tests`,
/// `lib FILE::TEST` in `crates/run/src`, or `row BEGIN` in `docs/transparency.md`.
type Item = (&'static str, &'static [&'static str]);

const DATAGRAMS: &[Item] = &[
    (
        "answers from another port or address arrive; every destination sees one source, the program's own port where it is free",
        &[
            "run sockets::an_answer_from_another_port_arrives",
            "run sockets::all_destinations_see_one_source_which_is_the_programs_own_port",
            "run sockets::a_port_that_is_taken_on_this_host_is_replaced_and_reported",
            "row the answer comes from another port",
            "row two destinations see one source",
            "row sockets that share a port",
        ],
    ),
    (
        "an error reaches the socket that it is about, with its type, sender and destination",
        &[
            "run sockets::an_error_reaches_the_socket_that_it_is_about",
            "lib host/datagrams.rs::an_error_names_the_destination_that_it_is_about",
            "row two closed ports, one socket, IP_RECVERR",
            "row an error on a connected socket without IP_RECVERR",
        ],
    ),
    (
        "a socket without traffic keeps its port for five minutes",
        &[
            "lib udp/mapping.rs::a_socket_keeps_its_port_for_five_minutes_without_traffic",
            "row the source stays the same after three seconds of silence",
        ],
    ),
    (
        "bursts of 3,000 datagrams arrive each way; what is dropped is counted",
        &[
            "run sockets::three_thousand_datagrams_back_to_back_arrive_each_way",
            "lib host/datagrams.rs::datagrams_dropped_by_a_full_buffer_are_counted",
            "lib udp/mapping.rs::datagrams_waiting_for_the_hosts_socket_are_bounded",
            "row 3,000 datagrams of 1,000 bytes back to back, up",
        ],
    ),
    (
        "multicast, broadcast and link-local destinations are carried where the host can, and reported elsewhere",
        &[
            "lib host/source.rs::link_local_destinations_name_an_interface",
            "lib tap/uncarried.rs::the_rest_is_named",
            "row multicast: a socket that has joined (mDNS)",
            "row multicast: one that has not joined",
            "row broadcast to all of the network",
            "row a neighbour by its link-local address",
        ],
    ),
];

const HEADERS: &[Item] = &[
    (
        "DF and path MTU: EMSGSIZE, IP_MTU and \"fragmentation needed\" are those of the path",
        &[
            "row UDP: DF and more than the first hop carries",
            "row UDP: DF and more than the second hop carries",
            "row UDP: the same as probes of the path",
            "row UDP: a probe of the path that is larger",
            "row a ping with DF that the second hop cannot carry",
        ],
    ),
    (
        "the hop limit acts, for UDP, TCP and ping; \"time exceeded\" reaches the program at once",
        &[
            "row UDP: one hop (traceroute)",
            "row UDP: two hops, where nobody listens",
            "row TCP: one hop (traceroute -T)",
            "row TCP: one hop, a raw SYN",
            "row a ping of one hop",
            "row UDP: a hop limit for one datagram alone",
            "row the hop limit with which an ICMP error arrives",
        ],
    ),
    (
        "DSCP and ECN act in both directions, also if they change during a connection",
        &[
            "lib host/datagrams.rs::header_fields_pass_both_ways",
            "row UDP: hop limit and class arrive",
            "row UDP: ECN arrives",
            "row UDP: hop limit and class of the answer",
            "row TCP: a class that is set later",
        ],
    ),
];

const NAMES: &[Item] = &[
    (
        "a name server that fails, refuses or cannot be reached is passed over, as in libc",
        &[
            "lib dns/question.rs::a_server_that_fails_or_does_not_answer_is_skipped",
            "run names::a_resolver_that_refuses_is_passed_over",
            "row the first server fails (SERVFAIL)",
            "row the first server refuses (REFUSED)",
            "row a router cannot reach the first server",
        ],
    ),
    (
        "the servers keep their order for each query, and each has an address of its own inside",
        &[
            "lib dns/servers.rs::each_server_inside_begins_with_another_outside",
            "lib plan/route.rs::each_name_server_of_the_host_has_its_own_address_inside",
            "row the first server is silent, the second answers",
        ],
    ),
    (
        "resolv.conf may be missing, a dangling link, or change during the run",
        &[
            "lib dns/servers.rs::a_file_that_changes_is_read_again",
            "lib host/resolvers.rs::without_servers_the_local_host_is_queried",
            "lib namespace/resolv.rs::a_file_that_is_not_there_is_shown_and_its_neighbours_stay",
        ],
    ),
];

const TIME: &[Item] = &[
    (
        "keep-alive and TCP_USER_TIMEOUT notice a remote that has vanished",
        &[
            "run vanished::keep_alive_notices_a_remote_that_vanished",
            "run vanished::keep_alive_keeps_a_connection_to_a_live_remote",
            "row no answer to data, TCP_USER_TIMEOUT of a second",
        ],
    ),
    (
        "silence and ICMP errors in mid-connection reach the program as what they were, not as a reset",
        &["run vanished::data_into_silence_times_out", "row a router reports in mid-connection"],
    ),
    (
        "a connection that only the program has closed ends as the kernel's orphans do",
        &["run vanished::a_connection_that_the_program_closed_costs_no_descriptor"],
    ),
    (
        "an attempt that the program gives up is given up to the remote",
        &[
            "run vanished::attempts_that_are_given_up_are_given_up_to_the_remote",
            "row no answer, and the program gives up",
        ],
    ),
    (
        "urgent data keeps its mark in both directions",
        &[
            "lib tap/urgent.rs::a_mark_of_the_program_is_passed_on_once",
            "run localhost::urgent_data_passes_a_mapped_port",
            "row urgent data: what the remote reads before it",
            "row urgent data of the remote: SIGURG",
        ],
    ),
];

const SURROUNDINGS: &[Item] = &[
    (
        "users and groups are those that the system lets one map; ssh accepts its configuration",
        &[
            "lib namespace/ids.rs::a_range_is_found_by_name_or_number",
            "lib namespace/ssh_config.rs::includes_are_found_whatever_their_case_and_form",
            "cli namespace::the_guest_keeps_its_user_and_has_its_own_network",
        ],
    ),
    (
        "the run lasts until the last process has ended",
        &[
            "run lifecycle::the_run_lasts_until_the_last_process_has_ended",
            "run lifecycle::remaining_processes_can_be_killed_with_the_program",
            "row a child in the background goes on",
        ],
    ),
    (
        "sockets in the file system are the host's; abstract ones are not, and that is documented",
        &["row a UNIX socket of the host in the file system", "row an abstract UNIX socket of the host"],
    ),
    (
        "networks of the host that are also the program's default stay reachable, IPv4 and IPv6",
        &[
            "run networks::a_network_of_the_host_stays_reachable_also_in_a_nested_run",
            "lib plan/network.rs::a_network_of_the_host_is_none_of_the_programs",
            "lib host/networks.rs::routes_that_lead_somewhere_are_networks_of_the_host",
            "lib host/networks.rs::neighbours_that_are_known_are_networks_of_the_host",
        ],
    ),
    (
        "few descriptors are enough: the flow that has been idle for longest makes room",
        &[
            "run descriptors::the_oldest_idle_connection_makes_room_for_a_new_one",
            "run descriptors::connections_in_use_stay_and_others_wait_their_turn",
            "run descriptors::datagrams_of_many_sockets_need_no_more",
        ],
    ),
    (
        "a host without a free port is named as that",
        &[
            "lib host/failure.rs::the_lack_of_a_free_port_is_no_missing_route",
            "row timers of TCP and the range of local ports",
        ],
    ),
    (
        "what this host forbids is named with the cure, such as a missing CAP_SETFCAP",
        &[
            "lib namespace/diagnosis.rs::the_setting_that_forbids_it_is_named",
            "run bad_input::where_namespaces_are_forbidden_the_cause_is_named",
        ],
    ),
];

const SUBJECTS: [(&str, &[Item]); 5] = [
    ("Datagrams", DATAGRAMS),
    ("Headers", HEADERS),
    ("Names", NAMES),
    ("Silence and ends", TIME),
    ("Surroundings", SURROUNDINGS),
];

const HEAD: &str = "\
# What `lastack run` preserves, and by which tests

Each line was once, or could be, a difference between a program under `lastack run` and the same on the kernel. `run` are tests in
`crates/cli/tests/run`, `cli` in `crates/cli/tests`, `lib` in `crates/run/src`; a row is one of [transparency.md](transparency.md),
where the differences that remain are explained. This page is written by `UPDATE_DOCS=1 cargo test -p lastack-cli --test preserved`;
a test fails where a named test or row does not exist.
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for (subject, items) in SUBJECTS {
        write!(page, "\n## {subject}\n\n| what a program keeps | shown by |\n|---|---|\n").unwrap();
        for (what, tests) in items {
            let shown = |test: &&str| match test.strip_prefix("row ") {
                Some(row) => format!("row \"{row}\""),
                None => format!("`{test}`"),
            };
            let tests: Vec<String> = tests.iter().map(shown).collect();
            writeln!(page, "| {what} | {} |", tests.join(", ")).unwrap();
        }
    }
    page
}

/// Whether the test or row exists.
fn exists(named: &str, rows: &str) -> bool {
    let (kind, name) = named.split_once(' ').unwrap();
    let within = match kind {
        "row" => return rows.lines().any(|line| line.starts_with(&format!("| {name}"))),
        "run" => "crates/cli/tests/run",
        "cli" => "crates/cli/tests",
        "lib" => "crates/run/src",
        other => panic!("{other} is no kind of test"),
    };
    let (file, test) = name.split_once("::").unwrap();
    let file = if kind == "lib" { file.to_owned() } else { format!("{file}.rs") };
    let source = fs::read_to_string(root().join(within).join(file)).unwrap_or_default();
    source.split("fn ").zip(source.split("fn ").skip(1)).any(|(before, after)| {
        let begins = before.rfind('}').unwrap_or(0);
        after.starts_with(&format!("{test}()"))
            && (before[begins..].contains("#[test]") || before[begins..].contains("#[tokio::test"))
    })
}

#[test]
fn each_named_test_and_row_exists() {
    let rows = fs::read_to_string(root().join("docs/transparency.md")).unwrap();
    let named = SUBJECTS.iter().flat_map(|(_, items)| items.iter()).flat_map(|(_, tests)| tests.iter());
    let missing: Vec<_> = named.filter(|named| !exists(named, &rows)).collect();
    assert!(missing.is_empty(), "named in crates/cli/tests/preserved.rs, but missing: {missing:#?}");
    assert!(
        !exists("run sockets::nothing_of_this_name", &rows) && !exists("row nothing of this name", &rows)
    );
}

#[test]
fn the_page_is_up_to_date() {
    let (file, page) = (root().join("docs/preserved.md"), page());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, &page).unwrap();
    }
    assert!(
        fs::read_to_string(file).unwrap_or_default() == page,
        "docs/preserved.md is not up to date: UPDATE_DOCS=1 cargo test -p lastack-cli --test preserved"
    );
}
