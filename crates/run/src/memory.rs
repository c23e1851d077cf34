//! Memory of this process.

/// Gives what is free back to the system. The allocator of glibc keeps it otherwise, for as long as anything above it
/// lives; others give it back by themselves.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes a number, and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
