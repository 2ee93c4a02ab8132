//! cuSOLVER's Cholesky factor and cuBLAS's triangular solve, for square matrices of a device, by columns.

use std::ffi::{c_int, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::cublas::sys as blas;
use candle_core::cuda_backend::cudarc::cusolver::result::CusolverError;
use candle_core::cuda_backend::cudarc::cusolver::{DnHandle, DnParams, sys};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, CudaViewMut, DevicePtr, DevicePtrMut};
use candle_core::cuda_backend::{DeviceId, WrapErr};
use candle_core::{CudaDevice, Result};

use crate::square_matrix::cuda::Real;

/// A number that the libraries compute with.
pub(super) trait Number: Real {
    const TYPE: sys::cudaDataType;
    const ONE: Self;

    /// # Safety
    /// As of cuBLAS's function: the matrices lie in the device's memory, and `one` in the host's.
    unsafe fn trsm(handle: blas::cublasHandle_t, order: [c_int; 4], one: &Self, a: *const Self, b: *mut Self)
    -> Status;
}

type Status = blas::cublasStatus_t;

macro_rules! number {
    ($type:ty, $name:ident, $trsm:ident) => {
        impl Number for $type {
            const TYPE: sys::cudaDataType = sys::cudaDataType::$name;
            const ONE: Self = 1.0;

            unsafe fn trsm(
                handle: blas::cublasHandle_t,
                [rows, cols, a_stride, b_stride]: [c_int; 4],
                one: &Self,
                a: *const Self,
                b: *mut Self,
            ) -> Status {
                let (left, upper) =
                    (blas::cublasSideMode_t::CUBLAS_SIDE_LEFT, blas::cublasFillMode_t::CUBLAS_FILL_MODE_UPPER);
                let (as_is, own) = (blas::cublasOperation_t::CUBLAS_OP_N, blas::cublasDiagType_t::CUBLAS_DIAG_NON_UNIT);
                // SAFETY: the caller's promise.
                unsafe { blas::$trsm(handle, left, upper, as_is, own, rows, cols, one, a, a_stride, b, b_stride) }
            }
        }
    };
}

number!(f32, CUDA_R_32F, cublasStrsm_v2);
number!(f64, CUDA_R_64F, cublasDtrsm_v2);

/// A handle of each device that was asked for one: making it takes longer than most factors.
static HANDLES: Mutex<Vec<(DeviceId, Arc<DnHandle>)>> = Mutex::new(Vec::new());

fn handle(device: &CudaDevice) -> Result<Arc<DnHandle>> {
    let mut handles = HANDLES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, handle)) = handles.iter().find(|(id, _)| *id == device.id()) {
        return Ok(handle.clone());
    }
    let made = DnHandle::new(device.cuda_stream()).map_err(|e| failed("a handle", 0, e))?;
    let handle = Arc::new(made);
    handles.push((device.id(), handle.clone()));
    Ok(handle)
}

fn failed(what: &str, n: usize, e: CusolverError) -> candle_core::Error {
    candle_core::Error::Msg(format!("cuSOLVER, {what} of {n} rows: {e}"))
}

fn int(n: usize) -> Result<c_int> {
    c_int::try_from(n).map_err(|_| candle_core::Error::Msg(format!("a matrix of {n} rows")))
}

/// In place of the upper triangle of `a` `[n, n]`, R with A = RᵀR. The number of the first leading minor that is not
/// positive, if there is one; numbers that are not finite may go unseen. n³/3 operations.
pub(super) fn potrf<T: Number>(device: &CudaDevice, a: &mut CudaSlice<T>, n: usize) -> Result<Option<usize>> {
    assert!(n > 0 && a.len() == n * n, "a square matrix of {n} rows");
    let order = i64::from(int(n)?);
    let handle = handle(device)?;
    let params = DnParams::new(sys::cusolverDnFunction_t::CUSOLVERDN_POTRF, sys::cusolverAlgMode_t::CUSOLVER_ALG_0)
        .map_err(|e| failed("the settings", n, e))?;
    let upper = sys::cublasFillMode_t::CUBLAS_FILL_MODE_UPPER;
    let stream = device.cuda_stream();
    let mut info = device.alloc_zeros::<c_int>(1)?;
    let (mut on_device, mut on_host) = (0usize, 0usize);
    // Lives until the device is known to be done.
    let mut host_work = Vec::new();
    stream.context().bind_to_thread().w()?;
    {
        let (a, _a) = a.device_ptr_mut(&stream);
        // SAFETY: a has n columns of n elements, and the sizes are written to the host's memory.
        let asked = unsafe {
            sys::cusolverDnXpotrf_bufferSize(
                handle.cu(),
                params.cu(),
                upper,
                order,
                T::TYPE,
                a as *const c_void,
                order,
                T::TYPE,
                &mut on_device,
                &mut on_host,
            )
        };
        asked.result().map_err(|e| failed("the workspace for the factor", n, e))?;
        // SAFETY: elements that the library does not write are never read.
        let mut work = unsafe { device.alloc::<u8>(on_device.max(1))? };
        host_work.resize(on_host, 0u8);
        let (work, _work) = work.device_ptr_mut(&stream);
        let (info, _info) = info.device_ptr_mut(&stream);
        // SAFETY: as above; both workspaces are of the sizes that the library asked for, the one in the device's memory
        // is freed on the same stream, and so after the factor.
        let done = unsafe {
            sys::cusolverDnXpotrf(
                handle.cu(),
                params.cu(),
                upper,
                order,
                T::TYPE,
                a as *mut c_void,
                order,
                T::TYPE,
                work as *mut c_void,
                on_device,
                host_work.as_mut_ptr().cast(),
                on_host,
                info as *mut c_int,
            )
        };
        done.result().map_err(|e| failed("the factor", n, e))?;
    }
    let info = device.clone_dtoh(&info)?[0];
    drop(host_work);
    match info {
        0 => Ok(None),
        minor if minor > 0 => Ok(Some(minor as usize)),
        argument => candle_core::bail!("cuSOLVER, the factor of {n} rows: argument {} is wrong", -argument),
    }
}

/// In place of B `[rows, cols]`, R⁻¹ B with R the upper triangle of the leading `rows` rows and columns of `a` `[n, n]`;
/// the columns of B lie n elements apart.
pub(super) fn solve<T: Number>(
    device: &CudaDevice,
    a: &CudaView<'_, T>,
    b: &mut CudaViewMut<'_, T>,
    [rows, cols, n]: [usize; 3],
) -> Result<()> {
    let fits = rows <= n && cols > 0 && a.len() >= n * n && b.len() >= (cols - 1) * n + rows;
    assert!(fits, "{cols} columns of {rows} rows of a square matrix of {n}");
    let sizes = [int(rows)?, int(cols)?, int(n)?, int(n)?];
    let (blas, stream) = (device.cublas_handle(), device.cuda_stream());
    stream.context().bind_to_thread().w()?;
    let (a, _a) = a.device_ptr(&stream);
    let (b, _b) = b.device_ptr_mut(&stream);
    // SAFETY: both matrices lie inside their views, as checked above; the handle is the device's.
    unsafe { T::trsm(*blas.handle(), sizes, &T::ONE, a as *const T, b as *mut T) }.result().w()
}
