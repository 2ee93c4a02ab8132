//! The matrix of a quadratic error, and what it makes of some rows.

use rayon::prelude::*;

use crate::matmul::Precision;
use crate::matmul::panels::write_panels;
use crate::matmul::tile::{Elements, Isa, Left, Lines, NR, Target, as_uninit, as_words, multiply};
use crate::simd::multiversion;
use crate::sweep::strips::{LANES, Lane};

/// A symmetric H `[n, n]`, damping included, for the error (T − D) H (T − D)ᵀ of a row.
#[derive(Debug)]
pub struct Objective {
    isa: Isa,
    n: usize,
    /// Row-major.
    pub(super) h: Vec<f32>,
    /// The same as a right operand of f32: panels of 64 columns.
    panels: Lines,
}

impl Objective {
    /// Takes H, row-major; 4·n² bytes more for the form that products need.
    ///
    /// # Panics
    /// If the number of elements is no square.
    pub fn new(h: Vec<f32>) -> Self {
        let n = h.len().isqrt();
        assert_eq!(h.len(), n * n, "a square matrix");
        // SAFETY: all words of a panel are written.
        let panels = unsafe {
            write_panels(n.div_ceil(NR), n, |panel, words| {
                let left = panel * NR;
                let count = NR.min(n - left);
                for (words, row) in words.chunks_exact_mut(NR).zip(h.chunks_exact(n)) {
                    let (words, rest) = words.split_at_mut(count);
                    words.iter_mut().zip(&row[left..]).for_each(|(word, h)| _ = word.write(h.to_bits()));
                    rest.iter_mut().for_each(|word| _ = word.write(0));
                }
            })
        };
        Self { isa: Isa::current(), n, h, panels }
    }

    /// Rows of H, and columns of the weights.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The reciprocals of H's diagonal; 0 where it is not positive.
    pub(super) fn inverse_diagonal(&self) -> Vec<f32> {
        self.h.iter().step_by(self.n + 1).map(|&h| if h > 0.0 { 1.0 / h } else { 0.0 }).collect()
    }

    /// `x [rows, n] · H` in place of `out`, on this thread.
    pub(super) fn multiply(&self, x: &[f32], out: &mut [f32]) {
        let n = self.n;
        assert!(x.len() == out.len() && x.len().is_multiple_of(n), "{} numbers in rows of {n}", x.len());
        let left = Left { words: as_words(x), row: n, step: 1 };
        let target = Target { rows: x.len() / n, cols: n, stride: n, fresh: true };
        multiply((self.isa, Elements::Singles), &left, &self.panels, n, &target, as_uninit(out));
    }

    /// Adds to `out [rows, n]` what the columns from `first` on, a row in each lane, make with H.
    pub(super) fn add_columns(&self, columns: &[Lane], first: usize, out: &mut [f32]) {
        let n = self.n;
        assert!(first + columns.len() <= n && out.len() <= LANES * n);
        let left = Left { words: as_words(columns.as_flattened()), row: 1, step: LANES };
        for (panel, words) in self.panels.chunks_exact(n * NR).enumerate() {
            let target = Target { rows: out.len() / n, cols: NR.min(n - panel * NR), stride: n, fresh: false };
            let words = &words[first * NR..][..columns.len() * NR];
            let out = as_uninit(&mut out[panel * NR..]);
            multiply((self.isa, Elements::Singles), &left, words, columns.len(), &target, out);
        }
    }

    /// tr((A − B) H (A − B)ᵀ) for matrices of `n` columns.
    pub fn error(&self, a: &[f32], b: &[f32]) -> f64 {
        assert_eq!(a.len(), b.len());
        let strips = a.par_chunks(LANES * self.n).zip(b.par_chunks(LANES * self.n));
        let errors: Vec<f64> = strips.map(|(a, b)| self.errors(a, b, &mut Vec::new()).iter().sum()).collect();
        errors.iter().sum()
    }

    /// The error of each row of `target` and `weight`; `residual` becomes (T − D) H.
    pub(super) fn errors(&self, target: &[f32], weight: &[f32], residual: &mut Vec<f32>) -> Vec<f64> {
        let mut difference = target.to_vec();
        difference.iter_mut().zip(weight).for_each(|(t, w)| *t -= w);
        residual.resize(target.len(), 0.0);
        self.multiply(&difference, residual);
        difference.chunks_exact(self.n).zip(residual.chunks_exact(self.n)).map(|(a, b)| dot(a, b)).collect()
    }

    /// The same where the residual is known.
    pub(super) fn errors_of(&self, target: &[f32], weight: &[f32], residual: &[f32]) -> Vec<f64> {
        let rows = target.chunks_exact(self.n).zip(weight.chunks_exact(self.n)).zip(residual.chunks_exact(self.n));
        let difference = |t: &[f32], w: &[f32]| t.iter().zip(w).map(|(t, w)| t - w).collect::<Vec<f32>>();
        rows.map(|((t, w), r)| dot(&difference(t, w), r)).collect()
    }

    /// Rounds the weights to the type that they are stored in, and puts back the rows of `start` that lose no more.
    /// Their errors were `before`, and `between` on the way; `dropped` goes with the weights.
    pub(super) fn settle(
        &self,
        target: &[f32],
        stored: Precision,
        (weight, dropped): (&mut [f32], &mut [u8]),
        (start, marks): (&[f32], &[u8]),
        [before, between]: [&[f64]; 2],
    ) -> super::Errors {
        let n = self.n;
        weight.iter_mut().for_each(|w| *w = stored.round(*w));
        let after = self.errors(target, weight, &mut Vec::new());
        let mut sums = super::Errors::default();
        for (r, ((&before, &between), &after)) in before.iter().zip(between).zip(&after).enumerate() {
            let better = after < before;
            if !better {
                weight[r * n..][..n].copy_from_slice(&start[r * n..][..n]);
                dropped[r * n..][..n].copy_from_slice(&marks[r * n..][..n]);
            }
            sums.before += before;
            sums.between += if better { between } else { before };
            sums.after += if better { after } else { before };
        }
        sums
    }
}

multiversion! {
    /// Σ a b, in sixteen sums: a fixed order that vectorises.
    pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
        let mut sums = [0f32; 16];
        for (a, b) in a.chunks(16).zip(b.chunks(16)) {
            for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                *sum += a * b;
            }
        }
        sums.iter().map(|&sum| f64::from(sum)).sum()
    }
}
