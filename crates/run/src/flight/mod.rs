//! `--flight-recorder`: keeps the last packets of each connection in memory, and writes those of connections that ended
//! badly, a capture for each.

mod ring;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use lastack::link::{Direction, PcapngWriter, Section, Sink};
use lastack_engine::Instant;
use lastack_wire::{IpPacket, Quoted, TcpFlags, TcpHeader, ip};

use crate::inject::Flow;
use crate::report::{Proto, Record};
use ring::{Packet, Packets, Ring, SNAP};

/// How long the last packets of a connection are waited for: the reset that reports its end follows the report.
pub const SETTLED: Duration = Duration::from_millis(500);
/// Max captures of a run. More are counted.
const MAX_FILES: u64 = 1000;

/// The settings of the recorder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The directory of the captures; it is created.
    pub directory: PathBuf,
    /// Max MiB of packets in memory.
    pub memory: u16,
}

/// The recorder. Clones share it.
#[derive(Clone)]
pub(crate) struct FlightRecorder(Arc<Mutex<State>>);

struct State {
    directory: PathBuf,
    /// The wall time of [`Instant::ZERO`].
    start: SystemTime,
    ring: Ring,
    /// Connections that have ended and whose last packets may follow.
    ended: HashMap<Flow, Ended>,
    ends: u64,
    files: u64,
    /// Captures that were not written because there are too many.
    more: u64,
    failed: Option<String>,
}

/// A connection that has ended.
#[derive(Debug)]
struct Ended {
    id: u64,
    /// `None`: it ended cleanly.
    file: Option<Wanted>,
}

/// A capture: written when the connection ends, so that the report names no file that is not there, and again when its last
/// packets have passed.
#[derive(Debug)]
struct Wanted {
    name: String,
    /// The number of its last packet.
    last: u64,
    /// The line of the report.
    line: String,
    reason: String,
    /// How it ended, for `explain`.
    stated: String,
}

impl std::fmt::Debug for FlightRecorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlightRecorder").finish_non_exhaustive()
    }
}

impl FlightRecorder {
    /// Creates the directory, and makes sure that files can be created in it.
    pub(crate) fn new(settings: &Settings) -> anyhow::Result<Self> {
        let directory = settings.directory.clone();
        let cannot = || {
            let shown = directory.display();
            format!("cannot write captures to {shown}: choose another directory for --flight-recorder")
        };
        fs::create_dir_all(&directory).with_context(cannot)?;
        let probe = directory.join(format!(".lastack-{}", std::process::id()));
        File::create(&probe).and_then(|_| fs::remove_file(&probe)).with_context(cannot)?;
        let state = State {
            directory: directory.clone(),
            start: SystemTime::now(),
            ring: Ring::new(usize::from(settings.memory) << 20),
            ended: HashMap::new(),
            ends: 0,
            files: 0,
            more: 0,
            failed: None,
        };
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stack's time zero is now.
    pub(crate) fn begin(&self) {
        self.state().start = SystemTime::now();
    }

    /// A connection has ended. Returns the number of this end, for [`settle`](Self::settle), and the name of the
    /// capture, if there will be one.
    pub(crate) fn end(&self, flow: Flow, record: &Record) -> Option<(u64, Option<String>)> {
        let mut state = self.state();
        let last = state.ring.get(&flow)?.last();
        let wanted = record.is_trouble();
        if wanted && state.files >= MAX_FILES {
            state.more += 1;
        }
        let file = (wanted && state.files < MAX_FILES).then(|| {
            state.files += 1;
            let line = anstream::adapter::strip_str(&record.to_string()).to_string();
            let stated = record.stated(flow.remote).to_string();
            Wanted { name: file_name(record), last, line, reason: record.reason(), stated }
        });
        let file = file.filter(|file| state.begin(&flow, file));
        let name = file.as_ref().map(|file| file.name.clone());
        state.ends += 1;
        let id = state.ends;
        state.ended.insert(flow, Ended { id, file });
        Some((id, name))
    }

    /// The last packets of this end have passed: writes its capture.
    pub(crate) fn settle(&self, flow: &Flow, id: u64) {
        let mut state = self.state();
        if state.ended.get(flow).is_some_and(|ended| ended.id == id) {
            state.close(flow);
        }
    }

    /// Writes what is left. Returns what has to be reported.
    pub(crate) fn finish(&self) -> Vec<String> {
        let mut state = self.state();
        let flows: Vec<Flow> = state.ended.keys().copied().collect();
        flows.iter().for_each(|flow| state.close(flow));
        let mut warnings: Vec<String> = state.failed.take().into_iter().collect();
        if state.more > 0 {
            warnings.push(format!(
                "--flight-recorder: {} more connections ended badly, without a capture: a run writes at most {MAX_FILES}",
                state.more
            ));
        }
        if state.ring.forgotten > 0 {
            warnings.push(format!(
                "--flight-recorder: the packets of {} connections were removed from memory before they ended: \
                 --flight-memory has the limit",
                state.ring.forgotten
            ));
        }
        warnings
    }
}

impl State {
    fn close(&mut self, flow: &Flow) {
        let Some(ended) = self.ended.remove(flow) else { return };
        let packets = self.ring.take(flow);
        let (Some(file), Some(packets)) = (ended.file, packets) else { return };
        if packets.last() == file.last {
            return;
        }
        // The first version stays if there is no room for another.
        let name = self.directory.join(&file.name);
        let new = self.directory.join(format!(".{}", file.name));
        let written = File::create(&new).and_then(|to| self.write(to, &file, &packets));
        if let Err(error) = written.and_then(|()| fs::rename(&new, &name)) {
            let _none = fs::remove_file(&new);
            self.fail(&name, "has not the last packets of its connection", &error);
        }
    }

