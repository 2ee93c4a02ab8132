//! A run on paper: what is asked for and given back on the host, in the order of `compress/mod.rs` and `walk.rs`.

use paring_kernels::allocator::Pool;
use paring_kernels::device::PAGE_LOCKED;
use paring_kernels::workspace;

use super::ledger::{Block, Held, Ledger};
use super::sheet::{Linear, Sheet, Tensor};
use crate::pipeline::shapes::{is_gate, is_turned};
use crate::pipeline::vram::{Device, Part};
use crate::plan::Curvature;

const F32: usize = size_of::<f32>();
/// Bytes after which pages of a file that is compared are given back (`checkpoint/shard.rs`).
const LOOKED_AT: usize = 4 << 20;

impl Sheet {
    /// The moment of a run at which a process holds most, that held `base` bytes when it began, of which `pool` says what
    /// large buffers there are.
    pub(super) fn held(&self, base: usize, pool: Pool) -> Held {
        let mut ledger = Ledger::new(base, pool);
        let mut hidden = self.embed(&mut ledger);
        if self.uses_faer() {
            // One for each thread of the pool, of which the thread of the walk is one.
            let (bytes, touched) = self.slab;
            let slabs: Vec<Block> =
                (0..self.threads).map(|_| ledger.touched("scratch of products", bytes, touched)).collect();
            self.rest(&mut ledger, &mut hidden);
            ledger.free_all(slabs);
        } else {
            self.rest(&mut ledger, &mut hidden);
        }
        ledger.finish()
    }

    /// Whether products or factors are faer's.
    fn uses_faer(&self) -> bool {
        let mut linears = self.blocks.iter().flat_map(|block| &block.linears);
        let product = self.windows > 0 && !workspace::weight(1, 1, self.precision).1;
        // Small factors are faer's.
        let small = |linear: &Linear| workspace::factor(linear.info.cols)[0] > 0;
        product || linears.any(|l| small(l) && l.made.as_ref().is_some_and(|made| made.need == Curvature::Full))
    }

    /// A run once its activations are there.
    fn rest(&self, ledger: &mut Ledger, hidden: &mut Vec<Option<Block>>) {
        // The shard that is on its way to the disk.
        let mut behind: Vec<Block> = Vec::new();
        for (i, block) in self.blocks.iter().enumerate() {
            let mut shard = Vec::new();
            let mut loaded = (self.windows > 0)
                .then(|| self.load(ledger, &block.linears).into_iter().map(Some).collect::<Vec<Option<Block>>>());
            self.compress(ledger, block, &mut loaded, &mut shard);
            ledger.at("write");
            shard.extend(self.copies(ledger, &block.rest));
            // Whoever brings a shard waits until the one before is written.
            ledger.free_all(std::mem::replace(&mut behind, shard));
            if let Some(loaded) = loaded {
                if i + 1 < self.blocks.len() {
                    ledger.at("forward");
                    self.advance(ledger, &block.linears, hidden);
                }
                // It is written long before the activations are through.
                ledger.free_all(std::mem::take(&mut behind));
                loaded.into_iter().flatten().for_each(|weights| ledger.free(weights));
            }
        }
        hidden.drain(..).flatten().for_each(|batch| ledger.free(batch));
        ledger.at("write");
        for tensors in &self.outer {
            // A shard goes to the system faster than the next tensor comes out of a mapped file.
            ledger.free_all(std::mem::take(&mut behind));
            behind = self.copies(ledger, tensors);
        }
        ledger.free_all(behind);
        self.check(ledger);
    }

    /// The activations that enter the first block, batch by batch; `None` for one that waits in a file.
    fn embed(&self, ledger: &mut Ledger) -> Vec<Option<Block>> {
        ledger.at("forward");
        let mut all = 0;
        let mut hidden = Vec::new();
        for windows in &self.batches {
            let bytes = F32 * windows * self.seqlen * self.dim;
            all += bytes;
            let batch = ledger.take("activations of all windows", bytes);
            hidden.push(if all > self.resident {
                self.spill(ledger, bytes);
                ledger.free(batch);
                None
            } else {
                Some(batch)
            });
        }
        hidden
    }

    /// A batch on its way to or from its file.
    fn spill(&self, ledger: &mut Ledger, bytes: usize) {
        let both = [ledger.take("activations on their way", bytes), ledger.take("activations on their way", bytes)];
        ledger.free_all(both.into());
    }

