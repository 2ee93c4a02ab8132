//! Cases of attention.

use candle_core::{Device, IndexOp, Result, Tensor};

use super::{Case, Deviation, flat, largest, random};
use crate::attention::{CacheType, KeyValues, Scores, Span, causal, ragged, reference};
use crate::matmul::Precision;
use crate::minifloat::e4m3;

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

/// Heads, groups and dim of ragged batches.
const HEADS: [(usize, usize, usize); 4] = [(4, 2, 8), (3, 1, 16), (2, 2, 64), (9, 3, 7)];
/// Positions in a cache before, and queries, of the sequences of a batch: first tokens, a next one, none, several after
/// others, and more than a tile of each.
const LENGTHS: [(usize, usize); 8] = [(0, 5), (70, 1), (12, 0), (0, 1), (300, 2), (3, 130), (64, 65), (0, 90)];
/// Scales of keys and of values in caches of 8-bit floats.
const CACHE_SCALES: [f32; 2] = [0.02, 0.03];

/// `x` as a cache gives it back.
fn kept(cache_type: CacheType, x: f32, scale: f32) -> f32 {
    match cache_type {
        CacheType::F32 => x,
        CacheType::Bf16 => Precision::Bf16.round(x),
        CacheType::E4m3 => e4m3(x / scale) * scale,
    }
}

/// As [`off`], of a batch of sequences over caches.
fn ragged_off(
    (heads, groups, d): (usize, usize, usize),
    cache_type: CacheType,
    (window, bias): (Option<usize>, bool),
    precision: Precision,
    device: &Device,
) -> Result<f64> {
    let (size, most) = if precision == Precision::Bf16 { (1.0, 1.2e-2) } else { (1.5, 1e-4) };
    let n = LENGTHS.iter().map(|(_, queries)| queries).sum();
    let q = random(&[1, n, heads, d], size, 1, device)?;
    let (mut caches, mut inputs) = (Vec::new(), Vec::new());
    for (i, (past, queries)) in LENGTHS.into_iter().enumerate() {
        let of = |seed: u64| random(&[past + queries, groups, d], size, 100 * seed + i as u64, device);
        let (k, v) = (of(1)?, of(2)?);
        let scales = CACHE_SCALES.map(|scale| vec![scale; groups]);
        let mut cache = KeyValues::new(cache_type, groups, d, [&scales[0], &scales[1]], device)?;
        for (first, count) in [(0, past), (past, queries)] {
            cache.append(&k.narrow(0, first, count)?, &v.narrow(0, first, count)?)?;
        }
        caches.push(cache);
        inputs.push((k, v));
    }
    let longest = LENGTHS.iter().map(|(past, queries)| past + queries).max().unwrap_or(0);
    let table = slopes(heads, longest, device)?;
    let scores = Scores { scale: SCALE, window, bias: bias.then_some(&table) };
    let spans: Vec<Span<'_>> =
        caches.iter().zip(LENGTHS).map(|(cache, (_, queries))| Span { queries, cache }).collect();
    let out = ragged(&q, &spans, &scores, precision)?.reshape((n, heads, d))?.to_device(&Device::Cpu)?;
    let (q, table) = (q.squeeze(0)?.to_device(&Device::Cpu)?, table.to_device(&Device::Cpu)?);
    let (mut worst, mut first) = (0f64, 0);
    for ((past, queries), (k, v)) in LENGTHS.into_iter().zip(&inputs) {
        let (k, v) = (k.to_device(&Device::Cpu)?, v.to_device(&Device::Cpu)?);
        for h in 0..heads {
            let of = |x: &Tensor, scale: f32| -> Result<Vec<f32>> {
                let x = flat(&x.i((.., h / (heads / groups)))?)?;
                Ok(x.into_iter().map(|x| kept(cache_type, x, scale)).collect())
            };
            let row = if bias { flat(&table.i(h)?)? } else { vec![0.0; past + queries] };
            let own = |x: &Tensor| flat(&x.narrow(0, first, queries)?.i((.., h))?);
            let v: Vec<f32> = of(&v, CACHE_SCALES[1])?.into_iter().map(|v| precision.round(v)).collect();
            let k = of(&k, CACHE_SCALES[0])?;
            let want = reference::head(&own(&q)?, &k, &v, d, SCALE, window.unwrap_or(past + queries), &row);
            worst = worst.max(largest(&own(&out)?, &want, |_, _| most));
        }
        first += queries;
    }
    Ok(worst)
}

/// Ragged batches over caches of each type. A GPU holds no 8-bit floats.
fn ragged_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in HEADS {
        for cache_type in [CacheType::F32, CacheType::Bf16, CacheType::E4m3] {
            for precision in [Precision::F32, Precision::Bf16] {
                let (heads, groups, d) = shape;
                let name = format!("attention: sequences over {cache_type:?}, {heads} heads on {groups} of {d}");
                cases.push(Case::new(format!("{name}, {precision:?}"), move |device| {
                    let ways = [(None, false), (None, true), (Some(1), false), (Some(70), true), (Some(1000), true)];
                    let off = |way| ragged_off(shape, cache_type, way, precision, device);
                    let skipped = cache_type == CacheType::E4m3 && !device.is_cpu();
                    let all = ways.into_iter().filter(|_| !skipped).map(off);
                    all.reduce(|a, b| Ok(a?.max(b?))).unwrap_or(Ok(0.0)).map(Deviation::ratio)
                }));
            }
        }
    }
    cases
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = ragged_cases();
    for shape in SHAPES {
        for precision in [Precision::F32, Precision::Bf16] {
            for bias in [false, true] {
                let (b, t, heads, groups, d) = shape;
                let name = format!("attention: {b} times {t} tokens, {heads} heads on {groups} of {d}, {precision:?}");
                let name = format!("{name}, all windows, {}", if bias { "with a bias" } else { "no bias" });
                cases.push(Case::new(name, move |device| {
                    let all = WINDOWS.iter().map(|&window| off(shape, window, bias, precision, device));
                    all.reduce(|a, b| Ok(a?.max(b?))).unwrap_or(Ok(f64::INFINITY)).map(Deviation::ratio)
                }));
            }
        }
    }
    cases
}
