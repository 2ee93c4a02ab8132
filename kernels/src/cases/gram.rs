//! Cases of sums of x xᵀ and of x², and of tr(W H Wᵀ).

use candle_core::{Device, Result, Tensor};

use super::{Case, Deviation, largest, values};
use crate::gram::{Gram, GramPrecision, Quadratic, Squares, reference};
use crate::matmul::Precision;
use crate::square_matrix::SquareMatrix;

/// Tokens and features: around the sizes of vectors, tiles, panels of columns and pieces of tokens.
const SIZES: [(usize, usize); 7] = [(1, 1), (7, 5), (33, 64), (130, 70), (257, 300), (40, 1100), (8200, 3)];

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::F16];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (tokens, dim) in SIZES {
        for precision in PRECISIONS {
            let name = format!("gram: {tokens} tokens, {dim} features, {precision:?}");
            cases.push(Case::new(name, move |device| {
                deviation(device, [tokens, dim], precision, 0.0, Ok).map(Deviation::ratio)
            }));
        }
    }
    // What is lost, as a share of Σ |xᵢ xⱼ|: two factors rounded to ten bits, or cut; lo lo and what hi + lo is off by.
    for (how, lost) in [(GramPrecision::Tf32, 2f64.powi(-9)), (GramPrecision::Bf16x3, 3.0 * 2f64.powi(-17))] {
        let [tokens, dim] = [130, 70];
        cases.push(Case::new(format!("gram: {tokens} tokens, {dim} features, {how}"), move |device| {
            match (device, deviation(device, [tokens, dim], Precision::F32, lost, |gram| gram.multiplied(how))) {
                (Device::Cpu, Err(e)) if e.to_string().contains("on the CPU") => Ok(Deviation::ratio(0.0)),
                (Device::Cpu, _) => Ok(Deviation::ratio(f64::INFINITY)),
                (_, off) => off.map(Deviation::ratio),
            }
        }));
    }
    for (tokens, dim) in [(1, 1), (9, 12), (700, 33), (8200, 3)] {
        cases.push(Case::new(format!("gram: squares of {tokens} tokens, {dim} features"), move |device| {
            let x = values(tokens * dim, 1.0, 1);
            let mut squares = Squares::on_device(device, dim)?;
            squares.add(&Tensor::from_slice(&x, (1, tokens, dim), device)?)?;
            squares.add(&Tensor::from_slice(&x, (tokens, dim), device)?)?;
            let want = reference::gram(&x, dim, Precision::F32);
            let pairs = squares.finish()?.into_iter().enumerate().map(|(j, got)| (got, 2.0 * want[j * dim + j]));
            // Products are exact in f64, so that only its sums are rounded.
            Ok(Deviation::ratio(
                pairs.map(|(got, want)| (got - want).abs() / (1e-12 * want.max(1e-300))).fold(0.0, f64::max),
            ))
        }));
    }
    for (rows, n) in [(1, 1), (9, 40), (70, 129), (131, 200)] {
        for precision in PRECISIONS {
            cases.push(Case::new(format!("gram: tr(W H Wᵀ), {rows} rows of {n}, {precision:?}"), move |device| {
                let x = values(60 * n, 1.0, 2);
                let w: Vec<f32> = values(rows * n, 1.0, 1).iter().map(|&v| Precision::Bf16.round(v)).collect();
                let h = reference::gram(&x, n, Precision::F32).iter().map(|&v| v as f32).collect();
                let got = Quadratic::new(&SquareMatrix::on_device(device, h)?, precision)?.trace(&w)?;
                // Off-diagonal elements are off by 2⁻⁹ of themselves in bfloat16, each with its own sign, and are smaller
                // than the diagonal ones.
                let allowed = if precision == Precision::Bf16 { 5e-4 } else { 1e-5 };
                Ok(Deviation::ratio((got / reference::quadratic(&w, &x, n) - 1.0).abs() / allowed))
            }));
        }
    }
    cases
}

/// Deviation of the Gram matrix of inputs that are added twice, with the products `set`; `lost` is what their rounding
/// may lose, as a share of Σ |xᵢ xⱼ|.
fn deviation(
    device: &Device,
    [tokens, dim]: [usize; 2],
    precision: Precision,
    lost: f64,
    set: impl Fn(Gram) -> Result<Gram>,
) -> Result<f64> {
    let x = values(tokens * dim, 1.0, 1);
    let mut gram = set(Gram::on_device(device, dim, precision)?)?;
    gram.add(&Tensor::from_slice(&x, (1, tokens, dim), device)?)?;
    gram.add(&Tensor::from_slice(&x, (tokens, dim), device)?)?;
    if gram.tokens() != 2 * tokens {
        return Ok(f64::INFINITY);
    }
    let got = gram.finish(0.5)?;
    let want = reference::gram(&x, dim, precision);
    let magnitudes = reference::gram(&x.iter().map(|v| v.abs()).collect::<Vec<f32>>(), dim, precision);
    // Each of the f32 sums on the way may be rounded, or cut as tensor cores do: 2⁻²³ of what is summed.
    let sums = (tokens as f64 + 2.0) * 2f64.powi(-23);
    Ok(largest(&got.to_host()?, &want, |i, _| (lost + sums) * magnitudes[i] + f64::MIN_POSITIVE))
}
