//! The program's memory: large blocks apart from the heap.
//!
//! A run asks again and again for buffers of the same few sizes, some of a hundred megabytes. A general heap keeps
//! what lies between blocks in use, so that its peak creeps upwards with every decoder block seen; fresh pages for
//! every buffer cost a tenth of the run. [`Reusing`] maps each large buffer by itself and keeps a bounded number of
//! bytes of freed ones for the next request of their size.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator below [`LARGE`] bytes, and whole mappings that are used again from there on. Freed mappings
/// that are kept hold, together with those in use, at most [`KEPT`] bytes more than were ever in use at once. Where there is
/// no Linux it is the system's allocator.
#[derive(Debug)]
pub struct Reusing;

/// Bytes from which a request gets a mapping of its own.
pub const LARGE: usize = 1 << 20;

/// Bytes of freed mappings that are kept in any case: what SmolLM2-135M needs so that few pages are asked for twice
/// (docs/dev/lab-notes.md).
pub const KEPT: usize = 96 << 20;

// SAFETY: requests below LARGE go to the system's allocator, all others to `large`, told apart by the layout's size,
// which a caller has to give back unchanged; `realloc` moves between the two by copying.
unsafe impl GlobalAlloc for Reusing {
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
                // SAFETY: the block has at least that many bytes and nobody else knows of it.
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
            (true, true) if large::class(layout.size()) == large::class(size) => block,
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

/// More freed mappings than a run has sizes of.
const SLOTS: usize = 64;
/// Every mapping starts on a page.
const PAGE: usize = 4096;

/// Which freed mappings are kept: the rule of [`Reusing`], which also serves to foretell what it will hold.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Address and bytes of the mappings kept, the one freed last at the end.
    slots: [(usize, usize); SLOTS],
    len: usize,
    /// Bytes of the mappings kept.
    kept: usize,
    /// Bytes of the large blocks that somebody uses.
    used: usize,
    /// The most there have been.
    most: usize,
}

impl Pool {
    /// Nothing used, nothing kept.
    pub const EMPTY: Pool = Pool { slots: [(0, 0); SLOTS], len: 0, kept: 0, used: 0, most: 0 };

    /// The bytes mapped for a request of [`LARGE`] bytes or more: an eighth more at most, so that sizes nearly equal share
    /// their mappings.
    pub fn class(size: usize) -> usize {
        let step = (size.next_power_of_two() >> 4).max(PAGE);
        size.checked_next_multiple_of(step).unwrap_or(size)
    }

    /// Bytes of the large blocks in use.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Address and bytes of the mappings kept, the one freed last at the end.
    pub fn kept(&self) -> &[(usize, usize)] {
        &self.slots[..self.len]
    }

    /// Counts a request of `class` bytes, and gives the address of a kept mapping for it if there is one. Without one, more
    /// may be [`Pool::excess`] than before.
    pub fn request(&mut self, class: usize) -> Option<usize> {
        self.used += class;
        self.most = self.most.max(self.used);
        let found = (0..self.len).rev().find(|&i| self.slots[i].1 == class)?;
        Some(self.remove(found).0)
    }

    /// Takes back what a request counted that got no memory.
    pub fn refused(&mut self, class: usize) {
        self.used -= class;
    }

    /// Keeps a mapping that is used no more; without a free slot the oldest one leaves for it, to be unmapped. More may be
    /// [`Pool::excess`] then.
    pub fn keep(&mut self, mapping: (usize, usize)) -> Option<(usize, usize)> {
        self.used -= mapping.1;
        let leaving = (self.len == SLOTS).then(|| self.remove(0));
        self.slots[self.len] = mapping;
        self.len += 1;
        self.kept += mapping.1;
        leaving
    }

    /// The oldest mapping, to be unmapped, as long as too much is kept.
    pub fn excess(&mut self) -> Option<(usize, usize)> {
        (self.len > 0 && self.kept + self.used > KEPT + self.most).then(|| self.remove(0))
    }

    fn remove(&mut self, i: usize) -> (usize, usize) {
        let slot = self.slots[i];
        self.slots.copy_within(i + 1..self.len, i);
        self.len -= 1;
        self.kept -= slot.1;
        slot
    }
}

/// What [`Reusing`] holds now; empty where it is the system's allocator.
pub fn pool() -> Pool {
    large::pool()
}

#[cfg(target_os = "linux")]
mod large {
    use std::alloc::Layout;
    use std::ptr;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::{LARGE, PAGE, Pool};

    static POOL: Mutex<Pool> = Mutex::new(Pool::EMPTY);

