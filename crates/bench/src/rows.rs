//! What is measured, and the marks it is held against.

use crate::environment::{Kind, Layout};
use crate::work::Work;

/// What a figure is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// Another network, in the same round.
    Peer(Kind),
    /// The best of slirp4netns and pasta, in the same round.
    BestPeer,
    /// The time of loopback and veth together, which is what the kernel needs for both hops.
    Floor,
    /// Another row of lastack, in the same round.
    OneStream(Work),
    /// CPU time for each byte of another network (to be smaller).
    CpuOf(Kind),
    /// The slowest of several streams in relation to the fastest.
    Fairness,
    /// The share of datagrams that arrive, in relation to that of veth.
    Delivery,
}

/// A ratio to be reached.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    pub against: Against,
    pub ratio: f64,
}

/// One row of the report.
#[derive(Clone, Debug)]
pub struct Row {
    pub title: &'static str,
    pub work: Work,
    pub layout: Layout,
    /// lastack's network first.
    pub kinds: &'static [Kind],
    pub marks: Vec<Mark>,
}

/// A table of the report.
#[derive(Clone, Debug)]
pub struct Group {
    pub title: &'static str,
    pub rows: Vec<Row>,
}

use Against::{BestPeer, CpuOf, Delivery, Fairness, Floor, OneStream, Peer};
use Kind::{
    Loopback, MapLastack, MapPasta, RunFree, RunLastack, RunPasta, RunSlirp, TunBare, TunCopied, TunLastack,
    TunQueues, TunSmoltcp, Veth,
};
use Layout::{Anywhere, OneCpu, TwoCpus};

const TUN_BULK: &[Kind] = &[TunLastack, Veth];
const TUN_UP: &[Kind] = &[TunLastack, TunCopied, Veth];
const QUEUES: &[Kind] = &[TunQueues, TunLastack];
const TUN_SMALL: &[Kind] = &[TunLastack, TunSmoltcp, TunBare, Veth];
const RUN_BULK: &[Kind] = &[RunLastack, RunPasta, RunSlirp, RunFree];
const RUN_MANY: &[Kind] = &[RunLastack, RunPasta, RunSlirp];
const RUN_SMALL: &[Kind] = &[RunLastack, RunPasta, RunSlirp, Loopback, Veth];
const RUN_UDP: &[Kind] = &[RunLastack, RunPasta, RunSlirp, Veth];
const RUN_PACED: &[Kind] = &[RunLastack, Veth];
const MAP: &[Kind] = &[MapLastack, MapPasta];
/// Datagrams a second at which veth loses none.
const PACE: u32 = 20_000;

/// All tables.
pub fn groups() -> Vec<Group> {
    vec![tun(), queues(), run_bulk(), run_small(), run_udp(), map()]
}

fn row(
    title: &'static str,
    work: Work,
    layout: Layout,
    kinds: &'static [Kind],
    marks: &[(Against, f64)],
) -> Row {
    let marks = marks.iter().map(|&(against, ratio)| Mark { against, ratio }).collect();
    Row { title, work, layout, kinds, marks }
}

fn tun() -> Group {
    let download = |streams| Work::Download { streams };
    let upload = |streams| Work::Upload { streams };
    let rows = vec![
        row("kernel to stack", upload(1), TwoCpus, TUN_UP, &[(Peer(Veth), 1.2)]),
        row("stack to kernel", download(1), TwoCpus, TUN_BULK, &[(Peer(Veth), 1.1)]),
        row("kernel to stack, 8 streams", upload(8), TwoCpus, TUN_UP, &[(Peer(Veth), 0.95)]),
        row("stack to kernel, 8 streams", download(8), TwoCpus, TUN_BULK, &[(Peer(Veth), 0.95)]),
        row("ping-pong of 1 byte", Work::PingPong, OneCpu, TUN_SMALL, &[(Peer(TunSmoltcp), 1.0)]),
        row("connect + close", Work::Connect, OneCpu, TUN_SMALL, &[(Peer(TunSmoltcp), 1.1)]),
        row("refused", Work::Refused, OneCpu, TUN_SMALL, &[(Peer(TunSmoltcp), 1.1)]),
    ];
    Group { title: "A stack behind a TUN device, MTU 1500", rows }
}

