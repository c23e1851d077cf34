//! Packetdrill scripts from Rust, as tests of a protocol's behaviour: no root, no kernel, no real time.

use lastack_packetdrill::{Settings, Verdict, run};

/// A RST that is in the window but not at RCV.NXT is answered with a challenge ACK (RFC 5961 section 3.2).
const SCRIPT: &str = "
 0     socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0     setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0
+0     bind(3, ..., ...) = 0
+0     listen(3, 1) = 0
+0     < S 0:0(0) win 1000 <mss 1000>
+0     > S. 0:0(0) ack 1 <mss 1460>
+.1    < . 1:1(0) ack 1 win 1000
+0     accept(3, ..., ...) = 4

+.1    < R 2:2(0) win 0
+0     > . 1:1(0) ack 1

+.1    < R 1:1(0) win 0
+.01   read(4, ..., 1000) = -1 ECONNRESET (Connection reset by peer)
";

fn main() {
    let report = run(SCRIPT, &Settings::default());
    assert!(matches!(report.verdict, Verdict::Passed), "{:?}", report.verdict);
    println!("passed");

    // The difference is shown where the script expects something else.
    let wrong = SCRIPT.replace("ECONNRESET (Connection reset by peer)", "ETIMEDOUT (Connection timed out)");
    let report = run(&wrong, &Settings::default());
    let Verdict::Failed(problem) = &report.verdict else { panic!("it passes: {:?}", report.verdict) };
    println!("{}", problem.draw("challenge.pkt", &wrong, false));
}
