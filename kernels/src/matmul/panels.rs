//! Products with weights as pairs of bfloat16, accumulated in f32.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::tile::{Elements, Isa, Left, Lines, NR, Target, as_uninit, multiply};
use crate::simd::{self, SIDE, multiversion, transpose};
use crate::{Fresh, swiglu};

/// A matrix `[rows, cols]` in panels of [`NR`] rows: word `(panel · pairs + pair) · NR + row` holds columns 2·pair and
/// 2·pair + 1. Missing rows and the missing second half of an odd column are zero.
pub(crate) struct Panels {
    rows: usize,
    cols: usize,
    words: Lines,
}

/// Words of a right operand that are about to be written.
pub(crate) type Words = [MaybeUninit<u32>];

/// `count` panels of `steps` words of k, panel `i` written by `f(i, ..)` in parallel.
///
/// # Safety
/// `f` writes every word it is given.
pub(crate) unsafe fn write_panels(count: usize, steps: usize, f: impl Fn(usize, &mut Words) + Sync) -> Lines {
    let mut words = Lines::default();
    // SAFETY: the caller's promise.
    unsafe { write_panels_to(&mut words, count, steps, f) };
    words
}

/// [`write_panels`] in place of what `words` holds.
///
/// # Safety
/// `f` writes every word it is given.
pub(crate) unsafe fn write_panels_to(
    words: &mut Lines,
    count: usize,
    steps: usize,
    f: impl Fn(usize, &mut Words) + Sync,
) {
    let each = (steps * NR).max(1);
    let write = |words: &mut Words| words.par_chunks_exact_mut(each).enumerate().for_each(|(i, panel)| f(i, panel));
    // SAFETY: the caller promises that all of them are written.
    unsafe { words.fill(count * steps * NR, write) };
}

multiversion! {
    /// Packs up to [`NR`] rows `x [.., cols]` into one panel `[pairs, NR]`, all of whose words are written.
    pub(crate) fn pack_rows(panel: &mut Words, x: &[f32], cols: usize) {
        if x.len() < NR * cols {
            for word in &mut *panel {
                word.write(0);
            }
        }
        // Squares of 16 rows by 16 pairs; then what is left of rows and columns.
        let (rows, whole) = (x.len() / cols, cols / 2 / SIDE * SIDE);
        for first in (0..rows / SIDE * SIDE).step_by(SIDE) {
            for begin in (0..whole).step_by(SIDE) {
                let mut square = [[0u32; SIDE]; SIDE];
                for (i, words) in square.iter_mut().enumerate() {
                    let from = &x[(first + i) * cols + 2 * begin..][..2 * SIDE];
                    for (word, pair) in words.iter_mut().zip(from.as_chunks::<2>().0) {
                        *word = simd::bf16_bits(pair[0]) | (simd::bf16_bits(pair[1]) << 16);
                    }
                }
                transpose(&mut square);
                for (i, words) in square.iter().enumerate() {
                    panel[(begin + i) * NR + first..][..SIDE].write_copy_of_slice(words);
                }
            }
        }
        for (row, x) in x.chunks_exact(cols).enumerate() {
            let done = if row < rows / SIDE * SIDE { whole } else { 0 };
            for (pair, x) in x.chunks(2).enumerate().skip(done) {
                let high = if x.len() == 2 { simd::bf16_bits(x[1]) } else { 0 };
                panel[pair * NR + row].write(simd::bf16_bits(x[0]) | (high << 16));
            }
        }
    }
}

multiversion! {
    /// Packs columns `first..first + count` of `x [tokens, dim]` into one panel `[pairs of tokens, NR]`, all of whose words
    /// are written.
    pub(crate) fn pack_columns(panel: &mut Words, x: &[f32], dim: usize, first: usize, count: usize) {
        let tokens = x.len() / dim;
        for (pair, words) in panel.chunks_exact_mut(NR).enumerate() {
            let low = &x[2 * pair * dim + first..][..count];
            if 2 * pair + 1 < tokens {
                let high = &x[(2 * pair + 1) * dim + first..][..count];
                for ((word, &l), &h) in words.iter_mut().zip(low).zip(high) {
                    word.write(simd::bf16_bits(l) | (simd::bf16_bits(h) << 16));
                }
            } else {
                for (word, &l) in words.iter_mut().zip(low) {
                    word.write(simd::bf16_bits(l));
                }
            }
            for word in &mut words[count..] {
                word.write(0);
            }
        }
    }
}

