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

/// Unmaps the program's code and constants, most of which only the start needed: what is used again is mapped again from
/// the page cache, at the cost of a page fault.
pub fn forget_start() {
    // SAFETY: the callback gets valid arguments, and keeps none of them.
    unsafe {
        libc::dl_iterate_phdr(Some(forget_code), std::ptr::null_mut());
    }
}

/// For one object of this process: the program or a shared library.
unsafe extern "C" fn forget_code(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _context: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the loader passes a valid object, whose name is a string and whose headers are this many.
    let (object, name, headers) = unsafe {
        let object = &*object;
        let name = std::ffi::CStr::from_ptr(object.dlpi_name).to_bytes();
        (object, name, std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()))
    };
    // The program has no name, and a library its path; what else there is belongs to the kernel.
    if !(name.is_empty() || name.starts_with(b"/")) {
        return 0;
    }
    for header in headers {
        // A segment that cannot be written to has no page that differs from the file.
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let begin = (object.dlpi_addr + header.p_vaddr) as usize;
        let end = begin + header.p_memsz as usize;
        let (begin, end) = (begin.next_multiple_of(PAGE), end - end % PAGE);
        if begin < end {
            // SAFETY: the pages are those of a file, unchanged, and are read again from there. A failure changes nothing.
            unsafe { libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_DONTNEED) };
        }
    }
    0
}

/// A multiple of the page size of each architecture.
const PAGE: usize = 65_536;

#[cfg(test)]
mod tests {
    #[test]
    fn code_that_was_unmapped_runs_again() {
        let text = || format!("{:?} {}", std::time::Duration::from_millis(1500), f64::from(7_u8) / 2.0);
        let before = text();
        super::forget_start();
        assert_eq!(text(), before);
    }
}
