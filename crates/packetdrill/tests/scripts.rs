//! Our own suite of scripts: each file in `scripts/` is a test of its own, over each IP version.

use lastack_packetdrill::{self as script, IpVersion, Settings, Verdict};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scripts")
}

/// Runs the file that a test is named after.
fn passes(test: &str) {
    let name = format!("{}.pkt", test.replace('_', "-"));
    let source = fs::read_to_string(directory().join(&name)).unwrap();
    let mut ran = 0;
    for version in IpVersion::ALL {
        let report = script::run(&source, &Settings { version, ..Settings::default() });
        match report.verdict {
            Verdict::Passed => ran += 1,
            Verdict::Failed(problem) => {
                let log = report.log.join("\n");
                panic!("{}, {}\n{log}\n{}", name, version.name(), problem.draw(&name, &source, false));
            }
            // A script for one version has this option.
            Verdict::Skipped(_) if source.contains("--ip_version=") => {}
            Verdict::Skipped(problem) => panic!("{}", problem.draw(&name, &source, false)),
        }
    }
    assert!(ran > 0, "{name} is for no IP version");
}

/// docs/scripts.md lists each script with its result on Linux.
#[test]
fn the_page_lists_every_script() {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/scripts.md");
    let page = fs::read_to_string(page).unwrap();
    let mut rows: Vec<&str> = page.lines().filter(|line| line.contains(".pkt | ")).collect();
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory()).unwrap().map(|file| file.unwrap().path()).collect();
    rows.sort_unstable();
    files.sort();
    assert_eq!(rows.len(), files.len(), "UPDATE_DOCS=1 cargo test -p lastack-cli --test kernel, as root");
    for (row, file) in rows.iter().zip(files) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let source = fs::read_to_string(&file).unwrap();
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells[0], name);
        let title = source.lines().next().unwrap().trim_start_matches('/').trim().trim_end_matches('.');
        let title = title.replace('|', "\\|");
        assert!(row.contains(&title), "{name}: the page says something else of it");
        let differs = source.lines().find_map(|line| line.strip_prefix("// Linux differs: "));
        let reason = cells.last().unwrap().strip_prefix("differs: ");
        assert_eq!(reason, differs, "{name}");
        assert!(differs.is_some() || cells.last().unwrap().starts_with("OK"), "{name} is not agreed upon");
    }
}

