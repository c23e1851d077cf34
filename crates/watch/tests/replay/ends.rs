//! The cause of each kind of end, and who ended it.

use lastack_causes::{Cause, EndedBy, Severity};
use lastack_watch::record::Calendar;
use lastack_watch::{Counters, Event, Flow, SocketReport, Source, TcpInfo, TcpState, Time, TraceKind};

use super::{
    Machine, OWNER, PROCESS, SOFTIRQ, VICTIM, call, cleared, flow, owner, report, unprivileged, with_calls,
};

#[test]
fn a_refused_connect_is_ended_by_the_server_and_owned_by_the_program() {
    let mut machine = Machine::root();
    let unbound = Flow::new("10.78.0.1:0".parse().unwrap(), flow().remote);
    machine
        .trace(
            OWNER,
            PROCESS,
            TraceKind::SetState { sk: 7, flow: unbound, old: TcpState::Close, new: TcpState::SynSent },
        )
        .receive_reset()
        .state(VICTIM, SOFTIRQ, TcpState::SynSent, TcpState::Close)
        .error(VICTIM, SOFTIRQ, 111)
        .destroyed(0, 0);
    let ended = machine.end();
    assert_eq!((ended.cause, ended.ended_by), (Cause::Refused, EndedBy::Server));
    assert_eq!(owner(&ended), Some((OWNER, "connect")));
}

#[test]
fn linger_0_is_an_abort_of_the_program() {
    let mut machine = Machine::root();
    machine.connect().state(OWNER, PROCESS, TcpState::Established, TcpState::Close).send_reset(
        OWNER,
        PROCESS,
        TcpState::Close,
        "TCP_STATE",
    );
    // The kernel has cleared the addresses: the cookie joins.
    let kind = TraceKind::DestroySock { sk: 7, flow: flow(), cookie: 0x1041 };
    machine.trace(OWNER, PROCESS, kind);
    let cleared = Flow::new("0.0.0.0:44224".parse().unwrap(), "10.78.0.2:0".parse().unwrap());
    machine.event(Event::Destroyed(report(cleared, 0, 65_538)));
    let ended = machine.end();
    assert_eq!((ended.cause, ended.ended_by), (Cause::Abort, EndedBy::Client));
    assert_eq!(ended.flow, flow());
    assert_eq!(ended.unacked, [None, None], "65538 bytes are what a disconnect leaves, not data");
    assert_eq!(owner(&ended), Some((OWNER, "close")));
}

#[test]
fn a_close_with_unread_data_tells_how_many_bytes() {
    let mut machine = Machine::root();
    machine
        .connect()
        .state(OWNER, PROCESS, TcpState::Established, TcpState::Close)
        .send_reset(OWNER, PROCESS, TcpState::Close, "TCP_ABORT_ON_CLOSE")
        .destroyed(2990, 0);
    let ended = machine.end();
    assert_eq!((ended.cause, ended.ended_by), (Cause::CloseUnread, EndedBy::Client));
    assert_eq!(ended.unread, [Some(2990), None]);
    assert_eq!(ended.bytes, [Some(1), Some(3000)]);
    assert_eq!(ended.severity, Severity::Harmful);
    assert_eq!(ended.process.unwrap().killed_by, None);
}

#[test]
fn a_killed_process_is_distinguished_from_one_that_closes() {
    let mut machine = Machine::root();
    machine
        .connect()
        .state(OWNER, PROCESS, TcpState::Established, TcpState::Close)
        .send_reset(OWNER, PROCESS, TcpState::Close, "TCP_ABORT_ON_CLOSE")
        .destroyed(3000, 0)
        .event(Event::Exit { pid: OWNER, status: Some(9), alive: None });
    let ended = machine.end();
    assert_eq!(ended.process.as_ref().unwrap().killed_by, Some(9));
    assert!(ended.detail.contains("SIGKILL"), "{}", ended.detail);
}

#[test]
fn the_process_running_at_a_timer_is_not_named() {
    let mut machine = Machine::root();
    machine
        .connect()
        .later(3000)
        .send_reset(VICTIM, SOFTIRQ, TcpState::Established, "TCP_KEEPALIVE_TIMEOUT")
        .error(VICTIM, SOFTIRQ, 110)
        .state(VICTIM, SOFTIRQ, TcpState::Established, TcpState::Close)
        .destroyed(0, 0);
    let ended = machine.end();
    assert_eq!((ended.cause, ended.ended_by), (Cause::KeepaliveTimeout, EndedBy::Client));
    assert_eq!(owner(&ended), Some((OWNER, "connect")));
}

