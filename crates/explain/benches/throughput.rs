//! Makes a large capture, explains it, and has tshark read the same file: packets per second of CPU time, and peak memory.
//!
//! ```console
//! $ cargo bench -p lastack-explain --bench throughput              # 1.1 GB each in the temporary directory
//! $ cargo bench -p lastack-explain --bench throughput -- --mb 200 --dir /var/tmp
//! ```
//!
//! Two mixes: `ordinary`, of sessions with requests and responses, one in ten with a bad end, and `hostile`, of scans, floods and
//! single packets. Each reader runs in a process of its own.

use lastack_explain::read::{Capture, Merge};
use lastack_explain::{Explainer, Options};
use nix::sys::resource::{UsageWho, getrusage};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("--explain") => explain(Path::new(&arguments[1])),
        Some("--run") => run(&arguments[1..]),
        _ => compare(&arguments),
    }
}

/// The value behind an option.
fn option(arguments: &[String], name: &str) -> Option<String> {
    let place = arguments.iter().position(|word| word == name)?;
    arguments.get(place + 1).cloned()
}

fn compare(arguments: &[String]) {
    let megabytes: u64 =
        option(arguments, "--mb").map_or(1100, |text| text.parse().expect("--mb takes a number"));
    let directory = option(arguments, "--dir").map_or_else(std::env::temp_dir, PathBuf::from);
    println!("| mix | packets | reader | packets/s of CPU | peak memory |\n|---|---:|---|---:|---:|");
    for mix in [Mix::Ordinary, Mix::Hostile] {
        let path = directory.join(format!("lastack-throughput-{}.pcap", mix.name()));
        let packets = make(&path, mix, megabytes << 20);
        let file = path.display().to_string();
        let this = std::env::current_exe().expect("the path of this program").display().to_string();
        row(mix, packets, "lastack explain", &[&this, "--explain", &file]);
        row(mix, packets, "tshark -q -z conv,tcp", &["tshark", "-n", "-q", "-z", "conv,tcp", "-r", &file]);
        if let Err(error) = std::fs::remove_file(&path) {
            eprintln!("{}: {error}", path.display());
        }
    }
}

/// Runs a reader in a process of its own, which reports its child's time and memory.
fn row(mix: Mix, packets: u64, name: &str, command: &[&str]) {
    let this = std::env::current_exe().expect("the path of this program");
    let out = Command::new(this).arg("--run").args(command).stderr(Stdio::inherit()).output();
    let text = out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    let mut words = text.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
    match (words.next(), words.next()) {
        (Some(seconds), Some(kilobytes)) if seconds > 0.0 => println!(
            "| {} | {packets} | `{name}` | {:.0} k | {:.0} MB |",
            mix.name(),
            packets as f64 / seconds / 1e3,
            kilobytes / 1024.0
        ),
        _ => println!("| {} | {packets} | `{name}` | not run | |", mix.name()),
    }
}

