//! `lastack run` under load: memory, descriptors and CPU before, during and after, and what is left behind.
//!
//! The default load is small. The whole of it (2,000 connections at once, 100,000 in a row, 1 GiB each way), whose figures are
//! in docs/run.md: `cargo build --release && unshare -n python3 crates/cli/tests/load/load.py target/release/lastack full`.

#[path = "../requirements/mod.rs"]
mod requirements;

use requirements::require_root;
use std::process::Command;

const LASTACK: &str = env!("CARGO_BIN_EXE_lastack");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/load/load.py");

#[test]
#[ignore = "needs root, unshare and ip"]
fn load_leaves_nothing_behind() {
    require_root(&["unshare", "ip"]);
    let output = Command::new("unshare").args(["-n", "python3", SCRIPT, LASTACK]).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains("SIGKILL: no process") && said.contains("| afterwards |"), "{said}");
}