    /// Writes the capture of a connection that has just ended. `false`: there is none.
    fn begin(&mut self, flow: &Flow, file: &Wanted) -> bool {
        let Some(packets) = self.ring.get(flow) else { return false };
        let written = create_new(&self.directory, &file.name).and_then(|to| self.write(to, file, packets));
        if let Err(error) = &written {
            let name = self.directory.join(&file.name);
            let _none = fs::remove_file(&name);
            self.fail(&name, "could not be written", error);
        }
        written.is_ok()
    }

    /// The first failure is reported.
    fn fail(&mut self, name: &Path, what: &str, error: &io::Error) {
        self.failed.get_or_insert_with(|| format!("--flight-recorder: {} {what}: {error}", name.display()));
    }

    fn write(&self, file: File, wanted: &Wanted, packets: &Packets) -> io::Result<()> {
        let section = Section { comment: Some(wanted.line.clone()), ..Section::default() };
        let mut writer = PcapngWriter::with_section(file, self.start, &section);
        let last = packets.head.len() + packets.tail().count();
        for (number, packet) in packets.head.iter().chain(packets.tail()).enumerate() {
            let mut comments = Vec::new();
            if number == packets.head.len() && packets.missing > 0 {
                let missing = packets.missing;
                comments.push(format!("{missing} packets between this one and the one before were not kept"));
            }
            if number + 1 == last {
                comments.push(wanted.reason.clone());
            }
            let own = packet.comment.as_deref();
            comments.extend(own.filter(|own| *own != wanted.reason).map(ToOwned::to_owned));
            let comment = (!comments.is_empty()).then(|| comments.join("; "));
            writer.record_cut(packet.at, packet.direction, &packet.data, packet.len, comment.as_deref());
        }
        writer.comment(SystemTime::now(), &wanted.stated);
        writer.finish().map(drop)
    }

    fn keep(&mut self, flow: Flow, first: bool, packet: Packet) {
        if first && self.ended.contains_key(&flow) {
            // Another connection with the same ports.
            self.close(&flow);
        }
        // The packets after a connection that has ended, or of one that was removed, belong to no capture.
        if first || self.ring.has(&flow) {
            self.ring.push(flow, packet);
        }
    }
}

/// `20261130T103102.123456Z-refused-tcp-192.0.2.7-80-from-40000.pcapng`: sorts by time.
fn file_name(record: &Record) -> String {
    let time = record.opened.strftime("%Y%m%dT%H%M%S.%6fZ");
    let cause = record.verdict().cause.name();
    let proto = if record.proto == Proto::Tcp { "tcp" } else { "udp" };
    let (remote, local) = (record.remote, record.local.port());
    // Some file systems have no colon.
    let address = remote.ip().to_string().replace(':', "_");
    format!("{time}-{cause}-{proto}-{address}-{}-from-{local}.pcapng", remote.port())
}

fn create_new(directory: &Path, name: &str) -> io::Result<File> {
    File::create_new(directory.join(name)).or_else(|error| match error.kind() {
        // Left by an earlier run; the time makes that all but impossible.
        io::ErrorKind::AlreadyExists => File::create(directory.join(name)),
        _ => Err(error),
    })
}

impl Sink for FlightRecorder {
    fn record(&mut self, at: Instant, direction: Direction, packet: &[u8], comment: Option<&str>) {
        let Some((flow, first)) = flow_of(direction, packet) else { return };
        let data = packet[..packet.len().min(SNAP)].into();
        let comment = comment.map(Into::into);
        self.state().keep(flow, first, Packet { at, direction, data, len: packet.len(), comment });
    }
}

/// The connection of a packet, and whether it may be the first of it.
fn flow_of(direction: Direction, packet: &[u8]) -> Option<(Flow, bool)> {
    let parsed = IpPacket::parse(packet).ok()?;
    let (src, dst) = (parsed.header.src, parsed.header.dst);
    match parsed.header.protocol {
        ip::TCP => {
            let (tcp, _) = TcpHeader::parse(parsed.payload).ok()?;
            let first = tcp.flags.contains(TcpFlags::SYN) && !tcp.flags.contains(TcpFlags::ACK);
            Some((ends(direction, Proto::Tcp, at(src, tcp.src_port), at(dst, tcp.dst_port)), first))
        }
        ip::UDP => {
            let port = |at: usize| {
                let port: [u8; 2] = parsed.payload.get(at..at + 2)?.try_into().ok()?;
                Some(u16::from_be_bytes(port))
            };
            Some((ends(direction, Proto::Udp, at(src, port(0)?), at(dst, port(2)?)), true))
        }
        ip::ICMP | ip::ICMPV6 => {
            let quoted = Quoted::parse(parsed.payload.get(8..)?).ok()?;
            let (src_port, dst_port) = quoted.ports()?;
            let proto = if quoted.header.protocol == ip::UDP { Proto::Udp } else { Proto::Tcp };
            // The quoted packet went the other way.
            let (src, dst) = (at(quoted.header.dst, dst_port), at(quoted.header.src, src_port));
            Some((ends(direction, proto, src, dst), false))
        }
        _ => None,
    }
}

fn ends(direction: Direction, proto: Proto, src: SocketAddr, dst: SocketAddr) -> Flow {
    match direction {
        Direction::Received => Flow::new(proto, src, dst),
        Direction::Sent => Flow::new(proto, dst, src),
    }
}

fn at(address: IpAddr, port: u16) -> SocketAddr {
    (address, port).into()
}
