//! Every stable case of the published implementations (`tests/golden/algorithms`): magnitude, Wanda, SparseGPT, rounding
//! to nearest and GPTQ on six small layers.

use candle_core::Device;
use paring_format::{Checkpoint, Dtype, Values};
use paring_kernels::square_matrix::SquareMatrix;
use serde_json::Value;

use crate::methods::Outcome;
use crate::methods::published::{Case, Layer, own};
use crate::pipeline::stats::Stats;
use crate::plan::Recipe;

/// The recipe of these settings.
pub(super) fn recipe(settings: &Value) -> Recipe {
    crate::methods::published::recipe(settings).unwrap()
}

/// tr(ΔW·H·ΔWᵀ) in f64.
pub(super) fn loss(change: &[f64], h: &[f32], n: usize) -> f64 {
    let mut total = 0.0;
    for row in change.chunks_exact(n) {
        for i in (0..n).filter(|&i| row[i] != 0.0) {
            total += row[i] * row.iter().zip(&h[i * n..]).map(|(&v, &h)| v * f64::from(h)).sum::<f64>();
        }
    }
    total
}

pub(super) struct Golden {
    pub file: Checkpoint,
    pub id: String,
}

impl Golden {
    pub fn of(case: &Value) -> Self {
        let file = Checkpoint::open_file(&own().file(case["file"].as_str().unwrap())).unwrap();
        Self { file, id: case["id"].as_str().unwrap().to_string() }
    }

    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let name = format!("{}/{name}", self.id);
        self.file.info(&name).map(|_| self.file.read(&name).unwrap())
    }

    pub fn floats(&self, name: &str) -> Option<Vec<f32>> {
        self.bytes(name).map(|b| Dtype::F32.decode_f32(&b))
    }
}

/// A case's layer, compressed as the case says.
pub(super) struct Made {
    pub recipe: Recipe,
    pub outcome: Outcome,
    /// The decoded outcome, `[rows, cols]`.
    pub dense: Vec<f32>,
    weight: Vec<f32>,
    /// `[cols, cols]`.
    pub h: Vec<f32>,
    pub rows: usize,
    pub cols: usize,
}

impl Made {
    pub fn of(case: &Case) -> Result<Self, String> {
        Self::on(&Device::Cpu, case)
    }

    pub fn on(device: &Device, case: &Case) -> Result<Self, String> {
        let layer = case.layer().unwrap();
        let place = |h: &[f32]| Ok(Stats::Gram(SquareMatrix::on_device(device, h.to_vec())?));
        let outcome = case.compress(&layer, place).map_err(|e| e.to_string())?;
        let dense = outcome.compressed.to_dense();
        let Layer { rows, cols, weight, gram: h, .. } = layer;
        Ok(Self { recipe: case.recipe.clone(), outcome, dense, weight, h, rows, cols })
    }

    /// tr(ΔW·H·ΔWᵀ) of what was made.
    pub fn loss(&self) -> f64 {
        let change = |(&a, &b): (&f32, &f32)| f64::from(a) - f64::from(b);
        loss(&self.dense.iter().zip(&self.weight).map(change).collect::<Vec<_>>(), &self.h, self.cols)
    }
}

/// Checks a case.
fn check(case: &Case) -> Result<(), String> {
    let made = Made::of(case)?;
    let case = &case.entry;
    let Made { recipe, outcome, dense, h, rows, cols, .. } = &made;
    let (rows, cols) = (*rows, *cols);
    let (got, want) = (made.loss(), case["loss"].as_f64().unwrap());
    let spread = case["loss_rel_spread"].as_f64().unwrap();
    let golden = Golden::of(case);
    if case["match"] == "loss" {
        // Decisions hang on exact ties; the loss may be lower, or higher by as much as the references differ.
        let bound = want * (1.0 + f64::max(0.02, 3.0 * spread));
        return if got <= bound { Ok(()) } else { Err(format!("loss {got}, at most {bound}")) };
    }
    let relative = (got / want - 1.0).abs();
    if relative > 1e-5 {
        return Err(format!("loss {got}, expected {want} ({relative:.1e} off)"));
    }
    let dead: Vec<bool> = (0..cols).map(|j| h[j * cols + j] == 0.0).collect();
    // Among dead columns all scores of Wanda tie, and the pick of the reference is arbitrary.
    let tied = |i: usize| recipe.method.name == "wanda" && dead[i % cols];
    if let Some(mask) = golden.bytes("mask") {
        let differ = mask.iter().zip(&outcome.dropped).enumerate().filter(|(i, (a, b))| a != b && !tied(*i)).count();
        if differ > 0 {
            return Err(format!("{differ} mask bits differ"));
        }
    }
    if let (Some(codes), Values::Codes { grid, .. }) = (golden.bytes("codes"), &outcome.compressed.values) {
        let (zeros, made) = (golden.floats("zeros"), outcome.codes());
        let groups = grid.groups(cols);
        let differ = (0..rows * cols).filter(|&i| {
            let at = i / cols * groups + grid.group_of(i % cols);
            let (mine, theirs) = (f32::from(made[i]), f32::from(codes[i]));
            // A group of zeros may sit at code 7 or 8: what counts is the distance from its zero point.
            match &zeros {
                Some(zeros) => mine - outcome.zeros[at] != theirs - zeros[at],
                None => mine != theirs,
            }
        });
        let differ = differ.count();
        if differ > 0 {
            return Err(format!("{differ} codes differ"));
        }
    }
    if let Some(expected) = golden.floats("weight") {
        let worst = dense.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // The factor is computed in f64 and the sweep in f32; the references do all of it in f32.
        if worst > 5e-6 {
            return Err(format!("weights differ by {worst:e}"));
        }
    }
    Ok(())
}

#[test]
fn every_case_of_the_published_implementations() {
    let cases = own().cases().unwrap();
    let (mut failures, mut counts) = (Vec::new(), std::collections::BTreeMap::new());
    for case in &cases {
        // SpQR has tests of its own.
        if case.recipe.method.spqr {
            continue;
        }
        *counts.entry(case.recipe.method.name).or_insert(0) += 1;
        if let Err(e) = check(case) {
            failures.push(format!("{}: {e}", case.name));
        }
    }
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
    let expected = [("gptq", 116), ("magnitude", 25), ("rtn", 72), ("sparsegpt", 34), ("wanda", 25)];
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected);
}
