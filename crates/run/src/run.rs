//! `lastack run`: a program in its own network namespace, and how each of its connections ended.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use lastack::Instant;
use lastack::link::{Capture, Direction, Link, PcapngWriter, Sink};
use lastack::{Config, Host};
use lastack_device::Device;
use tokio::runtime::LocalOptions;
use tokio::task::JoinHandle;

use crate::attempts::Attempts;
use crate::budget::{Budget, DESCRIPTORS_HINT};
use crate::closing::Connections;
use crate::comments::{Commented, Comments, Writer};
use crate::conclude::Screened;
use crate::course::Announced;
use crate::descriptors::Descriptors;
use crate::dns::{Names, Resolvers};
use crate::flight::FlightRecorder;
use crate::inject::{Flow, Injector};
use crate::plan::Plan;
use crate::ports::Ports;
use crate::rivals::Rivals;

use crate::forward::{self, ApiSocket};
use crate::headers::Headers;
use crate::host::resolvers::RESOLV_CONF;
use crate::live::{self, Board};
use crate::options::Options;
use crate::outputs::Outputs;
use crate::own_loopback::Refusals;
use crate::page::Page;
use crate::pipe::{Output, what_is_left};
use crate::tap::{Seen, Tap};
use crate::udp::Flows;
use crate::udp::published::PublishedPort;
use crate::{ending, icmp, inward, isolation, localhost, tcp, udp};

use crate::host::inner::Inner;
use crate::lifetime::{Ready, Until};
use crate::namespace::{Attendant, InnerSocket, LaunchError, Signals, exit_as};
use crate::report::{Destination, Exit, Reporter};
use crate::served::Served;

/// After a signal that asks for the end, and is not the program's alone, lastack ends within this time, also if a
/// terminal, a pipe or a disk to which it writes takes nothing: the signal then kills it.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// Exit status if lastack itself fails, including invalid options.
pub const EXIT_INTERNAL: u8 = 125;

/// A run in progress.
#[derive(Debug)]
pub struct Run {
    pub(crate) plan: Plan,
    pub(crate) report: Reporter,
    pub(crate) live: Connections,
    /// The descriptors for flows.
    pub(crate) budget: Rc<Budget>,
    pub(crate) resolvers: Resolvers,
    pub(crate) names: Names,
    /// The injected faults.
    pub(crate) inject: Injector,
    /// Flows of datagrams, with the verdict of the run's options.
    pub(crate) screened: RefCell<HashMap<Flow, Screened>>,
    /// The process with the privileges that lastack has given up; `None` if it could not be started.
    pub(crate) attendant: Option<Attendant>,
    /// Recently established connections.
    pub(crate) rivals: Rivals,
    /// Attempts to connect that were answered lately.
    pub(crate) attempts: Attempts,
    /// Packet comments in the capture.
    pub(crate) comments: Comments,
    /// The program's own sockets.
    pub(crate) inner: Inner,
    pub(crate) headers: Headers,
    /// What `--live` shows.
    pub(crate) board: Option<Board>,
    /// The last packets of each connection.
    pub(crate) flight: Option<FlightRecorder>,
    /// The page of the connections.
    pub(crate) page: Option<Page>,
    /// Connections refused by the program's own loopback.
    pub(crate) refusals: Refusals,
    pub(crate) seen: Arc<Seen>,
    pub(crate) ports: Ports,
    /// A program inside may have started to listen.
    pub(crate) announced: Rc<Announced>,
    /// Published ports inside, with the addresses of this host that lead there; `None`, once a program has listened.
    pub(crate) never_listened: RefCell<BTreeMap<u16, Option<Vec<SocketAddr>>>>,
    /// Published ports on which no program listens yet.
    bound: RefCell<Vec<inward::Bound>>,
    pub(crate) bound_datagrams: RefCell<Vec<PublishedPort>>,
    /// The datagrams, once they are relayed.
    pub(crate) datagrams: RefCell<Weak<Flows>>,
    /// The socket of requests to forward ports.
    api: RefCell<Option<ApiSocket>>,
    /// Why the proxy carries no datagrams, once it has refused them.
    pub(crate) no_datagrams: RefCell<Option<String>>,
    /// Connections that were relayed between sockets, without packets.
    between_sockets: Cell<u64>,
    /// Why the program has lost its network.
    lost: RefCell<Option<String>>,
}

