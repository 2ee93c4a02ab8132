//! Products of matrices by cuBLAS, for matrices whose rows lie one after another. Sums are f32, and the same call gives
//! the same bits on the same card: all of them run on the device's one stream.

use std::ffi::{c_int, c_void};

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::cublas::result::{gemm_ex, gemm_strided_batched_ex};
use candle_core::cuda_backend::cudarc::cublas::sys;
use candle_core::cuda_backend::cudarc::driver::{CudaView, CudaViewMut, DevicePtr, DevicePtrMut, DeviceRepr};
use candle_core::{CudaDevice, Result};

/// The arithmetic of products of f32 numbers. Those of 16-bit floats are exact in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Math {
    /// f32 throughout.
    F32,
    /// Factors rounded to ten bits of mantissa, for tensor cores.
    Tf32,
}

/// The types that products take.
pub(crate) trait Factor: DeviceRepr {
    /// As cuBLAS calls it.
    const TYPE: sys::cudaDataType;
}

impl Factor for f32 {
    const TYPE: sys::cudaDataType = sys::cudaDataType::CUDA_R_32F;
}

impl Factor for half::bf16 {
    const TYPE: sys::cudaDataType = sys::cudaDataType::CUDA_R_16BF;
}

impl Factor for half::f16 {
    const TYPE: sys::cudaDataType = sys::cudaDataType::CUDA_R_16F;
}

/// A matrix, or several of one shape, in a device's memory: row-major, or with [`Operand::t`] the transpose of one that
/// is. How many rows and columns it has, the product says.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a, T> {
    values: &'a CudaView<'a, T>,
    stride: usize,
    step: usize,
    transposed: bool,
}

