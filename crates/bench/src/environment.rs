//! The networks that are compared: a client of the kernel in each, and what carries its packets to a server.

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::process::{self, Killed, ip, ip_in, sysctl_in};
use crate::stacks;
use crate::work::{Order, Outcome, Reply, Work, port};

/// The server's address in the outer namespace, which no guest has itself.
const OUTER: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);
const VETH: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
const READY: Duration = Duration::from_secs(10);
/// A client that has not replied after this time has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The kernel's loopback.
    Loopback,
    /// The kernel at both ends of a veth pair.
    Veth,
    /// lastack behind a TUN device.
    TunLastack,
    /// The same, with data read into a buffer of the server's instead of in place.
    TunCopied,
    /// lastack behind a TUN device with two queues, a stack and a thread for each.
    TunQueues,
    /// smoltcp behind a TUN device.
    TunSmoltcp,
    /// Answers without a stack behind a TUN device.
    TunBare,
    /// `lastack run`.
    RunLastack,
    /// pasta.
    RunPasta,
    /// slirp4netns.
    RunSlirp,
    /// A peer that neither checks nor retransmits, with one hop to a socket.
    RunFree,
    /// `lastack run --map-localhost`.
    MapLastack,
    /// pasta's ports from the namespace to the host's loopback, without packets.
    MapPasta,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Veth => "veth",
            Self::TunLastack | Self::RunLastack | Self::MapLastack => "lastack",
            Self::TunCopied => "lastack, `AsyncRead`",
            Self::TunQueues => "lastack, two queues",
            Self::TunSmoltcp => "smoltcp",
            Self::TunBare => "bare peer",
            Self::RunPasta | Self::MapPasta => "pasta",
            Self::RunSlirp => "slirp4netns",
            Self::RunFree => "free peer",
        }
    }

    /// The program that it needs, beside ours.
    fn program(self) -> Option<&'static str> {
        match self {
            Self::RunPasta | Self::MapPasta => Some("pasta"),
            Self::RunSlirp => Some("slirp4netns"),
            _ => None,
        }
    }

    /// Whether its program is installed.
    pub fn is_available(self) -> bool {
        self.program().is_none_or(|program| Command::new(program).arg("--version").output().is_ok())
    }
}

/// The programs of this project.
#[derive(Clone, Debug)]
pub struct Programs {
    /// This benchmark.
    pub bench: PathBuf,
    /// lastack.
    pub lastack: PathBuf,
}

/// A network that is up.
#[derive(Debug)]
pub struct Environment {
    pub kind: Kind,
    client: Client,
    /// The process that carries the packets.
    pub stack: Option<u32>,
    /// The server of its own, if it has one.
    own_server: Option<Killed>,
    _others: Vec<Killed>,
    server: Ipv4Addr,
}

#[derive(Debug)]
struct Client {
    child: Killed,
    input: Option<ChildStdin>,
    /// Its lines, which a thread reads, so that a client that hangs does not stop the benchmark.
    output: Receiver<String>,
}

impl Client {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = lines(child.stdout.take().context("no output")?);
        let mut client = Self { child: Killed(child), input, output };
        match client.reply()? {
            Reply::Ready => Ok(client),
            other => bail!("{other:?} from a client that starts"),
        }
    }

    fn reply(&mut self) -> Result<Reply> {
        let line = self.output.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => anyhow!("the client has not replied within {PATIENCE:?}"),
            RecvTimeoutError::Disconnected => anyhow!("the client has ended"),
        })?;
        serde_json::from_str(&line).with_context(|| format!("the client: {line}"))
    }

    fn order(&mut self, order: Order) -> Result<Outcome> {
        let input = self.input.as_mut().context("the client was dismissed")?;
        writeln!(input, "{}", serde_json::to_string(&order)?)?;
        match self.reply()? {
            Reply::Done(outcome) => Ok(outcome),
            Reply::Failed(message) => bail!(message),
            Reply::Ready => bail!("the client has started again"),
        }
    }

    fn pid(&self) -> u32 {
        self.child.0.id()
    }
}

fn lines(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Drop for Client {
    fn drop(&mut self) {
        // The client ends at the end of its input, and with it what was started around it.
        drop(self.input.take());
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end && matches!(self.child.0.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(10));
        }
    }
}

