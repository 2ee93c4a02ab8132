//! The preparation of a fan, computed once for all its linears: dead columns, order, damping, the factor.

mod columns;
mod damping;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use paring_kernels::cholesky::{Arithmetic, NotPositive};
use paring_kernels::square_matrix::SquareMatrix;
use paring_kernels::sweep::CurvatureData;
use rayon::prelude::*;

use self::{columns::clear, damping::factor_damped, damping::finite};
use super::masks::Refinement;
use crate::pipeline::stats::Stats;
use crate::plan::method::MAGNITUDE;
use crate::plan::{Curvature, Permutation, Recipe, Rounding};
use crate::{Error, Result};

/// The state of a fan that its linears share: curvature, order of visit and dead columns.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Features that were always zero and whose columns are cleared; empty when there are none or nothing is known.
    pub(super) dead: Vec<usize>,
    /// Features that were always zero, whatever becomes of their columns.
    silent: usize,
    /// The baseline that is stored instead, in words, where all of them were: no input says anything of the weights.
    idle: Option<String>,
    /// `order[k]` is the column visited at position k; `None` is file order.
    order: Option<Vec<usize>>,
    /// In visiting order.
    curvature: CurvatureData,
    /// The importance of each column in file order, for scales that are searched by it; `None` without statistics.
    importance: Option<Vec<f32>>,
    damp: Option<f64>,
    /// The damping that the recipe asks for.
    requested_damp: f64,
    /// The number added to the diagonal.
    lambda: Option<f64>,
    /// The diagonal of dead columns, where it is not 1 plus the number added.
    dead_diagonal: Option<f64>,
    /// The arithmetic of the factor; its pivots are places in visiting order.
    arithmetic: Option<Arithmetic>,
    /// The matrix of the error that a search lowers after the sweep.
    refinement: Option<Arc<Refinement>>,
}

impl Recipe {
    /// Prepares for the linears of one fan; `module` names it in errors. 2·cols³/3 operations for a full curvature.
    ///
    /// Dead columns get a diagonal of 1 before the mean of the diagonal is taken, and order and damping see them so
    /// (GPTQ, SparseGPT). A factorization that fails is tried again with ten times the damping, three times.
    /// SpQR leaves dead columns out of the order, counts them as 0 in the mean, and gives them a diagonal of exactly 1.
    ///
    /// `weight`, row-major `[rows, cols]`, is needed when [`Recipe::prepares_each`].
    pub fn prepare(&self, stats: Option<&Stats>, weight: Option<&[f32]>, module: &str) -> Result<Prepared> {
        let plain = |curvature| Prepared::with_curvature(curvature, self.percdamp);
        let missing = || Err(Error::Plan(format!("{module}: no calibration statistics for {}", self.method)));
        let mut prepared = match (self.curvature(), stats) {
            (Curvature::Flat, None) if self.statistics() == Curvature::Flat => plain(CurvatureData::Flat),
            (Curvature::Flat, Some(stats)) => {
                finite(stats.first_bad()?, module)?;
                let squares = match stats {
                    Stats::Norms(s) => s.clone(),
                    Stats::Gram(h) => h.diagonal()?,
                };
                Prepared { importance: Some(self.importance(&squares)), ..plain(CurvatureData::Flat) }
            }
            (Curvature::Diagonal, Some(Stats::Norms(s))) => {
                finite(s.iter().position(|v| !v.is_finite()), module)?;
                self.prepare_diagonal(s.iter().map(|s| s.sqrt()).collect())
            }
            // A fan that other linears share whose recipe needs the Gram matrix: Σ x² is in its diagonal, scaled by 2.
            (Curvature::Diagonal, Some(Stats::Gram(h))) => {
                finite(h.first_bad()?, module)?;
                self.prepare_diagonal(h.diagonal()?.into_iter().map(|d| (d / 2.0).sqrt()).collect())
            }
            (Curvature::Full, Some(Stats::Gram(h))) => self.prepare_full(h, weight, module)?,
            _ => return missing(),
        };
        if self.refines() && !prepared.is_idle() {
            let Some(Stats::Gram(h)) = stats else { return missing() };
            finite(h.first_bad()?, module)?;
            prepared.refinement = Some(Arc::new(Refinement::new(h, prepared.damp.unwrap_or(self.percdamp))?));
        }
        Ok(prepared)
    }

    /// Tells whether the linears of a fan need a preparation each: their order depends on their weights.
    pub fn prepares_each(&self) -> bool {
        self.spqr.as_ref().is_some_and(|s| s.permutation == Permutation::Spearman)
    }

