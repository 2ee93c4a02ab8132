//! The shape of attention on the CPU, its tasks of 64 queries each, and a vectorised softmax over the keys that a query sees. Keys that
//! no query of a task can see are left out, in whole tiles.

use std::ops::Range;

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

    /// Turns products of the query at `position` with some keys from `start` on into exponentials of scores less the largest so far, those
    /// of keys that it does not see into 0, and adds them to what `running` has of earlier keys. Returns the factor that corrects earlier
    /// exponentials for a larger score.
    pub(super) fn weigh(
        &self,
        head: usize,
        position: usize,
        start: usize,
        scores: &mut [f32],
        running: &mut Running,
    ) -> f32 {
        let first = self.first_key(position).max(start);
        let end = (position + 1).min(start + scores.len());
        if first >= end {
            scores.fill(0.0);
            return 1.0;
        }
        let (seen, scale) = match self.bias {
            None => (first - start..end - start, self.scale),
            Some((bias, width)) => {
                let seen = first - start..end - start;
                shift(&mut scores[seen.clone()], &bias[head * width..][first..end], self.scale);
                (seen, 1.0)
            }
        };
        softmax(scores, seen, scale, running)
    }
}

/// The softmax of one query so far.
#[derive(Clone, Copy)]
pub(super) struct Running {
    /// The largest score, as a power of 2.
    pub top: f32,
    /// The sum of exponentials of scores less the largest.
    pub sum: f32,
}

impl Running {
    /// The logarithm of the sum of exponentials of scores.
    pub(super) fn log_sum(&self) -> f32 {
        (self.top + self.sum.log2()) * std::f32::consts::LN_2
    }
}

impl Default for Running {
    fn default() -> Self {
        Self { top: f32::NEG_INFINITY, sum: 0.0 }
    }
}

/// The output rows of one tile of queries of one sequence, which a task computes group by group.
pub(super) struct Task<'a> {
    pub sequence: usize,
    /// Position of the first query.
    pub first: usize,
    pub rows: usize,
    /// `[rows, heads · dim]`.
    pub out: &'a mut [f32],
    /// The logarithm of each softmax's sum of exponentials, `[rows, heads]`.
    pub sums: &'a mut [f32],
}

/// Cuts `out [batch, time, heads · dim]` and `sums [batch, time, heads]` into tasks, those of a sequence in order.
pub(super) fn tasks<'a>(shape: &Shape<'_>, out: &'a mut [f32], sums: &'a mut [f32]) -> Vec<Task<'a>> {
    let &Shape { batch, time, heads, dim, .. } = shape;
    let width = heads * dim;
    let mut tasks = Vec::with_capacity(batch * time.div_ceil(TILE));
    let sequences = out.chunks_exact_mut(time * width).zip(sums.chunks_exact_mut(time * heads));
    for (sequence, (out, sums)) in sequences.enumerate() {
        for (i, (out, sums)) in out.chunks_mut(TILE * width).zip(sums.chunks_mut(TILE * heads)).enumerate() {
            tasks.push(Task { sequence, first: i * TILE, rows: out.len() / width, out, sums });
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
    /// Turns the scores of one query over the elements `seen` into e^(score · scale − the largest so far), others into 0, and adds
    /// them to `running`. Returns the factor of earlier exponentials. They are powers of 2, which have a cheaper way to the exponent of
    /// a float.
    fn softmax(scores: &mut [f32], seen: Range<usize>, scale: f32, running: &mut Running) -> f32 {
        let (seen, scale) = (only(scores, seen), scale * std::f32::consts::LOG2_E);
        let max = largest(seen, scale);
        let top = if max > running.top { max } else { running.top };
        let factor = if top > running.top { simd::exp2(running.top - top) } else { 1.0 };
        *running = Running { top, sum: running.sum * factor + powers(seen, scale, top) };
        factor
    }
}

/// The elements `seen`; others become 0.
#[inline(always)]
fn only(scores: &mut [f32], seen: Range<usize>) -> &mut [f32] {
    let (scores, after) = scores.split_at_mut(seen.end);
    let (before, seen) = scores.split_at_mut(seen.start);
    before.fill(0.0);
    after.fill(0.0);
    seen
}

/// The largest of scores times `scale`. Sixteen running maxima: a fixed order that vectorises.
#[inline(always)]
fn largest(scores: &[f32], scale: f32) -> f32 {
    let (chunks, rest) = scores.as_chunks::<16>();
    let mut top = [f32::NEG_INFINITY; 16];
    // Plain loops: a closure would be compiled without the vectors that its caller is compiled for.
    for chunk in chunks {
        for (top, s) in top.iter_mut().zip(chunk) {
            *top = if s * scale > *top { s * scale } else { *top };
        }
    }
    let mut max = f32::NEG_INFINITY;
    for s in rest {
        max = if s * scale > max { s * scale } else { max };
    }
    for s in top {
        max = if s > max { s } else { max };
    }
    max
}

/// Turns scores into 2^(score · scale − max), and returns their sum. Sixteen running sums.
#[inline(always)]
fn powers(scores: &mut [f32], scale: f32, max: f32) -> f32 {
    let (chunks, rest) = scores.as_chunks_mut::<16>();
    let mut totals = [0f32; 16];
    for chunk in chunks {
        for (s, total) in chunk.iter_mut().zip(&mut totals) {
            *s = simd::exp2(*s * scale - max);
            *total += *s;
        }
    }
    let mut sum = 0.0;
    for s in rest {
        *s = simd::exp2(*s * scale - max);
        sum += *s;
    }
    for total in totals {
        sum += total;
    }
    sum
}

/// Divides the first `dim` elements of each row of `out [rows, width]` by the row's sum.
pub(super) fn divide(out: &mut [f32], width: usize, dim: usize, sums: &[f32]) {
    for (row, sum) in out.chunks_mut(width).zip(sums) {
        let factor = 1.0 / sum;
        row[..dim].iter_mut().for_each(|v| *v *= factor);
    }
}
