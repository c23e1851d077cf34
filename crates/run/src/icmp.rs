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
use super::budget::Slot;
use super::closing::Live;
use super::plan::Route;
use crate::host::ping::{Heard, NotSent, Ping};
use crate::host::{Failure, Said};

/// Max sockets for pings at once.
const MAX_PINGS: usize = 1024;
/// Max pending requests of one ping.
const MAX_ASKED: usize = 64;
/// Idle timeout of a ping.
const IDLE: Duration = Duration::from_secs(30);

/// Source, destination and identifier of a ping.
type Key = (IpAddr, IpAddr, u16);

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
        let asking = match self.asking(&request, remote) {
            Ok(asking) => asking,
            Err(error) => return self.report_failure(&request, &error),
        };
        // lastack is not a hop: the host sends the fields that the program has set.
        let EchoRequest { hop_limit, traffic_class, dont_fragment, .. } = request;
        let ip = IpFields { hop_limit, traffic_class, dont_fragment };
        match asking.ping.request(request.seq, &request.data, ip) {
            Ok(()) => asking.remember(request),
            Err(NotSent { failure, mtu }) => self.fail(&request, &failure, mtu),
        }
    }

    fn asking(self: &Rc<Self>, request: &EchoRequest, remote: IpAddr) -> io::Result<Rc<Asking>> {
        let key = (request.remote, request.local, request.ident);
        if let Some(known) = self.pings.borrow().get(&key) {
            return Ok(known.clone());
        }
        if self.pings.borrow().len() >= MAX_PINGS {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let slot =
            self.run.budget.try_acquire(1).ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))?;
        let ping = Ping::open(remote, &self.run.plan.source)?;
        let last = Rc::new(Cell::new(Instant::now()));
        let of_slot = last.clone();
        slot.watch(move || of_slot.get().elapsed());
        let asking = Rc::new(Asking { ping, asked: RefCell::default(), last, slot });
        self.pings.borrow_mut().insert(key, asking.clone());
        let (pings, of_task, live) = (self.clone(), asking.clone(), self.run.live.enter_quietly());
        tokio::task::spawn_local(async move {
            pings.listen(&of_task, &live).await;
            pings.pings.borrow_mut().remove(&key);
        });
        Ok(asking)
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
                    self.run.report.count(|summary| summary.echo.answered += 1);
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

impl Asking {
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
