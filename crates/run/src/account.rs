//! Both sides of a connection, joined into one record.

use std::cell::{Cell, OnceCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;

use lastack::{Cause as EngineCause, End, EndedBy, LikelyCause, Rule, TcpInfo, TcpState, TcpStream};
use lastack_wire::icmp::IcmpError;

use super::attributes::Attributes;
use super::budget::{DESCRIPTORS_HINT, Slot};
use super::joined::Parted;
use super::plan::Route;
use super::relay::{Boxed, Over, Relay, RelayStats, Side};
use crate::ends::Ends;
use crate::host::socket::{Outstanding, errno_name, outstanding};
use crate::host::tcp_info;
use crate::host::{Failure, Said};
use crate::live::{INTERVAL, Shot, Shown};
use crate::proxy::Refused;
use crate::reached::Sent;
use crate::report::{
    Began, By, Bytes, IcmpSaid, Lost, Order, Outcome, Path, Proto, Rates, Record, peer_state,
};

/// The hint for an attempt to reach the host's loopback.
pub const LOOPBACK_HINT: &str =
    "this host's own loopback is closed to the program; --host-loopback opens it, at the gateway's addresses";

/// The hint for a host whose local ports are exhausted.
pub const NO_PORT_HINT: &str = "the ports of net.ipv4.ip_local_port_range are used up, also by connections in \
     TIME-WAIT: widen the range with sysctl, or set net.ipv4.tcp_tw_reuse to 1";

/// The note and the hint for a remote of a family that `--bind` excludes.
pub const UNBOUND_NOTE: &str = "--bind names no address of that family";
pub const UNBOUND_HINT: &str = "add --bind with an address of that family, or name an interface";

/// The state of our end and the path.
type Current = Option<(TcpState, Option<Path>)>;

/// The state of a connection while it lives.
#[derive(Debug)]
pub struct ConnectionReport {
    /// The program's end and the other.
    ends: Ends,
    opened: Began,
    /// The statistics of its relay.
    pub ledger: Rc<RelayStats>,
    /// Its process, and the path and options that apply to it.
    pub context: Attributes,
    /// If it is shown while it lives: the state of our end and the path, once they are known.
    current: OnceCell<Box<Cell<Current>>>,
}

impl ConnectionReport {
    /// Of a connection that begins now.
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            ends: Ends::new(local, remote),
            opened: Began::now(),
            ledger: Rc::default(),
            context: Attributes::default(),
            current: OnceCell::new(),
        }
    }

    /// From now on it may be closed to make room for another.
    pub fn may_be_evicted(&self, slot: &Slot) {
        self.ledger.course.begin();
        slot.watch(self.ledger.clone());
    }

    fn record(&self, outcome: Outcome, by: By, rule: Option<Rule>, state: TcpState) -> Record {
        let record = Record::new(Proto::Tcp, self.local(), self.remote(), self.opened, outcome);
        Record { by, rule, state: Some(state), context: self.context.get(), ..record }
    }

    /// lastack itself answered.
    pub fn refused_here(&self, place: Route) -> Record {
        let (outcome, rule, note, hint) = match place {
            Route::NobodyThere => {
                let note = "no host has this address in the program's own network";
                (
                    Outcome::Unreachable,
                    Rule::IcmpIntercepted,
                    note,
                    "--net and --net6 choose another network for the program",
                )
            }
            Route::LinkLocal => (
                Outcome::Unreachable,
                Rule::IcmpIntercepted,
                "a link-local address, or a cloud's metadata service",
                "--link-local lets the program reach those",
            ),
            Route::ForbiddenLoopback => {
                (Outcome::Refused, Rule::RstIntercepted, "the gateway has no services", LOOPBACK_HINT)
            }
            Route::HiddenLoopback => (
                Outcome::Refused,
                Rule::RstIntercepted,
                "the address leads to this host itself",
                LOOPBACK_HINT,
            ),
            _ => (
                Outcome::Refused,
                Rule::RstIntercepted,
                "only DNS queries are answered there, at port 53",
                "",
            ),
        };
        let mut record = self.record(outcome, By::Lastack, Some(rule), TcpState::SynSent);
        record.note = Some(note.to_owned());
        record.hint = (!hint.is_empty()).then(|| hint.to_owned());
        record
    }

    /// The host could not connect.
    pub fn failed(&self, failure: &Failure) -> Record {
        let (outcome, by, rule) = match failure.said {
            Said::Reset => (Outcome::Refused, By::Remote, Rule::RstNoListener),
            Said::Icmp(..) if failure.errno == libc::ECONNREFUSED => {
                (Outcome::Refused, By::Network, Rule::IcmpEndsAttempt)
            }
            Said::Icmp(..) => (Outcome::Unreachable, By::Network, Rule::IcmpEndsAttempt),
            Said::Nothing => (Outcome::TimedOut, By::Nobody, Rule::EndSynTimeout),
            Said::NoRoute | Said::Forbidden | Said::NoPort | Said::Unbound | Said::Host => {
                (Outcome::Unreachable, By::Host, Rule::IcmpIntercepted)
            }
        };
        let mut record = self.record(outcome, by, Some(rule), TcpState::SynSent);
        record.host_errno = Some(failure.errno_name());
        match failure.said {
            Said::Icmp(error, from) => record.icmp = Some(IcmpSaid { error, from }),
            Said::NoRoute => record.note = Some("reported by this host itself, not by a packet".to_owned()),
            Said::Forbidden => record.note = Some("this host's own rules forbid it".to_owned()),
            Said::NoPort => {
                record.note = Some("this host has no free port for that destination".to_owned());
                record.hint = Some(NO_PORT_HINT.to_owned());
            }
            Said::Unbound => {
                record.note = Some(UNBOUND_NOTE.to_owned());
                record.hint = Some(UNBOUND_HINT.to_owned());
            }
            Said::Host if matches!(failure.errno, libc::EMFILE | libc::ENFILE) => {
                record.hint = Some(DESCRIPTORS_HINT.to_owned());
            }
            Said::Reset | Said::Nothing | Said::Host => {}
        }
        record
    }

    /// The proxy did not connect.
    pub fn failed_by_proxy(&self, refused: &Refused) -> Record {
        let mut record = self.failed(&refused.failure);
        if refused.by_proxy {
            record.by = By::Host;
        } else if refused.failure.said != Said::Reset {
            record.by = By::Network;
            // The report of a proxy is equivalent to that of a router.
            let error = refused.failure.as_icmp(self.remote().is_ipv6());
            record.icmp = Some(IcmpSaid { error, from: None });
        }
        record.host_errno = None;
        record.note = Some(refused.note.clone());
        record.hint = None;
        record
    }

    /// The program's side ended before the remote had answered.
    pub fn given_up(&self, end: &End) -> Record {
        match end.cause {
            EngineCause::TimedOut(_) => self.no_answer(),
            _ => {
                let mut record =
                    self.record(Outcome::Aborted, By::Program, Some(end.rule), TcpState::SynSent);
                record.note =
                    Some(self.silent_proxy().unwrap_or_else(|| "before the remote had answered".to_owned()));
                record
            }
        }
    }

    /// The program closed its socket before the remote had answered, without a packet.
    pub fn abandoned(&self) -> Record {
        let mut record =
            self.record(Outcome::Aborted, By::Program, Some(Rule::EndAttemptClosed), TcpState::SynSent);
        record.note =
            Some(self.silent_proxy().unwrap_or_else(|| {
                "given up before the remote or the network had answered the SYN".to_owned()
            }));
        record
    }

    /// The note of an attempt by way of a proxy, which has not answered: it is silent, or the remote.
    fn silent_proxy(&self) -> Option<String> {
        let proxy = self.context.get().via?;
        Some(format!(
            "given up before the proxy {proxy} had answered: it, or the remote behind it, is silent"
        ))
    }

    /// The remote did not answer for as long as the program waited.
    pub fn no_answer(&self) -> Record {
        let mut record =
            self.record(Outcome::TimedOut, By::Nobody, Some(Rule::EndSynTimeout), TcpState::SynSent);
        record.note = Some(
            self.silent_proxy()
                .unwrap_or_else(|| "neither the remote nor the network answered the SYN".to_owned()),
        );
        record
    }

    /// It was established, and is over; `None`: it was still open at the end of the run.
    pub fn relayed(
        &self,
        over: Option<&Over>,
        program: &TcpStream,
        host: &tokio::net::TcpStream,
        path: Option<Path>,
    ) -> Record {
        let mut record = match over {
            None => self.open(peer_state(program.state())),
            Some(Over::Orderly) => self.orderly(),
            Some(Over::Host(errno)) => self.host_ended(*errno, program),
            Some(Over::Program(end)) => self.program_ended(end),
            Some(Over::LetGo) => self.closed_alone(),
            Some(Over::Injected(_)) => self.ended_by_fault(program),
            Some(Over::Evicted(why)) => self.out_of_descriptors(why),
        };
        record.facts = self.ledger.facts();
        self.figures(&mut record, program, host);
        self.note_what_had_not_arrived(over.is_none(), &mut record);
        record.context.path = path;
        self.measured(&mut record);
        record
    }

    /// If the connection was open, and both sides had closed.
    fn note_what_had_not_arrived(&self, open: bool, record: &mut Record) {
        if open && self.ledger.program_fin.get() && self.ledger.remote_fin.get() {
            let missing = if record.lost.total() > 0 { "data" } else { "a FIN" };
            record.note = Some(format!("both had closed, and {missing} had not arrived yet"));
        }
    }

    /// The program's side went on alone for a while. `has_all`: it has acknowledged all data.
    pub fn prolong(&self, record: &mut Record, program: &TcpStream, has_all: bool) {
        record.ended = self.opened.after(self.opened.clock().elapsed());
        record.state = Some(peer_state(program.end().map_or_else(|| program.state(), |end| end.state)));
        self.figures_of_program(record, program, program.info().ok().as_ref());
        if has_all {
            record.bytes.received = self.ledger.to_program.get();
            record.lost.unread = 0;
        }
    }

    /// The remote had accepted, and the program aborted: RST instead of the third segment of the handshake, as port
    /// scanners and health checks do.
    pub fn probed(&self, end: &End) -> Record {
        let mut record = self.record(Outcome::Aborted, By::Program, Some(end.rule), TcpState::SynSent);
        record.note = Some("the remote had accepted, and the program answered with a reset".to_owned());
        record.facts.established = true;
        record
    }

    /// An injected fault ended it.
    fn ended_by_fault(&self, program: &TcpStream) -> Record {
        let state = program.end().map_or_else(|| program.state(), |end| end.state);
        self.record(Outcome::Reset, By::Lastack, Some(Rule::RstAbort), peer_state(state))
    }

    /// lastack closed it, to make room for another.
    fn out_of_descriptors(&self, why: &str) -> Record {
        let rule = Some(Rule::RstAbort);
        let mut record = self.record(Outcome::Reset, By::Lastack, rule, TcpState::Established);
        record.host_errno = Some(errno_name(libc::EMFILE));
        record.note = Some(why.to_owned());
        record.hint = Some(DESCRIPTORS_HINT.to_owned());
        record
    }

    /// An injected fault answered the SYN.
    pub fn answered_by_fault(&self, icmp: Option<IcmpError>, refused: bool) -> Record {
        let (outcome, rule) = match (refused, icmp) {
            (true, _) => (Outcome::Refused, Rule::RstIntercepted),
            (false, Some(_)) => (Outcome::Unreachable, Rule::IcmpIntercepted),
            (false, None) => (Outcome::TimedOut, Rule::EndSynTimeout),
        };
        let mut record = self.record(outcome, By::Lastack, Some(rule), TcpState::SynSent);
        record.icmp = icmp.filter(|_| !refused).map(|error| IcmpSaid { error, from: None });
        record
    }

    /// A kernel had accepted it, and an injected fault let nothing pass. `gone`: the end that opened it has closed or
    /// reset it; else it was still open at the end of the run.
    pub fn held_up(&self, gone: bool) -> Record {
        let mut record = match (gone, self.context.get().inward) {
            (false, _) => self.open(TcpState::Established),
            (true, false) => self.closed_alone(),
            (true, true) => {
                self.record(Outcome::Reset, By::Remote, Some(Rule::PeerRstExact), TcpState::Established)
            }
        };
        record.facts.established = true;
        record
    }

    /// A connection from outside that the program did not accept.
    pub fn not_taken(&self, error: &std::io::Error) -> Record {
        let outcome = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => Outcome::Refused,
            std::io::ErrorKind::TimedOut => Outcome::TimedOut,
            _ => Outcome::Unreachable,
        };
        let rule = lastack::EndError::find(error).map(|end| end.rule);
        let mut record = self.record(outcome, By::Program, rule, TcpState::Listen);
        record.note = Some(error.to_string());
        record
    }

    /// The policy of the run denies it.
    pub fn denied(&self, error: IcmpError) -> Record {
        let outcome = Outcome::Unreachable;
        let mut record = self.record(outcome, By::Lastack, Some(Rule::IcmpIntercepted), TcpState::SynSent);
        record.icmp = Some(IcmpSaid { error, from: None });
        record
    }

    /// It was refused by the program's own loopback, where no socket listens.
    pub fn refused_by_itself(&self) -> Record {
        let mut record =
            self.record(Outcome::Refused, By::Program, Some(Rule::RstNoListener), TcpState::SynSent);
        record.note = Some("the program's own loopback, where no socket listens at that port".to_owned());
        record
    }

    /// It was relayed between two sockets, the program's and this host's; `over`: `None`: it was still open at the end of the
    /// run.
    pub fn joined(
        &self,
        over: Option<&Result<(), Parted>>,
        sockets: Option<(&tokio::net::TcpStream, &tokio::net::TcpStream)>,
    ) -> Record {
        let mut record = match over {
            None => self.open(TcpState::Established),
            Some(Ok(())) => self.orderly(),
            Some(Err(Parted::Evicted)) => {
                self.out_of_descriptors("closed to stay within the limit of descriptors (ulimit -n)")
            }
            Some(Err(Parted::Gone(_))) => self.closed_alone(),
            Some(Err(Parted::Injected(_))) => {
                self.record(Outcome::Reset, By::Lastack, Some(Rule::RstAbort), TcpState::Established)
            }
            Some(Err(Parted::Failed { side: Side::Program, errno })) => {
                let mut record = self.record(
                    Outcome::Aborted,
                    By::Program,
                    Some(Rule::PeerRstExact),
                    TcpState::Established,
                );
                record.host_errno = Some(errno_name(*errno));
                record
            }
            Some(Err(Parted::Failed { side: Side::Remote, errno })) => {
                let mut record =
                    self.record(Outcome::Reset, By::Remote, Some(Rule::PeerRstExact), TcpState::Established);
                record.host_errno = Some(errno_name(*errno));
                record
            }
        };
        let ledger = &self.ledger;
        record.bytes = Bytes { sent: ledger.to_remote.get(), received: ledger.to_program.get() };
        if let Some((program, host)) = sockets {
            let left = |socket, fin| outstanding(socket, fin).unwrap_or_default();
            let (up, down) = (left(host, ledger.program_fin.get()), left(program, ledger.remote_fin.get()));
            record.bytes.sent = record.bytes.sent.saturating_sub(up.total());
            record.bytes.received = record.bytes.received.saturating_sub(down.total());
            record.lost = Lost { unsent: up.unsent, unacked: up.unacked, unread: down.total() };
        }
        record.facts = ledger.facts();
        self.note_what_had_not_arrived(over.is_none(), &mut record);
        self.measured(&mut record);
        record
    }

    /// The times and rates of the data that was relayed.
    fn measured(&self, record: &mut Record) {
        let course = &self.ledger.course;
        let first = course.received.first();
        record.context.first_received = first.map(|first| first.since(self.opened.clock().into()));
        record.context.rates = Rates { sent: course.sent.rate(), received: course.received.rate() };
    }

    fn orderly(&self) -> Record {
        match self.ledger.first_fin.get() {
            Some(Side::Program) => {
                self.record(Outcome::Orderly, By::Program, Some(Rule::EndOrderly), TcpState::TimeWait)
            }
            _ => self.record(Outcome::Orderly, By::Remote, Some(Rule::EndOrderly), TcpState::Closed),
        }
    }

    /// Only the program has closed, and no process holds the connection any more. The kernel ends it in FIN-WAIT-2 if
    /// the remote's FIN does not arrive; until then it is open.
    fn closed_alone(&self) -> Record {
        let mut record =
            self.record(Outcome::Open, By::Nobody, Some(Rule::EndFinWait2Timeout), TcpState::FinWait2);
        record.note = Some(
            "the program had closed, the remote had not; this host's kernel waits for its FIN for tcp_fin_timeout"
                .to_owned(),
        );
        record
    }

    fn open(&self, state: TcpState) -> Record {
        let mut record = self.record(Outcome::Open, By::Nobody, None, state);
        let (program, remote) = (self.ledger.program_fin.get(), self.ledger.remote_fin.get());
        record.note = match (program, remote) {
            (true, false) => Some("the program had closed, the remote had not".to_owned()),
            (false, true) => Some("the remote had closed, the program had not".to_owned()),
            // Which part had not arrived follows from the figures.
            (true, true) => None,
            (false, false) => None,
        };
        record
    }

    fn host_ended(&self, errno: i32, program: &TcpStream) -> Record {
        let (program_fin, remote_fin) = (self.ledger.program_fin.get(), self.ledger.remote_fin.get());
        let (outcome, by, rule) = match (errno, program_fin, remote_fin) {
            (libc::ETIMEDOUT, ..) => (Outcome::TimedOut, By::Nobody, Rule::EndRetransmissionTimeout),
            (libc::ECONNRESET | libc::EPIPE, true, true) => {
                (Outcome::Reset, By::Remote, Rule::PeerRstAfterFins)
            }
            (libc::ECONNRESET | libc::EPIPE, false, true) => {
                (Outcome::Reset, By::Remote, Rule::PeerRstAfterFin)
            }
            (libc::ECONNRESET | libc::EPIPE, ..) => (Outcome::Reset, By::Remote, Rule::PeerRstExact),
            // A soft error (ICMP) that a timeout turned into the end (`docs/resets.md` 4.5).
            (libc::EHOSTUNREACH | libc::ENETUNREACH, ..) => {
                (Outcome::Unreachable, By::Network, Rule::EndRetransmissionTimeout)
            }
            _ => (Outcome::Aborted, By::Host, Rule::RstIntercepted),
        };
        // The state before the failure was passed on.
        let state = program.end().map_or_else(|| program.state(), |end| end.state);
        let mut record = self.record(outcome, by, Some(rule), peer_state(state));
        record.host_errno = Some(errno_name(errno));
        record
    }

    fn program_ended(&self, end: &End) -> Record {
        if self.ledger.unanswered.get() {
            let rule = Some(Rule::RstKeepaliveTimeout);
            let mut record = self.record(Outcome::TimedOut, By::Nobody, rule, peer_state(end.state));
            record.note = Some("the remote did not answer the program's keep-alive probes".to_owned());
            return record;
        }
        let (outcome, by) = match (end.cause, end.by) {
            (EngineCause::Reset | EngineCause::Refused, _) => (Outcome::Aborted, By::Program),
            (EngineCause::TimedOut(_), _) => (Outcome::TimedOut, By::Nobody),
            (_, EndedBy::Peer) => (Outcome::Aborted, By::Program),
            _ => (Outcome::Aborted, By::Lastack),
        };
        let mut record = self.record(outcome, by, Some(end.rule), peer_state(end.state));
        record.note = match end.inferred {
            _ if outcome == Outcome::TimedOut => Some("the program's side no longer answers".to_owned()),
            Some(LikelyCause::UnknownConnection) => {
                Some("more data arrived after the program had closed".to_owned())
            }
            Some(LikelyCause::AbortedByPeer) => {
                Some("closed with SO_LINGER 0, or with data unread".to_owned())
            }
            _ => None,
        };
        record
    }

    /// The bytes delivered and lost, in both directions.
    fn figures(&self, record: &mut Record, program: &TcpStream, host: &tokio::net::TcpStream) {
        let ledger = &self.ledger;
        let waiting = match ledger.delivered.get() {
            true => Outstanding::default(),
            false => outstanding(host, ledger.fin_sent.get()).unwrap_or_default(),
        };
        let info = program.info().ok();
        let from_program = info.as_ref().map_or(0, |info| info.bytes_received);
        record.bytes.sent = ledger.to_remote.get().saturating_sub(waiting.total());
        record.lost.unsent = waiting.unsent + from_program.saturating_sub(ledger.to_remote.get());
        record.lost.unacked = waiting.unacked;
        self.figures_of_program(record, program, info.as_ref());
        record.facts.order = match (record.outcome, record.by) {
            (Outcome::Reset, By::Remote) => self.order_at_remote(record, waiting, host),
            (Outcome::Aborted, By::Program) => self.order_at_program(record),
            _ => Order::default(),
        };
    }

    /// The bytes delivered to the program, and lost on the way to it.
    fn figures_of_program(&self, record: &mut Record, program: &TcpStream, info: Option<&TcpInfo>) {
        let ledger = &self.ledger;
        let to_program = match (info, program.end()) {
            // A closed connection has its counts of lost data; a live one reports what is in flight.
            (Some(_), Some(end)) => end.lost.unsent + end.lost.unacked,
            (Some(info), None) => (info.unsent + info.unacked) as u64,
            (None, _) => 0,
        };
        record.bytes.received = ledger.to_program.get().saturating_sub(to_program);
        record.lost.unread = ledger.from_remote.get().saturating_sub(record.bytes.received);
    }

    /// What had reached the remote when it sent its reset.
    fn order_at_remote(&self, record: &Record, waiting: Outstanding, host: &tokio::net::TcpStream) -> Order {
        let (ledger, talk) = (&self.ledger, record.facts.talk);
        let sent = Sent {
            bytes: ledger.to_remote.get(),
            acked: record.bytes.sent,
            unanswered: if talk.last == Some(By::Program) { talk.run } else { 0 },
            blocked: waiting.unsent,
            fin: ledger.fin_sent.get().then_some(!waiting.fin),
            since_data: talk.idle,
            since_fin: ledger.course.since_first_fin().unwrap_or_default(),
        };
        sent.order(tcp_info::path(host))
    }

    /// The same, of the program's: there is no path between it and lastack.
    fn order_at_program(&self, record: &Record) -> Order {
        let (ledger, talk) = (&self.ledger, record.facts.talk);
        let sent = Sent {
            bytes: ledger.from_remote.get(),
            acked: record.bytes.received,
            unanswered: if talk.last == Some(By::Remote) { talk.run } else { 0 },
            blocked: 0,
            fin: ledger.remote_fin.get().then_some(true),
            since_data: talk.idle,
            since_fin: ledger.course.since_first_fin().unwrap_or_default(),
        };
        sent.order(None)
    }
}

