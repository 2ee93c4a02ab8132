//! Activations rounded on a GPU, with the bits of the CPU.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, DeviceRepr, LaunchConfig, PushKernelArg};
use candle_core::{CudaDevice, Result, Tensor};

use super::{Rounded, Rounding, Scales};
use crate::cuda::{Source, THREADS, function, grid, rows, rows_of_blocks, tensor, with_view};
use crate::element::Element;
use crate::matmul::Precision;
use crate::range::joined;

/// Blocks that search for extremes: enough for every card, few enough to be searched by one block.
const BLOCKS: u32 = 1024;

/// `QuantizeParams` in quantize.cu.
#[derive(Clone, Copy)]
#[repr(C)]
struct QuantizeParams {
    element: i32,
    symmetric: i32,
    kind: i32,
    least: f32,
    largest: f32,
    half_range: f32,
    epsilon: f32,
    global: f32,
}

// SAFETY: plain numbers, laid out as in C.
unsafe impl DeviceRepr for QuantizeParams {}

impl QuantizeParams {
    fn new(rounding: &Rounding) -> Self {
        let (least, largest) = rounding.element.range();
        let (kind, global) = match rounding.scales {
            Scales::Exponent(_) => (1, 0.0),
            Scales::Local(_, global) => (2, global),
            _ => (0, 0.0),
        };
        Self {
            element: match rounding.element {
                Element::Int(_) => 0,
                Element::E4m3 => 1,
                Element::E2m1 => 2,
                Element::E2m3 => 3,
            },
            symmetric: i32::from(rounding.symmetric),
            kind,
            least,
            largest,
            half_range: rounding.element.half_range(),
            epsilon: Precision::F32.epsilon(),
            global,
        }
    }
}

/// [`Rounding::round`] of `x [.., cols]`, whose groups are whole.
pub(super) fn round(rounding: &Rounding, x: &Tensor, cols: usize) -> Result<Rounded> {
    with_view::<f32, _>(x, |values, device| {
        let params = QuantizeParams::new(rounding);
        let one = |factor: f32| Tensor::new(&[factor], x.device());
        let (out, factors) = match rounding.scales {
            Scales::Group(size) | Scales::Exponent(size) => (groups(device, &values, size, params, None)?, None),
            Scales::Local(size, global) => (groups(device, &values, size, params, None)?, Some(one(1.0 / global)?)),
            Scales::Token => {
                let tokens = values.len() / cols;
                // SAFETY: rounding writes a factor for each token.
                let mut factors = unsafe { device.alloc::<f32>(tokens)? };
                (groups(device, &values, cols, params, Some(&mut factors))?, Some(tensor(factors, device, tokens)))
            }
            Scales::Given(scale, zero) => {
                (codes(device, &values, &device.clone_htod(&[scale, zero])?, params)?, Some(one(scale)?))
            }
            Scales::Tensor => {
                let grid = grid_of(device, &values, params)?;
                let out = codes(device, &values, &grid, params)?;
                (out, Some(tensor(grid, device, 2).narrow(0, 0, 1)?))
            }
        };
        Ok(Rounded { values: tensor(out, device, x.shape()), factors })
    })
}

/// Numbers rounded group by group; the scales are in the numbers, or in `factors`, one for each group.
fn groups(
    device: &CudaDevice,
    x: &CudaView<'_, f32>,
    size: usize,
    params: QuantizeParams,
    factors: Option<&mut CudaSlice<f32>>,
) -> Result<CudaSlice<f32>> {
    let (count, width) = (x.len() / size, size as i32);
    let (kernel, number) = (function(device, Source::Quantize, "quantize_groups")?, count as i64);
    // SAFETY: the kernel writes each element of each group, and groups make up the whole; `factors` has room for one
    // number a group.
    unsafe {
        let mut out = device.alloc::<f32>(x.len())?;
        let mut launch = kernel.builder();
        launch.arg(x).arg(&mut out);
        match factors {
            Some(factors) => launch.arg(factors),
            // The kernel's null pointer.
            None => launch.arg(&0u64),
        };
        launch.arg(&number).arg(&width).arg(&params).launch(rows(count, size)).w()?;
        Ok(out)
    }
}

/// All numbers on one grid, `[scale, zero]`.
fn codes(
    device: &CudaDevice,
    x: &CudaView<'_, f32>,
    on: &CudaSlice<f32>,
    params: QuantizeParams,
) -> Result<CudaSlice<f32>> {
    let (kernel, count) = (function(device, Source::Quantize, "quantize_codes")?, x.len() as i64);
    // SAFETY: the kernel writes each of the elements, of which the input has as many; the grid is two numbers.
    unsafe {
        let mut out = device.alloc::<f32>(x.len())?;
        let launch = grid(x.len().div_ceil(4), THREADS);
        kernel.builder().arg(x).arg(on).arg(&mut out).arg(&count).arg(&params).launch(launch).w()?;
        Ok(out)
    }
}

/// Extremes of some parts of `x`, least and most in turn.
fn extremes(device: &CudaDevice, x: &CudaView<'_, f32>) -> Result<CudaSlice<f32>> {
    let mut launch = grid(x.len().div_ceil(4), THREADS);
    launch.grid_dim.0 = launch.grid_dim.0.min(BLOCKS);
    let (kernel, count) = (function(device, Source::Quantize, "quantize_extremes")?, x.len() as i64);
    // SAFETY: each block writes two numbers.
    unsafe {
        let mut parts = device.alloc::<f32>(2 * launch.grid_dim.0 as usize)?;
        kernel.builder().arg(x).arg(&mut parts).arg(&count).launch(launch).w()?;
        Ok(parts)
    }
}

fn grid_of(device: &CudaDevice, x: &CudaView<'_, f32>, params: QuantizeParams) -> Result<CudaSlice<f32>> {
    let parts = extremes(device, x)?;
    let (kernel, count) = (function(device, Source::Quantize, "quantize_grid")?, (parts.len() / 2) as i32);
    let launch = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the kernel reads the parts, two numbers each, and writes two.
    unsafe {
        let mut grid = device.alloc::<f32>(2)?;
        kernel.builder().arg(&parts).arg(&mut grid).arg(&count).arg(&params).launch(launch).w()?;
        Ok(grid)
    }
}

/// [`super::range`].
pub(super) fn range(x: &Tensor) -> Result<[f32; 2]> {
    with_view::<f32, _>(x, |values, device| {
        let parts = device.clone_dtoh(&extremes(device, &values)?)?;
        Ok(parts.as_chunks().0.iter().copied().fold([0.0; 2], joined))
    })
}

/// [`super::scale_rows`] with one factor, or one for each row of `width`.
pub(super) fn scale_rows(y: &Tensor, factors: &Tensor, width: usize) -> Result<Tensor> {
    with_view::<f32, _>(y, |values, device| {
        with_view::<f32, _>(factors, |factors, _| {
            let (kernel, cols) = (function(device, Source::Quantize, "quantize_scale_rows")?, width as i32);
            let one = i32::from(factors.len() == 1);
            // SAFETY: a block writes its row, for which the input has as many elements and there is a factor.
            let out = unsafe {
                let mut out = device.alloc::<f32>(values.len())?;
                let mut launch = kernel.builder();
                launch.arg(&values).arg(&factors).arg(&mut out).arg(&cols).arg(&one);
                launch.launch(rows_of_blocks(values.len() / width, width.div_ceil(4))).w()?;
                out
            };
            Ok(tensor(out, device, y.shape()))
        })
    })
}
