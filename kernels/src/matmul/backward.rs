//! Backward pass of y = x Wᵀ + b: dx = dy W, dW = dyᵀ x, db = Σ dy.
//!
//! dW is a product over tokens, which [`crate::gram::Cross`] sums in f32. dx of linears that share their input is one sum.

use candle_core::{D, Result, Tensor};
use faer::{Accum, MatMut, MatRef};

use super::{Matrix, Store};
use crate::gradient::{require_cpu, rows_of, sum_rows};
use crate::simd::multiversion;
use crate::{products, with_f32};

/// The gradient of the input of some linears: the sum of dy W over them, in f32.
pub struct InputGradient {
    /// `[.., cols]`.
    shape: Vec<usize>,
    cols: usize,
    values: Vec<f32>,
    added: bool,
}

impl InputGradient {
    /// Nothing yet, for an input of this shape, whose last dimension is that of the features.
    pub fn new(shape: &[usize]) -> Self {
        let cols = shape.last().copied().unwrap_or(0);
        Self { shape: shape.to_vec(), cols, values: vec![0.0; shape.iter().product()], added: false }
    }

    /// Adds dy W for `dy [.., rows]` f32 and `w`, row-major `[rows, cols]`; 2 · tokens · rows · cols operations. Errors on
    /// other shapes, and where `dy` is not on the CPU.
    pub fn add(&mut self, dy: &Tensor, w: &[f32]) -> Result<()> {
        require_cpu(dy, "a linear")?;
        let rows = dy.dim(D::Minus1)?;
        let tokens = self.values.len().checked_div(self.cols).unwrap_or(0);
        if w.len() != rows * self.cols || dy.elem_count() != tokens * rows {
            candle_core::bail!(
                "the backward pass of a linear with {} weights was given {:?} for an input {:?}",
                w.len(),
                dy.shape(),
                self.shape
            );
        }
        if self.values.is_empty() || rows == 0 {
            return Ok(());
        }
        let accum = if self.added { Accum::Add } else { Accum::Replace };
        with_f32(dy, |dy| {
            products::multiply(
                MatMut::from_row_major_slice_mut(&mut self.values, tokens, self.cols),
                accum,
                MatRef::from_row_major_slice(dy, tokens, rows),
                MatRef::from_row_major_slice(w, rows, self.cols),
                1.0,
            );
            Ok(())
        })?;
        self.added = true;
        Ok(())
    }

    /// The sum, of the input's shape.
    pub fn finish(self) -> Result<Tensor> {
        Tensor::from_vec(self.values, self.shape, &candle_core::Device::Cpu)
    }
}

impl Matrix {
    /// Adds dy W of this matrix, as its products see it; see [`InputGradient::add`].
    pub fn add_input_gradient(&self, dy: &Tensor, sum: &mut InputGradient) -> Result<()> {
        match &self.store {
            Store::Plain(values) => sum.add(dy, values),
            Store::Panels(panels) => sum.add(dy, &panels.unpack()),
            #[cfg(feature = "cuda")]
            Store::Gpu(_) => require_cpu(dy, "a linear"),
        }
    }
}

multiversion! {
    fn add_rows(x: &[f32], sums: &mut [f32]) {
        for row in x.chunks_exact(sums.len()) {
            for (sum, &v) in sums.iter_mut().zip(row) {
                *sum += v;
            }
        }
    }
}

