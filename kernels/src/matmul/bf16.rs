//! Products of bfloat16 pairs accumulated in f32, for processors with AVX-512 BF16 (`vdpbf16ps`).
//!
//! Both operands are packed into panels in which the pair (k, k+1) of one row is one 32-bit word: 6 rows of the left
//! operand against 64 of the right make a tile of 24 vector registers. The sums run over k in one fixed order, so the
//! result does not depend on the number of threads.

use rayon::prelude::*;

use crate::simd::{self, multiversion};

/// Rows of the left operand per tile.
const MR: usize = 6;
/// Rows of the right operand per tile: four registers of 16.
const NR: usize = 64;
/// Pairs of k per pass: a panel of the right operand (KC · NR · 4 bytes) stays in the first-level cache.
const KC: usize = 112;
/// Left panels per task.
const TASK_PANELS: usize = 22;

/// Whether the processor has the instruction.
pub(crate) fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// A matrix `[rows, cols]` in panels of [`NR`] rows: word `(panel · pairs + pair) · NR + row` holds columns 2·pair and
/// 2·pair + 1. Missing rows and the missing second half of an odd column are zero.
pub(crate) struct Panels {
    rows: usize,
    cols: usize,
    words: Vec<u32>,
}

multiversion! {
    /// Packs up to `width` rows of `x` (row stride `stride`, `cols` columns) into one panel `[pairs, width]`.
    fn pack_rows(panel: &mut [u32], x: &[f32], stride: usize, cols: usize, width: usize) {
        let rows = if x.is_empty() { 0 } else { (x.len() - cols) / stride + 1 };
        for (pair, words) in panel.chunks_exact_mut(width).enumerate() {
            for (row, word) in words.iter_mut().enumerate() {
                *word = if row < rows {
                    let at = row * stride + 2 * pair;
                    let high = if 2 * pair + 1 < cols { simd::bf16_bits(x[at + 1]) } else { 0 };
                    simd::bf16_bits(x[at]) | (high << 16)
                } else {
                    0
                };
            }
        }
    }
}

multiversion! {
    /// Packs columns `first..first + count` of `x [tokens, dim]` into one panel `[pairs of tokens, width]`.
    fn pack_columns(panel: &mut [u32], x: &[f32], dim: usize, first: usize, count: usize, width: usize) {
        let tokens = x.len() / dim;
        for (pair, words) in panel.chunks_exact_mut(width).enumerate() {
            let low = &x[2 * pair * dim + first..][..count];
            if 2 * pair + 1 < tokens {
                let high = &x[(2 * pair + 1) * dim + first..][..count];
                for ((word, &l), &h) in words.iter_mut().zip(low).zip(high) {
                    *word = simd::bf16_bits(l) | (simd::bf16_bits(h) << 16);
                }
            } else {
                for (word, &l) in words.iter_mut().zip(low) {
                    *word = simd::bf16_bits(l);
                }
            }
            words[count..].fill(0);
        }
    }
}

impl Panels {
    /// Packs `values`, row-major `[rows, cols]`, rounding to bfloat16.
    pub(crate) fn pack(values: &[f32], rows: usize, cols: usize) -> Self {
        let pairs = cols.div_ceil(2);
        let mut words = vec![0; rows.div_ceil(NR) * pairs * NR];
        words.par_chunks_exact_mut(pairs * NR).zip(values.par_chunks(NR * cols)).for_each(|(panel, x)| {
            pack_rows(panel, x, cols, cols, NR);
        });
        Self { rows, cols, words }
    }

