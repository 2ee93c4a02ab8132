//! Tiles of 64 queries, each a task: two matrix products and a vectorised softmax over the keys up to the diagonal.
//! Keys that no query of the tile can see are left out, in whole tiles.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use crate::simd::{self, multiversion};

/// Queries per task.
pub(super) const TILE: usize = 64;

#[derive(Clone, Copy)]
pub(super) struct Shape<'a> {
    pub batch: usize,
    /// Queries of a sequence.
    pub time: usize,
    pub heads: usize,
    pub groups: usize,
    pub dim: usize,
    pub scale: f32,
    /// Keys that a query sees at most, 1 or more.
    pub window: usize,
    /// Added to the scaled scores: `[heads, width]` and its width, `time` or more.
    pub bias: Option<(&'a [f32], usize)>,
}

impl Shape<'_> {
    /// The first key that the query at `position` sees.
    pub(super) fn first_key(&self, position: usize) -> usize {
        (position + 1).saturating_sub(self.window)
    }

    /// The first key of the tile whose first query stands at `first`: a multiple of [`TILE`].
    pub(super) fn start(&self, first: usize) -> usize {
        self.first_key(first) / TILE * TILE
    }

    /// Turns products of the query at `position` with the keys from `start` on into exponentials, those of keys that it
    /// does not see into 0, and returns their sum.
    pub(super) fn weigh(&self, head: usize, position: usize, start: usize, scores: &mut [f32]) -> f32 {
        let first = self.first_key(position);
        let seen = first - start..position + 1 - start;
        let Some((bias, width)) = self.bias else { return softmax(scores, seen, self.scale) };
        shift(&mut scores[seen.clone()], &bias[head * width..][first..=position], self.scale);
        softmax(scores, seen, 1.0)
    }
}

/// The output rows of one tile of queries of one sequence, which a task computes head by head.
pub(super) struct Task<'a> {
    pub sequence: usize,
    /// Position of the first query.
    pub first: usize,
    pub rows: usize,
    /// `[rows, heads · dim]`.
    pub out: &'a mut [f32],
}

/// Cuts `out [batch, time, heads · dim]` into tasks, those of a sequence in order.
pub(super) fn tasks<'a>(shape: &Shape<'_>, out: &'a mut [f32]) -> Vec<Task<'a>> {
    let width = shape.heads * shape.dim;
    let mut tasks = Vec::with_capacity(shape.batch * shape.time.div_ceil(TILE));
    for (sequence, out) in out.chunks_exact_mut(shape.time * width).enumerate() {
        for (i, out) in out.chunks_mut(TILE * width).enumerate() {
            tasks.push(Task { sequence, first: i * TILE, rows: out.len() / width, out });
        }
    }
    tasks
}

multiversion! {
    /// Scores times `scale` plus `bias`.
    fn shift(scores: &mut [f32], bias: &[f32], scale: f32) {
        for (s, &b) in scores.iter_mut().zip(bias) {
            *s = *s * scale + b;
        }
    }
}

multiversion! {
    /// Turns the scores of one query into e^((score − the largest) · scale) over the elements `seen` and 0 elsewhere,
    /// and returns their sum.
    fn softmax(scores: &mut [f32], seen: Range<usize>, scale: f32) -> f32 {
        let (scores, after) = scores.split_at_mut(seen.end);
        let (before, seen) = scores.split_at_mut(seen.start);
        before.fill(0.0);
        after.fill(0.0);
        // Sixteen running maxima and sums: a fixed order that vectorises.
        let (chunks, rest) = seen.as_chunks_mut::<16>();
        let mut top = [f32::NEG_INFINITY; 16];
        // Plain loops: a closure would be compiled without the vectors that this function is compiled for.
        for chunk in &*chunks {
            for (top, s) in top.iter_mut().zip(chunk) {
                *top = if s * scale > *top { s * scale } else { *top };
            }
        }
        let mut max = f32::NEG_INFINITY;
        for s in rest.iter().map(|s| s * scale).chain(top) {
            max = if s > max { s } else { max };
        }
        let mut totals = [0f32; 16];
        for chunk in chunks {
            for (s, total) in chunk.iter_mut().zip(&mut totals) {
                *s = simd::exp(*s * scale - max);
                *total += *s;
            }
        }
        for s in &mut *rest {
            *s = simd::exp(*s * scale - max);
        }
        rest.iter().chain(&totals).sum()
    }
}

pub(super) fn causal(shape: &Shape<'_>, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
    let &Shape { batch, time, heads, groups, dim, .. } = shape;
    let mut out = vec![0.0; batch * time * heads * dim];
    tasks(shape, &mut out).into_par_iter().rev().with_max_len(1).for_each(|Task { sequence, first, rows, out }| {
        let start = shape.start(first);
        let keys = first + rows - start;
        let mut scores = vec![0f32; rows * keys];
        let mut sums = vec![0f32; rows];
        for head in 0..heads {
            let group = head / (heads / groups);
            let view = |x, at: usize, rows: usize, width: usize| {
                let from: &[f32] = x;
                let from = &from[(sequence * time + at) * width * dim..][..rows * width * dim];
                MatRef::from_row_major_slice(from, rows, width * dim)
            };
            let queries = view(q, first, rows, heads).subcols(head * dim, dim);
            let key = view(k, start, keys, groups).subcols(group * dim, dim);
            let value = view(v, start, keys, groups).subcols(group * dim, dim);
            let target = MatMut::from_row_major_slice_mut(&mut scores, rows, keys);
            matmul(target, Accum::Replace, queries, key.transpose(), 1.0, Par::Seq);
            for (row, (scores, sum)) in scores.chunks_exact_mut(keys).zip(&mut sums).enumerate() {
                *sum = shape.weigh(head, first + row, start, scores);
            }
            let target = MatMut::from_row_major_slice_mut(&mut *out, rows, heads * dim).subcols_mut(head * dim, dim);
            let scores = MatRef::from_row_major_slice(&scores, rows, keys);
            matmul(target, Accum::Replace, scores, value, 1.0, Par::Seq);
            divide(&mut out[head * dim..], heads * dim, dim, &sums);
        }
    });
    out
}

/// Divides the first `dim` elements of each row of `out [rows, width]` by the row's sum.
pub(super) fn divide(out: &mut [f32], width: usize, dim: usize, sums: &[f32]) {
    for (row, sum) in out.chunks_mut(width).zip(sums) {
        let factor = 1.0 / sum;
        row[..dim].iter_mut().for_each(|v| *v *= factor);
    }
}
