//! Faults of hosts and paths.

use super::settings;
use super::world::World;
use crate::net::RouterReply;
use crate::random::Random;
use lastack_engine::Instant;
use std::time::Duration;

/// A fault of a host or a path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The programs of a host die: all their sockets are closed. They are restarted.
    Crash(usize),
    /// A host loses all its state, and starts again after a while.
    Reboot(usize),
    /// A host is suspended.
    Suspend(usize, Duration),
    /// No packet passes between two hosts.
    Cut(usize, usize, RouterReply, Duration),
    Mend(usize, usize),
    /// The MTU of the path from one host to the other is reduced.
    Mtu(usize, usize, Option<(usize, RouterReply)>),
    /// The plans of the paths between two hosts change.
    Path(usize, usize),
    /// Memory is short at a host.
    Pressure(usize),
    Relief(usize),
    /// An administrator ends a connection of the host.
    Kill(usize),
}

impl Fault {
    pub fn draw(hosts: u64, random: &mut Random) -> Self {
        let a = random.below(hosts) as usize;
        let b = (a + 1 + random.below(hosts - 1) as usize) % hosts as usize;
        let word = if random.once_in(2) { RouterReply::Reports } else { RouterReply::Silence };
        match random.below(12) {
            0 => Self::Crash(a),
            1 | 2 => Self::Reboot(a),
            3 => {
                let max = [5, 600, 8 * 3600][random.below(3) as usize];
                Self::Suspend(a, Duration::from_millis(random.below(max * 1000)))
            }
            4 | 5 => {
                let max = [500, 20_000, 400_000][random.below(3) as usize];
                Self::Cut(a, b, word, Duration::from_millis(random.below(max)))
            }
            6 | 7 => {
                let mtu = 1280 + random.below(220) as usize;
                Self::Mtu(a, b, (!random.once_in(4)).then_some((mtu, word)))
            }
            8 => Self::Path(a, b),
            9 => Self::Pressure(a),
            _ => Self::Kill(a),
        }
    }

    /// Its duration.
    pub fn duration(self) -> Duration {
        match self {
            Self::Suspend(_, time) | Self::Cut(_, _, _, time) => time,
            Self::Crash(_) | Self::Reboot(_) | Self::Pressure(_) => Duration::from_secs(20),
            _ => Duration::ZERO,
        }
    }

    /// The host that must not be suspended for it.
    pub fn host(self) -> Option<usize> {
        match self {
            Self::Crash(host) | Self::Reboot(host) | Self::Suspend(host, _) => Some(host),
            Self::Pressure(host) | Self::Relief(host) | Self::Kill(host) => Some(host),
            Self::Cut(..) | Self::Mend(..) | Self::Mtu(..) | Self::Path(..) => None,
        }
    }

    pub fn strike(self, world: &mut World) {
        let now = world.net.now();
        match self {
            Self::Crash(host) => {
                world.net.say(world.hosts[host].id, "all programs die");
                world.drop_programs(host);
                world.come_back(host, now);
            }
            Self::Reboot(host) => {
                world.reboot(host);
                world.come_back(host, now);
            }
            Self::Suspend(host, time) => world.suspend(host, now + time),
            Self::Cut(a, b, word, time) => {
                world.cut(a, b, Some(word));
                world.plan_fault(now + time, Self::Mend(a, b));
            }
            Self::Mend(a, b) => world.cut(a, b, None),
            Self::Mtu(a, b, mtu) => {
                let [a, b] = [a, b].map(|host| world.hosts[host].id);
                world.net.say(a, format!("the path takes {mtu:?} bytes"));
                world.net.set_mtu(a, b, mtu);
            }
            Self::Path(a, b) => world.change_path(a, b),
            Self::Pressure(host) => {
                let random = &mut world.random;
                let (id, config) = (world.hosts[host].id, &world.hosts[host].config);
                let mut tcp = config.tcp.clone();
                settings::pressure(&mut tcp, random);
                tcp.send_buffer = random.below(4_000) as usize + 1;
                // The sender of a cookie was given a window that is not stored anywhere.
                tcp.syn_cookies = config.tcp.syn_cookies;
                if !tcp.syn_cookies {
                    tcp.receive_buffer = random.below(4_000) as usize + 500;
                }
                world.net.call(id, |stack| *stack.tcp_config_mut() = tcp);
                world.plan_fault(now + self.duration(), Self::Relief(host));
            }
            Self::Relief(host) => {
                let (id, tcp) = (world.hosts[host].id, world.hosts[host].config.tcp.clone());
                world.net.call(id, |stack| *stack.tcp_config_mut() = tcp);
                world.look_again(host);
            }
            Self::Kill(host) => world.kill(host),
        }
    }
}

/// The faults of a world, and the time when all are over.
pub(super) fn schedule(hosts: u64, random: &mut Random) -> (Vec<(Instant, Fault)>, Instant) {
    let (mut faults, mut over) = (Vec::new(), Instant::ZERO);
    for _ in 0..1 + random.below(5) {
        let at = Instant::from_millis(random.below(40_000));
        let fault = Fault::draw(hosts, random);
        over = over.max(at + fault.duration());
        faults.push((at, fault));
    }
    (faults, over)
}
