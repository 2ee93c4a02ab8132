//! Operations on the weights of a layer: statistics, factor, sweep, error.

use std::cell::RefCell;

use candle_core::{DType, Device, Tensor};
use paring_kernels::cholesky::{Factor, factor_of};
use paring_kernels::device::{download, upload};
use paring_kernels::gram::{Gram, Quadratic};
use paring_kernels::select::nth_smallest_of;
use paring_kernels::square_matrix::SquareMatrix;
use paring_kernels::sweep::{
    CurvatureData, Drop, Element, Fit, GridFormat, Part, Round, Rule, Scales, Search, fan, spqr,
};

use super::floor::{self, SLICE};
use super::{Bencher, random, random_tensor};
use crate::{Error, Precision, Result};

/// The type that the weights of the sweeps are stored in.
const STORED: Precision = Precision::Bf16;

pub(super) fn all(bencher: &mut Bencher<'_>) {
    let shapes = bencher.shapes();
    for dim in shapes.widths() {
        let shape = [shapes.tokens, dim];
        let begin = |device: &Device| {
            Ok((random_tensor(&shape, 1, device)?, RefCell::new(Gram::on_device(device, dim, Precision::F32)?)))
        };
        bencher.measure(
            "gram",
            shape,
            floor::gram(shape[0], dim),
            begin,
            |_| (),
            |(x, gram), ()| Ok(gram.borrow_mut().add(x)?),
        );
    }
    for dim in shapes.widths() {
        let begin = |device: &Device| gram_of(dim, shapes.tokens, device);
        bencher.measure(
            "factor",
            [dim, dim],
            floor::factor(dim),
            begin,
            |_| (),
            |(h, diagonal), ()| factor(h, diagonal).map(drop),
        );
    }
    for &(rows, cols) in shapes.layers {
        let begin = |device: &Device| Ok((gram_of(cols, shapes.tokens, device)?.0, random(rows * cols, 2)));
        bencher.measure(
            "quadratic",
            [rows, cols],
            floor::quadratic(rows, cols),
            begin,
            |_| (),
            |(h, w), ()| Ok(Quadratic::new(h, Precision::F32)?.trace(w).map(drop)?),
        );
    }
    for &(rows, cols) in shapes.layers {
        let count = rows * SLICE.min(cols);
        let begin = |device: &Device| scores(count, device);
        bencher.measure(
            "select",
            [rows, SLICE.min(cols)],
            floor::select(count),
            begin,
            |_| (),
            |scores, ()| {
                std::hint::black_box(nth_smallest_of(scores, count / 2)?);
                Ok(())
            },
        );
    }
    for &(rows, cols) in shapes.layers {
        transfer(bencher, rows, cols);
        sweeps(bencher, rows, cols);
    }
}

/// Transfer of a sweep's weights to the device and of its results back.
fn transfer(bencher: &mut Bencher<'_>, rows: usize, cols: usize) {
    let begin = |device: &Device| {
        // Codes and masks, a byte each.
        let marks = Tensor::zeros((rows * cols).div_ceil(2), DType::F32, device)?;
        Ok((device.clone(), random(rows * cols, 2), marks))
    };
    let work = floor::pass(10 * rows * cols);
    bencher.measure(
        "transfer",
        [rows, cols],
        work,
        begin,
        |_| (),
        |(device, weight, marks), ()| {
            let weight = upload(weight.as_slice(), rows * cols, device)?;
            std::hint::black_box((download(&weight)?, download(marks)?));
            Ok(())
        },
    );
}

