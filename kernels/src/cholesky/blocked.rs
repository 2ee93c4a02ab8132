//! The factor in f32, in blocks of 64 columns: what is not on the diagonal is products of tiles.
//!
//! Block column J of L (left-looking): A[i, J] − L[i, ..J] L[J, ..J]ᵀ for the rows i from J on; of that the block on the
//! diagonal is factored and inverted by plain loops, and the rows below are multiplied by the inverse. L⁻¹ lies in panels of
//! 64 columns, each of which is made by one task: X[i, J] = −L[i, i]⁻¹ Σ L[i, k] X[k, J] over the blocks k from J to i.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::{NotPositive, Source};
use crate::matmul::panels::write_panels;
use crate::matmul::tile::{Elements, Isa, Left, MR, NR, Target, as_uninit, as_words, multiply};
use crate::simd::multiversion;

/// Elements of a block, row-major `[NR, NR]`.
const BLOCK: usize = NR * NR;
/// Rows of a task.
const TASK_ROWS: usize = 11 * MR;
/// Elements between the rows of L beyond its width, so that neighbouring rows do not compete for the same lines of a cache.
const GAP: usize = 16;

/// [`super::inverse_factor`] in f32. 6·n² bytes beside `h`, the result among them.
pub(super) fn inverse_factor(h: &Source<'_>) -> Result<Vec<f32>, NotPositive> {
    let n = h.n();
    let isa = (Isa::current(), Elements::Singles);
    let blocks = n.div_ceil(NR);
    let stride = blocks * NR + GAP;
    let mut lower = reversed(h, stride);
    // The inverses of the blocks on the diagonal, transposed: row k holds column k.
    let mut inverses = vec![0f32; blocks * BLOCK];
    for (block, inverse) in inverses.chunks_exact_mut(BLOCK).enumerate() {
        let first = block * NR;
        let rows = &mut lower[first * stride..];
        update(isa, rows, first, stride);
        let mut upper = [[0f32; NR]; NR];
        for (k, row) in upper.iter_mut().enumerate() {
            (k..NR).for_each(|i| row[i] = rows[i * stride + first + k]);
        }
        // Beyond the last row the matrix is the identity, whose pivots are 1.
        invert(&mut upper, inverse).map_err(|k| NotPositive { index: n - 1 - (first + k).min(n - 1) })?;
        solve(isa, &mut rows[NR * stride..], inverse, first, stride);
    }
    let panels = invert_blocks(isa, &lower, stride, &inverses);
    drop(lower);
    Ok(restored(&panels, n))
}

/// The part of `h` on and below the diagonal with rows and columns reversed, and below it rows of the identity up to whole
/// blocks: rows of `stride` elements.
fn reversed(h: &Source<'_>, stride: usize) -> Vec<f32> {
    let n = h.n();
    let mut lower = vec![0f32; n.next_multiple_of(NR) * stride];
    lower.par_chunks_exact_mut(stride).enumerate().for_each(|(i, row)| match i < n {
        true => h.row_reversed(n - 1 - i, row),
        false => row[i] = 1.0,
    });
    lower
}

/// Subtracts from columns `first..first + NR` of `rows` the product of their columns before with those of the first block of
/// the rows.
fn update(isa: (Isa, Elements), rows: &mut [f32], first: usize, stride: usize) {
    if first == 0 {
        return;
    }
    // SAFETY: every word of a piece of 64 steps is written.
    let right = unsafe {
        write_panels(first / NR, NR, |piece, panel| {
            for (r, row) in rows.chunks_exact(stride).take(NR).enumerate() {
                for (k, l) in row[piece * NR..][..NR].iter().enumerate() {
                    panel[k * NR + r].write((-l).to_bits());
                }
            }
        })
    };
    rows.par_chunks_mut(TASK_ROWS * stride).with_max_len(1).for_each(|rows| {
        let count = rows.len() / stride;
        let mut sums = [0f32; TASK_ROWS * NR];
        let left = Left { words: as_words(rows), row: stride, step: 1 };
        let target = Target { rows: count, cols: NR, stride: NR, fresh: true };
        multiply(isa, &left, &right, first, &target, as_uninit(&mut sums));
        for (row, sums) in rows.chunks_exact_mut(stride).zip(sums.chunks_exact(NR)) {
            row[first..][..NR].iter_mut().zip(sums).for_each(|(a, sum)| *a += sum);
        }
    });
}

/// Multiplies columns `first..first + NR` of `rows` by the transposed inverse of a block.
fn solve(isa: (Isa, Elements), rows: &mut [f32], inverse: &[f32], first: usize, stride: usize) {
    rows.par_chunks_mut(TASK_ROWS * stride).with_max_len(1).for_each(|rows| {
        let count = rows.len() / stride;
        let mut products = [0f32; TASK_ROWS * NR];
        let left = Left { words: &as_words(rows)[first..], row: stride, step: 1 };
        let target = Target { rows: count, cols: NR, stride: NR, fresh: true };
        multiply(isa, &left, as_words(inverse), NR, &target, as_uninit(&mut products));
        for (row, products) in rows.chunks_exact_mut(stride).zip(products.chunks_exact(NR)) {
            row[first..][..NR].copy_from_slice(products);
        }
    });
}