    /// Tells whether the linears of a fan may share a preparation with those of this other recipe.
    pub(crate) fn prepares_like(&self, other: &Recipe) -> bool {
        let visits = |recipe: &Recipe| recipe.rounding.is_some_and(|r| r.reorders());
        let permutation = |recipe: &Recipe| recipe.spqr.as_ref().map(|s| s.permutation.clone());
        self.curvature() == other.curvature()
            && self.percdamp == other.percdamp
            && self.refines() == other.refines()
            && self.visited_groups() == other.visited_groups()
            && visits(self) == visits(other)
            && permutation(self) == permutation(other)
            && !self.prepares_each()
    }

    /// The order in which columns are visited, for a Gram diagonal `[cols]`; `None` is file order.
    fn order(&self, diagonal: &[f32], filled_diagonal: &[f32], weight: Option<&[f32]>) -> Result<Option<Vec<usize>>> {
        let group = self.visited_groups();
        // The columns of a pattern stay together, so that the sweep can choose among them.
        let falling = |by: &[f32]| {
            let sums: Vec<f32> = by.chunks(group).map(|group| group.iter().sum()).collect();
            let mut order: Vec<usize> = (0..sums.len()).collect();
            order.sort_by(|&a, &b| sums[b].total_cmp(&sums[a]));
            order.iter().flat_map(|g| g * group..by.len().min((g + 1) * group)).collect::<Vec<usize>>()
        };
        Ok(match self.spqr.as_ref().map(|s| &s.permutation) {
            None => self.rounding.filter(Rounding::reorders).map(|_| falling(filled_diagonal)),
            Some(Permutation::Identity) => None,
            Some(Permutation::ActOrder) => Some(falling(diagonal)),
            Some(Permutation::Spearman) => {
                weight.map(|weight| super::spearman::order(weight, diagonal.len())).transpose()?
            }
            Some(Permutation::Given(order)) => Some(order.iter().map(|&j| j as usize).collect()),
        })
    }

    /// The importance of columns whose inputs have these sums of squares: the damped ones; none for inputs that were always
    /// zero.
    fn importance(&self, squares: &[f32]) -> Vec<f32> {
        let mean = squares.iter().map(|&square| f64::from(square)).sum::<f64>() / squares.len().max(1) as f64;
        let added = (self.percdamp * mean) as f32;
        squares.iter().map(|&square| if square == 0.0 { 0.0 } else { square + added }).collect()
    }

    /// From the norms of the inputs. Dead columns are not cleared: their scores are all zero, so they go first.
    fn prepare_diagonal(&self, norms: Vec<f32>) -> Prepared {
        let silent = norms.iter().filter(|&&norm| norm == 0.0).count();
        if silent == norms.len() {
            return self.prepare_idle(silent);
        }
        let importance = Some(self.importance(&norms.iter().map(|norm| norm * norm).collect::<Vec<f32>>()));
        Prepared { silent, importance, ..Prepared::with_curvature(CurvatureData::Diagonal(norms), self.percdamp) }
    }

    /// For a fan all of whose inputs, `silent` in number, were always zero.
    fn prepare_idle(&self, silent: usize) -> Prepared {
        let idle = Some(self.baseline().unwrap_or_else(|| MAGNITUDE.name.to_string()));
        Prepared { silent, idle, ..Prepared::with_curvature(CurvatureData::Flat, self.percdamp) }
    }

    fn prepare_full(&self, h: &SquareMatrix, weight: Option<&[f32]>, module: &str) -> Result<Prepared> {
        let (n, diagonal) = (h.n(), h.diagonal()?);
        finite(h.first_bad()?, module)?;
        let dead: Vec<usize> = (0..n).filter(|&j| diagonal[j] == 0.0).collect();
        if dead.len() == n {
            return Ok(self.prepare_idle(n));
        }
        let filled_diagonal: Vec<f32> = diagonal.iter().map(|&d| if d == 0.0 { 1.0 } else { d }).collect();
        let order = self.order(&diagonal, &filled_diagonal, weight)?;
        let column = |k: usize| order.as_ref().map_or(k, |o| o[k]);
        let dead_diagonal = self.spqr.as_ref().map(|_| 1.0);
        let counted = if dead_diagonal.is_some() { &diagonal } else { &filled_diagonal };
        let mean = counted.iter().map(|&d| f64::from(d)).sum::<f64>() / n as f64;
        // The published SpQR code takes the mean of absolute values; for a Gram matrix, which has no others, it is the same.
        let damped = |damp: f64| -> Vec<f32> {
            let at = |k: usize| match dead_diagonal {
                Some(value) if diagonal[column(k)] == 0.0 => value as f32,
                _ => filled_diagonal[column(k)] + (damp * mean) as f32,
            };
            (0..n).map(at).collect()
        };
        let (factor, damp) = factor_damped(h, order.as_deref(), damped, self.percdamp, module)?;
        let (arithmetic, requested_damp) = (Some(factor.arithmetic), self.percdamp);
        let (curvature, lambda, damp) = (CurvatureData::Full(factor), Some(damp * mean), Some(damp));
        let silent = dead.len();
        let idle = None;
        let importance = Some(self.importance(&diagonal));
        Ok(Prepared {
            dead,
            silent,
            idle,
            order,
            curvature,
            importance,
            damp,
            requested_damp,
            lambda,
            dead_diagonal,
            arithmetic,
            refinement: None,
        })
    }
}

