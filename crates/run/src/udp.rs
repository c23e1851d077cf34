//! Datagrams of the program. Each of its sockets has one unconnected socket of the host: replies from any remote are
//! received, every destination sees one source, and errors name the destination that they are about (RFC 4787 REQ-1 and
//! REQ-8: endpoint-independent mapping and filtering).

mod groups;
mod idle;
mod mapping;
pub mod published;
mod way;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use lastack::{Datagram, Host, IpFields, UdpInterceptor};
use lastack_wire::icmp::IcmpError;
use tokio::time::sleep_until;

use super::Run;
use super::budget::Watched;
use super::closing::Live;
use super::conclude::Screened;
use super::dns::Questions;
use super::plan::Route;
use crate::host::datagrams::{Heard, MAX_SEGMENTS, Shape, is_dropped};
use crate::host::error_queue::QueuedError;
use crate::host::{Failure, Said, Source};
use groups::Groups;
use mapping::{Key, Mapping};

/// Datagrams taken from the stack at once.
const BATCH: usize = 256;
/// Max bytes of the datagrams that are sent to the host as one group.
const MAX_GROUP: usize = 65_000;

/// The datagrams of a run.
pub struct Flows {
    run: Rc<Run>,
    program: UdpInterceptor,
    mappings: RefCell<HashMap<Key, Rc<Mapping>>>,
    questions: Questions,
    groups: Groups,
    /// Published ports on which the program receives.
    published: RefCell<Vec<Rc<published::Open>>>,
    /// Max mappings at once, half of the descriptors for flows; those idle for longest are evicted.
    max_mappings: usize,
    /// Descriptors were taken from other flows.
    crowded: Cell<bool>,
    /// Memory for a group of datagrams, one after the other.
    joined: Cell<Vec<u8>>,
}

/// Relays every datagram of the program, until the link ends.
pub async fn serve(run: Rc<Run>, host: &Host) -> io::Result<Infallible> {
    let flows = Rc::new(Flows {
        program: host.intercept_udp()?,
        mappings: RefCell::default(),
        questions: Questions::default(),
        groups: Groups::default(),
        published: RefCell::default(),
        max_mappings: (run.budget.limit() / 2).clamp(4, 65_536),
        crowded: Cell::default(),
        joined: Cell::default(),
        run,
    });
    let following = flows.clone();
    tokio::task::spawn_local(async move { Groups::follow(&following).await });
    flows.run.datagrams.replace(Rc::downgrade(&flows));
    tokio::task::spawn_local(published::serve_all(flows.clone()));
    for port in flows.run.bound_datagrams.take() {
        tokio::task::spawn_local(published::serve(flows.clone(), port));
    }
    let mut batch = Vec::new();
    loop {
        flows.program.recv_many(&mut batch, BATCH).await?;
        let mut rest = &batch[..];
        while let Some(first) = rest.first() {
            let group = group(rest);
            flows.arrive(first, &rest[..group]);
            rest = &rest[group..];
            if flows.crowded.take() {
                // The tasks of evicted mappings close their sockets.
                tokio::task::yield_now().await;
            }
        }
        batch.clear();
    }
}

/// The number of datagrams at the beginning that can be sent as one group: of one flow, of one size except for the
/// last, with equal header fields.
fn group(datagrams: &[Datagram]) -> usize {
    let first = &datagrams[0];
    let (size, mut bytes, mut count) = (first.payload.len(), first.payload.len(), 1);
    for next in &datagrams[1..] {
        bytes += next.payload.len();
        let alike = (next.local, next.remote, next.ip) == (first.local, first.remote, first.ip);
        let fits = next.payload.len() <= size && !next.payload.is_empty() && bytes <= MAX_GROUP;
        if !alike || !fits || count == MAX_SEGMENTS {
            break;
        }
        count += 1;
        if next.payload.len() < size {
            break;
        }
    }
    count
}

impl Flows {
    /// Datagrams of one flow of the program; `first` is the first of them.
    fn arrive(self: &Rc<Self>, first: &Datagram, group: &[Datagram]) {
        if self.published.borrow().iter().any(|port| port.answer(group)) {
            return;
        }
        match self.run.plan.place(first.local) {
            Route::Remote(to) => match self.run.screen(first.remote, first.local, to) {
                Screened::Passes => match self.run.carries_no_datagrams(to.ip()) {
                    Some(why) => self.not_carried(&why, group),
                    None => self.pass_up(first, self.run.plan.source.scoped(to), group),
                },
                Screened::Answered(denied, error) => self.answer_by_rule(denied, error, group),
                // The flow is recorded, though nothing is sent.
                Screened::Swallowed => {
                    if let Ok(mapping) = self.mapping(first.remote, to.ip()) {
                        mapping.account(first.local, &self.run).swallowed(group.len());
                    }
                }
                Screened::Late(delay) => self.pass_later(delay, group),
            },
            Route::Resolver => {
                for datagram in group {
                    self.questions.ask(self, datagram);
                }
            }
            place => self.refuse(place, group),
        }
    }