impl Run {
    /// Whether standard error is for people: if the report is JSON lines, it carries only those.
    pub(crate) fn talks(&self) -> bool {
        match self.plan.report.to {
            Destination::Nowhere => false,
            Destination::StandardError => !self.plan.report.json,
            Destination::File(_) => true,
        }
    }
}

/// Why the program was not run, or not to completion.
enum Error {
    Launch(LaunchError),
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

/// Runs the program, and exits as it does.
pub fn main(options: Options) -> ExitCode {
    match run(options) {
        Ok(status) => exit_as(status),
        Err(Error::Launch(error)) => {
            say!("lastack run: {error}");
            error.exit_status().into()
        }
        Err(Error::Other(error)) => {
            say!("lastack run: {error:#}");
            EXIT_INTERNAL.into()
        }
    }
}

fn run(options: Options) -> Result<ExitStatus, Error> {
    let plan = Plan::new(options)?;
    let mut ready = Ready::prepare(plan.place.ready_fd, plan.place.pid_file.as_deref())?;
    if plan.place.detach {
        ready.detach()?;
    }
    // Do everything that can fail before the program runs.
    let descriptors = Descriptors::prepare()?;
    let report = Reporter::new(plan.report.clone())?;
    let outputs = Outputs::open(&plan)?;
    inward::reject_duplicates(&plan.published)?;
    let bound = inward::bind(&plan.published)?;
    let datagrams = inward::bind_datagrams(&plan.published)?;
    let api = plan.place.api_socket.as_deref().map(ApiSocket::open).transpose()?;
    let resolvers = match plan.resolvers_fixed {
        true => Resolvers::fixed(plan.resolvers.clone()),
        false => Resolvers::of_file(Path::new(RESOLV_CONF)),
    };
    // Of one thread, to which its tasks belong: a LocalSet would be polled as one task, with all that is waited for beside.
    let options = LocalOptions::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(options);
    let runtime = runtime.context("cannot start the runtime")?;
    let mut signals = Signals::catch().context("cannot catch signals")?;
    signals.limit(ENDS_WITHIN).context("cannot limit the time for the end (timer_create)")?;
    let mut served = Served::begin(&plan, descriptors).map_err(Error::Launch)?;
    for warning in &served.warnings {
        report.warn(warning.to_string());
    }
    let entered = runtime.enter();
    let until = Until::new(plan.place.join.as_ref().filter(|_| served.guest.is_none()), plan.place.exit_fd)?;
    drop(entered);
    report.count(|summary| {
        summary.command = plan.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    });
    let mut sockets = std::mem::take(&mut served.sockets);
    let mut take = |kind| {
        let at = sockets.iter().position(|(found, _)| *found == kind)?;
        Some(sockets.swap_remove(at).1)
    };
    let inner = Inner::new(take(InnerSocket::Diagnosis));
    served.sockets = sockets;
    let user =
        plan.place.join.as_ref().filter(|_| served.guest.is_none()).and_then(|join| join.user.as_deref());
    let attendant = served.net.take().and_then(|net| Attendant::start(net, user).ok());
    let run = Run::new(plan, report, resolvers, inner, attendant, &outputs);
    (*run.bound.borrow_mut(), *run.api.borrow_mut()) = (bound, api);
    run.bound_datagrams.replace(datagrams);
    let privileged = run.plan.source.needs_privilege();
    for kept in isolation::enter(privileged, &run.plan.writes_in()).err().unwrap_or_default() {
        run.report.warn(kept);
    }
    let serving = attend(&run, served, (ready, until), outputs, &mut signals);
    let status = runtime.block_on(serving)?;
    // Ends what the tasks hold.
    drop(runtime);
    Ok(conclude(&run, status))
}

/// Writes the report. Returns how lastack ends.
fn conclude(run: &Run, status: ExitStatus) -> ExitStatus {
    let failures = run.report.failures();
    let result = match run.lost.take() {
        None => run.judge(status),
        Some(_said) => ExitStatus::from_raw(i32::from(EXIT_INTERNAL) << 8),
    };
    run.report.count(|summary| {
        summary.exit = Some(exit_of(status));
        summary.lastack_exit = Some(exit_of(result));
        summary.fail_on = (!run.plan.report.fail_on.is_empty()).then(|| failures.clone());
        summary.injected = run.inject.summary();
    });
    if let Err(error) = run.report.finish() {
        // The program's exit status takes precedence over a failure of the report.
        match &run.plan.report.to {
            Destination::File(path) => say!(
                "lastack: the report could not be written completely: {error} (-o {}: {})",
                path.display(),
                what_is_left(path)
            ),
            _ => say!("lastack: the report could not be written completely: {error}"),
        }
    }
    if failures.matched > 0 && run.talks() {
        match result.code() {
            Some(FAILED_ON) if status.success() => say!("lastack: exit status {FAILED_ON}: {failures}"),
            _ => say!("lastack: {failures}; the exit status is the program's"),
        }
    }
    result
}

impl Run {
    fn new(
        plan: Plan,
        report: Reporter,
        resolvers: Resolvers,
        inner: Inner,
        attendant: Option<Attendant>,
        outputs: &Outputs,
    ) -> Rc<Self> {
        let seen = Arc::<Seen>::default();
        Rc::new(Self {
            inject: Injector::new(plan.faults.0.clone(), plan.faults.1),
            plan,
            report,
            live: Connections::new(),
            budget: Budget::of_process(),
            resolvers,
            names: Names::default(),
            screened: RefCell::default(),
            attendant,
            rivals: Rivals::default(),
            attempts: Attempts::default(),
            comments: Comments::default(),
            inner,
            board: outputs.screen.is_some().then(Board::new),
            flight: outputs.flight.clone(),
            page: outputs.page.clone(),
            headers: Headers::new(seen.clone()),
            seen,
            refusals: Refusals::default(),
            ports: Ports::default(),
            announced: Rc::default(),
            never_listened: RefCell::default(),
            bound: RefCell::default(),
            bound_datagrams: RefCell::default(),
            datagrams: RefCell::default(),
            api: RefCell::default(),
            no_datagrams: RefCell::default(),
            between_sockets: Cell::default(),
            lost: RefCell::default(),
        })
    }

