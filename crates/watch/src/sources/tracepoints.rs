//! Source F: tracepoints by perf_event_open, one ring of memory for each CPU.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use perf_event_open_sys::bindings as perf;

use super::processes::{printable, thread_name};
use super::sys::{self, Mapping};
use super::tracefs::{Format, Tracefs};
use crate::event::{Context, Flow, TcpState, Time, Trace, TraceKind, ip_from_16};

/// The transitions that show the beginning, the end, and which side closes first; the others add nothing.
const TRANSITIONS: &str = "protocol == 6 && (newstate == 1 || newstate == 2 || newstate == 4 || newstate == 7 || \
                           newstate == 8 || newstate == 9)";
const ERRORS: &str = "protocol == 6";

const PAGE: usize = 4096;
/// The rings of all CPUs together, and of one at most; halved until the kernel allows it.
const ALL_RINGS: usize = 64 << 20;
const RING: usize = 8 << 20;
const SMALLEST_RING: usize = 32 << 10;

// Offsets in `struct perf_event_mmap_page`.
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    SendReset,
    ReceiveReset,
    SetState,
    ErrorReport,
    DestroySock,
}

const POINTS: [(Point, &str, Option<&str>); 5] = [
    (Point::SendReset, "tcp/tcp_send_reset", None),
    (Point::ReceiveReset, "tcp/tcp_receive_reset", None),
    (Point::SetState, "sock/inet_sock_set_state", Some(TRANSITIONS)),
    (Point::ErrorReport, "sock/inet_sk_error_report", Some(ERRORS)),
    (Point::DestroySock, "tcp/tcp_destroy_sock", None),
];

/// All tracepoints on one CPU.
#[derive(Debug)]
struct Cpu {
    ring: Mapping,
    /// The first is the owner of the ring.
    events: Vec<OwnedFd>,
}

#[derive(Debug)]
pub(super) struct Tracepoints {
    formats: Vec<(Point, Format)>,
    cpus: Vec<Cpu>,
    record: Vec<u8>,
    names: Names,
    /// Tracepoints that this kernel lacks or that could not be opened.
    pub(super) missing: Vec<String>,
}

impl Tracepoints {
    pub(super) fn open() -> io::Result<Self> {
        let tracefs = Tracefs::open()?;
        let mut formats = Vec::new();
        let mut missing = Vec::new();
        for (point, name, _) in POINTS {
            match tracefs.format(name) {
                Ok(format) => formats.push((point, format)),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
                Err(_) => missing.push(name.replace('/', ":")),
            }
        }
        if formats.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this kernel has none of the tracepoints",
            ));
        }
        let mut cpus = Vec::new();
        let count = sys::configured_cpus();
        let share = ALL_RINGS / count.next_power_of_two();
        let mut size = share.clamp(SMALLEST_RING, RING);
        for cpu in 0..count {
            match Cpu::open(cpu as i32, &formats, &mut size) {
                Ok(cpu) => cpus.push(cpu),
                // A CPU that is not there.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { formats, cpus, record: Vec::new(), names: Names::default(), missing })
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.cpus.iter().map(|cpu| cpu.events[0].as_fd())
    }

    /// Returns every event that waits, of one CPU after the other, and how many were lost.
    pub(super) fn read(&mut self, mut take: impl FnMut(Time, Trace)) -> u64 {
        let mut lost = 0;
        let Self { formats, cpus, record, names, .. } = self;
        for cpu in cpus {
            cpu.records(record, |kind, record| match kind {
                perf::PERF_RECORD_SAMPLE => {
                    if let Some((time, mut trace)) = sample(formats, record) {
                        trace.comm = names.get(trace.context.tid);
                        take(time, trace);
                    }
                }
                // `id`, then the number of lost records.
                perf::PERF_RECORD_LOST => lost += long(record, 8).unwrap_or(1),
                perf::PERF_RECORD_COMM => names.set(record),
                perf::PERF_RECORD_FORK => names.inherit(record),
                _ => {}
            });
        }
        lost
    }
}

