//! Sums of y xᵀ over tokens, of two inputs of the same tokens.

use candle_core::{D, Result, Tensor};
use faer::{Accum, MatMut, MatRef};
use rayon::prelude::*;

use super::pairs;
use crate::matmul::Precision;
use crate::{products, with_f32};

/// The running sum Σ y xᵀ over tokens, on the CPU.
///
/// Inputs are rounded as those of a [`super::Gram`] are, so that both see the same x. [`Cross::add_difference`] takes a difference before
/// that: one of two rounded inputs, or of two sums, would have lost its digits.
pub struct Cross {
    rows: usize,
    cols: usize,
    sums: Vec<f32>,
    precision: Precision,
}

impl Cross {
    /// An empty sum for `rows` features of y and `cols` of x; 4·rows·cols bytes.
    pub fn new(rows: usize, cols: usize, precision: Precision) -> Self {
        Self { rows, cols, sums: vec![0.0; rows * cols], precision }
    }

    /// Adds every token of `y [.., rows]` and `x [.., cols]`, f32 in host memory. 2·rows·cols·tokens operations. Errors on
    /// other shapes and devices.
    pub fn add(&mut self, y: &Tensor, x: &Tensor) -> Result<()> {
        let (rows, cols) = (self.rows, self.cols);
        let tokens = x.elem_count() / cols.max(1);
        if y.dim(D::Minus1)? != rows || x.dim(D::Minus1)? != cols || y.elem_count() != tokens * rows {
            candle_core::bail!("a sum of {rows} by {cols} features was given {:?} and {:?}", y.shape(), x.shape());
        }
        if tokens == 0 {
            return Ok(());
        }
        let (sums, precision) = (&mut self.sums, self.precision);
        with_f32(y, |y| with_f32(x, |x| add(sums, (y, rows), (x, cols), precision)))
    }

    /// [`Cross::add`] for y = a − b, which is taken in f32.
    pub fn add_difference(&mut self, a: &Tensor, b: &Tensor, x: &Tensor) -> Result<()> {
        if a.dims() != b.dims() {
            candle_core::bail!("a difference of {:?} and {:?}", a.shape(), b.shape());
        }
        let y = with_f32(a, |a| with_f32(b, |b| Ok(difference(a, b))))?;
        self.add(&Tensor::from_vec(y, a.shape(), a.device())?, x)
    }

    /// The sum so far, row-major `[rows, cols]`.
    pub fn values(&self) -> &[f32] {
        &self.sums
    }

    /// The sum, row-major `[rows, cols]`, every element multiplied by `factor`.
    pub fn finish(mut self, factor: f32) -> Vec<f32> {
        self.sums.iter_mut().for_each(|sum| *sum *= factor);
        self.sums
    }
}

fn difference(a: &[f32], b: &[f32]) -> Vec<f32> {
    const PIECE: usize = 1 << 16;
    let mut y = a.to_vec();
    y.par_chunks_mut(PIECE).zip(b.par_chunks(PIECE)).for_each(|(y, b)| y.iter_mut().zip(b).for_each(|(y, b)| *y -= b));
    y
}

fn add(sums: &mut [f32], y: (&[f32], usize), x: (&[f32], usize), precision: Precision) -> Result<()> {
    match precision {
        Precision::Bf16 => pairs::add_cross(sums, y, x),
        Precision::F32 => add_f32(sums, y, x),
        Precision::F16 => add_f32(sums, (&precision.rounded(y.0), y.1), (&precision.rounded(x.0), x.1)),
    }
    Ok(())
}

fn add_f32(sums: &mut [f32], (y, rows): (&[f32], usize), (x, cols): (&[f32], usize)) {
    let (y, x) =
        (MatRef::from_row_major_slice(y, y.len() / rows, rows), MatRef::from_row_major_slice(x, x.len() / cols, cols));
    products::multiply(MatMut::from_row_major_slice_mut(sums, rows, cols), Accum::Add, y.transpose(), x, 1.0);
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::gram::reference;
    use crate::test_values;

    #[test]
    fn sums_are_those_of_the_definition() {
        for (tokens, rows, cols) in [(1, 1, 1), (7, 5, 9), (33, 64, 70), (130, 70, 200), (257, 300, 65)] {
            let (y, x) = (test_values(tokens * rows, 1.0, 1), test_values(tokens * cols, 1.0, 2));
            let tensor = |v: &[f32], n: usize| Tensor::from_slice(v, (1, v.len() / n, n), &Device::Cpu).unwrap();
            for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
                let mut cross = Cross::new(rows, cols, precision);
                cross.add(&tensor(&y, rows), &tensor(&x, cols)).unwrap();
                // Of one token, whose y is a difference: both halves and their difference are exact.
                let (twice, once) = (tensor(&y[..rows], rows).affine(2.0, 0.0).unwrap(), tensor(&y[..rows], rows));
                cross.add_difference(&twice, &once, &tensor(&x[..cols], cols)).unwrap();
                let got = cross.finish(0.5);
                let want = reference::cross((&y, rows), (&x, cols), precision);
                let first = reference::cross((&y[..rows], rows), (&x[..cols], cols), precision);
                for ((got, want), first) in got.iter().zip(&want).zip(&first) {
                    let want = 0.5 * (want + first);
                    // Products of up to 1 in f32 sums of `tokens` of them.
                    let allowed = 1e-6 * (tokens as f64 + 1.0).max(want.abs());
                    assert!((f64::from(*got) - want).abs() <= allowed, "{tokens} x {rows} x {cols}, {precision:?}");
                }
            }
        }
        let mut cross = Cross::new(2, 3, Precision::F32);
        let zeros = |shape: (usize, usize)| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(cross.add(&zeros((4, 2)), &zeros((5, 3))).is_err());
        assert!(cross.add(&zeros((4, 3)), &zeros((4, 3))).is_err());
        cross.add(&zeros((0, 2)), &zeros((0, 3))).unwrap();
        assert_eq!(cross.finish(1.0), [0.0; 6]);
    }
}
