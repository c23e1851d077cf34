//! `--html`: the program's connections as an HTML page, explained from their packets as by `lastack explain`.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use lastack::link::{Direction, Sink};
use lastack_engine::Instant;
use lastack_explain::record::Writer;
use lastack_explain::{Explainer, Frame, Options, RawPacket, render};

/// Packets begin with the IP header.
const LINKTYPE_RAW: u16 = 101;
/// Max connections on the page.
const ON_PAGE: usize = 2000;

/// Collects all packets between the program and its network.
#[derive(Clone)]
pub(crate) struct Page(Arc<Mutex<Watched>>);

struct Watched {
    explainer: Explainer,
    packets: u64,
    /// Nanoseconds since 1970 at [`Instant::ZERO`].
    start: i64,
    path: PathBuf,
    file: File,
}

impl Page {
    /// Creates the file for the page.
    pub(crate) fn create(path: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&path).with_context(|| {
            format!("cannot write the page to {}: choose another place for --html", path.display())
        })?;
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let explainer = Explainer::new(Options { all: true, ..Options::default() });
        let start = i64::try_from(start).unwrap_or(i64::MAX);
        Ok(Self(Arc::new(Mutex::new(Watched { explainer, packets: 0, start, path, file }))))
    }

    /// Writes the page.
    pub(crate) fn finish(&self) -> anyhow::Result<()> {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watched.explainer.finish();
        let explained: Vec<_> = watched.explainer.ready().collect();
        let writer = Writer { files: Vec::new(), digits: 6, anonymize: false, redact: false };
        let explainer = &watched.explainer;
        let page = render::html(&writer, explainer.summary(), &explainer.groups(), &explained, true, ON_PAGE);
        let place = watched.path.display().to_string();
        watched.file.write_all(page.as_bytes()).with_context(|| format!("cannot write the page to {place}"))
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
        };
        watched.explainer.packet(&raw);
    }
}
