//! What a test needs of the machine. Without it the test fails: none passes without having run.
#![allow(dead_code, reason = "a test uses what it needs of this")]

use std::process::Command;

/// Whether a tool is installed.
pub fn have(tool: &str) -> bool {
    Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap().status.success()
}

/// The test fails if a tool is missing.
pub fn require_tools(tools: &[&str]) {
    let missing: Vec<&&str> = tools.iter().filter(|tool| !have(tool)).collect();
    assert!(missing.is_empty(), "cannot run here: these tools are missing: {missing:?}");
}

/// The test fails without root, if network namespaces cannot be made, or if a tool is missing.
pub fn require_root(tools: &[&str]) {
    require_tools(tools);
    assert!(nix::unistd::geteuid().is_root(), "cannot run here: needs root");
    let namespaces = Command::new("unshare").args(["-n", "true"]).status();
    assert!(namespaces.is_ok_and(|status| status.success()), "cannot run here: needs network namespaces");
}
