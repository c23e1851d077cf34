//! lastack and smoltcp side by side, on the same work, in memory and one thread.
//!
//! `cargo bench` takes under two minutes, `cargo bench -- --quick` under twenty seconds. See
//! `docs/benchmarks.md` for what is measured. `-- --count WORK TURNS` does this number of turns of one work of lastack, or
//! of smoltcp (`smoltcp-WORK`), and prints how much that was: for `.ci/instructions`, which counts what that takes.

mod harness;
mod heap;
mod lastack;
mod memory;
mod smoltcp;
mod work;

use harness::{Options, Rates, Row, Work, bytes, compare, gigabits, grouped, per_second, percent, print};
use lastack_wire::ip::{self, IpHeader};
use lastack_wire::tcp::{self, TcpFlags, TcpHeader, TcpOptions};
use std::net::IpAddr;
use work::Shape;

/// Measures a work and prints its lines of the table.
type Measure = fn(Options);

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if let Some(at) = args.iter().position(|arg| arg == "--count") {
        return count(&args[at + 1..]);
    }
    let options = match (has("--bench"), has("--quick")) {
        (false, _) => Options::SMOKE,
        (true, true) => Options::QUICK,
        (true, false) => Options::FULL,
    };
    if !has("--bench") {
        println!("not a measurement: cargo bench makes one");
    }
    let options = Options { alone: has("--alone"), ..options };
    // A name selects the works that hold it.
    let wanted = args.iter().find(|arg| !arg.starts_with('-'));
    let works: [(&str, Measure); 7] = [
        ("bulk", |options| bulk(options, "bulk, MTU 1500, checksums", ON)),
        ("bulk-plain", |options| bulk(options, "bulk, MTU 1500, no checksums", OFF)),
        ("bulk-large", bulk_large),
        ("connect", connect),
        ("refuse", refuse),
        ("trips", round_trips),
        ("memory", idle),
    ];
    print(None);
    for (name, work) in works {
        if wanted.is_none_or(|wanted| name.contains(wanted.as_str())) {
            work(options);
        }
    }
}

/// Does turns of one work, the first to warm up, and prints the amount of the others.
fn count(args: &[String]) {
    let [name, turns] = args else { panic!("--count WORK TURNS") };
    let turns: usize = turns.parse().expect("a number of turns");
    // Bytes of data in a segment at MTU 1500, with timestamps and without, and in one of 64 KiB.
    const SEGMENT: f64 = 1448.0;
    const LARGE_SEGMENT: f64 = 65_483.0;
    let (mut work, unit) = match name.as_str() {
        "bulk" => (work::bulk(lastack::for_bulk(ON)), SEGMENT),
        "bulk-plain" => (work::bulk(lastack::for_bulk(OFF)), SEGMENT),
        "bulk-large" => (work::bulk(lastack::for_bulk(LARGE)), LARGE_SEGMENT),
        "connect" => (lastack::connect_close(10), 1.0),
        "connect-100000" => (lastack::connect_close(100_000), 1.0),
        "refuse" => (lastack::refuse(10, syns()), 1.0),
        "trips" => (work::round_trips(lastack::for_round_trips()), 1.0),
        "smoltcp-bulk" => (work::bulk(smoltcp::for_bulk(ON)), SEGMENT),
        "smoltcp-bulk-plain" => (work::bulk(smoltcp::for_bulk(OFF)), SEGMENT),
        "smoltcp-bulk-large" => (work::bulk(smoltcp::for_bulk(LARGE)), LARGE_SEGMENT),
        "smoltcp-connect" => (smoltcp::connect_close(10), 1.0),
        "smoltcp-refuse" => (smoltcp::refuse(10, syns()), 1.0),
        "smoltcp-trips" => (work::round_trips(smoltcp::for_round_trips()), 1.0),
        other => panic!("no such work: {other}"),
    };
    work();
    let amount: f64 = (0..turns).map(|_| work()).sum();
    println!("{}", amount / unit);
}

const ON: Shape = Shape { checksums: true, large: false };
const OFF: Shape = Shape { checksums: false, large: false };
const LARGE: Shape = Shape { checksums: false, large: true };

fn bulk(options: Options, name: &str, shape: Shape) {
    let ours = work::bulk(lastack::for_bulk(shape));
    let theirs = || work::bulk(smoltcp::for_bulk(shape));
    pair(options, name, ours, theirs, gigabits);
}