    /// Counts a connection that is relayed between sockets.
    pub(crate) fn count_between_sockets(&self) {
        self.between_sockets.set(self.between_sockets.get() + 1);
    }

    /// Warns that an output is not what was requested: on standard error in any case, also with `--quiet`.
    fn warn_of_output(&self, warning: String) {
        if self.plan.report.to != Destination::StandardError {
            say!("lastack: warning: {warning}");
        }
        self.report.warn(warning);
    }

    /// Warns that captures lack connections that have no packets.
    fn warn_of_missing_packets(&self) {
        let (plan, count) = (&self.plan, self.between_sockets.get());
        let captures = [
            ("-w", plan.capture.is_some()),
            ("--html", plan.page.is_some()),
            ("--flight-recorder", plan.flight.is_some()),
        ];
        for (option, _) in captures.into_iter().filter(|(_, wanted)| *wanted && count > 0) {
            let plural = if count == 1 { "" } else { "s" };
            self.report.warn(format!(
                "{option} has no packets of {count} connection{plural} over --map-localhost, or of -p to the program's loopback: they are relayed between sockets"
            ));
        }
    }

    /// Warns of published ports that led nowhere.
    fn warn_of_unused_ports(&self) {
        for (inside, at) in self.never_listened.take() {
            let Some(at) = at else { continue };
            let at: Vec<String> = at.iter().map(ToString::to_string).collect();
            let at = at.join(", ");
            self.report.warn(format!("-p {at}: no program inside ever listened at port {inside}"));
        }
    }

    /// Warns that flows were closed for lack of descriptors.
    fn warn_of_evictions(&self) {
        let (count, limit) = (self.budget.evictions(), self.budget.of_process_limit());
        if count > 0 {
            let flows = if count == 1 { "flow was" } else { "flows were" };
            self.report.warn(format!(
                "{count} idle {flows} closed to stay within the limit of {limit} descriptors: {DESCRIPTORS_HINT}"
            ));
        }
    }

