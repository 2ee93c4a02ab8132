//! Host memory of a run: a bound by formulas of the shapes, on the CPU within a quarter of what runs take (tests/dry_run.rs).
//!
//! Three moments of a block are the fullest: when a batch goes through it for statistics, when a fan is shifted, and when it is compressed.
//! Writing the tensors outside the blocks is the fourth, for models with a large vocabulary. Buffers that are freed between
//! them are kept by the program's allocator for the next request, up to [`allocator::POOL_RESERVE`] bytes beyond what was in use:
//! also while the tensors outside the blocks are written at the end, so that the pages of their files come to the fullest moment's buffers.

use std::collections::BTreeMap;

use paring_kernels::device::PAGE_LOCKED;
use paring_kernels::{allocator, cholesky};
use paring_model::MlpInfo;

use super::sheet::{Block, Linear, Sheet, Tensor};
use crate::Precision;
use crate::compress;
use crate::pipeline::shapes::{self, Fan};
use crate::pipeline::vram::{Device, Part, Point};
use crate::plan::{Curvature, MaskSearch};

const F32: usize = size_of::<f32>();
/// Depth of the panels that faer's products pack for each thread.
const PACKED: usize = 512;
/// Bytes of small buffers, which the system's heap has, of each thread that works on blocks.
pub(super) const SMALL: usize = 2 << 20;
/// Bytes that come to a program after it has opened everything: its code that has not run yet.
pub(super) const UNSEEN: usize = 3 << 20;

fn part(name: &'static str, bytes: usize) -> Part {
    Part { name, bytes: bytes as u64 }
}

