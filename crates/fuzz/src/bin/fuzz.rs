//! A target under libFuzzer, selected by `LASTACK_FUZZ`. Built and run by `.ci/fuzz`.
#![no_main]

use lastack_fuzz::{TARGETS, Target, target};
use std::env;
use std::sync::OnceLock;

static CHOSEN: OnceLock<&'static Target> = OnceLock::new();

fn choose() -> &'static Target {
    let name = env::var("LASTACK_FUZZ").unwrap_or_default();
    target(&name).unwrap_or_else(|| {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        panic!("LASTACK_FUZZ={name} is no target; there are {}", names.join(", "))
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (CHOSEN.get_or_init(choose).run)(bytes));
