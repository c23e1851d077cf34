//! Pages of HTML: what `explain`, `lab` and `run` write, as a browser gets it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const LASTACK: &str = env!("CARGO_BIN_EXE_lastack");

fn lastack(words: &[&str], page: &Path) -> Output {
    let (command, rest) = words.split_first().unwrap();
    Command::new(LASTACK).arg(command).arg("--html").arg(page).args(rest).output().unwrap()
}

fn capture(name: &str) -> String {
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../explain/tests/captures");
    captures.join(name).display().to_string()
}

/// A page that nothing outside is needed for, and whose tags are closed.
fn read(path: &PathBuf) -> String {
    let page = std::fs::read_to_string(path).unwrap();
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    for tag in ["svg", "table", "tbody", "section", "div", "g"] {
        let open = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(open, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    assert!(page.contains("prefers-color-scheme: dark"));
    page
}

#[test]
fn explain_writes_every_bad_end_with_its_diagram() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("page.html");
    let output = lastack(&["explain", &capture("web.client.pcap")], &path);
    assert!(output.status.success(), "{output:?}");
    let page = read(&path);
    let printed = String::from_utf8(output.stdout).unwrap();
    let lines = printed.lines().filter(|line| line.contains("; frame ")).count();
    assert!(lines > 3, "{printed}");
    assert_eq!(page.matches("<tbody").count(), lines);
    assert_eq!(page.matches("class=\"sequence\"").count(), lines);
    assert!(
        page.contains("close-unread") && page.contains("class=\"plot\"") && page.contains("packet reset")
    );
}

#[test]
fn a_device_on_the_path_has_a_lane_of_its_own() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("page.html");
    assert!(lastack(&["explain", &capture("inject.client.pcap")], &path).status.success());
    let page = read(&path);
    assert!(page.contains("a device on the path</text>") && page.contains("injected"));
}

#[test]
fn a_page_that_cannot_be_written_is_an_error() {
    let missing = Path::new("/nonexistent/page.html");
    for words in
        [vec!["explain", &capture("web.client.pcap")[..]], vec!["lab", "refused"], vec!["run", "true"]]
    {
        let output = lastack(&words, missing);
        assert!(!output.status.success(), "{words:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("/nonexistent/page.html") && said.contains("No such file"), "{said}");
    }
}

#[test]
#[ignore = "needs namespaces"]
fn run_writes_the_connections_of_its_program() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("page.html");
    // The gateway's discard port has no listener.
    let connect = "exec 3<>/dev/tcp/10.0.2.2/9";
    let output = lastack(&["run", "--host-loopback", "-q", "bash", "-c", connect], &path);
    if output.status.code() == Some(125) {
        panic!("cannot run here: {}", String::from_utf8_lossy(&output.stderr));
    }
    let page = read(&path);
    assert!(page.contains("refused") && page.contains("10.0.2.2:9"), "{page}");
    // What run itself decided is the cause, not what the packets look like.
    let denied = ["run", "--host-loopback", "-q", "--deny", "10.0.2.2:9", "bash", "-c", connect];
    lastack(&denied, &path);
    let page = read(&path);
    assert!(page.contains("policy-denied") && page.contains("--deny 10.0.2.2:9"), "{page}");
}
