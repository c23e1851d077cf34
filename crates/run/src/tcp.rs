//! Connections of the program: none is accepted before the remote has answered, and each gets the remote's answer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use lastack::{End, Host, InterceptedTcp, TcpStream};
use lastack_wire::icmp::IcmpError;
use tokio::time::sleep;

use super::Run;
use super::account::ConnectionReport;
use super::attempts::{Attempt, Syn, is_ignored};
use super::budget::Slot;
use super::closing::Live;
use super::dns;
use super::headers::Registered;
use super::plan::Route;
use super::relay::{Carried, Ended, Over, Relay, acted, outlive};
use crate::host::inner::Flow;
use crate::host::socket::close_with_reset;
use crate::host::{self, Connected, Failure, Said};
use crate::inject::{AtSyn, Flow as FaultFlow, Held, Plan as Faults};
use crate::proxy::Refused;
use crate::report::{Proto, Record};

/// Answers every SYN of the program, until the link ends.
pub async fn serve(run: Rc<Run>, host: &Host) -> std::io::Result<Infallible> {
    let syns = host.intercept_tcp()?;
    loop {
        // On the heap: the futures that pass it on are smaller.
        let syn = Box::new(syns.recv().await?);
        // On the heap as well: the memory of a task is aligned to two lines of the cache.
        tokio::task::spawn_local(Box::pin(connection(run.clone(), syn)));
    }
}

/// The result of an attempt to connect.
enum Answer {
    Connected(Connected),
    Failed(Failure),
    /// The proxy, or the remote as the proxy reports it.
    Refused(Refused),
    /// The program has given up: its packets or its kernel report it.
    GivenUp(End),
    LetGo,
    /// The run is ending.
    Closing,
}

/// A connection that is open on the host, and not yet accepted from the program.
struct Open {
    syn: Box<InterceptedTcp>,
    connected: Connected,
    slot: Slot,
}

/// A connection that is relayed. It is on the heap, so that it is not moved from future to future, each of which would
/// have room for it.
struct Connection<'a> {
    program: TcpStream,
    /// With the account.
    host: Registered<'a>,
    faults: Faults,
    slot: Slot,
}

#[allow(clippy::manual_async_fn, reason = "the future of an async function has all its arguments twice")]
fn connection(run: Rc<Run>, syn: Box<InterceptedTcp>) -> impl Future<Output = ()> {
    async move {
        // The end of the run does not wait for DNS connections: the program that sent the queries has ended.
        let live = run.live.enter_quietly();
        // On the heap for as long as it takes: the future of an open connection is smaller without it.
        if let Some((connection, reset)) = Box::pin(establish(&run, syn, &live)).await {
            relay(&run, connection, reset, &live).await;
        }
    }
}

/// Connects both sides, or passes the remote's answer on. With the error of a host's connection that has been reset.
async fn establish<'a>(
    run: &'a Run,
    syn: Box<InterceptedTcp>,
    live: &Live,
) -> Option<(Box<Connection<'a>>, Option<std::io::Error>)> {
    let (Open { syn, connected, slot }, attempt) = open(run, syn, live).await?;
    let Connected { stream: host, reset, max_segment } = connected;
    let _over = host.set_nodelay(true);
    let host = run.headers.register(attempt.account.clone(), host);
    let program = accept(run, syn, (&host, max_segment), &attempt, live).await?;
    // The kernels of both ends have applied Nagle's algorithm. Fails only on a connection that is over.
    let _over = program.set_nodelay(true);
    let faults = attempt.faults.clone();
    Some((Box::new(Connection { program, host, faults, slot }), reset))
}

/// Answers the SYN, unless the remote has accepted.
async fn open(run: &Run, syn: Box<InterceptedTcp>, live: &Live) -> Option<(Open, Rc<Attempt>)> {
    let first = Syn::of(&syn);
    let attempt = run.attempts.earlier(&first).unwrap_or_else(|| Rc::new(begin(run, &syn, first)));
    let open = decide(run, syn, live, &attempt).await;
    match open {
        Some(open) => Some((open, attempt)),
        // The answer may be lost.
        None => {
            run.attempts.keep(attempt);
            None
        }
    }
}

