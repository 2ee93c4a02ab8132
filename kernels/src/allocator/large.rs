//! Mappings of large blocks, by way of the pool; none on systems other than Linux.

#[cfg(all(test, target_os = "linux"))]
pub(super) use system::Mappings;
pub(super) use system::{alloc, free, pooled_bytes, takes};

#[cfg(target_os = "linux")]
mod system {
    use std::alloc::Layout;
    use std::ptr;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use crate::allocator::{LARGE, PAGE, Pool};

    static MAPPINGS: Mappings = Mappings::new();

    pub fn pooled_bytes() -> usize {
        MAPPINGS.pooled_bytes()
    }

    pub fn takes(layout: Layout) -> bool {
        layout.size() >= LARGE && layout.align() <= PAGE
    }

    /// A mapping for that many bytes, null if there is none, and whether it is fresh and so full of zeros.
    pub fn alloc(size: usize) -> (*mut u8, bool) {
        MAPPINGS.alloc(size)
    }

    /// Puts a mapping into the pool.
    ///
    /// # Safety
    /// `alloc` gave the block for `size` bytes, and it is no longer in use.
    pub unsafe fn free(block: *mut u8, size: usize) {
        // SAFETY: the caller's promises.
        unsafe { MAPPINGS.free(block, size) }
    }

    /// A pool, and the mappings that are in use.
    pub struct Mappings(Mutex<Pool>);

    impl Mappings {
        pub const fn new() -> Self {
            Self(Mutex::new(Pool::EMPTY))
        }

        /// The pool. It is consistent between any two statements below, and none of them panics.
        fn locked(&self) -> MutexGuard<'_, Pool> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub fn pooled_bytes(&self) -> usize {
            self.locked().free_bytes()
        }

        pub fn alloc(&self, size: usize) -> (*mut u8, bool) {
            let class = Pool::class(size);
            if let Some(block) = self.locked().reuse(class) {
                return (ptr::with_exposed_provenance_mut(block), false);
            }
            let mut block = map(class);
            // Where memory or addresses are scarce, what is kept for later is needed now.
            while block.is_none()
                && let Some(mapping) = self.evict()
            {
                unmap(mapping);
                block = map(class);
            }
            let Some(block) = block else { return (ptr::null_mut(), true) };
            self.locked().count(class);
            // No page of the new mapping was touched yet, so that what is unmapped now was not needed beside it.
            self.unmap_excess();
            (block, true)
        }

        /// # Safety
        /// As of the function of this name.
        pub unsafe fn free(&self, block: *mut u8, size: usize) {
            let evicted = self.locked().release((block.expose_provenance(), Pool::class(size)));
            evicted.into_iter().for_each(unmap);
            self.unmap_excess();
        }

        fn evict(&self) -> Option<(usize, usize)> {
            self.locked().evict()
        }

        fn unmap_excess(&self) {
            // The pool is not locked while the system works.
            let evict = || self.locked().evict_excess();
            std::iter::from_fn(evict).for_each(unmap);
        }
    }

    /// A new mapping.
    fn map(class: usize) -> Option<*mut u8> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a mapping of nothing at an address of the kernel's choice.
        let block =
            unsafe { libc::mmap(ptr::null_mut(), class, access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
        if block == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: advice about the mapping just made: fewer page faults if the kernel takes it.
        unsafe { libc::madvise(block, class, libc::MADV_HUGEPAGE) };
        Some(block.cast())
    }

    /// Gives back a mapping (address, bytes) that was evicted from a pool.
    fn unmap((block, class): (usize, usize)) {
        // SAFETY: a mapping that `map` made with this length, which is not in use.
        unsafe { libc::munmap(ptr::with_exposed_provenance_mut(block), class) };
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
