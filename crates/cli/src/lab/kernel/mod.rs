//! The host on the right side is this machine's Linux, in its own namespace: its packets
//! pass through a TUN device, its application is a helper process there, and time is real.

mod agent;
mod message;
mod states;

pub use agent::intercept;

use super::Trouble;
use agent::HIDDEN;
use lastack_device::{Device, DeviceError};
use lastack_engine::{Instant, Transmit};
use lastack_lab::{self as lab, Counterpart, Job, Outcome, Played, Scenario, Setup};
use lastack_link::{Link, complete_checksum};
use lastack_run::namespace::{Guest, LaunchError, Network as Subnet, Plan};
use lastack_sim::{HostId, Network};
use lastack_wire::ip::IpPacket;
use message::Message;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::{self, BufRead, BufReader, Write};
use std::net::IpAddr;
use std::process::{ChildStdin, Stdio};
use std::thread;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::Instant as Clock;

/// The MTU of the device.
const MTU: usize = 1500;
/// Long enough that simultaneous packets of both applications cross in flight.
const LATENCY: Duration = Duration::from_millis(25);
/// Short, so that playing a scenario does not take a minute.
const TIME_WAIT: Duration = Duration::from_millis(500);

/// The settings for playing a scenario with the kernel.
pub(super) fn setup(setup: Setup) -> Setup {
    let aftermath = TIME_WAIT + 4 * LATENCY;
    Setup { latency: LATENCY, time_wait: TIME_WAIT, aftermath, ..setup }
}

/// Plays a scenario with the kernel.
pub(super) fn play(scenario: &Scenario, setup: &Setup) -> Result<Played, Trouble> {
    let mut kernel = Kernel::launch(scenario, setup)?;
    Ok(lab::play_with(scenario, setup, &mut kernel))
}

/// Why the kernel cannot take part.
#[derive(Debug)]
pub(super) enum KernelTrouble {
    Launch(LaunchError),
    Device(DeviceError),
    Other(io::Error),
}

impl std::fmt::Display for KernelTrouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Launch(error) => write!(f, "{error}"),
            Self::Device(error) => write!(f, "{error}"),
            Self::Other(error) => write!(f, "cannot play with the kernel: {error}"),
        }
    }
}

/// The kernel as a host, the helper process that makes its calls, and the clock.
struct Kernel {
    runtime: Runtime,
    device: Device,
    /// Killed when it is dropped.
    _guest: Guest,
    orders: ChildStdin,
    messages: UnboundedReceiver<String>,
    outcomes: BTreeMap<usize, Outcome>,
    /// When the run began; the network's time is [`Instant::ZERO`] then.
    start: Clock,
    host: Option<HostId>,
    other: IpAddr,
}

