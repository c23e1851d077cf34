//! An output that may be a pipe. A reader that stops must not stop the program's network: what it has no room for is kept
//! up to a limit, and then dropped and counted.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::report::Size;

/// Max bytes that wait for the reader of a pipe.
const MAX_WAITING: usize = 4 << 20;
/// How long a reader may take nothing at the end of the run.
const PATIENCE: Duration = Duration::from_secs(2);
/// The interval of looks at it.
const LOOK: Duration = Duration::from_millis(10);

/// A file, or a pipe or a terminal, which is never waited for. Clones are the same output.
#[derive(Clone, Debug)]
pub struct Output(Arc<Mutex<Open>>);

#[derive(Debug)]
struct Open {
    file: File,
    /// Not a regular file.
    pipe: bool,
    /// A pipe that had no reader: nothing tells whether it has one now.
    alone: bool,
    waiting: VecDeque<u8>,
    dropped: u64,
}

impl Output {
    /// Creates or truncates the file, or opens the pipe, which may have no reader yet.
    pub fn create(path: &Path) -> io::Result<Self> {
        let kind = std::fs::metadata(path).ok().map(|found| found.file_type());
        let fifo = kind.is_some_and(|kind| kind.is_fifo());
        let pipe = kind.is_some_and(|kind| kind.is_fifo() || kind.is_char_device());
        let mut options = File::options();
        options.write(true);
        if pipe {
            options.custom_flags(libc::O_NONBLOCK);
        } else {
            options.create(true).truncate(true);
        }
        // Without a reader, only an open for both succeeds at once.
        let (file, alone) = match options.open(path) {
            Err(error) if fifo && error.raw_os_error() == Some(libc::ENXIO) => {
                (options.read(true).open(path)?, true)
            }
            opened => (opened?, false),
        };
        Ok(Self(Arc::new(Mutex::new(Open { file, pipe, alone, waiting: VecDeque::new(), dropped: 0 }))))
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the reader time for what waits, as long as it takes some of it; the rest is dropped. Fails if something was
    /// dropped, now or before.
    pub fn finish(&self) -> io::Result<()> {
        let mut open = self.open();
        let mut since = Instant::now();
        let mut left = open.left();
        while left > 0 {
            open.pass()?;
            let now = open.left();
            if now < left {
                since = Instant::now();
            } else if since.elapsed() >= PATIENCE {
                open.dropped += now as u64;
                open.waiting.clear();
                break;
            } else {
                std::thread::sleep(LOOK);
            }
            left = now;
        }
        match open.dropped {
            0 => Ok(()),
            bytes => Err(io::Error::other(format!("its reader did not take {}", Size(bytes)))),
        }
    }
}

impl Open {
    /// Bytes that the reader has not taken, as far as they are known.
    fn left(&self) -> usize {
        let in_pipe = if self.alone { unread(&self.file) } else { 0 };
        self.waiting.len() + in_pipe
    }

    /// Writes what the reader has room for.
    fn pass(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            match self.file.write(self.waiting.as_slices().0) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(bytes) => drop(self.waiting.drain(..bytes)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Write for Output {
    /// Takes all, or drops all: the reader of a pipe never sees a part of what was written in one call.
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut open = self.open();
        if !open.pipe {
            return open.file.write(data);
        }
        open.pass()?;
        if !open.waiting.is_empty() && open.waiting.len() + data.len() > MAX_WAITING {
            open.dropped += data.len() as u64;
            return Ok(data.len());
        }
        open.waiting.extend(data);
        open.pass()?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.open().pass()
    }
}

/// Bytes in a pipe; 0 if the system does not report it.
fn unread(pipe: &File) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one int to where the pointer points, and `bytes` lives until the call returns.
    let result = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    if result < 0 { 0 } else { usize::try_from(bytes).unwrap_or(0) }
}

/// What is left of a file that could not be written: an empty one is removed.
pub fn what_is_left(path: &Path) -> &'static str {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() && found.len() == 0 => match std::fs::remove_file(path) {
            Ok(()) => "the empty file was removed",
            Err(_) => "the file is empty",
        },
        Ok(found) if found.is_file() => "the file is incomplete",
        _ => "it is incomplete",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn fifo() -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        (directory, path)
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_not_waited_for() {
        let (_directory, path) = fifo();
        let mut output = Output::create(&path).unwrap();
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..8 {
            output.write_all(&piece).unwrap();
        }
        assert!(output.open().waiting.len() <= MAX_WAITING);
        assert!(output.open().dropped >= 3 << 20);
        let error = output.finish().unwrap_err().to_string();
        assert!(error.starts_with("its reader did not take 8.0 MiB"), "{error}");
    }

    #[test]
    fn a_slow_reader_gets_whole_pieces() {
        let (_directory, path) = fifo();
        let mut output = Output::create(&path).unwrap();
        let mut reader = File::open(&path).unwrap();
        let read = std::thread::spawn(move || {
            let mut data = vec![0; 3 << 20];
            reader.read_exact(&mut data).unwrap();
            data
        });
        for number in 0..3 {
            output.write_all(&vec![number; 1 << 20]).unwrap();
        }
        output.finish().unwrap();
        let data = read.join().unwrap();
        assert!((0..3).all(|number| data[(number as usize) << 20] == number));
    }

    #[test]
    fn a_regular_file_is_truncated() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "of an earlier run").unwrap();
        let mut output = Output::create(file.path()).unwrap();
        output.write_all(b"new").unwrap();
        output.finish().unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), b"new");
    }
}
