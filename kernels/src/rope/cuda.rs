//! Rotary embeddings on a GPU, with the bits of the CPU.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{Result, Tensor};

use crate::cuda::{Source, function, rows_of_blocks, tensor, with_view};

/// [`super::rope`] for tensors of the right shapes.
pub(super) fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (b, t, heads, d) = x.dims4()?;
    with_view::<f32, _>(x, |values, device| {
        with_view::<f32, _>(cos, |cos, _| {
            with_view::<f32, _>(sin, |sin, _| {
                let (time, count, half) = (t as i32, heads as i32, (d / 2) as i32);
                let kernel = function(device, Source::Rope, "rope")?;
                // SAFETY: a block writes the heads of its token, of which the input has as many; the tables have `half`
                // numbers for each of `t` positions.
                let out = unsafe {
                    let mut out = device.alloc::<f32>(values.len())?;
                    let mut launch = kernel.builder();
                    launch.arg(&values).arg(&cos).arg(&sin).arg(&mut out).arg(&time).arg(&count).arg(&half);
                    launch.launch(rows_of_blocks(b * t, heads * d / 8)).w()?;
                    out
                };
                Ok(tensor(out, device, x.shape()))
            })
        })
    })
}