/// Rows of a left operand that a task takes: each thread has some, if there are so many.
fn task_rows(isa: Isa, pairs: usize, tokens: usize) -> usize {
    let share = tokens.div_ceil(rayon::current_num_threads()).max(1);
    isa.task_rows(pairs).min(share.next_multiple_of(isa.rows(Elements::Pairs)))
}

impl Panels {
    /// Packs `values`, row-major `[rows, cols]`, rounding to bfloat16.
    pub(crate) fn pack(values: &[f32], rows: usize, cols: usize) -> Self {
        // SAFETY: `pack_rows` writes all of a panel.
        let words = unsafe {
            write_panels(rows.div_ceil(NR), cols.div_ceil(2), |n, panel| {
                let first = n * NR * cols;
                pack_rows(panel, &values[first..values.len().min(first + NR * cols)], cols);
            })
        };
        Self { rows, cols, words }
    }

    /// Panels of rows that `decode` writes, as f32, from a row on: 64 of them at a time, on all threads.
    pub(crate) fn decoded(rows: usize, cols: usize, decode: impl Fn(usize, &mut [f32]) + Sync) -> Self {
        // SAFETY: `pack_rows` writes all of a panel.
        let words = unsafe {
            write_panels(rows.div_ceil(NR), cols.div_ceil(2), |n, panel| {
                let mut values = vec![0f32; NR.min(rows - n * NR) * cols];
                decode(n * NR, &mut values);
                pack_rows(panel, &values, cols);
            })
        };
        Self { rows, cols, words }
    }

    /// Writes the products of `x [tokens, cols]` to columns `first ..` of `y [tokens, stride]`.
    pub(crate) fn apply_columns(&self, x: &[f32], y: &mut [f32], first: usize, stride: usize) {
        let isa = Isa::current();
        let rows = task_rows(isa, self.pairs(), x.len() / self.cols);
        let tasks = y.par_chunks_mut(rows * stride).zip(x.par_chunks(rows * self.cols)).with_max_len(1);
        tasks.for_each(|(y, x)| {
            let words = isa.rounded(x, self.cols);
            let left = Left::rows(isa, Elements::Pairs, &words, self.pairs());
            let target = Target { rows: y.len() / stride, cols: self.rows, stride, fresh: true };
            multiply((isa, Elements::Pairs), &left, &self.words, self.pairs(), &target, as_uninit(&mut y[first..]));
        });
    }

    /// Words of k.
    fn pairs(&self) -> usize {
        self.cols.div_ceil(2)
    }

    /// The values, row-major `[rows, cols]`.
    pub(crate) fn unpack(&self) -> Vec<f32> {
        let pairs = self.pairs();
        let mut values = Vec::with_capacity(self.rows * self.cols);
        for row in 0..self.rows {
            for col in 0..self.cols {
                let word = self.words[(row / NR * pairs + col / 2) * NR + row % NR];
                let bits = if col % 2 == 0 { word << 16 } else { word & 0xffff_0000 };
                values.push(f32::from_bits(bits));
            }
        }
        values
    }

    /// `x [tokens, cols] · Wᵀ`, `[tokens, rows]`, added to `onto` of that shape if there is one.
    pub(crate) fn apply(&self, x: &[f32], onto: Option<&[f32]>) -> Vec<f32> {
        let isa = Isa::current();
        let rows = task_rows(isa, self.pairs(), x.len() / self.cols);
        let len = x.len() / self.cols * self.rows;
        let mut y: Vec<f32> = Vec::with_capacity(len);
        let out = y.spare_capacity_mut()[..len].par_chunks_mut(rows * self.rows);
        let tasks = out.zip(x.par_chunks(rows * self.cols)).enumerate().with_max_len(1);
        tasks.for_each(|(task, (out, x))| {
            let onto = onto.map(|onto| &onto[task * rows * self.rows..][..out.len()]);
            self.apply_to(out, isa, &isa.rounded(x, self.cols), onto);
        });
        // SAFETY: each chunk was written.
        unsafe { y.set_len(len) };
        y
    }