    /// Statistics of the fans, and then each fan.
    fn compress(
        &self,
        ledger: &mut Ledger,
        block: &super::sheet::Block,
        loaded: &mut Option<Vec<Option<Block>>>,
        shard: &mut Vec<Block>,
    ) {
        let linears = &block.linears;
        let fans = self.fans(linears);
        let of = |f: usize| linears.iter().enumerate().filter(move |(_, l)| l.info.fan == f);
        let need = |f: usize| self.need(linears, f);
        let step = if self.sequential { 1 } else { fans.max(1) };
        for first in (0..fans).step_by(step) {
            let group = first..(first + step).min(fans);
            let mut grams: Vec<Option<Block>> = Vec::new();
            if self.windows > 0 {
                ledger.at("gram");
                for f in 0..fans {
                    let cols = of(f).next().map_or(0, |(_, l)| l.info.cols);
                    let wanted = group.contains(&f) && need(f) == Curvature::Full;
                    // Both halves are written in the end.
                    grams.push(wanted.then(|| ledger.take("Gram matrices", F32 * cols * cols)));
                }
                let last = self.reaches(block, group.clone());
                if let Some(last) = last {
                    for windows in &self.batches {
                        let tokens = windows * self.seqlen;
                        self.pass(ledger, linears, tokens, Some(last), &grams);
                    }
                }
            }
            for f in group {
                let fan: Vec<(usize, &Linear)> = of(f).collect();
                let gram = grams.get_mut(f).and_then(Option::take);
                self.fan(ledger, &fan, gram.is_some(), loaded.as_mut(), shard);
                gram.into_iter().for_each(|gram| ledger.free(gram));
            }
        }
    }

    /// Passes all batches through a block.
    fn advance(&self, ledger: &mut Ledger, linears: &[Linear], hidden: &mut [Option<Block>]) {
        for (windows, batch) in self.batches.iter().zip(hidden) {
            let tokens = windows * self.seqlen;
            let bytes = F32 * tokens * self.dim;
            if batch.is_none() {
                self.spill(ledger, bytes);
            }
            let out = self.pass(ledger, linears, tokens, None, &[]);
            match batch.take() {
                Some(before) => {
                    ledger.free(before);
                    *batch = out;
                }
                None => {
                    self.spill(ledger, bytes);
                    out.into_iter().for_each(|out| ledger.free(out));
                }
            }
        }
    }

    /// A batch of `tokens` through a block, to the input of fan `stop` or to the end, which is then returned. What the
    /// attention is made of goes behind it where the block has a gate, and else at the end, like all the rest.
    fn pass(
        &self,
        ledger: &mut Ledger,
        linears: &[Linear],
        tokens: usize,
        stop: Option<usize>,
        grams: &[Option<Block>],
    ) -> Option<Block> {
        const NAME: &str = "activations of a batch";
        let fans = self.fans(linears);
        let paired = workspace::weight(1, 1, self.precision).1;
        let gate = linears.iter().find(|l| is_gate(&l.info.name)).map(|l| l.info.fan);
        let mut held: Vec<Block> = Vec::new();
        let take = |ledger: &mut Ledger, width: usize| ledger.take(NAME, F32 * tokens * width);
        for f in 0..fans {
            let of_fan = || linears.iter().filter(|l| l.info.fan == f);
            let cols = of_fan().next().map_or(0, |l| l.info.cols);
            let input = take(ledger, cols);
            if f == 1 && gate.is_some() {
                ledger.free_all(std::mem::take(&mut held));
            }
            if grams.get(f).is_some_and(Option::is_some) {
                let scratch = ledger.take("scratch of products", workspace::gram(tokens, cols, self.precision));
                ledger.free(scratch);
            }
            if stop == Some(f) {
                held.push(input);
                break;
            }
            let (each, once) = workspace::product(tokens, cols, self.precision);
            let mut scratch = vec![ledger.take("scratch of products", once)];
            // Products that go through the gate at once are not stored.
            if !(paired && gate == Some(f)) {
                of_fan().for_each(|linear| held.push(take(ledger, linear.info.rows)));
            }
            scratch.extend((0..self.threads).map(|_| ledger.take("scratch of products", each)));
            ledger.free_all(scratch);
            if f == 0 && gate.is_some() {
                ledger.free(input);
            } else {
                // Before what it became, which may be the result.
                held.insert(held.len().saturating_sub(1), input);
            }
            if f == 0 {
                of_fan().filter(|l| is_turned(&l.info.name)).for_each(|l| held.push(take(ledger, l.info.rows)));
                let values = of_fan().map(|l| l.info.rows).min().unwrap_or(0);
                let panels = ledger.take("scratch of products", workspace::attention(tokens, values, self.precision));
                ledger.free(panels);
            }
            // After the attention, and at the end, the sum: the product itself, or another one.
            if !paired && (f == 1 || f + 1 == fans) {
                let sum = take(ledger, self.dim);
                held.pop().into_iter().for_each(|product| ledger.free(product));
                held.push(sum);
            }
        }
        let out = if stop.is_none() { held.pop() } else { None };
        ledger.free_all(held);
        out
    }