impl Cpu {
    fn open(cpu: i32, formats: &[(Point, Format)], size: &mut usize) -> io::Result<Self> {
        let mut events: Vec<OwnedFd> = Vec::new();
        let mut ring = None;
        for (point, format) in formats {
            let event = sys::open_tracepoint(&mut attributes(format.id, events.is_empty()), cpu)?;
            if let Some(filter) = POINTS.iter().find(|known| known.0 == *point).and_then(|known| known.2) {
                sys::set_filter(event.as_fd(), filter)?;
            }
            match events.first() {
                None => ring = Some(map(event.as_fd(), size)?),
                Some(first) => sys::share_ring(event.as_fd(), first.as_fd())?,
            }
            events.push(event);
        }
        for event in &events {
            sys::enable(event.as_fd())?;
        }
        let ring = ring.ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { ring, events })
    }

    /// Returns kind and content of each record in the ring, and frees it.
    fn records(&self, buffer: &mut Vec<u8>, mut take: impl FnMut(u32, &[u8])) {
        let size = self.ring.len() - PAGE;
        let head = self.ring.load_u64(DATA_HEAD);
        let mut tail = self.ring.load_u64(DATA_TAIL);
        // `struct perf_event_header`: kind, flags, and the size of the record with it.
        while head.wrapping_sub(tail) >= 8 {
            let at = tail as usize % size;
            let kind = self.ring.load_u32(PAGE + at);
            let len = (self.ring.load_u32(PAGE + at + 4) >> 16) as usize;
            let len = if cfg!(target_endian = "little") { len } else { len & 0xffff };
            if len < 8 || len as u64 > head.wrapping_sub(tail) {
                break;
            }
            buffer.clear();
            let before_end = len.min(size - at);
            self.ring.copy(PAGE + at, before_end, buffer);
            self.ring.copy(PAGE, len - before_end, buffer);
            take(kind, &buffer[8..]);
            tail += len as u64;
        }
        self.ring.store_u64(DATA_TAIL, tail);
    }
}

/// As large as requested, or as the limit of locked memory allows.
fn map(event: BorrowedFd<'_>, size: &mut usize) -> io::Result<Mapping> {
    loop {
        match Mapping::new(event, PAGE + *size) {
            Err(_) if *size > SMALLEST_RING => *size /= 2,
            other => return other,
        }
    }
}

/// `names`: the names of threads are recorded, too.
fn attributes(id: u64, names: bool) -> perf::perf_event_attr {
    let mut attributes = perf::perf_event_attr {
        type_: perf::PERF_TYPE_TRACEPOINT,
        size: size_of::<perf::perf_event_attr>() as u32,
        config: id,
        sample_type: u64::from(perf::PERF_SAMPLE_TID | perf::PERF_SAMPLE_TIME | perf::PERF_SAMPLE_RAW),
        clockid: libc::CLOCK_MONOTONIC,
        ..Default::default()
    };
    attributes.sample_period = 1;
    attributes.set_use_clockid(1);
    attributes.set_comm(names.into());
    attributes.set_task(names.into());
    attributes.set_sample_id_all(1);
    attributes.set_disabled(1);
    // Woken when a quarter is full; the reader comes by a clock anyway.
    attributes.set_watermark(1);
    attributes.wakeup_watermark = (SMALLEST_RING / 2) as u32;
    attributes
}

fn word(record: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?))
}

fn long(record: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(record.get(at..at + 8)?.try_into().ok()?))
}

/// A record: pid and tid, time, length of the raw part, raw part.
fn sample(formats: &[(Point, Format)], record: &[u8]) -> Option<(Time, Trace)> {
    let (pid, tid) = (word(record, 0)?, word(record, 4)?);
    let time = long(record, 8)?;
    let raw = record.get(20..20usize.checked_add(word(record, 16)? as usize)?)?;
    let id = u64::from(u16::from_ne_bytes(*raw.first_chunk()?));
    let (point, format) = formats.iter().find(|(_, format)| format.id == id)?;
    let context = Context {
        pid,
        tid,
        flags: format.number(raw, "common_flags")? as u8,
        preempt: format.number(raw, "common_preempt_count").unwrap_or_default() as u8,
    };
    let kind = kind(*point, format, raw)?;
    Some((Time(time), Trace { context, comm: "".into(), kind }))
}

