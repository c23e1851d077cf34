//! A network namespace in which the kernel speaks with hand-made peers over a TUN device.

use std::{
    collections::HashMap,
    fs, io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use lastack_device::{LinkSettings, Netlink, netlink};
use lastack_wire::{IpPacket, TcpHeader, ip};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout},
};

use crate::scenarios::Settings;

const NAME: &str = "dev0";
/// The addresses of the kernel, with their prefixes, and of a router behind which everybody else is.
pub const KERNEL: [(&str, u8); 2] = [("10.9.0.1", 16), ("fd09::1", 64)];
pub const ROUTER: [&str; 2] = ["10.9.255.1", "fd09::ffff"];
/// How often the reader looks whether it is still wanted, in milliseconds.
const PATIENCE: u16 = 50;

/// The TUN device of a namespace, and who waits for packets to which port.
pub struct Network {
    tun: OwnedFd,
    peers: Mutex<HashMap<u16, Sender<Vec<u8>>>>,
    done: AtomicBool,
}

/// Runs `work` in a network namespace of its own with these settings.
///
/// # Errors
///
/// Why there is none: it needs root and /dev/net/tun.
pub fn within<T: Send>(settings: Settings, work: impl FnOnce(&Network) -> T + Send) -> Result<T, String> {
    let in_namespace = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .map_err(|errno| format!("needs root, for a network namespace: {errno}"))?;
        let network = Network::new(settings)?;
        // Threads are born into the namespace of their parent.
        thread::scope(|scope| {
            scope.spawn(|| network.read());
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&network)));
            network.done.store(true, Ordering::Relaxed);
            result.map_or_else(|panic| std::panic::resume_unwind(panic), Ok)
        })
    };
    thread::scope(|scope| match scope.spawn(in_namespace).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

impl Network {
    fn new(settings: Settings) -> Result<Self, String> {
        let tun = open_tun().map_err(|error| format!("needs /dev/net/tun: {error}"))?;
        for (name, value) in sysctls(settings) {
            let path = format!("/proc/sys/net/ipv4/{name}");
            fs::write(&path, value).map_err(|error| format!("needs to write {path}: {error}"))?;
        }
        configure().map_err(|error| error.to_string())?;
        Ok(Self { tun, peers: Mutex::default(), done: AtomicBool::new(false) })
    }

    /// Packets of the kernel to these ports go to the receiver.
    pub fn peer(&self, ports: std::ops::Range<u16>) -> Receiver<Vec<u8>> {
        let (sender, receiver) = channel();
        let mut peers = self.peers.lock().unwrap();
        for port in ports {
            peers.insert(port, sender.clone());
        }
        receiver
    }

    pub fn send(&self, packet: &[u8]) {
        let written = nix::unistd::write(&self.tun, packet);
        assert_eq!(written, Ok(packet.len()), "the kernel takes it");
    }

    fn read(&self) {
        let mut buf = vec![0; 1 << 16];
        while !self.done.load(Ordering::Relaxed) {
            let mut fds = [PollFd::new(self.tun.as_fd(), PollFlags::POLLIN)];
            nix::poll::poll(&mut fds, PollTimeout::from(PATIENCE)).unwrap();
            while let Ok(len) = nix::unistd::read(&self.tun, &mut buf) {
                self.pass_on(&buf[..len]);
            }
        }
    }

    fn pass_on(&self, packet: &[u8]) {
        let Ok(parsed) = IpPacket::parse(packet) else { return };
        // The rest is the kernel's own, as multicast reports are.
        if parsed.header.protocol != ip::TCP {
            return;
        }
        let Ok((tcp, _)) = TcpHeader::parse(parsed.payload) else { return };
        if let Some(peer) = self.peers.lock().unwrap().get(&tcp.dst_port) {
            // Who does not listen any more has seen enough.
            let _ = peer.send(packet.to_vec());
        }
    }
}

fn sysctls(settings: Settings) -> Vec<(&'static str, &'static str)> {
    let mut sysctls = vec![("tcp_syncookies", "0"), ("tcp_timestamps", "1")];
    if settings == Settings::Small {
        sysctls.push(("tcp_rmem", "4096 16384 16384"));
    }
    if settings == Settings::Short {
        sysctls.extend([
            ("tcp_retries2", "3"),
            ("tcp_orphan_retries", "1"),
            ("tcp_syn_retries", "1"),
            ("tcp_syn_linear_timeouts", "0"),
            ("tcp_synack_retries", "1"),
            ("tcp_fin_timeout", "2"),
            ("tcp_abort_on_overflow", "1"),
            ("tcp_rfc1337", "1"),
        ]);
    }
    sysctls
}

fn configure() -> Result<(), lastack_device::DeviceError> {
    let mut netlink = Netlink::open()?;
    let index = netlink::index_of(NAME)?;
    netlink.set_up(netlink::LOOPBACK, &LinkSettings::default())?;
    let settings =
        LinkSettings { mtu: Some(1500), no_arp: true, tx_queue_len: Some(1000), no_link_local: true };
    netlink.set_up(index, &settings)?;
    netlink.await_running(index)?;
    for ((address, prefix), router) in KERNEL.into_iter().zip(ROUTER) {
        let [address, router]: [IpAddr; 2] = [address, router].map(|text| text.parse().unwrap());
        netlink.add_address(index, address, prefix)?;
        netlink.add_default_route(index, router)?;
        netlink.await_address(address)?;
    }
    Ok(())
}

/// A TUN device without virtio headers: the kernel cuts its segments and completes their checksums itself.
fn open_tun() -> io::Result<OwnedFd> {
    let file = fs::File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: zeroes are an ifreq: it is numbers, arrays and unions of these.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(NAME.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives through the call.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    let flags = nix::fcntl::OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFL(flags))?;
    Ok(file.into())
}
