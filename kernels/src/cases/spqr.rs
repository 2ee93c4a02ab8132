//! Cases of SpQR's sweep, against the CPU's, which the tests hold to its definition.

use candle_core::{Device, Result};

use super::{Case, Deviation};
use crate::cholesky::{Arithmetic, Factor};
use crate::matmul::Precision;
use crate::square_matrix::SquareMatrix;
use crate::sweep::Search;
use crate::sweep::spqr::{Outlier, Rule, SecondLevel, Swept, fan, sweep};

/// Columns that a launch on a GPU holds.
const SLICE: usize = 128;
/// Rows, columns and columns of a slice: one slice, several, such as a launch on a GPU holds or wider ones.
const SHAPES: [(usize, usize, usize); 7] =
    [(1, 8, 8), (33, 48, 48), (50, 128, 128), (20, 72, 32), (40, 272, 128), (24, 300, 256), (18, 200, 1000)];
/// Rows of the linears of a fan, and the threshold of each.
const FANS: [&[(usize, f32)]; 3] =
    [&[(32, 0.01), (16, 0.1), (5, 0.003)], &[(20, 0.01), (32, 0.1)], &[(16, 0.02), (0, 0.1), (16, 0.3)]];

/// One rule of each kind.
pub(crate) fn rules() -> Vec<Rule<'static>> {
    let second = SecondLevel { scale_bits: Some(3), zero_bits: Some(3), zero_symmetric: false, rows: 16 };
    let none = SecondLevel { scale_bits: None, zero_bits: None, ..second };
    let plain = Rule {
        bits: 3,
        group_size: 8,
        symmetric: false,
        round_zero: false,
        per_channel: true,
        second: none,
        threshold: None,
        simplified: false,
        keep_last: 0,
        zeros: None,
        outlier: Outlier::Replaces,
        stored: Precision::F32,
        search: Search::MinMax,
        importance: None,
    };
    let outliers = Rule { threshold: Some(0.01), ..plain };
    vec![
        plain,
        outliers,
        Rule { second, ..outliers },
        Rule { second: SecondLevel { rows: 5, ..second }, bits: 4, ..outliers },
        Rule { second: SecondLevel { zero_bits: None, ..second }, ..outliers },
        Rule { second: SecondLevel { scale_bits: None, zero_symmetric: true, ..second }, ..outliers },
        Rule { second, simplified: true, ..outliers },
        Rule { symmetric: true, second, ..outliers },
        Rule { round_zero: true, ..outliers },
        Rule { round_zero: true, second: SecondLevel { zero_bits: Some(2), ..second }, ..outliers },
        Rule { per_channel: false, ..plain },
        Rule { keep_last: 8, ..outliers },
        Rule { group_size: 7, second: SecondLevel { rows: 48, ..second }, ..outliers },
        Rule { second, stored: Precision::Bf16, ..outliers },
        Rule { second, stored: Precision::F16, outlier: Outlier::Adds, ..outliers },
        Rule { second, stored: Precision::F16, outlier: Outlier::Adds, threshold: Some(1e-4), ..outliers },
    ]
}

/// More widths of groups, tiles and codes: what the launches on a GPU differ by.
fn widths() -> Vec<Rule<'static>> {
    let coded = rules()[2];
    let tall = |rows| SecondLevel { rows, ..coded.second };
    vec![
        Rule { group_size: 16, ..coded },
        Rule { group_size: 128, second: tall(32), bits: 2, ..coded },
        Rule { group_size: 200, ..coded },
        Rule { group_size: 1000, second: tall(1 << 20), bits: 8, ..coded },
        Rule { group_size: 20, second: tall(17), stored: Precision::Bf16, outlier: Outlier::Adds, ..coded },
        Rule { group_size: 24, per_channel: false, ..coded },
        Rule { group_size: 150, symmetric: true, stored: Precision::F16, ..rules()[1] },
        Rule {
            second: SecondLevel { scale_bits: Some(8), zero_bits: Some(1), zero_symmetric: true, rows: 3 },
            ..coded
        },
    ]
}

/// Weights `[rows, cols]`, with `flat` some rows of one value and some columns of zeros, and U `[cols, cols]`.
fn problem(rows: usize, cols: usize, flat: bool) -> (Vec<f32>, Vec<f32>) {
    let (mut weight, _, u) = super::sweep::problem(rows, cols);
    for (r, row) in weight.chunks_exact_mut(cols).enumerate().filter(|_| flat) {
        match r % 11 {
            3 => row.fill(0.3),
            7 => row.fill(-0.07),
            _ => row.iter_mut().skip(24).take(8).for_each(|w| *w = 0.0),
        }
    }
    (weight, u)
}

fn factor(u: Vec<f32>, cols: usize, device: &Device) -> Result<Factor> {
    assert_eq!(u.len(), cols * cols, "a factor of {cols} rows");
    Factor::new(SquareMatrix::on_device(device, u)?, Arithmetic::Double)
}

/// Checks that weights are what their codes and statistics say, where they are no outliers.
fn decodes(swept: &Swept, cols: usize, rule: &Rule<'_>) -> bool {
    let groups = cols.div_ceil(rule.group_size);
    (0..swept.weight.len()).filter(|&i| swept.outliers[i] == 0).all(|i| {
        let at = i / cols * groups + i % cols / rule.group_size;
        let inner = rule.stored.round(f32::from(swept.codes[i]) - swept.zeros.values[at]);
        rule.stored.round(swept.scales.values[at] * inner) == swept.weight[i]
    })
}

