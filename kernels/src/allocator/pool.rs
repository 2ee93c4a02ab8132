//! The rule that decides which freed mappings stay in the pool.

use super::{PAGE, POOL_RESERVE};

/// More freed mappings than a run has sizes of.
const SLOTS: usize = 64;

/// The freed mappings of [`PoolingAllocator`](super::PoolingAllocator), and counts of what is in use.
#[derive(Debug)]
pub(super) struct Pool {
    /// Address and bytes of the free mappings, the one freed last at the end.
    slots: [(usize, usize); SLOTS],
    len: usize,
    /// Bytes of the free mappings.
    free: usize,
    /// Bytes of the large blocks in use.
    used: usize,
    /// The maximum of `used` so far.
    peak: usize,
}

impl Pool {
    /// Nothing in use, nothing free.
    pub const EMPTY: Pool = Pool { slots: [(0, 0); SLOTS], len: 0, free: 0, used: 0, peak: 0 };

    /// The bytes mapped for a request of [`LARGE`](super::LARGE) bytes or more: an eighth more at most, so that sizes nearly equal share
    /// their mappings.
    pub fn class(size: usize) -> usize {
        let step = (size.next_power_of_two() >> 4).max(PAGE);
        size.checked_next_multiple_of(step).unwrap_or(size)
    }

    /// Bytes of the free mappings.
    pub fn free_bytes(&self) -> usize {
        self.free
    }

    /// Takes a free mapping of `class` bytes into use and gives its address, if there is one.
    pub fn reuse(&mut self, class: usize) -> Option<usize> {
        let found = (0..self.len).rev().find(|&i| self.slots[i].1 == class)?;
        let (address, _) = self.remove(found);
        self.count(class);
        Some(address)
    }

    /// Counts a mapping of `class` bytes that was made and is in use: a request that the system refused is none.
    /// [`Pool::evict_excess`] may have more to give then.
    pub fn count(&mut self, class: usize) {
        self.used += class;
        self.peak = self.peak.max(self.used);
    }

    /// Takes a mapping (address, bytes) that is no longer in use; without a free slot the oldest one is returned, to be
    /// unmapped. [`Pool::evict_excess`] may have more to give then.
    pub fn release(&mut self, mapping: (usize, usize)) -> Option<(usize, usize)> {
        self.used -= mapping.1;
        let evicted = (self.len == SLOTS).then(|| self.remove(0));
        self.slots[self.len] = mapping;
        self.len += 1;
        self.free += mapping.1;
        evicted
    }

    /// Removes the oldest mapping, to be unmapped, while the pool holds too much.
    pub fn evict_excess(&mut self) -> Option<(usize, usize)> {
        (self.free + self.used > POOL_RESERVE + self.peak).then(|| self.evict()).flatten()
    }

    /// Removes the oldest mapping, to be unmapped.
    pub fn evict(&mut self) -> Option<(usize, usize)> {
        (self.len > 0).then(|| self.remove(0))
    }

    fn remove(&mut self, i: usize) -> (usize, usize) {
        let slot = self.slots[i];
        self.slots.copy_within(i + 1..self.len, i);
        self.len -= 1;
        self.free -= slot.1;
        slot
    }
}
