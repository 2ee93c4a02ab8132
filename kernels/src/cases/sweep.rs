//! Cases of the column sweep: what a device makes of small matrices, and what plain loops make of them.

use std::cell::OnceCell;
use std::rc::Rc;

use candle_core::{Device, Result};

use super::{Case, Deviation};
use crate::cholesky::{Arithmetic, Factor, inverse_factor};
use crate::matmul::Precision;
use crate::square_matrix::SquareMatrix;
use crate::sweep::{CurvatureData, Drop, Element, Fit, GridFormat, Grids, Part, Round, Rule, Scales, Search, Swept};
use crate::sweep::{fan, fit_tiles, reference};

/// Pseudo-random numbers from −1 to 1.
pub(crate) fn random(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// A matrix, the norms of its inputs, and the factor of their Gram matrix.
pub(crate) type Problem = (Vec<f32>, Vec<f32>, Vec<f32>);

/// A matrix of that shape and all that belongs to it.
pub(crate) fn problem(rows: usize, cols: usize) -> Problem {
    let mut next = random((rows * 1000 + cols) as u64);
    let w = (0..rows * cols).map(|_| next()).collect();
    let x: Vec<f32> = (0..3 * cols * cols).map(|_| next()).collect();
    let mut h = vec![0f32; cols * cols];
    for x in x.chunks_exact(cols) {
        for i in 0..cols {
            for j in 0..cols {
                // Correlated neighbours, so that the factor has weight off its diagonal.
                h[i * cols + j] += (x[i] + x[(i + 1) % cols]) * (x[j] + x[(j + 1) % cols]);
            }
        }
    }
    let norms = (0..cols).map(|j| h[j * cols + j].sqrt()).collect();
    (0..cols).for_each(|j| h[j * cols + j] += 1.0);
    (w, norms, inverse_factor(&h, cols).expect("a damped matrix is positive"))
}

/// Grids of every kind.
pub(crate) fn formats() -> Vec<GridFormat> {
    let plain = GridFormat::int(4, false, Precision::F32);
    let eight = GridFormat { element: Element::E4m3, symmetric: true, ..plain };
    let four = GridFormat { element: Element::E2m1, stored: Precision::Bf16, ..eight };
    vec![
        plain,
        GridFormat::int(3, true, Precision::F32),
        GridFormat { search: Search::Mse, ..GridFormat::int(2, false, Precision::F32) },
        GridFormat::int(8, false, Precision::Bf16),
        GridFormat::int(4, true, Precision::F16),
        eight,
        GridFormat { stored: Precision::F16, computed: Precision::F16, search: Search::Mse, ..eight },
        GridFormat { scales: Scales::Exponent, stored: Precision::Bf16, ..eight },
        GridFormat { scales: Scales::Exponent, ..four },
        GridFormat { scales: Scales::E4m3 { global: 2688.0 }, ..four },
        GridFormat { element: Element::E2m3, scales: Scales::Exponent, ..four },
    ]
}

/// Selection of the weights that become zero.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Dropping {
    Nothing,
    Given,
    Threshold(f64),
    NofM(usize, usize),
}

/// Columns that share a grid, and the moment it is fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Groups {
    /// So many, when a slice begins.
    AtSlice(usize),
    /// As many, before the sweep; columns come in another order than that of the groups.
    Before(usize),
}

/// One sweep of matrices by one factor.
#[derive(Clone, Copy, Debug)]
struct Layer {
    /// Of each matrix.
    rows: &'static [usize],
    cols: usize,
    slice: usize,
}

/// Layers of one slice: the same operations in the same order everywhere.
const SINGLE: [Layer; 3] = [
    Layer { rows: &[33], cols: 48, slice: 48 },
    Layer { rows: &[5, 12], cols: 128, slice: 128 },
    Layer { rows: &[18], cols: 103, slice: 128 },
];

/// Layers of several slices, of which one is longer than what is visited at once.
const SEVERAL: [Layer; 3] = [
    Layer { rows: &[20], cols: 200, slice: 128 },
    Layer { rows: &[9, 31], cols: 130, slice: 48 },
    Layer { rows: &[24], cols: 300, slice: 240 },
];

/// Inputs of a sweep: grids and masks that the rules of the parts borrow.
struct Inputs {
    weights: Vec<Vec<f32>>,
    masks: Vec<Vec<u8>>,
    grids: Vec<Option<Grids>>,
    group_of: Vec<u32>,
    formats: Vec<Option<GridFormat>>,
    u: Vec<f32>,
}

