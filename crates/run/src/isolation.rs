//! What lastack itself may do once the program runs: as little as its work takes.

use nix::errno::Errno;

/// Signals to processes of other users.
pub const CAP_KILL: u32 = 5;

/// linux/capability.h.
const VERSION_3: u32 = 0x2008_0522;
const LAST: u32 = 63;

#[repr(C)]
struct Header {
    version: u32,
    process: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Set {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up every capability but these, and the way to get others.
pub fn drop_capabilities(kept: &[u32]) -> Result<(), Errno> {
    for capability in (0..=LAST).filter(|capability| !kept.contains(capability)) {
        // Without CAP_SETPCAP the bounding set stays, which no_new_privs makes harmless; unknown ones are invalid.
        // SAFETY: the call takes numbers.
        let _stays = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
    let held = held()?;
    let mut sets = [Set::default(); 2];
    for &capability in kept {
        let (word, bit) = ((capability / 32) as usize, 1 << (capability % 32));
        if held[word].permitted & bit != 0 {
            sets[word].permitted |= bit;
            sets[word].effective |= bit;
        }
    }
    let header = Header { version: VERSION_3, process: 0 };
    // SAFETY: the kernel reads a header and two sets, which live until the call returns.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) })?;
    Ok(())
}

fn held() -> Result<[Set; 2], Errno> {
    let header = Header { version: VERSION_3, process: 0 };
    let mut sets = [Set::default(); 2];
    // SAFETY: the kernel reads the header and writes two sets, which live until the call returns.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, &raw const header, sets.as_mut_ptr()) })?;
    Ok(sets)
}
