//! Loops over elements on a GPU.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{Result, Tensor};

use crate::cuda::{Source, function, grid, tensor, with_view};

const THREADS: u32 = 256;

/// [`super::add`] for tensors of one shape.
pub(super) fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    with_view::<f32, _>(a, |x, device| {
        with_view::<f32, _>(b, |y, _| {
            let count = x.len() as i64;
            // SAFETY: the kernel writes each of the elements, of which both inputs have as many.
            let out = unsafe {
                let mut out = device.alloc::<f32>(x.len())?;
                let function = function(device, Source::Plain, "plain_add")?;
                function.builder().arg(&x).arg(&y).arg(&mut out).arg(&count).launch(grid(x.len(), THREADS)).w()?;
                out
            };
            Ok(tensor(out, device, a.shape()))
        })
    })
}

/// [`super::relu`].
pub(super) fn relu(x: &Tensor) -> Result<Tensor> {
    with_view::<f32, _>(x, |values, device| {
        let count = values.len() as i64;
        // SAFETY: the kernel writes each of the elements, of which the input has as many.
        let out = unsafe {
            let mut out = device.alloc::<f32>(values.len())?;
            let function = function(device, Source::Plain, "plain_relu")?;
            function.builder().arg(&values).arg(&mut out).arg(&count).launch(grid(values.len(), THREADS)).w()?;
            out
        };
        Ok(tensor(out, device, x.shape()))
    })
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