impl Inputs {
    fn new(layer: Layer, problem: &Problem, format: Option<GridFormat>, groups: Groups) -> Self {
        let Layer { rows, cols, .. } = layer;
        let (all, _, u) = problem;
        let (mut rest, mut weights) = (all.as_slice(), Vec::new());
        for rows in rows {
            let (mine, others) = rest.split_at(rows * cols);
            weights.push(mine.to_vec());
            rest = others;
        }
        // Matrices of a fan may have global scales of their own.
        let formats: Vec<Option<GridFormat>> = (0..rows.len())
            .map(|part| {
                format.map(|format| match format.scales {
                    Scales::E4m3 { global } => {
                        GridFormat { scales: Scales::E4m3 { global: global / (1 + part) as f32 }, ..format }
                    }
                    _ => format,
                })
            })
            .collect();
        let (size, before) = match groups {
            Groups::AtSlice(size) => (size, false),
            Groups::Before(size) => (size, true),
        };
        let fitted = |(w, format): (&Vec<f32>, &Option<GridFormat>)| match format {
            Some(format) if before => Some(fit_tiles(w, cols, [1, size], format, None)),
            _ => None,
        };
        Self {
            masks: weights.iter().map(|w| (0..w.len()).map(|i| u8::from(i % 3 == 1 || i % 7 == 2)).collect()).collect(),
            grids: weights.iter().zip(&formats).map(fitted).collect(),
            group_of: (0..cols).map(|j| (j * 7 % cols / size) as u32).collect(),
            weights,
            formats,
            u: u.clone(),
        }
    }

    fn rule(&self, part: usize, drop: Dropping, groups: Groups, stored: Precision) -> Rule<'_> {
        let fit = match (&self.grids[part], groups) {
            (Some(grids), _) => Fit::Before { grids, group_of: &self.group_of },
            (None, Groups::AtSlice(group_size) | Groups::Before(group_size)) => {
                Fit::AtSlice { group_size, importance: None }
            }
        };
        Rule {
            drop: match drop {
                Dropping::Nothing => None,
                Dropping::Given => Some(Drop::Given(&self.masks[part])),
                Dropping::Threshold(sparsity) => Some(Drop::Threshold { sparsity }),
                Dropping::NofM(n, m) => Some(Drop::NofM { n, m }),
            },
            round: self.formats[part].map(|format| Round { format, fit }),
            stored: self.formats[part].map_or(stored, |format| format.stored),
        }
    }
}

/// Number of decisions that differ: codes, masks, and weights by more than what sums in another order can make of them.
fn differing(got: &Swept, want: &Swept) -> usize {
    let far = |i: usize| (got.weight[i] - want.weight[i]).abs() > 1e-3 * want.weight[i].abs().max(0.1);
    let other = |i: usize| got.dropped[i] != want.dropped[i] || got.codes.get(i) != want.codes.get(i) || far(i);
    (0..want.weight.len()).filter(|&i| other(i)).count()
}

/// Sweeps a layer on the device and by plain loops.
///
/// In one slice every bit is equal, but for grids that are searched by powers of errors, which each library of
/// mathematics rounds in its own way. Across slices the corrections are added up in another order: weights near a tie
/// between scores or codes may fall the other way, and what follows them in their rows with them. Up to 2 % may,
/// and the loss may be 1 % off; of these matrices none or few do.
fn check(
    device: &Device,
    (layer, problem): (Layer, &Problem),
    drop: Dropping,
    format: Option<GridFormat>,
    groups: Groups,
    stored: Precision,
) -> Result<Deviation> {
    let Layer { rows, cols, slice } = layer;
    let inputs = Inputs::new(layer, problem, format, groups);
    let rules = (0..rows.len()).map(|part| inputs.rule(part, drop, groups, stored));
    let parts = inputs.weights.iter().zip(rules.clone()).map(|(w, rule)| Part { weight: w.clone(), rule }).collect();
    let curvature =
        CurvatureData::Full(Factor::new(SquareMatrix::on_device(device, inputs.u.clone())?, Arithmetic::Double)?);
    let swept = fan(parts, cols, slice, &curvature)?;
    let exact = slice >= cols && !format.is_some_and(|format| format.search == Search::Mse);
    let mut off = Deviation::ratio(0.0);
    for ((got, weight), rule) in swept.iter().zip(&inputs.weights).zip(rules) {
        let want = reference::sweep(weight.clone(), cols, slice, CurvatureData::Full(&inputs.u), rule);
        let loss = if got.loss == want.loss { 0.0 } else { (got.loss / want.loss - 1.0).abs() };
        let ratio = if exact {
            let equal = got.weight == want.weight && got.codes == want.codes && got.dropped == want.dropped;
            if equal && got.grids == want.grids { loss / 1e-9 } else { f64::INFINITY }
        } else {
            let ties = differing(got, &want);
            off.ties += ties;
            (ties as f64 / (0.02 * weight.len() as f64)).max(loss / 0.01)
        };
        // A non-finite loss is infinitely far off.
        off.ratio = off.ratio.max(if ratio.is_nan() { f64::INFINITY } else { ratio });
    }
    Ok(off)
}