/// An attempt that begins with this SYN, and what the policy and the faults make of it.
fn begin(run: &Run, syn: &InterceptedTcp, first: Syn) -> Attempt {
    let (program, remote) = (syn.peer_addr(), syn.local_addr());
    let account = run.show(ConnectionReport::new(program, remote));
    let faulty = FaultFlow::new(Proto::Tcp, program, remote);
    account.context.change(|context| *context = run.context(&faulty));
    let Route::Remote(actual) = run.plan.place(remote) else {
        return Attempt::new(first, account, Faults::default());
    };
    if account.context.change(|context| run.is_denied(context, Proto::Tcp, remote, Some(actual))) {
        return Attempt::new(first, account, Faults::default());
    }
    let via = run.plan.via(actual.ip()).map(ToString::to_string);
    let faults = account.context.change(|context| {
        context.via = via;
        run.inject.connection(faulty, Some(actual.ip()), context.name.as_deref())
    });
    Attempt::new(first, account, faults)
}

/// Answers the SYN of an attempt, unless the remote has accepted.
async fn decide(run: &Run, syn: Box<InterceptedTcp>, live: &Live, attempt: &Rc<Attempt>) -> Option<Open> {
    let actual = match run.plan.place(syn.local_addr()) {
        Route::Remote(remote) => remote,
        Route::Resolver => {
            ask_for_names(run, *syn, attempt, live).await;
            return None;
        }
        place => {
            refuse(run, *syn, attempt, place);
            return None;
        }
    };
    if attempt.account.context.get().denied.is_some() {
        deny(run, *syn, attempt);
        return None;
    }
    let faulty = FaultFlow::new(Proto::Tcp, syn.peer_addr(), syn.local_addr());
    let syn = match attempt.faults.answer(&run.inject, &faulty) {
        Some(answer) => Box::new(answer_by_fault(run, *syn, attempt, live, answer).await?),
        None => syn,
    };
    connect_remote(run, syn, attempt, live, actual).await
}

/// Passes the remote's answer on, unless it has accepted.
async fn connect_remote(
    run: &Run,
    syn: Box<InterceptedTcp>,
    attempt: &Rc<Attempt>,
    live: &Live,
    actual: SocketAddr,
) -> Option<Open> {
    let account = &attempt.account;
    let (begun, remote) = (std::time::Instant::now(), syn.local_addr());
    let unanswered = |mut record: Record| {
        record.facts.sibling = run.rivals.is_abandoned_attempt(remote, begun);
        attempt.failed(run, record);
    };
    let slot = tokio::select! {
        biased;
        slot = run.budget.acquire(1) => slot,
        end = syn.closed() => {
            unanswered(end.map_or_else(|_| account.abandoned(), |end| account.given_up(&end)));
            return None;
        }
        () = abandoned(run, flow_of(&syn)) => {
            unanswered(account.abandoned());
            syn.ignore();
            return None;
        }
        () = live.closing() => {
            unanswered(account.abandoned());
            syn.ignore();
            return None;
        }
    };
    match ask(run, &syn, actual, live).await {
        Answer::Connected(connected) => {
            account.context.change(|context| context.connect = Some(begun.elapsed()));
            run.rivals.established(remote);
            live.wait_for_end();
            return Some(Open { syn, connected, slot });
        }
        Answer::Failed(failure) => pass_on(run, *syn, attempt, &failure, live).await,
        Answer::Refused(refused) => {
            account.context.change(|context| context.proxy_failed = refused.by_proxy);
            let record = account.failed_by_proxy(&refused);
            attempt.failed(run, record);
            answer(run, *syn, &refused.failure);
        }
        Answer::GivenUp(end) => unanswered(account.given_up(&end)),
        Answer::LetGo => {
            unanswered(account.abandoned());
            // Nothing is left to notify.
            syn.ignore();
        }
        Answer::Closing => {
            // The process that waited has ended.
            unanswered(account.abandoned());
            // The program's kernel gets no answer from us either.
            syn.ignore();
        }
    }
    None
}

