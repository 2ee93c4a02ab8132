//! Loops over elements on a GPU.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{Result, Tensor};

use crate::cuda::{Source, THREADS, function, grid, map, map2, tensor, with_view};

/// [`super::add`] for tensors of one shape.
pub(super) fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    map2(Source::Plain, "plain_add", a, b)
}

/// [`super::add_each`] where `x` ends in the shape of `y`.
pub(super) fn add_each(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    with_view::<f32, _>(x, |values, device| {
        with_view::<f32, _>(y, |y, _| {
            let (count, width) = (values.len() as i64, y.len() as i64);
            let kernel = function(device, Source::Plain, "plain_add_each")?;
            let launch = grid(values.len().div_ceil(4), THREADS);
            // SAFETY: the kernel writes each of the elements, of which the first input has as many.
            let out = unsafe {
                let mut out = device.alloc::<f32>(values.len())?;
                kernel.builder().arg(&values).arg(&y).arg(&mut out).arg(&count).arg(&width).launch(launch).w()?;
                out
            };
            Ok(tensor(out, device, x.shape()))
        })
    })
}

/// [`super::relu`].
pub(super) fn relu(x: &Tensor) -> Result<Tensor> {
    map(Source::Plain, "plain_relu", x)
}

/// [`super::all_finite`].
pub(super) fn all_finite(x: &Tensor) -> Result<bool> {
    with_view::<f32, _>(x, |values, device| {
        let count = values.len() as i64;
        let mut bad = device.alloc_zeros::<i32>(1)?;
        let function = function(device, Source::Plain, "plain_not_finite")?;
        // SAFETY: the kernel reads the elements and writes one number, for which there is room.
        unsafe { function.builder().arg(&values).arg(&mut bad).arg(&count).launch(grid(values.len(), THREADS)).w()? };
        Ok(device.clone_dtoh(&bad)?[0] == 0)
    })
}
