//! A network namespace with a device in it.

use std::{future::poll_fn, net::IpAddr, thread, time::Duration};

use lastack_device::{Device, DeviceKind, LinkSettings, Netlink, Tun, Veth, netlink};
use lastack_engine::{Instant, Received, Transmit};
use lastack_link::Link;
use lastack_wire::IpPacket;

pub const MTU: usize = 1500;
pub const NAME: &str = "dev0";
const FAR: &str = "far0";
/// How long a test waits for what never comes.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The kernel's address and ours, of one family.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    pub kernel: IpAddr,
    pub ours: IpAddr,
}

pub fn pairs() -> [Pair; 2] {
    let pair =
        |kernel: &str, ours: &str| Pair { kernel: kernel.parse().unwrap(), ours: ours.parse().unwrap() };
    [pair("10.0.2.100", "10.0.2.2"), pair("fd00::100", "fd00::2")]
}

/// A device whose kernel side is up, in the namespace of this thread.
pub struct Lab {
    pub device: Device,
    pub runtime: tokio::runtime::Runtime,
}

/// Runs `test` with each kind of device and for each family.
pub fn with_devices(test: impl Fn(Lab, Pair) + Copy + Send + 'static) {
    for kind in [DeviceKind::Tun, DeviceKind::Veth] {
        for pair in pairs() {
            in_namespace(move || {
                eprintln!("{kind}, {pair:?}");
                test(Lab::new(kind), pair);
            });
        }
    }
}

/// Runs `test` in a thread with a network namespace of its own.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(|| match nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
        Ok(()) => test(),
        Err(errno) => panic!("cannot run here: needs root, for a network namespace: {errno}"),
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Lab {
    pub fn new(kind: DeviceKind) -> Self {
        let device = match kind {
            DeviceKind::Tun => Tun::open(NAME).map(Device::Tun),
            _ => Veth::open(NAME, FAR, MTU).map(Device::Veth),
        };
        Self::over(device.unwrap_or_else(|error| panic!("cannot run here: needs a {kind} device: {error}")))
    }

    /// Brings the interface up and gives it its addresses.
    pub fn over(device: Device) -> Self {
        let mut netlink = Netlink::open().unwrap();
        let index = netlink::index_of(NAME).unwrap();
        netlink.set_up(netlink::LOOPBACK, &LinkSettings::default()).unwrap();
        let settings = LinkSettings {
            mtu: Some(MTU as u32),
            no_arp: true,
            tx_queue_len: Some(1000),
            no_link_local: true,
        };
        netlink.set_up(index, &settings).unwrap();
        for index in std::iter::once(index).chain(netlink::index_of(FAR)) {
            netlink.await_running(index).unwrap();
        }
        for pair in pairs() {
            netlink.add_address(index, pair.kernel, if pair.kernel.is_ipv4() { 24 } else { 64 }).unwrap();
            netlink.add_default_route(index, pair.ours).unwrap();
            netlink.await_address(pair.kernel).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { device, runtime }
    }

    /// The next packet of this protocol for `to`.
    pub fn recv(&mut self, to: IpAddr, protocol: u8) -> (Vec<u8>, Received) {
        let mut packet = Vec::new();
        let device = &mut self.device;
        self.runtime.block_on(async {
            loop {
                while let Some(received) = device.recv(Instant::ZERO, &mut packet) {
                    let parsed = IpPacket::parse(&packet).expect("the kernel sends what can be read");
                    if parsed.header.dst == to && parsed.header.protocol == protocol {
                        return (packet, received);
                    }
                }
                let readable = tokio::time::timeout(PATIENCE, poll_fn(|cx| device.poll_readable(cx))).await;
                readable.expect("nothing arrives").unwrap();
            }
        })
    }

    pub fn send(&mut self, packet: &[u8], transmit: &Transmit) {
        let before = self.device.dropped().sent;
        self.device.send(Instant::ZERO, packet, transmit);
        assert_eq!(self.device.dropped().sent, before, "the kernel took it");
    }
}

pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}