impl Kernel {
    fn launch(scenario: &Scenario, setup: &Setup) -> Result<Self, KernelTrouble> {
        let [other, own] = setup.addresses;
        let prefix = if own.is_ipv6() { 64 } else { 24 };
        let plan = Plan::new(vec![Subnet { address: own, prefix, gateway: other, path_mtu: None }]);
        let words = [HIDDEN, scenario.name, &own.to_string(), &other.to_string()];
        let command: Vec<_> =
            std::iter::once("/proc/self/exe").chain(words).map(std::ffi::OsString::from).collect();
        let mut launched = Guest::launch_with(&plan, &command, |command| {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        })
        .map_err(KernelTrouble::Launch)?;
        let missing = || KernelTrouble::Other(io::Error::other("the namespace helper has no pipes"));
        let orders = launched.guest.take_stdin().ok_or_else(missing)?;
        let said = launched.guest.take_stdout().ok_or_else(missing)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(KernelTrouble::Other)?;
        let context = runtime.enter();
        let device = Device::from_fd(launched.kind, launched.device, MTU).map_err(KernelTrouble::Device)?;
        let start = Clock::now();
        drop(context);
        let (sender, messages) = mpsc::unbounded_channel();
        thread::spawn(move || {
            // The channel ends when the process has exited or the receiver is dropped.
            BufReader::new(said).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let outcomes = BTreeMap::new();
        Ok(Self {
            runtime,
            device,
            _guest: launched.guest,
            orders,
            messages,
            outcomes,
            start,
            host: None,
            other,
        })
    }

    fn now(&self) -> Instant {
        Instant::since_start(self.start.elapsed())
    }

    /// Waits for a packet, for a message, or until this time.
    fn wait(&mut self, until: Instant) -> Result<Option<String>, String> {
        let Self { runtime, device, messages, start, .. } = self;
        let deadline = *start + until.elapsed();
        runtime.block_on(async {
            tokio::select! {
                biased;
                message = messages.recv() => match message {
                    Some(message) => Ok(Some(message)),
                    None => Err("the namespace helper exited".to_owned()),
                },
                ready = poll_fn(|cx| device.poll_readable(cx)) => match ready {
                    Ok(()) => Ok(None),
                    Err(error) => Err(format!("device error: {error}")),
                },
                () = tokio::time::sleep_until(deadline) => Ok(None),
            }
        })
    }

    /// Passes on packets from the kernel, and packets that have arrived there.
    fn exchange(&mut self, net: &mut Network, host: HostId) {
        let now = net.now();
        let mut packet = Vec::new();
        while let Some(received) = self.device.recv(now, &mut packet) {
            // Packets of the kernel to other destinations (router solicitations ..) are not part of the run.
            let for_us = IpPacket::parse(&packet).is_ok_and(|parsed| parsed.header.dst == self.other);
            if !for_us {
                continue;
            }
            if received.checksum_good {
                complete_checksum(&mut packet);
            }
            net.relay(host, packet.clone());
        }
        while let Some(packet) = net.fetch(host) {
            self.device.send(now, &packet, &Transmit::default());
        }
        self.device.flush(now);
    }

    fn hear(&mut self, net: &mut Network, host: HostId, line: &str) -> Result<(), String> {
        match line.parse()? {
            Message::Outcome { step, outcome } => {
                self.outcomes.insert(step, outcome);
            }
            Message::State { flow, state } => net.note_state(host, flow, state),
        }
        Ok(())
    }

    fn host(&self) -> Result<HostId, String> {
        self.host.ok_or_else(|| "no scenario is running".to_owned())
    }
}

impl Counterpart for Kernel {
    fn enter(&mut self, net: &mut Network, name: &str, [own, _]: [IpAddr; 2]) -> HostId {
        let host = net.add_foreign(&format!("{name} (Linux)"), own);
        self.host = Some(host);
        // The run begins now, not when the namespace was created.
        self.start = Clock::now();
        host
    }

    fn begin(&mut self, net: &mut Network, job: Job) -> Result<Option<Outcome>, String> {
        let sent = writeln!(self.orders, "{}", job.step).and_then(|()| self.orders.flush());
        sent.map_err(|error| format!("cannot write to the namespace helper: {error}"))?;
        // A call that does not block returns before the next one is made; one that blocks has started.
        let soon = self.now() + 2 * agent::SOON;
        while !self.outcomes.contains_key(&job.step) && self.pass(net, soon)? {}
        self.poll(net, job)
    }

    fn poll(&mut self, _net: &mut Network, job: Job) -> Result<Option<Outcome>, String> {
        Ok(self.outcomes.remove(&job.step))
    }

    fn pass(&mut self, net: &mut Network, limit: Instant) -> Result<bool, String> {
        let host = self.host()?;
        let until = net.next().map_or(limit, |next| next.min(limit));
        let message = self.wait(until)?;
        net.run_until(self.now().min(limit));
        self.exchange(net, host);
        if let Some(line) = message {
            self.hear(net, host, &line)?;
        }
        Ok(net.now() < limit)
    }
}
