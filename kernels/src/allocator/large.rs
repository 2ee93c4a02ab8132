//! Mappings of large blocks, by way of the pool; none on systems other than Linux.

pub(super) use system::{alloc, free, pooled_bytes, takes};

#[cfg(target_os = "linux")]
mod system {
    use std::alloc::Layout;
    use std::ptr;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use crate::allocator::{LARGE, PAGE, Pool};

    static POOL: Mutex<Pool> = Mutex::new(Pool::EMPTY);

    /// The pool. It is consistent between any two statements below, and none of them panics.
    fn locked() -> MutexGuard<'static, Pool> {
        POOL.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn pooled_bytes() -> usize {
        locked().free_bytes()
    }

    pub fn takes(layout: Layout) -> bool {
        layout.size() >= LARGE && layout.align() <= PAGE
    }

    /// A mapping for that many bytes, null if there is none, and whether it is fresh and so full of zeros.
    pub fn alloc(size: usize) -> (*mut u8, bool) {
        let class = Pool::class(size);
        if let Some(block) = locked().request(class) {
            return (ptr::with_exposed_provenance_mut(block), false);
        }
        unmap(None);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a mapping of nothing at an address of the kernel's choice.
        let block =
            unsafe { libc::mmap(ptr::null_mut(), class, access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
        if block == libc::MAP_FAILED {
            locked().cancel(class);
            return (ptr::null_mut(), true);
        }
        // SAFETY: advice about the mapping just made: fewer page faults if the kernel takes it.
        unsafe { libc::madvise(block, class, libc::MADV_HUGEPAGE) };
        (block.cast(), true)
    }

    /// Puts a mapping into the pool.
    ///
    /// # Safety
    /// `alloc` gave the block for `size` bytes, and it is no longer in use.
    pub unsafe fn free(block: *mut u8, size: usize) {
        let class = Pool::class(size);
        let evicted = locked().release((block.expose_provenance(), class));
        unmap(evicted);
    }

    /// Unmaps this mapping and the oldest ones while the pool holds too much.
    fn unmap(mut evicted: Option<(usize, usize)>) {
        loop {
            let Some((block, class)) = evicted.take().or_else(|| locked().evict_excess()) else { return };
            // SAFETY: a mapping that `alloc` made with this length, which is not in use.
            unsafe { libc::munmap(ptr::with_exposed_provenance_mut(block), class) };
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::alloc::Layout;

    pub fn pooled_bytes() -> usize {
        0
    }

    pub fn takes(_: Layout) -> bool {
        false
    }

    pub fn alloc(_: usize) -> (*mut u8, bool) {
        (std::ptr::null_mut(), true)
    }

    /// # Safety
    /// Never called: nothing is large here.
    pub unsafe fn free(_: *mut u8, _: usize) {}
}