impl ConnectionReport {
    /// The program's end and the other.
    pub fn ends(&self) -> &Ends {
        &self.ends
    }

    /// The program's end.
    pub fn local(&self) -> SocketAddr {
        self.ends.both().0
    }

    /// The other end, under the program's address for it.
    pub fn remote(&self) -> SocketAddr {
        self.ends.both().1
    }

    /// Measures a connection from time to time, if it is shown.
    pub fn measure<'a>(&'a self, relay: &'a Relay<'a>) -> Option<Boxed<'a, Infallible>> {
        let current = self.current.get()?;
        Some(Box::pin(async {
            loop {
                current.set(Some(relay.state()));
                tokio::time::sleep(INTERVAL).await;
            }
        }))
    }
}

impl Shown for ConnectionReport {
    fn observe(&self) {
        let _already = self.current.set(Box::default());
    }

    fn shot(&self) -> Shot {
        let (ledger, context) = (&self.ledger, self.context.get());
        let current = self.current.get().and_then(|current| current.get());
        let (state, path) = current.unwrap_or((TcpState::SynReceived, None));
        let joined = ledger.moved() > 0 && current.is_none();
        let state = if joined { TcpState::Established } else { peer_state(state) };
        Shot {
            proto: Proto::Tcp,
            inward: context.inward,
            remote: self.remote(),
            name: context.name,
            process: context.process,
            state: state.to_string(),
            sent: ledger.to_remote.get(),
            received: ledger.to_program.get(),
            path,
            opened: self.opened.clock(),
        }
    }
}
