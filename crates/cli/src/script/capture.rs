//! The packets of several runs, in one file.

use lastack_link::PcapngWriter;
use lastack_packetdrill::Report;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{Run, Trouble};

/// Time between two runs in one capture.
const PAUSE: Duration = Duration::from_secs(1);

/// The packets of all runs, one after the other.
pub struct Capture<'a> {
    path: &'a Path,
    writer: PcapngWriter<File>,
    offset: Duration,
}

impl<'a> Capture<'a> {
    pub fn create(path: &'a Path) -> Result<Self, Trouble> {
        let file = File::create(path).map_err(|error| Trouble::File(path.to_owned(), error))?;
        Ok(Self { path, writer: PcapngWriter::new(file, SystemTime::now()), offset: Duration::ZERO })
    }

    pub fn add(&mut self, run: &Run, report: &Report) {
        let title = format!("{} ({})", run.path.display(), run.version.name());
        report.capture(&mut self.writer, self.offset, &title);
        self.offset += report.end() + PAUSE;
    }

    pub fn finish(self) -> Result<(), Trouble> {
        let path = self.path;
        self.writer.finish().map(|_| ()).map_err(|error| Trouble::File(path.to_owned(), error))
    }
}