#[test]
fn a_user_timeout_is_silent() {
    let mut machine = Machine::root();
    machine
        .connect()
        .error(VICTIM, SOFTIRQ, 110)
        .state(VICTIM, SOFTIRQ, TcpState::Established, TcpState::Close)
        .destroyed(0, 4);
    let ended = machine.end();
    assert_eq!((ended.cause, ended.ended_by), (Cause::DeliveryTimeout, EndedBy::Client));
    assert_eq!(ended.unacked, [Some(4), None]);
    assert_eq!(owner(&ended), Some((OWNER, "connect")));
}

/// The kernel reports no error of a socket that its program has closed, and a report can be missing.
#[test]
fn an_end_without_an_error_report_is_told_by_what_the_peer_did_not_acknowledge() {
    let not_reported = |state: TcpState, wqueue| {
        let mut machine = Machine::root();
        machine.connect();
        if state != TcpState::Established {
            machine.state(OWNER, PROCESS, TcpState::Established, state);
        }
        machine.state(VICTIM, SOFTIRQ, state, TcpState::Close).destroyed(0, wqueue).end()
    };
    let data = not_reported(TcpState::Established, 4);
    assert_eq!((data.cause, data.ended_by), (Cause::DeliveryTimeout, EndedBy::Client));
    assert!(data.confidence < 0.7 && !data.alternatives.is_empty(), "{data:#?}");
    let closed_with_data = not_reported(TcpState::FinWait1, 5);
    assert_eq!(
        (closed_with_data.cause, closed_with_data.ended_by),
        (Cause::DeliveryTimeout, EndedBy::Client)
    );
    assert_eq!(closed_with_data.unacked, [Some(4), None]);
    assert!(closed_with_data.detail.contains("with 4 bytes undelivered"), "{}", closed_with_data.detail);
    let fin_alone = not_reported(TcpState::LastAck, 1);
    assert_eq!((fin_alone.cause, fin_alone.unacked), (Cause::DeliveryTimeout, [Some(0), None]));
    assert!(fin_alone.detail.contains("its FIN was not acknowledged"), "{}", fin_alone.detail);
    let unknown = not_reported(TcpState::Established, 0);
    assert_eq!((unknown.cause, unknown.ended_by), (Cause::Abort, EndedBy::Unknown));
    assert!(unknown.confidence < 0.5, "{unknown:#?}");
    assert_eq!(not_reported(TcpState::LastAck, 0).cause, Cause::Orderly);
}

#[test]
fn without_tracepoints_a_socket_destroyed_with_unacknowledged_data_did_not_end_cleanly() {
    let mut machine = unprivileged();
    machine.destroyed(0, 4).counters(Counters::default());
    let ended = machine.end();
    assert_eq!((ended.cause, ended.ended_by), (Cause::DeliveryTimeout, EndedBy::Client));
    assert!(ended.confidence < 0.7, "{ended:#?}");
}

#[test]
fn a_window_that_stays_closed_is_no_loss() {
    let mut machine = Machine::root();
    machine.connect().error(VICTIM, SOFTIRQ, 110).state(
        VICTIM,
        SOFTIRQ,
        TcpState::Established,
        TcpState::Close,
    );
    let mut shut = report(flow(), 0, 400);
    shut.info = Some(TcpInfo { snd_wnd: Some(0), ..shut.info.unwrap() });
    machine.event(Event::Destroyed(shut));
    assert_eq!(machine.end().cause, Cause::ZeroWindow);
}

#[test]
fn the_peers_reset_is_the_peers() {
    let mut machine = Machine::root();
    machine
        .connect()
        .receive_reset()
        .state(VICTIM, SOFTIRQ, TcpState::Established, TcpState::Close)
        .error(VICTIM, SOFTIRQ, 104)
        .destroyed(0, 0);
    let ended = machine.end();
    assert_eq!((ended.cause, ended.ended_by), (Cause::Abort, EndedBy::Server));
    assert!(ended.confidence <= 0.6, "what the peer's program did does not show");
    let all: f32 = ended.confidence + ended.alternatives.iter().map(|other| other.confidence).sum::<f32>();
    assert!(all <= 1.001, "{all}");
    assert_eq!(owner(&ended), Some((OWNER, "connect")));
}

