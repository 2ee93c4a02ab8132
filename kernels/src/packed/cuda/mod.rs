//! Packed weights on a GPU. Up to eight inputs are multiplied with codes as these are decoded, in registers; for more, some rows of
//! the weight are decoded at a time, and multiplied by cuBLAS. Floats that are all there, in the type of products, go to cuBLAS as
//! they are.

mod args;
mod parts;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, DeviceRepr, LaunchConfig, PushKernelArg};
use candle_core::{CudaDevice, DType, Result, Tensor, WithDType};
use half::{bf16, f16};

use super::MOST;
use super::host::{Host, Stored, in_place};
use super::kind::BLOCK;
use super::shape;
use crate::cuda::blas::{Factor, Math, Operand, Target, gemm};
use crate::cuda::staging::{Plain, down, send};
use crate::cuda::{self, Kernel, Source, function, rows_of_blocks, tensor, with_view};
use crate::matmul::{Precision, gpu_piece};
use args::{PackedArgs, kernels_of};
use parts::Parts;

/// Bytes of weights that are decoded at a time.
const PANEL: usize = 64 << 20;
/// Threads of a block of products: `THREADS` in packed.cu.
const THREADS: usize = 128;
/// Rows of a weight that a thread multiplies with codes at once: `TOGETHER` in packed.cu.
const TOGETHER: usize = 4;
/// Inputs are as long as a multiple of this: the columns that a warp takes at once.
const STRIDE: usize = 16 * BLOCK;
/// Bytes of shared memory up to which scales and zero points of rows go there.
const SHARED: usize = 40 << 10;

/// A packed weight in the memory of a GPU.
pub(super) struct Weight {
    rows: usize,
    cols: usize,
    product: Precision,
    device: CudaDevice,
    memory: CudaSlice<u8>,
    args: PackedArgs,
    way: Way,
    /// The column at each place, for inputs and weights that are compared and put in order on the host.
    order: Option<Vec<u32>>,
}

/// The way in which a weight is multiplied.
#[derive(Clone, Copy)]
enum Way {
    /// By kernels of its own type of codes.
    Codes(&'static str),
    /// One weight at a time.
    Any,
    /// By cuBLAS alone.
    Plain,
}

/// The inputs of a few rows, as the kernels take them.
struct Inputs {
    values: CudaSlice<f32>,
    count: usize,
    stride: usize,
}

/// A type that products take.
trait Number: Factor + Plain + WithDType {}
impl Number for f32 {}
impl Number for bf16 {}
impl Number for f16 {}

impl Weight {
    /// Copies a weight to the device, in one piece.
    pub fn upload(host: Host, device: &CudaDevice) -> Result<Self> {
        let mut parts = Parts::default();
        let args = PackedArgs::new(&mut parts, &host)?;
        let memory = send(device, parts.len(), |at, out: &mut [u8]| parts.write(at, out))?;
        let way = match &host.store {
            Stored::Codes(codes) => Way::Codes(kernels_of(codes.code)),
            Stored::Dense(floats) if floats.precision() == host.product => Way::Plain,
            _ => Way::Any,
        };
        let Host { rows, cols, product, order, .. } = host;
        Ok(Self { rows, cols, product, device: device.clone(), memory, args, way, order })
    }

    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    pub fn bytes(&self) -> usize {
        self.memory.len()
    }

    /// The weight as products see it, row-major, in host memory.
    pub fn to_dense(&self) -> Result<Vec<f32>> {
        match self.product {
            Precision::F32 => self.downloaded::<f32>(),
            Precision::Bf16 => self.downloaded::<bf16>(),
            Precision::F16 => self.downloaded::<f16>(),
        }
    }

    fn downloaded<T: Number>(&self) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(self.rows * self.cols);
        self.panels::<T>(&mut |_, panel| {
            values.extend(down(&self.device, panel)?.into_iter().map(|value| value.to_f64() as f32));
            Ok(())
        })?;
        values.chunks_exact_mut(self.cols).for_each(|row| in_place(self.order.as_deref(), row));
        Ok(values)
    }