impl Prepared {
    /// A curvature in file order, without dead columns or a factor.
    pub(super) fn with_curvature(curvature: CurvatureData, requested_damp: f64) -> Self {
        Self {
            dead: Vec::new(),
            silent: 0,
            idle: None,
            order: None,
            curvature,
            importance: None,
            damp: None,
            requested_damp,
            lambda: None,
            dead_diagonal: None,
            arithmetic: None,
            refinement: None,
        }
    }

    /// The damping that was used, as a share of the mean diagonal.
    pub fn damp(&self) -> Option<f64> {
        self.damp
    }

    /// The repairs that the factor needed, in words for a report; empty where the first attempt succeeded.
    pub fn repairs(&self) -> Vec<String> {
        let requested = self.requested_damp;
        let raised = self.damp.filter(|&damp| damp != requested);
        let raised =
            raised.map(|damp| format!("the Gram matrix was singular with damping {requested}, so {damp} was used"));
        let idle = self.idle.as_ref().map(|words| {
            format!("all {} inputs were zero in all calibration tokens, so it is stored by {words}", self.silent)
        });
        idle.into_iter().chain(raised).chain(self.f64_reason()).collect()
    }

    /// True where no input was ever anything but zero.
    pub(crate) fn is_idle(&self) -> bool {
        self.idle.is_some()
    }

    /// The reason why the factor needed f64, in words; `None` where it did not.
    fn f64_reason(&self) -> Option<String> {
        let after = |pivot: NotPositive| {
            format!(
                "the Gram matrix was factored in f64, because in f32 pivot {} was not positive",
                self.column(pivot.index)
            )
        };
        match self.arithmetic? {
            Arithmetic::Single | Arithmetic::Double => None,
            Arithmetic::DoubleAfter(pivot) => Some(after(pivot)),
            Arithmetic::DoubleOnHost(pivot) => {
                Some(format!("{}, on the CPU because the GPU's memory is too small", after(pivot)))
            }
        }
    }

    /// Tells whether [`Prepared::distortion`] is known, which compares with the weight as it was.
    pub(crate) fn needs_original(&self) -> bool {
        self.lambda.is_some() || self.refinement.is_some()
    }

    /// The error that a search lowers after the sweep; `None` where the recipe asks for none.
    pub(super) fn refinement(&self) -> Option<&Refinement> {
        self.refinement.as_deref()
    }

    /// tr(ΔW·H·ΔWᵀ) of a sweep that lost Σ e² = `loss`; `None` without a Gram matrix. `original` is the weight, row-major
    /// `[rows, cols]` in file order, and `after` what the sweep left, in visiting order.
    ///
    /// Σ e² = tr(ΔW (H + D) ΔWᵀ) with D what was added to the diagonal, because U (H + D) Uᵀ = I.
    pub(super) fn distortion(&self, loss: f64, original: &[f32], after: &[f32], cols: usize) -> Option<f64> {
        let lambda = self.lambda?;
        // The column that each place was swept from; those of dead features began as zeros.
        let is_dead = |column: usize| self.dead.binary_search(&column).is_ok();
        let sources: Vec<Option<usize>> =
            (0..cols).map(|k| Some(self.column(k)).filter(|&column| !is_dead(column))).collect();
        let as_it_was = self.order.is_none() && self.dead.is_empty();
        // Sums of pieces, added in order: the same for any number of threads.
        const PIECE: usize = 1 << 16;
        let moved = |(piece, after): (usize, &[f32])| -> f64 {
            let first = piece * PIECE;
            if as_it_was {
                return original[first..].iter().zip(after).map(|(&a, &b)| square(a, b)).sum();
            }
            let (mut row, mut k) = (first / cols * cols, first % cols);
            let step = |&after: &f32| {
                let before = sources[k].map_or(0.0, |column| original[row + column]);
                (row, k) = if k + 1 < cols { (row, k + 1) } else { (row + cols, 0) };
                square(before, after)
            };
            after.iter().map(step).sum()
        };
        let moved: Vec<f64> = after.par_chunks(PIECE).enumerate().map(moved).collect();
        let mut added = lambda * moved.iter().sum::<f64>();
        if let Some(dead_diagonal) = self.dead_diagonal {
            for k in (0..cols).filter(|&k| sources[k].is_none()) {
                let column = after[k..].iter().step_by(cols).map(|&after| square(0.0, after));
                added += (dead_diagonal - lambda) * column.sum::<f64>();
            }
        }
        Some((loss - added).max(0.0))
    }

