//! Cases of attention.

use candle_core::{Device, IndexOp, Result, Tensor};

use super::{Case, Off, flat, largest, random};
use crate::attention::{Scores, causal, reference};
use crate::matmul::Precision;

/// Batch, time, heads, groups, dim.
type Shape = (usize, usize, usize, usize, usize);

const SCALE: f32 = 0.3;
const SHAPES: [Shape; 7] = [
    (1, 1, 1, 1, 2),
    (2, 7, 4, 2, 8),
    (1, 64, 3, 1, 16),
    (1, 150, 2, 2, 64),
    (2, 65, 3, 3, 7),
    (1, 300, 2, 1, 96),
    (1, 131, 1, 1, 130),
];
/// Windows of one key, of less than a tile, of a tile, of more, and of more than there are keys.
const WINDOWS: [Option<usize>; 7] = [Some(1), Some(5), Some(64), Some(65), Some(150), Some(1000), None];

/// Falling slopes over the key positions, in a table that is longer than the sequence.
pub(crate) fn slopes(heads: usize, t: usize, device: &Device) -> Result<Tensor> {
    let width = t + 3;
    let bias: Vec<f32> = (0..heads * width).map(|i| (i % width) as f32 * 0.25 / (i / width + 1) as f32).collect();
    Tensor::from_vec(bias, (heads, width), device)
}

/// The largest difference from the definition applied to the same inputs, values rounded to `precision`, in units of
/// `most`.
fn off(shape: Shape, window: Option<usize>, bias: bool, precision: Precision, device: &Device) -> Result<f64> {
    // Scores up to some tens in f32 are off by some 1e-5 before the exponential, in bfloat16 by some 1e-3. There the
    // exponentials are rounded too: each by 2^-9 of itself at most, so an average of values of at most 6 by 6 · 2^-9 at the
    // very most.
    let (size, most) = if precision == Precision::Bf16 { (1.0, 1.2e-2) } else { (1.5, 1e-4) };
    let (b, t, heads, groups, d) = shape;
    let (q, k) = (random(&[b, t, heads, d], size, 1, device)?, random(&[b, t, groups, d], size, 2, device)?);
    // Values are rounded by definition; queries and keys are not.
    let v: Vec<f32> =
        flat(&random(&[b, t, groups, d], size, 3, device)?)?.into_iter().map(|v| precision.round(v)).collect();
    let v = Tensor::from_vec(v, (b, t, groups, d), device)?;
    let table = slopes(heads, t, device)?;
    let scores = Scores { scale: SCALE, window, bias: bias.then_some(&table) };
    let out = causal(&q, &k, &v, &scores, precision)?.reshape((b, t, heads, d))?;
    let host = |x: &Tensor| x.to_device(&Device::Cpu);
    let (q, k, v, out, table) = (host(&q)?, host(&k)?, host(&v)?, host(&out)?, host(&table)?);
    let of = |x: &Tensor, i: usize, h: usize| flat(&x.i((i, .., h))?);
    let mut worst = 0f64;
    for i in 0..b {
        for h in 0..heads {
            let g = h / (heads / groups);
            let row = if bias { flat(&table.i(h)?)? } else { vec![0.0; t] };
            let (q, k, v) = (of(&q, i, h)?, of(&k, i, g)?, of(&v, i, g)?);
            let want = reference::head(&q, &k, &v, d, SCALE, window.unwrap_or(t), &row);
            worst = worst.max(largest(&of(&out, i, h)?, &want, |_, _| most));
        }
    }
    Ok(worst)
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in SHAPES {
        for precision in [Precision::F32, Precision::Bf16] {
            for bias in [false, true] {
                let (b, t, heads, groups, d) = shape;
                let name = format!("attention: {b} times {t} tokens, {heads} heads on {groups} of {d}, {precision:?}");
                let name = format!("{name}, all windows, {}", if bias { "with a bias" } else { "no bias" });
                cases.push(Case::new(name, move |device| {
                    let all = WINDOWS.iter().map(|&window| off(shape, window, bias, precision, device));
                    all.reduce(|a, b| Ok(a?.max(b?))).unwrap_or(Ok(f64::INFINITY)).map(Off::by)
                }));
            }
        }
    }
    cases
}