/// Beside the copies alone, which are all that is left to gain.
fn bulk_large(options: Options) {
    let mut contenders = vec![work::bulk(lastack::for_bulk(LARGE)), work::copies()];
    if !options.alone {
        contenders.push(work::bulk(smoltcp::for_bulk(LARGE)));
    }
    let rates = compare(options, &mut contenders);
    let theirs = rates.get(2);
    row("bulk, packets of 64 KiB, no checksums".into(), rates.first(), theirs, gigabits);
    row("the three copies of that, without a stack".into(), rates.get(1), theirs, gigabits);
}

fn round_trips(options: Options) {
    let ours = work::round_trips(lastack::for_round_trips());
    let theirs = || work::round_trips(smoltcp::for_round_trips());
    pair(options, "round trips of 1 byte", ours, theirs, per_second);
}

/// A work that each stack does in one way.
fn pair(options: Options, name: &str, ours: Work, theirs: impl FnOnce() -> Work, show: fn(f64) -> String) {
    let mut contenders = vec![ours];
    if !options.alone {
        contenders.push(theirs());
    }
    let rates = compare(options, &mut contenders);
    row(name.into(), rates.first(), rates.get(1), show);
}

fn connect(options: Options) {
    beside_others("connect + close", options, [10, 1000, 10_000, 100_000], |open, ours| {
        if ours { lastack::connect_close(open) } else { smoltcp::connect_close(open) }
    });
}

fn refuse(options: Options) {
    beside_others("RST to a SYN", options, [10, 0, 1000, 10_000, 100_000], |open, ours| {
        if ours { lastack::refuse(open, syns()) } else { smoltcp::refuse(open, syns()) }
    });
}

/// A work beside a number of open connections: all numbers in the same rounds, so that they compare. The
/// first and the last show the change of the rate.
fn beside_others<const N: usize>(
    name: &str,
    options: Options,
    open: [usize; N],
    make: fn(usize, bool) -> Work,
) {
    let open: Vec<_> = open.into_iter().filter(|open| *open <= options.max).collect();
    let bearable = if options.alone { None } else { Some(options.bearable) };
    let borne = open.iter().filter(|open| Some(**open) <= bearable).count();
    let ours = open.iter().map(|open| make(*open, true));
    let theirs = open[..borne].iter().map(|open| make(*open, false));
    let rates = compare(options, &mut ours.chain(theirs).collect::<Vec<_>>());
    let (ours, theirs) = rates.split_at(open.len());
    for (i, open) in open.iter().enumerate() {
        row(format!("{name}, {} open", grouped(*open)), ours.get(i), theirs.get(i), per_second);
    }
    let left = |rates: &[Rates]| Some(rates.last()?.ratio(rates.first()?));
    print(Some(&Row {
        work: format!("{name}, left with {} open", grouped(open.last().copied().unwrap_or_default())),
        lastack: left(ours),
        smoltcp: if borne == open.len() { left(theirs) } else { None },
        ratio: None,
        show: percent,
    }));
}

/// Memory of an idle established connection.
fn idle(options: Options) {
    let count = options.max.min(20_000);
    for (name, used) in [("never used", false), ("used, then silent for a minute", true)] {
        let lastack = memory::lastack(count, used);
        let smoltcp = (!options.alone).then(|| memory::smoltcp(count.min(options.bearable)));
        print(Some(&Row {
            work: format!("memory of a connection, {name}"),
            lastack: Some(lastack),
            smoltcp,
            ratio: smoltcp.map(|smoltcp| lastack / smoltcp),
            show: bytes,
        }));
    }
}

fn row(work: String, lastack: Option<&Rates>, smoltcp: Option<&Rates>, show: fn(f64) -> String) {
    print(Some(&Row {
        work,
        lastack: lastack.map(Rates::median),
        smoltcp: smoltcp.map(Rates::median),
        ratio: lastack.zip(smoltcp).map(|(ours, theirs)| ours.ratio(theirs)),
        show,
    }));
}

/// SYNs from many ports, as a scanner sends them, to a port with no listener.
fn syns() -> Vec<Vec<u8>> {
    (0..1024).map(|n| syn(20_000 + n)).collect()
}

fn syn(src_port: u16) -> Vec<u8> {
    let ip = IpHeader::new(IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]), ip::TCP);
    let header = TcpHeader {
        src_port,
        dst_port: 1935,
        seq: u32::from(src_port).wrapping_mul(0x9e37_79b1),
        flags: TcpFlags::SYN,
        window: 64_240,
        options: TcpOptions { mss: Some(1460), ..TcpOptions::default() },
        ..TcpHeader::default()
    };
    let mut packet = Vec::new();
    ip.emit(header.len(), &mut packet);
    header.emit(&mut packet);
    tcp::fill_checksum(&ip, &mut packet[ip.len()..]);
    packet
}