/// More than one core: a stack for each queue of the device, beside one for all.
fn queues() -> Group {
    let marks = [(Peer(TunLastack), 1.0)];
    let download = Work::Download { streams: 8 };
    let upload = Work::Upload { streams: 8 };
    let rows = vec![
        row("kernel to stacks, 8 streams", upload, Anywhere, QUEUES, &marks),
        row("stacks to kernel, 8 streams", download, Anywhere, QUEUES, &marks),
    ];
    Group { title: "A stack for each of two queues of a TUN device, not pinned, beside one stack", rows }
}

fn run_bulk() -> Group {
    let download = |streams| Work::Download { streams };
    let upload = |streams| Work::Upload { streams };
    let down = [(Peer(RunSlirp), 4.0), (Peer(RunFree), 0.95), (CpuOf(RunPasta), 0.4)];
    let up = [(Peer(RunSlirp), 4.0), (Peer(RunFree), 0.95), (CpuOf(RunPasta), 0.5)];
    let rows = vec![
        row("host to program", download(1), TwoCpus, RUN_BULK, &down),
        row("program to host", upload(1), TwoCpus, RUN_BULK, &up),
        row(
            "host to program, 8 streams",
            download(8),
            TwoCpus,
            RUN_MANY,
            &[(OneStream(download(1)), 1.0), (Fairness, 0.5)],
        ),
        row(
            "program to host, 8 streams",
            upload(8),
            TwoCpus,
            RUN_MANY,
            &[(OneStream(upload(1)), 1.0), (Fairness, 0.5)],
        ),
    ];
    Group { title: "`lastack run`, bulk data, MTU 65520", rows }
}

fn run_small() -> Group {
    let ahead = [(Floor, 1.0 / 1.08), (Peer(RunPasta), 1.0), (Peer(RunSlirp), 1.0)];
    let rows = vec![
        row("ping-pong of 1 byte", Work::PingPong, OneCpu, RUN_SMALL, &ahead),
        row("connect + close", Work::Connect, OneCpu, RUN_SMALL, &[(Floor, 0.9)]),
        row("refused", Work::Refused, OneCpu, RUN_SMALL, &[(Floor, 0.9)]),
        row("http, one request a connection", Work::HttpClose, OneCpu, RUN_SMALL, &[(Peer(RunPasta), 1.5)]),
        row("http, keep-alive", Work::HttpKeepAlive, OneCpu, RUN_SMALL, &[(Peer(RunPasta), 1.6)]),
        row("UDP ping-pong of 1 byte", Work::UdpPingPong, OneCpu, RUN_SMALL, &[]),
    ];
    Group { title: "`lastack run`, small operations, all on one CPU", rows }
}

fn run_udp() -> Group {
    let marks = [(BestPeer, 2.0), (Peer(Veth), 0.6)];
    let rows = vec![
        row("UDP to the host", Work::UdpUp { rate: 0 }, TwoCpus, RUN_UDP, &marks),
        row("UDP to the program", Work::UdpDown { rate: 0 }, TwoCpus, RUN_UDP, &marks),
        row(
            "UDP to the host, 20,000 a second",
            Work::UdpUp { rate: PACE },
            TwoCpus,
            RUN_PACED,
            &[(Delivery, 1.0)],
        ),
        row(
            "UDP to the program, 20,000 a second",
            Work::UdpDown { rate: PACE },
            TwoCpus,
            RUN_PACED,
            &[(Delivery, 1.0)],
        ),
    ];
    Group { title: "`lastack run`, datagrams of 1400 bytes", rows }
}

fn map() -> Group {
    let rows = vec![
        row("host to program", Work::Download { streams: 1 }, TwoCpus, MAP, &[(Peer(MapPasta), 1.0)]),
        row("program to host", Work::Upload { streams: 1 }, TwoCpus, MAP, &[(Peer(MapPasta), 1.0)]),
        row("ping-pong of 1 byte", Work::PingPong, OneCpu, MAP, &[(Peer(MapPasta), 1.0)]),
        row("connect + close", Work::Connect, OneCpu, MAP, &[(Peer(MapPasta), 1.0)]),
    ];
    Group { title: "Ports of the host's loopback: `--map-localhost`, and pasta's `-T`", rows }
}
