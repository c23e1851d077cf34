//! Messages on standard error.

use std::fmt::Display;
use std::io::Write;

/// Prints a line on standard error. If it cannot be written (a full disk, a closed pipe), it is lost: `eprintln!` would
/// panic, and the exit status of the program with it.
pub fn message(text: impl Display) {
    let _lost = writeln!(anstream::stderr(), "{text}");
}
