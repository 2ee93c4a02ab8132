//! Factors on a GPU: gathered and reversed by a kernel, factored by cuSOLVER, inverted by cuBLAS, turned back by a kernel.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, LaunchConfig, PushKernelArg, ValidAsZeroBits};
use candle_core::{CudaDevice, Tensor};

use super::solver::{Number, potrf, solve};
use super::{Arithmetic, Factor, Failed, NotPositive, SMALL, double_on_host};
use crate::cuda::{Source, THREADS, function, grid, tensor, with_view};
use crate::device::is_out_of_memory;
use crate::square_matrix::SquareMatrix;
use crate::square_matrix::cuda::diagonal;

/// Columns that are solved for at once. The inverse of a triangle is one, so they need only the rows above their last.
const PANEL: usize = 1024;

/// The matrix to be factored: H with its rows and columns in an order and with another diagonal.
struct Ordered<'a> {
    h: CudaView<'a, f32>,
    order: CudaSlice<i32>,
    diagonal: CudaSlice<f32>,
    n: usize,
}

/// The names of the kernels for a type.
trait Kernels: Number + ValidAsZeroBits {
    const GATHER: &str;
    const ONES: &str;
}

impl Kernels for f32 {
    const GATHER: &str = "cholesky_gather";
    const ONES: &str = "cholesky_ones";
}

impl Kernels for f64 {
    const GATHER: &str = "cholesky_gather_f64";
    const ONES: &str = "cholesky_ones_f64";
}

/// A result, or a pivot that is not positive.
type Tried<T> = candle_core::Result<Result<T, NotPositive>>;

/// [`super::factor_of`].
pub(super) fn factor_of(h: &SquareMatrix, order: Option<&[usize]>, diagonal: &[f32]) -> Result<Factor, Failed> {
    let mut first = None;
    if h.n() > SMALL {
        match tried(h, order, diagonal, single)? {
            Ok(u) => return Ok(Factor::new(u, Arithmetic::Single)?),
            Err(pivot) => first = Some(pivot),
        }
    }
    match tried(h, order, diagonal, double) {
        Ok(Ok(u)) => Ok(Factor::new(u, first.map_or(Arithmetic::Double, Arithmetic::DoubleAfter))?),
        Ok(Err(pivot)) => Err(pivot.into()),
        Err(e) => match first {
            Some(pivot) if is_out_of_memory(&e) => double_on_host(h, order, diagonal, pivot),
            _ => Err(e.into()),
        },
    }
}

/// Factors with `f`, which is given what to factor.
fn tried(
    h: &SquareMatrix,
    order: Option<&[usize]>,
    diagonal: &[f32],
    f: impl FnOnce(&CudaDevice, &Ordered<'_>) -> Tried<Tensor>,
) -> Tried<SquareMatrix> {
    let n = h.n();
    let order: Vec<i32> = match order {
        None => (0..n as i32).collect(),
        Some(order) => order.iter().map(|&k| k as i32).collect(),
    };
    let made = with_view::<f32, _>(h.gpu_tensor()?, |h, device| {
        f(device, &Ordered { h, order: device.clone_htod(&order)?, diagonal: device.clone_htod(diagonal)?, n })
    })?;
    match made {
        Ok(u) => Ok(Ok(SquareMatrix::from_gpu(u)?)),
        Err(pivot) => Ok(Err(pivot)),
    }
}

/// U in f32.
fn single(device: &CudaDevice, ordered: &Ordered<'_>) -> Tried<Tensor> {
    let n = ordered.n;
    let mut values = match inverse::<f32>(device, ordered)? {
        Ok(values) => values,
        Err(pivot) => return Ok(Err(pivot)),
    };
    let rows = n as i64;
    let kernel = function(device, Source::Cholesky, "cholesky_flip")?;
    // SAFETY: the kernel exchanges the n² elements in pairs.
    unsafe { kernel.builder().arg(&mut values).arg(&rows).launch(grid((n * n).div_ceil(2), THREADS)).w()? };
    Ok(Ok(tensor(values, device, (n, n))))
}

/// U in f64, rounded to f32.
fn double(device: &CudaDevice, ordered: &Ordered<'_>) -> Tried<Tensor> {
    let n = ordered.n;
    let values = match inverse::<f64>(device, ordered)? {
        Ok(values) => values,
        Err(pivot) => return Ok(Err(pivot)),
    };
    let rows = n as i64;
    let kernel = function(device, Source::Cholesky, "cholesky_flip_f64")?;
    // SAFETY: the kernel reads and writes n² elements each.
    let u = unsafe {
        let mut u = device.alloc::<f32>(n * n)?;
        kernel.builder().arg(&values).arg(&mut u).arg(&rows).launch(grid(n * n, THREADS)).w()?;
        u
    };
    Ok(Ok(tensor(u, device, (n, n))))
}

/// R⁻¹, by columns, for the R of cuSOLVER: upper triangular with H = RᵀR for the H with rows and columns reversed.
fn inverse<T: Kernels>(device: &CudaDevice, ordered: &Ordered<'_>) -> Tried<CudaSlice<T>> {
    let n = ordered.n;
    let rows = n as i64;
    let blocks = LaunchConfig { grid_dim: (n as u32, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 };
    let gather = function(device, Source::Cholesky, T::GATHER)?;
    // SAFETY: H has n² elements, order and diagonal have n, and all of the order are below n: `factor_of` checked it. The
    // part that is not written belongs to no triangle that anybody reads.
    let mut r = unsafe {
        let mut r = device.alloc::<T>(n * n)?;
        let mut launch = gather.builder();
        launch.arg(&ordered.h).arg(&ordered.order).arg(&ordered.diagonal).arg(&mut r).arg(&rows).launch(blocks).w()?;
        r
    };
    if let Some(minor) = potrf(device, &mut r, n)? {
        return Ok(Err(NotPositive { index: n - minor.min(n) }));
    }
    let mut inverse = device.alloc_zeros::<T>(n * n)?;
    let ones = function(device, Source::Cholesky, T::ONES)?;
    // SAFETY: the kernel writes n of the n² elements.
    unsafe { ones.builder().arg(&mut inverse).arg(&rows).launch(grid(n, THREADS)).w()? };
    for first in (0..n).step_by(PANEL) {
        let cols = PANEL.min(n - first);
        solve(device, &r.as_view(), &mut inverse.slice_mut(first * n..), [first + cols, cols, n])?;
    }
    let (of_r, of_inverse) = (diagonal(device, &r.as_view(), n)?, diagonal(device, &inverse.as_view(), n)?);
    // As on the CPU: a pivot that is not finite, or so small that its reciprocal is not.
    match of_r.iter().zip(&of_inverse).position(|(r, inverse)| !r.is_finite() || !inverse.is_finite()) {
        Some(at) => Ok(Err(NotPositive { index: n - 1 - at })),
        None => Ok(Ok(inverse)),
    }
}
