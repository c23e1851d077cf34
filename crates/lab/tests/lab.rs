//! Every scenario of the lab goes as it states, twice the same.

use lastack_engine::{Instant, Rule};
use lastack_lab::timeline::WIDTH;
use lastack_lab::{self as lab, Expected, Outcome, SCENARIOS, Scenario, Script, Setup, Side, Step};
use lastack_link::{Direction, Record};
use lastack_wire::tcp::TcpFlags;
use std::time::Duration;

fn play_all(setup: &Setup) {
    let mut wrong = String::new();
    for scenario in SCENARIOS {
        let played = lab::play(scenario, setup);
        if !played.as_stated() {
            wrong += &format!("{}\n{}\n", played.timeline(), played.differences.join("\n"));
        }
        let again = lab::play(scenario, setup);
        assert_eq!(played.trace.fingerprint(), again.trace.fingerprint(), "{}", scenario.name);
        assert_eq!(played.timeline(), again.timeline());
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_scenario_ends_as_stated() {
    play_all(&Setup::default());
}

#[test]
fn over_ipv6_too() {
    play_all(&Setup::ipv6());
}

#[test]
fn a_timeline_fits_its_width() {
    for setup in [Setup::default(), Setup::ipv6()] {
        for scenario in SCENARIOS {
            for line in &lab::play(scenario, &setup).timeline().lines {
                assert!(line.to_string().chars().count() <= WIDTH, "{}:\n{line}", scenario.name);
            }
        }
    }
}

#[test]
fn the_timeline_of_a_refusal() {
    let played = lab::play(lab::find("refused").unwrap(), &Setup::default());
    let drawn = played.timeline().to_string();
    let expected = "\
refused: a SYN to port 1935, at which no socket listens
RFC 9293 section 3.5.2 group 1 and section 3.10.7.1

   time client                   |                                        | server
        192.0.2.1:40001          |                                        | 192.0.2.2:1935
  0.000 \"connect to port 1935\"   |                                        |
        SYN-SENT                 | S seq=0 -----------------------------> |
  0.010                          | <---------------------- R. seq=0 ack=1 | (S1)
  0.020 CLOSED (R11)             |                                        |
        \"connect: ConnectionRefused\"                                      |

How it ended
  client  refused by the peer in SYN-SENT; [peer-rst-refused] reset that acknowledges our SYN:
          connection refused; no socket listens at the peer's port
  server  no connection

Rules
  S1   rst-no-listener: SYN to a port with no listener: RST (RFC 9293 3.10.7.1)
  R11  peer-rst-refused: reset that acknowledges our SYN: connection refused (RFC 9293 3.10.7.3)
";
    assert_eq!(drawn, expected, "\n{drawn}");
}

/// The purpose of the lab: the reader can distinguish an abort from an orderly release.
#[test]
fn a_reader_tells_an_abort_from_an_end() {
    let says = |name: &str, text: &str| {
        let drawn = lab::play(lab::find(name).unwrap(), &Setup::default()).timeline().to_string();
        drawn.lines().any(|line| line.ends_with(text))
    };
    assert!(says("orderly", "| \"read: end of stream\""));
    assert!(!says("orderly", "| \"read: ConnectionReset\""));
    assert!(says("abort-linger", "| \"read: ConnectionReset\""));
    assert!(!says("abort-linger", "| \"read: end of stream\""));
}

fn wrong() -> Script {
    let refused = (lab::find("refused").unwrap().script)();
    let mut steps = refused.steps;
    let Some(Step::Call { outcome, .. }) = steps.first_mut() else { panic!("it begins with a call") };
    *outcome = Some(Outcome::Done);
    let expected = vec![
        Expected::Resets(vec![]),
        Expected::Count { by: Side::A, flags: TcpFlags::SYN, times: 2 },
        Expected::ByRule { by: Side::B, rule: Rule::RstNoConnection, times: 1 },
        Expected::Ends(Side::A, vec![]),
        Expected::Open(Side::A, 1),
        Expected::Lost(1),
        Expected::IcmpErrors(Side::B, 1),
    ];
    Script { steps, expected, ..refused }
}

#[test]
fn unexpected_results_are_reported() {
    let scenario = Scenario { script: wrong, ..*lab::find("refused").unwrap() };
    let played = lab::play(&scenario, &Setup::default());
    assert_eq!(played.differences.len(), 8, "{:#?}", played.differences);
    assert_eq!(played.differences[0], "A: connect: ConnectionRefused, expected done");
    assert_eq!(played.differences[2], "segments S from A: 1, expected 2");
}

#[test]
fn a_capture_has_every_packet_with_its_rule() {
    let played = lab::play(lab::find("blind-reset").unwrap(), &Setup::default());
    let mut records: Vec<Record> = Vec::new();
    played.trace.capture(&mut records, Duration::from_secs(60), "the title");
    assert_eq!(records.len(), played.trace.packets.len());
    assert_eq!(records[0].at, Instant::from_millis(60_000));
    assert_eq!((records[0].direction, records[1].direction), (Direction::Sent, Direction::Received));
    let comments: Vec<&str> = records.iter().filter_map(|record| record.comment.as_deref()).collect();
    assert_eq!(comments[0], "the title");
    let forged = "forged: not sent by its source; its receiver: answered: [ack-challenge-rst]";
    assert!(comments.iter().any(|comment| comment.starts_with(forged)), "{comments:#?}");
    assert!(
        comments.iter().any(|comment| comment.starts_with("sent: [ack-challenge-rst] ")),
        "{comments:#?}"
    );
}

#[test]
fn scenarios_have_names_of_their_own() {
    for (nth, scenario) in SCENARIOS.iter().enumerate() {
        assert_eq!(lab::find(scenario.name).map(|found| found.summary), Some(scenario.summary));
        assert!(SCENARIOS[..nth].iter().all(|other| other.name != scenario.name));
        assert!(SCENARIOS[..nth].iter().all(|other| other.topic <= scenario.topic), "sorted by topic");
    }
    assert!(lab::find("none-such").is_none());
}
