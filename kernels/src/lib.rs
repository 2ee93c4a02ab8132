//! The operations under paring: a folder each, with `reference.rs`, the plain loops that define it, beside the fast
//! form.
//!
//! Tensors are candle's, and an operation runs where its tensors lie: on the CPU, or with the feature `cuda` on a GPU.
//! Every operation is deterministic: its result does not depend on the number of threads.

/// Returns what the expression makes when the tensor lies on a GPU. Without the feature `cuda` no tensor does.
macro_rules! on_gpu {
    ($x:expr => $call:expr) => {
        #[cfg(feature = "cuda")]
        if $x.device().is_cuda() {
            return $call;
        }
    };
}

pub mod adam;
pub mod allocator;
pub mod attention;
pub mod cases;
pub mod cholesky;
#[cfg(feature = "cuda")]
mod cuda;
pub mod device;
pub mod element;
pub mod embedding;
pub mod gelu;
mod gradient;
pub mod gram;
pub mod likelihood;
pub mod low_rank;
pub mod masks;
pub mod matmul;
pub mod minifloat;
pub mod norm;
pub mod pack;
pub mod packed;
pub mod plain;
pub(crate) mod products;
pub mod quantize;
mod range;
pub mod rope;
pub mod scales;
pub mod select;
mod simd;
pub mod square_matrix;
pub mod squared_error;
pub mod sweep;
pub mod swiglu;
pub mod threads;

use std::mem::MaybeUninit;

use candle_core::{Result, Tensor, WithDType};
use rayon::prelude::*;

/// Bytes of page-locked host memory that weights go through on their way to a GPU, and as many again for the copies of
/// sweeps. Each is taken when it is needed first, and kept. Tensors in [`device::Copies`] come on top.
pub const PAGE_LOCKED: usize = 32 << 20;

/// [`with_values`] of an f32 tensor.
pub(crate) fn with_f32<T>(x: &Tensor, f: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    with_values(x, f)
}

/// The values of a tensor on the CPU, copied only if the tensor is not contiguous.
pub(crate) fn with_values<V: WithDType, T>(x: &Tensor, f: impl FnOnce(&[V]) -> Result<T>) -> Result<T> {
    // A part of nothing may begin beyond it, and candle reads from there.
    let x = if x.elem_count() == 0 { x.clone() } else { x.contiguous()? };
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(cpu) => {
            let values = cpu.as_slice::<V>()?;
            let start = layout.start_offset().min(values.len());
            f(&values[start..start + layout.shape().elem_count()])
        }
        _ => candle_core::bail!("a tensor {:?} on {:?} where one on the CPU is needed", x.shape(), x.device()),
    }
}

/// Memory that is about to be written.
pub(crate) type Fresh = [MaybeUninit<f32>];

/// `len` numbers, chunk `i` of `chunk` elements written by `f(i, ..)` in parallel. Not zeroed first: that would be a
/// second pass over memory, by one thread.
///
/// # Safety
/// `f` writes every element it is given.
pub(crate) unsafe fn write_chunks(len: usize, chunk: usize, f: impl Fn(usize, &mut Fresh) + Sync) -> Vec<f32> {
    let mut values: Vec<f32> = Vec::with_capacity(len);
    values.spare_capacity_mut()[..len].par_chunks_mut(chunk).enumerate().for_each(|(i, out)| f(i, out));
    // SAFETY: the caller promises that all of them were written.
    unsafe { values.set_len(len) };
    values
}

#[cfg(test)]
pub(crate) use cases::values as test_values;
