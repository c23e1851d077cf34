//! Fuzz targets: what must hold whatever octets come.
//!
//! A target is a function of octets that panics if something is wrong. The octets are read as
//! decisions ([`Input`]), so that a fuzzer that changes them changes what happens. `.ci/fuzz` runs the
//! targets under libFuzzer; `cargo test -p lastack-fuzz` plays the corpus, or with `LASTACK_FUZZ=TARGET:FILE`
//! one input.
#![forbid(unsafe_code)]

mod explain;
mod forge;
mod host;
mod input;
mod link;
mod oracle;
mod pair;
mod repair;
mod script;
mod stack;
mod user;
mod wire;

pub use input::Input;

/// A target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its directory in `corpus`, and on the command line.
    pub name: &'static str,
    /// The longest input worth trying.
    pub longest: usize,
    /// Tries one.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "wire", longest: 2048, run: wire::run },
    Target { name: "link", longest: 4096, run: link::run },
    Target { name: "script", longest: 4096, run: script::run },
    Target { name: "stack", longest: 2048, run: stack::run },
    Target { name: "pair", longest: 2048, run: pair::run },
    Target { name: "explain", longest: 8192, run: explain::run },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
