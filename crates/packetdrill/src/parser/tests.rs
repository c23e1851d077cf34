use super::parse;
use crate::error::{Kind, Problem};
use crate::syntax::{Action, Body, DEEPEST, Node, Packet, Script, Segment, TcpOption, Time};
use lastack_wire::tcp::TcpFlags;
use std::collections::HashMap;
use std::time::Duration;

fn script(source: &str) -> Result<Script, Problem> {
    parse(source, &HashMap::new())
}

fn segment(source: &str) -> Segment {
    let script = script(&format!("0 {source}")).unwrap();
    match &script.events[0].action {
        Action::Inbound(Packet { body: Body::Tcp(segment), .. })
        | Action::Outbound(Packet { body: Body::Tcp(segment), .. }) => segment.clone(),
        other => panic!("{other:?} is no segment"),
    }
}

#[test]
fn a_segment_has_all_its_parts() {
    let all = segment("< 1234 > 8080 FP. 1:11(10) ack 2 win 3 urg 4 <nop,nop,TS val 5 ecr 6>");
    assert_eq!((all.ports, all.seq, all.len), (Some((1234, 8080)), 1, 10));
    assert_eq!(all.flags, TcpFlags::FIN | TcpFlags::PSH | TcpFlags::ACK);
    assert_eq!((all.ack, all.window, all.urgent), (Some(2), Some(3), Some(4)));
    let timestamps = TcpOption::Timestamps { val: 5, ecr: 6 };
    assert_eq!(all.options.unwrap(), [TcpOption::Nop, TcpOption::Nop, timestamps]);
}

#[test]
fn flags_may_be_a_number_or_none() {
    assert_eq!(segment("> .5 1:1(0)").ace, Some(5));
    assert_eq!(segment("> P.3 1:1(0)").flags, TcpFlags::PSH | TcpFlags::ACK);
    assert_eq!(segment("> - 1:1(0)").flags, TcpFlags::empty());
    assert_eq!(segment("> SEWA 1:1(0)").flags.bits(), 2 + 64 + 128 + 256);
    assert_eq!(segment("> S. 0:0(0) <...>").options, None);
}

#[test]
fn bytes_of_a_cookie_may_look_like_a_number() {
    let cookie =
        |text: &str| segment(&format!("< S 0:0(0) win 1 <nop,nop,{text}>")).options.unwrap()[2].clone();
    assert_eq!(
        cookie("FO 0012345678901234"),
        TcpOption::FastOpen(vec![0, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34])
    );
    assert_eq!(cookie("FO"), TcpOption::FastOpen(vec![]));
}

#[test]
fn times_are_absolute_relative_ranges_or_any() {
    let times = script("0 > . 1:1(0) +.5 > . 1:1(0) 1~2 > . 1:1(0) +0~+.05 > . 1:1(0) * > . 1:1(0)").unwrap();
    let ms = Duration::from_millis;
    let expected = [
        Time::At(ms(0)),
        Time::After(ms(500)),
        Time::AtRange(ms(1000), ms(2000)),
        Time::AfterRange(ms(0), ms(50)),
        Time::Any,
    ];
    assert!(times.events.iter().map(|event| event.time).eq(expected));
}

#[test]
fn a_call_has_arguments_and_a_result() {
    let script =
        script("+0...0.020 poll([{fd=3, events=POLLIN|POLLOUT, revents=0}], 1, -1) = -1 EINTR (a (b) c)");
    let script = script.unwrap();
    let Action::Call(call) = &script.events[0].action else { panic!("it is a call") };
    assert_eq!(call.until, Some(Duration::from_millis(20)));
    assert_eq!((call.name.as_str(), call.result, call.errno.as_deref()), ("poll", -1, Some("EINTR")));
    let Node::List(list) = &call.arguments[0].node else { panic!("it is a list") };
    let Node::Struct(fields) = &list[0].node else { panic!("it is a struct") };
    assert_eq!(
        fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>(),
        ["fd", "events", "revents"]
    );
    assert!(matches!(&fields[1].value.node, Node::Or(all) if all.len() == 2));
}

#[test]
fn an_error_is_shown_at_its_position() {
    let wrong = |source: &str| {
        let problem = script(source).unwrap_err();
        (problem.kind, source[problem.span].to_owned())
    };
    assert_eq!(wrong("0 > . 1:5(3)"), (Kind::Syntax, "1:5(3)".to_owned()));
    assert_eq!(wrong("0 < . 1:1(0)"), (Kind::Syntax, String::new()));
    assert_eq!(wrong("1 > . 1:1(0)").1, "1 > . 1:1(0)");
    assert_eq!(wrong("0~1 read(3) = 0").1, "0~1");
    assert_eq!(wrong("0 > X. 1:1(0)").1, "X");
    assert_eq!(wrong("0 > S 1:1(0) <mss 9,nop>").1, "mss 9,nop>");
    assert_eq!(wrong("0 > S 1:1(0) 0 > S 1:1(0) <wscale>").1, ">");
    assert_eq!(wrong("0 > ipv4 1"), (Kind::Unsupported, "ipv4".to_owned()));
    assert_eq!(wrong("2 > . 1:1(0) 1 > . 1:1(0)").1, "2 > . 1:1(0)");
}

#[test]
fn depth_has_an_end() {
    for (before, after) in [("[", "]"), ("{a=", "}"), ("htons(", ")"), ("a=", "")] {
        let nested = |depth| format!("0 f({}1{}) = 0", before.repeat(depth), after.repeat(depth));
        assert!(script(&nested(DEEPEST / 2 - 1)).is_ok(), "{before}");
        for depth in [DEEPEST, 100_000] {
            let problem = script(&nested(depth)).unwrap_err();
            assert!(
                problem.message.contains("nested more than 100 levels deep"),
                "{before}: {}",
                problem.message
            );
            assert!(problem.span.start < 1000, "{before}");
        }
    }
}

#[test]
fn commands_without_a_time_stand_first_and_last() {
    let read = script("--mss=5\n`first`\n0 `middle`\n`last`").unwrap();
    assert_eq!((read.init.unwrap().text, read.cleanup.unwrap().text), ("first".into(), "last".into()));
    assert_eq!((read.options[0].name.as_str(), read.options[0].value.as_deref()), ("mss", Some("5")));
    assert!(script("`a` 0 `b` `c` 0 `d`").is_err());
}
