//! Operations on activations between two layers.

use candle_core::Device;
use paring_kernels::attention::{Scores, causal};
use paring_kernels::matmul::Matrix;
use paring_kernels::norm::rms;
use paring_kernels::plain::add;
use paring_kernels::swiglu::swiglu;

use super::{Arithmetic, Bencher, floor, random, random_tensor};
use crate::Precision;

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
}
