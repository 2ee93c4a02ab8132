//! Attention in tiles of queries and keys with a running softmax (FlashAttention, arXiv 2205.14135, section 3.1): of each query
//! the largest score so far, the sum of exponentials, and their sum of values, which are corrected where a larger score comes.
//!
//! Scores are f32 throughout: they go through an exponential, which multiplies their absolute errors, and scores of tens are
//! common. With queries and keys rounded to bfloat16, Wanda 2:4 on a model of 135M parameters came out 4 % worse
//! (docs/dev/lab-notes.md). With [`Precision::Bf16`] the exponentials, which lie in [0, 1], and the values are rounded to bfloat16,
//! and sums are f32. Rows are divided by the sum of their exponentials at the end.

use rayon::prelude::*;

use super::cpu::{Running, Shape, TILE, Task, divide, tasks};
use super::panels::{tokens_as_columns, tokens_as_rows};
use crate::matmul::Precision;
use crate::matmul::panels::{Words, pack_columns, write_panels};
use crate::matmul::tile::{Elements, Isa, Left, Lines, NR, Target, as_uninit, as_words, multiply};

/// Scores of a task at a time, or those of 64 keys where they are more: they stay in the second-level cache.
const SCORES: usize = 1 << 16;
/// Keys of a tile at most.
const KEYS: usize = 256;

// A tile of keys begins with a whole panel and a whole pair, and so does a tile of queries.
const _: () = assert!(TILE.is_multiple_of(NR) && KEYS.is_multiple_of(NR) && NR.is_multiple_of(2));

/// Keys of a tile for so many rows of queries.
fn keys_of(rows: usize) -> usize {
    (SCORES / rows.max(1) / NR).clamp(1, KEYS / NR) * NR
}

/// Keys and values of one group of one sequence, laid out as right operands.
struct Packed {
    /// Panels of 64 keys, over the elements of a head.
    keys: Lines,
    /// Panels of 64 elements of a head, over tokens or pairs of them.
    values: Lines,
    /// Words along k of a panel of values.
    steps: usize,
}

impl Packed {
    fn new(shape: &Shape<'_>, [k, v]: [&[f32]; 2], elements: Elements, sequence: usize, group: usize) -> Self {
        let &Shape { time, groups, dim, .. } = shape;
        let width = groups * dim;
        let (k, v) = (&k[sequence * time * width..][..time * width], &v[sequence * time * width..][..time * width]);
        let keys = |n: usize, panel: &mut Words| tokens_as_columns(panel, n, (k, width), group * dim);
        let steps = if elements == Elements::Pairs { time.div_ceil(2) } else { time };
        let values = |n: usize, panel: &mut Words| {
            let (first, count) = (group * dim + n * NR, NR.min(dim - n * NR));
            match elements {
                Elements::Pairs => pack_columns(panel, v, width, first, count),
                Elements::Singles => tokens_as_rows(panel, (v, width), first, count),
            }
        };
        // SAFETY: both write all of a panel.
        unsafe {
            Self {
                keys: write_panels(time.div_ceil(NR), dim, keys),
                values: write_panels(dim.div_ceil(NR), steps, values),
                steps,
            }
        }
    }
}