/// Every rule of the column sweep, and SpQR's, of one shape. The time is that of a call with weights in host memory: on
/// a GPU it includes both transfers.
fn sweeps(bencher: &mut Bencher<'_>, rows: usize, cols: usize) {
    let shape = [rows, cols];
    let int4 = GridFormat {
        element: Element::Int(4),
        symmetric: false,
        search: Search::MinMax,
        scales: Scales::Float,
        computed: STORED,
        stored: STORED,
    };
    let half = Drop::Threshold { sparsity: 0.5 };
    let two_of_four = Drop::NofM { n: 2, m: 4 };
    let grouped = |group_size| Round { format: int4, fit: Fit::AtSlice { group_size, importance: None } };
    let rules: [(&str, Option<Drop<'_>>, Option<Round<'_>>); 5] = [
        ("sweep-sparsegpt-50", Some(half), None),
        ("sweep-sparsegpt-2of4", Some(two_of_four), None),
        ("sweep-gptq-g128", None, Some(grouped(128))),
        ("sweep-gptq-g64", None, Some(grouped(64))),
        ("sweep-2of4-int4", Some(two_of_four), Some(grouped(128))),
    ];
    let tokens = bencher.shapes().tokens;
    let begin = |device: &Device| -> Result<(CurvatureData, Vec<f32>)> {
        let (h, diagonal) = gram_of(cols, tokens, device)?;
        Ok((CurvatureData::Full(factor(&h, &diagonal)?), random(rows * cols, 2)))
    };
    for (name, drop, round) in rules {
        let rule = Rule { drop, round, stored: STORED };
        let work = floor::sweep(rows, cols, round.is_some());
        let prepare = |(_, weight): &(CurvatureData, Vec<f32>)| vec![Part { weight: weight.clone(), rule }];
        bencher.measure(name, shape, work, begin, prepare, |(curvature, _), parts| {
            Ok(fan(parts, cols, SLICE, curvature).map(std::mem::drop)?)
        });
    }
    let begin = |device: &Device| -> Result<(Factor, Vec<f32>, f32)> {
        let (h, diagonal) = gram_of(cols, tokens, device)?;
        let (factor, weight) = (factor(&h, &diagonal)?, random(rows * cols, 2));
        // The published setting.
        let threshold = spqr::threshold(0.2, &weight, &factor.diagonal);
        Ok((factor, weight, threshold))
    };
    let prepare = |(_, weight, threshold): &(Factor, Vec<f32>, f32)| vec![(weight.clone(), published(*threshold))];
    bencher.measure("sweep-spqr", shape, floor::sweep(rows, cols, true), begin, prepare, |(factor, ..), parts| {
        Ok(spqr::fan(parts, cols, SLICE, factor).map(std::mem::drop)?)
    });
}

/// SpQR with three bits in groups of 16, and three bits for scales and zeros of 16 rows (arXiv 2306.03078, section 5).
fn published(threshold: f32) -> spqr::Rule<'static> {
    spqr::Rule {
        bits: 3,
        group_size: 16,
        symmetric: false,
        round_zero: false,
        per_channel: true,
        second: spqr::SecondLevel { scale_bits: Some(3), zero_bits: Some(3), zero_symmetric: false, rows: 16 },
        threshold: Some(threshold),
        simplified: false,
        keep_last: 0,
        zeros: None,
        outlier: spqr::Outlier::Replaces,
        stored: STORED,
        search: Search::MinMax,
        importance: None,
    }
}

/// A Gram matrix of random inputs and its diagonal with a hundredth of its mean added.
fn gram_of(dim: usize, tokens: usize, device: &Device) -> Result<(SquareMatrix, Vec<f32>)> {
    let mut gram = Gram::on_device(device, dim, Precision::F32)?;
    gram.add(&random_tensor(&[tokens, dim], 1, device)?)?;
    let h = gram.finish(2.0)?;
    let mut diagonal = h.diagonal()?;
    let damping = 0.01 * diagonal.iter().sum::<f32>() / dim as f32;
    diagonal.iter_mut().for_each(|d| *d += damping);
    Ok((h, diagonal))
}

fn factor(h: &SquareMatrix, diagonal: &[f32]) -> Result<Factor> {
    factor_of(h, None, diagonal).map_err(|error| Error::Plan(error.to_string()))
}

/// Squares of random numbers.
fn scores(count: usize, device: &Device) -> Result<Tensor> {
    Ok(Tensor::from_vec(random(count, 3).iter().map(|v| v * v).collect::<Vec<f32>>(), count, device)?)
}
