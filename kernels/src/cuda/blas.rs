//! Products of matrices by cuBLAS, for matrices whose rows lie one after another. Sums are f32, and the same call gives
//! the same bits on the same card: all of them run on the device's one stream.

use std::ffi::{c_int, c_void};

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::cublas::result::{gemm_ex, gemm_strided_batched_ex};
use candle_core::cuda_backend::cudarc::cublas::sys;
use candle_core::cuda_backend::cudarc::driver::{CudaView, CudaViewMut, DevicePtr, DevicePtrMut, DeviceRepr};
use candle_core::{CudaDevice, Result};

/// What products of f32 numbers are made of. Those of 16-bit floats are exact in f32.
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

/// Where a product goes: row-major, `stride` elements from one row to the next.
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
    let int = |size: usize| {
        c_int::try_from(size).map_err(|_| candle_core::Error::Msg(format!("a matrix of {size} rows or columns")))
    };
    let (rows, cols, depth, count) = (int(m)?, int(n)?, int(k)?, int(batch)?);
    let (a_stride, b_stride, stride) = (int(a.stride)?, int(b.stride)?, int(out.stride)?);
    let compute = match math {
        Math::F32 => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
        Math::Tf32 => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
    };
    let algorithm = sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT;
    let (blas, stream) = (device.cublas_handle(), device.cuda_stream());
    stream.context().bind_to_thread().w()?;
    let (alpha, beta) = ((&raw const alpha).cast::<c_void>(), (&raw const beta).cast::<c_void>());
    // The guards record that the stream uses the memory, once the product is on it.
    let (left, _left) = a.values.device_ptr(&stream);
    let (right, _right) = b.values.device_ptr(&stream);
    let (to, _to) = out.values.device_ptr_mut(&stream);
    let (left, right, to) = (left as *const c_void, right as *const c_void, to as *mut c_void);
    let output = f32::TYPE;
    // cuBLAS goes by columns, where a row-major matrix is its own transpose: outᵀ = bᵀ aᵀ.
    // SAFETY: the handle is the device's; all elements of the operands and of the target lie inside their views, as
    // checked above, and the target is borrowed mutably, so it is none of the operands; alpha and beta are f32 in host
    // memory, which the compute type and the handle's pointer mode ask for, and outlive the call.
    unsafe {
        if batch == 1 {
            gemm_ex(
                *blas.handle(),
                b.operation(),
                a.operation(),
                cols,
                rows,
                depth,
                alpha,
                right,
                T::TYPE,
                b_stride,
                left,
                T::TYPE,
                a_stride,
                beta,
                to,
                output,
                stride,
                compute,
                algorithm,
            )
        } else {
            gemm_strided_batched_ex(
                *blas.handle(),
                b.operation(),
                a.operation(),
                cols,
                rows,
                depth,
                alpha,
                right,
                T::TYPE,
                b_stride,
                b.step as i64,
                left,
                T::TYPE,
                a_stride,
                a.step as i64,
                beta,
                to,
                output,
                stride,
                out.step as i64,
                count,
                compute,
                algorithm,
            )
        }
    }
    .w()
}