impl<'a, T> Operand<'a, T> {
    /// `values` from the first element on, `stride` elements from one row to the next.
    pub fn rows(values: &'a CudaView<'a, T>, stride: usize) -> Self {
        Self { values, stride, step: 0, transposed: false }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// For products of several: `step` elements from the first of one matrix to the first of the next; 0 uses the same
    /// matrix every time.
    pub fn every(self, step: usize) -> Self {
        Self { step, ..self }
    }

    /// Its number of elements from the first to the last of `batch` matrices of that shape, as it lies in memory. `None`
    /// if rows overlap.
    fn extent(&self, rows: usize, cols: usize, batch: usize) -> Option<usize> {
        let [rows, cols] = if self.transposed { [cols, rows] } else { [rows, cols] };
        extent(self.stride, self.step, rows, cols, batch)
    }

    fn operation(&self) -> sys::cublasOperation_t {
        match self.transposed {
            false => sys::cublasOperation_t::CUBLAS_OP_N,
            true => sys::cublasOperation_t::CUBLAS_OP_T,
        }
    }
}

fn extent(stride: usize, step: usize, rows: usize, cols: usize, batch: usize) -> Option<usize> {
    (stride >= cols).then(|| (batch - 1) * step + (rows - 1) * stride + cols)
}

/// The destination of a product: row-major, `stride` elements from one row to the next.
pub(crate) struct Target<'a, 'b> {
    /// From the first element on.
    pub values: &'a mut CudaViewMut<'b, f32>,
    /// Elements from one row to the next.
    pub stride: usize,
    /// Elements from one matrix to the next, in products of several.
    pub step: usize,
}

/// `out = alpha · a b + beta · out` with a `[m, k]`, b `[k, n]` and out `[m, n]`; 2·m·n·k operations. With `beta` 0, `out`
/// is not read. Errors on views that are too short.
pub(crate) fn gemm<T: Factor>(
    device: &CudaDevice,
    shape: [usize; 3],
    (alpha, a, b): (f32, Operand<'_, T>, Operand<'_, T>),
    (beta, out): (f32, Target<'_, '_>),
    math: Math,
) -> Result<()> {
    gemm_batch(device, 1, shape, (alpha, a, b), (beta, out), math)
}

/// [`gemm`] of `batch` matrices each, which lie as far apart as operands and target say; those of the target do not
/// overlap.
pub(crate) fn gemm_batch<T: Factor>(
    device: &CudaDevice,
    batch: usize,
    [m, n, k]: [usize; 3],
    (alpha, a, b): (f32, Operand<'_, T>, Operand<'_, T>),
    (beta, out): (f32, Target<'_, '_>),
    math: Math,
) -> Result<()> {
    if batch == 0 || m == 0 || n == 0 {
        return Ok(());
    }
    check_extents(batch, [m, n, k], (&a, &b), &out)?;
    let compute = match math {
        Math::F32 => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
        Math::Tf32 => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
    };
    let (blas, stream) = (device.cublas_handle(), device.cuda_stream());
    stream.context().bind_to_thread().w()?;
    // The guards record that the stream uses the memory, once the product is on it.
    let (left, _left) = a.values.device_ptr(&stream);
    let (right, _right) = b.values.device_ptr(&stream);
    let (to, _to) = out.values.device_ptr_mut(&stream);
    let call = Call {
        operations: [a.operation(), b.operation()],
        sizes: [int(m)?, int(n)?, int(k)?],
        pointers: (left as *const c_void, right as *const c_void, to as *mut c_void),
        strides: [int(a.stride)?, int(b.stride)?, int(out.stride)?],
        steps: [a.step, b.step, out.step].map(|step| step as i64),
        batch: int(batch)?,
        factors: [alpha, beta],
        types: [T::TYPE, f32::TYPE],
        compute,
    };
    // SAFETY: the handle is the device's; all elements of the operands and of the target lie inside their views, as
    // checked above, and the target is borrowed mutably, so it is none of the operands.
    unsafe { call.run(*blas.handle()) }
}

/// Errors unless all elements of the operands and of the target lie inside their views.
fn check_extents<T>(
    batch: usize,
    [m, n, k]: [usize; 3],
    (a, b): (&Operand<'_, T>, &Operand<'_, T>),
    out: &Target<'_, '_>,
) -> Result<()> {
    let fits = |extent: Option<usize>, len: usize| extent.is_some_and(|extent| extent <= len);
    if k == 0
        || !fits(a.extent(m, k, batch), a.values.len())
        || !fits(b.extent(k, n, batch), b.values.len())
        || !fits(extent(out.stride, out.step, m, n, batch), out.values.len())
    {
        candle_core::bail!(
            "a product of {batch} matrices [{m}, {k}] and [{k}, {n}] in views of {}, {} and {} elements with rows of \
             {}, {} and {}",
            a.values.len(),
            b.values.len(),
            out.values.len(),
            a.stride,
            b.stride,
            out.stride
        );
    }
    Ok(())
}

fn int(size: usize) -> Result<c_int> {
    c_int::try_from(size).map_err(|_| candle_core::Error::Msg(format!("a matrix of {size} rows or columns")))
}

/// The arguments of a product of row-major matrices, each list in the order a, b, out.
struct Call {
    operations: [sys::cublasOperation_t; 2],
    /// m, n, k.
    sizes: [c_int; 3],
    pointers: (*const c_void, *const c_void, *mut c_void),
    strides: [c_int; 3],
    steps: [i64; 3],
    batch: c_int,
    /// alpha, beta.
    factors: [f32; 2],
    /// Of the operands and of the target.
    types: [sys::cudaDataType; 2],
    compute: sys::cublasComputeType_t,
}

impl Call {
    /// Puts the product on the handle's stream. cuBLAS goes by columns, where a row-major matrix is its own transpose:
    /// outᵀ = bᵀ aᵀ.
    ///
    /// # Safety
    /// The matrices lie in the memory of the handle's device, and the target overlaps no operand.
    unsafe fn run(&self, handle: sys::cublasHandle_t) -> Result<()> {
        let ([a_op, b_op], [m, n, k], (a, b, out)) = (self.operations, self.sizes, self.pointers);
        let ([a_stride, b_stride, stride], [a_step, b_step, step]) = (self.strides, self.steps);
        let [alpha, beta] = [&self.factors[0], &self.factors[1]].map(|factor| (&raw const *factor).cast::<c_void>());
        let ([ty, out_ty], compute) = (self.types, self.compute);
        let algorithm = sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT;
        // SAFETY: the caller's promise; alpha and beta are f32 in host memory, which the compute type and the handle's
        // pointer mode ask for, and outlive the call.
        unsafe {
            if self.batch == 1 {
                gemm_ex(
                    handle, b_op, a_op, n, m, k, alpha, b, ty, b_stride, a, ty, a_stride, beta, out, out_ty, stride,
                    compute, algorithm,
                )
            } else {
                gemm_strided_batched_ex(
                    handle, b_op, a_op, n, m, k, alpha, b, ty, b_stride, b_step, a, ty, a_stride, a_step, beta, out,
                    out_ty, stride, step, self.batch, compute, algorithm,
                )
            }
        }
        .w()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::cases::{flat, largest, random};
    use crate::cuda::with_view;
    use crate::device::{Choice, open};

    /// Each GPU that answers.
    fn gpus() -> Vec<(Device, CudaDevice)> {
        let opened = open(Choice::Cuda(0)).into_iter();
        opened.map(|device| (device.clone(), device.as_cuda_device().unwrap().clone())).collect()
    }

    /// `2 a b + 3 out` of two matrices each inside larger ones, with either operand as its transpose.
    fn deviation(
        device: &Device,
        cuda: &CudaDevice,
        [m, n, k]: [usize; 3],
        [left, right]: [bool; 2],
        math: Math,
    ) -> f64 {
        let (batch, wide) = (2, 50);
        let make = |seed: u64| random(&[batch, 40, wide], 1.0, seed, device).unwrap();
        let (a, b, out) = (make(1), make(2), make(3));
        let [x, y, before] = [&a, &b, &out].map(|t| flat(t).unwrap());
        let mut to = cuda.clone_htod(&before).unwrap();
        // The matrices begin at row 1, column 2.
        let (step, at) = (40 * wide, wide + 2);
        let inner = |x: &Tensor, f: &mut dyn FnMut(CudaView<'_, f32>)| {
            with_view::<f32, _>(x, |x, _| {
                f(x.slice(at..));
                Ok(())
            })
        };
        inner(&a, &mut |a| {
            inner(&b, &mut |b| {
                let [a, b] = [&a, &b].map(|x| Operand::rows(x, wide).every(step));
                let (a, b) = (if left { a.t() } else { a }, if right { b.t() } else { b });
                let values = &mut to.slice_mut(at..);
                let target = Target { values, stride: wide, step };
                gemm_batch(cuda, batch, [m, n, k], (2.0, a, b), (3.0, target), math).unwrap();
            })
            .unwrap();
        })
        .unwrap();
        let mut want: Vec<f64> = before.iter().map(|&v| f64::from(v)).collect();
        for (which, i, j) in (0..batch * m * n).map(|at| (at / (m * n), at / n % m, at % n)) {
            let first = which * step + at;
            let element = |x: &[f32], row: usize, col: usize| f64::from(x[first + row * wide + col]);
            let from_a = |l: usize| if left { element(&x, l, i) } else { element(&x, i, l) };
            let from_b = |l: usize| if right { element(&y, j, l) } else { element(&y, l, j) };
            let sum: f64 = (0..k).map(|l| from_a(l) * from_b(l)).sum();
            let value = &mut want[which * step + at + i * wide + j];
            *value = 2.0 * sum + 3.0 * *value;
        }
        // Sums of up to 40 products of order one; TF32 has ten bits of mantissa.
        let bound = if math == Math::F32 { 2e-5 } else { 5e-2 };
        largest(&cuda.clone_dtoh(&to).unwrap(), &want, |_, _| bound)
    }

    #[test]
    fn products_inside_larger_matrices() {
        for (device, cuda) in gpus() {
            for shape in [[1, 1, 1], [7, 5, 3], [33, 17, 37]] {
                for turned in [[false, false], [false, true], [true, false], [true, true]] {
                    for math in [Math::F32, Math::Tf32] {
                        let off = deviation(&device, &cuda, shape, turned, math);
                        assert!(off <= 1.0, "{shape:?}, transposed {turned:?}, {math:?}: off by {off}");
                    }
                }
            }
        }
    }

    #[test]
    fn views_that_are_too_short_are_errors() {
        for (_, cuda) in gpus() {
            let memory = cuda.alloc_zeros::<f32>(20).unwrap();
            let mut to = cuda.alloc_zeros::<f32>(20).unwrap();
            let mut run = |shape: [usize; 3], stride: usize| {
                let view = memory.as_view();
                let (a, b) = (Operand::rows(&view, stride), Operand::rows(&view, stride));
                let target = Target { values: &mut to.as_view_mut(), stride, step: 0 };
                gemm(&cuda, shape, (1.0, a, b), (0.0, target), Math::F32).map_err(|e| e.to_string())
            };
            assert!(run([4, 5, 4], 5).is_ok());
            // A row more than there is, rows that overlap, nothing to add up.
            for (shape, stride) in [([5, 5, 4], 5), ([4, 5, 4], 4), ([4, 5, 0], 5)] {
                let error = run(shape, stride).unwrap_err();
                assert!(error.starts_with("a product of 1 matrices"), "{error}");
            }
        }
    }
}
