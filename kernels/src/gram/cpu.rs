//! The lower triangle as one product: half the work of the square.

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, MatMut, MatRef};

use crate::matmul::{Precision, bf16};
use crate::parallelism;

pub(super) fn add(sums: &mut [f32], x: &[f32], dim: usize, precision: Precision) {
    match precision {
        Precision::Bf16 if bf16::available() => bf16::gram(sums, x, dim),
        Precision::F32 => add_f32(sums, x, dim),
        _ => add_f32(sums, &precision.rounded(x), dim),
    }
}

fn add_f32(sums: &mut [f32], x: &[f32], dim: usize) {
    let x = MatRef::from_row_major_slice(x, x.len() / dim, dim);
    triangular::matmul(
        MatMut::from_row_major_slice_mut(sums, dim, dim),
        BlockStructure::TriangularLower,
        Accum::Add,
        x.transpose(),
        BlockStructure::Rectangular,
        x,
        BlockStructure::Rectangular,
        1.0,
        parallelism(),
    );
}

/// Twice the lower triangle, with half of the diagonal, stands for the whole of H: half the work of W H.
pub(super) fn quadratic(w: &[f32], h: &[f32], n: usize, precision: Precision) -> f64 {
    if precision == Precision::Bf16 && bf16::available() {
        return bf16::quadratic(w, h, n);
    }
    let mut half = h.to_vec();
    (0..n).for_each(|i| half[i * n + i] *= 0.5);
    let mut product = vec![0f32; w.len()];
    let rows = w.len() / n;
    triangular::matmul(
        MatMut::from_row_major_slice_mut(&mut product, rows, n),
        BlockStructure::Rectangular,
        Accum::Replace,
        MatRef::from_row_major_slice(w, rows, n),
        BlockStructure::Rectangular,
        MatRef::from_row_major_slice(&half, n, n),
        BlockStructure::TriangularLower,
        1.0,
        parallelism(),
    );
    2.0 * product.iter().zip(w).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
}
