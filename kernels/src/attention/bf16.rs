//! The same tiles with both products in bfloat16: values and the exponentials (which lie in [0, 1]) are rounded, sums are
//! f32. Rows are divided by the sum of their exponentials at the end.
//!
//! Scores go through an exponential, which multiplies their absolute errors, and scores of tens are common: so queries
//! and keys are split into a rounded part and the rounded rest, and a score is three products. That leaves some 2^-16 of
//! it. With one product, Wanda 2:4 on a model of 135M parameters came out 4 % worse (docs/performance.md).

use rayon::prelude::*;

use super::cpu::{Shape, TILE, Task, divide, tasks};
use crate::matmul::bf16::{Left, NR, Target, as_uninit, multiply, pack_columns, pack_panel, pair_up};
use crate::simd;

/// Keys and values of one group of one sequence, laid out as right operands.
struct Packed {
    /// Panels of 64 keys, over pairs of elements of a head: rounded, rounded, rest.
    keys: Vec<u32>,
    /// Panels of 64 elements of a head, over pairs of tokens.
    values: Vec<u32>,
}

impl Packed {
    fn new(shape: &Shape<'_>, k: &[f32], v: &[f32], sequence: usize, group: usize) -> Self {
        let &Shape { time, groups, dim, .. } = shape;
        let (depth, pairs, width) = (depth(dim), time.div_ceil(2), groups * dim);
        let of = |x, at: usize, rows: usize| {
            let x: &[f32] = x;
            &x[(sequence * time + at) * width..][..rows * width]
        };
        let mut keys = vec![0; time.div_ceil(NR) * depth * NR];
        for (n, panel) in keys.chunks_exact_mut(depth * NR).enumerate() {
            let k = of(k, n * NR, NR.min(time - n * NR));
            let mut split = vec![0f32; k.len() / width * 3 * dim];
            for (to, from) in split.chunks_exact_mut(3 * dim).zip(k.chunks_exact(width)) {
                parts(to, &from[group * dim..][..dim], [Part::Rounded, Part::Rounded, Part::Rest]);
            }
            pack_panel(panel, &split, 3 * dim, 0, 3 * dim);
        }
        let mut values = vec![0; dim.div_ceil(NR) * pairs * NR];
        for (n, panel) in values.chunks_exact_mut(pairs * NR).enumerate() {
            pack_columns(panel, of(v, 0, time), width, group * dim + n * NR, NR.min(dim - n * NR));
        }
        Self { keys, values }
    }
}

/// Words of a query or key: three parts.
fn depth(dim: usize) -> usize {
    (3 * dim).div_ceil(2)
}

#[derive(Clone, Copy)]
enum Part {
    Rounded,
    Rest,
}

/// Three parts of the elements of a head `x [dim]`, one after the other: `out [3 · dim]`.
#[inline(always)]
fn parts(out: &mut [f32], x: &[f32], which: [Part; 3]) {
    for (out, part) in out.chunks_exact_mut(x.len()).zip(which) {
        match part {
            Part::Rounded => out.copy_from_slice(x),
            Part::Rest => out.iter_mut().zip(x).for_each(|(out, &x)| *out = x - simd::round_bf16(x)),
        }
    }
}

// A tile of queries begins its keys and values with a whole panel and a whole pair.
const _: () = assert!(TILE.is_multiple_of(NR) && NR.is_multiple_of(2));

pub(super) fn causal(shape: &Shape<'_>, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
    let &Shape { batch, time, heads, groups, dim, .. } = shape;
    let packed: Vec<Packed> = (0..batch * groups)
        .into_par_iter()
        .with_max_len(1)
        .map(|i| Packed::new(shape, k, v, i / groups, i % groups))
        .collect();
    let (depth, panel) = (depth(dim), time.div_ceil(2) * NR);
    let mut out = vec![0.0; batch * time * heads * dim];
    tasks(shape, &mut out).into_par_iter().rev().with_max_len(1).for_each(|Task { sequence, first, rows, out }| {
        let start = shape.start(first);
        let keys = first + rows - start;
        let pairs = keys.div_ceil(2);
        let mut queries = vec![0u32; rows * depth];
        let mut scores = vec![0f32; rows * keys];
        let mut words = vec![0u32; rows * pairs];
        let mut sums = vec![0f32; rows];
        let mut split = vec![0f32; 3 * dim];
        let q = &q[(sequence * time + first) * heads * dim..][..rows * heads * dim];
        for head in 0..heads {
            let packed = &packed[sequence * groups + head / (heads / groups)];
            for (to, from) in queries.chunks_exact_mut(depth).zip(q.chunks_exact(heads * dim)) {
                parts(&mut split, &from[head * dim..][..dim], [Part::Rounded, Part::Rest, Part::Rounded]);
                pair_up(to, &split);
            }
            let left = Left { words: &queries, row: depth, pair: 1 };
            let target = Target { rows, cols: keys, stride: keys, fresh: true };
            multiply(&left, &packed.keys[start * depth..], depth, &target, as_uninit(&mut scores));
            let each = words.chunks_exact_mut(pairs).zip(scores.chunks_exact_mut(keys)).zip(&mut sums);
            for (row, ((words, scores), sum)) in each.enumerate() {
                *sum = shape.weigh(head, first + row, start, scores);
                pair_up(words, scores);
            }
            let left = Left { words: &words, row: pairs, pair: 1 };
            for (n, values) in packed.values.chunks_exact(panel).enumerate() {
                let target = Target { rows, cols: NR.min(dim - n * NR), stride: heads * dim, fresh: true };
                let out = as_uninit(&mut out[head * dim + n * NR..]);
                multiply(&left, &values[start / 2 * NR..][..pairs * NR], pairs, &target, out);
            }
            divide(&mut out[head * dim..], heads * dim, dim, &sums);
        }
    });
    out
}