/// The gradient of a bias: the sum of `dy [.., rows]` over all but the last dimension. Errors where it is not on the CPU.
pub fn bias_gradient(dy: &Tensor) -> Result<Vec<f32>> {
    require_cpu(dy, "a bias")?;
    let width = dy.dim(D::Minus1)?;
    let each = rows_of(width) * width;
    with_f32(dy, |dy| {
        let chunks = if width == 0 { 0 } else { dy.len().div_ceil(each) };
        Ok(sum_rows(chunks, width, |i, sums| add_rows(&dy[i * each..dy.len().min((i + 1) * each)], sums)))
    })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::{Precision, reference};
    use super::*;
    use crate::cases::flat;
    use crate::gradient::numeric::{check, dot, narrow, off, values};
    use crate::gram::Cross;

    #[test]
    fn the_reference_is_the_gradient_and_the_fast_form_the_reference() {
        for (tokens, rows, cols) in [(1, 1, 1), (5, 3, 4), (70, 9, 5)] {
            let (x, w, dy) =
                (values(tokens * cols, 1.0, 1), values(rows * cols, 1.0, 2), values(tokens * rows, 1.0, 3));
            let (dx, dw, db) = reference::backward(&dy, &x, &w, rows);
            if tokens < 10 {
                check("dx", &x, &dx, |x| dot(&dy, &reference::linear(x, &w, &vec![0.0; rows])));
                check("dw", &w, &dw, |w| dot(&dy, &reference::linear(&x, w, &vec![0.0; rows])));
                check("db", &vec![0.5; rows], &db, |b| dot(&dy, &reference::linear(&x, &w, b)));
            }
            let tensor = |v: &[f64], n: usize| Tensor::from_vec(narrow(v), (1, tokens, n), &Device::Cpu).unwrap();
            let (x, dy) = (tensor(&x, cols), tensor(&dy, rows));
            for precision in [Precision::F32, Precision::Bf16] {
                let matrix = Matrix::new(rows, cols, narrow(&w), precision);
                let mut sum = InputGradient::new(&[1, tokens, cols]);
                matrix.add_input_gradient(&dy, &mut sum).unwrap();
                matrix.add_input_gradient(&dy, &mut sum).unwrap();
                let twice: Vec<f64> = dx.iter().map(|d| 2.0 * d).collect();
                // Rounded weights are off by up to 2^-9 of themselves, each of `rows` products.
                let allowed = if precision == Precision::F32 { 1e-6 } else { 2e-2 };
                assert!(off(&flat(&sum.finish().unwrap()).unwrap(), &twice) < allowed, "{tokens}, {precision:?}");
            }
            let mut sum = Cross::new(rows, cols, Precision::F32);
            sum.add(&dy, &x).unwrap();
            assert!(off(&sum.finish(1.0), &dw) < 1e-6);
            assert!(off(&bias_gradient(&dy).unwrap(), &db) < 1e-6);
        }
    }

    #[test]
    fn gradients_do_not_depend_on_the_number_of_threads() {
        let (tokens, rows, cols) = (900, 130, 200);
        let tensor = |n: usize, seed: u64| {
            Tensor::from_vec(crate::test_values(tokens * n, 1.0, seed), (1, tokens, n), &Device::Cpu).unwrap()
        };
        let (x, dy, w) = (tensor(cols, 1), tensor(rows, 2), crate::test_values(rows * cols, 1.0, 3));
        let run = |threads: usize| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
                let mut sum = InputGradient::new(&[1, tokens, cols]);
                sum.add(&dy, &w).unwrap();
                let mut weight = Cross::new(rows, cols, Precision::F32);
                weight.add(&dy, &x).unwrap();
                (flat(&sum.finish().unwrap()).unwrap(), weight.finish(1.0), bias_gradient(&dy).unwrap())
            })
        };
        let one = run(1);
        assert!([2, 3, 7].into_iter().all(|threads| run(threads) == one));
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, candle_core::DType::F32, &Device::Cpu).unwrap();
        let mut sum = InputGradient::new(&[2, 3]);
        assert!(sum.add(&zeros(&[2, 4]), &[0.0; 11]).is_err());
        assert!(sum.add(&zeros(&[3, 4]), &[0.0; 12]).is_err());
        sum.add(&zeros(&[2, 0]), &[]).unwrap();
        assert_eq!(flat(&sum.finish().unwrap()).unwrap(), [0.0; 6]);
        assert_eq!(bias_gradient(&zeros(&[0, 3])).unwrap(), [0.0; 3]);
        assert!(bias_gradient(&zeros(&[3, 0])).unwrap().is_empty());
    }
}
