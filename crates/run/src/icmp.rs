//! Pings of the program to remotes: sent by a socket of the host, whose answers are passed on. The stack itself answers
//! pings to the gateway's own addresses.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use lastack::{EchoInterceptor, EchoRequest, Host, IcmpError, IpFields};
use tokio::time::{Instant, timeout};

use super::Run;
use super::budget::{Slot, Watched};
use super::closing::Live;
use super::plan::Route;
use crate::host::ping::{Heard, NotSent, Ping};
use crate::host::{Failure, Said};
use crate::inject::{Acted, AtSyn, Flow};
use crate::report::Echo;

/// Max sockets for pings at once.
const MAX_PINGS: usize = 1024;
/// Max pending requests of one ping.
const MAX_ASKED: usize = 64;
/// Indices of [`Asking::copied`].
const REQUEST: usize = 0;
const REPLY: usize = 1;
/// Idle timeout of a ping.
const IDLE: Duration = Duration::from_secs(30);

/// Source, destination and identifier of a ping.
type Key = (IpAddr, IpAddr, u16);

/// What an injected fault does to the first request of a ping.
enum First {
    Passes,
    Lost,
    Late(Duration),
}

struct Pings {
    run: Rc<Run>,
    program: EchoInterceptor,
    pings: RefCell<HashMap<Key, Rc<Asking>>>,
}

/// A ping, and its pending requests.
struct Asking {
    ping: Ping,
    asked: RefCell<VecDeque<EchoRequest>>,
    /// The time of the last request.
    last: Rc<Cell<Instant>>,
    slot: Slot,
    /// The answer of an injected fault.
    fault: Option<IcmpError>,
    /// The last requests and replies, if an injected fault duplicates them: copies are not counted.
    copied: Option<RefCell<[Recent; 2]>>,
}

/// The last sequence numbers of one direction.
#[derive(Default)]
struct Recent(VecDeque<u16>);

impl Recent {
    /// Whether this number is among them. Adds it.
    fn is_copy(&mut self, seq: u16) -> bool {
        if self.0.contains(&seq) {
            return true;
        }
        if self.0.len() >= MAX_ASKED {
            self.0.pop_front();
        }
        self.0.push_back(seq);
        false
    }
}

/// Relays the program's pings, until the link ends.
pub async fn serve(run: Rc<Run>, host: &Host) -> io::Result<Infallible> {
    let pings = Rc::new(Pings { run, program: host.intercept_echo()?, pings: RefCell::default() });
    loop {
        let request = pings.program.recv().await?;
        pings.arrives(request);
    }
}

impl Pings {
    fn arrives(self: &Rc<Self>, request: EchoRequest) {
        let v6 = request.local.is_ipv6();
        self.run.report.count(|summary| summary.echo.asked += 1);
        let remote = match self.run.plan.place_of_address(request.local) {
            Route::Remote(_) if self.run.denies_ping(request.local) => {
                return self.unreachable(&request, IcmpError::admin_prohibited(v6), None);
            }
            Route::Remote(remote) if self.run.plan.via(remote.ip()).is_some() => {
                self.run
                    .report
                    .warn("pings are answered \"prohibited\": a proxy (--via) does not carry them");
                return self.unreachable(&request, IcmpError::admin_prohibited(v6), None);
            }
            Route::Remote(remote) => remote.ip(),
            Route::NobodyThere => return self.unreachable(&request, IcmpError::host_unreachable(v6), None),
            Route::LinkLocal => return self.unreachable(&request, IcmpError::admin_prohibited(v6), None),
            _ => return self.unreachable(&request, IcmpError::admin_prohibited(v6), None),
        };
        match self.asking(&request, remote) {
            Ok((asking, delay)) => {
                if asking.is_copy(REQUEST, request.seq) {
                    self.run.report.count(|summary| summary.echo.asked -= 1);
                }
                self.pass(asking, request, delay);
            }
            Err(error) => self.report_failure(&request, &error),
        }
    }