/// Elements of the panels before panel `column` of so many.
fn offset(blocks: usize, column: usize) -> usize {
    BLOCK * (column * blocks - column * column.saturating_sub(1) / 2)
}

/// The panels of L⁻¹, one after the other. Panel J has the columns from J · NR on, and of the rows those from there on down,
/// row-major `[.., NR]`.
fn invert_blocks(isa: (Isa, Elements), lower: &[f32], stride: usize, inverses: &[f32]) -> Vec<f32> {
    let blocks = inverses.len() / BLOCK;
    let len = offset(blocks, blocks);
    let mut all: Vec<f32> = Vec::with_capacity(len);
    let mut rest = &mut all.spare_capacity_mut()[..len];
    let mut panels: Vec<&mut [MaybeUninit<f32>]> = Vec::with_capacity(blocks);
    for column in 0..blocks {
        let (panel, after) = rest.split_at_mut((blocks - column) * BLOCK);
        panels.push(panel);
        rest = after;
    }
    // The first ones take longest, and begin first.
    panels.into_par_iter().enumerate().with_max_len(1).for_each(|(column, panel)| {
        let mut sums = [0f32; BLOCK];
        let target = Target { rows: NR, cols: NR, stride: NR, fresh: true };
        for (row, inverse) in inverses.chunks_exact(BLOCK).enumerate().skip(column) {
            let steps = (row - column) * NR;
            let (done, block) = panel.split_at_mut(steps * NR);
            let block = &mut block[..BLOCK];
            if steps == 0 {
                // The block itself, which lies transposed.
                block.iter_mut().enumerate().for_each(|(at, to)| _ = to.write(inverse[at % NR * NR + at / NR]));
                continue;
            }
            // SAFETY: the blocks before this one are written.
            let done: &[f32] = unsafe { std::slice::from_raw_parts(done.as_ptr().cast(), done.len()) };
            let left = &as_words(lower)[row * NR * stride + column * NR..];
            let left = Left { words: left, row: stride, step: 1 };
            multiply(isa, &left, as_words(done), steps, &target, as_uninit(&mut sums));
            sums.iter_mut().for_each(|sum| *sum = -*sum);
            let left = Left { words: as_words(inverse), row: 1, step: NR };
            multiply(isa, &left, as_words(&sums), NR, &target, block);
        }
    });
    // SAFETY: each block of each panel was written.
    unsafe { all.set_len(len) };
    all
}

/// U: the inverse with rows and columns reversed, zero below the diagonal.
fn restored(panels: &[f32], n: usize) -> Vec<f32> {
    let (mut u, blocks) = (vec![0f32; n * n], n.div_ceil(NR));
    u.par_chunks_exact_mut(n).rev().enumerate().for_each(|(i, row)| {
        for column in 0..i / NR + 1 {
            let first = column * NR;
            let from = &panels[offset(blocks, column) + (i - first) * NR..][..NR.min(i + 1 - first)];
            let end = n - first;
            row[end - from.len()..end].iter_mut().zip(from.iter().rev()).for_each(|(to, from)| *to = *from);
        }
    });
    u
}

multiversion! {
    /// Turns a symmetric matrix, of which it has the part on and above the diagonal, into R with RᵀR = A, and writes R⁻¹ (row-major
    /// `[NR, NR]`, zero below the diagonal). The error is a pivot that is not positive, or whose reciprocal is not finite.
    fn invert(a: &mut [[f32; NR]; NR], inverse: &mut [f32]) -> Result<(), usize> {
        for j in 0..NR {
            let pivot = a[j][j];
            let root = pivot.sqrt();
            if !(pivot > 0.0 && root.is_finite() && (1.0 / root).is_finite()) {
                return Err(j);
            }
            let by = 1.0 / root;
            a[j][j] = root;
            a[j][j + 1..].iter_mut().for_each(|v| *v *= by);
            let (done, rest) = a.split_at_mut(j + 1);
            let row = &done[j];
            for (i, to) in (j + 1..).zip(rest) {
                // From a whole vector on: what lies below the diagonal is not read.
                let factor = row[i];
                for k in i / 16 * 16..NR {
                    to[k] -= factor * row[k];
                }
            }
        }
        inverse.fill(0.0);
        for j in (0..NR).rev() {
            let (above, below) = inverse.split_at_mut((j + 1) * NR);
            let to = &mut above[j * NR..];
            let by = 1.0 / a[j][j];
            to[j] = by;
            for (k, from) in (j + 1..).zip(below.chunks_exact(NR)) {
                let factor = a[j][k] * by;
                for l in k / 16 * 16..NR {
                    to[l] -= factor * from[l];
                }
            }
        }
        Ok(())
    }
}
