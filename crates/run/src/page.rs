//! `--html`: the program's connections as an HTML page, explained from their packets as by `lastack explain`.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use lastack::link::{Direction, Sink};
use lastack_engine::Instant;
use lastack_explain::record::Writer;
use lastack_explain::{Explained, Explainer, Frame, Known, Options, RawPacket, render};

use crate::pipe::{Output, what_is_left};
use crate::report::{Proto, Record};

/// Packets begin with the IP header.
const LINKTYPE_RAW: u16 = 101;
/// Max connections on the page.
const ON_PAGE: usize = 2000;
/// Max pairs of ends of which the conclusion is kept.
const KNOWN: usize = 50_000;

/// Collects all packets between the program and its network.
#[derive(Clone)]
pub(crate) struct Page(Arc<Mutex<Watched>>);

struct Watched {
    explainer: Explainer,
    packets: u64,
    /// Nanoseconds since 1970 at [`Instant::ZERO`].
    start: i64,
    path: PathBuf,
    file: Output,
    /// How connections ended, by the ends as the program's packets name them: the program's first.
    known: HashMap<[SocketAddr; 2], VecDeque<Conclusion>>,
}

/// How a connection ended, as recorded by the relay.
struct Conclusion {
    /// The program opened it.
    outward: bool,
    known: Known,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page").finish_non_exhaustive()
    }
}

impl Page {
    /// Creates the file for the page.
    pub(crate) fn create(path: PathBuf) -> anyhow::Result<Self> {
        let file = Output::create(&path).with_context(|| {
            format!("cannot write the page to {}: choose another place for --html", path.display())
        })?;
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let explainer = Explainer::new(Options { all: true, ..Options::default() });
        let start = i64::try_from(start).unwrap_or(i64::MAX);
        let known = HashMap::new();
        Ok(Self(Arc::new(Mutex::new(Watched { explainer, packets: 0, start, path, file, known }))))
    }

    /// A connection has ended. `remote`: the other end as the program's packets name it.
    pub(crate) fn conclude(&self, record: &Record, remote: SocketAddr) {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if record.proto != Proto::Tcp || watched.known.len() >= KNOWN {
            return;
        }
        let outward = !record.context.inward;
        let known = record.stated(remote).known;
        watched.known.entry([record.local, remote]).or_default().push_back(Conclusion { outward, known });
    }

    /// Writes the page.
    pub(crate) fn finish(&self) -> anyhow::Result<()> {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watched.explainer.finish();
        let mut explained: Vec<_> = watched.explainer.ready().collect();
        // Several connections of the same ends come in the order in which they ended.
        for one in &mut explained {
            watched.decide(one);
        }
        let writer = Writer { files: Vec::new(), digits: 6, anonymize: false, redact: false };
        let explainer = &watched.explainer;
        let mut summary = explainer.summary().clone();
        summary.severities.clear();
        for one in &explained {
            *summary.severities.entry(one.verdict.severity).or_default() += 1;
        }
        let groups = explainer.groups_of(&explained);
        let page = render::html(&writer, &summary, &groups, &explained, true, ON_PAGE);
        let place = watched.path.display().to_string();
        let written = watched.file.write_all(page.as_bytes()).and_then(|()| watched.file.finish());
        written.with_context(|| format!("cannot write the page to {place}, {}", what_is_left(&watched.path)))
    }
}

impl Watched {
    /// The relay's record of a connection replaces what its packets show.
    fn decide(&mut self, explained: &mut Explained) {
        let [client, server] =
            [explained.client(), explained.server()].map(|end| SocketAddr::new(end.addr.ip(), end.port));
        for (ends, outward) in [([client, server], true), ([server, client], false)] {
            let Some(found) = self.known.get_mut(&ends) else { continue };
            if let Some(at) = found.iter().position(|conclusion| conclusion.outward == outward)
                && let Some(conclusion) = found.remove(at)
            {
                explained.decide(conclusion.known);
                return;
            }
        }
    }
}

impl Sink for Page {
    fn record(&mut self, at: Instant, _: Direction, packet: &[u8], _: Option<&str>) {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watched.packets += 1;
        let elapsed = i64::try_from(at.elapsed().as_nanos()).unwrap_or(i64::MAX);
        let raw = RawPacket {
            frame: Frame::new(0, watched.packets),
            time: watched.start.saturating_add(elapsed),
            timed: true,
            link: LINKTYPE_RAW,
            interface: 0,
            data: packet,
            length: packet.len() as u32,
            comment: None,
            vantage: 0,
        };
        watched.explainer.packet(&raw);
    }
}
