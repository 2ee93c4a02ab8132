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
        match bencher.device.is_cpu() {
            true => files(bencher, bits, [rows, cols]),
            false => kernels(bencher, bits, [rows, cols]),
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

fn files(bencher: &mut Bencher<'_>, bits: u32, [rows, cols]: [usize; 2]) {
    let packing = move || Packing::new(bits, false);
    let codes = |_: &Device| Ok(signed(bits, rows * cols));
    let pack = |codes: &Vec<i8>| Ok(packing()?.pack(codes, cols)?);
    let unpack = |packed: &Vec<u8>| Ok(packing()?.unpack(packed, rows, cols)?);
    there_and_back(bencher, bits, [rows, cols], codes, pack, unpack);
}

fn kernels(bencher: &mut Bencher<'_>, bits: u32, [rows, cols]: [usize; 2]) {
    let codes = |device: &Device| {
        let codes: Vec<u8> =
            signed(bits, rows * cols).iter().map(|&code| (i32::from(code) + (1 << (bits - 1))) as u8).collect();
        Ok(Tensor::from_vec(codes, (rows, cols), device)?)
    };
    let pack = |codes: &Tensor| Ok(pack::pack(codes, bits, Fill::Words)?);
    let unpack = |packed: &Tensor| Ok(pack::unpack(packed, bits, cols)?);
    there_and_back(bencher, bits, [rows, cols], codes, pack, unpack);
}

/// Measures packing of codes, and unpacking of what that makes.
fn there_and_back<C, P, U>(
    bencher: &mut Bencher<'_>,
    bits: u32,
    [rows, cols]: [usize; 2],
    codes: impl Fn(&Device) -> Result<C>,
    pack: impl Fn(&C) -> Result<P>,
    unpack: impl Fn(&P) -> Result<U>,
) {
    let work = floor::pass(rows * cols + rows * Fill::Words.row_bytes(cols, bits));
    let [there, back] = ["pack", "unpack"].map(|name| format!("{name}-{bits}"));
    bencher.measure(&there, [rows, cols], work, &codes, |_| (), |codes, ()| pack(codes).map(drop));
    let begin = |device: &Device| pack(&codes(device)?);
    bencher.measure(&back, [rows, cols], work, begin, |_| (), |packed, ()| unpack(packed).map(drop));
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
