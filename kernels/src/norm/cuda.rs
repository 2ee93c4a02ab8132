//! Norms on a GPU: one pass over memory, a row's later readings come from the first-level cache.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{Result, Tensor};

use crate::cuda::{Source, function, rows, tensor, with_view};

/// [`super::rms`] of `dim` features.
pub(super) fn rms(x: &Tensor, weight: &Tensor, dim: usize, eps: f32) -> Result<Tensor> {
    with_view::<f32, _>(x, |values, device| {
        with_view::<f32, _>(weight, |weight, _| {
            let (count, width) = ((values.len() / dim) as i64, dim as i32);
            let kernel = function(device, Source::Norm, "norm_rms")?;
            // SAFETY: `count` rows of `dim` elements are the input and are what the kernel writes; there are `dim` weights.
            let out = unsafe {
                let mut out = device.alloc::<f32>(values.len())?;
                let mut launch = kernel.builder();
                launch.arg(&values).arg(&weight).arg(&mut out).arg(&count).arg(&width).arg(&eps);
                launch.launch(rows(values.len() / dim, dim)).w()?;
                out
            };
            Ok(tensor(out, device, x.shape()))
        })
    })
}

/// [`super::layer`] of `dim` features.
pub(super) fn layer(x: &Tensor, weight: &Tensor, bias: &Tensor, dim: usize, eps: f32) -> Result<Tensor> {
    with_view::<f32, _>(x, |values, device| {
        with_view::<f32, _>(weight, |weight, _| {
            with_view::<f32, _>(bias, |bias, _| {
                let (count, width) = ((values.len() / dim) as i64, dim as i32);
                let kernel = function(device, Source::Norm, "norm_layer")?;
                // SAFETY: as in `rms`, and there are `dim` biases.
                let out = unsafe {
                    let mut out = device.alloc::<f32>(values.len())?;
                    let mut launch = kernel.builder();
                    launch.arg(&values).arg(&weight).arg(&bias).arg(&mut out).arg(&count).arg(&width).arg(&eps);
                    launch.launch(rows(values.len() / dim, dim)).w()?;
                    out
                };
                Ok(tensor(out, device, x.shape()))
            })
        })
    })
}
