//! The last stage: the shard's bytes and digest of each linear, its report, and its new weight for the block.

use std::sync::Arc;

use candle_core::Device;
use paring_format::message::Message;
use paring_format::writer::NamedTensor;
use paring_format::{Compressed, Values};
use paring_model::fan::{Fan, Linear};
use paring_model::weight::Dense;
use rayon::prelude::*;

use super::super::activations;
use super::super::encode::Encoded;
use super::Context;
use super::judge::{Judged, Preparation};
use super::read::zeros;
use crate::methods::{self, Outcome, Underflow};
use crate::output::modules::kind;
use crate::report::{self, LayerReport};
use crate::{Error, Precision, Result};

/// A linear that is done.
pub(in crate::compress) struct Finished {
    pub encoded: Encoded,
    /// Scales of its inputs.
    pub scales: Vec<NamedTensor>,
    pub report: LayerReport,
    /// The number of its choice and the matrix, where the block is trained before it is written.
    pub trains: Option<(usize, Compressed)>,
    /// A note for the user.
    pub note: Option<Message>,
}

/// Stores the linears of a fan, all at once, with the scales of inputs over `range`, and puts them into the block's
/// `target`. Its inputs are not rounded there: what later blocks and scales see are activations as they are, as in
/// llm-compressor.
pub(super) fn store(
    context: Context<'_>,
    judged: Vec<Judged<'_>>,
    range: Option<[f32; 2]>,
    target: Option<&mut Fan>,
) -> Result<Vec<Finished>> {
    let mut linears: Vec<Option<&mut Linear>> = Vec::with_capacity(judged.len());
    match target {
        None => linears.resize_with(judged.len(), || None),
        Some(fan) => {
            let mut all: Vec<Option<&mut Linear>> = fan.linears.iter_mut().map(Some).collect();
            let mut take = |name: &str| all.iter_mut().find(|l| l.as_ref().is_some_and(|l| l.name == name))?.take();
            linears.extend(judged.iter().map(|linear| take(&linear.info.name)));
        }
    }
    let stored = judged.into_par_iter().zip(linears);
    stored.map(|(judged, linear)| store_linear(context, judged, range, linear)).collect()
}

fn store_linear(
    context: Context<'_>,
    judged: Judged<'_>,
    range: Option<[f32; 2]>,
    target: Option<&mut Linear>,
) -> Result<Finished> {
    let Judged { outcome, .. } = &judged;
    check_finite(&judged)?;
    let zeros = zeros(outcome.dense());
    let encoded = context.encoder.compressed(judged.choice, &judged.info.name, &outcome.compressed, outcome.dense())?;
    let input = judged.recipe.input.as_ref().zip(range);
    let scales = match input {
        Some((input, range)) => activations::of_input(input, &judged.info.name, range, outcome.compressed.dtype)?,
        None => Vec::new(),
    };
    let report = layer_report(context, &judged, zeros, &encoded)?;
    let trains = context.plan.reconstruct_steps.map(|_| (judged.choice, outcome.compressed.clone()));
    if let Some(target) = target {
        swap(target, judged.outcome, context.budget.device(), context.plan.precision)?;
    }
    Ok(Finished { encoded, scales, report, trains, note: judged.judgement.note })
}

/// Errors on the first weight that is not finite: the float type of the file does not reach as far as the sweep went.
fn check_finite(judged: &Judged<'_>) -> Result<()> {
    let (info, dense) = (&judged.info, judged.outcome.dense());
    let Some(at) = dense.iter().position(|v| !v.is_finite()) else { return Ok(()) };
    Err(Error::Overflow {
        module: info.name.clone(),
        row: at / info.cols,
        column: at % info.cols,
        value: dense[at],
        dtype: judged.outcome.compressed.dtype,
    })
}

/// Puts what the sweep left into the block. The old weight goes first, so that a device never holds both.
fn swap(target: &mut Linear, outcome: Outcome, device: &Device, precision: Precision) -> Result<()> {
    target.weight = Arc::new(Dense::on(&Device::Cpu, 0, 0, Vec::new(), Precision::F32)?);
    target.weight = Arc::new(Dense::on(device, target.rows, target.cols, outcome.into_dense(), precision)?);
    Ok(())
}

fn layer_report(context: Context<'_>, judged: &Judged<'_>, zeros: usize, encoded: &Encoded) -> Result<LayerReport> {
    let Judged { info, choice, recipe, zeros_before, preparation, outcome, judgement } = judged;
    let Preparation { damp, repairs, dead, underflow } = preparation;
    let c = &outcome.compressed;
    let (outliers, formula_bits) = match &c.values {
        Values::Spqr(spqr) => (spqr.outliers.at.len(), Some(spqr.formula_bits(c.rows, c.cols, c.dtype))),
        Values::Dense(_) | Values::Codes { .. } => (0, None),
    };
    let count = (info.rows * info.cols) as f64;
    Ok(LayerReport {
        name: info.name.clone(),
        block: context.block,
        kind: kind(&info.name).to_string(),
        method: recipe.method.to_string(),
        format: context.encoder.kind(*choice)?.layout.name().to_string(),
        rows: info.rows,
        cols: info.cols,
        bits: encoded.bits(),
        sparsity_before: *zeros_before as f64 / count,
        sparsity: zeros as f64 / count,
        outliers,
        formula_bits,
        error: judgement.error,
        baseline_error: judgement.baseline,
        fallback: judgement.fallback,
        damp: *damp,
        repairs: repairs.clone(),
        dead: *dead,
        underflow: underflow.map(|Underflow { zeros, error, usual_error }| report::Underflow {
            zeros,
            error,
            usual_error,
        }),
        changes: (outcome.changes.iter())
            .map(|&methods::Change { step, before, after }| report::Change { step: step.to_string(), before, after })
            .collect(),
        seconds: outcome.seconds,
    })
}