fn run(command: &[String]) {
    let status =
        Command::new(&command[0]).args(&command[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !status.is_ok_and(|status| status.success()) {
        return;
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the resources that a child used");
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    println!("{} {}", seconds(usage.user_time()) + seconds(usage.system_time()), usage.max_rss());
}

fn explain(path: &Path) {
    let mut input = Merge::new(vec![Capture::open(path, 0).expect("the capture that was just made")]);
    let mut explainer = Explainer::new(Options::default());
    let mut verdicts = 0;
    while let Some(packet) = input.next_packet() {
        explainer.packet(&packet);
        verdicts += explainer.ready().count();
    }
    explainer.finish();
    verdicts += explainer.ready().count();
    println!("{verdicts} of {}", explainer.summary().connections);
}

#[derive(Clone, Copy, PartialEq)]
enum Mix {
    Ordinary,
    Hostile,
}

impl Mix {
    fn name(self) -> &'static str {
        match self {
            Self::Ordinary => "ordinary",
            Self::Hostile => "hostile",
        }
    }
}

/// A generator of numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// A session that goes on: what it sends next.
#[derive(Clone, Copy)]
struct Session {
    client: u32,
    port: u16,
    server: u32,
    seq: [u32; 2],
    step: u32,
    steps: u32,
    bad: bool,
}

struct Maker<W: Write> {
    out: W,
    time: u64,
    packets: u64,
    bytes: u64,
    ident: u16,
    random: Random,
}

fn make(path: &Path, mix: Mix, bytes: u64) -> u64 {
    let out = BufWriter::with_capacity(1 << 20, File::create(path).expect("a place for the capture"));
    let mut maker = Maker {
        out,
        time: 1_700_000_000_000_000,
        packets: 0,
        bytes: 0,
        ident: 0,
        random: Random(0x9e37_79b9_7f4a_7c15),
    };
    let head = [0xa1b2_c3d4_u32, 4 << 16 | 2, 0, 0, 262_144, 1];
    head.iter().for_each(|word| maker.out.write_all(&word.to_le_bytes()).expect("writing"));
    let mut live: Vec<Session> = (0..2000).map(|_| maker.session()).collect();
    while maker.bytes < bytes {
        if mix == Mix::Hostile && maker.random.below(3) > 0 {
            maker.probe();
            continue;
        }
        let place = maker.random.below(live.len() as u64) as usize;
        let mut session = live[place];
        let over = maker.step(&mut session);
        live[place] = if over { maker.session() } else { session };
    }
    maker.out.flush().expect("writing");
    maker.packets
}

const SYN: u8 = 2;
const ACK: u8 = 16;
const RST: u8 = 4;
const FIN: u8 = 1;
const PSH: u8 = 8;

impl<W: Write> Maker<W> {
    fn session(&mut self) -> Session {
        let random = self.random.next();
        Session {
            client: 0x0a00_0000 | (random as u32 & 0xffff),
            port: 1024 + (random >> 16) as u16 % 60_000,
            server: 0xc000_0200 | (random >> 40) as u32 & 0x3f,
            seq: [self.random.next() as u32, self.random.next() as u32],
            step: 0,
            steps: 10 + (random >> 48) as u32 % 200,
            bad: random >> 60 == 0,
        }
    }

    /// The next packet of a session; whether it has ended.
    fn step(&mut self, session: &mut Session) -> bool {
        session.step += 1;
        let [client, server] = session.seq;
        match session.step {
            1 => self.segment(session, true, SYN, client, 0, 0),
            2 => self.segment(session, false, SYN | ACK, server, client.wrapping_add(1), 0),
            3 => {
                session.seq = [client.wrapping_add(1), server.wrapping_add(1)];
                self.segment(session, true, ACK, session.seq[0], session.seq[1], 0);
            }
            step if step >= session.steps => return self.end(session, step - session.steps),
            step if step % 12 == 4 => {
                self.segment(session, true, PSH | ACK, client, server, 400);
                session.seq[0] = client.wrapping_add(400);
            }
            step if step % 3 == 0 => self.segment(session, true, ACK, client, server, 0),
            _ => {
                self.segment(session, false, ACK, server, client, 1448);
                session.seq[1] = server.wrapping_add(1448);
            }
        }
        false
    }

    fn end(&mut self, session: &mut Session, step: u32) -> bool {
        let [client, server] = session.seq;
        if session.bad {
            self.segment(session, false, RST | ACK, server, client, 0);
            return true;
        }
        match step {
            0 => self.segment(session, true, FIN | ACK, client, server, 0),
            1 => self.segment(session, false, FIN | ACK, server, client.wrapping_add(1), 0),
            _ => {
                self.segment(session, true, ACK, client.wrapping_add(1), server.wrapping_add(1), 0);
                return true;
            }
        }
        false
    }

    /// A probe of a closed port, a flood's SYN, or a stray segment.
    fn probe(&mut self) {
        let mut session = self.session();
        session.port = self.random.next() as u16;
        session.client = self.random.next() as u32;
        match self.random.below(3) {
            0 => {
                self.segment(&session, true, SYN, session.seq[0], 0, 0);
                self.segment(&session, false, RST | ACK, 0, session.seq[0].wrapping_add(1), 0);
            }
            1 => self.segment(&session, true, SYN, session.seq[0], 0, 0),
            _ => self.segment(&session, true, ACK, session.seq[0], session.seq[1], 0),
        }
    }

    fn segment(&mut self, session: &Session, up: bool, flags: u8, seq: u32, ack: u32, len: usize) {
        self.time += 5 + self.random.below(20);
        self.packets += 1;
        self.ident = self.ident.wrapping_add(1);
        let total = (40 + len) as u16;
        let whole = 14 + usize::from(total);
        self.bytes += whole as u64 + 16;
        let mut packet = [0_u8; 1600];
        let b = &mut packet[..whole];
        b[..12].copy_from_slice(&[2, 0, 0, 0, 0, u8::from(up), 2, 0, 0, 0, 0, u8::from(!up)]);
        b[12..14].copy_from_slice(&[8, 0]);
        b[14] = 0x45;
        b[16..18].copy_from_slice(&total.to_be_bytes());
        b[18..20].copy_from_slice(&self.ident.to_be_bytes());
        (b[22], b[23]) = (if up { 64 } else { 57 }, 6);
        let (src, dst) = if up { (session.client, session.server) } else { (session.server, session.client) };
        b[26..30].copy_from_slice(&src.to_be_bytes());
        b[30..34].copy_from_slice(&dst.to_be_bytes());
        let (from, to) = if up { (session.port, 443) } else { (443, session.port) };
        b[34..36].copy_from_slice(&from.to_be_bytes());
        b[36..38].copy_from_slice(&to.to_be_bytes());
        b[38..42].copy_from_slice(&seq.to_be_bytes());
        b[42..46].copy_from_slice(&ack.to_be_bytes());
        (b[46], b[47]) = (5 << 4, flags);
        b[48..50].copy_from_slice(&64_000_u16.to_be_bytes());
        let record =
            [(self.time / 1_000_000) as u32, (self.time % 1_000_000) as u32, whole as u32, whole as u32];
        record.iter().for_each(|word| self.out.write_all(&word.to_le_bytes()).expect("writing"));
        self.out.write_all(b).expect("writing");
    }
}
