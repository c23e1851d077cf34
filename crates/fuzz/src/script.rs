//! The runner of packetdrill scripts: no text makes it panic or run for ever.

use lastack_packetdrill::{self as script, IpVersion, Report, Settings, Verdict};

/// Runs a script, well-formed or not.
pub fn run(bytes: &[u8]) {
    let source = String::from_utf8_lossy(bytes);
    // The IP version depends on the length, so that each added byte changes it.
    let version = IpVersion::ALL[source.len() % 3];
    let settings = Settings { version, ..Settings::default() };
    let checked = script::check(&source, &settings);
    read(&source, &checked);
    let ran = script::run(&source, &settings);
    read(&source, &ran);
    if checked.verdict != Verdict::Passed {
        assert_eq!(ran.verdict, checked.verdict, "what cannot be read is not run");
    }
}

/// The report can be displayed, and its positions lie within the text.
fn read(source: &str, report: &Report) {
    if let Verdict::Failed(problem) | Verdict::Skipped(problem) = &report.verdict {
        assert!(!problem.brief("t.pkt", source).is_empty());
        assert!(problem.draw("t.pkt", source, false).contains("t.pkt"));
        assert!(problem.line(source) <= 1 + source.matches('\n').count());
    }
}
