//! The join, fed with recorded events: what the sources reported when each kind of end was made on purpose.

use lastack_causes::{Cause, EndedBy, Severity};
use lastack_watch::record::Calendar;
use lastack_watch::{
    ConnectCall, Context, Counters, Ended, Event, Flow, Join, JoinOptions, Process, Segment, SocketReport,
    Source, TcpInfo, TcpState, Time, Trace, TraceKind,
};
use lastack_wire::TcpFlags;

/// Flags of an event in a system call, and in an interrupt for packets.
const PROCESS: u8 = 0x20;
const SOFTIRQ: u8 = 0x10;

const OWNER: u32 = 1346;
const VICTIM: u32 = 1489;

fn flow() -> Flow {
    Flow::new("10.78.0.1:44224".parse().unwrap(), "10.78.0.2:8102".parse().unwrap())
}

/// A machine whose sources are played from a record.
struct Machine {
    join: Join,
    now: u64,
}

impl Machine {
    fn new(sources: &[Source]) -> Self {
        let mut machine = Self { join: Join::new(JoinOptions::new(sources.to_vec())), now: 1_000_000 };
        for (pid, comm) in [(OWNER, "shop-cli"), (VICTIM, "postgres"), (31_114, "ss")] {
            let process = Process { pid, comm: comm.into(), uid: Some(1000), ..Process::default() };
            machine.event(Event::Process(process));
        }
        machine
    }

    fn root() -> Self {
        Self::new(&Source::ALL)
    }

    fn event(&mut self, event: Event) -> &mut Self {
        self.now += 1;
        self.join.handle(Time::from_millis(self.now), event);
        self
    }

    fn later(&mut self, milliseconds: u64) -> &mut Self {
        self.now += milliseconds;
        self
    }

    /// A tracepoint while this process is on the CPU.
    fn trace(&mut self, pid: u32, flags: u8, kind: TraceKind) -> &mut Self {
        let comm = if pid == OWNER { "shop-cli" } else { "other" };
        let context = Context { pid, tid: pid, flags, preempt: 1 };
        self.event(Event::Trace(Trace { context, comm: comm.into(), kind }))
    }

    fn state(&mut self, pid: u32, flags: u8, old: TcpState, new: TcpState) -> &mut Self {
        self.trace(pid, flags, TraceKind::SetState { sk: 7, flow: flow(), old, new })
    }

    /// The program connects.
    fn connect(&mut self) -> &mut Self {
        let unbound = Flow::new("10.78.0.1:0".parse().unwrap(), flow().remote);
        let kind = TraceKind::SetState { sk: 7, flow: unbound, old: TcpState::Close, new: TcpState::SynSent };
        self.trace(OWNER, PROCESS, kind);
        self.state(VICTIM, SOFTIRQ, TcpState::SynSent, TcpState::Established)
    }

    fn send_reset(&mut self, pid: u32, flags: u8, state: TcpState, reason: &str) -> &mut Self {
        let kind = TraceKind::SendReset {
            reply: false,
            sk: 7,
            flow: flow(),
            state: Some(state),
            reason: Some(reason.into()),
        };
        self.trace(pid, flags, kind)
    }

    fn receive_reset(&mut self) -> &mut Self {
        self.trace(VICTIM, SOFTIRQ, TraceKind::ReceiveReset { sk: 7, flow: flow(), cookie: 0x1041 })
    }

    fn error(&mut self, pid: u32, flags: u8, errno: i32) -> &mut Self {
        self.trace(pid, flags, TraceKind::ErrorReport { flow: flow(), errno })
    }

    fn destroyed(&mut self, rqueue: u32, wqueue: u32) -> &mut Self {
        let kind = TraceKind::DestroySock { sk: 7, flow: flow(), cookie: 0x1041 };
        if self.join.totals().lost.is_empty() {
            self.trace(OWNER, PROCESS, kind);
        }
        self.event(Event::Destroyed(report(flow(), rqueue, wqueue)))
    }

    fn counters(&mut self, counters: Counters) -> &mut Self {
        self.event(Event::Counters(counters))
    }

    /// Everything that is said in the end.
    fn ends(&mut self) -> Vec<Ended> {
        self.now += 10_000;
        let now = Time::from_millis(self.now);
        std::iter::from_fn(|| self.join.poll(now)).collect()
    }

    fn end(&mut self) -> Ended {
        let mut ends = self.ends();
        assert_eq!(ends.len(), 1, "{ends:#?}");
        ends.remove(0)
    }
}

fn report(flow: Flow, rqueue: u32, wqueue: u32) -> SocketReport {
    let info = TcpInfo {
        bytes_acked: 2,
        bytes_received: 3000,
        last_data_recv: 200,
        last_data_sent: 300,
        last_ack_recv: 200,
        rtt: 30,
        total_retrans: 3,
        snd_wnd: Some(65_536),
        ..TcpInfo::default()
    };
    SocketReport {
        flow,
        cookie: 0x1041,
        state: TcpState::Close,
        timer: 0,
        rqueue,
        wqueue,
        uid: 0,
        inode: 0,
        cgroup: None,
        info: Some(info),
    }
}

fn owner(ended: &Ended) -> Option<(u32, &'static str)> {
    ended.process.as_ref().map(|owner| (owner.pid, owner.how))
}

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

/// Without tracepoints: lists of sockets, broadcasts and counters.
fn unprivileged() -> Machine {
    let mut machine = Machine::new(&[Source::Destroyed, Source::Counters, Source::Sockets]);
    machine.event(Event::Lost { source: Source::Tracepoints, count: 1 }).counters(Counters::default());
    let alive = SocketReport { state: TcpState::Established, inode: 55, ..report(flow(), 0, 0) };
    let begun = Time::from_millis(machine.now);
    machine.event(Event::Listed(alive)).event(Event::ListEnd { begun });
    machine.event(Event::Owner { inode: 55, pid: OWNER });
    machine
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

fn call(cookie: u64, remote: &str) -> Event {
    let flow = Flow::new("10.78.0.1:0".parse().unwrap(), remote.parse().unwrap());
    Event::Connect(ConnectCall { pid: OWNER, cookie, flow })
}

/// What sock_diag reports of a socket whose connect() has failed.
fn cleared(cookie: u64) -> SocketReport {
    let flow = Flow::new("0.0.0.0:53900".parse().unwrap(), "10.78.0.2:0".parse().unwrap());
    let info = TcpInfo { last_ack_recv: u32::MAX, ..TcpInfo::default() };
    SocketReport { cookie, info: Some(info), ..report(flow, 0, 0) }
}

fn with_calls() -> Machine {
    Machine::new(&[Source::Destroyed, Source::Counters, Source::Sockets, Source::Calls])
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