impl Sheet<'_> {
    /// The fullest moment of a run on the CPU, by a process that holds `base` bytes before it, `freed` of them in buffers that
    /// its allocator keeps.
    pub(super) fn host_peak(&self, base: usize, freed: usize) -> Point {
        let mut moments: Vec<Point> = self.blocks.iter().flat_map(|block| self.moments(block)).collect();
        moments.extend(self.outer.windows(2).map(|pair| Self::writing(&pair[0], &pair[1])));
        // Each buffer once, at its largest.
        let mut buffers: BTreeMap<&str, u64> = BTreeMap::new();
        for part in moments.iter().flat_map(|moment| &moment.parts) {
            let largest = buffers.entry(part.name).or_default();
            *largest = part.bytes.max(*largest);
        }
        let mut peak = moments.into_iter().max_by_key(Point::bytes).unwrap_or(Point { at: "open", parts: Vec::new() });
        let kept = freed + (buffers.into_values().sum::<u64>() - peak.bytes()) as usize;
        peak.parts.push(part("kept for the next request", kept.min(allocator::POOL_RESERVE)));
        peak.parts.push(part("pages of files", self.pages()));
        peak.parts.push(part("buffers of threads", self.threads * self.of_thread()));
        // A model that is part of the program leaves its pages with it.
        let model: usize = self.linears().map(|l| l.read).sum::<usize>() + self.copied().map(|t| t.read).sum::<usize>();
        let open = base.saturating_sub(freed) + UNSEEN + if self.built_in { model } else { 0 };
        peak.parts.push(part("program and what is open", open));
        peak.parts.retain(|part| part.bytes > 0);
        peak
    }

    /// Bytes of a weight, or of an input, as products have it.
    fn element(&self) -> usize {
        if self.precision == Precision::Bf16 { 2 } else { F32 }
    }

    /// The moments of a block.
    fn moments(&self, block: &Block<'_>) -> Vec<Point> {
        let (linears, runs) = (&block.linears, self.windows > 0);
        let fans = shapes::fans(&block.info.linears);
        let weights: usize = linears.iter().map(Linear::weights).sum();
        let written: usize = linears.iter().flat_map(|l| &l.written).sum();
        let squares = |f: usize| if self.need(linears, f) == Curvature::Full { F32 * fans[f].cols.pow(2) } else { 0 };
        let models = self.models();
        let held = if self.holds && runs { compress::held_width(&block.info, self.tokens()) } else { 0 };
        let always = [
            part("activations inside the block", models * F32 * self.tokens() * held),
            part("weights of the block", if runs { models * self.element() * weights } else { 0 }),
            part("activations of all windows", models * (F32 * self.tokens() * self.dim).min(self.resident)),
        ];
        let moment = |at, more: Vec<Part>| Point { at, parts: always.iter().cloned().chain(more).collect() };
        let mut moments = Vec::new();
        if runs {
            let tokens = self.seqlen * self.batches.iter().max().unwrap_or(&0);
            let widest = fans.iter().map(|fan| fan.cols).max().unwrap_or(0);
            let all: usize = (0..fans.len()).map(squares).sum();
            let largest = (0..fans.len()).map(squares).max().unwrap_or(0);
            // A copy of the inputs as products read them; f32 ones are read where they lie.
            let drift = |f| if self.dense { self.drift(block, &fans[f], f) } else { 0 };
            let drifts: usize = (0..fans.len()).map(drift).sum();
            let widest_drift = (0..fans.len()).map(drift).max().unwrap_or(0);
            let copy = if self.precision == Precision::F32 { 0 } else { self.element() * widest };
            moments.push(moment(
                "gram",
                vec![
                    part("Gram matrices", if self.sequential { largest } else { all }),
                    part("drift of inputs", if self.sequential { widest_drift } else { drifts }),
                    part("activations of a batch", self.compared() * tokens * (F32 * self.activations(block) + copy)),
                ],
            ));
        }
        if runs && self.trains.is_some() {
            // What a backward pass of a window keeps, and the gradients of its activations on the way.
            let of_window = 2 * self.seqlen * F32 * self.activations(block);
            moments.push(moment(
                "train",
                vec![
                    part("activations of a window and their gradients", of_window),
                    // Compressed, and as it trains: masters, the best state, two moments, gradients and the mask.
                    part("weights in training", (6 * F32 + 1) * weights),
                    part("weights laid out for products", F32 * weights),
                    part("shards", 2 * written),
                ],
            ));
        }
        for (f, fan) in fans.iter().enumerate() {
            let of_fan = || linears.iter().filter(|l| l.info.fan == f);
            // Fans that were compressed need theirs no more.
            let grams = if self.sequential { squares(f) } else { (f..fans.len()).map(squares).sum() };
            let factors = self.preparations(linears, f) * squares(f);
            moments.extend(
                self.dense
                    .then(|| self.shifting(block, (f, fan), (grams, factors)))
                    .map(|parts| moment("shift", parts)),
            );
            moments.push(moment(
                "sweep",
                vec![
                    part("Gram matrices", grams),
                    part("factor", factors),
                    part("workspace", if factors > 0 { self.workspace(fan.cols) } else { 0 }),
                    part("matrix of the search for masks", if self.refines(linears, f) { 2 * squares(f) } else { 0 }),
                    part("search for masks", of_fan().map(searched).max().unwrap_or(0)),
                    part("weights of a fan", of_fan().map(swept).sum()),
                    part("masks of a fan", if self.masks { of_fan().map(Linear::weights).sum() } else { 0 }),
                    part("weights in the sweep", of_fan().map(|l| F32 * l.weights()).max().unwrap_or(0)),
                    // What is made, and what is still being written.
                    part("shards", 2 * written),
                ],
            ));
        }
        moments
    }

    /// Bytes of a fan's drift.
    fn drift(&self, block: &Block<'_>, fan: &Fan, f: usize) -> usize {
        F32 * fan.cols * (fan.cols + self.joined_rows(block, f))
    }

    /// The buffers that are there as the weights of a fan are shifted: a factor in f64, and of one linear at a time its products in f32
    /// and f64. Where zeros of the input are to stay, which only its weights show, the matrix that others are fitted by, twice; what of
    /// the linear is there then is no more than before.
    fn shifting(&self, block: &Block<'_>, (f, fan): (usize, &Fan), (grams, factors): (usize, usize)) -> Vec<Part> {
        let made = || block.linears.iter().filter(|l| l.info.fan == f).filter_map(|l| Some((l, l.made.as_ref()?)));
        let of_fan = || made().map(|(l, _)| l.weights());
        let square = F32 * fan.cols * fan.cols;
        let written: usize = block.linears.iter().flat_map(|l| &l.written).sum();
        let keeps_zeros = made().any(|(_, made)| made.recipe.pattern.is_none());
        vec![
            part("Gram matrices", grams),
            part("factor", factors),
            part("matrix of the search for masks", if self.refines(&block.linears, f) { 2 * square } else { 0 }),
            part("drift of inputs", self.drift(block, fan, f)),
            part("matrix of the shift", square * if keeps_zeros { 5 } else { 3 }),
            part("weights of a fan", F32 * of_fan().sum::<usize>()),
            part("weights that are shifted", 5 * F32 * of_fan().max().unwrap_or(0)),
            part("shards", 2 * written),
        ]
    }

    /// Numbers of a token that a block holds at once: where there is a gate, the attention's are gone when the MLP begins.
    fn activations(&self, block: &Block<'_>) -> usize {
        let fans = shapes::fans(&block.info.linears);
        let rotated = block.info.attention.rotated();
        let sum = |fans: &[Fan]| fans.iter().map(|fan| fan.cols + fan.rows).sum::<usize>();
        let MlpInfo::Gated { fan: gate, .. } = block.info.mlp else { return sum(&fans) + rotated + self.dim };
        let (attention, mlp) = (sum(&fans[..gate]) + rotated, sum(&fans[gate..]));
        // A gate's product in bfloat16 is never stored.
        let stored = if self.precision == Precision::Bf16 { mlp - fans[gate].rows } else { mlp };
        attention.max(stored) + self.dim
    }

    /// Bytes that a factor of `cols` columns takes beside it: up to 512 columns a copy, two triangles in f64 and the panels
    /// that faer packs, above that a triangle in f32; then a copy of the Gram matrix for the layers' errors.
    fn workspace(&self, cols: usize) -> usize {
        let triangles = match cols <= cholesky::SMALL {
            true => 5 * F32 * cols * cols + self.threads * cols * PACKED.min(cols) * size_of::<f64>(),
            false => F32 / 2 * cols * cols,
        };
        triangles.max(self.element() * cols * cols)
    }

    /// Tensors that are copied to a shard while the one before is written.
    fn writing(before: &[Tensor], tensors: &[Tensor]) -> Point {
        let shards = before.iter().chain(tensors).map(|t| t.written).sum();
        Point { at: "write", parts: vec![part("shards", shards)] }
    }

    /// Bytes of the largest tensor outside the blocks, whose pages are there while it is copied; those of a model that is part of the
    /// program are counted with it.
    fn pages(&self) -> usize {
        let largest = self.outer.iter().flatten().map(|t| t.read).max().unwrap_or(0);
        if self.built_in { 0 } else { largest }
    }

    /// Bytes that a thread keeps to the end: small buffers, and the panels that faer packed for it.
    fn of_thread(&self) -> usize {
        if self.windows == 0 {
            return 0;
        }
        let full = |linear: &&Linear<'_>| linear.made.as_ref().is_some_and(|made| made.need() == Curvature::Full);
        let cols = self.linears().filter(full).map(|linear| linear.info.cols).max().unwrap_or(0);
        SMALL + size_of::<f64>() * cols * PACKED.min(cols)
    }

    /// Host memory of a run whose blocks and sweeps are on `device`, for a process that holds `base` bytes
    /// before it.
    pub(super) fn beside(&self, base: usize, device: &Device) -> Point {
        let hidden = if device.holds_activations { 0 } else { F32 * self.tokens() * self.dim };
        let most = |of_block: &dyn Fn(&[Linear<'_>]) -> usize| {
            self.blocks.iter().map(|block| of_block(&block.linears)).max().unwrap_or(0)
        };
        let of_fan =
            |linears: &[Linear<'_>], f: usize| -> usize { linears.iter().filter(|l| l.info.fan == f).map(swept).sum() };
        let fan = most(&|linears| (0..self.fans(linears)).map(|f| of_fan(linears, f)).max().unwrap_or(0));
        // The next block is read while this one is worked on: one matrix at a time as stored and in f32.
        let coming = most(&|linears| linears.iter().map(|l| l.read + F32 * l.weights()).max().unwrap_or(0));
        let shard = most(&|linears| linears.iter().flat_map(|l| &l.written).sum());
        // Blocks are uploaded through one buffer, and sweeps on the device copy through another one.
        let sweeps =
            self.linears().filter_map(|linear| linear.made.as_ref()).any(|made| made.need() == Curvature::Full);
        // Masks are searched on the CPU, of the linears that the device sweeps together.
        let search = most(&|linears| {
            let of_fan = |f: usize| {
                let searched: usize = linears.iter().filter(|l| l.info.fan == f).map(searched).sum();
                let cols = linears.iter().find(|l| l.info.fan == f).map_or(0, |l| l.info.cols);
                searched + if self.refines(linears, f) { 2 * F32 * cols * cols } else { 0 }
            };
            (0..self.fans(linears)).map(of_fan).max().unwrap_or(0)
        });
        let locked = if self.windows == 0 { 0 } else { PAGE_LOCKED * if sweeps { 2 } else { 1 } };
        let mut parts = vec![
            part("program and what is open", base),
            part("activations of all windows", hidden.min(self.resident)),
            part("weights of a fan", fan),
            part("search for masks", search),
            part("weights of the next block", coming),
            part("shards", 2 * shard),
            part("page-locked buffers", locked),
        ];
        parts.retain(|part| part.bytes > 0);
        Point { at: "a block", parts }
    }
}

/// Bytes that a search for masks has of a linear: as the sweep left it, a zero for each weight, and for ADMM its three sets.
fn searched(linear: &Linear<'_>) -> usize {
    let recipe = linear.made.as_ref().map(|made| made.recipe).filter(|recipe| recipe.refines());
    recipe.map_or(0, |recipe| linear.weights() * if recipe.mask == MaskSearch::Admm { 6 * F32 } else { 2 * F32 + 1 })
}

/// Bytes of a linear as it was, as the sweep left it, as the file will hold it, and its marks.
fn swept(linear: &Linear<'_>) -> usize {
    linear.weights() * if linear.made.as_ref().is_some_and(|made| made.coded) { 10 } else { 13 }
}
