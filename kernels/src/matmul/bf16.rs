//! Products of bfloat16 pairs accumulated in f32, for processors with AVX-512 BF16 (`vdpbf16ps`).
//!
//! In both operands the pair (k, k+1) of one row is one 32-bit word. The right operand lies in panels of 64 rows; of the
//! left one, a tile reads 6 rows at any stride, one word at a time. 24 vector registers hold the tile. The sums run over
//! k in one fixed order, so the result does not depend on the number of threads.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::simd::{self, multiversion};

/// Rows of the left operand per tile.
const MR: usize = 6;
/// Rows of the right operand per tile: four registers of 16.
pub(crate) const NR: usize = 64;
/// Pairs of k per pass: a panel of the right operand (KC · NR · 4 bytes) stays in the first-level cache.
const KC: usize = 112;
/// Left rows per task: a multiple of [`MR`] whose words fit the second-level cache.
pub(crate) const TASK_ROWS: usize = 22 * MR;

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
    /// Packs columns `first..first + cols` of up to [`NR`] rows of `x [.., width]` into one panel `[pairs, NR]`.
    pub(crate) fn pack_panel(panel: &mut [u32], x: &[f32], width: usize, first: usize, cols: usize) {
        for (row, x) in x.chunks_exact(width).enumerate() {
            for (pair, x) in x[first..][..cols].chunks(2).enumerate() {
                let high = if x.len() == 2 { simd::bf16_bits(x[1]) } else { 0 };
                panel[pair * NR + row] = simd::bf16_bits(x[0]) | (high << 16);
            }
        }
    }
}