    /// The state is right between any two statements below, none of which panics.
    fn locked() -> MutexGuard<'static, Pool> {
        POOL.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn pool() -> Pool {
        locked().clone()
    }

    pub fn takes(layout: Layout) -> bool {
        layout.size() >= LARGE && layout.align() <= PAGE
    }

    pub fn class(size: usize) -> usize {
        Pool::class(size)
    }

    /// A mapping for that many bytes, null if there is none, and whether it is fresh and so full of zeros.
    pub fn alloc(size: usize) -> (*mut u8, bool) {
        let class = class(size);
        if let Some(block) = locked().request(class) {
            return (ptr::with_exposed_provenance_mut(block), false);
        }
        give_back(None);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a mapping of nothing at an address of the kernel's choice.
        let block =
            unsafe { libc::mmap(ptr::null_mut(), class, access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
        if block == libc::MAP_FAILED {
            locked().refused(class);
            return (ptr::null_mut(), true);
        }
        // SAFETY: advice about the mapping just made: fewer page faults if the kernel takes it.
        unsafe { libc::madvise(block, class, libc::MADV_HUGEPAGE) };
        (block.cast(), true)
    }

    /// Keeps a mapping for later.
    ///
    /// # Safety
    /// `alloc` gave the block for `size` bytes, and it is used no more.
    pub unsafe fn free(block: *mut u8, size: usize) {
        let class = class(size);
        let leaving = locked().keep((block.expose_provenance(), class));
        give_back(leaving);
    }

    /// Unmaps this and the oldest mappings as long as too much is kept.
    fn give_back(mut leaving: Option<(usize, usize)>) {
        loop {
            let Some((block, class)) = leaving.take().or_else(|| locked().excess()) else { return };
            // SAFETY: a mapping that `alloc` made with this length, which nobody uses.
            unsafe { libc::munmap(ptr::with_exposed_provenance_mut(block), class) };
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod large {
    use std::alloc::Layout;

    use super::Pool;

    pub fn pool() -> Pool {
        Pool::EMPTY
    }

    pub fn takes(_: Layout) -> bool {
        false
    }

    pub fn class(size: usize) -> usize {
        size
    }

    pub fn alloc(_: usize) -> (*mut u8, bool) {
        (std::ptr::null_mut(), true)
    }

    /// # Safety
    /// Never called: nothing is large here.
    pub unsafe fn free(_: *mut u8, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes around every step of the classes, from small to large.
    const SIZES: [usize; 6] = [17, LARGE - 1, LARGE, LARGE + 1, 3 << 20, (4 << 20) - 5];

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 64).unwrap()
    }

    /// Every byte of a block of `size` bytes.
    fn bytes<'a>(block: *mut u8, size: usize) -> &'a mut [u8] {
        assert!(!block.is_null());
        // SAFETY: the tests ask with the size the block was made for, and once at a time.
        unsafe { std::slice::from_raw_parts_mut(block, size) }
    }

    #[test]
    fn a_block_that_was_used_comes_back_as_zeros_when_zeros_are_asked_for() {
        for size in SIZES {
            for _ in 0..3 {
                // SAFETY: the layout is not empty; the block is freed with the layout it was made for.
                unsafe {
                    let block = Reusing.alloc_zeroed(layout(size));
                    assert!(bytes(block, size).iter().all(|&b| b == 0), "{size}");
                    bytes(block, size).fill(0xAB);
                    Reusing.dealloc(block, layout(size));
                }
            }
        }
    }

    #[test]
    fn realloc_keeps_the_bytes_that_fit() {
        for from in SIZES {
            for to in SIZES {
                // SAFETY: as above.
                unsafe {
                    let block = Reusing.alloc(layout(from));
                    for (i, b) in bytes(block, from).iter_mut().enumerate() {
                        *b = (i % 251) as u8;
                    }
                    let moved = Reusing.realloc(block, layout(from), to);
                    assert_eq!(moved.addr() % 64, 0);
                    let kept = from.min(to);
                    assert!(
                        bytes(moved, kept).iter().enumerate().all(|(i, &b)| b == (i % 251) as u8),
                        "{from} to {to}"
                    );
                    bytes(moved, to).fill(1);
                    Reusing.dealloc(moved, layout(to));
                }
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_mapping_is_at_most_an_eighth_larger_than_asked_for() {
        for size in SIZES.into_iter().filter(|&s| s >= LARGE) {
            let class = large::class(size);
            assert!(size <= class && class <= size + size / 8 && class.is_multiple_of(4096), "{size}: {class}");
            assert_eq!(large::class(class), class);
        }
    }
}