    /// The exit status: the program's, unless it is 0 and `--fail-on` turns it into a failure.
    fn judge(&self, status: ExitStatus) -> ExitStatus {
        let failed = self.report.failures().matched > 0 && status.success();
        if failed { ExitStatus::from_raw(FAILED_ON << 8) } else { status }
    }
}

/// The exit status of `--fail-on`.
const FAILED_ON: i32 = 1;

/// Relays the program's packets until the program and its connections have ended.
async fn attend(
    run: &Rc<Run>,
    served: Served,
    (ready, until): (Ready, Until),
    outputs: Outputs,
    signals: &mut Signals,
) -> anyhow::Result<ExitStatus> {
    let Outputs { capture, page, screen, .. } = outputs;
    let Served { guest, device, kind, sockets, .. } = served;
    let device = Device::from_fd(kind, device, run.plan.mtu as usize).context("cannot use the device")?;
    let device = Rc::new(RefCell::new(device));
    if let Some(flight) = &run.flight {
        flight.begin();
    }
    let begin = |file: Output| Arc::new(Mutex::new(PcapngWriter::new(file, SystemTime::now())));
    let writer = capture.clone().map(begin);
    // Driver and relays run on one executor: they take turns, and no wakeup across threads is needed.
    let (host, driver) =
        Host::new(config(&run.plan), link(run, device.clone(), writer.clone(), page.clone()));
    let watch = watch_driver(run, tokio::task::spawn_local(driver));
    serve(run, &host);
    serve_inside(run, sockets);
    let table = screen.map(|screen| tokio::task::spawn_local(live::draw(run.clone(), screen)));
    let trimmer = run.clone();
    tokio::task::spawn_local(async move { trimmer.live.trim().await });
    if !run.plan.published.is_empty() {
        let bound = std::mem::take(&mut *run.bound.borrow_mut());
        tokio::task::spawn_local(inward::serve(run.clone(), host.clone(), bound));
    }
    if let Some(api) = run.api.take() {
        tokio::task::spawn_local(forward::serve(run.clone(), host.clone(), api));
    }
    ready.announce()?;
    let status = ending::wait(run, guest, &until, signals).await?;
    watch.abort();
    ending::wait_for_connections(run, signals).await;
    run.seen.quiet().await;
    ending::close(run).await;
    if let Some(table) = table {
        table.abort();
        // The terminal is as it was once the task has ended.
        let _aborted = table.await;
    }
    for warning in run.refusals.warnings(&run.plan.map_localhost) {
        run.report.warn(warning);
    }
    run.warn_of_unused_ports();
    run.warn_of_evictions();
    run.warn_of_missing_packets();
    for warning in run.seen.lock().uncarried.warnings() {
        run.report.warn(warning);
    }
    let dropped = device.borrow_mut().dropped();
    run.report.count(|summary| summary.dropped += dropped.sent + dropped.received + run.ports.dropped());
    if let (Some(writer), Some(output)) = (writer, capture) {
        finish(run, &writer, &output);
    }
    for warning in run.flight.as_ref().map(FlightRecorder::finish).unwrap_or_default() {
        run.warn_of_output(warning);
    }
    if let Some(Err(error)) = page.map(|page| page.finish()) {
        run.warn_of_output(format!("{error:#}"));
    }
    Ok(status)
}

/// Serves the sockets in the program's own network.
fn serve_inside(run: &Rc<Run>, sockets: Vec<(InnerSocket, OwnedFd)>) {
    for (kind, socket) in sockets {
        let run = run.clone();
        match kind {
            InnerSocket::Diagnosis => {}
            InnerSocket::Datagrams { v6 } => run.ports.take(v6, socket),
            InnerSocket::Devices => run.ports.take_devices(socket),
            InnerSocket::Refusals => {
                tokio::task::spawn_local(async move { run.refusals.watch(&run, socket).await });
            }
            InnerSocket::Listener(at) => {
                tokio::task::spawn_local(localhost::serve(run, socket, at));
            }
        }
    }
}

/// Notes and reports at once that the program has lost its network, if its driver ends while the program runs. The
/// handle aborts this watch, not the driver.
fn watch_driver(run: &Rc<Run>, driver: JoinHandle<io::Result<()>>) -> JoinHandle<()> {
    let run = run.clone();
    tokio::task::spawn_local(async move {
        let why = match driver.await {
            Ok(Ok(())) => "the driver of its stack ended".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => format!("lastack itself failed ({panic}): please report this"),
        };
        // A network that ends together with the program was not lost.
        tokio::time::sleep(AFTER_THE_PROGRAM).await;
        let said = format!("the program lost its network: {why}");
        say!("lastack: {said}; the exit status will be {EXIT_INTERNAL}");
        run.report.warn(said.clone());
        *run.lost.borrow_mut() = Some(said);
    })
}

/// How much earlier than the program the network may appear to end.
const AFTER_THE_PROGRAM: Duration = Duration::from_millis(200);

/// Relays what the program sends, in separate tasks.
fn serve(run: &Rc<Run>, host: &Host) {
    let relays = {
        let (run, host) = (run.clone(), host.clone());
        async move {
            tokio::try_join!(
                tcp::serve(run.clone(), &host),
                udp::serve(run.clone(), &host),
                icmp::serve(run.clone(), &host)
            )
        }
    };
    let following = run.clone();
    tokio::task::spawn_local(async move {
        loop {
            following.seen.changed.notified().await;
            following.headers.apply();
        }
    });
    let run = run.clone();
    tokio::task::spawn_local(async move {
        // It fails together with the driver, whose error is reported.
        let Err(error) = relays.await;
        if run.lost.borrow().is_none() {
            run.report.warn(format!("the program lost its network: {error}"));
        }
    });
}

/// The stack that answers in place of all remotes.
fn config(plan: &Plan) -> Config {
    let mut config = Config::new(plan.own_addresses());
    config.any_address = true;
    let intercept = &mut config.intercept;
    (intercept.tcp, intercept.udp, intercept.groups, intercept.echo) = (true, true, true, true);
    config.tcp.memory = usize::from(plan.memory) << 20;
    // A program that does not read for long is slow, not hostile: a reset of ours would misreport the remote.
    config.tcp.reset_for_memory = false;
    // The limits exist for networks. There is none between the program and us, and each error answers one packet of the
    // program.
    config.datagrams.unlimited_errors = true;
    config
}

/// The device, with the capture around it if requested, and the injected faults around both.
fn link(run: &Run, device: Rc<RefCell<Device>>, writer: Option<Writer>, page: Option<Page>) -> Box<dyn Link> {
    let seen = run.seen.clone();
    if let Some(writer) = &writer {
        run.comments.write_to(writer.clone());
    }
    let captures = Captures { file: writer, flight: run.flight.clone() };
    let link: Box<dyn Link> = if captures.is_empty() {
        Box::new(Tap::new(device, seen))
    } else {
        run.comments.connect(Box::new(captures.clone()));
        let sink = Commented::new(captures, run.comments.clone());
        Box::new(Tap::new(Capture::new(device, sink), seen))
    };
    let link = match page {
        Some(page) => Box::new(Capture::new(link, page)),
        None => link,
    };
    if run.inject.is_empty() { link } else { Box::new(run.inject.around(link, run.comments.clone())) }
}

/// What captures the packets between the program and its network.
#[derive(Clone)]
struct Captures {
    file: Option<Writer>,
    flight: Option<FlightRecorder>,
}

impl Captures {
    fn is_empty(&self) -> bool {
        self.file.is_none() && self.flight.is_none()
    }
}

impl Sink for Captures {
    fn record(&mut self, at: Instant, direction: Direction, packet: &[u8], comment: Option<&str>) {
        if let Some(file) = &mut self.file {
            file.record(at, direction, packet, comment);
        }
        if let Some(flight) = &mut self.flight {
            flight.record(at, direction, packet, comment);
        }
    }

    fn flush(&mut self, now: Instant) {
        if let Some(file) = &mut self.file {
            Sink::flush(file, now);
        }
    }
}

/// Completes the capture.
fn finish(run: &Run, writer: &Writer, output: &Output) {
    let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
    writer.flush();
    let failed = writer.error().map(|error| incomplete(writer.unwritten(), error));
    let failed =
        failed.or_else(|| output.finish().err().map(|error| format!("the capture lacks packets: {error}")));
    if let (Some(failed), Some(path)) = (failed, &run.plan.capture) {
        run.warn_of_output(format!("{failed} (-w {}: {})", path.display(), what_is_left(path)));
    }
}

/// The message for a capture that could not be completed.
pub fn incomplete(missing: u64, error: &dyn std::fmt::Display) -> String {
    match missing {
        0 => format!("the capture is cut off at its end: {error}"),
        _ => format!("the capture lacks {missing} packets and is cut off at its end: {error}"),
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Status(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(0)),
    }
}
