//! Compares each linear's error with that of plain rounding or pruning by magnitude, and optionally falls back to it.

use paring_format::message;
use paring_format::message::Message;
use paring_kernels::gram::Quadratic;
use paring_kernels::square_matrix::SquareMatrix;
use paring_kernels::sweep::largest;
use rayon::prelude::*;

use crate::methods::{Matrix, Outcome, Prepared, Stored};
use crate::pipeline::stats::Stats;
use crate::plan::Opt;
use crate::plan::{Plan, Recipe};
use crate::{Precision, Result};

/// Rows of a linear that its baseline is measured on at first.
pub(crate) const ROWS: usize = 256;
/// The share of the baseline's loss by which the sweep's must be smaller where the baseline was measured on some rows only.
const SAMPLE_MARGIN: f64 = 0.25;
/// The same for sums over all rows in the precision of the run, which may be bfloat16.
const EXACT_MARGIN: f64 = 0.02;
/// Sums in f32 may be off by this share: losses that are nearer to each other count as equal.
const TIE: f64 = 1e-4;

/// The estimated loss of a baseline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    lost: f64,
    /// Rows that it was measured on.
    pub rows: usize,
    /// True if those are all.
    all: bool,
}

/// A Gram matrix to measure with.
pub(super) struct Measure<'a> {
    gram: &'a SquareMatrix,
    quadratic: Quadratic<'a>,
}

/// The errors of a linear and of its baseline, tr(ΔW·H·ΔWᵀ) as shares of tr(W·H·Wᵀ).
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Judgement {
    pub error: Option<f64>,
    pub baseline: Option<f64>,
    /// True if the outcome is the baseline's now.
    pub fallback: bool,
    /// A note for the user.
    pub note: Option<Message>,
}

impl<'a> Measure<'a> {
    /// With products that round their inputs so. Takes a copy of the matrix, of 2 bytes an element in bfloat16.
    fn new(gram: &'a SquareMatrix, precision: Precision) -> Result<Self> {
        Ok(Self { gram, quadratic: Quadratic::new(gram, precision)? })
    }

    /// For a plan that measures errors; `None` for others, and where the statistics are no Gram matrix.
    pub fn of(stats: Option<&'a Stats>, plan: &Plan) -> Result<Option<Self>> {
        match stats {
            Some(Stats::Gram(gram)) if !plan.skip_out_loss => Self::new(gram, plan.precision).map(Some),
            _ => Ok(None),
        }
    }

    /// tr(ΔW·H·ΔWᵀ) of what `dense` was made of.
    fn loss(&self, weight: &[f32], mut dense: Vec<f32>) -> Result<f64> {
        dense.iter_mut().zip(weight).for_each(|(made, w)| *made -= w);
        Ok(self.quadratic.trace(&dense)?)
    }

    /// Estimates the loss of a recipe's baseline on a matrix of `cols` columns; `None` where there is none. Where rows have
    /// nothing in common it is measured on up to 256 of them, evenly spread, and scaled by their share of Σ w².
    pub fn expected(
        &self,
        recipe: &Recipe,
        matrix: &Matrix<'_>,
        cols: usize,
        prepared: &Prepared,
    ) -> Result<Option<Expected>> {
        let rows = matrix.weight.len() / cols;
        let sample = recipe.rows_apart(rows, cols).filter(|&height| rows >= 2 * height && rows > ROWS);
        let Some(height) = sample else {
            let lost = self.baseline(recipe, matrix, cols, prepared)?;
            return Ok(lost.map(|lost| Expected { lost, rows, all: true }));
        };
        let pieces = matrix.weight.chunks(height * cols);
        let step = pieces.len().div_ceil(ROWS.div_ceil(height));
        let some: Vec<f32> = pieces.step_by(step).flatten().copied().collect();
        // What all rows share is that of all.
        let amax = matrix.stored.amax.or_else(|| recipe.shares_amax().then(|| largest(&matrix.weight)));
        let given =
            matrix.given.map(|given| given.chunks(height * cols).step_by(step).flatten().copied().collect::<Vec<u8>>());
        let part = Matrix::new(&some, Stored { amax, ..matrix.stored }, matrix.module).under(given.as_deref());
        let lost = self.baseline(recipe, &part, cols, prepared)?;
        let share = squares(&matrix.weight) / squares(&some).max(f64::MIN_POSITIVE);
        Ok(lost.map(|lost| Expected { lost: lost * share, rows: some.len() / cols, all: false }))
    }

