//! Our own suite of scripts: each file in `scripts/` is a test of its own, over each IP version.

use lastack_sim::script::{self, IpVersion, Settings, Verdict};
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
            // One that is for one version says so.
            Verdict::Skipped(_) if source.contains("--ip_version=") => {}
            Verdict::Skipped(problem) => panic!("{}", problem.draw(&name, &source, false)),
        }
    }
    assert!(ran > 0, "{name} is for no IP version");
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
    close_unread_rst
    connect_refused_blocking
    connect_refused_nonblocking
    data_after_close
    half_open_peer_lost_state
    half_open_we_lost_state
    keepalive_timeout
    linger0_abort
    orderly_close_active
    orderly_close_passive
    rst_in_window_challenge_ack
    simultaneous_close
    syn_to_closed_port
}