fn kind(point: Point, format: &Format, raw: &[u8]) -> Option<TraceKind> {
    let number = |field: &str| format.number(raw, field);
    let state = |field: &str| number(field).and_then(|state| TcpState::from_number(state as u32));
    let sk = || number("skaddr").unwrap_or_default();
    let cookie = || number("sock_cookie").unwrap_or_default();
    Some(match point {
        Point::SendReset => TraceKind::SendReset {
            reply: number("skbaddr")? != 0,
            sk: sk(),
            flow: flow(format, raw)?,
            state: state("state"),
            reason: number("reason").and_then(|reason| format.reason(reason as u32)),
        },
        Point::ReceiveReset => {
            TraceKind::ReceiveReset { sk: sk(), flow: flow(format, raw)?, cookie: cookie() }
        }
        Point::SetState => TraceKind::SetState {
            sk: sk(),
            flow: flow(format, raw)?,
            old: state("oldstate")?,
            new: state("newstate")?,
        },
        Point::ErrorReport => TraceKind::ErrorReport {
            flow: flow(format, raw)?,
            errno: (number("error")? as u32).cast_signed(),
        },
        Point::DestroySock => TraceKind::DestroySock { sk: sk(), flow: flow(format, raw)?, cookie: cookie() },
    })
}

/// The addresses: two of `struct sockaddr_in6`, or ports and addresses apart.
fn flow(format: &Format, raw: &[u8]) -> Option<Flow> {
    let (source, destination) = (format.bytes(raw, "saddr")?, format.bytes(raw, "daddr")?);
    if source.len() == 28 {
        return Some(Flow::new(socket_address(source)?, socket_address(destination)?));
    }
    let port = |field: &str| format.number(raw, field).map(|port| port as u16);
    let (source, destination) = if format.number(raw, "family") == Some(libc::AF_INET6 as u64) {
        let address =
            |field: &str| format.bytes(raw, field)?.try_into().ok().map(|bytes| ip_from_16(bytes, true));
        (address("saddr_v6")?, address("daddr_v6")?)
    } else {
        let address = |bytes: &[u8]| bytes.first_chunk::<4>().map(|&bytes| IpAddr::from(bytes));
        (address(source)?, address(destination)?)
    };
    Some(Flow::new((source, port("sport")?).into(), (destination, port("dport")?).into()))
}

/// `struct sockaddr_in` or `sockaddr_in6`; the latter has its address behind the flow label.
fn socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*bytes.first_chunk()?);
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    let ip = if i32::from(family) == libc::AF_INET6 {
        ip_from_16(bytes.get(8..24)?.try_into().ok()?, true)
    } else {
        IpAddr::from(<[u8; 4]>::try_from(bytes.get(4..8)?).ok()?)
    };
    Some((ip, port).into())
}

/// The names of threads, and since when. The kernel records each new one; those from before are read in /proc.
#[derive(Debug, Default)]
struct Names(HashMap<u32, (u64, Arc<str>)>);

impl Names {
    const MAX: usize = 1 << 16;

    fn get(&mut self, tid: u32) -> Arc<str> {
        if tid == 0 {
            return "<idle>".into();
        }
        if self.0.len() >= Self::MAX {
            self.0.clear();
        }
        self.0.entry(tid).or_insert_with(|| (0, thread_name(tid))).1.clone()
    }

    /// A record of a name: pid, tid, the name up to a zero byte; at its end pid, tid and time.
    fn set(&mut self, record: &[u8]) {
        if let (Some(tid), Some(time), Some(name)) = (word(record, 4), time_at_end(record), record.get(8..)) {
            let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
            self.put(tid, time, printable(name).into());
        }
    }