#[test]
fn data_after_the_close_amends_the_record() {
    let mut machine = Machine::root();
    machine
        .connect()
        .state(OWNER, PROCESS, TcpState::Established, TcpState::FinWait1)
        .state(VICTIM, SOFTIRQ, TcpState::FinWait2, TcpState::Close)
        .destroyed(0, 0);
    let ended = machine.end();
    assert_eq!((ended.cause, ended.ended_by, ended.amends), (Cause::Orderly, EndedBy::Client, false));
    let kind = TraceKind::SendReset {
        reply: true,
        sk: 9,
        flow: flow(),
        state: Some(TcpState::TimeWait),
        reason: Some("TCP_TIMEWAIT_SOCKET".into()),
    };
    machine.trace(VICTIM, SOFTIRQ, kind);
    let ended = machine.end();
    assert_eq!((ended.cause, ended.ended_by, ended.amends), (Cause::DataAfterClose, EndedBy::Client, true));
    assert_eq!(owner(&ended), Some((OWNER, "close")));
    let totals = machine.join.totals();
    assert_eq!(totals.ended, 1, "it is one connection");
    assert_eq!((totals.causes[&Cause::Orderly], totals.causes[&Cause::DataAfterClose]), (0, 1));
}

#[test]
fn an_administrator_is_not_the_owner() {
    let mut machine = Machine::root();
    machine
        .connect()
        .send_reset(31_114, PROCESS, TcpState::Established, "TCP_STATE")
        .error(31_114, PROCESS, 103)
        .state(31_114, PROCESS, TcpState::Established, TcpState::Close)
        .destroyed(0, 0);
    let ended = machine.end();
    assert_eq!((ended.cause, ended.ended_by), (Cause::Abort, EndedBy::Client));
    assert_eq!(ended.rules, ["S103"]);
    assert!(ended.detail.contains("31114"), "{}", ended.detail);
    assert_eq!(owner(&ended), Some((OWNER, "connect")));
}

#[test]
fn a_closed_listener_resets_waiting_connections() {
    let mut machine = Machine::root();
    let listener = Flow::new(flow().local, "0.0.0.0:0".parse().unwrap());
    machine.state(VICTIM, SOFTIRQ, TcpState::SynRecv, TcpState::Established).trace(
        OWNER,
        PROCESS,
        TraceKind::SetState { sk: 5, flow: listener, old: TcpState::Listen, new: TcpState::Close },
    );
    machine
        .state(OWNER, PROCESS, TcpState::Established, TcpState::Close)
        .send_reset(OWNER, PROCESS, TcpState::Close, "TCP_STATE")
        .destroyed(0, 0);
    let ended = machine.end();
    assert_eq!((ended.cause, ended.ended_by), (Cause::ListenerClosed, EndedBy::Server));
    assert_eq!(owner(&ended), Some((OWNER, "listener")));
}

#[test]
fn a_socket_of_another_network_namespace_is_left_out() {
    let mut machine = Machine::root();
    machine.connect().state(OWNER, PROCESS, TcpState::Established, TcpState::Close).send_reset(
        OWNER,
        PROCESS,
        TcpState::Close,
        "TCP_STATE",
    );
    assert_eq!(machine.ends(), []);
    assert_eq!((machine.join.totals().foreign, machine.join.totals().ended), (1, 0));
}

#[test]
fn a_reused_four_tuple_is_another_connection() {
    let mut machine = Machine::root();
    for _ in 0..2 {
        machine
            .connect()
            .state(OWNER, PROCESS, TcpState::Established, TcpState::Close)
            .send_reset(OWNER, PROCESS, TcpState::Close, "TCP_STATE")
            .destroyed(0, 0)
            .later(5);
    }
    let ends = machine.ends();
    assert_eq!(ends.len(), 2, "{ends:#?}");
    assert!(ends.iter().all(|ended| ended.cause == Cause::Abort));
}

#[test]
fn counters_tell_the_cause_of_a_single_end() {
    let cases: [(Counters, (u32, u32), Cause, EndedBy); 4] = [
        (
            Counters { abort_on_close: 1, estab_resets: 1, out_resets: 1, ..Counters::default() },
            (2990, 0),
            Cause::CloseUnread,
            EndedBy::Client,
        ),
        (
            Counters { abort_on_timeout: 1, estab_resets: 1, ..Counters::default() },
            (0, 4),
            Cause::DeliveryTimeout,
            EndedBy::Client,
        ),
        (
            Counters { abort_on_timeout: 1, estab_resets: 1, out_resets: 1, ..Counters::default() },
            (0, 0),
            Cause::KeepaliveTimeout,
            EndedBy::Client,
        ),
        (Counters { estab_resets: 1, ..Counters::default() }, (0, 0), Cause::Abort, EndedBy::Server),
    ];
    for (counters, (rqueue, wqueue), cause, by) in cases {
        let mut machine = unprivileged();
        machine.destroyed(rqueue, wqueue).counters(counters);
        let ended = machine.end();
        assert_eq!((ended.cause, ended.ended_by), (cause, by), "{counters:?}");
        assert_eq!(owner(&ended), Some((OWNER, "fd")));
        assert!(ended.confidence <= 0.9 && !ended.limits.is_empty());
    }
}

