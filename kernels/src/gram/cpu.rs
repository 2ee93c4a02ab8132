//! The lower triangle as one product: half the work of the square.

use faer::{MatMut, MatRef};

use super::pairs::{self, Below};
use crate::matmul::Precision;
use crate::products;

pub(super) fn add(sums: &mut [f32], x: &[f32], dim: usize, precision: Precision) {
    match precision {
        Precision::Bf16 => pairs::add(sums, x, dim),
        Precision::F32 => add_f32(sums, x, dim),
        Precision::F16 => add_f32(sums, &precision.rounded(x), dim),
    }
}

fn add_f32(sums: &mut [f32], x: &[f32], dim: usize) {
    let x = MatRef::from_row_major_slice(x, x.len() / dim, dim);
    products::add_lower(MatMut::from_row_major_slice_mut(sums, dim, dim), x.transpose(), x, 1.0);
}

/// The half of H that tr(W H Wᵀ) is computed with.
pub(super) enum Half {
    /// bfloat16 pairs.
    Pairs(Below),
    /// H below the diagonal and half of the diagonal: twice that stands for the whole of H, in half the work.
    Plain(Vec<f32>),
}

impl Half {
    pub(super) fn new(h: &[f32], n: usize, precision: Precision) -> Self {
        if precision == Precision::Bf16 {
            return Half::Pairs(Below::new(h, n));
        }
        let mut half = h.to_vec();
        (0..n).for_each(|i| half[i * n + i] *= 0.5);
        Half::Plain(half)
    }

    pub(super) fn quadratic(&self, w: &[f32], n: usize) -> f64 {
        let half = match self {
            Half::Pairs(below) => return below.quadratic(w),
            Half::Plain(half) => half,
        };
        let mut product = vec![0f32; w.len()];
        let rows = w.len() / n.max(1);
        products::multiply_lower(
            MatMut::from_row_major_slice_mut(&mut product, rows, n),
            MatRef::from_row_major_slice(w, rows, n),
            MatRef::from_row_major_slice(half, n, n),
        );
        2.0 * product.iter().zip(w).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
    }
}
