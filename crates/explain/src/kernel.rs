//! The kernel's own words: lines of tracefs or of `perf script` about resets.