/// A connection to a name server: its queries are answered one by one.
async fn ask_for_names(run: &Run, syn: InterceptedTcp, attempt: &Rc<Attempt>, live: &Live) {
    if let Err((syn, failure)) = dns::relay(run, syn, live).await {
        pass_on(run, syn, attempt, &failure, live).await;
    }
}

/// Connects the host to the remote, unless the program gives up.
async fn ask(run: &Run, syn: &InterceptedTcp, actual: SocketAddr, live: &Live) -> Answer {
    let ip = run.headers.of_syn((syn.peer_addr(), syn.local_addr()));
    let attempt = async {
        if let Some(proxy) = run.plan.via(actual.ip()) {
            let to = run.destination(syn.local_addr(), actual);
            return match proxy.connect(&to, &run.plan.source).await {
                Ok(connected) => Answer::Connected(connected),
                Err(refused) => Answer::Refused(refused),
            };
        }
        match connect(run, actual, ip).await {
            Ok(connected) => Answer::Connected(connected),
            Err(failure) => Answer::Failed(failure),
        }
    };
    tokio::select! {
        // A remote on this host has answered when it is first polled: no other branch need be polled.
        biased;
        answer = attempt => answer,
        // An error is the end of the link, and of the run.
        end = syn.closed() => end.map_or(Answer::Closing, Answer::GivenUp),
        () = abandoned(run, flow_of(syn)) => Answer::LetGo,
        () = live.closing() => Answer::Closing,
    }
}

/// Connects. If this host has no descriptor left in spite of the budget, idle flows make room (the limit of the whole
/// system), and those that were closed get the time to close their descriptors: many at once exceed the reserve.
async fn connect(run: &Run, actual: SocketAddr, ip: Option<lastack::IpFields>) -> Result<Connected, Failure> {
    let mut pauses = 0;
    loop {
        match host::connect_with(actual, ip, &run.plan.source).await {
            Err(Failure { errno: libc::EMFILE | libc::ENFILE, .. }) if run.budget.evict() => {
                tokio::task::yield_now().await;
            }
            Err(Failure { errno: libc::EMFILE | libc::ENFILE, .. }) if pauses < MAX_PAUSES => {
                pauses += 1;
                run.budget.pause().await;
            }
            other => return other,
        }
    }
}

/// How often an attempt waits for a descriptor.
const MAX_PAUSES: u32 = 8;

/// Waits until the program has given up its attempt: closing a socket in SYN-SENT sends no packet, but its kernel shows
/// it. The host's attempt is then dropped as well.
pub async fn abandoned(run: &Run, flow: Flow) {
    let mut pause = ATTEMPT_FIRST;
    loop {
        sleep(pause).await;
        pause = (pause * 2).min(ATTEMPT_MAX);
        match run.inner.look(flow) {
            Ok(Some(found)) if found.state == SYN_SENT => {}
            Ok(_) => return,
            // The system does not report it.
            Err(_) => return std::future::pending().await,
        }
    }
}

/// Polling of whether the program still waits: first delay after the SYN, and interval.
const ATTEMPT_FIRST: Duration = Duration::from_millis(10);
const ATTEMPT_MAX: Duration = Duration::from_millis(160);
/// include/net/tcp_states.h.
const SYN_SENT: u8 = 2;

/// The connection as the program's kernel has it.
fn flow_of(syn: &InterceptedTcp) -> Flow {
    Flow { program: syn.peer_addr(), remote: syn.local_addr() }
}

