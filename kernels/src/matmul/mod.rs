//! Products of activations with a weight matrix: `y = x Wᵀ`.

mod backward;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod panels;
pub(crate) mod reference;
pub(crate) mod tile;

use candle_core::{D, Device, Result, Tensor};
use faer::{Accum, MatMut, MatRef};
use rayon::prelude::*;

pub use backward::{InputGradient, bias_gradient};
pub use tile::{ISA, Isa, arithmetic, choose};

use crate::plain::add;
use crate::swiglu::swiglu;
use crate::{products, simd, with_f32};
use panels::Panels;

/// Rounding of the inputs of a product. Products and sums are f32 in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As they are.
    F32,
    /// Activations (and weights, which usually are bf16 already) to bfloat16.
    Bf16,
    /// Activations (and weights) to IEEE half precision.
    F16,
}

impl Precision {
    /// `x` as this precision sees it.
    #[inline(always)]
    pub fn round(self, x: f32) -> f32 {
        match self {
            Precision::F32 => x,
            Precision::Bf16 => simd::round_bf16(x),
            Precision::F16 => half::f16::from_f32(x).to_f32(),
        }
    }

    /// The largest number of this precision that is not above `x`, for positive finite `x`.
    pub fn round_down(self, x: f32) -> f32 {
        match self {
            Precision::F32 => x,
            // Positive floats order like their bits, and the longer type has the bits of the shorter one and some more.
            Precision::Bf16 => f32::from_bits(x.to_bits() & 0xffff_0000),
            Precision::F16 => {
                let near = half::f16::from_f32(x);
                if near.to_f32() <= x { near.to_f32() } else { half::f16::from_bits(near.to_bits() - 1).to_f32() }
            }
        }
    }

    /// The smallest number of this precision that is not below `x`, for positive finite `x`.
    pub fn round_up(self, x: f32) -> f32 {
        let below = self.round_down(x);
        match self {
            _ if below >= x => below,
            Precision::F32 => x,
            Precision::Bf16 => f32::from_bits(below.to_bits() + (1 << 16)),
            Precision::F16 => half::f16::from_bits(half::f16::from_f32(below).to_bits() + 1).to_f32(),
        }
    }

    /// The distance from 1 to the next number of this precision.
    pub fn epsilon(self) -> f32 {
        match self {
            Precision::F32 => f32::EPSILON,
            Precision::Bf16 => 2f32.powi(-7),
            Precision::F16 => 2f32.powi(-10),
        }
    }

    /// A rounded copy of `x`.
    pub(crate) fn rounded(self, x: &[f32]) -> Vec<f32> {
        x.par_iter().with_min_len(1 << 14).map(|&v| self.round(v)).collect()
    }
}

/// Bytes of rounded activations at a time on a GPU.
const GPU_PIECE: usize = 64 << 20;

/// Tokens whose activations are rounded at a time on a GPU, to 2 bytes each.
pub(crate) fn gpu_piece(tokens: usize, cols: usize) -> usize {
    (GPU_PIECE / 2 / cols.max(1)).clamp(1, tokens.max(1))
}

/// Bytes that [`Matrix::matmul`] takes on a GPU beside its operands and result, for `tokens` inputs of `cols` features.
pub fn gpu_scratch(tokens: usize, cols: usize, precision: Precision) -> usize {
    if precision == Precision::F32 { 0 } else { 2 * cols * gpu_piece(tokens, cols) }
}

/// A weight matrix `[rows, cols]` = `[out, in]`, laid out once for fast products.
pub struct Matrix {
    rows: usize,
    cols: usize,
    store: Store,
    precision: Precision,
}

enum Store {
    /// Row-major, rounded to the precision.
    Plain(Vec<f32>),
    /// Panels of bfloat16 pairs.
    Panels(Panels),
    /// In the memory of a GPU.
    #[cfg(feature = "cuda")]
    Gpu(cuda::Weight),
}

impl Matrix {
    /// Takes `values`, row-major `[rows, cols]`, and rounds them to `precision`.
    ///
    /// # Panics
    /// If the length is not rows · cols.
    pub fn new(rows: usize, cols: usize, mut values: Vec<f32>, precision: Precision) -> Self {
        assert_eq!(values.len(), rows * cols, "a matrix of {rows} rows and {cols} columns");
        // Panels have at least one row and one column.
        let store = if precision == Precision::Bf16 && !values.is_empty() {
            Store::Panels(Panels::pack(&values, rows, cols))
        } else {
            values.iter_mut().for_each(|v| *v = precision.round(*v));
            Store::Plain(values)
        };
        Self { rows, cols, store, precision }
    }