    /// Number of features that were always zero.
    pub fn dead(&self) -> usize {
        self.silent
    }

    pub(super) fn curvature(&self) -> &CurvatureData {
        &self.curvature
    }

    /// Tells whether several matrices are better given to [`Recipe::compress_all`] than one after the other.
    pub fn prefers_many(&self) -> bool {
        self.curvature.prefers_many()
    }

    /// The importance of each column, in file order.
    pub(super) fn importance(&self) -> Option<&[f32]> {
        self.importance.as_deref()
    }

    /// The importance of each column, in visiting order.
    pub(super) fn importance_visited(&self) -> Option<Vec<f32>> {
        self.importance.as_ref().map(|h| (0..h.len()).map(|k| h[self.column(k)]).collect())
    }

    /// A flat curvature in file order for the same inputs: rounding to nearest on grids of the same search.
    pub(super) fn flattened(&self) -> Self {
        let flat = Self::with_curvature(CurvatureData::Flat, self.requested_damp);
        Self { importance: self.importance.clone(), ..flat }
    }

    /// The column that is visited first.
    pub(crate) fn first_column(&self) -> usize {
        self.column(0)
    }

    pub(super) fn is_permuted(&self) -> bool {
        self.order.is_some()
    }

    /// The column visited at position `k`.
    pub(super) fn column(&self, k: usize) -> usize {
        self.order.as_ref().map_or(k, |order| order[k])
    }

    /// The matrix with the columns of dead features zero.
    pub(super) fn cleared<'a>(&self, weight: &'a [f32], cols: usize) -> Cow<'a, [f32]> {
        let mut weight = Cow::Borrowed(weight);
        if !self.dead.is_empty() {
            clear(weight.to_mut(), cols, &self.dead);
        }
        weight
    }

    /// The matrix with its columns in visiting order, those of dead features zero. Without a copy where it is owned and in
    /// file order.
    pub(super) fn visited(&self, weight: Cow<'_, [f32]>, cols: usize) -> Vec<f32> {
        let mut visited = match &self.order {
            None => weight.into_owned(),
            Some(order) => {
                let mut out = vec![0f32; weight.len()];
                out.par_chunks_exact_mut(cols).zip(weight.par_chunks_exact(cols)).for_each(|(to, from)| {
                    to.iter_mut().zip(order).for_each(|(to, &j)| *to = from[j]);
                });
                out
            }
        };
        if !self.dead.is_empty() {
            let dead: Vec<usize> = (0..cols).filter(|&k| self.dead.binary_search(&self.column(k)).is_ok()).collect();
            clear(&mut visited, cols, &dead);
        }
        visited
    }

    /// 1 where `is` is true of a matrix, in visiting order.
    pub(super) fn marks<T: Sync>(&self, matrix: &[T], cols: usize, is: impl Fn(&T) -> bool + Sync) -> Vec<u8> {
        let mut marks = vec![0; matrix.len()];
        marks.par_chunks_exact_mut(cols).zip(matrix.par_chunks_exact(cols)).for_each(|(marks, row)| {
            marks.iter_mut().enumerate().for_each(|(k, mark)| *mark = u8::from(is(&row[self.column(k)])));
        });
        marks
    }

    /// A matrix made in visiting order, back in file order.
    pub(super) fn restored<T: Copy + Default + Send + Sync>(&self, mut made: Vec<T>, cols: usize) -> Vec<T> {
        let Some(order) = &self.order else { return made };
        let visited = || vec![T::default(); cols];
        made.par_chunks_exact_mut(cols).for_each_init(visited, |visited, row| {
            visited.copy_from_slice(row);
            order.iter().zip(visited).for_each(|(&j, v)| row[j] = *v);
        });
        made
    }
}

fn square(before: f32, after: f32) -> f64 {
    f64::from(before - after) * f64::from(before - after)
}