macro_rules! scripts {
    ($($name:ident)*) => {
        $(#[test] fn $name() { passes(stringify!($name)); })*

        #[test]
        fn every_file_is_a_test() {
            let tests = [$(concat!(stringify!($name), ".pkt")),*].map(|name| name.replace('_', "-"));
            let files = fs::read_dir(directory()).unwrap();
            let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
            assert_eq!(files.collect::<BTreeSet<_>>(), BTreeSet::from(tests));
        }
    };
}

scripts! {
    accept_blocking
    ack_of_new_data_restarts_the_timer
    base_mss
    blocking_write
    calls_on_a_new_socket
    close_unread_rst
    connect_refused_blocking
    connect_refused_nonblocking
    cork
    d_sack
    data_after_close
    delayed_ack
    duplicate_data_is_reported
    e1_blocked_read_fails
    e1_second_connect_returns_the_error
    e1_data_before_the_error
    e1_write_returns_the_error
    out_of_order_data
    ecn_echo
    ecn_off
    ecn_reduces_over_a_round_trip
    ecn_request
    epoll_level_and_edge
    fast_retransmit_sack
    fast_retransmit_without_sack
    fin_out_of_order
    fin_of_the_peer_is_acknowledged_by_ours
    fin_with_data
    h01_restarted_peer_connects
    h02_restarted_peer_answers_data
    h06_keepalive_finds_a_restarted_peer
    h08_answered_keepalives
    h14_syn_in_close_wait
    half_close_and_data
    half_open_peer_lost_state
    half_open_we_lost_state
    handshake_active
    handshake_blocking
    handshake_options
    handshake_without_timestamps
    hystart_delay
    initial_window
    inq
    k_error_does_not_end_a_connection
    k_error_outside_the_window_is_ignored
    k_refused_by_icmp
    k_refused_by_icmpv6
    keepalive_timeout
    limited_transmit_sack
    limited_transmit_without_sack
    linger0_abort
    linger0_abort_of_a_silent_peer
    maxseg_client
    maxseg_server
    messages
    msg_eor
    msg_more
    mss_missing
    mss_tiny
    mtu_discover_do
    mtu_discover_dont
    mtu_discover_probe
    nagle
    nodelay
    nodelay_sends_delayed_data
    notsent_lowat
    orderly_close_active
    orderly_close_passive
    path_mtu
    peer_window_limits
    poll_of_a_listener
    poll_events
    push
    push_in_a_long_write
    r01_exact_reset
    r01_reset_with_other_flags
    r01a_reset_while_an_ack_is_delayed
    r02_reset_in_window
    r03_reset_at_the_right_edge
    r04_reset_outside_the_window
    r05_reset_at_the_end_of_sacked_data
    r06_reset_at_the_number_of_the_fin
    r08_challenge_draws_an_exact_reset
    r11_refused_with_any_number
    r12_reset_in_syn_received
    r12a_inexact_reset_in_syn_received
    r13_reset_after_simultaneous_open
    r14_reset_in_fin_wait_1
    r14_reset_in_fin_wait_2
    r15_reset_in_close_wait
    r16_reset_in_closing
    r16_reset_in_last_ack
    r17_reset_in_time_wait
    r18_reset_in_fin_wait_2_closed
    r19_reset_before_accept
    rack_last_segment
    rack_short_path
    receive_buffer
    receive_buffer_client
    recv_flags
    reordering_is_measured
    retransmission_backs_off
    rst_in_window_challenge_ack
    s01_syn_closed_port
    s02_syn_with_data_closed_port
    s03_syn_fin_closed_port
    s04_ack_closed_port
    s05_no_ack_closed_port
    s06_reset_closed_port
    s10_ack_at_listener
    s12_reset_at_listener
    s13_no_flags_at_listener
    s15_syn_with_data_at_listener
    s16_syn_with_odd_flags
    s20_old_ack_in_syn_sent
    s21_reset_with_a_bad_ack_in_syn_sent
    s23_ack_without_syn_in_syn_sent
    s24_no_ack_in_syn_sent
    s25_simultaneous_open
    s26_syn_fin_ack_in_syn_sent
    s27_close_in_syn_sent
    s30_bad_ack_in_syn_received
    s31_same_syn_in_syn_received
    s33_outside_the_window_in_syn_received
    s34_no_ack_in_syn_received
    s35_syn_ack_in_syn_received
    s36_syn_ack_retries
    s38_listener_closed_in_syn_received
    s42_ack_of_nothing_after_simultaneous_open
    s50_challenges_are_limited
    s50_syn_in_established
    s51_outside_the_window
    s52_ack_of_unsent_data
    s53_ack_too_old
    s54_no_ack_in_established
    s55_old_timestamp
    s56_no_timestamp
    s59_keepalive_probe_of_the_peer
    s60_unread_in_close_wait
    s60_unread_in_fin_wait_1
    s60_unread_in_fin_wait_2
    s61_only_out_of_order_data_unread
    s62_everything_read
    s64_linger_0_in_close_wait
    s64_linger_0_in_fin_wait_2
    s64_linger_0_with_unsent_data
    s65_linger_0_with_unread_data
    s66_linger_0_in_last_ack
    s67_linger_acknowledged
    s67_linger_expires
    s71_linger2
    s73_shutdown_read
    s73_shutdown_read_then_close
    s74_shutdown_both
    s75_shutdown_of_a_listener
    s80_shutdown_both_queue
    s80_shutdown_both_then_data
    s80_data_in_fin_wait_1_closed
    s81_ack_of_fin_with_data
    s82_data_in_fin_wait_2_closed
    s83_syn_in_fin_wait_2_closed
    s84_data_after_the_fin
    s85_after_last_ack
    s90_listener_closed_with_a_connection
    s92_retransmission_limit
    s93_user_timeout
    s94_syn_retries
    s95_fin_without_an_answer
    s96_fin_in_fin_wait_2
    s96_fin_wait_2_limit
    s98_answered_zero_window_probes
    sack_below_una
    sack_blocks
    sack_of_part_of_a_segment
    send_buffer
    shutdown_before_data_is_sent
    silly_window
    simultaneous_close
    syn_retransmitted
    syn_to_closed_port
    tail_loss_probe
    tcp_info
    tcp_info_in_recovery
    time_wait_ends
    timeout_halves_the_window_not_the_flight
    udp_closed_port
    udp_closed_port_v6
    udp_connected
    udp_sendto
    udp_shutdown
    vectors
    window_grows_by_newly_acknowledged_data
    window_scale
    writable_again
    zero_window_probe
    zerocopy_notices
}
