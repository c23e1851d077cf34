//! Which socket, process and call an event is about; what is lost; what is bounded.

use lastack_causes::{Cause, EndedBy};
use lastack_watch::{
    Counters, Event, Flow, Join, JoinOptions, Segment, SocketReport, Source, TcpState, Time, TraceKind,
};
use lastack_wire::TcpFlags;

use super::{Machine, OWNER, PROCESS, SOFTIRQ, VICTIM, call, cleared, flow, owner, report, with_calls};

#[test]
fn the_number_of_connections_is_bounded() {
    let mut join = Join::new(JoinOptions { max_connections: 100, ..JoinOptions::new(Source::ALL.to_vec()) });
    for n in 0..10_000u64 {
        let remote = format!("10.78.{}.{}:80", n / 200, n % 200 + 1).parse().unwrap();
        let alive = SocketReport {
            cookie: n,
            state: TcpState::Established,
            ..report(Flow::new(flow().local, remote), 0, 0)
        };
        join.handle(Time::from_millis(n), Event::Listed(alive));
    }
    assert_eq!(join.open_connections(), 100);
    assert_eq!(join.totals().evicted, 9900);
}

/// Another network namespace has a socket with the same addresses: the events of the two are not mixed, whichever comes
/// first.
#[test]
fn sockets_of_two_namespaces_with_the_same_addresses_are_kept_apart() {
    for ours_first in [false, true] {
        let mut machine = Machine::root();
        let unbound = Flow::new("10.78.0.1:0".parse().unwrap(), flow().remote);
        let sockets = if ours_first { [7, 8] } else { [8, 7] };
        let process = |sk| if sk == 7 { OWNER } else { 31_114 };
        for sk in sockets {
            let (old, new) = (TcpState::Close, TcpState::SynSent);
            machine.trace(process(sk), PROCESS, TraceKind::SetState { sk, flow: unbound, old, new });
        }
        for sk in sockets {
            // Ours is refused; the other one is closed by its program before an answer comes.
            let pid = process(sk);
            if sk == 7 {
                let kind = TraceKind::ReceiveReset { sk, flow: flow(), cookie: 0x1041 };
                machine.trace(pid, SOFTIRQ, kind);
            }
            let (old, new) = (TcpState::SynSent, TcpState::Close);
            machine.trace(pid, SOFTIRQ, TraceKind::SetState { sk, flow: flow(), old, new });
            let errno = if sk == 7 { libc::ECONNREFUSED } else { libc::EHOSTUNREACH };
            machine.error(pid, SOFTIRQ, errno);
        }
        for sk in sockets {
            let cookie = if sk == 7 { 0x1041 } else { 0x2000 };
            machine.trace(process(sk), PROCESS, TraceKind::DestroySock { sk, flow: flow(), cookie });
        }
        // Only the socket of this namespace is broadcast.
        machine.event(Event::Destroyed(report(flow(), 0, 0)));
        let ended = machine.end();
        assert_eq!(
            (ended.cause, ended.ended_by),
            (Cause::Refused, EndedBy::Server),
            "{ours_first} {ended:#?}"
        );
        assert_eq!(owner(&ended), Some((OWNER, "connect")), "{ours_first}");
        assert!(ended.kernel.iter().all(|line| !line.contains("error=113")), "{:#?}", ended.kernel);
    }
}

#[test]
fn a_call_tells_whose_a_refused_socket_was_and_where_it_connected() {
    let mut machine = with_calls();
    machine.counters(Counters::default());
    machine.event(call(0x1041, "10.78.0.2:8101")).event(call(0x1042, "10.78.0.2:8102"));
    machine.event(Event::Destroyed(cleared(0x1042))).event(Event::Destroyed(cleared(0x1041)));
    machine.counters(Counters { attempt_fails: 2, ..Counters::default() });
    let mut ends = machine.ends();
    ends.sort_by_key(|ended| ended.flow.remote.port());
    let flows: Vec<String> =
        ends.iter().map(|ended| format!("{} > {}", ended.client(), ended.server())).collect();
    assert_eq!(flows, ["10.78.0.1:53900 > 10.78.0.2:8101", "10.78.0.1:53900 > 10.78.0.2:8102"]);
    for ended in &ends {
        assert_eq!((ended.cause, owner(ended)), (Cause::Refused, Some((OWNER, "connect"))));
        // Each of them failed, though two fell between two readings.
        assert!(ended.confidence > 0.8 && ended.roles_known, "{ended:#?}");
    }
    assert!(machine.join.is_of_program(OWNER) && !machine.join.is_of_program(VICTIM));
}

#[test]
fn a_call_that_failed_before_a_segment_was_sent_is_no_connection() {
    let mut machine = with_calls();
    machine.counters(Counters::default()).event(call(0x1041, "203.0.113.9:80"));
    let unbound = Flow::new("0.0.0.0:0".parse().unwrap(), "0.0.0.0:0".parse().unwrap());
    machine.event(Event::Destroyed(SocketReport { flow: unbound, ..cleared(0x1041) }));
    machine.counters(Counters::default());
    assert_eq!(machine.ends(), []);
}

#[test]
fn a_socket_that_vanished_from_the_lists_after_its_call_was_refused() {
    for (fails, expected) in [(1, 1), (0, 0)] {
        let mut machine = with_calls();
        machine.counters(Counters::default()).event(call(0x1041, "10.78.0.2:8101"));
        machine.later(2000).counters(Counters { attempt_fails: fails, ..Counters::default() });
        let begun = Time::from_millis(machine.now);
        machine.event(Event::ListEnd { begun });
        let ends = machine.ends();
        assert_eq!(ends.len(), expected, "{ends:#?}");
        assert!(ends.iter().all(|ended| ended.cause == Cause::Refused && ended.server().port() == 8101));
        // The program closes it later: nothing new.
        machine.event(Event::Destroyed(cleared(0x1041)));
        assert_eq!(machine.ends(), []);
    }
}

