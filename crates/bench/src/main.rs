//! What `lastack run` and a stack behind a TUN device cost, beside the kernel itself and other stacks.
//!
//! `.ci/performance` builds and runs it, as root. All parts are this one program: `server` and `client` on the kernel's
//! sockets, `stack` behind a TUN device, and the command that starts them in network namespaces, measures in
//! alternating rounds, and writes the report.

mod calls;
mod client;
mod environment;
mod links;
mod measure;
mod memory;
mod pattern;
mod process;
mod report;
mod rows;
mod server;
mod stacks;
mod uring;
mod work;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use environment::{Kind, Programs};
use stacks::lastack::Reads;
use work::Work;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve on the kernel's sockets.
    #[command(hide = true)]
    Server {
        /// The address to bind to.
        address: Ipv4Addr,
    },
    /// Take orders on standard input.
    #[command(hide = true)]
    Client,
    /// Serve behind a TUN device.
    #[command(hide = true)]
    Stack {
        /// lastack, copied, queues, smoltcp, bare or free.
        name: String,
        /// The network namespace of the client.
        namespace: PathBuf,
        /// Where the free peer connects to.
        server: Ipv4Addr,
    },
    /// Measure, and write the report.
    Compare(Compare),
    /// Compare with Linux over bad links, and write the report.
    Links(links::Compare),
    /// Compare epoll and io_uring for a TUN device.
    Uring {
        /// The number of rounds.
        #[arg(long, default_value_t = 9)]
        rounds: usize,
    },
    /// One transfer over a bad link.
    #[command(hide = true)]
    Link {
        /// What is at both ends.
        #[arg(value_enum)]
        ends: links::Ends,
        #[command(flatten)]
        cell: links::Cell,
    },
}

#[derive(clap::Args)]
struct Compare {
    /// The program lastack.
    #[arg(long)]
    lastack: PathBuf,
    /// Write the report to this file instead of standard output.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Two short rounds, to see that everything works.
    #[arg(long)]
    quick: bool,
    /// Only tables and rows with this word in their title; `memory`: the memory of `lastack run`; `copies`: how often data
    /// is copied.
    #[arg(long)]
    only: Option<String>,
    /// The number of rounds.
    #[arg(long)]
    rounds: Option<usize>,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Server { address } => Ok(server::serve(address)?),
        Command::Client => client::run(),
        Command::Stack { name, namespace, server } => {
            if name == "free" {
                return stacks::free::serve(&namespace, server);
            }
            stacks::enter(&namespace)?;
            match name.as_str() {
                "smoltcp" => stacks::smoltcp::serve(),
                "bare" => stacks::bare::serve(),
                "queues" => stacks::lastack::serve_queues(2),
                "copied" => stacks::lastack::serve(Reads::Copied),
                _ => stacks::lastack::serve(Reads::InPlace),
            }
        }
        Command::Compare(arguments) => compare(&arguments),
        Command::Links(arguments) => {
            let _allowed = Cubic::allow()?;
            links::compare(&arguments)
        }
        Command::Uring { rounds } => uring::trial(rounds, Duration::from_millis(500)),
        Command::Link { ends, cell } => links::run(ends, cell),
    }
}

fn compare(arguments: &Compare) -> Result<()> {
    let begin = Instant::now();
    let programs = Programs { bench: std::env::current_exe()?, lastack: arguments.lastack.canonicalize()? };
    let _allowed = Cubic::allow()?;
    let mut groups = rows::groups();
    if let Some(word) = &arguments.only {
        for group in &mut groups {
            let all = group.title.contains(word);
            group.rows.retain(|row| all || row.title.contains(word));
        }
    }
    let (rounds, time) = if arguments.quick { (2, 100) } else { (7, 450) };
    let rounds = arguments.rounds.unwrap_or(rounds);
    let time = Duration::from_millis(time);
    let mut results = measure::rounds(&groups, &programs, rounds, time, ALLOWED)?;
    eprintln!("comparing every byte, counting system calls and copies, memory");
    let verified = results.verify(&groups, &programs)?;
    let whole = arguments.only.is_none();
    let strace = whole && std::process::Command::new("strace").arg("--version").output().is_ok();
    let calls =
        if strace { results.noted("system calls", calls::count(&programs, COUNTED, time)) } else { None };
    let copied = [Kind::TunLastack, Kind::RunLastack];
    let wanted = |table| whole || arguments.only.as_deref() == Some(table);
    let copies = if wanted("copies") {
        results.noted("copies", calls::copies(&programs, &copied, time)).flatten()
    } else {
        None
    };
    let memory =
        if wanted("memory") { results.noted("memory", memory::measure(&programs, time)) } else { None };
    let report = report::Report {
        groups: &groups,
        results: &results,
        rounds: results.rounds,
        millis: time.as_millis(),
        verified,
        calls: calls.as_deref().unwrap_or_default(),
        copies: copies.as_deref(),
        memory: memory.as_ref(),
        seconds: begin.elapsed().as_secs(),
        whole,
    };
    let text = report.write();
    match &arguments.output {
        Some(file) => std::fs::write(file, text)?,
        None => print!("{text}"),
    }
    if report.too_busy() {
        eprintln!("the machine was too busy: do not trust these figures");
    }
    Ok(())
}

/// No round begins after this time: with what follows the rounds it takes less than ten minutes.
const ALLOWED: Duration = Duration::from_secs(420);

/// Where system calls are counted.
const COUNTED: &[(Kind, &[Work])] = &[
    (
        Kind::RunLastack,
        &[
            Work::PingPong,
            Work::Connect,
            Work::Refused,
            Work::UdpPingPong,
            Work::UdpUp { rate: 0 },
            Work::UdpDown { rate: 0 },
            Work::Download { streams: 1 },
            Work::Upload { streams: 1 },
        ],
    ),
    (Kind::RunPasta, &[Work::PingPong, Work::Connect, Work::Download { streams: 1 }]),
    (Kind::RunSlirp, &[Work::PingPong, Work::Connect, Work::Refused, Work::Download { streams: 1 }]),
    (
        Kind::TunLastack,
        &[
            Work::PingPong,
            Work::Connect,
            Work::Refused,
            Work::Download { streams: 1 },
            Work::Upload { streams: 1 },
        ],
    ),
    (Kind::TunSmoltcp, &[Work::PingPong, Work::Connect, Work::Refused]),
    (Kind::TunBare, &[Work::PingPong, Work::Connect, Work::Refused]),
];

/// CUBIC, allowed to every namespace for as long as this lives. The setting is that of the whole machine.
struct Cubic(Option<(File, String)>);

impl Cubic {
    fn allow() -> Result<Self> {
        // Only the first network namespace has this file. Kept open, it can still be written from another.
        let path = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
        let Ok(mut file) = File::options().read(true).write(true).open(path) else { return Ok(Self(None)) };
        let mut before = String::new();
        file.read_to_string(&mut before)?;
        if before.split_whitespace().any(|name| name == "cubic") {
            return Ok(Self(None));
        }
        file.rewind()?;
        file.write_all(format!("{} cubic", before.trim()).as_bytes())
            .with_context(|| format!("write {path}"))?;
        Ok(Self(Some((file, before))))
    }
}

impl Drop for Cubic {
    fn drop(&mut self) {
        if let Some((file, before)) = &mut self.0 {
            // Nothing to be done about a failure.
            let _kept = file.rewind().and_then(|()| file.write_all(before.as_bytes()));
        }
    }
}
