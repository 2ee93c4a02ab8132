//! Packing on a GPU.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{Result, Tensor};

use super::Fill;
use crate::cuda::{Source, function, grid, tensor, with_view};

const THREADS: u32 = 256;

/// [`super::pack`] into rows of `width` bytes, which hold the codes.
pub(super) fn pack(codes: &Tensor, bits: u32, width: usize) -> Result<Tensor> {
    let (rows, cols) = codes.dims2()?;
    let threads = rows * width.div_ceil(4);
    // A thread writes four bytes of a row, or what is left of it: all threads together each byte once.
    by_codes(codes, "pack_codes", [rows, cols, width], bits, (rows, width), threads)
}

/// [`super::unpack`] of rows that hold `cols` codes.
pub(super) fn unpack(packed: &Tensor, bits: u32, cols: usize) -> Result<Tensor> {
    let (rows, width) = packed.dims2()?;
    let threads = rows * cols.div_ceil(4);
    // As above, with codes for bytes.
    by_codes(packed, "unpack_codes", [rows, cols, width], bits, (rows, cols), threads)
}

/// Launches a kernel that reads all of `from` and writes all of a matrix of that shape. `[rows, cols, width]`: codes and
/// bytes of a row.
fn by_codes(
    from: &Tensor,
    name: &str,
    [rows, cols, width]: [usize; 3],
    bits: u32,
    shape: (usize, usize),
    threads: usize,
) -> Result<Tensor> {
    with_view::<u8, _>(from, |from, device| {
        let (rows, cols, width, bits) = (rows as i64, cols as i64, width as i64, bits as i32);
        // SAFETY: the kernel reads rows · cols codes and writes rows · width bytes, or the other way round; the input was
        // checked to be one of them, and what is made is the other, of which each byte is written.
        let made = unsafe {
            let mut made = device.alloc::<u8>(shape.0 * shape.1)?;
            let function = function(device, Source::Pack, name)?;
            let mut launch = function.builder();
            launch.arg(&from).arg(&mut made).arg(&rows).arg(&cols).arg(&bits).arg(&width);
            launch.launch(grid(threads, THREADS)).w()?;
            made
        };
        Ok(tensor(made, device, shape))
    })
}

/// [`super::mask`].
pub(super) fn mask(x: &Tensor) -> Result<Tensor> {
    let (rows, cols) = x.dims2()?;
    let width = Fill::Bytes.row_bytes(cols, 1);
    with_view::<f32, _>(x, |x, device| {
        let (row_count, col_count) = (rows as i64, cols as i64);
        // SAFETY: the kernel reads rows · cols elements and writes each of rows · width bytes.
        let marks = unsafe {
            let mut marks = device.alloc::<u8>(rows * width)?;
            let function = function(device, Source::Pack, "pack_mask")?;
            let mut launch = function.builder();
            launch.arg(&x).arg(&mut marks).arg(&row_count).arg(&col_count);
            launch.launch(grid(rows * width, THREADS)).w()?;
            marks
        };
        Ok(tensor(marks, device, (rows, width)))
    })
}
