//! The engine without a standard library: it must link, or something in it needs one.
#![no_std]

use core::alloc::{GlobalAlloc, Layout};
use lastack_engine::{Config, Instant, Received, Stack};

struct NoMemory;

// SAFETY: it never hands out memory, so there is none to be misused; null is the documented answer
// of an allocator that has no memory.
unsafe impl GlobalAlloc for NoMemory {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static MEMORY: NoMemory = NoMemory;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Keeps the engine from being left out.
#[unsafe(no_mangle)]
pub extern "C" fn lastack_no_std_check() -> bool {
    let mut stack = Stack::new(Config::new([]), [0; 16]);
    stack.handle_packet(Instant::ZERO, &[], Received::default()).rule().is_none()
}
