//! Operations and bytes of each part of a run, as formulas of the shapes.

use std::ops::Range;

use super::Measurement;
use super::sheet::{Block, Linear, Sheet};
use crate::pipeline::shapes::activations;
use crate::plan::{Curvature, Recipe};
use crate::reconstruct::Settings;
use crate::report::Stage;

/// Work of a part of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Work {
    /// Additions and multiplications.
    pub operations: f64,
    /// Bytes that go through memory, on the GPU where the part runs there: each operand read once, each result written
    /// once.
    pub moved: f64,
    /// Bytes between host and GPU, where there is one.
    pub carried: f64,
    /// Bytes read from the input's files.
    pub read: f64,
    /// Bytes written to the output's, and to the file of activations.
    pub written: f64,
}

impl Work {
    pub fn add(&mut self, other: Work) {
        self.operations += other.operations;
        self.moved += other.moved;
        self.carried += other.carried;
        self.read += other.read;
        self.written += other.written;
    }
}

/// All parts, in the order of a run's report.
pub(super) const STAGES: [Stage; 10] = [
    Stage::Read,
    Stage::Forward,
    Stage::Gram,
    Stage::Factor,
    Stage::Sweep,
    Stage::Error,
    Stage::Pack,
    Stage::Write,
    Stage::Check,
    Stage::Train,
];

const F32: f64 = size_of::<f32>() as f64;