    /// [`Matrix::new`] on a device, for activations that lie there: on a GPU 2 bytes an element, 4 with
    /// [`Precision::F32`]. Errors when the device does.
    ///
    /// # Panics
    /// If the length is not rows · cols.
    pub fn on_device(
        device: &Device,
        rows: usize,
        cols: usize,
        values: Vec<f32>,
        precision: Precision,
    ) -> Result<Self> {
        match device {
            Device::Cpu => Ok(Self::new(rows, cols, values, precision)),
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => {
                assert_eq!(values.len(), rows * cols, "a matrix of {rows} rows and {cols} columns");
                let store = Store::Gpu(cuda::Weight::upload(device, &values, precision)?);
                Ok(Self { rows, cols, store, precision })
            }
            _ => candle_core::bail!("a matrix on {device:?}, which this build cannot compute on"),
        }
    }

    /// `x [.., cols]` f32, on the device of this matrix, → `[.., rows]` f32; 2 · tokens · rows · cols operations. Where
    /// activations are rounded, some memory for that: on a GPU 64 MiB at most.
    pub fn matmul(&self, x: &Tensor) -> Result<Tensor> {
        self.product(x, None)
    }

    /// [`Matrix::matmul`] added to `onto [.., rows]`, without a pass of its own where products are of bfloat16 on the CPU.
    pub fn matmul_onto(&self, x: &Tensor, onto: &Tensor) -> Result<Tensor> {
        self.product(x, Some(onto))
    }

    fn product(&self, x: &Tensor, onto: Option<&Tensor>) -> Result<Tensor> {
        self.check(x)?;
        let y = match (&self.store, onto) {
            (Store::Panels(panels), None) => self.tensor(x, with_f32(x, |x| Ok(panels.apply(x, None)))?)?,
            (Store::Panels(panels), Some(onto)) => {
                let shape = self.shape(x);
                if onto.dims() != shape {
                    candle_core::bail!("a product of shape {shape:?} added to {:?}", onto.shape());
                }
                let made = with_f32(x, |x| with_f32(onto, |onto| Ok(panels.apply(x, Some(onto)))));
                return self.tensor(x, made?);
            }
            #[cfg(feature = "cuda")]
            (Store::Gpu(weight), _) => weight.matmul(x, self.rows, self.cols)?,
            (Store::Plain(w), _) => {
                let round = |x: &[f32]| match self.precision {
                    Precision::F32 => self.plain(x, w),
                    _ => self.plain(&self.precision.rounded(x), w),
                };
                self.tensor(x, with_f32(x, |x| Ok(round(x)))?)?
            }
        };
        match onto {
            Some(onto) => add(onto, &y),
            None => Ok(y),
        }
    }

    fn panels(&self) -> Option<&Panels> {
        if let Store::Panels(panels) = &self.store { Some(panels) } else { None }
    }

    fn check(&self, x: &Tensor) -> Result<()> {
        if x.dim(D::Minus1)? != self.cols {
            candle_core::bail!("a weight of {} columns was given an input of shape {:?}", self.cols, x.shape());
        }
        Ok(())
    }

    /// The shape of the product with `x`.
    fn shape(&self, x: &Tensor) -> Vec<usize> {
        let mut shape = x.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = self.rows;
        }
        shape
    }

    fn tensor(&self, x: &Tensor, values: Vec<f32>) -> Result<Tensor> {
        Tensor::from_vec(values, self.shape(x), x.device())
    }

    fn plain(&self, x: &[f32], w: &[f32]) -> Vec<f32> {
        // A matrix without columns has no product; that shows in its shape.
        let tokens = x.len().checked_div(self.cols).unwrap_or(0);
        let mut y = vec![0.0; tokens * self.rows];
        if y.is_empty() {
            return y;
        }
        products::multiply(
            MatMut::from_row_major_slice_mut(&mut y, tokens, self.rows),
            Accum::Replace,
            MatRef::from_row_major_slice(x, tokens, self.cols),
            MatRef::from_row_major_slice(w, self.rows, self.cols).transpose(),
            1.0,
        );
        y
    }

    /// The dense weight as the product sees it, f32 `[rows, cols]`, in host memory.
    pub fn dense(&self) -> Result<Tensor> {
        let values = match &self.store {
            Store::Plain(values) => values.clone(),
            Store::Panels(panels) => panels.unpack(),
            #[cfg(feature = "cuda")]
            Store::Gpu(weight) => weight.download()?,
        };
        Tensor::from_vec(values, (self.rows, self.cols), &Device::Cpu)
    }
}

/// The panels of all of these, where all have some.
fn panels_of<'a>(matrices: &[&'a Matrix]) -> Option<Vec<&'a Panels>> {
    matrices.iter().map(|matrix| matrix.panels()).collect()
}