    /// The loss of a recipe's baseline on a matrix of `cols` columns.
    fn baseline(&self, recipe: &Recipe, matrix: &Matrix<'_>, cols: usize, prepared: &Prepared) -> Result<Option<f64>> {
        let made = recipe.compress_baseline(matrix, cols, prepared)?;
        // The codes are gone before the products.
        made.map(|outcome| self.loss(&matrix.weight, outcome.into_dense())).transpose()
    }

    /// tr(W·H·Wᵀ).
    pub fn total(&self, weight: &[f32]) -> Result<f64> {
        Ok(self.quadratic.trace(weight)?)
    }

    /// Holds the outcome of a sweep to what its baseline loses, and with `replace` puts the baseline's in its place where
    /// it lost more. `total` is tr(W·H·Wᵀ).
    ///
    /// Where the two are near, or the sweep's own sums don't tell, the baseline is measured on all rows, and then both
    /// directly and in f32: another rows·cols² operations each time.
    pub fn judge(
        &self,
        recipe: &Recipe,
        matrix: &Matrix<'_>,
        prepared: &Prepared,
        (expected, total): (Option<Expected>, f64),
        outcome: &mut Outcome,
        replace: bool,
    ) -> Result<Judgement> {
        let share = |lost: f64| if total > 0.0 { lost / total } else { 0.0 };
        let Some(lost) = outcome.distortion else { return Ok(Judgement::default()) };
        let (Some(mut expected), Some(words)) = (expected, recipe.baseline()) else {
            return Ok(Judgement { error: Some(share(lost)), ..Judgement::default() });
        };
        let cols = outcome.compressed.cols;
        // All comparisons below are false for NaN.
        let told = outcome.told_distortion().is_some();
        let far = |expected: &Expected| {
            told && lost <= (1.0 - if expected.all { EXACT_MARGIN } else { SAMPLE_MARGIN }) * expected.lost
        };
        if !far(&expected)
            && !expected.all
            && let Some(lost) = self.baseline(recipe, matrix, cols, prepared)?
        {
            expected = Expected { lost, all: true, ..expected };
        }
        if far(&expected) {
            let baseline = Some(share(expected.lost));
            return Ok(Judgement { error: Some(share(lost)), baseline, ..Judgement::default() });
        }
        let exact = Measure::new(self.gram, Precision::F32)?;
        let lost = exact.loss(&matrix.weight, outcome.dense().to_vec())?;
        let Some(mut other) = recipe.compress_baseline(matrix, cols, prepared)? else {
            return Ok(Judgement::default());
        };
        let expected = exact.loss(&matrix.weight, other.dense().to_vec())?;
        let (error, baseline) = (share(lost), share(expected));
        let judged = Judgement { error: Some(error), baseline: Some(baseline), ..Judgement::default() };
        if lost <= (1.0 + TIE) * expected || !expected.is_finite() {
            return Ok(judged);
        }
        if !replace {
            let note =
                format!("{}: its error, {error:.3e}, is larger than that of {words}, {baseline:.3e}; ", matrix.module);
            let note = message![note, Opt::AllowFallback, " stores the better one"];
            return Ok(Judgement { note: Some(note), ..judged });
        }
        let note = format!(
            "{}: stored by {words} (error {baseline:.3e}), because the error of {} was larger ({error:.3e})",
            matrix.module, recipe.method
        );
        other.seconds = outcome.seconds;
        *outcome = other;
        Ok(Judgement { error: Some(baseline), fallback: true, note: Some(note.into()), ..judged })
    }
}

