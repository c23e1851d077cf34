//! Fuzz targets: invariants that hold for any input.
//!
//! A target is a function of bytes that panics if an invariant is violated. The bytes are read as
//! decisions ([`Input`]), so that mutating them changes what happens. `.ci/fuzz` runs the
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

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its directory in `corpus`, and on the command line.
    pub name: &'static str,
    /// The max length of inputs.
    pub longest: usize,
    /// Runs one input.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "wire", longest: 2048, run: wire::run },
    Target { name: "link", longest: 4096, run: link::run },
    Target { name: "script", longest: 4096, run: script::run },
    Target { name: "stack", longest: 2048, run: stack::run },
    Target { name: "pair", longest: 2048, run: pair::run },
    Target { name: "explain", longest: 8192, run: explain::run },
];

/// The target with this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
