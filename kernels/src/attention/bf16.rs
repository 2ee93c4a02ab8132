//! The same tiles in two kinds of products. Scores are f32 throughout: they go through an exponential, which multiplies their
//! absolute errors, and scores of tens are common. With queries and keys rounded to bfloat16, Wanda 2:4 on a model of 135M
//! parameters came out 4 % worse (docs/dev/lab-notes.md). The exponentials, which lie in [0, 1], and the values are rounded to
//! bfloat16, sums are f32. Rows are divided by the sum of their exponentials at the end.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::cpu::{Shape, TILE, Task, divide, tasks};
use crate::matmul::panels::{pack_columns, write_panels};
use crate::matmul::tile::{Elements, Isa, Left, Lines, NR, Target, as_uninit, multiply};

/// Keys and values of one group of one sequence, laid out as right operands.
struct Packed {
    /// Panels of 64 keys, over the elements of a head.
    keys: Lines,
    /// Panels of 64 elements of a head, over pairs of tokens.
    values: Lines,
}

impl Packed {
    fn new(shape: &Shape<'_>, k: &[f32], v: &[f32], sequence: usize, group: usize) -> Self {
        let &Shape { time, groups, dim, .. } = shape;
        let (pairs, width) = (time.div_ceil(2), groups * dim);
        let of = |x, at: usize, rows: usize| {
            let x: &[f32] = x;
            &x[(sequence * time + at) * width..][..rows * width]
        };
        let keys = |n: usize, panel: &mut [MaybeUninit<u32>]| {
            let rows = NR.min(time - n * NR);
            let k = of(k, n * NR, rows);
            for (j, words) in panel.chunks_exact_mut(NR).enumerate() {
                for (row, word) in words.iter_mut().enumerate() {
                    word.write(if row < rows { k[row * width + group * dim + j].to_bits() } else { 0 });
                }
            }
        };
        let values = |n: usize, panel: &mut [MaybeUninit<u32>]| {
            pack_columns(panel, of(v, 0, time), width, group * dim + n * NR, NR.min(dim - n * NR));
        };
        // SAFETY: both write all of a panel.
        unsafe {
            Self {
                keys: write_panels(time.div_ceil(NR), dim, keys),
                values: write_panels(dim.div_ceil(NR), pairs, values),
            }
        }
    }
}

// A tile of queries begins its keys and values with a whole panel and a whole pair.
const _: () = assert!(TILE.is_multiple_of(NR) && NR.is_multiple_of(2));

pub(super) fn causal(shape: &Shape<'_>, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
    let &Shape { batch, time, heads, groups, dim, .. } = shape;
    let isa = Isa::current();
    let packed: Vec<Packed> = (0..batch * groups)
        .into_par_iter()
        .with_max_len(1)
        .map(|i| Packed::new(shape, k, v, i / groups, i % groups))
        .collect();
    let panel = time.div_ceil(2) * NR;
    let mut out = vec![0.0; batch * time * heads * dim];
    tasks(shape, &mut out).into_par_iter().rev().with_max_len(1).for_each(|Task { sequence, first, rows, out }| {
        let start = shape.start(first);
        let keys = first + rows - start;
        let pairs = keys.div_ceil(2);
        let mut queries = vec![0u32; rows * dim];
        let mut scores = vec![0f32; rows * keys];
        let mut sums = vec![0f32; rows];
        let q = &q[(sequence * time + first) * heads * dim..][..rows * heads * dim];
        for head in 0..heads {
            let packed = &packed[sequence * groups + head / (heads / groups)];
            for (to, from) in queries.chunks_exact_mut(dim).zip(q.chunks_exact(heads * dim)) {
                to.iter_mut().zip(&from[head * dim..][..dim]).for_each(|(to, from)| *to = from.to_bits());
            }
            let left = Left::rows(isa, Elements::Singles, &queries, dim);
            let target = Target { rows, cols: keys, stride: keys, fresh: true };
            let right = &packed.keys[start * dim..];
            multiply((isa, Elements::Singles), &left, right, dim, &target, as_uninit(&mut scores));
            for (row, (scores, sum)) in scores.chunks_exact_mut(keys).zip(&mut sums).enumerate() {
                *sum = shape.weigh(head, first + row, start, scores);
            }
            let words = isa.rounded(&scores, keys);
            let left = Left::rows(isa, Elements::Pairs, &words, pairs);
            for (n, values) in packed.values.chunks_exact(panel).enumerate() {
                let target = Target { rows, cols: NR.min(dim - n * NR), stride: heads * dim, fresh: true };
                let out = as_uninit(&mut out[head * dim + n * NR..]);
                multiply((isa, Elements::Pairs), &left, &values[start / 2 * NR..][..pairs * NR], pairs, &target, out);
            }
            divide(&mut out[head * dim..], heads * dim, dim, &sums);
        }
    });
    out
}
