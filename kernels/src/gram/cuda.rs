//! Gram matrices on a GPU: the lower triangle in panels of columns, each a product by cuBLAS, whose symmetric product
//! takes no 16-bit floats.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, LaunchConfig, PushKernelArg};
use candle_core::{CudaDevice, Result, Tensor};
use half::{bf16, f16};

use super::{GramPrecision, TOKENS, piece_rows};
use crate::cuda::blas::{Factor, Math, Operand, Target, gemm};
use crate::cuda::{Source, THREADS, function, grid, staging, tensor, with_view};
use crate::matmul::Precision;
use crate::matmul::cuda::{Short, round};
use crate::square_matrix::SquareMatrix;

/// Columns of a panel: enough to fill a card, and few enough that little is computed above the diagonal.
const PANEL: usize = 1024;

/// Rows and columns, and rows of threads, of a block that works on tiles, as in gram.cu.
const TILE: (usize, u32) = (32, 8);

pub(super) struct Sums {
    values: CudaSlice<f32>,
    device: CudaDevice,
    pub(super) how: GramPrecision,
}

impl Sums {
    pub fn new(device: &CudaDevice, dim: usize) -> Result<Self> {
        Ok(Self { values: device.alloc_zeros(dim * dim)?, device: device.clone(), how: GramPrecision::F32 })
    }

