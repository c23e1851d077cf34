//! `lastack run`: a program in a network of its own, and how each of its connections ended.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use lastack::link::{Capture, Link, PcapngWriter};
use lastack::{Config, Host, Intercept};
use lastack_device::Device;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::task::LocalSet;

use crate::closing::Connections;
use crate::dns::Resolvers;
use crate::plan::Plan;

use crate::options::Options;
use crate::{icmp, tcp, udp};

use crate::namespace::{Guest, LaunchError, Launched, Signals, exit_as};
use crate::report::{Destination, Exit, Reporter};

/// Exit status of a failure of ours, bad options included.
pub const EXIT_INTERNAL: u8 = 125;

/// A run that goes on.
#[derive(Debug)]
pub struct Run {
    pub(crate) plan: Plan,
    pub(crate) report: Reporter,
    pub(crate) live: Connections,
    pub(crate) resolvers: Resolvers,
}

/// Why the program was not run, or not to its end.
enum Trouble {
    Launch(LaunchError),
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

/// Runs the program, and ends as it does.
pub fn main(options: Options) -> ExitCode {
    match run(options) {
        Ok(status) => exit_as(status),
        Err(Trouble::Launch(error)) => {
            anstream::eprintln!("lastack run: {error}");
            error.exit_status().into()
        }
        Err(Trouble::Other(error)) => {
            anstream::eprintln!("lastack run: {error:#}");
            EXIT_INTERNAL.into()
        }
    }
}

type Writer = Arc<Mutex<PcapngWriter<File>>>;

fn run(options: Options) -> Result<ExitStatus, Trouble> {
    let plan = Plan::new(options)?;
    // What can fail fails before the program runs.
    let report = Reporter::new(plan.report.clone())?;
    let capture = plan.capture.as_ref().map(|path| {
        let cannot =
            || format!("cannot write the capture to {}: choose another place for -w", path.display());
        File::create(path).with_context(cannot)
    });
    let capture = capture.transpose()?;
    let resolvers = Resolvers::new(plan.resolvers.clone());
    let mut signals = Signals::catch().context("cannot catch signals")?;
    let launched = Guest::launch(&plan.namespace(), &plan.command).map_err(Trouble::Launch)?;
    for warning in &launched.warnings {
        report.warn(warning.to_string());
    }
    let run = Rc::new(Run { plan, report, live: Connections::new(), resolvers });
    raise_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let status = LocalSet::new().block_on(&runtime, attend(&run, launched, capture, &mut signals))?;
    run.report.count(|summary| summary.exit = Some(exit_of(status)));
    run.report.finish().context("the report could not be written to its end")?;
    Ok(status)
}

/// Carries the program's packets until it has ended, and its connections have.
async fn attend(
    run: &Rc<Run>,
    launched: Launched,
    capture: Option<File>,
    signals: &mut Signals,
) -> anyhow::Result<ExitStatus> {
    let Launched { mut guest, device, kind, .. } = launched;
    let device = Device::from_fd(kind, device, run.plan.mtu as usize).context("cannot use the device")?;
    let device = Arc::new(Mutex::new(device));
    let writer = capture.map(|file| Arc::new(Mutex::new(PcapngWriter::new(file, SystemTime::now()))));
    let host = Host::spawn(config(&run.plan), link(device.clone(), writer.clone()));
    serve(run, &host);
    let status = guest.wait(signals).await.context("cannot wait for the program")?;
    tokio::select! {
        () = run.live.drain() => {}
        () = explain_the_wait(run) => {}
        // Whoever interrupts has no more patience.
        _ = signals.another() => {}
    }
    run.live.close().await;
    let dropped = device.lock().unwrap_or_else(PoisonError::into_inner).dropped();
    run.report.count(|summary| summary.dropped += dropped.sent + dropped.received);
    if let Some(writer) = writer {
        finish(run, &writer);
    }
    Ok(status)
}

/// Says why nothing seems to happen after the program's end. Never ends.
async fn explain_the_wait(run: &Run) {
    tokio::time::sleep(UNEXPLAINED).await;
    let left = run.live.waited_for();
    // Where the report is JSON lines, there is nothing but those.
    let heard = match run.plan.report.to {
        Destination::Nowhere => false,
        Destination::StandardError => !run.plan.report.json,
        Destination::File(_) => true,
    };
    if left > 0 && heard {
        anstream::eprintln!(
            "lastack: the program has ended; {left} of its connections still have octets that the remote does not \
             take. They are kept for it up to a minute; Ctrl-C gives them up."
        );
    }
    std::future::pending::<()>().await;
}

/// Relays what the program sends, in tasks of their own.
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
    let run = run.clone();
    tokio::task::spawn_local(async move {
        let Err(error) = relays.await;
        run.report.warn(format!("the program lost its network: {error}"));
    });
}

/// The stack that stands for everybody the program talks to.
fn config(plan: &Plan) -> Config {
    let mut config = Config::new(plan.own_addresses());
    config.any_address = true;
    config.intercept = Intercept { tcp: true, udp: true, groups: true, echo: true };
    config.mtu = plan.mtu as usize;
    config.tcp.memory = usize::from(plan.memory) << 20;
    // A program that does not read for long is slow, not hostile: a reset of ours would be a lie about its remote.
    config.tcp.reset_for_memory = false;
    // The limits are there for networks. Between the program and us is none, and each error is the answer to one
    // packet of it.
    config.datagrams.unlimited_errors = true;
    config
}

fn link(device: Arc<Mutex<Device>>, writer: Option<Writer>) -> Box<dyn Link + Send> {
    match writer {
        Some(writer) => Box::new(Capture::new(device, writer)),
        None => Box::new(device),
    }
}

/// Writes the capture to its end.
fn finish(run: &Run, writer: &Writer) {
    let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
    writer.flush();
    if let Some(error) = writer.error() {
        let missing = writer.unwritten();
        run.report.warn(incomplete(missing, &error));
    }
}

/// How long a wait after the program's end goes without a word.
const UNEXPLAINED: Duration = Duration::from_secs(2);

/// What is said of a capture that could not be written to its end.
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

/// Every flow needs a descriptor: as many as we may have. The program, which runs already, keeps its own limit.
fn raise_limit() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // If it fails, what is there has to do.
        let _unchanged = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}