/// Which CPUs the parts run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// All on one.
    OneCpu,
    /// What carries the packets on one, everything else on another. The kernel carries packets for both ends: there
    /// the client is on one and the server on another.
    TwoCpus,
    /// As the scheduler decides.
    Anywhere,
}

/// How the outer namespace serves: the process of the server.
pub struct Outer {
    server: Killed,
}

impl Outer {
    /// Makes this process's network namespace the outer one, and starts the server in it.
    pub fn new(programs: &Programs) -> Result<Self> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .context("a new network namespace needs root")?;
        ip("link set lo up")?;
        ip(&format!("addr add {OUTER}/32 dev lo"))?;
        // pasta copies addresses and routes of an interface.
        ip("link add host0 type veth peer name host1")?;
        ip("link set host1 up")?;
        ip("addr add 10.99.0.2/24 dev host0")?;
        ip("link set host0 up")?;
        ip("route add default via 10.99.0.1 dev host0")?;
        settings(std::process::id())?;
        let server = start(Command::new(&programs.bench).args(["server", "0.0.0.0"]))?;
        Ok(Self { server })
    }
}

fn settings(pid: u32) -> Result<()> {
    sysctl_in(pid, "net.ipv4.tcp_congestion_control=cubic")?;
    sysctl_in(pid, "net.ipv4.ip_local_port_range=10000 65000")?;
    sysctl_in(pid, "net.ipv6.conf.all.disable_ipv6=1")
}

/// Starts a program that prints a line when it is ready.
fn start(command: &mut Command) -> Result<Killed> {
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn()?;
    let output = child.stdout.take().context("no output")?;
    let child = Killed(child);
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    ensure!(line.trim() == "ready", "{:?} did not start: {line:?}", command.get_program());
    Ok(child)
}

impl Environment {
    /// `variables`: of the process that carries the packets.
    pub fn new(kind: Kind, programs: &Programs, variables: &[(&str, &Path)]) -> Result<Self> {
        match kind {
            Kind::Loopback => {
                let client = Client::start(Command::new(&programs.bench).arg("client"))?;
                Ok(Self::of(kind, client, OUTER))
            }
            Kind::Veth => veth(programs),
            Kind::TunLastack => tun(kind, programs, "lastack", variables),
            Kind::TunCopied => tun(kind, programs, "copied", variables),
            Kind::TunQueues => tun(kind, programs, "queues", variables),
            Kind::TunSmoltcp => tun(kind, programs, "smoltcp", variables),
            Kind::TunBare => tun(kind, programs, "bare", variables),
            Kind::RunFree => tun(kind, programs, "free", variables),
            Kind::RunSlirp => slirp(programs),
            Kind::RunLastack => around(
                kind,
                OUTER,
                Command::new(&programs.lastack).args(["run", "-q", "--memory", "256", "--"]),
                programs,
                variables,
            ),
            Kind::MapLastack => {
                let ports = mapped_ports();
                let mut command = Command::new(&programs.lastack);
                command.args(["run", "-q", "--map-localhost", &ports, "--"]);
                around(kind, Ipv4Addr::LOCALHOST, &mut command, programs, variables)
            }
            Kind::RunPasta => around(
                kind,
                OUTER,
                Command::new("pasta").args(["--config-net", "-q", "-4", "--runas", "0", "--"]),
                programs,
                variables,
            ),
            Kind::MapPasta => {
                let ports = mapped_ports();
                let mut command = Command::new("pasta");
                command.args(["--config-net", "-q", "-4", "--runas", "0", "-T", &ports, "--"]);
                around(kind, Ipv4Addr::LOCALHOST, &mut command, programs, variables)
            }
        }
        .with_context(|| format!("start {kind:?}"))
    }

    fn of(kind: Kind, client: Client, server: Ipv4Addr) -> Self {
        Self { kind, client, stack: None, own_server: None, _others: Vec::new(), server }
    }