#[test]
fn a_second_call_for_a_socket_tells_that_the_first_failed_unless_it_is_the_same() {
    for (second, expected) in [("10.78.0.2:8102", 2), ("10.78.0.2:8101", 1)] {
        let mut machine = with_calls();
        machine.counters(Counters::default()).event(call(0x1041, "10.78.0.2:8101"));
        machine.counters(Counters { attempt_fails: 1, ..Counters::default() });
        machine.event(call(0x1041, second)).event(Event::Destroyed(cleared(0x1041)));
        machine.counters(Counters { attempt_fails: 2, ..Counters::default() });
        let ends = machine.ends();
        assert_eq!(ends.len(), expected, "{ends:#?}");
        assert!(ends.iter().all(|ended| ended.cause == Cause::Refused));
    }
}

/// Both ends are on this host, and the one that closed first is destroyed before a list shows the other.
#[test]
fn the_other_end_is_listed_after_the_first_was_destroyed() {
    let mut machine = with_calls();
    machine.counters(Counters::default());
    machine.event(Event::Destroyed(SocketReport { cookie: 0x2000, ..report(flow().mirrored(), 0, 0) }));
    let alive = SocketReport { state: TcpState::CloseWait, inode: 5, ..report(flow(), 3001, 0) };
    machine.event(Event::Listed(alive)).event(Event::Owner { inode: 5, pid: OWNER });
    machine.later(100).event(Event::Destroyed(report(flow(), 2991, 0)));
    machine.counters(Counters { abort_on_close: 1, estab_resets: 1, ..Counters::default() });
    let ended = machine.end();
    assert_eq!((ended.cause, ended.both_local), (Cause::CloseUnread, true), "{ended:#?}");
    assert_eq!(
        (owner(&ended), ended.detail.as_str()),
        (Some((OWNER, "fd")), "closed with 2990 bytes unread")
    );
}

/// A BPF program at the tracepoint of transitions holds its events back from perf. The kernel does not count them.
#[test]
fn events_that_the_kernel_withholds_are_counted_as_lost() {
    for withheld in [false, true] {
        let mut machine = Machine::root();
        machine.event(Event::Listed(SocketReport { state: TcpState::Established, ..report(flow(), 0, 0) }));
        if !withheld {
            machine.state(OWNER, PROCESS, TcpState::LastAck, TcpState::Close);
        }
        machine.trace(OWNER, PROCESS, TraceKind::DestroySock { sk: 7, flow: flow(), cookie: 0x1041 });
        machine.event(Event::Destroyed(report(flow(), 0, 0)));
        assert_eq!(machine.end().cause, Cause::Orderly);
        assert_eq!(machine.join.totals().lost.get(&Source::Tracepoints), withheld.then_some(&1));
    }
}

fn syn(sent: bool, flow: Flow) -> Segment {
    Segment {
        sent,
        flow,
        flags: TcpFlags::SYN,
        seq: 1000,
        ack: 0,
        window: 64240,
        payload: 0,
        hop_limit: 64,
        ident: 0,
    }
}

/// The packets of a CPU that did not run may be read after the end of their connection.
#[test]
fn a_syn_that_is_read_late_begins_no_other_connection() {
    let mut machine = Machine::root();
    let unbound = Flow::new("10.78.0.1:0".parse().unwrap(), flow().remote);
    let kind = TraceKind::SetState { sk: 7, flow: unbound, old: TcpState::Close, new: TcpState::SynSent };
    machine.trace(OWNER, PROCESS, kind);
    let sent = Time::from_millis(machine.now);
    machine.later(5).receive_reset();
    machine.state(OWNER, SOFTIRQ, TcpState::SynSent, TcpState::Close).error(OWNER, SOFTIRQ, 111);
    machine.join.handle(sent, Event::Segment(syn(true, flow())));
    machine.destroyed(0, 0);
    let ended = machine.end();
    assert_eq!((ended.cause, owner(&ended)), (Cause::Refused, Some((OWNER, "connect"))));
    assert_eq!((ended.packets, ended.started), (1, Some(sent)));
    assert!(machine.join.totals().lost.is_empty(), "{:?}", machine.join.totals().lost);
}

/// Both ends are on this host, and packets show the connection: each of them is judged by its own transitions.
#[test]
fn the_end_of_one_socket_does_not_tell_that_events_of_the_other_were_withheld() {
    let mut machine = Machine::root();
    machine.event(Event::Segment(syn(false, flow()))).connect();
    let far = flow().mirrored();
    let far_state = |old, new| TraceKind::SetState { sk: 8, flow: far, old, new };
    machine.trace(OWNER, SOFTIRQ, far_state(TcpState::SynRecv, TcpState::Established));
    machine.trace(OWNER, PROCESS, far_state(TcpState::Established, TcpState::Close));
    machine.trace(OWNER, PROCESS, TraceKind::DestroySock { sk: 8, flow: far, cookie: 0x1042 });
    machine.receive_reset().state(OWNER, SOFTIRQ, TcpState::Established, TcpState::Close);
    machine.destroyed(0, 0);
    assert!(machine.join.totals().lost.is_empty(), "{:?}", machine.join.totals().lost);
    // Another socket at the same address, whose transition is withheld.
    machine.event(Event::Segment(Segment { seq: 9000, ..syn(true, flow()) }));
    machine.connect().destroyed(0, 0);
    assert_eq!(machine.join.totals().lost.get(&Source::Tracepoints), Some(&1));
}
