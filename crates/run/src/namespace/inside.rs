//! The process that becomes the guest: from the hidden argument to `exec`.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    net::{IpAddr, Ipv4Addr},
    os::{
        fd::{AsFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    process,
};

use lastack_device::{DeviceKind, LinkSettings, Netlink, RouteSizes, netlink, tun};
use nix::{
    errno::Errno,
    sched::CloneFlags,
    sys::{prctl, signal::Signal},
    unistd::{Gid, Pid, getppid},
};

use super::{
    Failure, Plan, Step,
    channel::{Channel, Report},
    failure::StepResult,
    ids,
    pair::{self, FarEnd},
    plan::{DeviceChoice, Network},
    resolv, sockets, ssh_config, supervisor, sysctls,
};

/// The hidden first argument.
pub(super) const HIDDEN: &str = "__namespace";

/// Queue length of a TUN interface in packets: bursts of several thousand datagrams, which no socket buffer limits once
/// they are here.
const QUEUE: u32 = 16_384;

/// 240.0.0.0/4 except for the network of 255.255.255.255. The stack does not carry these addresses (RFC 1112 section 4),
/// so the program learns at once that it cannot reach them.
const RESERVED: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(240, 0, 0, 0), 5),
    (Ipv4Addr::new(248, 0, 0, 0), 6),
    (Ipv4Addr::new(252, 0, 0, 0), 7),
    (Ipv4Addr::new(254, 0, 0, 0), 8),
];

/// Exit status of this process if it does not become the guest. The launcher ignores it.
pub(super) const FAILED: i32 = 125;

/// Becomes a guest, and does not return, if this process was started as one. Call it first in `main`: a process with
/// more than one thread may not enter a user namespace.
pub fn intercept() {
    super::enter::intercept();
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_none_or(|argument| argument != HIDDEN) {
        return;
    }
    match Orders::take(arguments) {
        Ok(orders) => match orders.carry_out() {
            Ok(()) => process::exit(0),
            Err(failure) => {
                // If the launcher is gone, no process is left to notify.
                let _ = orders.channel.send(&Report::Failed(failure), &[]);
            }
        },
        Err(error) => eprintln!("lastack: {HIDDEN} is for lastack's own use: {error}"),
    }
    process::exit(FAILED)
}

/// The request of the launcher.
struct Orders {
    channel: Channel,
    launcher: Pid,
    plan: Plan,
    command: Vec<OsString>,
}

impl Orders {
    fn take(mut arguments: impl Iterator<Item = OsString>) -> io::Result<Self> {
        let mut number = || -> io::Result<i32> {
            let argument = arguments.next().and_then(|argument| argument.to_str()?.parse().ok());
            argument.ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidInput, "an argument is missing (a number)")
            })
        };
        let (fd, launcher): (RawFd, Pid) = (number()?, Pid::from_raw(number()?));
        let channel = Channel::inherited(fd)?;
        let command: Vec<OsString> = arguments.collect();
        let (plan, _) = channel.receive::<Plan>()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if command.is_empty() && plan.join.is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program is named"));
        }
        Ok(Self { channel, launcher, plan, command })
    }

    /// Leaves a supervisor behind, which starts the program.
    fn carry_out(&self) -> Result<(), Failure> {
        self.prepare()?;
        if self.command.is_empty() {
            return Ok(());
        }
        supervisor::start(&self.channel, &self.plan, &self.command)
    }

    fn prepare(&self) -> Result<(), Failure> {
        let mut warnings = match &self.plan.join {
            Some(join) => join.enter().map(|()| Vec::new())?,
            None => {
                let settings = sysctls::Settings::of_this_network();
                let mut warnings = ids::enter_namespaces(self.plan.identity, CloneFlags::CLONE_NEWNET)?;
                warnings.extend(settings.apply());
                sysctls::avoid_pacing();
                warnings
            }
        };
        self.end_with_launcher()?;
        let mut inside = Inside {
            plan: &self.plan,
            netlink: open_netlink()?,
            far_end: None,
            warnings: std::mem::take(&mut warnings),
        };
        let (fd, kind) = inside.make_device()?;
        inside.configure(kind)?;
        let inner = sockets::open(&self.plan.listeners)?;
        if self.plan.join.is_some() && !self.command.is_empty() {
            // The program has no rights over the namespace that it joins.
            let more = ids::enter_namespaces(self.plan.identity, CloneFlags::empty())?;
            inside.warnings.extend(more);
            self.end_with_launcher()?;
        }
        if !self.command.is_empty() {
            inside.show_resolv_conf();
        }
        let net =
            fs::File::open("/proc/self/ns/net").step(Step::Spawn, || "open /proc/self/ns/net".to_owned())?;
        let mut fds = vec![fd.as_fd(), net.as_fd()];
        fds.extend(inner.iter().map(|(_, socket)| socket.as_fd()));
        let report = Report::Ready {
            veth: kind == DeviceKind::Veth,
            warnings: inside.warnings,
            sockets: inner.iter().map(|(kind, _)| *kind).collect(),
        };
        self.channel.send(&report, &fds).step(Step::Spawn, || "send the device to lastack".to_owned())
    }

    /// Called after the change of credentials, which would cancel it.
    fn end_with_launcher(&self) -> Result<(), Failure> {
        prctl::set_pdeathsig(Signal::SIGKILL)
            .step(Step::Spawn, || "end the guest with lastack (PR_SET_PDEATHSIG)".to_owned())?;
        if getppid() != self.launcher {
            process::exit(FAILED);
        }
        Ok(())
    }
}

/// Whether a file exists that the program's name can refer to.
pub(super) fn exists(program: &OsStr) -> bool {
    if program.as_bytes().contains(&b'/') {
        return true;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).exists())
}

