//! Sums of x xᵀ and tr(W H Wᵀ) as products of bfloat16 pairs, accumulated in f32.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::matmul::panels::{pack_columns, write_panels};
use crate::matmul::tile::{Elements, Isa, Left, Lines, NR, Target, as_uninit, multiply};
use crate::simd::multiversion;

/// Adds Σ x xᵀ over the tokens of `x [tokens, dim]` to the part of `sums [dim, dim]` on and below the diagonal (a few
/// elements above it too, inside the tiles that the diagonal crosses).
pub(super) fn add(sums: &mut [f32], x: &[f32], dim: usize) {
    let isa = Isa::current();
    let pairs = (x.len() / dim).div_ceil(2);
    // SAFETY: `pack_columns` writes all of a panel.
    let right = unsafe {
        write_panels(dim.div_ceil(NR), pairs, |n, panel| pack_columns(panel, x, dim, n * NR, NR.min(dim - n * NR)))
    };
    // A task is the rows of one panel, which is its left operand too. The heavy ones (many columns) come first, so that
    // the last task is a short one.
    let tasks: Vec<(usize, &mut [MaybeUninit<f32>])> = as_uninit(sums).chunks_mut(NR * dim).enumerate().collect();
    tasks.into_par_iter().rev().with_max_len(1).for_each(|(task, sums)| {
        let mut room = Lines::default();
        let left = isa.left_of_panel(&right[task * pairs * NR..][..pairs * NR], &mut room);
        let rows = sums.len() / dim;
        let right = &right[..(task + 1) * pairs * NR];
        let target = Target { rows, cols: task * NR + rows, stride: dim, fresh: false };
        multiply((isa, Elements::Pairs), &left, right, pairs, &target, sums);
    });
}

/// Adds Σ y xᵀ over the tokens of `y [tokens, rows]` and `x [tokens, cols]` to `sums [rows, cols]`.
pub(super) fn add_cross(sums: &mut [f32], (y, rows): (&[f32], usize), (x, cols): (&[f32], usize)) {
    let isa = Isa::current();
    let pairs = (x.len() / cols).div_ceil(2);
    let packed = |v: &[f32], dim: usize| {
        // SAFETY: `pack_columns` writes all of a panel.
        unsafe {
            write_panels(dim.div_ceil(NR), pairs, |n, panel| pack_columns(panel, v, dim, n * NR, NR.min(dim - n * NR)))
        }
    };
    let (left, right) = (packed(y, rows), packed(x, cols));
    as_uninit(sums).par_chunks_mut(NR * cols).enumerate().with_max_len(1).for_each(|(task, sums)| {
        let mut room = Lines::default();
        let left = isa.left_of_panel(&left[task * pairs * NR..][..pairs * NR], &mut room);
        let target = Target { rows: sums.len() / cols, cols, stride: cols, fresh: false };
        multiply((isa, Elements::Pairs), &left, &right, pairs, &target, sums);
    });
}

multiversion! {
    /// Σ w · (2 · product + w · diagonal), in sixteen sums: a fixed order that vectorises.
    fn weigh(product: &[f32], w: &[f32], diagonal: &[f32]) -> f64 {
        let mut sums = [0f32; 16];
        for ((p, w), d) in product.chunks(16).zip(w.chunks(16)).zip(diagonal.chunks(16)) {
            for (((sum, p), w), d) in sums.iter_mut().zip(p).zip(w).zip(d) {
                *sum += w * (2.0 * p + w * d);
            }
        }
        sums.iter().map(|&sum| f64::from(sum)).sum()
    }
}

/// A symmetric H `[n, n]` for tr(W H Wᵀ): the diagonal as it is, and the part below it rounded to bfloat16.
pub(super) struct Below {
    n: usize,
    /// Panel i holds the columns of H from i · NR on, and of them the pairs of rows from the diagonal down.
    panels: Lines,
    diagonal: Vec<f32>,
}

impl Below {
    pub(super) fn new(h: &[f32], n: usize) -> Self {
        const { assert!(NR.is_multiple_of(2)) };
        let pairs = n.div_ceil(2);
        let pack = |i: usize, panel: &mut [MaybeUninit<u32>]| {
            let first = i * NR;
            let (above, panel) = panel.split_at_mut(first / 2 * NR);
            above.fill(MaybeUninit::new(0));
            pack_columns(panel, &h[first * n..], n, first, NR.min(n - first));
            for col in 0..NR.min(n - first) {
                for pair in 0..col.div_ceil(2) {
                    panel[pair * NR + col].write(0);
                }
                // On the diagonal itself only the other half of the pair is left, if it is below.
                let below = first + col + 1;
                let half = if col % 2 == 0 && below < n {
                    crate::simd::bf16_bits(h[below * n + first + col]) << 16
                } else {
                    0
                };
                panel[col / 2 * NR + col].write(half);
            }
        };
        // SAFETY: what lies above is filled, and `pack_columns` writes the rest.
        let panels = unsafe { write_panels(n.div_ceil(NR), pairs, pack) };
        Self { n, panels, diagonal: (0..n).map(|j| h[j * n + j]).collect() }
    }

    /// tr(W H Wᵀ) for `w [rows, n]`. A task does a share of the rows of `w`.
    pub(super) fn quadratic(&self, w: &[f32]) -> f64 {
        let (isa, n, pairs) = (Isa::current(), self.n, self.n.div_ceil(2));
        let parts: Vec<f64> = (w.par_chunks(isa.task_rows(pairs) * n).with_max_len(1))
            .map(|w| {
                let rows = w.len() / n;
                let words = isa.rounded(w, n);
                let left = Left::rows(isa, Elements::Pairs, &words, pairs);
                let mut product = vec![0f32; rows * NR];
                let mut total = 0f64;
                for (i, panel) in self.panels.chunks_exact(pairs * NR).enumerate() {
                    let (first, cols) = (i * NR, NR.min(n - i * NR));
                    let (above, target) = (first / 2, Target { rows, cols, stride: NR, fresh: true });
                    let (left, panel) = (left.from(0, above), &panel[above * NR..]);
                    multiply((isa, Elements::Pairs), &left, panel, pairs - above, &target, as_uninit(&mut product));
                    for (product, w) in product.chunks_exact(NR).zip(w.chunks_exact(n)) {
                        total += weigh(product, &w[first..first + cols], &self.diagonal[first..first + cols]);
                    }
                }
                total
            })
            .collect();
        parts.iter().sum()
    }
}
