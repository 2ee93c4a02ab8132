//! The report of a run: means over its linears, sizes, time.

use super::Job;
use super::output::Written;
use super::visitor::Walked;
use crate::methods::average_bits;
use crate::report::{self, Clock, DeviceReport, Environment, LayerReport, Report, Size, Sizes};
use crate::{Error, Result};

/// The report of a run whose output is complete. `walked` is what remains of it apart from its output.
pub(super) fn report(job: &Job, walked: Walked, written: &Written, clock: &Clock) -> Result<Report> {
    let Walked { layers, blocks, notes, arithmetic, elapsed } = walked;
    let weights = layers.iter().map(|l| l.rows * l.cols).sum::<usize>().max(1) as f64;
    let outlier_share = layers.iter().map(|l| l.outliers).sum::<usize>() as f64 / weights;
    let published_bits = published_bits(job, outlier_share);
    Ok(Report {
        version: report::VERSION,
        out: job.out.display().to_string(),
        method: job.plan.recipe.method.to_string(),
        place: DeviceReport::new(job.decoder.device())?,
        seconds: elapsed.seconds(),
        peak_rss_mib: elapsed.peak_rss_mib(),
        started: elapsed.started,
        command: job.command.clone(),
        environment: Environment::now(arithmetic),
        plan: serde_json::to_value(&job.plan).map_err(|e| Error::Plan(format!("cannot write the plan: {e}")))?,
        bits_before: report::stored_bits(
            &job.checkpoint,
            layers.iter().map(|layer| (layer.name.as_str(), layer.rows * layer.cols)),
        ),
        bits_per_weight: mean(&layers, |l| l.bits),
        formula_bits: published_bits.map(|_| mean(&layers, |l| l.formula_bits.unwrap_or(l.bits))),
        published_bits,
        sparsity: mean(&layers, |l| l.sparsity),
        outlier_share,
        bytes_in: job.checkpoint.total_bytes(),
        bytes_out: written.tensor_bytes,
        size: Size { before: Sizes::of_model(&job.checkpoint, job.decoder.as_ref()), after: written.sizes(job)? },
        perplexity: None,
        tasks: None,
        notes,
        layers,
        blocks,
        stages: clock.stages(),
    })
}

/// The mean of a number of linears over all weights.
fn mean(layers: &[LayerReport], number: impl Fn(&LayerReport) -> f64) -> f64 {
    let count = |l: &LayerReport| l.rows * l.cols;
    let weights = layers.iter().map(count).sum::<usize>().max(1) as f64;
    layers.iter().map(|l| number(l) * count(l) as f64).sum::<f64>() / weights
}

/// Bits per weight as the published driver counts them; `None` unless all linears are SpQR's with the same settings.
fn published_bits(job: &Job, outlier_share: f64) -> Option<f64> {
    let recipe = Some(&job.plan.recipe).filter(|_| job.plan.overrides.is_empty())?;
    Some(average_bits(recipe.rounding.as_ref()?, recipe.spqr.as_ref()?, outlier_share))
}