    /// A fault delays the datagrams that begin a flow; the link delays those that follow.
    fn pass_later(self: &Rc<Self>, delay: Duration, group: &[Datagram]) {
        let (flows, live) = (self.clone(), self.run.live.enter_quietly());
        let copy = |of: &Datagram| Datagram { payload: of.payload.clone(), ..*of };
        let group: Vec<Datagram> = group.iter().map(copy).collect();
        tokio::task::spawn_local(async move {
            tokio::select! {
                () = tokio::time::sleep(delay) => flows.arrive(&group[0], &group),
                () = live.closing() => {}
            }
        });
    }

    /// From the program to the remote, whose address on the host is `to`.
    fn pass_up(self: &Rc<Self>, first: &Datagram, to: SocketAddr, group: &[Datagram]) {
        let mapping = match self.mapping(first.remote, to.ip()) {
            Ok(mapping) => mapping,
            Err(error) => return self.cannot_open(group, &error),
        };
        if to.ip().is_multicast() && first.remote.port() == first.local.port() {
            Groups::expect(self, first.local);
        }
        let shape =
            Shape { segment_size: (group.len() > 1).then_some(first.payload.len() as u16), ip: first.ip };
        if mapping.would_evict(first.local) {
            // What is known about the remotes belongs to their records.
            while let Some(queued) = mapping.socket.queued_error() {
                self.pass_error(&mapping, queued);
            }
        }
        let account = mapping.account(first.local, &self.run);
        account.sending(first.ip);
        if to.ip().is_multicast() && first.ip.hop_limit == 0 {
            // It must not leave the host (RFC 1112 section 6.1), whose other members in its network have got it.
            return account
                .note(Some("sent with TTL 0: for members in the program's own network only".to_owned()));
        }
        let destination = self.run.destination(first.local, to);
        let mut joined = self.joined.take();
        let payload = match group {
            [one] => &one.payload[..],
            _ => {
                joined.clear();
                group.iter().for_each(|datagram| joined.extend_from_slice(&datagram.payload));
                &joined
            }
        };
        let bytes = payload.len();
        let sent = mapping.send(to, (&destination, first.local), payload, shape);
        self.joined.set(joined);
        match sent {
            Ok(()) => account.sent(bytes, group.len()),
            Err(error) if error.kind() == ErrorKind::WouldBlock || is_dropped(&error) => {
                self.run.report.count(|summary| summary.dropped += group.len() as u64);
            }
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => self.too_large(&mapping, group),
            Err(error) => {
                account.failed(&Failure::local(&error));
                group.iter().for_each(|datagram| self.answer(&Failure::local(&error), datagram));
            }
        }
    }

    /// The datagrams, which must not be fragmented, exceed the MTU of this host's own network. The error queue has the MTU,
    /// but for IPv4 not the destination port.
    fn too_large(&self, mapping: &Mapping, group: &[Datagram]) {
        let mut exceeded = None;
        while let Some(queued) = mapping.socket.queued_error() {
            match queued.mtu {
                Some(mtu) => exceeded = Some(mtu),
                None => self.pass_error(mapping, queued),
            }
        }
        let Some(mtu) = exceeded else { return };
        let v6 = group[0].local.is_ipv6();
        let error = IcmpError::packet_too_big(v6, mtu);
        mapping.account(group[0].local, &self.run).too_big(error, None);
        group.iter().for_each(|datagram| self.reject(datagram, error, self.run.plan.gateway(v6)));
    }

