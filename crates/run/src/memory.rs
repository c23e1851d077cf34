//! Memory of this process.

/// Returns free memory to the system. The allocator of glibc otherwise keeps it while anything above it is in use;
/// others return it by themselves.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes a number, and touches no memory in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
