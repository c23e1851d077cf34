//! The seccomp filter: connect(), and sends that connect by TCP Fast Open, are reported; everything else is allowed.

use std::io;

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_USER_NOTIF, sock_filter,
};

/// AUDIT_ARCH of the system calls of this program; those of another architecture are allowed.
const ARCHITECTURE: Option<u32> = if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
    Some(0xc000_003e)
} else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
    Some(0xc000_00b7)
} else if cfg!(target_arch = "riscv64") {
    Some(0xc000_00f3)
} else {
    None
};

/// `struct seccomp_data`: number, architecture, instruction pointer, six arguments.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
/// The low half of an argument, on little-endian machines.
const fn argument(n: u32) -> u32 {
    16 + 8 * n
}

const fn load(offset: u32) -> sock_filter {
    sock_filter { code: (BPF_LD | BPF_W | BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

/// Jumps over as many instructions as stated if the condition holds, and if not.
const fn jump(condition: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | condition | BPF_K) as u16, jt, jf, k }
}

const fn give(action: u32) -> sock_filter {
    sock_filter { code: (BPF_RET | BPF_K) as u16, jt: 0, jf: 0, k: action }
}

/// The program.
pub(super) fn program() -> io::Result<Vec<sock_filter>> {
    let architecture = ARCHITECTURE.ok_or_else(|| {
        io::Error::new(io::ErrorKind::Unsupported, "not supported on this processor architecture")
    })?;
    let fast_open = libc::MSG_FASTOPEN as u32;
    Ok(vec![
        load(ARCH),
        jump(BPF_JEQ, architecture, 0, 9),
        load(NUMBER),
        jump(BPF_JEQ, libc::SYS_connect as u32, 6, 0),
        jump(BPF_JEQ, libc::SYS_sendto as u32, 3, 0),
        jump(BPF_JEQ, libc::SYS_sendmsg as u32, 0, 5),
        // The flags of sendmsg().
        load(argument(2)),
        jump(BPF_JSET, fast_open, 2, 3),
        // The flags of sendto().
        load(argument(3)),
        jump(BPF_JSET, fast_open, 0, 1),
        give(SECCOMP_RET_USER_NOTIF),
        give(SECCOMP_RET_ALLOW),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program gives for a call with this number and these arguments.
    fn run(architecture: u32, number: libc::c_long, arguments: [u32; 6]) -> u32 {
        let program = program().unwrap();
        let (mut at, mut a) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let class = u32::from(code);
            if class == BPF_LD | BPF_W | BPF_ABS {
                a = match k {
                    NUMBER => number as u32,
                    ARCH => architecture,
                    argument => arguments[(argument as usize - 16) / 8],
                };
            } else if class == BPF_RET | BPF_K {
                return k;
            } else {
                let met = if class == BPF_JMP | BPF_JEQ | BPF_K { a == k } else { a & k != 0 };
                at += usize::from(if met { jt } else { jf });
            }
        }
    }

    #[test]
    fn only_calls_that_connect_are_reported() {
        let Some(architecture) = ARCHITECTURE else { return };
        let fast_open = libc::MSG_FASTOPEN as u32;
        let call = |number, arguments| run(architecture, number, arguments) == SECCOMP_RET_USER_NOTIF;
        assert!(call(libc::SYS_connect, [0; 6]));
        assert!(call(libc::SYS_sendto, [0, 0, 0, fast_open | 1, 0, 0]));
        assert!(call(libc::SYS_sendmsg, [0, 0, fast_open, 0, 0, 0]));
        assert!(!call(libc::SYS_sendto, [0, 0, fast_open, 0, 0, 0]));
        assert!(!call(libc::SYS_sendmsg, [0, 0, 0, fast_open, 0, 0]));
        for number in [libc::SYS_close, libc::SYS_read, libc::SYS_sendmmsg, libc::SYS_accept4] {
            assert!(!call(number, [u32::MAX; 6]), "{number}");
        }
        assert_eq!(run(1, libc::SYS_connect, [0; 6]), SECCOMP_RET_ALLOW, "another architecture");
    }
}
