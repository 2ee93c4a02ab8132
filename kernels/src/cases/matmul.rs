//! Cases of products with a weight.

use super::{Case, Deviation, flat, largest, random, values};
use crate::matmul::{Matrix, Precision, reference};

/// Tokens, rows, columns.
const SHAPES: [(usize, usize, usize); 7] =
    [(1, 1, 1), (3, 5, 7), (17, 64, 33), (130, 192, 300), (61, 129, 65), (13, 70, 576), (300, 2, 31)];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (tokens, rows, cols) in SHAPES {
        for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
            let name = format!("matmul: {tokens} tokens, {rows} rows, {cols} columns, {precision:?}");
            cases.push(Case::new(name, move |device| {
                let w = values(rows * cols, 1.0, 2);
                let x = random(&[1, tokens, cols], 1.0, 1, device)?;
                let matrix = Matrix::on_device(device, rows, cols, w.clone(), precision)?;
                let y = matrix.matmul(&x)?;
                let want = reference::product(&flat(&x)?, &w, cols, precision);
                // f32 sums of `cols` products of order one.
                let bound = 2e-7 * cols as f64 + 2e-6;
                let shape = if y.dims() == [1, tokens, rows] { 0.0 } else { f64::INFINITY };
                Ok(Deviation::ratio(largest(&flat(&y)?, &want, |_, _| bound).max(shape)))
            }));
        }
    }
    cases
}