    /// The mapping of this socket of the program for a remote with this address on the host.
    fn mapping(self: &Rc<Self>, program: SocketAddr, remote: IpAddr) -> io::Result<Rc<Mapping>> {
        let source = &self.run.plan.source;
        let direct = Source::default();
        let via = self.run.plan.via.as_ref();
        let unbound = (!source.is_any() || via.is_some()) && remote.to_canonical().is_loopback();
        let key = Key { program, unbound };
        let (source, via) = if unbound { (&direct, None) } else { (source, via) };
        if let Some(known) = self.mappings.borrow().get(&key) {
            return Ok(known.clone());
        }
        let count = self.mappings.borrow().len();
        self.crowded.set(count + 1 >= self.max_mappings || self.run.budget.is_full());
        idle::make_room(&self.mappings, self.max_mappings);
        let slot = match self.run.budget.try_acquire(1) {
            Some(slot) => slot,
            // Connections that are in use have all the others: they stay.
            None if idle::evict_half(&self.mappings) => {
                self.run.budget.try_acquire(1).ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))?
            }
            None => return Err(io::Error::from_raw_os_error(libc::EMFILE)),
        };
        let shared = self.groups.are_joined_at(program.port());
        let opened = Mapping::open(key, shared, source, via).or_else(|error| match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) if idle::evict_half(&self.mappings) => {
                Mapping::open(key, shared, source, via)
            }
            _ => Err(error),
        });
        let (mapping, taken) = opened?;
        if let Some(error) = taken {
            mapping.another_port(&error, &self.run);
        }
        let mapping = Rc::new(mapping);
        let of_slot = Rc::downgrade(&mapping);
        slot.watch(Watched::new(move || {
            of_slot.upgrade().map_or(Duration::MAX, |mapping| mapping.last().elapsed())
        }));
        mapping.hold(slot);
        self.mappings.borrow_mut().insert(key, mapping.clone());
        let (flows, of_task) = (self.clone(), mapping.clone());
        let live = self.run.live.enter_quietly();
        tokio::task::spawn_local(async move { flows.carry(of_task, live).await });
        Ok(mapping)
    }

    /// This host cannot open a socket for the datagrams.
    fn cannot_open(&self, group: &[Datagram], error: &io::Error) {
        let excluded = self.run.plan.source.excludes(group[0].local.ip());
        let failure = Failure::local(error);
        let failure =
            if excluded { Failure { errno: libc::ENETUNREACH, said: Said::Unbound } } else { failure };
        let account = super::flow::FlowAccount::new(group[0].remote, group[0].local);
        account.failed(&failure);
        self.run.record(account.record());
        group.iter().for_each(|datagram| self.answer(&failure, datagram));
    }

    /// lastack itself answers.
    fn refuse(self: &Rc<Self>, place: Route, group: &[Datagram]) {
        let first = &group[0];
        let gateway = self.run.plan.gateway(first.local.is_ipv6());
        // The flow is accounted in the mapping of its socket, if there is one.
        let Ok(mapping) = self.mapping(first.remote, first.local.ip()) else { return };
        let account = mapping.account(first.local, &self.run);
        account.refused_here(place, gateway);
        let Some((error, from)) = account.verdict(first.local.is_ipv6()) else { return };
        group.iter().for_each(|datagram| self.reject(datagram, error, from));
    }

    /// The proxy does not carry datagrams.
    fn not_carried(self: &Rc<Self>, why: &str, group: &[Datagram]) {
        let first = &group[0];
        let v6 = first.local.is_ipv6();
        // Accounted in a mapping that needs no proxy.
        let Ok(mapping) = self.mapping(first.remote, Ipv4Addr::LOCALHOST.into()) else { return };
        let account = mapping.account(first.local, &self.run);
        account.context.borrow_mut().proxy_failed = true;
        account.note(Some(why.to_owned()));
        account.ruled(IcmpError::admin_prohibited(v6));
        let gateway = self.run.plan.gateway(v6);
        group.iter().for_each(|datagram| self.reject(datagram, IcmpError::admin_prohibited(v6), gateway));
    }

    /// An option of the run determines the answer.
    fn answer_by_rule(self: &Rc<Self>, denied: Option<String>, error: IcmpError, group: &[Datagram]) {
        let first = &group[0];
        let Ok(mapping) = self.mapping(first.remote, first.local.ip()) else { return };
        let account = mapping.account(first.local, &self.run);
        account.context.borrow_mut().denied = denied;
        account.ruled(error);
        let v6 = first.local.is_ipv6();
        let from = if error == IcmpError::port_unreachable(v6) { None } else { self.run.plan.gateway(v6) };
        group.iter().for_each(|datagram| self.reject(datagram, error, from));
    }

    /// Passes this host's error about a datagram on to the program.
    pub(super) fn answer(&self, failure: &Failure, datagram: &Datagram) {
        let v6 = datagram.local.is_ipv6();
        let error = failure.as_icmp_about_datagram(v6);
        // A closed port is reported as from the destination itself.
        let from = if error == IcmpError::port_unreachable(v6) { None } else { self.run.plan.gateway(v6) };
        self.reject(datagram, error, from);
    }

    pub(super) fn reject(&self, datagram: &Datagram, error: IcmpError, from: Option<IpAddr>) {
        // No errors are sent about datagrams to a group (RFC 1122 section 3.2.2).
        if !lastack_wire::ip::unicast(datagram.local.ip()) {
            return;
        }
        if let Err(cause) = self.program.reject(datagram, error, from) {
            self.run.report.warn(format!("an ICMP error could not be passed on to the program: {cause}"));
        }
    }

    /// The task of a mapping: relays replies until it is idle or evicted.
    async fn carry(self: Rc<Self>, mapping: Rc<Mapping>, live: Live) {
        let mut late = std::pin::pin!(sleep_until(mapping.deadline()));
        let mut closing = std::pin::pin!(live.closing());
        while !mapping.is_evicted() {
            let heard = tokio::select! {
                heard = mapping.socket.hear(|from, payload, shape| self.pass_down(&mapping, from, payload, shape)) => heard,
                () = mapping.send_waiting() => continue,
                () = mapping.changed() => continue,
                () = mapping.is_out_of_budget() => break,
                () = &mut late => {
                    if mapping.is_idle() {
                        break;
                    }
                    late.as_mut().reset(mapping.deadline());
                    continue;
                }
                () = &mut closing => break,
            };
            match heard {
                Ok(Heard::Datagrams(_)) => self.push_down(&mapping, &live).await,
                Ok(Heard::Error(queued)) => self.pass_error(&mapping, queued),
                Err(_) if mapping.refused().is_some() => {
                    self.refused_by_proxy(&mapping);
                    break;
                }
                Err(error) => {
                    self.run.report.warn(format!("a datagram socket of this host failed: {error}"));
                    break;
                }
            }
        }
        let mut mappings = self.mappings.borrow_mut();
        if mappings.get(&mapping.key).is_some_and(|current| Rc::ptr_eq(current, &mapping)) {
            mappings.remove(&mapping.key);
        }
        drop(mappings);
        mapping.end(&self.run);
    }

    /// The proxy has refused the association: answers the datagrams that wait for it.
    fn refused_by_proxy(&self, mapping: &Mapping) {
        let Some(refused) = mapping.refused() else { return };
        *self.run.no_datagrams.borrow_mut() = Some(refused.note.clone());
        for (remote, payload, shape) in mapping.take_waiting() {
            let account = mapping.account(remote, &self.run);
            account.context.borrow_mut().proxy_failed = true;
            account.note(Some(refused.note.clone()));
            let v6 = remote.is_ipv6();
            account.ruled(IcmpError::admin_prohibited(v6));
            let datagram = Datagram { local: remote, remote: mapping.key.program, payload, ip: shape.ip };
            self.reject(&datagram, IcmpError::admin_prohibited(v6), self.run.plan.gateway(v6));
        }
    }

    /// Datagrams from a remote, under the host's address of it, to the program.
    fn pass_down(&self, mapping: &Mapping, from: SocketAddr, payload: &[u8], shape: Shape) {
        let Some(remote) = self.run.plan.as_seen_inside(from) else { return };
        let datagrams = shape.segment_size.map_or(1, |size| payload.len().div_ceil(size.max(1).into()));
        mapping.account(remote, &self.run).received(payload.len(), datagrams);
        mapping.touch();
        match shape.segment_size.filter(|&size| size > 0 && self.is_fragmented(size.into())) {
            None => self.pass_on(mapping, remote, payload, shape),
            Some(size) => {
                for payload in payload.chunks(size.into()) {
                    self.pass_on(mapping, remote, payload, Shape { segment_size: None, ..shape });
                }
            }
        }
    }

    fn pass_on(&self, mapping: &Mapping, remote: SocketAddr, payload: &[u8], shape: Shape) {
        if mapping.waits() || self.forward(remote, mapping.key.program, payload, shape).is_err() {
            mapping.keep(remote, payload, shape);
        }
    }

    /// Datagrams larger than the link's MTU are fragmented on it, however they arrived from the network.
    fn is_fragmented(&self, bytes: usize) -> bool {
        bytes + 48 > self.run.plan.mtu as usize
    }

    fn forward(&self, from: SocketAddr, to: SocketAddr, payload: &[u8], shape: Shape) -> io::Result<()> {
        let whole = shape.segment_size.is_some() || !self.is_fragmented(payload.len());
        self.program.forward(
            from,
            to,
            payload,
            shape.segment_size,
            IpFields { dont_fragment: whole, ..shape.ip },
        )
    }

    /// Delivers what the stack had no room for. Until then nothing more is read from the host's socket, whose buffer is
    /// the queue of this flow.
    async fn push_down(&self, mapping: &Mapping, live: &Live) {
        while let Some((remote, payload, shape)) = mapping.take_kept() {
            loop {
                match self.forward(remote, mapping.key.program, &payload, shape) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        let Some(Ok(())) = live.unless_closing(self.program.writable()).await else { return };
                    }
                    Ok(()) => break,
                    Err(_) => {
                        self.run.report.count(|summary| summary.dropped += 1);
                        break;
                    }
                }
            }
        }
        // Let other tasks run.
        tokio::task::yield_now().await;
    }

    /// Passes an error about a datagram of this mapping on to the program unchanged.
    fn pass_error(&self, mapping: &Mapping, queued: QueuedError) {
        let Some(remote) = queued.to.and_then(|to| self.run.plan.as_seen_inside(to)) else { return };
        // A remote whose record is written already gets no second one, which would have no data.
        let account = mapping.known(remote);
        let failed = |failure: &Failure| account.iter().for_each(|account| account.failed(failure));
        let v6 = remote.is_ipv6();
        let failure = Failure::new(&io::Error::from_raw_os_error(queued.errno), Some(queued.clone()));
        let (error, from) = match (failure.said, queued.mtu) {
            (Said::Icmp(error, from), _) => (error, self.run.plan.error_source(remote, from)),
            // This host itself: the packet exceeds the MTU of its own network.
            (_, Some(mtu)) => (IcmpError::packet_too_big(v6, mtu), None),
            _ => return failed(&failure),
        };
        match (error.mtu(), &account) {
            (None, _) => failed(&failure),
            (Some(_), Some(account)) => account.too_big(error, from),
            (Some(_), None) => {}
        }
        let from = match from {
            Some(from) => Some(from),
            None if error == IcmpError::port_unreachable(v6) => None,
            None => self.run.plan.gateway(v6),
        };
        let usual = IpFields { hop_limit: 64, traffic_class: 0, dont_fragment: false };
        let ip = account.as_ref().map_or(usual, |account| account.last_sent());
        let datagram = Datagram { local: remote, remote: mapping.key.program, payload: queued.payload, ip };
        self.reject(&datagram, error, from);
    }
}