/// The layers, and what belongs to them once a case has needed it.
type Layers = Rc<[(Layer, OnceCell<Problem>)]>;

/// A case for all layers.
fn case(layers: &Layers, drop: Dropping, format: Option<GridFormat>, groups: Groups, stored: Precision) -> Case {
    let layers = layers.clone();
    let what = match format {
        Some(GridFormat { element, symmetric, search, scales, stored, .. }) => format!(
            "{element:?}{}{} {scales:?} {stored:?} {groups:?}",
            if symmetric { " symmetric" } else { "" },
            match search {
                Search::MinMax => "",
                Search::Mse => " mse",
                Search::Weighted => " weighted",
            }
        ),
        None => format!("{stored:?}"),
    };
    Case::new(format!("sweep: {drop:?}, {what}"), move |device| {
        let mut off = Deviation::ratio(0.0);
        for &(layer, ref made) in layers.iter() {
            // Groups of n:m are whole in every slice.
            if matches!(drop, Dropping::NofM(_, m) if !layer.slice.is_multiple_of(m)) {
                continue;
            }
            let made = made.get_or_init(|| problem(layer.rows.iter().sum(), layer.cols));
            let this = check(device, (layer, made), drop, format, groups, stored)?;
            off = Deviation { ratio: off.ratio.max(this.ratio), ties: off.ties + this.ties };
        }
        Ok(off)
    })
}

/// Blocks of a GPU end in any order, and what they make may not depend on it.
fn twice(layers: &Layers) -> Case {
    let layers = layers.clone();
    Case::new("sweep: the same twice", move |device| {
        let (layer, made) = &layers[SINGLE.len()];
        let (w, _, u) = made.get_or_init(|| problem(layer.rows.iter().sum(), layer.cols));
        let format = GridFormat::int(4, false, Precision::Bf16);
        let round = Some(Round { format, fit: Fit::AtSlice { group_size: 32, importance: None } });
        let rule = Rule { drop: Some(Drop::Threshold { sparsity: 0.5 }), round, stored: Precision::Bf16 };
        let curvature =
            CurvatureData::Full(Factor::new(SquareMatrix::on_device(device, u.clone())?, Arithmetic::Double)?);
        let run = || fan(vec![Part { weight: w.clone(), rule }], layer.cols, layer.slice, &curvature);
        let (one, other) = (run()?, run()?);
        let bits = |swept: &[Swept]| (swept[0].weight.clone(), swept[0].codes.clone(), swept[0].loss.to_bits());
        Ok(Deviation::ratio(if bits(&one) == bits(&other) { 0.0 } else { f64::INFINITY }))
    })
}

pub(super) fn cases() -> Vec<Case> {
    let drops = [
        Dropping::Nothing,
        Dropping::Given,
        Dropping::Threshold(0.4),
        Dropping::NofM(2, 4),
        Dropping::NofM(5, 8),
        Dropping::NofM(7, 24),
    ];
    let int = GridFormat::int(4, false, Precision::F32);
    let layers: Layers = SINGLE.into_iter().chain(SEVERAL).map(|layer| (layer, OnceCell::new())).collect();
    let mut cases = vec![twice(&layers)];
    for drop in drops {
        for stored in [Precision::F32, Precision::Bf16, Precision::F16] {
            cases.push(case(&layers, drop, None, Groups::AtSlice(1), stored));
        }
        cases.push(case(&layers, drop, Some(int), Groups::AtSlice(16), int.stored));
        cases.push(case(&layers, drop, Some(int), Groups::Before(24), int.stored));
    }
    for format in formats() {
        for groups in [Groups::AtSlice(24), Groups::AtSlice(150), Groups::Before(16)] {
            cases.push(case(&layers, Dropping::Nothing, Some(format), groups, format.stored));
        }
        cases.push(case(&layers, Dropping::NofM(2, 4), Some(format), Groups::AtSlice(64), format.stored));
    }
    cases
}
