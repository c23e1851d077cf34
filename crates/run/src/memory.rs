//! Memory of this process.

use std::ffi::c_void;

/// Returns free memory to the system. The allocator of glibc otherwise keeps it while anything above it is in use;
/// others return it by themselves.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes a number, and touches no memory in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Unmaps the code of this program, most of which only the start has used: it is mapped again where it is used, and the
/// rest is in the page cache alone. Not while a debugger is attached, whose breakpoints are in that memory.
pub fn release_code() {
    if is_traced() {
        return;
    }
    for (begin, len) in code() {
        // SAFETY: the range is mapped from the file of the program and cannot be written to, so that what is read from it
        // after the call is the same as before.
        let _kept = unsafe { libc::madvise(begin as *mut c_void, len, libc::MADV_DONTNEED) };
    }
}

/// Whether a debugger is attached (proc(5)).
fn is_traced() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}

/// The whole pages of this program that can be executed, and not written to: first address and number of bytes.
fn code() -> Vec<(usize, usize)> {
    extern "C" fn add(info: *mut libc::dl_phdr_info, _: usize, found: *mut c_void) -> libc::c_int {
        // SAFETY: `dl_iterate_phdr` passes a valid object, whose headers live as long as it is loaded, and the pointer that
        // was passed to it, that to the list, which nothing else uses meanwhile.
        let (info, found) = unsafe { (&*info, &mut *found.cast::<Vec<(usize, usize)>>()) };
        // SAFETY: as above; this is the number of the headers.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        for header in headers {
            if header.p_type == libc::PT_LOAD && header.p_flags & (libc::PF_X | libc::PF_W) == libc::PF_X {
                let begin = info.dlpi_addr as usize + header.p_vaddr as usize;
                found.push((begin, begin + header.p_memsz as usize));
            }
        }
        // The first object is the program; the libraries are not looked at.
        1
    }
    let mut found = Vec::new();
    // SAFETY: the function is called before this call returns, with the pointer to the list.
    unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut found).cast()) };
    // SAFETY: the call takes a number.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(1 << 16);
    let whole = |(begin, end): (usize, usize)| {
        let (begin, end) = (begin.next_multiple_of(page), end / page * page);
        (begin, end.saturating_sub(begin))
    };
    found.into_iter().map(whole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mapped pages of files, in kilobytes.
    fn mapped() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Set in a process of its own: tests that run beside this one map code, too.
    const ALONE: &str = "LASTACK_TEST_RELEASED_CODE";

    #[test]
    fn released_code_is_mapped_again_when_it_is_used() {
        if std::env::var_os(ALONE).is_some() {
            return release_and_compare();
        }
        let name = "memory::tests::released_code_is_mapped_again_when_it_is_used";
        let test = std::env::current_exe().unwrap();
        let output =
            std::process::Command::new(test).args(["--exact", name]).env(ALONE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    fn release_and_compare() {
        let code = code();
        assert_eq!(code.len(), 1, "{code:?}");
        let (begin, len) = code[0];
        let own = release_code as fn() as usize;
        assert!((begin..begin + len).contains(&own), "{own:x} in {begin:x} + {len:x}");
        // Maps all of it.
        // SAFETY: the range is mapped, and can be read.
        let bytes = unsafe { std::slice::from_raw_parts(begin as *const u8, len) };
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u32, |sum, byte| sum.rotate_left(1) ^ u32::from(*byte));
        let (before, all) = (sum(bytes), mapped());
        release_code();
        if !is_traced() {
            assert!(mapped() < all - len / 1024 / 2, "{} of {all} kB", mapped());
        }
        assert_eq!(sum(bytes), before);
    }
}