/// `q [batch, time, heads · dim]`, `k` and `v` `[batch, time, groups · dim]` → `[batch, time, heads · dim]`, and the logarithms of the
/// sums of exponentials `[batch, time, heads]`. A task holds 64 queries of the heads of one group.
pub(super) fn causal(shape: &Shape<'_>, q: &[f32], kv: [&[f32]; 2], precision: Precision) -> [Vec<f32>; 2] {
    let &Shape { batch, time, heads, groups, dim, .. } = shape;
    let elements = if precision == Precision::Bf16 { Elements::Pairs } else { Elements::Singles };
    let isa = Isa::current();
    let packed: Vec<Packed> = (0..batch * groups)
        .into_par_iter()
        .with_max_len(1)
        .map(|i| Packed::new(shape, kv, elements, i / groups, i % groups))
        .collect();
    let mut out = vec![0.0; batch * time * heads * dim];
    let mut sums = vec![0.0; batch * time * heads];
    tasks(shape, &mut out, &mut sums).into_par_iter().rev().with_max_len(1).for_each(|task| {
        let mut room = Room::default();
        let q = &q[(task.sequence * time + task.first) * heads * dim..][..task.rows * heads * dim];
        for (group, packed) in packed[task.sequence * groups..][..groups].iter().enumerate() {
            attend(shape, (isa, elements), packed, q, group, &task, &mut room);
            let each = heads / groups;
            for (row, from) in room.out.chunks_exact(dim).enumerate() {
                let (head, query) = (group * each + row / task.rows, row % task.rows);
                task.out[query * heads * dim + head * dim..][..dim].copy_from_slice(from);
                task.sums[query * heads + head] = room.running[row].log_sum();
            }
        }
    });
    [out, sums]
}

/// Buffers of a task.
#[derive(Default)]
struct Room {
    queries: Vec<f32>,
    scores: Vec<f32>,
    running: Vec<Running>,
    /// One row for each head and query.
    out: Vec<f32>,
}

/// The outputs of one group's heads for the queries of a task, head after head, in `room.out`.
fn attend(
    shape: &Shape<'_>,
    (isa, elements): (Isa, Elements),
    packed: &Packed,
    q: &[f32],
    group: usize,
    task: &Task<'_>,
    room: &mut Room,
) {
    let &Shape { heads, groups, dim, .. } = shape;
    let each = heads / groups;
    let rows = each * task.rows;
    let Room { queries, scores, running, out } = room;
    queries.clear();
    for head in group * each..(group + 1) * each {
        q.chunks_exact(heads * dim).for_each(|q| queries.extend_from_slice(&q[head * dim..][..dim]));
    }
    running.clear();
    running.resize(rows, Running::default());
    out.clear();
    out.resize(rows * dim, 0.0);
    let (width, end) = (keys_of(rows), task.first + task.rows);
    for start in (shape.start(task.first)..end).step_by(width) {
        let keys = width.min(end - start);
        scores.resize(rows * keys, 0.0);
        let left = Left::rows(isa, Elements::Singles, as_words(queries), dim);
        let target = Target { rows, cols: keys, stride: keys, fresh: true };
        let right = &packed.keys[start * dim..][..keys.next_multiple_of(NR) * dim];
        multiply((isa, Elements::Singles), &left, right, dim, &target, as_uninit(scores));
        let lines = scores.chunks_exact_mut(keys).zip(&mut *running).zip(out.chunks_exact_mut(dim)).enumerate();
        for (row, ((scores, running), out)) in lines {
            let (head, query) = (group * each + row / task.rows, task.first + row % task.rows);
            let factor = shape.weigh(head, query, start, scores, running);
            if factor != 1.0 {
                out.iter_mut().for_each(|out| *out *= factor);
            }
        }
        let add = |left: &Left<'_>, first: usize, steps: usize, out: &mut [f32]| {
            for (n, values) in packed.values.chunks_exact(packed.steps * NR).enumerate() {
                let target = Target { rows, cols: NR.min(dim - n * NR), stride: dim, fresh: false };
                let values = &values[first * NR..][..steps * NR];
                multiply((isa, elements), left, values, steps, &target, as_uninit(&mut out[n * NR..]));
            }
        };
        match elements {
            Elements::Pairs => {
                let (words, pairs) = (isa.rounded(scores, keys), keys.div_ceil(2));
                add(&Left::rows(isa, elements, &words, pairs), start / 2, pairs, out);
            }
            Elements::Singles => add(&Left::rows(isa, elements, as_words(scores), keys), start, keys, out),
        }
    }
    let sums: Vec<f32> = running.iter().map(|running| running.sum).collect();
    divide(out, dim, dim, &sums);
}