fn open_netlink() -> Result<Netlink, Failure> {
    Netlink::open().map_err(|error| Failure::device(Step::Network, &error))
}

/// The steps inside the namespaces.
struct Inside<'a> {
    plan: &'a Plan,
    netlink: Netlink,
    /// Of a veth pair.
    far_end: Option<FarEnd>,
    warnings: Vec<Failure>,
}

impl Inside<'_> {
    fn make_device(&mut self) -> Result<(OwnedFd, DeviceKind), Failure> {
        let mut before = None;
        let name = &self.plan.interface;
        if self.plan.join.is_some() && self.plan.configure && netlink::index_of(name).is_ok() {
            return Err(Errno::EEXIST).step(Step::Join, || format!("make the interface {name}"));
        }
        if self.plan.device.allows(DeviceKind::Tun) {
            let tap = self.plan.device == DeviceChoice::Tap;
            match if tap { tun::create_tap(name) } else { tun::create(name) } {
                Ok(fd) => return Ok((fd, DeviceKind::Tun)),
                Err(error) => before = Some(Box::new(Failure::device(Step::Tun, &error))),
            }
        }
        if !self.plan.device.allows(DeviceKind::Veth) {
            return Err(*before.expect("TUN is allowed if veth is not"));
        }
        match pair::create(name, self.plan.mtu as usize) {
            Ok((fd, far_end)) => {
                self.far_end = Some(far_end);
                Ok((fd, DeviceKind::Veth))
            }
            Err(failure) => Err(Failure { before, ..failure }),
        }
    }

    fn configure(&mut self, kind: DeviceKind) -> Result<(), Failure> {
        self.set_sysctls();
        let configure = self.plan.configure;
        if configure {
            self.network(|netlink, _| netlink.set_up(netlink::LOOPBACK, &LinkSettings::default()))?;
        }
        let settings = LinkSettings {
            mtu: configure.then_some(self.plan.mtu),
            no_arp: true,
            tx_queue_len: (kind == DeviceKind::Tun).then_some(QUEUE),
            no_link_local: true,
        };
        self.network(|netlink, index| netlink.set_up(index, &settings))?;
        self.network(|netlink, index| netlink.await_running(index))?;
        if let Some(far_end) = &mut self.far_end {
            far_end.await_running()?;
        }
        let plan = self.plan;
        for network in plan.networks.iter().filter(|_| configure) {
            match self.join(network) {
                // Without IPv6 in the kernel, IPv4 is still used.
                Err(failure) if network.address.is_ipv6() && plan.networks.len() > 1 => {
                    self.warnings.push(failure)
                }
                other => other?,
            }
        }
        if configure && plan.join.is_none() && plan.networks.iter().any(|network| network.address.is_ipv4()) {
            for (network, prefix) in RESERVED {
                self.network(|netlink, _| netlink.add_no_route(network.into(), prefix))?;
            }
        }
        Ok(())
    }

    /// The path MTU is this host's, but between the guest and lastack segments may be as large as the device permits.
    fn route_sizes(&self, network: &Network) -> RouteSizes {
        let Some(mtu) = network.path_mtu.filter(|mtu| *mtu < self.plan.mtu) else {
            return RouteSizes::default();
        };
        let headers = if network.gateway.is_ipv6() { 60 } else { 40 };
        RouteSizes { mtu: Some(mtu), advertised_mss: Some(self.plan.mtu - headers) }
    }

    fn join(&mut self, network: &Network) -> Result<(), Failure> {
        self.network(|netlink, index| netlink.add_address(index, network.address, network.prefix))?;
        let sizes = self.route_sizes(network);
        self.network(|netlink, index| netlink.add_default_route_of(index, network.gateway, sizes))?;
        self.network(|netlink, _| netlink.await_address(network.address))
    }

    fn network(
        &mut self,
        request: impl FnOnce(&mut Netlink, u32) -> Result<(), lastack_device::DeviceError>,
    ) -> Result<(), Failure> {
        netlink::index_of(&self.plan.interface)
            .and_then(|index| request(&mut self.netlink, index))
            .map_err(|error| Failure::device(Step::Network, &error))
    }

    /// Sets sysctls of this namespace; the host's are unchanged. Some systems do not permit it; most programs do not
    /// need them.
    fn set_sysctls(&mut self) {
        // The id in this namespace.
        let gid = Gid::effective();
        let mut settings = Vec::new();
        if self.plan.join.is_none() {
            // Permits unprivileged programs to listen on port 80.
            settings.push(("ipv4/ip_unprivileged_port_start".to_owned(), "0".to_owned()));
            // Permits ping sockets.
            settings.push(("ipv4/ping_group_range".to_owned(), format!("{gid} {gid}")));
        }
        if self.plan.networks.iter().any(|network| matches!(network.address, IpAddr::V6(_))) {
            // Some systems disable IPv6 on new interfaces; and no other host can have our address (no DAD).
            let interface = &self.plan.interface;
            settings.push((format!("ipv6/conf/{interface}/disable_ipv6"), "0".to_owned()));
            settings.push((format!("ipv6/conf/{interface}/accept_dad"), "0".to_owned()));
        }
        for (name, value) in settings {
            let path = format!("/proc/sys/net/{name}");
            let written = fs::write(&path, &value).step(Step::Sysctl, || format!("write {value} to {path}"));
            self.warnings.extend(written.err());
        }
    }

    fn show_resolv_conf(&mut self) {
        let Some(text) = &self.plan.resolv_conf else { return };
        let shown = resolv::make_mounts_private().and_then(|()| resolv::show(text));
        let private = shown.is_ok();
        self.warnings.extend(shown.err());
        if private {
            self.warnings.extend(ssh_config::show_copies());
        }
    }
}