    /// `delay`: a fault delays the first request, or suppresses it.
    fn pass(self: &Rc<Self>, asking: Rc<Asking>, request: EchoRequest, delay: First) {
        if let Some(error) = asking.fault {
            return self.unreachable(&request, error, None);
        }
        match delay {
            First::Passes => self.request(&asking, request),
            First::Lost => {}
            First::Late(delay) => {
                let (pings, live) = (self.clone(), self.run.live.enter_quietly());
                tokio::task::spawn_local(async move {
                    tokio::select! {
                        () = tokio::time::sleep(delay) => pings.request(&asking, request),
                        () = live.closing() => {}
                    }
                });
            }
        }
    }

    fn request(&self, asking: &Asking, request: EchoRequest) {
        // lastack is not a hop: the host sends the fields that the program has set.
        let EchoRequest { hop_limit, traffic_class, dont_fragment, .. } = request;
        let ip = IpFields { hop_limit, traffic_class, dont_fragment };
        match asking.ping.request(request.seq, &request.data, ip) {
            Ok(()) => asking.remember(request),
            Err(NotSent { failure, mtu }) => self.fail(&request, &failure, mtu),
        }
    }

    fn asking(self: &Rc<Self>, request: &EchoRequest, remote: IpAddr) -> io::Result<(Rc<Asking>, First)> {
        let key = (request.remote, request.local, request.ident);
        if let Some(known) = self.pings.borrow().get(&key) {
            return Ok((known.clone(), First::Passes));
        }
        if self.pings.borrow().len() >= MAX_PINGS {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let slot =
            self.run.budget.try_acquire(1).ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))?;
        let ping = Ping::open(remote, &self.run.plan.source)?;
        let last = Rc::new(Cell::new(Instant::now()));
        let of_slot = last.clone();
        slot.watch(Watched::new(move || of_slot.get().elapsed()));
        let (flow, fault, first, copied) = self.faults(request, remote);
        let asking = Rc::new(Asking { ping, asked: RefCell::default(), last, slot, fault, copied });
        self.pings.borrow_mut().insert(key, asking.clone());
        let (pings, of_task, live) = (self.clone(), asking.clone(), self.run.live.enter_quietly());
        tokio::task::spawn_local(async move {
            pings.listen(&of_task, &live).await;
            pings.pings.borrow_mut().remove(&key);
            let acted = pings.run.inject.leave(&flow);
            pings.run.report.count(|summary| count_lost(&mut summary.echo, &acted));
        });
        Ok((asking, first))
    }

    /// The injected faults of a ping that begins: the answer to each request, and what happens to the first. The link
    /// treats the others.
    fn faults(
        &self,
        request: &EchoRequest,
        remote: IpAddr,
    ) -> (Flow, Option<IcmpError>, First, Option<RefCell<[Recent; 2]>>) {
        let (run, inject) = (&self.run, &self.run.inject);
        let flow = Flow::of_ping(request.remote, request.ident, request.local);
        let faults = inject.ping(flow, remote, run.name_of(request.local).as_deref());
        let copied = faults.duplicates().then(RefCell::default);
        let (fault, first) = match faults.answer(inject, &flow) {
            None => (None, First::Passes),
            Some(AtSyn::Silence(_)) => (None, First::Lost),
            Some(AtSyn::Late(until)) => (None, First::Late(until.saturating_sub(inject.elapsed()))),
            Some(answer) => (answer.icmp(request.local.is_ipv6()), First::Passes),
        };
        (flow, fault, first, copied)
    }

    /// Passes answers on, until the ping is idle.
    async fn listen(&self, asking: &Asking, live: &Live) {
        loop {
            let heard = tokio::select! {
                heard = timeout(IDLE, asking.ping.hear()) => heard,
                () = asking.slot.evicted() => return,
                () = live.closing() => return,
            };
            match heard {
                Ok(Ok(Heard::Reply { seq, data, ip })) => {
                    let Some(request) = asking.take(Some(seq)) else { continue };
                    if !asking.is_copy(REPLY, seq) {
                        self.run.report.count(|summary| summary.echo.answered += 1);
                    }
                    let answer = EchoRequest { data, ..request };
                    // The queue is full: dropped, as in a network.
                    if self.program.forward(&answer, ip).is_err() {
                        self.run.report.count(|summary| summary.dropped += 1);
                    }
                }
                Ok(Ok(Heard::Failed { seq, failure, mtu })) => {
                    if let Some(request) = asking.take(seq) {
                        self.fail(&request, &failure, mtu);
                    }
                }
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    /// `mtu`: the request does not fit into this host's own network.
    fn fail(&self, request: &EchoRequest, failure: &Failure, mtu: Option<u32>) {
        let v6 = request.local.is_ipv6();
        let error = mtu.map_or_else(|| failure.as_icmp(v6), |mtu| IcmpError::packet_too_big(v6, mtu));
        let from = match failure.said {
            Said::Icmp(_, from) => from,
            _ => None,
        };
        self.unreachable(request, error, from);
    }

    fn report_failure(&self, request: &EchoRequest, error: &io::Error) {
        if error.kind() == io::ErrorKind::PermissionDenied {
            self.run.report.warn(
                "pings to others than the gateway are answered \"prohibited\", because this host allows you no ping \
                 sockets: sudo sysctl net.ipv4.ping_group_range='0 2147483647'",
            );
        }
        self.fail(request, &Failure::local(error), None);
    }

    /// `from`: the sender of the error; the gateway, if unknown.
    fn unreachable(&self, request: &EchoRequest, error: IcmpError, from: Option<IpAddr>) {
        self.run.report.count(|summary| summary.echo.failed += 1);
        let from = from.or_else(|| self.run.plan.gateway(request.local.is_ipv6()));
        if let Err(cause) = self.program.unreachable(request, error, from) {
            self.run.report.warn(format!("an ICMP error could not be passed on to the program: {cause}"));
        }
    }
}

/// Counts the requests that an injected fault swallowed, which the program has sent, and takes off the replies that it
/// kept from the program.
fn count_lost(echo: &mut Echo, acted: &Acted) {
    echo.asked += acted.swallowed;
    echo.answered = echo.answered.saturating_sub(acted.lost);
}

impl Asking {
    /// Whether an injected fault has made this request, or this reply, from an earlier one.
    fn is_copy(&self, direction: usize, seq: u16) -> bool {
        self.copied.as_ref().is_some_and(|recent| recent.borrow_mut()[direction].is_copy(seq))
    }

    fn remember(&self, request: EchoRequest) {
        self.last.set(Instant::now());
        let mut asked = self.asked.borrow_mut();
        if asked.len() >= MAX_ASKED {
            asked.pop_front();
        }
        asked.push_back(request);
    }

    /// The request with this number; the oldest, if the number is unknown.
    fn take(&self, seq: Option<u16>) -> Option<EchoRequest> {
        let mut asked = self.asked.borrow_mut();
        let at = asked.iter().position(|request| seq.is_none_or(|seq| seq == request.seq))?;
        asked.remove(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_replies_that_a_fault_has_lost_are_counted_as_the_program_sees_them() {
        let mut echo = Echo { asked: 2, answered: 2, ..Echo::default() };
        count_lost(&mut echo, &Acted { swallowed: 3, lost: 1, ..Acted::default() });
        assert_eq!((echo.asked, echo.answered), (5, 1));
        count_lost(&mut echo, &Acted::default());
        assert_eq!((echo.asked, echo.answered), (5, 1));
    }

    #[test]
    fn a_copy_has_one_of_the_last_sequence_numbers() {
        let mut recent = Recent::default();
        let copies = [1, 1, 2, 1, 2, 3].map(|seq| recent.is_copy(seq));
        assert_eq!(copies, [false, true, false, true, true, false]);
        (0..MAX_ASKED).for_each(|seq| assert!(!recent.is_copy(1000 + seq as u16)));
        assert!(!recent.is_copy(1), "numbers are used again after 65,536 requests");
        assert_eq!(recent.0.len(), MAX_ASKED);
    }
}