    /// The products of `x [tokens, cols]` with each of some weights of as many columns. The inputs are rounded once.
    pub(crate) fn apply_each(all: &[&Panels], x: &[f32]) -> Vec<Vec<f32>> {
        let Some(cols) = all.first().map(|panels| panels.cols) else { return Vec::new() };
        let (isa, tokens) = (Isa::current(), x.len() / cols);
        let mut made: Vec<Vec<f32>> = all.iter().map(|panels| Vec::with_capacity(tokens * panels.rows)).collect();
        let mut rest: Vec<&mut Fresh> = Vec::with_capacity(all.len());
        for (y, panels) in made.iter_mut().zip(all) {
            rest.push(&mut y.spare_capacity_mut()[..tokens * panels.rows]);
        }
        let rows = task_rows(isa, cols.div_ceil(2), tokens);
        let mut tasks = Vec::with_capacity(tokens.div_ceil(rows));
        for x in x.chunks(rows * cols) {
            let mut outs: Vec<&mut Fresh> = Vec::with_capacity(all.len());
            for (rest, panels) in rest.iter_mut().zip(all) {
                outs.push(rest.split_off_mut(..x.len() / cols * panels.rows).unwrap_or_default());
            }
            tasks.push((x, outs));
        }
        tasks.into_par_iter().with_max_len(1).for_each(|(x, outs)| {
            let words = isa.rounded(x, cols);
            outs.into_iter().zip(all).for_each(|(out, panels)| panels.apply_to(out, isa, &words, None));
        });
        for (y, panels) in made.iter_mut().zip(all) {
            // SAFETY: each chunk was written.
            unsafe { y.set_len(tokens * panels.rows) };
        }
        made
    }

    /// Writes all of `out [.., rows]`, the products of the rows of a left operand, added to `onto` if there is something.
    fn apply_to(&self, out: &mut Fresh, isa: Isa, words: &[u32], onto: Option<&[f32]>) {
        let pairs = self.pairs();
        if let Some(onto) = onto {
            out.iter_mut().zip(onto).for_each(|(out, &onto)| *out = MaybeUninit::new(onto));
        }
        let left = Left::rows(isa, Elements::Pairs, words, pairs);
        let target = Target { rows: out.len() / self.rows, cols: self.rows, stride: self.rows, fresh: onto.is_none() };
        multiply((isa, Elements::Pairs), &left, &self.words, pairs, &target, out);
    }

    /// silu(x · gateᵀ) · (x · upᵀ), `[tokens, rows]`, of two weights of one shape; neither product is stored as a whole.
    pub(crate) fn gated(gate: &Panels, up: &Panels, x: &[f32]) -> Vec<f32> {
        let (isa, cols, width) = (Isa::current(), gate.cols, gate.rows);
        let pairs = gate.pairs();
        let mut y: Vec<f32> = Vec::with_capacity(x.len() / cols * width);
        let len = x.len() / cols * width;
        let out = &mut y.spare_capacity_mut()[..len];
        let rows = task_rows(isa, pairs, x.len() / cols);
        out.par_chunks_mut(rows * width).zip(x.par_chunks(rows * cols)).with_max_len(1).for_each(|(out, x)| {
            let rows = x.len() / cols;
            let words = isa.rounded(x, cols);
            let left = Left::rows(isa, Elements::Pairs, &words, pairs);
            let mut sums = [vec![0f32; rows * NR], vec![0f32; rows * NR]];
            for first in (0..width).step_by(NR) {
                let cols = NR.min(width - first);
                for (panels, sums) in [gate, up].into_iter().zip(&mut sums) {
                    let panel = &panels.words[first * pairs..][..pairs * NR];
                    let target = Target { rows, cols, stride: NR, fresh: true };
                    multiply((isa, Elements::Pairs), &left, panel, pairs, &target, as_uninit(sums));
                }
                let [gate, up] = &sums;
                for ((gate, up), out) in gate.chunks(NR).zip(up.chunks(NR)).zip(out.chunks_mut(width)) {
                    swiglu::apply(&gate[..cols], &up[..cols], &mut out[first..][..cols]);
                }
            }
        });
        // SAFETY: each column of each row was written.
        unsafe { y.set_len(len) };
        y
    }
}