/// [`Matrix::matmul`] of one input with several weights, which bfloat16 products on the CPU round only once.
pub fn matmul_each(matrices: &[&Matrix], x: &Tensor) -> Result<Vec<Tensor>> {
    matrices.iter().try_for_each(|matrix| matrix.check(x))?;
    let Some(panels) = panels_of(matrices) else { return matrices.iter().map(|matrix| matrix.matmul(x)).collect() };
    let made = with_f32(x, |x| Ok(Panels::apply_each(&panels, x)))?;
    matrices.iter().zip(made).map(|(matrix, values)| matrix.tensor(x, values)).collect()
}

/// W M for `w`, row-major `[rows, n]`, and `m [n, n]`, in f32; 2·rows·n² operations.
///
/// # Panics
/// If `w` has no whole number of rows of `n`, or `m` is not `[n, n]`.
pub fn product(w: &[f32], m: &[f32], n: usize) -> Vec<f32> {
    assert!(w.len().is_multiple_of(n.max(1)) && m.len() == n * n);
    let (rows, mut made) = (w.len() / n.max(1), vec![0f32; w.len()]);
    products::multiply(
        MatMut::from_row_major_slice_mut(&mut made, rows, n),
        Accum::Replace,
        MatRef::from_row_major_slice(w, rows, n),
        MatRef::from_row_major_slice(m, n, n),
        1.0,
    );
    made
}

/// silu(x Wᵀ) · (x Vᵀ) for the weights `gate` W and `up` V of one shape. bfloat16 products on the CPU are not stored in
/// between.
pub fn gated(gate: &Matrix, up: &Matrix, x: &Tensor) -> Result<Tensor> {
    gate.check(x)?;
    up.check(x)?;
    match panels_of(&[gate, up]).as_deref() {
        Some([panels, other]) if gate.rows == up.rows => {
            gate.tensor(x, with_f32(x, |x| Ok(Panels::gated(panels, other, x)))?)
        }
        _ => swiglu(&gate.matmul(x)?, &up.matmul(x)?),
    }
}

/// A precision as kernels call its type: `Stored` in stored.cuh.
#[cfg(feature = "cuda")]
pub(crate) fn stored(precision: Precision) -> i32 {
    match precision {
        Precision::F32 => 0,
        Precision::Bf16 => 1,
        Precision::F16 => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::flat;

    #[test]
    fn rounded_activations_of_a_gpu_stay_within_their_memory() {
        assert_eq!(gpu_scratch(100, 4096, Precision::Bf16), 2 * 100 * 4096);
        assert_eq!(gpu_scratch(1 << 20, 4096, Precision::F16), GPU_PIECE);
        assert_eq!(gpu_scratch(1 << 20, 4096, Precision::F32), 0);
    }

    #[test]
    fn the_dense_weight_is_what_products_see() {
        for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
            for (rows, cols) in [(1, 1), (5, 7), (192, 300), (129, 65)] {
                let w = crate::test_values(rows * cols, 1.0, 2);
                let dense = flat(&Matrix::new(rows, cols, w.clone(), precision).dense().unwrap()).unwrap();
                assert!(dense.iter().zip(&w).all(|(d, w)| *d == precision.round(*w)));
            }
        }
    }

    #[test]
    fn a_matrix_without_rows_gives_products_without_columns() {
        let x = Tensor::zeros((3, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
            let none = || Matrix::new(0, 4, vec![], precision);
            let each = matmul_each(&[&none(), &Matrix::new(2, 4, vec![1.0; 8], precision)], &x).unwrap();
            assert_eq!((each[0].dims(), each[1].dims()), (&[3, 0][..], &[3, 2][..]), "{precision:?}");
            assert_eq!(gated(&none(), &none(), &x).unwrap().dims(), [3, 0], "{precision:?}");
            let onto = Tensor::zeros((3, 0), candle_core::DType::F32, &Device::Cpu).unwrap();
            assert_eq!(none().matmul_onto(&x, &onto).unwrap().dims(), [3, 0], "{precision:?}");
        }
    }

    #[test]
    fn the_result_does_not_depend_on_the_number_of_threads() {
        let (tokens, rows, cols) = (700, 320, 600);
        let x: Vec<f32> = (0..tokens * cols).map(|i| ((i * 7919) % 1013) as f32 / 507.0 - 1.0).collect();
        let x = Tensor::from_vec(x, (tokens, cols), &Device::Cpu).unwrap();
        let w: Vec<f32> = (0..rows * cols).map(|i| ((i * 104_729) % 997) as f32 / 499.0 - 1.0).collect();
        for precision in [Precision::F32, Precision::Bf16] {
            let matrix = Matrix::new(rows, cols, w.clone(), precision);
            let run = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| flat(&matrix.matmul(&x).unwrap()).unwrap())
            };
            let one = run(1);
            for threads in [2, 3, 7] {
                assert!(one == run(threads), "{precision:?} with {threads} threads");
            }
        }
    }
}
