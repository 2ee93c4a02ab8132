//! Operations on activations between two layers, and on codes on their way to a file.

use candle_core::{Device, Tensor};
use paring_kernels::attention::{Scores, causal};
use paring_kernels::matmul::Matrix;
use paring_kernels::norm::rms;
use paring_kernels::pack::{self, Fill};
use paring_kernels::plain::add;
use paring_kernels::swiglu::swiglu;

use super::{Arithmetic, Bencher, floor, random, random_tensor};
use crate::{Precision, Result};

const PRECISIONS: [(&str, Precision, Arithmetic, usize); 2] =
    [("f32", Precision::F32, Arithmetic::F32, 4), ("bf16", Precision::Bf16, Arithmetic::Bf16, 2)];

pub(super) fn all(bencher: &mut Bencher<'_>) {
    let shapes = bencher.shapes();
    let tokens = shapes.tokens;
    for (name, precision, arithmetic, width) in PRECISIONS {
        for &(rows, cols) in shapes.layers {
            let work = floor::product(tokens, rows, cols, width, arithmetic);
            let begin = |device: &Device| {
                let matrix = Matrix::on_device(device, rows, cols, random(rows * cols, 2), precision)?;
                Ok((matrix, random_tensor(&[tokens, cols], 1, device)?))
            };
            bencher.measure(
                &format!("matmul-{name}"),
                [rows, cols],
                work,
                begin,
                |_| (),
                |(matrix, x), ()| Ok(matrix.matmul(x).map(drop)?),
            );
        }
    }
    for (name, precision, arithmetic, _) in PRECISIONS {
        let (heads, groups, dim) = (shapes.heads, shapes.groups, shapes.head_dim);
        let work = floor::attention(tokens, heads, groups, dim, arithmetic);
        let begin = |device: &Device| {
            let part = |heads, seed| random_tensor(&[1, tokens, heads, dim], seed, device);
            Ok([part(heads, 1)?, part(groups, 2)?, part(groups, 3)?])
        };
        let name = format!("attention-{name}");
        bencher.measure(
            &name,
            [tokens, shapes.dim()],
            work,
            begin,
            |_| (),
            |[q, k, v], ()| {
                let scores = Scores::scaled(1.0 / (dim as f32).sqrt());
                Ok(causal(q, k, v, &scores, precision).map(drop)?)
            },
        );
    }
    let shape = [tokens, shapes.dim()];
    let bytes = 4 * tokens * shapes.dim();
    let operands = |device: &Device| Ok([random_tensor(&shape, 1, device)?, random_tensor(&shape, 2, device)?]);
    let weighted = |device: &Device| Ok([random_tensor(&shape, 1, device)?, random_tensor(&shape[1..], 2, device)?]);
    bencher.measure(
        "norm",
        shape,
        floor::pass(2 * bytes),
        weighted,
        |_| (),
        |[x, w], ()| Ok(rms(x, w, 1e-5).map(drop)?),
    );
    bencher.measure(
        "swiglu",
        shape,
        floor::pass(3 * bytes),
        operands,
        |_| (),
        |[gate, up], ()| Ok(swiglu(gate, up).map(drop)?),
    );
    bencher.measure("add", shape, floor::pass(3 * bytes), operands, |_| (), |[a, b], ()| Ok(add(a, b).map(drop)?));
    packing(bencher);
}

/// Codes of the first layer's shape.
fn packing(bencher: &mut Bencher<'_>) {
    let (rows, cols) = bencher.shapes().layers[0];
    let codes = |device: &Device, most: f32| -> Result<Tensor> {
        let codes: Vec<u8> = random(rows * cols, 4).iter().map(|v| ((v + 0.5) * most) as u8).collect();
        Ok(Tensor::from_vec(codes, (rows, cols), device)?)
    };
    for bits in 2..=8u32 {
        let most = (1u32 << bits) as f32 - 0.01;
        let work = floor::pass(rows * cols + rows * Fill::Words.row_bytes(cols, bits));
        let begin = |device: &Device| codes(device, most);
        bencher.measure(
            &format!("pack-{bits}"),
            [rows, cols],
            work,
            begin,
            |_| (),
            |codes, ()| Ok(pack::pack(codes, bits, Fill::Words).map(drop)?),
        );
        let begin = |device: &Device| Ok(pack::pack(&codes(device, most)?, bits, Fill::Words)?);
        bencher.measure(
            &format!("unpack-{bits}"),
            [rows, cols],
            work,
            begin,
            |_| (),
            |packed, ()| Ok(pack::unpack(packed, bits, cols).map(drop)?),
        );
    }
    let begin = |device: &Device| random_tensor(&[rows, cols], 5, device);
    let work = floor::pass(rows * cols * 4 + rows * cols.div_ceil(8));
    bencher.measure("mask", [rows, cols], work, begin, |_| (), |x, ()| Ok(pack::mask(x).map(drop)?));
}