    /// Tensors that are copied from the input to a shard.
    fn copies(&self, ledger: &mut Ledger, tensors: &[Tensor]) -> Vec<Block> {
        let mut shard = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            ledger.file(tensor.read);
            shard.push(ledger.take("shard", tensor.written.max(tensor.read)));
            if !self.built_in {
                ledger.close(tensor.read);
            }
        }
        shard
    }

    /// The output, read back by all threads. What is dense is looked at where it lies.
    fn check(&self, ledger: &mut Ledger) {
        ledger.at("check");
        let mut coded: Vec<&Linear> = self.blocks.iter().flat_map(|block| &block.linears).collect();
        coded.retain(|linear| linear.made.as_ref().is_some_and(|made| made.coded));
        coded.sort_by_key(|linear| std::cmp::Reverse(linear.weights()));
        let looked_at = (LOOKED_AT * self.threads).min(self.written() as usize);
        ledger.file(looked_at);
        let mut held = Vec::new();
        for linear in coded.into_iter().take(self.threads) {
            let bytes: usize = linear.written.iter().sum();
            held.extend(linear.written.iter().map(|&bytes| ledger.take("bytes of a file", bytes)).collect::<Vec<_>>());
            ledger.file(bytes);
            ledger.close(bytes);
            held.push(ledger.take("codes", linear.weights()));
            let made = linear.made.as_ref();
            let grids = made.map_or(0, |made| F32 * linear.info.rows * made.groups);
            held.push(ledger.take("grids", grids));
            if made.is_some_and(|made| made.spqr.is_some()) {
                held.push(ledger.take("weights as read", F32 * linear.weights()));
            }
        }
        ledger.free_all(held);
        ledger.close(looked_at);
    }
}

impl Sheet {
    /// What lies on the host of a run whose blocks and sweeps are on `device`, beside the program.
    pub(super) fn beside(&self, device: &Device) -> Vec<Part> {
        let hidden = if device.holds_activations { 0 } else { F32 * self.tokens() * self.dim };
        let most = |of_block: &dyn Fn(&[Linear]) -> usize| {
            self.blocks.iter().map(|block| of_block(&block.linears)).max().unwrap_or(0)
        };
        // As they were, as the sweep left them, as the file will hold them, and the marks.
        let of_fan = |linears: &[Linear], f: usize| -> usize {
            let each = |l: &Linear| l.weights() * if l.made.as_ref().is_some_and(|m| m.coded) { 10 } else { 13 };
            linears.iter().filter(|l| l.info.fan == f).map(each).sum()
        };
        let fan = most(&|linears| (0..self.fans(linears)).map(|f| of_fan(linears, f)).max().unwrap_or(0));
        // The next block is read while this one is worked on: one matrix at a time as stored and in f32.
        let coming = most(&|linears| linears.iter().map(|l| l.read + F32 * l.weights()).max().unwrap_or(0));
        let shard = most(&|linears| linears.iter().flat_map(|l| &l.written).sum());
        let part = |name, bytes: usize| Part { name, bytes: bytes as u64 };
        let waits = hidden.min(self.resident);
        // Blocks are uploaded through one buffer, and sweeps on the device copy through another one.
        let mut made = self.blocks.iter().flat_map(|block| &block.linears).filter_map(|linear| linear.made.as_ref());
        let sweeps = made.any(|made| made.need == Curvature::Full);
        let locked = if self.windows == 0 { 0 } else { PAGE_LOCKED * if sweeps { 2 } else { 1 } };
        vec![
            part("activations of all windows", waits),
            part("weights of a fan", fan),
            part("weights of the next block", coming),
            part("shards", 2 * shard),
            part("page-locked buffers", locked),
        ]
    }
}