    pub fn add(&mut self, x: &Tensor, dim: usize, precision: Precision) -> Result<()> {
        with_view::<f32, _>(x, |x, device| {
            for first in (0..x.len()).step_by(TOKENS * dim) {
                let x = x.slice(first..(first + TOKENS * dim).min(x.len()));
                match (precision, self.how) {
                    (Precision::Bf16, _) => {
                        let x = rounded::<bf16>(device, &x)?;
                        self.add_product(&x.as_view(), &x.as_view(), dim, Math::F32)?;
                    }
                    (Precision::F16, _) => {
                        let x = rounded::<f16>(device, &x)?;
                        self.add_product(&x.as_view(), &x.as_view(), dim, Math::F32)?;
                    }
                    (Precision::F32, GramPrecision::F32) => self.add_product(&x, &x, dim, Math::F32)?,
                    (Precision::F32, GramPrecision::Tf32) => self.add_product(&x, &x, dim, Math::Tf32)?,
                    (Precision::F32, GramPrecision::Bf16x3) => {
                        let (high, low) = split(device, &x)?;
                        let (high, low) = (high.as_view(), low.as_view());
                        // The small ones first.
                        self.add_product(&low, &high, dim, Math::F32)?;
                        self.add_product(&high, &low, dim, Math::F32)?;
                        self.add_product(&high, &high, dim, Math::F32)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Adds leftᵀ right, of which only the part on and below the diagonal is right: `[tokens, dim]` each.
    fn add_product<T: Factor>(
        &mut self,
        left: &CudaView<'_, T>,
        right: &CudaView<'_, T>,
        dim: usize,
        math: Math,
    ) -> Result<()> {
        let tokens = left.len() / dim;
        for first in (0..dim).step_by(PANEL) {
            let width = PANEL.min(dim - first);
            let (left, right) = (left.slice(first..), right.slice(first..));
            let mut out = self.values.slice_mut(first * (dim + 1)..);
            gemm(
                &self.device,
                [dim - first, width, tokens],
                (1.0, Operand::rows(&left, dim).t(), Operand::rows(&right, dim)),
                (1.0, Target { values: &mut out, stride: dim, step: 0 }),
                math,
            )?;
        }
        Ok(())
    }

    pub fn finish(mut self, dim: usize, factor: f32) -> Result<SquareMatrix> {
        let tiles = dim.div_ceil(TILE.0).max(1) as u32;
        let shape =
            LaunchConfig { grid_dim: (tiles, tiles, 1), block_dim: (TILE.0 as u32, TILE.1, 1), shared_mem_bytes: 0 };
        let n = dim as i64;
        let kernel = function(&self.device, Source::Gram, "gram_mirror")?;
        // SAFETY: there are dim² elements, and no tile reaches beyond them.
        unsafe { kernel.builder().arg(&mut self.values).arg(&n).arg(&factor).launch(shape).w()? };
        SquareMatrix::from_gpu(tensor(self.values, &self.device, (dim, dim)))
    }
}

/// A rounded copy.
fn rounded<T: Short>(device: &CudaDevice, x: &CudaView<'_, f32>) -> Result<CudaSlice<T>> {
    // SAFETY: all of it is written next.
    let mut out = unsafe { device.alloc::<T>(x.len())? };
    round(device, x, &mut out.as_view_mut())?;
    Ok(out)
}

/// The nearest bfloat16 numbers, and those nearest to what is left.
fn split(device: &CudaDevice, x: &CudaView<'_, f32>) -> Result<(CudaSlice<bf16>, CudaSlice<bf16>)> {
    let count = x.len() as i64;
    // SAFETY: the kernel writes each of the elements of both, of which the input has as many.
    unsafe {
        let (mut high, mut low) = (device.alloc(x.len())?, device.alloc(x.len())?);
        let kernel = function(device, Source::Gram, "gram_split")?;
        kernel.builder().arg(x).arg(&mut high).arg(&mut low).arg(&count).launch(grid(x.len(), THREADS)).w()?;
        Ok((high, low))
    }
}

/// [`super::Squares::add`]: sums over pieces of tokens, then over pieces, both always in the same order.
pub(super) fn add_squares(sums: &mut CudaSlice<f64>, x: &Tensor, dim: usize) -> Result<()> {
    with_view::<f32, _>(x, |x, device| {
        let tokens = x.len() / dim;
        if tokens == 0 {
            return Ok(());
        }
        // At most as many pieces as a grid may be high.
        let piece = tokens.div_ceil(65_535).max(256);
        let pieces = tokens.div_ceil(piece);
        let shape = LaunchConfig {
            grid_dim: (dim.div_ceil(TILE.0) as u32, pieces as u32, 1),
            block_dim: (TILE.0 as u32, TILE.1, 1),
            shared_mem_bytes: 0,
        };
        let [t, n, length, count] = [tokens, dim, piece, pieces].map(|v| v as i64);
        let partly = function(device, Source::Gram, "gram_squares")?;
        let whole = function(device, Source::Gram, "gram_add_squares")?;
        // SAFETY: x has tokens · dim elements; the first kernel writes pieces · dim sums, which the second one reads.
        unsafe {
            let mut partial = device.alloc::<f64>(pieces * dim)?;
            partly.builder().arg(&x).arg(&mut partial).arg(&t).arg(&n).arg(&length).launch(shape).w()?;
            whole.builder().arg(&partial).arg(sums).arg(&count).arg(&n).launch(grid(dim, THREADS)).w()?;
        }
        Ok(())
    })
}

/// Parts that the sum of one piece is made of.
const PARTS: usize = 512;

/// [`super::quadratic`].
pub(super) fn quadratic(w: &[f32], h: &SquareMatrix, precision: Precision) -> Result<f64> {
    let n = h.n();
    let rows = piece_rows(n);
    let diagonal = h.diagonal()?;
    with_view::<f32, _>(h.gpu_tensor()?, |h, device| {
        let half = match precision {
            Precision::Bf16 => Some((off_diagonal(device, &h, n)?, device.clone_htod(&diagonal)?)),
            Precision::F32 | Precision::F16 => None,
        };
        let mut total = 0.0;
        for piece in w.chunks((rows * n).max(1)) {
            // SAFETY: the copy, and then the product, write all of them before anything reads them.
            let (mut w, mut product) =
                unsafe { (device.alloc::<f32>(piece.len())?, device.alloc::<f32>(piece.len())?) };
            staging::up(device, piece, &mut w.as_view_mut())?;
            let target = Target { values: &mut product.as_view_mut(), stride: n, step: 0 };
            let shape = [piece.len() / n, n, n];
            match &half {
                Some((off_diagonal, _)) => {
                    let w = rounded::<bf16>(device, &w.as_view())?;
                    let (w, h) = (w.as_view(), off_diagonal.as_view());
                    gemm(device, shape, (1.0, Operand::rows(&w, n), Operand::rows(&h, n)), (0.0, target), Math::F32)?;
                }
                None => {
                    let w = w.as_view();
                    gemm(device, shape, (1.0, Operand::rows(&w, n), Operand::rows(&h, n)), (0.0, target), Math::F32)?;
                }
            }
            total += weighed(device, &product, &w, half.as_ref().map(|(_, diagonal)| diagonal), n)?;
        }
        Ok(total)
    })
}

/// H without its diagonal.
fn off_diagonal(device: &CudaDevice, h: &CudaView<'_, f32>, n: usize) -> Result<CudaSlice<bf16>> {
    let rows = n as i64;
    // SAFETY: the kernel writes each of the n² elements, of which the input has as many.
    unsafe {
        let mut out = device.alloc::<bf16>(h.len())?;
        let kernel = function(device, Source::Gram, "gram_off_diagonal")?;
        kernel.builder().arg(h).arg(&mut out).arg(&rows).launch(grid(h.len(), THREADS)).w()?;
        Ok(out)
    }
}

/// Σ w · product, or Σ w · (product + w · diagonal) for rows of n.
fn weighed(
    device: &CudaDevice,
    product: &CudaSlice<f32>,
    w: &CudaSlice<f32>,
    diagonal: Option<&CudaSlice<f32>>,
    n: usize,
) -> Result<f64> {
    let blocks = w.len().div_ceil(THREADS as usize).clamp(1, PARTS);
    let shape = LaunchConfig { grid_dim: (blocks as u32, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 };
    let (cols, count) = (n as i64, w.len() as i64);
    let kernel = function(device, Source::Gram, if diagonal.is_some() { "gram_weigh" } else { "gram_dot" })?;
    // SAFETY: product and w have as many elements, the diagonal has n, and each block writes its own part.
    let parts = unsafe {
        let mut parts = device.alloc::<f64>(blocks)?;
        let mut launch = kernel.builder();
        launch.arg(product).arg(w);
        match diagonal {
            Some(diagonal) => launch.arg(diagonal).arg(&mut parts).arg(&cols).arg(&count).launch(shape).w()?,
            None => launch.arg(&mut parts).arg(&count).launch(shape).w()?,
        };
        parts
    };
    Ok(device.clone_dtoh(&parts)?.iter().sum())
}
