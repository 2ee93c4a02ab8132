//! Masks that are searched after the sweep, and the weights that are fitted under them.

use std::borrow::Cow;

use paring_format::Dtype;
use paring_kernels::masks::{self, Admm, Choice, Objective, Refine, Removal};
use paring_kernels::matmul::Precision;
use paring_kernels::square_matrix::SquareMatrix;
use rayon::prelude::*;

use super::{Change, Matrix, Outcome, Prepared, Stored, sweep};
use crate::plan::{MaskSearch, Pattern, Recipe};
use crate::{Error, Result};

/// Passes of descent over all groups: a fourth lowers errors by less than a hundredth of what the first does.
const PASSES: usize = 3;
/// Steps of conjugate gradients.
pub(super) const STEPS: usize = 8;
/// Columns among which descent exchanges where a share of each matrix is removed.
const GROUP: usize = 64;

impl Recipe {
    /// Columns that the order of visit does not part: those that a pattern chooses among.
    pub(super) fn visited_groups(&self) -> usize {
        self.pattern.and_then(|pattern| pattern.group()).unwrap_or(1)
    }
}

/// Products of a matrix with the Gram matrix that a recipe makes after its sweep.
pub(crate) fn refining_products(recipe: &Recipe) -> usize {
    if !recipe.refines() {
        return 0;
    }
    let rounds = if recipe.mask == MaskSearch::Admm { Admm::default().rounds + 2 } else { 0 };
    let descends = match (recipe.mask, recipe.pattern) {
        (MaskSearch::SparseGpt, _) | (_, None) => false,
        (MaskSearch::Descent, _) => true,
        (MaskSearch::Admm, Some(pattern)) => pattern.group().is_some(),
    };
    let (passes, steps) = (if descends { PASSES } else { 0 }, if recipe.refit { STEPS } else { 0 });
    // Before the first pass, after the last step, and of the weights as they were; once more of codes.
    3 + rounds + passes + steps + usize::from(recipe.rounding.is_some())
}

/// The error tr((W − D) (H + D') (W − D)ᵀ) of a fan's linears, with H's damping D', in file order.
#[derive(Debug)]
pub(super) struct Refinement {
    objective: Objective,
    /// Added to each element of the diagonal.
    added: Vec<f64>,
}

impl Refinement {
    /// From the Gram matrix, wherever it lies, with a share `damp` of its mean diagonal; a copy of it in host memory, and as
    /// much again for products. Features that were always zero have a diagonal of 1 before that.
    pub fn new(h: &SquareMatrix, damp: f64) -> Result<Self> {
        let n = h.n();
        let mut h = h.to_host()?.into_owned();
        let filled: Vec<f32> = h.iter().step_by(n + 1).map(|&d| if d == 0.0 { 1.0 } else { d }).collect();
        let mean = filled.iter().map(|&d| f64::from(d)).sum::<f64>() / n as f64;
        let mut added = Vec::with_capacity(n);
        for (j, filled) in filled.into_iter().enumerate() {
            let diagonal = filled + (damp * mean) as f32;
            added.push(f64::from(diagonal) - f64::from(h[j * n + j]));
            h[j * n + j] = diagonal;
        }
        Ok(Self { objective: Objective::new(h), added })
    }

    /// The part of the damping in the error of what was made of `target`.
    fn damping(&self, target: &[f32], made: &[f32]) -> f64 {
        let cols = self.added.len();
        let row = |(target, made): (&[f32], &[f32])| -> f64 {
            let moved = target.iter().zip(made).map(|(t, m)| f64::from(t - m).powi(2));
            moved.zip(&self.added).map(|(moved, added)| moved * added).sum()
        };
        let rows: Vec<f64> = target.par_chunks_exact(cols).zip(made.par_chunks_exact(cols)).map(row).collect();
        rows.iter().sum()
    }
}

/// A matrix whose mask is searched, in file order.
struct Search<'a> {
    recipe: &'a Recipe,
    objective: &'a Objective,
    /// Without the weights of dead features, as the sweep saw it.
    target: &'a [f32],
    weight: &'a mut [f32],
    dropped: &'a mut [u8],
    stored: Precision,
    /// tr(W·H·Wᵀ), damped, as all errors of a search are.
    total: f64,
    changes: Vec<Change>,
}

/// Sweeps matrices for their masks, searches, and rounds under the masks if the recipe does.
pub(super) fn compress(
    recipe: &Recipe,
    matrices: Vec<Matrix<'_>>,
    cols: usize,
    prepared: &Prepared,
) -> Result<Vec<Outcome>> {
    let pruning = Recipe { rounding: None, ..recipe.clone() };
    let pruned = matrices.iter().map(|matrix| Matrix { stored: stored(recipe, matrix), ..matrix.by_ref() }).collect();
    let swept = sweep::compress(&pruning, pruned, cols, recipe.slice(cols), prepared)?;
    let all = matrices.into_iter().zip(swept);
    all.map(|(matrix, outcome)| searched(recipe, matrix, outcome, (cols, prepared))).collect()
}

/// The form of a pruned matrix: weights that are rounded to grids later are not rounded before.
fn stored(recipe: &Recipe, matrix: &Matrix<'_>) -> Stored {
    if recipe.rounding.is_some() { Stored::plain(Dtype::F32) } else { matrix.stored }
}