impl std::fmt::Debug for Flows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flows").field("mappings", &self.mappings.borrow().len()).finish_non_exhaustive()
    }
}

/// What [`dns`](super::dns) needs of the datagrams' side.
impl Flows {
    /// The run.
    pub(super) fn run(&self) -> &Rc<Run> {
        &self.run
    }

    /// Whether a datagram socket of the program is bound to this port of the host.
    fn sends_from(&self, port: u16) -> bool {
        let mappings = self.mappings.borrow();
        mappings.values().any(|mapping| mapping.socket.port().is_ok_and(|own| own == port))
    }

    /// Lets the socket at this port of the host, if there is one, share it with that of a group.
    fn share(&self, port: u16) {
        for mapping in self.mappings.borrow().values() {
            if mapping.socket.port().is_ok_and(|own| own == port) {
                // If it cannot, the group's socket reports the error.
                let _reported = mapping.socket.share();
            }
        }
    }

    /// The pending DNS queries.
    pub(super) const fn questions(&self) -> &Questions {
        &self.questions
    }

    /// A reply, from the name server address that the program used.
    pub(super) fn reply(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let ip = IpFields { hop_limit: 64, traffic_class: 0, dont_fragment: false };
        if self.program.forward(from, to, payload, None, ip).is_err() {
            self.run.report.count(|summary| summary.dropped += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(to: &str, bytes: usize, hop_limit: u8) -> Datagram {
        Datagram {
            local: to.parse().unwrap(),
            remote: "10.0.2.100:5000".parse().unwrap(),
            payload: vec![0; bytes],
            ip: IpFields { hop_limit, traffic_class: 0, dont_fragment: true },
        }
    }

    #[test]
    fn a_group_is_of_one_flow_one_size_and_one_header() {
        let (a, b) = ("192.0.2.1:9", "192.0.2.2:9");
        let sizes = |sizes: &[usize]| sizes.iter().map(|&size| datagram(a, size, 64)).collect::<Vec<_>>();
        for (datagrams, expected) in [
            (sizes(&[100, 100, 100]), 3),
            (sizes(&[100, 100, 50, 50]), 3),
            (sizes(&[50, 100]), 1),
            (sizes(&[0, 0]), 1),
            (sizes(&[100, 0]), 1),
            (sizes(&[1000; 100]), MAX_SEGMENTS),
            (sizes(&[30_000; 5]), 2),
            (vec![datagram(a, 100, 64), datagram(b, 100, 64)], 1),
            (vec![datagram(a, 100, 64), datagram(a, 100, 1)], 1),
        ] {
            assert_eq!(group(&datagrams), expected, "{datagrams:?}");
        }
    }
}
