//! How much of a bad link a transfer can use: lastack and smoltcp over the same links, in virtual time.
//!
//! `cargo bench --bench goodput` gives the same numbers on every machine; `UPDATE_DOCS=1` writes them to
//! `docs/goodput.md`. Names of contenders (`-- lastack smoltcp`) select those.

mod lastack;
mod smoltcp;
mod table;
mod transfer;
mod world;

use std::time::Duration;
use table::{Contender, Effort};

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let measured = args.iter().any(|arg| arg == "--bench");
    if !measured {
        println!("a short run: cargo bench --bench goodput makes the table");
    }
    let named = |contender: &Contender| args.iter().any(|arg| arg == contender.name());
    let mut contenders: Vec<_> = Contender::ALL.into_iter().filter(named).collect();
    if contenders.is_empty() {
        contenders = Contender::ALL.to_vec();
    }
    let [bytes, seeds, seconds] = if measured { [20_000_000, 5, 60] } else { [100_000, 1, 4] };
    let text = table::all(&Effort { bytes, seeds, shared: Duration::from_secs(seconds), contenders });
    println!("{text}");
    if measured && std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/goodput.md");
        std::fs::write(path, text).unwrap_or_else(|error| panic!("{path} cannot be written: {error}"));
    }
}