/// Answers without contacting a remote.
fn refuse(run: &Run, syn: InterceptedTcp, attempt: &Attempt, place: Route) {
    attempt.failed(run, attempt.account.refused_here(place));
    let v6 = syn.local_addr().is_ipv6();
    match place {
        Route::LinkLocal => syn.unreachable(IcmpError::admin_prohibited(v6), run.plan.gateway(v6)),
        Route::NobodyThere => syn.unreachable(IcmpError::host_unreachable(v6), run.plan.gateway(v6)),
        _ => syn.refuse(),
    }
}

/// The policy of the run: the answer is that of a rejecting firewall.
fn deny(run: &Run, syn: InterceptedTcp, attempt: &Attempt) {
    let v6 = syn.local_addr().is_ipv6();
    let error = IcmpError::admin_prohibited(v6);
    attempt.failed(run, attempt.account.denied(error));
    syn.unreachable(error, run.plan.gateway(v6));
}

/// An injected fault answers in place of the remote. After a silence of limited duration, returns the SYN.
async fn answer_by_fault(
    run: &Run,
    syn: InterceptedTcp,
    attempt: &Rc<Attempt>,
    live: &Live,
    answer: AtSyn,
) -> Option<InterceptedTcp> {
    let (v6, account) = (syn.local_addr().is_ipv6(), &attempt.account);
    match answer {
        AtSyn::Refuse => {
            attempt.failed(run, account.answered_by_fault(None, true));
            syn.refuse();
        }
        AtSyn::Unreachable(code) => {
            let error = code.error(v6);
            let record = || account.answered_by_fault(Some(error), false);
            let ignored = is_ignored(error);
            if !ignored {
                attempt.failed(run, record());
            }
            syn.unreachable(error, run.plan.gateway(v6));
            if ignored {
                attempt.goes_on(run, live, record).await;
            }
        }
        AtSyn::Silence(until) | AtSyn::Late(until) => {
            let healed = tokio::time::sleep(until.saturating_sub(run.inject.elapsed()));
            tokio::select! {
                () = healed => return Some(syn),
                _ = syn.closed() => {}
                () = abandoned(run, flow_of(&syn)) => {}
                () = live.closing() => {}
            }
            attempt.failed(run, account.answered_by_fault(None, false));
            syn.ignore();
        }
    }
    None
}

/// Passes the failure of the host's attempt on to the program.
async fn pass_on(run: &Run, syn: InterceptedTcp, attempt: &Rc<Attempt>, failure: &Failure, live: &Live) {
    let record = || attempt.account.failed(failure);
    if failure.said == Said::Nothing {
        // The program's kernel may wait for longer than this host's.
        answer(run, syn, failure);
        return attempt.goes_on(run, live, record).await;
    }
    attempt.failed(run, record());
    answer(run, syn, failure);
}

/// Answers as the host was answered.
fn answer(run: &Run, syn: InterceptedTcp, failure: &Failure) {
    let v6 = syn.local_addr().is_ipv6();
    let gateway = run.plan.gateway(v6);
    match failure.said {
        Said::Reset => syn.refuse(),
        Said::Nothing => syn.ignore(),
        Said::Icmp(error, from) if error.v6 == v6 => {
            let error_source = run.plan.error_source(syn.local_addr(), from);
            syn.unreachable(error, error_source.or(gateway));
        }
        Said::Icmp(..) | Said::NoRoute | Said::Forbidden | Said::NoPort | Said::Unbound | Said::Host => {
            syn.unreachable(failure.as_icmp(v6), gateway)
        }
    }
}

