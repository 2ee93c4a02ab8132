//! A global allocator that pools large buffers.
//!
//! A run requests buffers of the same few sizes again and again, some of a hundred megabytes. A general heap keeps the
//! gaps between live blocks, so that its peak creeps upwards with every decoder block; fresh pages for every buffer cost
//! a tenth of the run. [`PoolingAllocator`] maps each large buffer by itself and keeps a bounded number of freed bytes
//! for the next request of the same size.

mod large;
mod pool;
mod program;
#[cfg(test)]
mod tests;

use std::alloc::{GlobalAlloc, Layout, System};

use pool::Pool;

pub use program::ProgramAllocator;

/// The system's allocator below [`LARGE`] bytes, and pooled mappings from there on. Mappings in use and in the pool
/// together take at most [`POOL_RESERVE`] bytes more than were ever in use at once. On other systems than Linux it is the
/// system's allocator.
#[derive(Debug)]
pub struct PoolingAllocator;

/// Bytes from which a request gets a mapping of its own.
pub const LARGE: usize = 1 << 20;

/// Bytes that mappings in use and in the pool may take beyond the peak of those in use: a trade of resident memory for
/// page faults, chosen by measurement. It covers the buffers of a decoder block of some ten million weights, which are in
/// use at different moments; blocks that are much larger mostly reuse memory below their own peak. Sensible values lie
/// between the largest buffer of such a block (tens of MiB), below which every block maps its buffers again, and a few
/// hundred MiB, which are held for nothing.
pub const POOL_RESERVE: usize = 96 << 20;

/// Every mapping starts on a page.
const PAGE: usize = 4096;

// SAFETY: requests below LARGE go to the system's allocator, all others to `large`, told apart by the layout's size,
// which a caller has to give back unchanged; `realloc` moves between the two by copying.
unsafe impl GlobalAlloc for PoolingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if large::takes(layout) {
            return large::alloc(layout.size()).0;
        }
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if large::takes(layout) {
            let (block, fresh) = large::alloc(layout.size());
            if !fresh && !block.is_null() {
                // SAFETY: the block has at least that many bytes and nothing else refers to it.
                unsafe { block.write_bytes(0, layout.size()) };
            }
            return block;
        }
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if large::takes(layout) {
            // SAFETY: `large` gave the block for a request of this size, and the caller is done with it.
            return unsafe { large::free(block, layout.size()) };
        }
        // SAFETY: as in `alloc`.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that `size`, rounded up to the alignment, fits isize.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (large::takes(layout), large::takes(wanted)) {
            // SAFETY: as in `alloc`.
            (false, false) => unsafe { System.realloc(block, layout, size) },
            (true, true) if Pool::class(layout.size()) == Pool::class(size) => block,
            // SAFETY: both blocks have at least the bytes copied, and they are different ones.
            _ => unsafe {
                let moved = self.alloc(wanted);
                if !moved.is_null() {
                    moved.copy_from_nonoverlapping(block, layout.size().min(size));
                    self.dealloc(block, layout);
                }
                moved
            },
        }
    }
}

/// Bytes of the freed mappings that the pool holds now; 0 where the allocator is the system's.
pub fn pooled_bytes() -> usize {
    large::pooled_bytes()
}