    /// Calls `f` with the first row and the weights of each panel of rows, by places, in order.
    fn panels<T: Number>(&self, f: &mut dyn FnMut(usize, &CudaView<'_, T>) -> Result<()>) -> Result<()> {
        let row = self.cols * size_of::<T>();
        let each = (PANEL / row).clamp(1, self.rows);
        if let Way::Plain = self.way {
            let first = self.args.values as usize;
            let bytes = self.memory.slice(first..first + self.rows * row);
            // SAFETY: the weight is of this type, and begins at a multiple of its size.
            let Some(all) = (unsafe { bytes.transmute::<T>(self.rows * self.cols) }) else {
                candle_core::bail!("{} weights in {} bytes of a GPU", self.rows * self.cols, bytes.len());
            };
            return f(0, &all);
        }
        // SAFETY: each panel is written before it is read.
        let mut panel = unsafe { self.device.alloc::<T>(each * self.cols)? };
        for first in (0..self.rows).step_by(each) {
            let count = each.min(self.rows - first);
            self.decode(first, count, &mut panel)?;
            f(first, &panel.slice(..count * self.cols))?;
        }
        Ok(())
    }

    /// Decodes rows into the beginning of `out`, which has room for them.
    fn decode<T: DeviceRepr>(&self, first: usize, count: usize, out: &mut CudaSlice<T>) -> Result<()> {
        let (first, shared) = (cuda::int(first)?, 8 * self.args.groups as usize);
        let (name, launch) = match self.way {
            Way::Codes(code) if shared <= SHARED => {
                let launch = rows_of_blocks(count, self.halves());
                (format!("packed_decode_{code}"), LaunchConfig { shared_mem_bytes: shared as u32, ..launch })
            }
            _ => ("packed_decode_any".to_string(), rows_of_blocks(count, self.cols)),
        };
        let kernel = self.kernel(&name)?;
        // SAFETY: a block writes all weights of its row, of which there are `count` here and as many of the weight.
        unsafe {
            kernel.builder().arg(&self.memory).arg(&self.args).arg(&first).arg(&mut *out).launch(launch).w()?;
        }
        if self.args.outliers >= 0 {
            let kernel = self.kernel("packed_outliers")?;
            let launch = rows_of_blocks(count, 32);
            // SAFETY: outliers lie in columns of their rows, which were written before.
            unsafe { kernel.builder().arg(&self.memory).arg(&self.args).arg(&first).arg(out).launch(launch).w()? };
        }
        Ok(())
    }

    fn kernel(&self, name: &str) -> Result<Kernel> {
        function(&self.device, Source::Packed, name)
    }

    /// Halves of blocks of a row, which a thread takes each.
    fn halves(&self) -> usize {
        2 * self.cols.div_ceil(BLOCK)
    }

    /// Inputs `[count, cols]` rounded and in the order of the kernels.
    fn inputs(&self, x: &CudaView<'_, f32>, count: usize) -> Result<Inputs> {
        let stride = self.cols.next_multiple_of(STRIDE);
        let (width, number) = (cuda::int(stride)?, count as i32);
        let kernel = self.kernel("packed_inputs")?;
        let launch = cuda::grid(count * stride, cuda::THREADS);
        // SAFETY: the kernel writes each number of each input.
        let values = unsafe {
            let mut out = self.device.alloc::<f32>(count * stride)?;
            let mut arguments = kernel.builder();
            arguments.arg(&self.memory).arg(&self.args).arg(x).arg(&mut out).arg(&width).arg(&number);
            arguments.launch(launch).w()?;
            out
        };
        Ok(Inputs { values, count, stride })
    }

    /// True if both take inputs alike.
    fn shares_inputs(&self, other: &Self) -> bool {
        self.product == other.product && self.order == other.order
    }

    /// The products with at most [`MOST`] inputs: `[count, rows]`.
    fn few(&self, x: &Inputs) -> Result<CudaSlice<f32>> {
        let threads = self.halves().next_power_of_two().clamp(32, THREADS);
        let along = THREADS / threads;
        let shared = 8 * TOGETHER * along * self.args.groups as usize;
        let (name, rows, shared) = match self.way {
            Way::Codes(code) if shared <= SHARED => {
                (format!("packed_few_{code}_{}", if x.count == 1 { 1 } else { MOST }), TOGETHER * along, shared)
            }
            _ => ("packed_few_any".to_string(), along, 0),
        };
        let launch = LaunchConfig {
            grid_dim: (self.rows.div_ceil(rows) as u32, 1, 1),
            block_dim: (threads as u32, along as u32, 1),
            shared_mem_bytes: shared as u32,
        };
        let (width, count) = (cuda::int(x.stride)?, x.count as i32);
        let kernel = self.kernel(&name)?;
        // SAFETY: the kernel writes the product of each row with each of at most MOST inputs, which are as long as it reads them.
        unsafe {
            let mut y = self.device.alloc::<f32>(x.count * self.rows)?;
            let mut arguments = kernel.builder();
            arguments.arg(&self.memory).arg(&self.args).arg(&x.values).arg(&mut y).arg(&width).arg(&count);
            arguments.launch(launch).w()?;
            Ok(y)
        }
    }

    /// The products with any number of inputs: `[tokens, rows]`.
    fn many(&self, x: &CudaView<'_, f32>, tokens: usize) -> Result<CudaSlice<f32>> {
        match self.product {
            // As they are.
            Precision::F32 if self.order.is_none() => {
                // SAFETY: products write all of it.
                let mut y = unsafe { self.device.alloc::<f32>(tokens * self.rows)? };
                self.multiply(x, &mut y, 0..tokens)?;
                Ok(y)
            }
            Precision::F32 => self.in_pieces::<f32>(x, tokens),
            Precision::Bf16 => self.in_pieces::<bf16>(x, tokens),
            Precision::F16 => self.in_pieces::<f16>(x, tokens),
        }
    }

    fn in_pieces<T: Number>(&self, x: &CudaView<'_, f32>, tokens: usize) -> Result<CudaSlice<f32>> {
        let each = gpu_piece(tokens, self.cols);
        let kernel = self.kernel("packed_ordered")?;
        // SAFETY: products write all of it, and what was rounded just before is all that they read.
        let (mut y, mut ordered) =
            unsafe { (self.device.alloc::<f32>(tokens * self.rows)?, self.device.alloc::<T>(each * self.cols)?) };
        for first in (0..tokens).step_by(each) {
            let count = each.min(tokens - first);
            let x = x.slice(first * self.cols..(first + count) * self.cols);
            let launch = rows_of_blocks(count, self.cols);
            // SAFETY: a block writes all numbers of its input.
            unsafe { kernel.builder().arg(&self.memory).arg(&self.args).arg(&x).arg(&mut ordered).launch(launch).w()? };
            self.multiply(&ordered.slice(..count * self.cols), &mut y, first..first + count)?;
        }
        Ok(y)
    }

    /// The products of inputs by places: rows `tokens` of `y [.., rows]`.
    fn multiply<T: Number>(
        &self,
        x: &CudaView<'_, T>,
        y: &mut CudaSlice<f32>,
        tokens: std::ops::Range<usize>,
    ) -> Result<()> {
        let (rows, cols) = (self.rows, self.cols);
        self.panels::<T>(&mut |first, panel| {
            let values = &mut y.slice_mut(tokens.start * rows + first..tokens.end * rows);
            let factors = (1.0, Operand::rows(x, cols), Operand::rows(panel, cols).t());
            let target = Target { values, stride: rows, step: 0 };
            gemm(&self.device, [tokens.len(), panel.len() / cols, cols], factors, (0.0, target), Math::F32)
        })
    }
}

/// [`super::matmul_each`] of weights and inputs on a GPU.
pub(super) fn multiply_each(weights: &[&Weight], x: &Tensor) -> Result<Vec<Tensor>> {
    let Some(cols) = weights.first().map(|weight| weight.cols) else { return Ok(Vec::new()) };
    let tokens = x.elem_count() / cols;
    if tokens == 0 {
        return weights.iter().map(|weight| Tensor::zeros(shape(x, weight.rows), DType::F32, x.device())).collect();
    }
    with_view::<f32, _>(x, |values, device| {
        let mut inputs: Vec<(&Weight, Inputs)> = Vec::new();
        let mut made = Vec::with_capacity(weights.len());
        for &weight in weights {
            let y = match weight.way {
                Way::Codes(_) | Way::Any if tokens <= MOST => {
                    let known = inputs.iter().position(|(other, _)| weight.shares_inputs(other));
                    let at = known.unwrap_or(inputs.len());
                    if known.is_none() {
                        inputs.push((weight, weight.inputs(&values, tokens)?));
                    }
                    weight.few(&inputs[at].1)?
                }
                _ => weight.many(&values, tokens)?,
            };
            made.push(tensor(y, device, shape(x, weight.rows)));
        }
        Ok(made)
    })
}
