//! Codes on their way to a file and back, as runs have it: on the CPU by the code that writes and reads files, one thread for a
//! matrix, to fresh memory; on a GPU by its kernels.

use std::hint::black_box;

use candle_core::{Device, Tensor};
use paring_format::bits::Packing;
use paring_format::{Compressed, Dtype, Grid, Values};
use paring_kernels::pack::{self, Fill};

use super::{Bencher, floor, random, random_tensor};
use crate::Result;

/// Columns of a group of the matrices that are decoded.
const GROUP: usize = 64;

/// Codes of the first layer's shape.
pub(super) fn all(bencher: &mut Bencher<'_>) {
    let (rows, cols) = bencher.shapes().layers[0];
    for bits in 2..=8u32 {
        let work = floor::pass(rows * cols + rows * Fill::Words.row_bytes(cols, bits));
        match bencher.device.is_cpu() {
            true => files(bencher, bits, [rows, cols], work),
            false => kernels(bencher, bits, [rows, cols], work),
        }
    }
    if bencher.device.is_cpu() {
        for bits in [4, 8] {
            decoding(bencher, bits, [rows, cols]);
        }
    }
    let begin = |device: &Device| random_tensor(&[rows, cols], 5, device);
    let work = floor::pass(rows * cols * 4 + rows * cols.div_ceil(8));
    bencher.measure("mask", [rows, cols], work, begin, |_| (), |x, ()| Ok(pack::mask(x).map(drop)?));
}

/// Signed codes.
fn signed(bits: u32, count: usize) -> Vec<i8> {
    let half = (1u32 << (bits - 1)) as f32;
    random(count, 4).iter().map(|v| (v * 2.0 * half).floor().clamp(-half, half - 1.0) as i8).collect()
}

fn files(bencher: &mut Bencher<'_>, bits: u32, [rows, cols]: [usize; 2], work: floor::Work) {
    let begin = |_: &Device| Ok((Packing::new(bits, false)?, signed(bits, rows * cols)));
    bencher.measure(
        &format!("pack-{bits}"),
        [rows, cols],
        work,
        begin,
        |_| (),
        |(packing, codes), ()| Ok(packing.pack(codes, cols).map(drop)?),
    );
    let begin = |_: &Device| {
        let packing = Packing::new(bits, false)?;
        Ok((packing, packing.pack(&signed(bits, rows * cols), cols)?))
    };
    bencher.measure(
        &format!("unpack-{bits}"),
        [rows, cols],
        work,
        begin,
        |_| (),
        |(packing, packed), ()| Ok(packing.unpack(packed, rows, cols).map(drop)?),
    );
}

fn kernels(bencher: &mut Bencher<'_>, bits: u32, [rows, cols]: [usize; 2], work: floor::Work) {
    let codes = |device: &Device| -> Result<Tensor> {
        let most = (1u32 << bits) as f32 - 0.01;
        let codes: Vec<u8> = random(rows * cols, 4).iter().map(|v| ((v + 0.5) * most) as u8).collect();
        Ok(Tensor::from_vec(codes, (rows, cols), device)?)
    };
    bencher.measure(
        &format!("pack-{bits}"),
        [rows, cols],
        work,
        codes,
        |_| (),
        |codes, ()| Ok(pack::pack(codes, bits, Fill::Words).map(drop)?),
    );
    let begin = |device: &Device| Ok(pack::pack(&codes(device)?, bits, Fill::Words)?);
    bencher.measure(
        &format!("unpack-{bits}"),
        [rows, cols],
        work,
        begin,
        |_| (),
        |packed, ()| Ok(pack::unpack(packed, bits, cols).map(drop)?),
    );
}

/// Codes to the f32 that products are made of.
fn decoding(bencher: &mut Bencher<'_>, bits: u32, [rows, cols]: [usize; 2]) {
    let group = if cols.is_multiple_of(GROUP) { GROUP } else { cols };
    let begin = |_: &Device| {
        let scales = (0..rows * cols / group).map(|i| Dtype::Bf16.round(0.01 + (i % 97) as f32 * 1e-4)).collect();
        let values = Values::Codes { codes: signed(bits, rows * cols), grid: Grid::int(bits, group, scales, None) };
        Ok(Compressed { rows, cols, dtype: Dtype::Bf16, values })
    };
    bencher.measure(
        &format!("decode-{bits}"),
        [rows, cols],
        floor::pass(5 * rows * cols),
        begin,
        |_| (),
        |matrix, ()| {
            black_box(matrix.to_dense());
            Ok(())
        },
    );
}
