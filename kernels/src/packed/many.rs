//! Products of many rows with packed weights: some rows of the weight are decoded at a time, into panels or as they are.

use faer::{Accum, MatMut, MatRef};
use rayon::prelude::*;

use super::host::Host;
use super::instructions::Instructions;
use crate::matmul::Precision;
use crate::matmul::panels::Panels;
use crate::products;

/// Numbers of a weight that are decoded at a time, all threads together.
const PIECE: usize = 1 << 21;
/// Rows that a thread decodes at a time.
const ROWS: usize = 64;

/// `x [tokens, cols]` → `[tokens, rows]`.
pub(super) fn multiply(weight: &Host, x: &[f32], tokens: usize) -> Vec<f32> {
    let &Host { rows, cols, product, .. } = weight;
    let on = Instructions::current();
    let x = ordered(weight, x);
    let rounded: Vec<f32>;
    let x = match product {
        Precision::F32 | Precision::Bf16 => &x[..],
        Precision::F16 => {
            rounded = product.rounded(&x);
            &rounded
        }
    };
    let mut y = vec![0f32; tokens * rows];
    let piece = (PIECE / cols).clamp(ROWS, rows.max(ROWS)) / ROWS * ROWS;
    for first in (0..rows).step_by(piece) {
        let count = piece.min(rows - first);
        if product == Precision::Bf16 {
            let panels = Panels::decoded(count, cols, |row, out| weight.decode(on, first + row, out));
            panels.apply_columns(x, &mut y, first, rows);
            continue;
        }
        let mut values = vec![0f32; count * cols];
        let chunks = values.par_chunks_mut(ROWS * cols).enumerate();
        chunks.for_each(|(i, out)| weight.decode(on, first + i * ROWS, out));
        products::multiply(
            MatMut::from_row_major_slice_mut(&mut y, tokens, rows).subcols_mut(first, count),
            Accum::Replace,
            MatRef::from_row_major_slice(x, tokens, cols),
            MatRef::from_row_major_slice(&values, count, cols).transpose(),
            1.0,
        );
    }
    y
}

/// The inputs in the order of the weight's places.
fn ordered<'a>(weight: &Host, x: &'a [f32]) -> std::borrow::Cow<'a, [f32]> {
    let Some(order) = &weight.order else { return x.into() };
    let mut out = vec![0f32; x.len()];
    let rows = out.par_chunks_exact_mut(weight.cols).zip(x.par_chunks_exact(weight.cols));
    rows.for_each(|(out, x)| out.iter_mut().zip(order).for_each(|(out, &col)| *out = x[col as usize]));
    out.into()
}