impl Sheet<'_> {
    /// The work of a part. `held`: activations of all windows stay where blocks run, and need not be carried there.
    pub(super) fn work(&self, stage: Stage, held: bool) -> Work {
        let mut work = Work::default();
        for (i, block) in self.blocks.iter().enumerate() {
            work.add(self.of_block(stage, block, i + 1 == self.blocks.len(), held));
        }
        let outer = self.outer.iter().flatten();
        match stage {
            Stage::Write => {
                let written = outer.map(|t| t.written as f64).sum();
                // Activations that wait in a file are written before the first block and after each but the last.
                let spilled = self.spilled() as f64 * self.blocks.len() as f64;
                work.add(Work { written: written + spilled, moved: written, ..Work::default() });
            }
            Stage::Read => {
                let read = outer.map(|t| t.read as f64).sum::<f64>();
                work.add(Work { read, moved: 2.0 * read, ..Work::default() });
            }
            Stage::Check => {
                let written = self.written() as f64;
                work.add(Work { moved: written, ..Work::default() });
            }
            _ => {}
        }
        work
    }

    fn of_block(&self, stage: Stage, block: &Block<'_>, is_last: bool, held: bool) -> Work {
        let linears = &block.linears;
        let weights = |l: &Linear<'_>| l.weights() as f64;
        let all: f64 = linears.iter().map(weights).sum();
        let made = || linears.iter().filter(|l| l.made.is_some());
        let chosen: f64 = made().map(weights).sum();
        let rest: f64 = block.rest.iter().map(|t| t.read as f64).sum();
        let runs = self.windows > 0;
        let element = if self.precision == crate::Precision::F32 { F32 } else { 2.0 };
        match stage {
            // The weights for products, and those to compress.
            Stage::Read => {
                let bytes = |l: &Linear<'_>| l.read as f64;
                let stored: f64 = linears.iter().map(bytes).sum();
                let compressed: f64 = made().map(bytes).sum();
                let models = self.models() as f64;
                let products = if runs { models * (stored + all * (F32 + element)) } else { 0.0 };
                Work {
                    read: rest + compressed + if runs { models * stored } else { 0.0 },
                    moved: rest + compressed + F32 * chosen + products,
                    carried: if runs { element * all } else { 0.0 },
                    ..Work::default()
                }
            }
            Stage::Forward if runs => self.forward(block, is_last, held),
            Stage::Gram if runs => self.gram(block),
            Stage::Factor => {
                let mut work = Work::default();
                for f in (0..self.fans(linears)).filter(|&f| runs && self.need(linears, f) == Curvature::Full) {
                    let of_fan = || linears.iter().filter(|l| l.info.fan == f);
                    let n = of_fan().next().map_or(0.0, |l| l.info.cols as f64);
                    let times = self.preparations(linears, f) as f64;
                    work.add(Work {
                        operations: times * 2.0 / 3.0 * n * n * n,
                        moved: times * 3.0 * F32 * n * n,
                        ..Work::default()
                    });
                    if self.dense {
                        let shifted: f64 = of_fan().filter(|l| l.made.is_some()).map(weights).sum();
                        work.operations += n * n * n / 3.0 + 4.0 * shifted * n;
                        work.moved += 2.0 * F32 * (n * n + 3.0 * shifted);
                    }
                }
                work
            }
            Stage::Sweep => sweep(linears),
            Stage::Error if self.errors => {
                let full = |l: &&Linear<'_>| runs && self.need(linears, l.info.fan) == Curvature::Full;
                let mut work = Work::default();
                for l in made().filter(full) {
                    let n = l.info.cols as f64;
                    let moved = F32 * (weights(l) + n * n);
                    // And of some rows that of the baseline.
                    let baseline = l.info.rows.min(crate::compress::ROWS) as f64 * n;
                    let (operations, carried) = ((weights(l) + baseline) * n, F32 * (weights(l) + baseline));
                    work.add(Work { operations, moved, carried, ..Work::default() });
                }
                work
            }
            Stage::Pack => {
                let written: f64 = made().flat_map(|l| &l.written).map(|&bytes| bytes as f64).sum();
                let products = if runs { element * chosen } else { 0.0 };
                // Read for its bytes, for its digest, and to be laid out for products.
                Work { moved: 2.0 * F32 * chosen + written + products, carried: products, ..Work::default() }
            }
            Stage::Write => {
                let linears: f64 = linears.iter().flat_map(|l| &l.written).map(|&bytes| bytes as f64).sum();
                let written = linears + block.rest.iter().map(|t| t.written as f64).sum::<f64>();
                Work { written, moved: written, ..Work::default() }
            }
            Stage::Train if runs && chosen > 0.0 => {
                self.trains.map_or_else(Work::default, |steps| self.training(block, steps))
            }
            _ => Work::default(),
        }
    }

    /// The training of a block: three times a forward pass in each step, and looks at the windows that are held out.
    fn training(&self, block: &Block<'_>, steps: usize) -> Work {
        let Block { info, linears, .. } = block;
        let settings = Settings::new(steps, self.windows, self.precision);
        let weights: f64 = linears.iter().map(|l| l.weights() as f64).sum();
        let tokens = (settings.passes(steps, self.windows) * self.seqlen) as f64;
        Work {
            operations: 2.0 * tokens * (weights + (self.seqlen * info.attention.width()) as f64),
            // Gradients, masters and moments are read and written, and masters laid out for products.
            moved: F32 * (12.0 * steps as f64 * weights + 3.0 * tokens * activations(info, self.dim) as f64),
            ..Work::default()
        }
    }

    /// The Gram matrices of a block's fans, or their diagonals.
    fn gram(&self, block: &Block<'_>) -> Work {
        let linears = &block.linears;
        let tokens = self.tokens() as f64;
        let cols = |f: usize| linears.iter().find(|l| l.info.fan == f).map_or(0.0, |l| l.info.cols as f64);
        let batches = self.batches.len() as f64;
        let mut work = Work::default();
        for f in (0..self.fans(linears)).filter(|&f| self.need(linears, f) != Curvature::Flat) {
            let n = cols(f);
            let square = if self.need(linears, f) == Curvature::Full { n * n } else { n };
            let drift = if self.dense { n * (n + self.joined_rows(block, f) as f64) } else { 0.0 };
            work.add(Work {
                operations: (square + 2.0 * drift) * tokens,
                moved: F32 * (n * tokens + 2.0 * (square + drift) * batches),
                ..Work::default()
            });
        }
        work
    }

    /// A block's passes: as far as statistics need, and once more as it was compressed, but for the last block.
    fn forward(&self, block: &Block<'_>, is_last: bool, held: bool) -> Work {
        let Block { info, linears, .. } = block;
        let last = self.fans(linears);
        let tokens = self.tokens() as f64;
        let element = if self.precision == crate::Precision::F32 { F32 } else { 2.0 };
        let batches = self.batches.len() as f64;
        let hidden = F32 * tokens * self.dim as f64;
        let activations = activations(info, self.dim) as f64;
        // Keys that a query sees: half of the window.
        let attention = 2.0 * tokens * self.seqlen as f64 * info.attention.width() as f64;
        let pass = |fans: Range<usize>| {
            let of_pass = linears.iter().filter(|l| fans.contains(&l.info.fan));
            let weights: f64 = of_pass.map(|l| l.weights() as f64).sum();
            let share = fans.len() as f64 / last.max(1) as f64;
            let attends = fans.contains(&info.attention.after_fan);
            Work {
                operations: 2.0 * weights * tokens + if attends { attention } else { 0.0 },
                // Each of them is written by one operation and read by the next.
                moved: batches * element * weights + 2.0 * F32 * activations * tokens * share,
                carried: if held { 0.0 } else { hidden },
                ..Work::default()
            }
        };
        let mut work = Work::default();
        let models = self.compared();
        let step = if self.sequential { 1 } else { last.max(1) };
        let (first_of_mlp, down) = info.mlp.fans();
        let mut from = 0;
        for first in (0..last).step_by(step) {
            let Some(stop) = self.reaches(block, first..(first + step).min(last)) else { continue };
            (0..models).for_each(|_| work.add(pass(from..stop)));
            if self.holds {
                from = if stop == down && crate::compress::is_lean(info, self.tokens()) { first_of_mlp } else { stop };
            }
        }
        if !is_last {
            work.add(pass(from..last));
            // What the block makes of them goes back, too.
            work.carried += if held { 0.0 } else { hidden };
        }
        // Training needs what the last block makes, too.
        if self.models() > 1 && (!is_last || self.trains.is_some()) {
            work.add(pass(if self.dense { from } else { 0 }..last));
        }
        work
    }

    /// The work of a measurement, before and after.
    pub(super) fn measuring(&self, measured: &Measurement, vocab: usize) -> Work {
        let Measurement { tokens, predictions, length, passes } = measured;
        let (tokens, passes, head) = (*tokens as f64, *passes as f64, (self.dim * vocab) as f64);
        let mut work =
            Work { operations: 2.0 * head * *predictions as f64, moved: 2.0 * F32 * head, ..Work::default() };
        for block in &self.blocks {
            let weights: f64 = block.linears.iter().map(|l| l.weights() as f64).sum();
            let mixed = block.info.attention.width() as f64;
            work.add(Work {
                operations: 2.0 * weights * tokens + 2.0 * tokens * *length as f64 * mixed,
                moved: 2.0 * F32 * (passes * weights + activations(&block.info, self.dim) as f64 * tokens),
                read: passes * block.linears.iter().map(|l| l.read as f64).sum::<f64>(),
                ..Work::default()
            });
        }
        let once = work;
        work.add(once);
        work
    }

    /// Rows of a fan's output where it joins the activations between blocks, else 0.
    pub(super) fn joined_rows(&self, block: &Block<'_>, f: usize) -> usize {
        let joins = [block.info.attention.output_fan, block.info.mlp.fans().1].contains(&f);
        if joins { self.dim } else { 0 }
    }

    /// Fans of a block.
    pub(super) fn fans(&self, linears: &[Linear<'_>]) -> usize {
        linears.iter().map(|l| l.info.fan + 1).max().unwrap_or(0)
    }

    /// Curvature that the linears of a fan need.
    pub(super) fn need(&self, linears: &[Linear<'_>], f: usize) -> Curvature {
        let of_fan = linears.iter().filter(|l| l.info.fan == f);
        of_fan.filter_map(|l| Some(l.made.as_ref()?.need())).max().unwrap_or(Curvature::Flat)
    }

    /// True if masks or weights of a fan are searched after the sweep.
    pub(super) fn refines(&self, linears: &[Linear<'_>], f: usize) -> bool {
        let mut of_fan = linears.iter().filter(|l| l.info.fan == f).filter_map(|l| l.made.as_ref());
        of_fan.any(|made| made.recipe.refines())
    }

    /// The fan of a group whose input a pass has to reach for what is asked of it.
    fn reaches(&self, Block { info, linears, .. }: &Block<'_>, group: Range<usize>) -> Option<usize> {
        let asks = |f: &usize| {
            let mut of_fan = linears.iter().filter(|l| l.info.fan == *f).filter_map(|l| l.made.as_ref());
            of_fan.any(|made| made.ranges() || made.need() != Curvature::Flat)
        };
        // Keys and values are seen on the way to the fan that reads the attention.
        let output_fan = info.attention.output_fan;
        let cache = self.cache && group.contains(&output_fan);
        group.rev().find(asks).max(cache.then_some(output_fan))
    }

    /// Factors that a fan needs.
    pub(super) fn preparations(&self, linears: &[Linear<'_>], f: usize) -> usize {
        let mut recipes: Vec<&Recipe> = Vec::new();
        for made in linears.iter().filter(|l| l.info.fan == f).filter_map(|l| l.made.as_ref()) {
            if made.need() == Curvature::Full && !recipes.iter().any(|recipe| recipe.prepares_like(made.recipe)) {
                recipes.push(made.recipe);
            }
        }
        recipes.len()
    }
}

/// The sweeps of a block's linears.
fn sweep(linears: &[Linear<'_>]) -> Work {
    let mut work = Work::default();
    for (l, t) in linears.iter().filter_map(|l| Some((l, l.made.as_ref()?))) {
        let (weights, cols) = (l.weights() as f64, l.info.cols as f64);
        let full = t.moves();
        // Every slice reads and writes what lies to its right.
        let slices = if full { cols / t.slice(l.info.cols).max(1) as f64 } else { 1.0 };
        // A byte for each mark, and one for each code.
        let beside = if t.recipe.rounding.is_some() { 2.0 } else { 1.0 };
        // Products of the matrix with the Gram matrix, two operations an element.
        let refining = 2.0 * weights * cols * crate::methods::refining_products(t.recipe) as f64;
        work.add(Work {
            operations: refining + if full { weights * cols } else { weights },
            moved: F32 * weights * (1.0 + slices.max(1.0)) + 2.0 * weights,
            carried: if full { (2.0 * F32 + beside) * weights } else { 0.0 },
            ..Work::default()
        });
    }
    work
}