    /// Lets the client do a piece of work, with the processes placed on CPUs.
    pub fn run(
        &mut self,
        outer: &Outer,
        work: Work,
        time: Duration,
        layout: Layout,
        thorough: bool,
    ) -> Result<Outcome> {
        let (near, far) = match layout {
            Layout::OneCpu => (Some(0), Some(0)),
            Layout::TwoCpus => (Some(0), Some(1.min(process::cpus() - 1))),
            Layout::Anywhere => (None, None),
        };
        let outer_server = outer.server.0.id();
        let own_server = self.own_server.as_ref().map(|server| server.0.id());
        let server = match (own_server, self.stack) {
            (Some(own), _) => Some((own, far)),
            (None, None) => Some((outer_server, far)),
            (None, Some(_)) => Some((outer_server, near)),
        };
        if let Some((pid, cpu)) = server {
            process::pin(pid, cpu)?;
        }
        if let Some(stack) = self.stack {
            process::pin(stack, far)?;
        }
        let order = Order { work, server: self.server, millis: time.as_millis() as u64, cpu: near, thorough };
        self.client.order(order).with_context(|| format!("{work:?} over {}", self.kind.name()))
    }
}

fn mapped_ports() -> String {
    [port::SOURCE, port::SINK, port::ECHO, port::CLOSE, port::HTTP].map(|port| port.to_string()).join(",")
}

/// A client in a namespace of its own.
fn client_alone(programs: &Programs) -> Result<Client> {
    let client =
        Client::start(Command::new("unshare").args(["-n", "--"]).arg(&programs.bench).arg("client"))?;
    ip_in(client.pid(), "link set lo up")?;
    settings(client.pid())?;
    Ok(client)
}

fn namespace(pid: u32) -> String {
    format!("/proc/{pid}/ns/net")
}

fn veth(programs: &Programs) -> Result<Environment> {
    let client = client_alone(programs)?;
    let far = client_alone(programs)?;
    ip("link add bench-near type veth peer name bench-far")?;
    ip(&format!("link set bench-near netns {}", client.pid()))?;
    ip(&format!("link set bench-far netns {}", far.pid()))?;
    ip_in(client.pid(), "addr add 10.96.0.2/24 dev bench-near")?;
    ip_in(far.pid(), &format!("addr add {VETH}/24 dev bench-far"))?;
    ip_in(client.pid(), "link set bench-near up")?;
    ip_in(far.pid(), "link set bench-far up")?;
    let path = namespace(far.pid());
    let server = start(
        Command::new("nsenter")
            .arg(format!("--net={path}"))
            .arg("--")
            .arg(&programs.bench)
            .args(["server", &VETH.to_string()]),
    )?;
    let mut environment = Environment::of(Kind::Veth, client, VETH);
    environment.own_server = Some(server);
    Ok(environment)
}

fn tun(kind: Kind, programs: &Programs, stack: &str, variables: &[(&str, &Path)]) -> Result<Environment> {
    let client = client_alone(programs)?;
    let stack = start(
        Command::new(&programs.bench)
            .args(["stack", stack, &namespace(client.pid()), &OUTER.to_string()])
            .envs(variables.iter().copied()),
    )?;
    let server = if kind == Kind::RunFree { OUTER } else { stacks::SERVER.into() };
    let mut environment = Environment::of(kind, client, server);
    environment.stack = Some(stack.0.id());
    environment._others.push(stack);
    Ok(environment)
}

fn slirp(programs: &Programs) -> Result<Environment> {
    let client = client_alone(programs)?;
    let pid = client.pid().to_string();
    let slirp = Command::new("slirp4netns")
        .args(["--configure", "--mtu=65520", "--disable-dns", &pid, "tap0"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(Killed)?;
    let end = Instant::now() + READY;
    while ip_in(client.pid(), "route get 10.98.0.1").is_err() {
        ensure!(Instant::now() < end, "slirp4netns has not configured its interface");
        sleep(Duration::from_millis(20));
    }
    let mut environment = Environment::of(Kind::RunSlirp, client, OUTER);
    environment.stack = Some(slirp.0.id());
    environment._others.push(slirp);
    Ok(environment)
}

/// A program that starts the client in its network.
fn around(
    kind: Kind,
    server: Ipv4Addr,
    command: &mut Command,
    programs: &Programs,
    variables: &[(&str, &Path)],
) -> Result<Environment> {
    // pasta's remarks on what it does without.
    let errors =
        if kind == Kind::RunPasta || kind == Kind::MapPasta { Stdio::null() } else { Stdio::inherit() };
    let command = command.arg(&programs.bench).arg("client").envs(variables.iter().copied()).stderr(errors);
    let client = Client::start(command)?;
    let stack = client.pid();
    let mut environment = Environment::of(kind, client, server);
    environment.stack = Some(stack);
    Ok(environment)
}
