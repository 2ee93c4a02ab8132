//! What is computed once for a fan: dead columns, order, damping, the factor.

use paring_kernels::cholesky::inverse_factor;

use super::Bend;
use crate::plan::{ActOrder, Recipe};
use crate::stats::Stats;
use crate::{Error, Result};

/// The curvature of a fan in visiting order.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    Flat,
    Diagonal(Vec<f32>),
    Full(Vec<f32>),
}

/// What a recipe needs to know of a fan before it compresses the fan's linears.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Features that were always zero; empty when there are none or nothing is known.
    dead: Vec<usize>,
    /// `order[k]` is the column visited at position k; `None` is file order.
    order: Option<Vec<usize>>,
    shape: Shape,
    damp: Option<f64>,
    /// What was added to the diagonal.
    lambda: Option<f64>,
}

impl Recipe {
    /// Prepares for the linears of one fan; `module` names it in errors. 2·cols³/3 operations for a full curvature.
    ///
    /// Dead columns get a diagonal of 1 before the mean of the diagonal is taken, and order and damping see them so
    /// (GPTQ, SparseGPT). A factorisation that fails is tried again with ten times the damping, three times.
    pub fn prepare(&self, stats: Option<&Stats>, module: &str) -> Result<Prepared> {
        match (self.info().curvature, stats) {
            (Bend::Flat, _) => {
                Ok(Prepared { dead: Vec::new(), order: None, shape: Shape::Flat, damp: None, lambda: None })
            }
            (Bend::Diagonal, Some(Stats::Norms(s))) => {
                finite(s, 1, module)?;
                let norms = s.iter().map(|s| s.sqrt()).collect();
                // Dead columns are not cleared: their scores are all zero, so they go first.
                Ok(Prepared { dead: Vec::new(), order: None, shape: Shape::Diagonal(norms), damp: None, lambda: None })
            }
            (Bend::Full, Some(Stats::Gram(h))) => self.prepare_full(h, module),
            _ => Err(Error::Plan(format!("{module}: no calibration statistics for {}", self.method))),
        }
    }

    fn prepare_full(&self, h: &[f32], module: &str) -> Result<Prepared> {
        let n = h.len().isqrt();
        let diagonal: Vec<f32> = (0..n).map(|j| h[j * n + j]).collect();
        finite(h, n, module)?;
        let dead: Vec<usize> = (0..n).filter(|&j| diagonal[j] == 0.0).collect();
        let lively: Vec<f32> = diagonal.iter().map(|&d| if d == 0.0 { 1.0 } else { d }).collect();
        let order = self.rounding.filter(|r| r.act_order != ActOrder::None).map(|_| {
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|&a, &b| lively[b].total_cmp(&lively[a]));
            order
        });
        let column = |k: usize| order.as_ref().map_or(k, |o| o[k]);
        let mean = lively.iter().map(|&d| f64::from(d)).sum::<f64>() / n as f64;
        let mut damped = vec![0f32; n * n];
        for (k, row) in damped.chunks_exact_mut(n).enumerate() {
            let from = &h[column(k) * n..][..n];
            row.iter_mut().enumerate().for_each(|(l, v)| *v = from[column(l)]);
        }
        let mut damp = self.percdamp;
        for attempt in 0.. {
            for k in 0..n {
                damped[k * n + k] = lively[column(k)] + (damp * mean) as f32;
            }
            match inverse_factor(&damped, n) {
                Ok(u) => {
                    let lambda = Some(damp * mean);
                    return Ok(Prepared { dead, order, shape: Shape::Full(u), damp: Some(damp), lambda });
                }
                Err(e) if attempt == 3 => {
                    return Err(Error::Singular { module: module.to_string(), pivot: column(e.index), damp });
                }
                Err(_) => damp = if damp == 0.0 { 1e-3 } else { damp * 10.0 },
            }
        }
        unreachable!("the loop above returns at its fourth turn")
    }
}

fn finite(values: &[f32], width: usize, module: &str) -> Result<()> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(i) => Err(Error::Activations { module: module.to_string(), feature: i / width }),
        None => Ok(()),
    }
}

impl Prepared {
    /// The damping that was used, as a share of the mean diagonal.
    pub fn damp(&self) -> Option<f64> {
        self.damp
    }

    /// What was added to the diagonal of the Gram matrix.
    pub(super) fn damping(&self) -> Option<f64> {
        self.lambda
    }

    /// Number of features that were always zero.
    pub fn dead(&self) -> usize {
        self.dead.len()
    }

    pub(super) fn curvature(&self) -> &Shape {
        &self.shape
    }

    pub(super) fn is_permuted(&self) -> bool {
        self.order.is_some()
    }

    /// The column visited at position `k`.
    pub(super) fn column(&self, k: usize) -> usize {
        self.order.as_ref().map_or(k, |order| order[k])
    }

    pub(super) fn clear_dead(&self, weight: &mut [f32], cols: usize) {
        for row in weight.chunks_exact_mut(cols) {
            self.dead.iter().for_each(|&j| row[j] = 0.0);
        }
    }

    /// The matrix with its columns in visiting order.
    pub(super) fn permuted(&self, weight: &[f32], cols: usize) -> Vec<f32> {
        match &self.order {
            None => weight.to_vec(),
            Some(order) => weight.chunks_exact(cols).flat_map(|row| order.iter().map(|&j| row[j])).collect(),
        }
    }

    /// A matrix made in visiting order, back in file order.
    pub(super) fn restored<T: Copy + Default>(&self, made: Vec<T>, cols: usize) -> Vec<T> {
        let Some(order) = &self.order else { return made };
        let mut out = vec![T::default(); made.len()];
        for (to, from) in out.chunks_exact_mut(cols).zip(made.chunks_exact(cols)) {
            order.iter().zip(from).for_each(|(&j, &v)| to[j] = v);
        }
        out
    }
}
