//! Products on a GPU: cuBLAS, with the weight in the type of the product and the activations rounded to it piece by piece.

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, CudaViewMut, PushKernelArg};
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::{CudaDevice, Result, Tensor, WithDType};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::{Precision, gpu_piece};
use crate::cuda::blas::{Factor, Math, Operand, Target, gemm};
use crate::cuda::staging::{Plain, send};
use crate::cuda::{Source, THREADS, function, grid, tensor, with_view};
use crate::simd::{self, multiversion};

/// A 16-bit float that products take.
pub(crate) trait Short: Factor + CudaDType + WithDType + Plain + Unpin {
    /// The kernel that rounds to it.
    const ROUND: &'static str;
    /// `x`, rounded: on the host.
    fn narrow(x: &[f32], out: &mut [Self]);
}

impl Short for bf16 {
    const ROUND: &'static str = "matmul_to_bf16";

    fn narrow(x: &[f32], out: &mut [Self]) {
        narrow(x, out);
    }
}

impl Short for f16 {
    const ROUND: &'static str = "matmul_to_f16";

    fn narrow(x: &[f32], out: &mut [Self]) {
        out.convert_from_f32_slice(x);
    }
}

multiversion! {
    fn narrow(x: &[f32], out: &mut [bf16]) {
        for (o, &x) in out.iter_mut().zip(x) {
            *o = bf16::from_bits(simd::bf16_bits(x) as u16);
        }
    }
}

/// `x` rounded, into as many elements.
pub(crate) fn round<T: Short>(device: &CudaDevice, x: &CudaView<'_, f32>, out: &mut CudaViewMut<'_, T>) -> Result<()> {
    if x.len() != out.len() {
        candle_core::bail!("{} numbers rounded into {}", x.len(), out.len());
    }
    let (kernel, count) = (function(device, Source::Matmul, T::ROUND)?, x.len() as i64);
    let launch = grid(x.len().div_ceil(4), THREADS);
    // SAFETY: the kernel writes each of the elements, of which the input has as many.
    unsafe { kernel.builder().arg(x).arg(out).arg(&count).launch(launch).w()? };
    Ok(())
}

/// A weight in the memory of a device.
pub(super) struct Weight {
    device: CudaDevice,
    values: Values,
}

enum Values {
    F32(CudaSlice<f32>),
    Bf16(CudaSlice<bf16>),
    F16(CudaSlice<f16>),
}

impl Weight {
    /// Rounds `values` on the host and uploads them, 2 bytes each, or 4 with [`Precision::F32`], beside the work of the
    /// device: the first product waits for them.
    pub fn upload(device: &CudaDevice, values: &[f32], precision: Precision) -> Result<Self> {
        let values = match precision {
            Precision::F32 => {
                let copy = |at: usize, out: &mut [f32]| out.copy_from_slice(&values[at..][..out.len()]);
                Values::F32(send(device, values.len(), copy)?)
            }
            Precision::Bf16 => Values::Bf16(rounded(device, values)?),
            Precision::F16 => Values::F16(rounded(device, values)?),
        };
        Ok(Self { device: device.clone(), values })
    }

    /// `x [.., cols]` times the transpose of this `[rows, cols]`.
    pub fn matmul(&self, x: &Tensor, rows: usize, cols: usize) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        shape[x.rank() - 1] = rows;
        let y = with_view::<f32, _>(x, |x, device| match &self.values {
            Values::F32(weight) => {
                let mut y = unwritten(device, x.len() / cols * rows)?;
                product(device, &x, weight, [rows, cols], &mut y.as_view_mut())?;
                Ok(y)
            }
            Values::Bf16(weight) => in_pieces(device, &x, weight, [rows, cols]),
            Values::F16(weight) => in_pieces(device, &x, weight, [rows, cols]),
        })?;
        Ok(tensor(y, &self.device, shape))
    }

    /// The values, in host memory.
    pub fn download(&self) -> Result<Vec<f32>> {
        let device = &self.device;
        Ok(match &self.values {
            Values::F32(values) => device.clone_dtoh(values)?,
            Values::Bf16(values) => device.clone_dtoh(values)?.to_f32_vec(),
            Values::F16(values) => device.clone_dtoh(values)?.to_f32_vec(),
        })
    }
}

fn rounded<T: Short>(device: &CudaDevice, values: &[f32]) -> Result<CudaSlice<T>> {
    send(device, values.len(), |at, out: &mut [T]| T::narrow(&values[at..][..out.len()], out))
}

/// Memory for `len` numbers that a product is about to write.
fn unwritten(device: &CudaDevice, len: usize) -> Result<CudaSlice<f32>> {
    // SAFETY: both callers fill all of it by products, which do not read it.
    unsafe { device.alloc::<f32>(len) }
}

fn in_pieces<T: Short>(
    device: &CudaDevice,
    x: &CudaView<'_, f32>,
    weight: &CudaSlice<T>,
    [rows, cols]: [usize; 2],
) -> Result<CudaSlice<f32>> {
    let tokens = x.len() / cols;
    let mut y = unwritten(device, tokens * rows)?;
    let each = gpu_piece(tokens, cols);
    // SAFETY: each product below reads only what was rounded just before it.
    let mut short = unsafe { device.alloc::<T>(each * cols)? };
    for first in (0..tokens).step_by(each) {
        let count = each.min(tokens - first);
        let x = x.slice(first * cols..(first + count) * cols);
        round(device, &x, &mut short.slice_mut(..count * cols))?;
        let y = &mut y.slice_mut(first * rows..(first + count) * rows);
        product(device, &short.slice(..count * cols), weight, [rows, cols], y)?;
    }
    Ok(y)
}

/// y = x Wᵀ for `x [.., cols]`.
fn product<T: Factor>(
    device: &CudaDevice,
    x: &CudaView<'_, T>,
    weight: &CudaSlice<T>,
    [rows, cols]: [usize; 2],
    y: &mut CudaViewMut<'_, f32>,
) -> Result<()> {
    let weight = weight.as_view();
    let factors = (1.0, Operand::rows(x, cols), Operand::rows(&weight, cols).t());
    let y = Target { values: y, stride: rows, step: 0 };
    gemm(device, [x.len() / cols, rows, cols], factors, (0.0, y), Math::F32)
}