/// Compares two sweeps bit for bit, but for the loss.
fn equal(a: &Swept, b: &Swept) -> bool {
    a.weight == b.weight && a.codes == b.codes && a.outliers == b.outliers && a.scales == b.scales && a.zeros == b.zeros
}

/// Deviation of a fan from what the CPU makes of its parts one by one.
fn check(parts: Vec<(Vec<f32>, Rule<'_>)>, cols: usize, slice: usize, u: &[f32], factor: &Factor) -> Result<Deviation> {
    let got = fan(parts.clone(), cols, slice, factor)?;
    if got.len() != parts.len() {
        return Ok(Deviation::ratio(f64::INFINITY));
    }
    let one = |(got, (weight, rule)): (&Swept, (Vec<f32>, Rule<'_>))| {
        deviation(got, &sweep(weight, cols, slice, u, &rule), cols, slice, &rule)
    };
    Ok(got.iter().zip(parts).map(one).fold(Deviation::ratio(0.0), combined))
}

fn deviation(got: &Swept, want: &Swept, cols: usize, slice: usize, rule: &Rule<'_>) -> Deviation {
    let same_shape = got.codes.len() == want.codes.len() && got.outliers.len() == want.outliers.len();
    if !same_shape || !decodes(got, cols, rule) {
        return Deviation::ratio(f64::INFINITY);
    }
    let ties = got.codes.iter().zip(&want.codes).filter(|(got, want)| got != want).count();
    let loss = (got.loss - want.loss).abs() / want.loss.max(f64::MIN_POSITIVE);
    // Inside a slice the operations are the CPU's, in its order; only the loss is summed in another.
    if cols <= slice.min(SLICE) {
        return Deviation { ratio: if equal(got, want) { loss / 1e-12 } else { f64::INFINITY }, ties };
    }
    // In later slices the sums of the product run in another order, so that a weight next to a tie may be decided otherwise,
    // and what comes after it in its row too: a part of a row. One that moves an extreme moves the second-level grid of
    // its neighbours, and what comes after it in all of them: a part of one of the few tiles.
    let share = if got.scales.coded.is_some() || got.zeros.coded.is_some() { 0.25 } else { 0.05 };
    Deviation { ratio: (ties as f64 / (share * want.codes.len() as f64)).max(loss / 0.1), ties }
}

/// The deviation of two results together.
fn combined(a: Deviation, b: Deviation) -> Deviation {
    Deviation { ratio: a.ratio.max(b.ratio), ties: a.ties + b.ties }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let all: Vec<Rule<'static>> = rules().into_iter().chain(widths()).collect();
    for (rows, cols, slice) in SHAPES {
        // All rules in one case: the factor takes longer than the sweep.
        let all = all.clone();
        cases.push(Case::new(format!("spqr: {rows}x{cols} in slices of {slice}"), move |device| {
            let (weight, u) = problem(rows, cols, cols <= slice.min(SLICE));
            let factor = factor(u.clone(), cols, device)?;
            let marks: Vec<u8> = (0..rows * cols).map(|i| u8::from(i * 7 % 3 != 0)).collect();
            let pruned = Rule { zeros: Some(&marks), round_zero: true, ..rules()[1] };
            let mut total = Deviation::ratio(0.0);
            for rule in all.iter().copied().chain([pruned, Rule { group_size: 140, ..pruned }]) {
                total = combined(total, check(vec![(weight.clone(), rule)], cols, slice, &u, &factor)?);
            }
            Ok(total)
        }));
    }
    cases.push(Case::new("spqr: the same twice", |device| {
        let (rows, cols, slice) = (70, 200, SLICE);
        let (weight, u) = problem(rows, cols, false);
        let factor = factor(u, cols, device)?;
        let mut same = true;
        for rule in [rules()[2], widths()[2], rules()[10]] {
            let run = || fan(vec![(weight.clone(), rule)], cols, slice, &factor);
            let (first, again) = (run()?, run()?);
            same &= first.iter().zip(&again).all(|(a, b)| equal(a, b) && a.loss == b.loss);
        }
        Ok(Deviation::ratio(if same { 0.0 } else { f64::INFINITY }))
    }));
    for parts in FANS {
        let rows: Vec<String> = parts.iter().map(|(rows, _)| rows.to_string()).collect();
        cases.push(Case::new(format!("spqr: a fan of {} rows", rows.join(" + ")), move |device| {
            let (cols, slice) = (96, SLICE);
            let (_, u) = problem(1, cols, false);
            let factor = factor(u.clone(), cols, device)?;
            let mut total = Deviation::ratio(0.0);
            for rule in rules() {
                let part = |&(rows, threshold): &(usize, f32)| {
                    let rule = Rule { threshold: rule.threshold.map(|_| threshold), ..rule };
                    (problem(rows, cols, true).0, rule)
                };
                let parts: Vec<(Vec<f32>, Rule<'_>)> = parts.iter().map(part).collect();
                total = combined(total, check(parts, cols, slice, &u, &factor)?);
            }
            Ok(total)
        }));
    }
    cases
}
