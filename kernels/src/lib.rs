//! The operations under paring: a folder each, with `reference.rs`, the plain loops that define it, beside the fast
//! form.
//!
//! Tensors are candle's. Every operation is deterministic: its result does not depend on the number of threads.

pub mod attention;
pub mod cholesky;
pub mod gram;
pub mod matmul;
pub mod select;
mod simd;
pub mod sweep;
pub mod swiglu;

use candle_core::{Result, Tensor};

/// The values of an f32 tensor on the CPU, copied only if the tensor is not contiguous.
pub(crate) fn with_f32<T>(x: &Tensor, f: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(cpu) => {
            let values = cpu.as_slice::<f32>()?;
            let start = layout.start_offset();
            f(&values[start..start + layout.shape().elem_count()])
        }
        _ => candle_core::bail!("this build runs on the CPU only"),
    }
}

/// faer's parallelism: the threads of the current rayon pool.
pub(crate) fn parallelism() -> faer::Par {
    faer::Par::rayon(0)
}
