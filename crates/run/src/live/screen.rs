//! The terminal of the table.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// Where the table is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// On the terminal from which lastack was started.
    Own,
    /// On this one.
    Other(PathBuf),
}

const OWN: &str = "/dev/tty";
/// The alternate screen, without a cursor; and back, so that the terminal shows what it showed before.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &[u8] = b"\x1b[?7h\x1b[?25h\x1b[?1049l";
/// The size of a terminal that does not report one.
const USUAL: (usize, usize) = (24, 80);

/// A terminal in use for the table.
#[derive(Debug)]
pub struct Screen {
    /// Nonblocking: a terminal that is stopped (Ctrl-S) does not stop the program's connections.
    terminal: File,
    /// What the terminal has not taken yet.
    pending: Vec<u8>,
    entered: bool,
}

/// Why there is no table: the run goes on without one.
pub type Missing = String;

impl Screen {
    /// Opens the terminal.
    ///
    /// # Errors
    /// A named terminal that cannot be used. Without a name there is a reason instead, if there is no terminal, or none
    /// to which the program does not write.
    pub fn open(wanted: &Terminal) -> anyhow::Result<Result<Self, Missing>> {
        match wanted {
            Terminal::Other(path) => {
                let shown = path.display();
                let terminal = open(path).with_context(|| format!("--live={shown}: cannot open it"))?;
                ensure!(
                    terminal.is_terminal(),
                    "--live={shown}: this is not a terminal; `tty` in another terminal prints its name"
                );
                ensure!(
                    !standard().iter().any(|output| is_same(*output, &terminal)),
                    "--live={shown}: the program writes to this terminal; {CURE}"
                );
                Ok(Ok(Self::of(terminal)))
            }
            Terminal::Own => Ok(match open(Path::new(OWN)) {
                Err(_) => Err(format!("--live: there is no terminal, so there is no table; {NAME_ONE}")),
                Ok(_) if standard().iter().any(|output| is_own(*output)) => {
                    Err(format!("--live: the program writes to this terminal, so there is no table; {CURE}"))
                }
                Ok(terminal) => Ok(Self::of(terminal)),
            }),
        }
    }

    fn of(terminal: File) -> Self {
        Self { terminal, pending: Vec::new(), entered: false }
    }

    /// Draws lines, made for the size in rows and columns. A terminal that still has not taken the last table keeps it.
    pub fn show(&mut self, lines: impl FnOnce((usize, usize)) -> Vec<String>) {
        if !self.flush() {
            return;
        }
        let size = size(self.terminal.as_fd()).unwrap_or(USUAL);
        let mut out = if self.entered { Vec::new() } else { ENTER.to_vec() };
        self.entered = true;
        out.extend(b"\x1b[H");
        for (number, line) in lines(size).iter().take(size.0).enumerate() {
            if number > 0 {
                out.extend(b"\r\n");
            }
            out.extend(line.as_bytes());
            out.extend(b"\x1b[K");
        }
        out.extend(b"\x1b[J");
        self.pending = out;
        self.flush();
    }

    /// Writes what is pending. `false`: the terminal does not take it all now.
    fn flush(&mut self) -> bool {
        while !self.pending.is_empty() {
            match self.terminal.write(&self.pending) {
                Ok(0) => return false,
                Ok(written) => drop(self.pending.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // A terminal that is gone takes everything.
                Err(_) => self.pending.clear(),
            }
        }
        true
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.entered {
            // An escape sequence that was cut off would swallow the beginning of this one: CAN ends it.
            if !self.pending.is_empty() {
                self.pending = b"\x18".to_vec();
            }
            self.pending.extend(LEAVE);
            self.flush();
        }
    }
}

/// How to get a table.
const NAME_ONE: &str = "name one as --live=/dev/pts/N, where `tty` prints its name";

/// How to get a table if the program uses the terminal.
const CURE: &str = "redirect the program's output (> FILE 2>&1), or name another terminal as --live=/dev/pts/N, where \
     `tty` prints its name";

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK).open(path)
}

/// The program's standard output and error.
fn standard() -> Vec<BorrowedFd<'static>> {
    let (out, error) = (io::stdout(), io::stderr());
    let mut outputs = Vec::new();
    if out.is_terminal() {
        // SAFETY: descriptors 1 and 2 stay open while the program runs; `is_terminal` has seen it.
        outputs.push(unsafe { BorrowedFd::borrow_raw(out.as_raw_fd()) });
    }
    if error.is_terminal() {
        // SAFETY: as above.
        outputs.push(unsafe { BorrowedFd::borrow_raw(error.as_raw_fd()) });
    }
    outputs
}

/// Whether it is the terminal of this session.
fn is_own(terminal: BorrowedFd<'_>) -> bool {
    let session = nix::sys::termios::tcgetsid(terminal);
    session.is_ok() && session == nix::unistd::getsid(None)
}

fn is_same(output: BorrowedFd<'_>, terminal: &File) -> bool {
    let device = |file: &File| file.metadata().map(|metadata| metadata.rdev()).ok();
    let output = output.try_clone_to_owned().map(File::from);
    output.is_ok_and(|output| device(&output).is_some() && device(&output) == device(terminal))
}

/// Rows and columns.
fn size(terminal: BorrowedFd<'_>) -> Option<(usize, usize)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes a `winsize` to the place that is given, which lives until the call returns.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_row > 0 && size.ws_col > 0).then(|| (size.ws_row.into(), size.ws_col.into()))
}
