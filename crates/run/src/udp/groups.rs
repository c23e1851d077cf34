//! Multicast. What the program sends to a group leaves by the host's interface; groups that it joins are joined there,
//! on each port on which the program has a datagram socket.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::Flows;
use crate::closing::Live;
use crate::flow::FlowAccount;
use crate::host::datagrams::{DatagramSocket, Heard, Shape};
use crate::host::interface::Interface;
use crate::tap::Membership;

/// Max sockets of the host on ports of groups.
const MAX_SOCKETS: usize = 64;
/// Interval of the check whether the program has bound another socket since it joined.
const LOOK: Duration = Duration::from_secs(1);

/// The groups that the program has joined.
#[derive(Debug, Default)]
pub struct Groups {
    joined: RefCell<HashSet<IpAddr>>,
    sockets: RefCell<HashMap<SocketAddr, Rc<Notify>>>,
}

/// Groups that kernels join by themselves, without a listening program: all nodes, all routers, solicited nodes.
fn is_of_the_kernel(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(v4) => v4.octets() == [224, 0, 0, 1],
        IpAddr::V6(v6) => {
            let segments = v6.segments();
            segments[0] & 0x000f == 1
                || segments[..7] == [0xff02, 0, 0, 0, 0, 0, 0] && segments[7] <= 2
                || segments[..6] == [0xff02, 0, 0, 0, 0, 1] && segments[6] >> 8 == 0xff
        }
    }
}

impl Groups {
    /// Follows which groups the program joins and leaves, and its datagram ports. Never returns.
    pub async fn follow(flows: &Rc<Flows>) {
        loop {
            let changes = std::mem::take(&mut flows.run().seen.lock().memberships);
            for Membership { group, joined } in changes {
                if is_of_the_kernel(group) {
                    continue;
                }
                if joined {
                    flows.groups.joined.borrow_mut().insert(group);
                } else {
                    flows.groups.leave(group);
                }
            }
            let any = !flows.groups.joined.borrow().is_empty();
            if any {
                Self::listen(flows);
            }
            tokio::select! {
                () = flows.run().seen.joined.notified() => {}
                () = sleep(LOOK), if any => {}
            }
        }
    }

    /// Whether a group is received on this port.
    pub fn are_joined_at(&self, port: u16) -> bool {
        self.sockets.borrow().keys().any(|at| at.port() == port)
    }

    fn leave(&self, group: IpAddr) {
        self.joined.borrow_mut().remove(&group);
        self.sockets.borrow_mut().retain(|at, stop| {
            if at.ip() == group {
                stop.notify_one();
            }
            at.ip() != group
        });
    }

    /// Opens the missing sockets: one for each group and port.
    fn listen(flows: &Rc<Flows>) {
        let joined: Vec<IpAddr> = flows.groups.joined.borrow().iter().copied().collect();
        for group in joined {
            for port in flows.run().ports.of(group) {
                Self::listen_at(flows, SocketAddr::new(group, port));
            }
        }
    }

    /// The program sends to a group from the group's own port, as multicast DNS does. It receives the replies if it has
    /// joined, which its kernel announces only a moment later.
    pub fn expect(flows: &Rc<Flows>, at: SocketAddr) {
        flows.groups.joined.borrow_mut().insert(at.ip());
        Self::listen_at(flows, at);
    }

    fn listen_at(flows: &Rc<Flows>, at: SocketAddr) {
        let mut sockets = flows.groups.sockets.borrow_mut();
        if sockets.contains_key(&at) || sockets.len() >= MAX_SOCKETS {
            return;
        }
        let (group, port, report) = (at.ip(), at.port(), &flows.run().report);
        let source = &flows.run().plan.source;
        let Some(interface) = source.multicast() else {
            report.warn(format!(
                "the group {group} was joined, but this host has no interface that carries multicast"
            ));
            return;
        };
        flows.share(port);
        match DatagramSocket::open_group(source.scoped(at), interface.index, source) {
            Ok(socket) => {
                let stop = Rc::new(Notify::new());
                sockets.insert(at, stop.clone());
                let (flows, live) = (flows.clone(), flows.run().live.enter_quietly());
                tokio::task::spawn_local(async move {
                    hear(&flows, at, &socket, &stop, &live, &interface).await;
                });
            }
            Err(error) => report.warn(format!(
                "the group {group} was joined, but this host cannot listen to it at port {port}: {error}"
            )),
        }
    }
}

/// Delivers datagrams for a group and port, until the group is left.
async fn hear(
    flows: &Rc<Flows>,
    at: SocketAddr,
    socket: &DatagramSocket,
    stop: &Notify,
    live: &Live,
    interface: &Interface,
) {
    let v6 = at.is_ipv6();
    let guest = flows.run().plan.guest(v6).unwrap_or(at.ip());
    let account = FlowAccount::new(SocketAddr::new(guest, at.port()), at);
    loop {
        let deliver = |from: SocketAddr, payload: &[u8], shape: Shape| {
            // The host loops the program's own datagrams back; the program's kernel has already done so.
            if interface.addresses.contains(&from.ip()) && flows.sends_from(from.port()) {
                return;
            }
            let Some(from) = flows.run().plan.as_seen_inside(from) else { return };
            account.received(payload.len(), 1);
            // As in a network, a datagram without room in the queue is dropped; it is counted.
            if flows.forward(from, at, payload, shape).is_err() {
                flows.run().report.count(|summary| summary.dropped += 1);
            }
        };
        tokio::select! {
            heard = socket.hear(deliver) => match heard {
                Ok(Heard::Datagrams(_)) => tokio::task::yield_now().await,
                Ok(Heard::Error(_)) => {}
                Err(_) => break,
            },
            () = stop.notified() => break,
            () = live.closing() => break,
        }
    }
    if account.has_answered() {
        flows.run().record(account.record());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_join_some_groups_by_themselves() {
        for (group, kernels) in [
            ("224.0.0.1", true),
            ("224.0.0.251", false),
            ("239.255.255.250", false),
            ("ff02::1", true),
            ("ff02::2", true),
            ("ff01::1", true),
            ("ff02::1:ff00:100", true),
            ("ff02::fb", false),
            ("ff05::c", false),
        ] {
            assert_eq!(is_of_the_kernel(group.parse().unwrap()), kernels, "{group}");
        }
    }
}
