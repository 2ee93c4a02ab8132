//! The training of a block, once its linears are compressed.

use std::time::Instant;

use paring_format::{Dtype, NamedTensor};
use paring_model::{Block, BlockInfo};

use super::Job;
use super::encode::Encoder;
use super::fan::{Finished, zeros};
use crate::pipeline::activations::Hidden;
use crate::pipeline::walk::forward_work;
use crate::reconstruct::{Form, Settings, Target, reconstruct};
use crate::report::progress::{Observer, Step};
use crate::report::{BlockReport, Clock, Stage};
use crate::{Error, Result};

/// The results of training beside the linears.
pub(super) struct Trained {
    /// Norms and biases, as they will lie in the shard; none where the block is as it was.
    pub vectors: Vec<NamedTensor>,
    pub report: BlockReport,
}

/// Trains block `i`, in which `linears` lie as they were compressed, from the activations that enter it towards those that leave the dense
/// one; the linears become what they are after it.
pub(super) fn train(
    job: &Job,
    (i, info, block): (usize, &BlockInfo, &mut dyn Block),
    (entering, leaving): (&Hidden, &Hidden),
    (encoder, linears): (&Encoder, &mut [Finished]),
    observer: &mut dyn Observer,
    clock: &mut Clock,
) -> Result<Trained> {
    let start = Instant::now();
    let steps = job.plan.reconstruct_steps.unwrap_or(0);
    let settings = Settings::new(steps, entering.windows(), job.plan.precision);
    let form = |name: &String| {
        let found = linears.iter().find(|linear| linear.report.name == *name).and_then(|linear| linear.trains.as_ref());
        found.map_or(Form::Fixed, |(_, compressed)| Form::Compressed(compressed.clone()))
    };
    let of_fan = |fan: &mut paring_model::Fan| fan.linears.iter().map(|linear| form(&linear.name)).collect();
    let forms = block.fans().into_iter().map(of_fan).collect();
    let dtype_of = |name: &str| encoder.written(job.checkpoint.info(name).map_or(Dtype::F32, |info| info.dtype));
    let mut watch = |step: usize, _: f64| {
        observer.step(&Step::new(Stage::Train).block(i).count(step, steps));
        Ok(())
    };
    let target = Target { block, info, dtype_of: &dtype_of };
    let failed = |error: Error| job.budget.with_context(error, format_args!("block {i}: training it"));
    let outcome = reconstruct(target, forms, (entering, leaving), &settings, &mut watch).map_err(failed)?;
    let made = outcome.losses.len();
    let mut vectors = Vec::new();
    if outcome.kept > 0 {
        for (linear, compressed) in info.linears.iter().zip(outcome.linears.into_iter().flatten()) {
            let (Some(compressed), Some(finished)) =
                (compressed, linears.iter_mut().find(|finished| finished.report.name == linear.name))
            else {
                continue;
            };
            let Some((choice, _)) = finished.trains else { continue };
            let dense = compressed.to_dense();
            finished.encoded = encoder.compressed(choice, &linear.name, &compressed, &dense)?;
            finished.report.sparsity = zeros(&dense) as f64 / dense.len().max(1) as f64;
            finished.report.bits = finished.encoded.bits();
        }
        let tensor = |(name, values): (String, Vec<f32>)| {
            let dtype = dtype_of(&name);
            NamedTensor { dtype, shape: vec![values.len()], bytes: dtype.encode(&values), name }
        };
        vectors = outcome.vectors.into_iter().map(tensor).collect();
    }
    let windows = entering.windows();
    let share = settings.passes(made, windows) as f64 / windows.max(1) as f64;
    clock.add(Stage::Train, start, share * forward_work(job.decoder.as_ref(), i, entering, 0..usize::MAX));
    let (before, after, kept) = (outcome.before, outcome.after, outcome.kept);
    let report = BlockReport { block: i, before, after, steps: made, kept, seconds: start.elapsed().as_secs_f64() };
    Ok(Trained { vectors, report })
}