    /// A record of a new thread: pid, parent's pid, tid, parent's tid; it has its parent's name.
    fn inherit(&mut self, record: &[u8]) {
        if let (Some(tid), Some(parent), Some(time)) =
            (word(record, 8), word(record, 12), time_at_end(record))
        {
            match self.0.get(&parent).cloned() {
                Some((_, name)) => self.put(tid, time, name),
                // A tid that is used again. What is known since a later time is its name.
                None if self.0.get(&tid).is_some_and(|(since, _)| *since <= time) => {
                    drop(self.0.remove(&tid))
                }
                None => {}
            }
        }
    }

    /// The rings of the CPUs are read one after the other: an older name may come later.
    fn put(&mut self, tid: u32, time: u64, name: Arc<str>) {
        if self.0.len() < Self::MAX && self.0.get(&tid).is_none_or(|(since, _)| *since <= time) {
            self.0.insert(tid, (time, name));
        }
    }
}

/// The time in the identification at the end of a record that is not a sample.
fn time_at_end(record: &[u8]) -> Option<u64> {
    record.last_chunk().map(|&time| u64::from_ne_bytes(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(words: &[u32], name: &[u8], time: u64) -> Vec<u8> {
        let mut record: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        record.extend_from_slice(name);
        record.extend_from_slice(&[0; 8]);
        record.extend_from_slice(&time.to_ne_bytes());
        record
    }

    #[test]
    fn a_thread_has_the_name_of_its_parent_until_it_takes_another() {
        let mut names = Names::default();
        names.set(&record(&[1 << 30, 1 << 30], b"shop\0\0\0\0", 1));
        names.inherit(&record(&[1 << 30, 1 << 30, (1 << 30) + 1, 1 << 30], b"", 2));
        assert_eq!(&*names.get((1 << 30) + 1), "shop");
        names.set(&record(&[1 << 30, (1 << 30) + 1], b"worker\0\0", 4));
        names.set(&record(&[1 << 30, (1 << 30) + 1], b"shell\0\0\0", 3));
        assert_eq!(&*names.get((1 << 30) + 1), "worker", "the older name comes later, from another CPU");
        // A tid used again, by a process whose name is not known.
        names.inherit(&record(&[9, 9, (1 << 30) + 1, (1 << 30) + 2], b"", 5));
        assert_eq!(&*names.get((1 << 30) + 1), "", "no such thread");
        // The name it takes is read before its beginning, from another CPU.
        names.set(&record(&[9, (1 << 30) + 3], b"late\0\0\0\0", 8));
        names.inherit(&record(&[9, 9, (1 << 30) + 3, (1 << 30) + 2], b"", 7));
        assert_eq!(&*names.get((1 << 30) + 3), "late");
        assert_eq!(&*names.get(0), "<idle>");
        assert_eq!(&*names.get(std::process::id()), thread_name(std::process::id()).as_ref());
    }

    #[test]
    fn addresses_are_read_from_both_layouts() {
        let mut bytes = vec![0; 28];
        bytes[..2].copy_from_slice(&2u16.to_ne_bytes());
        bytes[2..8].copy_from_slice(&[0x1f, 0xa5, 10, 78, 0, 1]);
        assert_eq!(socket_address(&bytes), Some("10.78.0.1:8101".parse().unwrap()));
        bytes[..2].copy_from_slice(&10u16.to_ne_bytes());
        bytes[8..24].copy_from_slice(&"fd00::3".parse::<std::net::Ipv6Addr>().unwrap().octets());
        assert_eq!(socket_address(&bytes), Some("[fd00::3]:8101".parse().unwrap()));
        assert_eq!(socket_address(&bytes[..20]), None);
    }

    #[test]
    fn a_record_that_is_too_short_is_no_event() {
        assert_eq!(sample(&[], &[0; 19]), None);
        assert_eq!(sample(&[], &record(&[1, 1, 0, 0, 0xffff_ffff], b"", 0)), None);
        assert_eq!(sample(&[], &record(&[1, 1, 0, 0, 8, 7, 0], b"", 0)), None, "an unknown tracepoint");
    }
}