    /// The values, row-major `[rows, cols]`.
    pub(crate) fn unpack(&self) -> Vec<f32> {
        let pairs = self.cols.div_ceil(2);
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

    /// `y [tokens, rows] = x [tokens, cols] · selfᵀ`.
    pub(crate) fn apply(&self, x: &[f32], y: &mut [f32]) {
        let pairs = self.cols.div_ceil(2);
        let step = MR * TASK_PANELS;
        y.par_chunks_mut(step * self.rows).zip(x.par_chunks(step * self.cols)).for_each(|(y, x)| {
            let tokens = x.len() / self.cols;
            let mut left = vec![0u32; tokens.div_ceil(MR) * pairs * MR];
            for (panel, x) in left.chunks_exact_mut(pairs * MR).zip(x.chunks(MR * self.cols)) {
                pack_rows(panel, x, self.cols, self.cols, MR);
            }
            let out = Target { rows: tokens, cols: self.rows, stride: self.rows };
            multiply(&left, &self.words, pairs, &out, y);
        });
    }
}

/// Where a block of products goes: `rows × cols` with the given row stride.
struct Target {
    rows: usize,
    cols: usize,
    stride: usize,
}

/// Adds left · rightᵀ to `y`, both packed with `pairs` pairs.
fn multiply(left: &[u32], right: &[u32], pairs: usize, out: &Target, y: &mut [f32]) {
    let passes = pairs.div_ceil(KC).max(1);
    let depth = pairs.div_ceil(passes);
    for first in (0..pairs).step_by(depth.max(1)) {
        let count = depth.min(pairs - first);
        for (n, b) in right.chunks_exact(pairs * NR).enumerate() {
            let b = &b[first * NR..][..count * NR];
            let cols = NR.min(out.cols.saturating_sub(n * NR));
            for (m, a) in left.chunks_exact(pairs * MR).enumerate() {
                let a = &a[first * MR..][..count * MR];
                let rows = MR.min(out.rows.saturating_sub(m * MR));
                if rows == 0 || cols == 0 {
                    continue;
                }
                let at = m * MR * out.stride + n * NR;
                tile(a, b, &mut y[at..], out.stride, rows, cols);
            }
        }
    }
}

/// Adds one tile: `a [pairs, MR]`, `b [pairs, NR]`, to `rows × cols` elements of `y`.
fn tile(a: &[u32], b: &[u32], y: &mut [f32], stride: usize, rows: usize, cols: usize) {
    assert!(a.len() / MR == b.len() / NR && rows <= MR && cols <= NR);
    assert!(y.len() >= (rows - 1) * stride + cols);
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: callers ask `available` first; the assertions above bound every access of the kernel.
        unsafe { x86::tile(a, b, y, stride, rows, cols) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (a, b, y, stride, rows, cols);
        unreachable!("`available` is false on this architecture");
    }
}

/// Adds Σ x xᵀ over the tokens of `x [tokens, dim]` to the part of `sums [dim, dim]` on and below the diagonal (a few
/// elements above it too, inside the tiles that the diagonal crosses).
pub(crate) fn gram(sums: &mut [f32], x: &[f32], dim: usize) {
    let tokens = x.len() / dim;
    let pairs = tokens.div_ceil(2);
    let mut right = vec![0u32; dim.div_ceil(NR) * pairs * NR];
    right.par_chunks_exact_mut(pairs * NR).enumerate().for_each(|(n, panel)| {
        pack_columns(panel, x, dim, n * NR, NR.min(dim - n * NR), NR);
    });
    // Narrow tasks, the heavy ones (many columns) first, so that the last task is a short one.
    let step = MR * 8;
    let tasks: Vec<(usize, &mut [f32])> = sums.chunks_mut(step * dim).enumerate().collect();
    tasks.into_par_iter().rev().with_max_len(1).for_each(|(task, sums)| {
        let first = task * step;
        let rows = sums.len() / dim;
        let mut left = vec![0u32; rows.div_ceil(MR) * pairs * MR];
        for (m, panel) in left.chunks_exact_mut(pairs * MR).enumerate() {
            pack_columns(panel, x, dim, first + m * MR, MR.min(rows - m * MR), MR);
        }
        let cols = (first + rows).min(dim);
        let right = &right[..cols.div_ceil(NR) * pairs * NR];
        multiply(&left, right, pairs, &Target { rows, cols, stride: dim }, sums);
    });
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{MR, NR};

    /// # Safety
    /// Needs AVX-512 F and BF16; `a` is `[pairs, MR]`, `b` is `[pairs, NR]`, `y` reaches over `rows` rows of `stride`
    /// with `cols` elements in the last one, rows ≤ MR, cols ≤ NR.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn tile(a: &[u32], b: &[u32], y: &mut [f32], stride: usize, rows: usize, cols: usize) {
        let pairs = a.len() / MR;
        let (a, b, y) = (a.as_ptr(), b.as_ptr(), y.as_mut_ptr());
        let mut sums = [[_mm512_setzero_ps(); NR / 16]; MR];
        for k in 0..pairs {
            let mut right = [_mm512_setzero_si512(); NR / 16];
            for (n, r) in right.iter_mut().enumerate() {
                // SAFETY: k < pairs, so 16 words from k·NR + 16·n lie inside `b`.
                *r = unsafe { _mm512_loadu_si512(b.add(k * NR + n * 16).cast()) };
            }
            for (m, sums) in sums.iter_mut().enumerate() {
                // SAFETY: k < pairs and m < MR.
                let left = _mm512_set1_epi32(unsafe { *a.add(k * MR + m) } as i32);
                // SAFETY: the same 512 bits, read as 32 bfloat16 values.
                let left: __m512bh = unsafe { std::mem::transmute(left) };
                for (sum, r) in sums.iter_mut().zip(right) {
                    // SAFETY: as above.
                    *sum = _mm512_dpbf16_ps(*sum, left, unsafe { std::mem::transmute::<__m512i, __m512bh>(r) });
                }
            }
        }
        for (m, sums) in sums.iter().enumerate().take(rows) {
            for (n, sum) in sums.iter().enumerate() {
                let left = cols.saturating_sub(n * 16).min(16);
                let mask = ((1u32 << left) - 1) as __mmask16;
                // SAFETY: the mask keeps the access inside row m's `cols` elements.
                unsafe {
                    let at = y.wrapping_add(m * stride + n * 16);
                    let old = _mm512_maskz_loadu_ps(mask, at);
                    _mm512_mask_storeu_ps(at, mask, _mm512_add_ps(old, *sum));
                }
            }
        }
    }
}
