//! Shared code of the operations on a GPU: loading kernels, looking into tensors and making them.
//!
//! Each operation's `cuda.rs` launches the kernels of the `.cu` beside it. All work of a device goes through one stream,
//! in order, so a result is complete before the work that reads it runs. Only copies have streams beside it (`memory`,
//! `staging`), with events that the two wait for where memory changes hands.

pub(crate) mod blas;
pub(crate) mod memory;
pub(crate) mod staging;

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, CudaView, LaunchArgs, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, Result, Shape, Storage, Tensor, WithDType};

/// The enum of all files of kernels, and its `module`.
macro_rules! sources {
    ($($source:ident = $name:literal,)*) => {
        /// Files of kernels, as PTX.
        #[derive(Clone, Copy, Debug)]
        pub(crate) enum Source {
            $($source,)*
        }

        impl Source {
            /// The name of the module and its text.
            fn module(self) -> (&'static str, &'static str) {
                match self {
                    $(Source::$source => {
                        (concat!("paring_", $name), include_str!(concat!(env!("OUT_DIR"), "/", $name, ".ptx")))
                    })*
                }
            }
        }
    };
}

sources! {
    Attention = "attention",
    Cholesky = "cholesky",
    Fit = "fit",
    Gelu = "gelu",
    Gram = "gram",
    Likelihood = "likelihood",
    Matmul = "matmul",
    Norm = "norm",
    Pack = "pack",
    Packed = "packed",
    Plain = "plain",
    Quantize = "quantize",
    Rope = "rope",
    Select = "select",
    Spqr = "spqr",
    SquareMatrix = "square_matrix",
    Sweep = "sweep",
    Swiglu = "swiglu",
}

/// A size as kernels take it.
pub(crate) fn int(size: usize) -> Result<i32> {
    i32::try_from(size)
        .map_err(|_| candle_core::Error::Msg(format!("{size} rows or columns on a GPU; at most {}", i32::MAX)))
}

/// A kernel, to be launched on the stream of its device.
pub(crate) struct Kernel {
    function: CudaFunction,
    stream: Arc<CudaStream>,
}

impl Kernel {
    /// Takes the arguments, in the order of the kernel's.
    pub fn builder(&self) -> LaunchArgs<'_> {
        self.stream.launch_builder(&self.function)
    }

    /// Lets launches ask for `bytes` of shared memory, of which a kernel has 48 KiB unasked. Errors where a block cannot
    /// have as much.
    pub fn with_shared(self, bytes: usize) -> Result<Self> {
        if bytes > 48 << 10 {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            self.function.set_attribute(attribute, bytes as i32).w()?;
        }
        Ok(self)
    }
}

/// A kernel by its name in a source, whose module is loaded once a device.
pub(crate) fn function(device: &CudaDevice, source: Source, name: &str) -> Result<Kernel> {
    let (module, ptx) = source.module();
    let function = device.get_or_load_custom_func(name, module, ptx)?.into_cuda_function();
    Ok(Kernel { function, stream: device.cuda_stream() })
}

/// Threads of a block, where nothing speaks for another number.
pub(crate) const THREADS: u32 = 256;

/// Blocks of `threads` threads, as many as `count` elements need; at most as many as a grid may have, so kernels that
/// are launched so step by the size of the grid.
pub(crate) fn grid(count: usize, threads: u32) -> LaunchConfig {
    let blocks = count.div_ceil(threads as usize).clamp(1, 1 << 20) as u32;
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

/// For kernels that work on `count` rows of `width` elements: threads along x share a row, a warp of 32 for short rows,
/// which then has company in its block along y.
pub(crate) fn rows(count: usize, width: usize) -> LaunchConfig {
    let [threads, together] = if width <= 1024 { [32, 8] } else { [THREADS, 1] };
    let blocks = count.div_ceil(together as usize).max(1) as u32;
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, together, 1), shared_mem_bytes: 0 }
}

/// For kernels with a block for each of `count` rows, whose threads go over `width` pieces of it.
pub(crate) fn rows_of_blocks(count: usize, width: usize) -> LaunchConfig {
    let threads = (width.next_multiple_of(32) as u32).clamp(32, THREADS);
    LaunchConfig { grid_dim: (count.max(1) as u32, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

/// Calls `f` with the elements of a tensor on a GPU, copied only if it is not contiguous, and its device. Errors on
/// tensors elsewhere or of another type.
pub(crate) fn with_view<T: CudaDType + WithDType, R>(
    x: &Tensor,
    f: impl FnOnce(CudaView<'_, T>, &CudaDevice) -> Result<R>,
) -> Result<R> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cuda(cuda) => {
            let start = layout.start_offset();
            let slice = cuda.as_cuda_slice::<T>()?;
            f(slice.slice(start..start + layout.shape().elem_count()), cuda.device())
        }
        _ => candle_core::bail!("a tensor {:?} on {:?} where one on a GPU is needed", x.shape(), x.device()),
    }
}

/// The tensor that a slice of the device's memory is; the shape has as many elements.
pub(crate) fn tensor<T: CudaDType>(slice: CudaSlice<T>, device: &CudaDevice, shape: impl Into<Shape>) -> Tensor {
    let storage = CudaStorage::wrap_cuda_slice(slice, device.clone());
    Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
}

/// A tensor like `x` f32: its elements are what the kernel `name(x, out, count)` writes.
pub(crate) fn map(source: Source, name: &str, x: &Tensor) -> Result<Tensor> {
    with_view::<f32, _>(x, |values, device| {
        let count = values.len() as i64;
        let kernel = function(device, source, name)?;
        // SAFETY: the kernel writes each of the elements, of which the input has as many.
        let out = unsafe {
            let mut out = device.alloc::<f32>(values.len())?;
            let launch = grid(values.len().div_ceil(4), THREADS);
            kernel.builder().arg(&values).arg(&mut out).arg(&count).launch(launch).w()?;
            out
        };
        Ok(tensor(out, device, x.shape()))
    })
}

/// A tensor like `a` and `b`, f32 of one shape: its elements are what the kernel `name(a, b, out, count)` writes.
pub(crate) fn map2(source: Source, name: &str, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    with_view::<f32, _>(a, |x, device| {
        with_view::<f32, _>(b, |y, _| {
            if x.len() != y.len() {
                candle_core::bail!("{name} of {:?} and {:?}", a.shape(), b.shape());
            }
            let count = x.len() as i64;
            let kernel = function(device, source, name)?;
            // SAFETY: the kernel writes each of the elements, of which both inputs have as many.
            let out = unsafe {
                let mut out = device.alloc::<f32>(x.len())?;
                let launch = grid(x.len().div_ceil(4), THREADS);
                kernel.builder().arg(&x).arg(&y).arg(&mut out).arg(&count).launch(launch).w()?;
                out
            };
            Ok(tensor(out, device, a.shape()))
        })
    })
}