/// Σ w², in pieces that are added in order.
fn squares(weight: &[f32]) -> f64 {
    let square = |piece: &[f32]| piece.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
    let pieces: Vec<f64> = weight.par_chunks(1 << 16).map(square).collect();
    pieces.iter().sum()
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use paring_format::Dtype;
    use paring_kernels::gram::Gram;

    use super::*;
    use crate::plan::method::{GPTQ, SPARSEGPT};
    use crate::plan::{Pattern, Rounding};

    const COLS: usize = 32;

    fn recipe(pattern: Option<Pattern>) -> Recipe {
        let (method, rounding) = match pattern {
            Some(_) => (&SPARSEGPT, None),
            None => (&GPTQ, Some(Rounding::int(3, Some(16)))),
        };
        Recipe { pattern, rounding, blocksize: 16, ..Recipe::new(method) }
    }

    fn values(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next() + next() * next()).collect()
    }

    fn stats() -> Stats {
        let x = Tensor::from_vec(values(200 * COLS, 1), (200, COLS), &Device::Cpu).unwrap();
        let mut gram = Gram::new(COLS, Precision::F32);
        gram.add(&x).unwrap();
        Stats::Gram(gram.finish(2.0).unwrap())
    }

    fn matrix(weight: &[f32]) -> Matrix<'_> {
        Matrix::new(weight, Stored::plain(Dtype::F32), "layer")
    }

    #[test]
    fn some_rows_stand_for_all() {
        let (stats, weight) = (stats(), values(1024 * COLS, 2));
        let Stats::Gram(gram) = &stats else { panic!("no Gram matrix") };
        let measure = Measure::new(gram, Precision::F32).unwrap();
        for pattern in [None, Some(Pattern::NofM { keep: 2, of: 4 }), Some(Pattern::Unstructured(0.5))] {
            let recipe = recipe(pattern);
            let prepared = recipe.prepare(Some(&stats), None, "layer").unwrap();
            let some = measure.expected(&recipe, &matrix(&weight), COLS, &prepared).unwrap().unwrap();
            assert_eq!((some.rows, some.all), (ROWS, false));
            let all = measure.baseline(&recipe, &matrix(&weight), COLS, &prepared).unwrap().unwrap();
            assert!((some.lost / all - 1.0).abs() < 0.05, "{} want {all}", some.lost);
            // No more rows than that are all measured.
            let few = &weight[..ROWS * COLS];
            let few = measure.expected(&recipe, &matrix(few), COLS, &prepared).unwrap().unwrap();
            assert_eq!((few.rows, few.all), (ROWS, true));
        }
        // One scale for the whole matrix: some rows say nothing of the others.
        let whole = Rounding { grouping: crate::plan::Grouping::Matrix, ..Rounding::int(8, None) };
        let recipe = Recipe { rounding: Some(whole), ..recipe(None) };
        let prepared = recipe.prepare(Some(&stats), None, "layer").unwrap();
        assert!(measure.expected(&recipe, &matrix(&weight), COLS, &prepared).unwrap().unwrap().all);
    }

    #[test]
    fn the_better_one_is_known() {
        let (stats, weight) = (stats(), values(40 * COLS, 3));
        let Stats::Gram(gram) = &stats else { panic!("no Gram matrix") };
        let measure = Measure::new(gram, Precision::Bf16).unwrap();
        let (recipe, matrix) = (recipe(None), matrix(&weight));
        let prepared = recipe.prepare(Some(&stats), None, "layer").unwrap();
        let expected = measure.expected(&recipe, &matrix, COLS, &prepared).unwrap();
        let total = measure.total(&weight).unwrap();
        let judge = |outcome: &mut Outcome, replace| {
            measure.judge(&recipe, &matrix, &prepared, (expected, total), outcome, replace).unwrap()
        };
        let sweep = || recipe.compress(&weight, COLS, &prepared, matrix.stored, "layer").unwrap();
        let plain = || recipe.compress_baseline(&matrix, COLS, &prepared).unwrap().unwrap();

        let good = judge(&mut sweep(), true);
        assert!(good.error < good.baseline && !good.fallback && good.note.is_none(), "{good:?}");

        // The baseline's own matrix is not worse than itself, whatever the sweep says that it lost.
        for lost in [0.0, 1e-12, 1e12] {
            let mut same = plain();
            (same.distortion, same.loss) = (Some(lost), 1.0);
            let same = judge(&mut same, true);
            assert!(same.error == same.baseline && !same.fallback && same.note.is_none(), "{lost}: {same:?}");
        }

        // A sweep that claims to have lost nothing is not believed, nor is one that lost no number.
        let mut broken = [sweep(), sweep()];
        broken[0].dense_mut().iter_mut().for_each(|w| *w *= 2.0);
        (broken[0].distortion, broken[0].loss) = (Some(0.0), 1.0);
        broken[1].dense_mut()[5] = f32::NAN;
        broken[1].distortion = Some(f64::NAN);
        for mut broken in broken {
            let dense = broken.dense().to_vec();
            let told = judge(&mut broken, false);
            assert!(told.note.unwrap().to_string().starts_with("layer: its error, ") && !told.fallback);
            assert!(broken.dense().iter().zip(&dense).all(|(a, b)| a.to_bits() == b.to_bits()), "nothing is replaced");
            let replaced = judge(&mut broken, true);
            assert!(replaced.fallback && replaced.error == replaced.baseline && replaced.note.is_some());
            assert!(broken.dense() == plain().dense() && broken.compressed == plain().compressed);
        }
    }
}