/// One word for each pair of a row's values; the missing second half of an odd row is zero. Subnormal numbers become
/// zero, as which the products take them anyway.
pub(crate) fn pair_up(words: &mut [u32], x: &[f32]) {
    assert!(words.len() == x.len().div_ceil(2));
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: callers ask `available` first; there is a word for each pair.
        unsafe { x86::pair_up(words, x) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("`available` is false on this architecture");
}

multiversion! {
    /// Packs columns `first..first + count` of `x [tokens, dim]` into one panel `[pairs of tokens, NR]`.
    pub(crate) fn pack_columns(panel: &mut [u32], x: &[f32], dim: usize, first: usize, count: usize) {
        let tokens = x.len() / dim;
        for (pair, words) in panel.chunks_exact_mut(NR).enumerate() {
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
            pack_panel(panel, x, cols, 0, cols);
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

    /// `x [tokens, cols] · selfᵀ`, `[tokens, rows]`.
    pub(crate) fn apply(&self, x: &[f32]) -> Vec<f32> {
        let pairs = self.cols.div_ceil(2);
        let tokens = x.len() / self.cols;
        let mut y: Vec<f32> = Vec::with_capacity(tokens * self.rows);
        let out = &mut y.spare_capacity_mut()[..tokens * self.rows];
        out.par_chunks_mut(TASK_ROWS * self.rows).zip(x.par_chunks(TASK_ROWS * self.cols)).for_each(|(out, x)| {
            let rows = x.len() / self.cols;
            let mut words = vec![0u32; rows * pairs];
            for (words, x) in words.chunks_exact_mut(pairs).zip(x.chunks_exact(self.cols)) {
                pair_up(words, x);
            }
            let left = Left { words: &words, row: pairs, pair: 1 };
            let shape = Target { rows, cols: self.rows, stride: self.rows, fresh: true };
            multiply(&left, &self.words, pairs, &shape, out);
        });
        // SAFETY: the tiles cover every element, and a fresh target is stored to before it is ever added to.
        unsafe { y.set_len(tokens * self.rows) };
        y
    }
}

/// The left operand: the word of `row` and `pair` is at `row · self.row + pair · self.pair`.
pub(crate) struct Left<'a> {
    pub words: &'a [u32],
    pub row: usize,
    pub pair: usize,
}

/// Where a block of products goes: `rows × cols` with the given row stride.
pub(crate) struct Target {
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
    /// Nothing is there yet: the first sums are stored, not added.
    pub fresh: bool,
}

/// Adds left · rightᵀ to `y`, for `pairs` pairs of k. All passes over k are made for one panel before the next, so that
/// the sums they add to (64 columns of `y`) stay in the second-level cache.
pub(crate) fn multiply(left: &Left<'_>, right: &[u32], pairs: usize, out: &Target, y: &mut [MaybeUninit<f32>]) {
    let passes = pairs.div_ceil(KC).max(1);
    let depth = pairs.div_ceil(passes).max(1);
    for (n, b) in right.chunks_exact(pairs * NR).enumerate() {
        let cols = NR.min(out.cols.saturating_sub(n * NR));
        if cols == 0 {
            break;
        }
        for first in (0..pairs).step_by(depth) {
            let count = depth.min(pairs - first);
            let b = &b[first * NR..][..count * NR];
            for m in (0..out.rows).step_by(MR) {
                let rows = MR.min(out.rows - m);
                let a = Left { words: &left.words[m * left.row + first * left.pair..], ..*left };
                let y = &mut y[m * out.stride + n * NR..];
                tile(&a, b, y, &Target { rows, cols, stride: out.stride, fresh: out.fresh && first == 0 });
            }
        }
    }
}

/// One tile: up to [`MR`] rows of `a`, `b [pairs, NR]`, to `out.rows × out.cols` elements of `y`.
fn tile(a: &Left<'_>, b: &[u32], y: &mut [MaybeUninit<f32>], out: &Target) {
    let pairs = b.len() / NR;
    assert!((1..=MR).contains(&out.rows) && (1..=NR).contains(&out.cols) && pairs > 0);
    assert!(y.len() >= (out.rows - 1) * out.stride + out.cols);
    assert!(a.words.len() > (out.rows - 1) * a.row + (pairs - 1) * a.pair);
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: callers ask `available` first; the assertions above bound every access of the kernel.
        unsafe { x86::tile(a, b, y, out) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (a, b, y, out);
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
        pack_columns(panel, x, dim, n * NR, NR.min(dim - n * NR));
    });
    // A task is the rows of one panel, which is its left operand too. The heavy ones (many columns) come first, so that
    // the last task is a short one.
    let sums = as_uninit(sums);
    let tasks: Vec<(usize, &mut [MaybeUninit<f32>])> = sums.chunks_mut(NR * dim).enumerate().collect();
    tasks.into_par_iter().rev().with_max_len(1).for_each(|(task, sums)| {
        let left = Left { words: &right[task * pairs * NR..][..pairs * NR], row: 1, pair: NR };
        let rows = sums.len() / dim;
        let right = &right[..(task + 1) * pairs * NR];
        let cols = task * NR + rows;
        multiply(&left, right, pairs, &Target { rows, cols, stride: dim, fresh: false }, sums);
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

/// tr(W H Wᵀ) for `w [rows, n]` and the symmetric `h [n, n]`: the diagonal of H as it is, and twice the part below it
/// rounded to bfloat16. A task does a share of the rows of `w`.
pub(crate) fn quadratic(w: &[f32], h: &[f32], n: usize) -> f64 {
    let pairs = n.div_ceil(2);
    // Panel i holds the columns of H from i · NR on, and of them the pairs of rows from the diagonal down. NR is even.
    let mut panels = vec![0u32; n.div_ceil(NR) * pairs * NR];
    panels.par_chunks_exact_mut(pairs * NR).enumerate().for_each(|(i, panel)| {
        let first = i * NR;
        let panel = &mut panel[first / 2 * NR..];
        pack_columns(panel, &h[first * n..], n, first, NR.min(n - first));
        for col in 0..NR.min(n - first) {
            (0..col.div_ceil(2)).for_each(|pair| panel[pair * NR + col] = 0);
            panel[col / 2 * NR + col] &= if col % 2 == 0 { 0xffff_0000 } else { 0 };
        }
    });
    let diagonal: Vec<f32> = (0..n).map(|j| h[j * n + j]).collect();
    let parts: Vec<f64> = (w.par_chunks(TASK_ROWS * n).with_max_len(1))
        .map(|w| {
            let rows = w.len() / n;
            let mut words = vec![0u32; rows * pairs];
            for (words, w) in words.chunks_exact_mut(pairs).zip(w.chunks_exact(n)) {
                pair_up(words, w);
            }
            let mut product = vec![0f32; rows * NR];
            let mut total = 0f64;
            for (i, panel) in panels.chunks_exact(pairs * NR).enumerate() {
                let (first, cols) = (i * NR, NR.min(n - i * NR));
                let left = Left { words: &words[first / 2..], row: pairs, pair: 1 };
                let target = Target { rows, cols, stride: NR, fresh: true };
                multiply(&left, &panel[first / 2 * NR..], pairs - first / 2, &target, as_uninit(&mut product));
                for (product, w) in product.chunks_exact(NR).zip(w.chunks_exact(n)) {
                    total += weigh(product, &w[first..first + cols], &diagonal[first..first + cols]);
                }
            }
            total
        })
        .collect();
    parts.iter().sum()
}

/// Initialised memory is a special case of memory that may not be.
pub(crate) fn as_uninit(values: &mut [f32]) -> &mut [MaybeUninit<f32>] {
    // SAFETY: the two types have the same layout, and this module writes numbers only.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut [MaybeUninit<f32>]) }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::mem::MaybeUninit;

    use super::{Left, MR, NR, Target};

    /// # Safety
    /// Needs AVX-512 F and BF16, and a word for each pair of `x`.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn pair_up(words: &mut [u32], x: &[f32]) {
        for at in (0..x.len()).step_by(32) {
            let left = x.len() - at;
            let some = |count: usize| ((1u32 << count.min(16)) - 1) as __mmask16;
            // SAFETY: the masks keep the accesses inside `x` and inside the words of its pairs.
            unsafe {
                let from = x.as_ptr().add(at);
                let low = _mm512_maskz_loadu_ps(some(left), from);
                let high = _mm512_maskz_loadu_ps(some(left.saturating_sub(16)), from.wrapping_add(16));
                let pairs: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
                _mm512_mask_storeu_epi32(words.as_mut_ptr().add(at / 2).cast(), some(left.div_ceil(2)), pairs);
            }
        }
    }

    /// # Safety
    /// Needs AVX-512 F and BF16. `a` reaches over `out.rows` rows and all pairs, `b` is `[pairs, NR]`, `y` reaches over
    /// `out.rows` rows of `out.stride` with `out.cols` elements in the last one; rows ≤ MR, cols ≤ NR. Unless
    /// `out.fresh`, those elements are initialised.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn tile(a: &Left<'_>, b: &[u32], y: &mut [MaybeUninit<f32>], out: &Target) {
        let pairs = b.len() / NR;
        // Rows that are missing read the last one again; their sums are not stored.
        let mut rows = [a.words.as_ptr(); MR];
        for (m, row) in rows.iter_mut().enumerate() {
            *row = row.wrapping_add(m.min(out.rows - 1) * a.row);
        }
        let (b, y) = (b.as_ptr(), y.as_mut_ptr().cast::<f32>());
        let mut sums = [[_mm512_setzero_ps(); NR / 16]; MR];
        for k in 0..pairs {
            let mut right = [_mm512_setzero_si512(); NR / 16];
            for (n, r) in right.iter_mut().enumerate() {
                // SAFETY: k < pairs, so 16 words from k·NR + 16·n lie inside `b`.
                *r = unsafe { _mm512_loadu_si512(b.add(k * NR + n * 16).cast()) };
            }
            for (sums, row) in sums.iter_mut().zip(rows) {
                // SAFETY: k < pairs, and the row is one of `out.rows`.
                let left = _mm512_set1_epi32(unsafe { *row.add(k * a.pair) } as i32);
                // SAFETY: the same 512 bits, read as 32 bfloat16 values.
                let left: __m512bh = unsafe { std::mem::transmute(left) };
                for (sum, r) in sums.iter_mut().zip(right) {
                    // SAFETY: as above.
                    *sum = _mm512_dpbf16_ps(*sum, left, unsafe { std::mem::transmute::<__m512i, __m512bh>(r) });
                }
            }
        }
        for (m, sums) in sums.iter().enumerate().take(out.rows) {
            for (n, sum) in sums.iter().enumerate() {
                let left = out.cols.saturating_sub(n * 16).min(16);
                let mask = ((1u32 << left) - 1) as __mmask16;
                // SAFETY: the mask keeps the access inside row m's `out.cols` elements, which are initialised when read.
                unsafe {
                    let at = y.wrapping_add(m * out.stride + n * 16);
                    let old = if out.fresh { _mm512_setzero_ps() } else { _mm512_maskz_loadu_ps(mask, at) };
                    _mm512_mask_storeu_ps(at, mask, _mm512_add_ps(old, *sum));
                }
            }
        }
    }
}
