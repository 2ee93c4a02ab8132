//! Tiles of 64 queries, each a task: two matrix products and a vectorised softmax over the keys up to the diagonal.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use crate::simd::{self, multiversion};

/// Queries per task.
const TILE: usize = 64;

pub(super) struct Shape {
    pub batch: usize,
    pub time: usize,
    pub heads: usize,
    pub groups: usize,
    pub dim: usize,
    pub scale: f32,
}

multiversion! {
    /// Softmax of each row of `scores [rows, keys]` over its first `first + row + 1` elements; the rest becomes 0.
    fn softmax(scores: &mut [f32], keys: usize, first: usize) {
        for (row, scores) in scores.chunks_exact_mut(keys).enumerate() {
            let (seen, unseen) = scores.split_at_mut(first + row + 1);
            // Sixteen running maxima and sums: a fixed order that vectorises.
            let mut top = [f32::NEG_INFINITY; 16];
            let mut chunks = seen.chunks_exact(16);
            for chunk in &mut chunks {
                for (t, &s) in top.iter_mut().zip(chunk) {
                    *t = if s > *t { s } else { *t };
                }
            }
            let mut max = f32::NEG_INFINITY;
            for &s in top.iter().chain(chunks.remainder()) {
                max = if s > max { s } else { max };
            }
            let mut sums = [0f32; 16];
            let mut chunks = seen.chunks_exact_mut(16);
            for chunk in &mut chunks {
                for (t, s) in sums.iter_mut().zip(chunk) {
                    *s = simd::exp(*s - max);
                    *t += *s;
                }
            }
            let mut total = 0f32;
            for s in chunks.into_remainder() {
                *s = simd::exp(*s - max);
                total += *s;
            }
            for s in sums {
                total += s;
            }
            let factor = 1.0 / total;
            for s in seen {
                *s *= factor;
            }
            unseen.fill(0.0);
        }
    }
}

pub(super) fn causal(shape: &Shape, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
    let &Shape { batch, time, heads, groups, dim, scale } = shape;
    let tiles = time.div_ceil(TILE);
    let mut out = vec![0.0; batch * time * heads * dim];
    // A task owns the output rows of one tile of one sequence and does its heads in turn.
    let rows_of = |i: usize| TILE.min(time - i % tiles * TILE);
    let mut tasks = Vec::with_capacity(batch * tiles);
    let mut rest = out.as_mut_slice();
    for i in 0..batch * tiles {
        let (head, tail) = rest.split_at_mut(rows_of(i) * heads * dim);
        tasks.push((i, head));
        rest = tail;
    }
    tasks.into_par_iter().rev().with_max_len(1).for_each(|(i, out)| {
        let (sequence, first) = (i / tiles, i % tiles * TILE);
        let rows = rows_of(i);
        let keys = first + rows;
        let mut scores = vec![0.0f32; rows * keys];
        for head in 0..heads {
            let group = head / (heads / groups);
            let view = |x, at: usize, rows: usize, width: usize| {
                let from: &[f32] = x;
                let from = &from[(sequence * time + at) * width * dim..][..rows * width * dim];
                MatRef::from_row_major_slice(from, rows, width * dim)
            };
            let queries = view(q, first, rows, heads).subcols(head * dim, dim);
            let key = view(k, 0, keys, groups).subcols(group * dim, dim);
            let value = view(v, 0, keys, groups).subcols(group * dim, dim);
            let target = MatMut::from_row_major_slice_mut(&mut scores, rows, keys);
            matmul(target, Accum::Replace, queries, key.transpose(), scale, Par::Seq);
            softmax(&mut scores, keys, first);
            let out = MatMut::from_row_major_slice_mut(&mut *out, rows, heads * dim).subcols_mut(head * dim, dim);
            let scores = MatRef::from_row_major_slice(&scores, rows, keys);
            matmul(out, Accum::Replace, scores, value, 1.0, Par::Seq);
        }
    });
    out
}
