//! The network namespace of a run, and its TUN device.

use std::{
    fs, io,
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
};

use lastack_device::{LinkSettings, Netlink, netlink};
use lastack_packetdrill::Setup;
use nix::{errno::Errno, fcntl, sched};

const NAME: &str = "tun0";

/// The settings of the suites' `defaults.sh` that a namespace has; the stack's own settings are the same.
const SYSCTLS: &[(&str, &str)] = &[
    ("tcp_rmem", "4096 540000 15728640"),
    ("tcp_wmem", "4096 262144 4194304"),
    ("tcp_timestamps", "1"),
    ("tcp_sack", "1"),
    ("tcp_dsack", "1"),
    ("tcp_ecn", "0"),
    ("tcp_syn_retries", "5"),
    ("tcp_syn_linear_timeouts", "0"),
    ("tcp_synack_retries", "5"),
    ("tcp_frto", "2"),
    ("tcp_reordering", "3"),
    ("tcp_early_retrans", "3"),
    ("tcp_recovery", "1"),
    ("tcp_slow_start_after_idle", "0"),
    ("tcp_no_metrics_save", "1"),
    ("tcp_syncookies", "1"),
    ("tcp_mtu_probing", "0"),
];

/// Moves the calling thread into a new network namespace.
pub fn enter() -> io::Result<()> {
    sched::unshare(sched::CloneFlags::CLONE_NEWNET)
        .map_err(|errno| because(errno.into(), "cannot create a network namespace (root needed)"))
}

/// Creates the TUN device, with routes to the addresses of the script.
pub fn open(setup: &Setup) -> io::Result<OwnedFd> {
    for (name, value) in SYSCTLS {
        let path = format!("/proc/sys/net/ipv4/{name}");
        match fs::write(&path, value) {
            // An older kernel without this setting has the same behavior.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            written => written.map_err(|error| because(error, &format!("cannot write {path}")))?,
        }
    }
    let tun = open_tun().map_err(|error| because(error, "cannot create a TUN device from /dev/net/tun"))?;
    configure(setup).map_err(io::Error::other)?;
    Ok(tun)
}

fn because(error: io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn configure(setup: &Setup) -> Result<(), lastack_device::DeviceError> {
    let mut netlink = Netlink::open()?;
    let index = netlink::index_of(NAME)?;
    netlink.set_up(netlink::LOOPBACK, &LinkSettings::default())?;
    let settings = LinkSettings {
        mtu: u32::try_from(setup.mtu).ok(),
        no_arp: true,
        tx_queue_len: Some(1000),
        no_link_local: true,
    };
    netlink.set_up(index, &settings)?;
    netlink.await_running(index)?;
    netlink.add_address(index, setup.local, if setup.v6() { 64 } else { 16 })?;
    netlink.add_default_route(index, neighbour(setup.local))?;
    netlink.await_address(setup.local)
}

/// Another address in the network of this one.
fn neighbour(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) ^ 2).into()),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) ^ 2).into()),
    }
}

/// A TUN device without virtio headers: the kernel segments and computes checksums itself.
fn open_tun() -> io::Result<OwnedFd> {
    let file = fs::File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: an ifreq of zeros is valid: it consists of numbers, arrays and unions of these.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(NAME.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives through the call.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    fcntl::fcntl(&file, fcntl::FcntlArg::F_SETFL(fcntl::OFlag::O_NONBLOCK))?;
    Ok(file.into())
}
