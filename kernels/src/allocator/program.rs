//! The allocator of a program, which ends with a line of error where the system has no memory.

use std::alloc::{GlobalAlloc, Layout};

use super::PoolingAllocator;

/// A [`PoolingAllocator`] whose first refused request ends the process: with one line on stderr, exit code 1, and without
/// unwinding, for which there may be no memory either.
///
/// Without it, Rust ends the process by a signal, except for the few requests whose callers can do without. An allocator cannot
/// tell them apart: here they end it too.
#[derive(Debug)]
pub struct ProgramAllocator {
    /// The end of the line, after the number of bytes.
    hint: &'static str,
}

impl ProgramAllocator {
    /// With what to do about it, for the end of the line.
    pub const fn new(hint: &'static str) -> Self {
        Self { hint }
    }

    fn checked(&self, block: *mut u8, bytes: usize) -> *mut u8 {
        #[cfg(unix)]
        if block.is_null() {
            end(bytes, self.hint);
        }
        #[cfg(not(unix))]
        let _ = bytes;
        block
    }
}

// SAFETY: blocks are those of the PoolingAllocator, unchanged.
unsafe impl GlobalAlloc for ProgramAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those of the allocator below, here and in what follows.
        self.checked(unsafe { PoolingAllocator.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        self.checked(unsafe { PoolingAllocator.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { PoolingAllocator.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        self.checked(unsafe { PoolingAllocator.realloc(block, layout, size) }, size)
    }
}

/// Says that there are no `bytes` bytes, and ends the process. Allocates nothing.
#[cfg(unix)]
fn end(bytes: usize, hint: &str) -> ! {
    use std::io::Write;
    use std::sync::atomic::{AtomicBool, Ordering};

    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        let mut line = [0u8; 512];
        let mut rest = &mut line[..];
        // A hint that is too long is cut.
        writeln!(rest, "error: out of memory: the system refused {bytes} bytes; {hint}").unwrap_or(());
        let left = rest.len();
        let text = &line[..line.len() - left];
        // SAFETY: the bytes are there. Nobody is left to hear that they could not be written.
        unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
        // SAFETY: ends the process, whatever its other threads do.
        unsafe { libc::_exit(1) };
    }
    loop {
        // SAFETY: waits for the thread that says it to end the process.
        unsafe { libc::pause() };
    }
}