/// Accepts the program's connection, with the MSS of the host's. Records why not, if it does not come to one.
async fn accept(
    run: &Run,
    syn: Box<InterceptedTcp>,
    (host, max_segment): (&tokio::net::TcpStream, Option<u16>),
    attempt: &Attempt,
    live: &Live,
) -> Option<TcpStream> {
    if let Some(bytes) = max_segment.or_else(|| host::tcp_info::max_segment(host)) {
        syn.set_max_segment(bytes);
    }
    let accepted = tokio::select! {
        accepted = syn.accept() => accepted,
        () = live.closing() => {
            attempt.failed(run, attempt.account.no_answer());
            return None;
        }
    };
    accepted
        .inspect_err(|error| {
            // The remote has a connection that the program does not have.
            close_with_reset(host);
            let record = match lastack::EndError::find(error) {
                Some(end) => attempt.account.probed(end),
                None => attempt.account.no_answer(),
            };
            attempt.failed(run, record);
        })
        .ok()
}

/// Relays the data and the end of an established connection.
#[allow(clippy::manual_async_fn, reason = "as with connection")]
fn relay<'a>(
    run: &'a Run,
    connection: Box<Connection<'a>>,
    reset: Option<std::io::Error>,
    live: &'a Live,
) -> impl Future<Output = ()> + 'a {
    async move {
        let relay = {
            let Connection { program, host, .. } = &*connection;
            Relay::new(program, host, &host.account().ledger, &run.inner, &run.seen.urgent, reset)
        };
        let over = carried(run, &connection, &relay, live).await;
        Box::pin(end(run, over, relay.is_waiting(), connection, live)).await;
    }
}

/// Begins to relay.
fn carried<'a>(
    run: &'a Run,
    connection: &'a Connection<'a>,
    relay: &'a Relay<'a>,
    live: &'a Live,
) -> Carried<'a> {
    let Connection { program, host, faults, slot } = connection;
    let account = host.account();
    if !run.plan.published.is_empty() {
        account.ledger.course.announce_to(run.announced.clone());
    }
    run.report.opened(|| account.relayed(None, program, host, run.path(&**host)));
    account.may_be_evicted(slot);
    account.context.pack(run.names.of(account.remote().ip()));
    faults.prepare(&account.ledger.gate, run.inject.elapsed());
    let acted = acted(run, faults, account, program, relay);
    Carried::new(relay, account, acted, slot, live)
}

/// Records how the connection has ended, and passes the end on. `waits`: data of the program was not acknowledged.
async fn end(run: &Run, over: Option<Over>, waits: bool, connection: Box<Connection<'_>>, live: &Live) {
    let Connection { program, host, faults, slot: _slot } = *connection;
    let account = host.account().clone();
    let flow = Flow { program: account.local(), remote: account.remote() };
    let faulty = FaultFlow::new(Proto::Tcp, flow.program, flow.remote);
    faults.count_at_end(&run.inject, &faulty, &account.ledger.gate, true);
    let mut record = account.relayed(over.as_ref(), &program, &host, run.path(&*host));
    if matches!(over, Some(Over::Injected(Held::Program))) {
        drop(host);
        outlive(run, (&program, &faulty), (&account, &mut record), live).await;
        run.record(record);
        return run.seen.urgent.forget(&flow.into());
    }
    run.record(record);
    run.seen.urgent.forget(&flow.into());
    let remote_fin = account.ledger.remote_fin.get();
    Ended { program, host, flow, waits, remote_fin }.pass_on(run, over, live).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_output<A, F>(_: impl Fn(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_takes_little_memory() {
        let future = size_of_output(|(run, syn): (Rc<Run>, Box<InterceptedTcp>)| connection(run, syn));
        let parts = [
            ("the future", future, 280),
            // Eight bytes fewer without tokio's multi-threaded runtime, which tests of other crates enable.
            ("both sockets", size_of::<Connection<'_>>(), 120),
            ("its report", size_of::<ConnectionReport>(), 112),
            ("its statistics", size_of::<crate::relay::RelayStats>(), 168),
        ];
        for (part, bytes, max) in parts {
            assert!(
                bytes <= max,
                "{part}: {bytes} bytes; what most connections do not need belongs on the heap"
            );
        }
    }
}