#[test]
fn without_an_increase_it_ended_cleanly() {
    let mut machine = unprivileged();
    machine.destroyed(0, 0).counters(Counters::default());
    assert_eq!(machine.end().cause, Cause::Orderly);
}

#[test]
fn of_several_ends_at_a_time_none_is_accused_by_a_counter() {
    let mut machine = unprivileged();
    let other = Flow::new(flow().local, "10.78.0.2:9999".parse().unwrap());
    let second = SocketReport { cookie: 0x2000, ..report(other, 0, 0) };
    machine.destroyed(0, 0).event(Event::Destroyed(second));
    machine.counters(Counters { estab_resets: 1, ..Counters::default() });
    let ends = machine.ends();
    assert_eq!(ends.len(), 2);
    assert!(ends.iter().all(|ended| ended.cause == Cause::Orderly && ended.confidence <= 0.8), "{ends:#?}");
}

#[test]
fn a_socket_that_is_no_longer_listed_was_closed_by_the_network() {
    let mut machine = unprivileged();
    machine.counters(Counters { estab_resets: 1, ..Counters::default() });
    let begun = Time::from_millis(machine.now);
    machine.event(Event::ListEnd { begun });
    let ended = machine.end();
    assert_eq!((ended.cause, ended.ended_by), (Cause::Abort, EndedBy::Server));
    // The program closes it an hour later: nothing new.
    machine.later(3_600_000).destroyed(0, 0);
    assert!(machine.ends().len() <= 1);
}

#[test]
fn a_process_that_is_killed_with_nothing_unread_is_named_with_its_signal() {
    let killed = |signal: i32| {
        let mut machine = unprivileged();
        let exit = Event::Exit { pid: OWNER, status: Some(signal), alive: None };
        machine.destroyed(0, 0).event(exit).counters(Counters::default());
        machine.end()
    };
    let ended = killed(9);
    assert_eq!(
        (ended.cause, ended.ended_by, ended.severity),
        (Cause::Orderly, EndedBy::Client, Severity::Suspicious)
    );
    assert_eq!(ended.detail, "its process was killed by SIGKILL");
    let ended = killed(15);
    assert_eq!(
        (ended.severity, ended.detail.as_str()),
        (Severity::Benign, "its process was killed by SIGTERM")
    );
    // An exit is no signal.
    assert_eq!(killed(0x100).detail, "");
}

/// A line of text has words for the confidence; the number is in the record.
#[test]
fn a_line_says_how_sure_it_is() {
    let mut machine = with_calls();
    machine.counters(Counters::default()).event(call(0x1041, "10.78.0.2:8101"));
    machine.event(Event::Destroyed(cleared(0x1041)));
    machine.counters(Counters { attempt_fails: 1, ..Counters::default() });
    let mut ended = machine.end();
    let mut line = |confidence: f32, alternatives: bool| {
        ended.confidence = confidence;
        if !alternatives {
            ended.alternatives.clear();
        }
        lastack_watch::line(&ended, &Calendar::now(), &jiff::tz::TimeZone::UTC)
    };
    for (confidence, expected) in [
        (0.9, "shop-cli[1346]  refused by the server: nothing accepts connections at that port  after"),
        (0.85, "shop-cli[1346]  very likely refused by the server: nothing accepts"),
        (0.6, "shop-cli[1346]  either refused or icmp-port-unreachable by the server: nothing"),
        (0.3, "shop-cli[1346]  unknown; it may be refused by the server: nothing"),
    ] {
        let line = line(confidence, true);
        assert!(line.contains(expected), "{confidence}: {line}");
        assert!(!line.contains(&confidence.to_string()), "{line}");
        assert_eq!(line.contains(" would settle it"), confidence < 0.9, "{line}");
        assert_eq!(
            line.contains("; otherwise icmp-port-unreachable: "),
            [0.85, 0.3].contains(&confidence),
            "{line}"
        );
    }
    let alone = line(0.6, false);
    assert!(alone.contains("  probably refused by the server: ") && !alone.contains("settle"), "{alone}");
}

fn killed(machine: &mut Machine) -> &mut Machine {
    machine.event(Event::Exit { pid: OWNER, status: Some(9), alive: None })
}

