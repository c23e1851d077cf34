//! The join, fed with recorded events: what the sources reported when each kind of end was made on purpose.

mod ends;
mod sockets;

use lastack_watch::{
    ConnectCall, Context, Counters, Ended, Event, Flow, Join, JoinOptions, Process, SocketReport, Source,
    TcpInfo, TcpState, Time, Trace, TraceKind,
};

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
