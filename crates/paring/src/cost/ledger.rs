//! Memory on paper: what is asked for and given back, under the rules of the program's own allocator.

use std::collections::{BTreeMap, HashMap};

use paring_kernels::allocator::{LARGE, Pool};

use crate::pipeline::vram::{Part, Point};

/// Pages that a first touch maps together, where the system gives large buffers huge ones.
const HUGE: usize = 2 << 20;

/// A buffer that is in use.
#[derive(Debug)]
#[must_use = "a buffer that is never given back is in use to the end"]
pub(super) struct Block {
    name: &'static str,
    bytes: usize,
    /// Its mapping; `None` for a small one, which lies in the heap.
    mapping: Option<usize>,
    /// Bytes that are counted under its name: those that are resident.
    counted: usize,
}

/// What a process holds, from a moment on at which it held `base` bytes.
pub(super) struct Ledger {
    pool: Pool,
    /// Resident bytes of the mappings, in use or kept, that were made here.
    resident: HashMap<usize, usize>,
    next: usize,
    base: usize,
    /// Bytes in the heap, and the most there have been: it does not shrink.
    heap: [usize; 2],
    /// Pages of files.
    files: usize,
    /// Bytes of mappings, used and kept.
    mapped: usize,
    by_name: BTreeMap<&'static str, usize>,
    at: &'static str,
    /// The most by what was done.
    held: BTreeMap<&'static str, usize>,
    peak: usize,
    peak_point: Point,
}

/// What a process holds at its fullest.
pub(super) struct Held {
    /// The moment, and what is there.
    pub peak: Point,
    /// The most bytes while each thing is done.
    pub by_stage: BTreeMap<&'static str, usize>,
}

impl Ledger {
    /// A process that holds `base` bytes in all, and of large buffers what `pool` says.
    pub fn new(base: usize, pool: Pool) -> Self {
        let mut ledger = Self {
            resident: pool.free().iter().copied().collect(),
            pool,
            next: 0,
            base,
            heap: [0; 2],
            files: 0,
            mapped: 0,
            by_name: BTreeMap::new(),
            at: "open",
            held: BTreeMap::new(),
            peak: 0,
            peak_point: Point { at: "open", parts: Vec::new() },
        };
        ledger.mapped = ledger.resident.values().sum();
        // What is kept already is part of the base.
        ledger.base = base.saturating_sub(ledger.mapped);
        ledger.look();
        ledger
    }

    /// What is done from here on.
    pub fn at(&mut self, at: &'static str) {
        self.at = at;
    }

    /// A buffer that is filled.
    pub fn take(&mut self, name: &'static str, bytes: usize) -> Block {
        self.touched(name, bytes, bytes)
    }

    /// A buffer of zeros, of which `touched` bytes are written or read before it goes. Zeros in fresh pages take no memory.
    pub fn touched(&mut self, name: &'static str, bytes: usize, touched: usize) -> Block {
        let mut counted = bytes;
        let mapping = (bytes >= LARGE).then(|| {
            let class = Pool::class(bytes);
            let (address, touched) = match self.pool.request(class) {
                Some(address) => (address, bytes),
                None => {
                    self.give_back(None);
                    // Real addresses are even.
                    self.next += 2;
                    (self.next - 1, touched)
                }
            };
            let now = touched.next_multiple_of(HUGE).min(class);
            let before = self.resident.get(&address).copied().unwrap_or(0);
            self.mapped += now.max(before) - before;
            self.resident.insert(address, now.max(before));
            counted = bytes.min(now.max(before));
            address
        });
        if mapping.is_none() {
            self.heap[0] += bytes;
            self.heap[1] = self.heap[1].max(self.heap[0]);
        }
        *self.by_name.entry(name).or_default() += counted;
        self.look();
        Block { name, bytes, mapping, counted }
    }

    /// Gives a buffer back.
    pub fn free(&mut self, block: Block) {
        if let Some(bytes) = self.by_name.get_mut(block.name) {
            *bytes -= block.counted;
        }
        let Some(address) = block.mapping else {
            self.heap[0] -= block.bytes;
            return;
        };
        let leaving = self.pool.release((address, Pool::class(block.bytes)));
        self.give_back(leaving);
    }

    /// What the allocator gives back to the system.
    fn give_back(&mut self, mut leaving: Option<(usize, usize)>) {
        while let Some((address, _)) = leaving.take().or_else(|| self.pool.evict_excess()) {
            self.mapped -= self.resident.remove(&address).unwrap_or(0);
        }
    }

    /// Gives buffers back, the last one first, as locals go.
    pub fn free_all(&mut self, blocks: Vec<Block>) {
        blocks.into_iter().rev().for_each(|block| self.free(block));
    }

    /// Pages of a file are touched.
    pub fn file(&mut self, bytes: usize) {
        self.files += bytes;
        self.look();
    }

    /// Pages of a file are given back.
    pub fn close(&mut self, bytes: usize) {
        self.files -= bytes;
    }

    fn look(&mut self) {
        let now = self.base + self.mapped + self.heap[1] + self.files;
        let held = self.held.entry(self.at).or_default();
        *held = now.max(*held);
        if now <= self.peak {
            return;
        }
        self.peak = now;
        let mut parts = vec![part("program and what is open", self.base), part("pages of files", self.files)];
        parts.extend(self.by_name.iter().map(|(name, &bytes)| part(name, bytes)));
        let rest = self.mapped + self.heap[1] - self.by_name.values().sum::<usize>().min(self.mapped + self.heap[1]);
        parts.push(part("kept for the next request", rest));
        parts.retain(|part| part.bytes > 0);
        self.peak_point = Point { at: self.at, parts };
    }

    /// The moment with the most memory, and what was held then.
    pub fn finish(self) -> Held {
        Held { peak: self.peak_point, by_stage: self.held }
    }
}

fn part(name: &'static str, bytes: usize) -> Part {
    Part { name, bytes: bytes as u64 }
}