/// The outcome for a matrix of which a sweep left `outcome`.
fn searched(
    recipe: &Recipe,
    matrix: Matrix<'_>,
    mut outcome: Outcome,
    (cols, prepared): (usize, &Prepared),
) -> Result<Outcome> {
    let Some(refinement) = prepared.refinement() else {
        return Err(Error::Plan(format!("{}: no Gram matrix to fit weights with", matrix.module)));
    };
    let objective = &refinement.objective;
    let target = prepared.cleared(&matrix.weight, cols);
    let mut dropped = std::mem::take(&mut outcome.dropped);
    let mut search = Search {
        recipe,
        objective,
        target: &target,
        weight: outcome.dense_mut(),
        dropped: &mut dropped,
        stored: stored(recipe, &matrix).precision(),
        total: objective.error(&target, &vec![0.0; target.len()]),
        changes: Vec::new(),
    };
    let error = search.run(matrix.module)?;
    let mut changes = search.changes;
    let (loss, made) = match recipe.rounding {
        None => (error, outcome),
        Some(_) => {
            let masked = Matrix { weight: Cow::Owned(outcome.into_dense()), ..matrix };
            let mut rounded = round(recipe, masked, cols, prepared)?;
            changes.append(&mut rounded.changes);
            (objective.error(&target, rounded.dense()), rounded)
        }
    };
    let distortion = Some((loss - refinement.damping(&target, made.dense())).max(0.0));
    Ok(Outcome { dropped, changes, loss, distortion, ..made })
}

/// Matrices of which a recipe takes the masks alone: zero where it would leave a zero, and elsewhere as they were. The sweep's
/// sums are not of these weights, and say nothing of their error.
pub(super) fn only(
    recipe: &Recipe,
    matrices: Vec<Matrix<'_>>,
    cols: usize,
    prepared: &Prepared,
) -> Result<Vec<Outcome>> {
    let whole = Recipe { mask_only: false, ..recipe.clone() };
    let mut outcomes = whole.compress_all(matrices.iter().map(Matrix::by_ref).collect(), cols, prepared)?;
    for (outcome, matrix) in outcomes.iter_mut().zip(&matrices) {
        let stored = matrix.stored.precision();
        let keep = |(made, &weight): (&mut f32, &f32)| {
            if *made != 0.0 {
                *made = stored.round(weight);
            }
        };
        outcome.dense_mut().par_iter_mut().zip(&*matrix.weight).for_each(keep);
        outcome.forget_sums();
    }
    Ok(outcomes)
}

/// Rounds a matrix whose zeros stay.
fn round(recipe: &Recipe, matrix: Matrix<'_>, cols: usize, prepared: &Prepared) -> Result<Outcome> {
    let (rounding, module) = (Recipe { pattern: None, ..recipe.clone() }, matrix.module);
    let made = sweep::compress(&rounding, vec![matrix], cols, recipe.slice(cols), prepared)?.pop();
    made.ok_or_else(|| Error::Plan(format!("{module}: nothing came out")))
}

impl Search<'_> {
    fn add(&mut self, step: &'static str, before: f64, after: f64) {
        let share = |error: f64| if self.total > 0.0 { error / self.total } else { 0.0 };
        self.changes.push(Change { step, before: share(before), after: share(after) });
    }

    /// Searches the mask, and fits the weights that stay: the error that is left.
    fn run(&mut self, module: &str) -> Result<f64> {
        let (mask, pattern) = (self.recipe.mask, self.recipe.pattern);
        if let (MaskSearch::Admm, Some(pattern)) = (mask, pattern) {
            self.alternate(pattern, module)?;
        }
        let descent = match (mask, pattern) {
            // All groups of a pattern choose again after ADMM, which does not look at them one by one.
            (MaskSearch::Descent | MaskSearch::Admm, Some(Pattern::NofM { keep, of })) => {
                Some(Choice::Keep { keep, of })
            }
            (MaskSearch::Descent, Some(Pattern::Unstructured(_))) => Some(Choice::AsMany { of: GROUP }),
            _ => None,
        };
        let steps = if self.recipe.refit { STEPS } else { 0 };
        let work = Refine { descent: descent.map(|choice| (choice, PASSES)), steps };
        let made = (&mut *self.weight, &mut *self.dropped);
        let errors = masks::refine(self.objective, self.target, made, work, self.stored);
        if descent.is_some() {
            // Without a refit, what comes out is the mask's.
            self.add("descent", errors.before, if self.recipe.refit { errors.between } else { errors.after });
        }
        if self.recipe.refit {
            self.add("refit", errors.between, errors.after);
        }
        Ok(errors.after)
    }

    /// Finds a mask with as many zeros as the sweep's, and takes it where it loses less before anything is fitted: the sweep's
    /// weights compensate for what is gone, so a mask that would be the better one after a refit may be passed over.
    fn alternate(&mut self, pattern: Pattern, module: &str) -> Result<()> {
        let removal = match pattern {
            Pattern::NofM { keep, of } => Removal::Groups { n: of - keep, of },
            Pattern::Unstructured(_) | Pattern::Given => {
                Removal::Total(self.dropped.iter().filter(|&&mark| mark == 1).count())
            }
        };
        let made = masks::alternate(self.objective, self.target, removal, Admm::default());
        let (mut weight, dropped) = made.map_err(|e| Error::Plan(format!("{module}: no mask by ADMM: {e}")))?;
        weight.par_iter_mut().for_each(|w| *w = self.stored.round(*w));
        let before = self.objective.error(self.target, self.weight);
        let after = self.objective.error(self.target, &weight);
        if after < before {
            self.weight.copy_from_slice(&weight);
            self.dropped.copy_from_slice(&dropped);
        }
        self.add("admm", before, after.min(before));
        Ok(())
    }
}