/// What is in the send buffer of a killed process is still sent: the connection ends seconds after the process.
#[test]
fn a_killed_process_is_named_though_its_data_is_delivered_after_that() {
    let mut machine = Machine::root();
    machine.connect().state(OWNER, PROCESS, TcpState::Established, TcpState::FinWait1);
    killed(&mut machine).later(3000);
    machine.state(VICTIM, SOFTIRQ, TcpState::FinWait2, TcpState::Close).destroyed(0, 0);
    let ended = machine.end();
    assert_eq!((ended.cause, ended.severity), (Cause::Orderly, Severity::Suspicious));
    assert_eq!(ended.detail, "its process was killed by SIGKILL");
    // Its end was noticed late: it was alive shortly before the close.
    let mut machine = Machine::root();
    machine.connect();
    let alive = Some(Time::from_millis(machine.now));
    machine.state(OWNER, PROCESS, TcpState::Established, TcpState::FinWait1).later(2500);
    machine.event(Event::Exit { pid: OWNER, status: Some(9), alive });
    machine.state(VICTIM, SOFTIRQ, TcpState::FinWait2, TcpState::Close).destroyed(0, 0);
    assert_eq!(machine.end().detail, "its process was killed by SIGKILL");
    // The same process closes another connection, and is killed much later.
    let mut machine = Machine::root();
    machine.connect().state(OWNER, PROCESS, TcpState::Established, TcpState::FinWait1);
    killed(machine.later(2500)).later(500);
    machine.state(VICTIM, SOFTIRQ, TcpState::FinWait2, TcpState::Close).destroyed(0, 0);
    assert_eq!(machine.end().detail, "");
}

#[test]
fn data_after_the_end_of_a_killed_process_names_the_signal() {
    let mut machine = Machine::root();
    machine.connect().state(OWNER, PROCESS, TcpState::Established, TcpState::FinWait1);
    killed(&mut machine);
    let kind = TraceKind::SendReset {
        reply: true,
        sk: 7,
        flow: flow(),
        state: Some(TcpState::FinWait2),
        reason: Some("TCP_ABORT_ON_DATA".into()),
    };
    machine.trace(VICTIM, SOFTIRQ, kind);
    machine.state(VICTIM, SOFTIRQ, TcpState::FinWait2, TcpState::Close).destroyed(0, 0);
    let ended = machine.end();
    assert_eq!((ended.cause, ended.ended_by), (Cause::DataAfterClose, EndedBy::Client));
    assert_eq!(ended.detail, "its process was killed by SIGKILL; the peer sent data after that");
}

/// Both ends are on this host. The one whose FIN was acknowledged is not the one whose reset was counted.
#[test]
fn without_tracepoints_a_killed_sender_did_not_abort() {
    let mut machine = Machine::new(&[Source::Destroyed, Source::Counters, Source::Sockets]);
    machine.counters(Counters::default());
    let begun = Time::from_millis(machine.now);
    let (near, far) = (flow(), flow().mirrored());
    let alive = |flow, inode, cookie| {
        Event::Listed(SocketReport { state: TcpState::Established, inode, cookie, ..report(flow, 0, 0) })
    };
    let listener = Flow::new(far.local, "0.0.0.0:0".parse().unwrap());
    let listening = SocketReport { state: TcpState::Listen, inode: 9, cookie: 1, ..report(listener, 0, 0) };
    machine.event(Event::Listed(listening)).event(alive(near, 55, 0x1041)).event(alive(far, 56, 0x2000));
    machine.event(Event::ListEnd { begun });
    machine.event(Event::Owner { inode: 55, pid: VICTIM }).event(Event::Owner { inode: 56, pid: OWNER });
    killed(&mut machine);
    let info = |bytes_acked, data_sent| {
        let info = TcpInfo { bytes_acked, data_sent: Some(data_sent), ..TcpInfo::default() };
        Some(TcpInfo { rtt: 30, last_ack_recv: 100, ..info })
    };
    let at = Time::from_millis(machine.now + 50);
    // The server's bytes and its FIN were acknowledged; of the client's only the SYN and the first.
    let server = SocketReport { cookie: 0x2000, info: info(1001, 1000), ..report(far, 0, 0) };
    let client = SocketReport { info: info(2, 5), ..report(near, 0, 0) };
    machine.later(50);
    machine.join.handle(at, Event::Destroyed(server));
    machine.join.handle(at, Event::Destroyed(client));
    machine.counters(Counters { estab_resets: 1, out_resets: 1, ..Counters::default() });
    let ended = machine.end();
    assert_eq!((ended.cause, ended.ended_by), (Cause::DataAfterClose, EndedBy::Server), "{ended:#?}");
    assert!(ended.detail.starts_with("its process was killed by SIGKILL; "), "{}", ended.detail);
    assert_eq!(owner(&ended), Some((OWNER, "fd")));
}
