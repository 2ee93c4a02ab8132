//! Square matrices on a GPU.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaView, DeviceRepr, PushKernelArg};
use candle_core::{CudaDevice, Result};

use crate::cuda::{Source, THREADS, function, grid};

/// Numbers of which a diagonal can be taken.
pub(crate) trait Real: DeviceRepr {
    /// The kernel.
    const DIAGONAL: &str;
}

impl Real for f32 {
    const DIAGONAL: &str = "square_diagonal";
}

impl Real for f64 {
    const DIAGONAL: &str = "square_diagonal_f64";
}

/// The diagonal of `values` `[n, n]`, rounded to f32.
pub(crate) fn diagonal<T: Real>(device: &CudaDevice, values: &CudaView<'_, T>, n: usize) -> Result<Vec<f32>> {
    if n == 0 {
        return Ok(Vec::new());
    }
    let count = n as i64;
    // SAFETY: the kernel reads n of the n² elements and writes as many.
    let out = unsafe {
        let mut out = device.alloc::<f32>(n)?;
        let kernel = function(device, Source::SquareMatrix, T::DIAGONAL)?;
        kernel.builder().arg(values).arg(&mut out).arg(&count).launch(grid(n, THREADS)).w()?;
        out
    };
    device.clone_dtoh(&out)
}
