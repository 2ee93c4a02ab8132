//! All steps of a fine-tuning, and the points from which it can be resumed.

use std::path::{Path, PathBuf};
use std::time::Instant;

use paring_format::files;
use paring_format::message;
use paring_format::writer::write_beside;
use paring_model::Decoder;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::settings::Settings;
use super::store::Slot;
use super::trainer::Trainer;
use crate::output::journal;
use crate::report::Stage;
use crate::report::progress::{Observer, Step};
use crate::report::training::{HeldOut, TrainingStep};
use crate::{Error, Result};
use paring_data::training::Example;

/// The file that says from where a run can be resumed.
pub(super) const POINT: &str = "point.json";

/// The text of a fine-tuning.
pub struct Data<'a> {
    /// The text that is trained on.
    pub examples: &'a [Example],
    /// The text that is measured on; nothing is measured where there is none.
    pub held_out: &'a [Example],
    /// The numbers of the examples of a step, counted from 0.
    pub of_step: &'a dyn Fn(usize) -> Vec<u32>,
}

/// A fine-tuning and the places of what it makes.
pub(super) struct Job<'a> {
    pub student: &'a dyn Decoder,
    pub teacher: Option<&'a dyn Decoder>,
    pub settings: &'a Settings,
    pub data: &'a Data<'a>,
    /// The folder for what is in work, which is there.
    pub work: &'a Path,
    /// The output folder, for messages.
    pub out: &'a Path,
    pub identity: &'a Value,
}

/// A point that a run can be resumed from.
#[derive(Serialize, Deserialize)]
struct Point {
    identity: Value,
    slot: Slot,
    /// Of the units' files, as hexadecimal digits.
    digests: Vec<String>,
    seconds: f64,
    steps: Vec<TrainingStep>,
    held_out: Vec<HeldOut>,
}

/// The results of all steps.
pub(super) struct Curve {
    /// Each step.
    pub steps: Vec<TrainingStep>,
    /// Measurements on held-out text.
    pub held_out: Vec<HeldOut>,
    /// Seconds of all processes that worked on it.
    pub seconds: f64,
}

impl Job<'_> {
    fn point(&self) -> PathBuf {
        self.work.join(POINT)
    }

    /// The last point, if there is one. Errors where it is of another run.
    fn last_point(&self) -> Result<Option<Point>> {
        let path = self.point();
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = files::read(&path, files::LISTS)?;
        let wrong = |error: serde_json::Error| {
            Error::content(path.display().to_string(), format!("not what a run writes: {error}"))
        };
        let point: Point = serde_json::from_slice(&bytes).map_err(wrong)?;
        if let Some((name, [was, now])) = journal::first("", &point.identity, self.identity) {
            let reason = message![format!("{name} was {was} at the start, and is {now} now")];
            return Err(Error::Different { out: self.out.to_path_buf(), reason });
        }
        Ok(Some(point))
    }
}

/// Trains. With `resume` it continues from the last point of the folder, where there is one. When the observer asks for an end, it comes
/// after the step at work, with a point there, as [`Error::Stopped`].
///
/// A step reads and writes 36 bytes a number that trains, and takes 8 operations a weight and token. In memory are a block with gradients and
/// moments, and 256 MiB of activations.
pub(super) fn run<'a>(job: &Job<'a>, resume: bool, observer: &mut dyn Observer) -> Result<(Trainer<'a>, Curve)> {
    let (settings, start) = (job.settings, Instant::now());
    settings.check(job.teacher.is_some())?;
    for model in [Some(job.student), job.teacher].into_iter().flatten() {
        if !model.device().is_cpu() {
            return Err(Error::Plan("training runs on the CPU; backward passes have no kernels for GPUs yet".into()));
        }
    }
    let predictions: usize = job.data.examples.iter().map(Example::labels).sum();
    if predictions == 0 {
        return Err(Error::Plan("no example has a token that is to be learned".into()));
    }
    let point = if resume { job.last_point()? } else { None };
    let blocks = job.student.blocks();
    let mut reading = |i: usize| observer.step(&Step::new(Stage::Read).count(i, blocks));
    let slot = point.as_ref().map(|point| point.slot);
    let mut trainer = Trainer::new((job.student, job.teacher), settings, (job.work, slot), &mut reading)?;
    let mut curve = Curve { steps: Vec::new(), held_out: Vec::new(), seconds: 0.0 };
    if let Some(point) = point {
        let digests: Option<Vec<u64>> = point.digests.iter().map(|d| u64::from_str_radix(d, 16).ok()).collect();
        let digests =
            digests.ok_or_else(|| Error::content(job.point().display().to_string(), "a digest is no number"))?;
        trainer.store.check(&digests)?;
        curve = Curve { steps: point.steps, held_out: point.held_out, seconds: point.seconds };
    }
    let (before, first) = (curve.seconds, curve.steps.len());
    observer.training(first, settings.steps, trainer.count());
    if first == 0 && curve.held_out.is_empty() {
        measure(job, &mut trainer, &mut curve, observer)?;
    }
    for step in first..settings.steps {
        let chosen = (job.data.of_step)(step);
        let examples: Vec<&Example> = chosen.iter().filter_map(|&i| job.data.examples.get(i as usize)).collect();
        let passes = 2 * blocks;
        let mut see = |pass: usize| observer.step(&Step::new(Stage::Train).count(pass, passes));
        let made = trainer.step(step, &examples, &mut see)?;
        if !made.loss.is_finite() || !made.gradient_norm.is_finite() {
            return Err(Error::Plan(format!(
                "step {step}: the loss is {}, and the norm of its gradients {}; take a smaller rate",
                made.loss, made.gradient_norm
            )));
        }
        observer.trained(&made, settings.steps);
        curve.steps.push(made);
        let is_last = step + 1 == settings.steps;
        let is_due = |every: usize| every > 0 && (step + 1).is_multiple_of(every);
        if is_last || is_due(settings.eval_every) {
            measure(job, &mut trainer, &mut curve, observer)?;
        }
        curve.seconds = before + start.elapsed().as_secs_f64();
        let stops = observer.stop() && !is_last;
        if is_last || stops || is_due(settings.checkpoint_every) {
            keep(job, &mut trainer, &curve)?;
        }
        if stops {
            return Err(Error::Stopped {
                out: job.out.to_path_buf(),
                part: "step",
                done: step + 1,
                of: settings.steps,
            });
        }
    }
    Ok((trainer, curve))
}

/// Measures the held-out text, if there is some.
fn measure(job: &Job<'_>, trainer: &mut Trainer<'_>, curve: &mut Curve, observer: &mut dyn Observer) -> Result<()> {
    if job.data.held_out.is_empty() {
        return Ok(());
    }
    let perplexity = trainer.measure(job.data.held_out, &mut |_| ())?.exp();
    let measured = HeldOut { steps: curve.steps.len(), perplexity };
    observer.held_out(&measured, job.settings.steps);
    curve.held_out.push(measured);
    Ok(())
}

/// Makes what is done a point that can be resumed from.
fn keep(job: &Job<'_>, trainer: &mut Trainer<'_>, curve: &Curve) -> Result<()> {
    trainer.apply()?;
    let (slot, digests) = trainer.store.sync()?;
    let point = Point {
        identity: job.identity.clone(),
        slot,
        digests: digests.iter().map(|digest| format!("{digest:016x}")).collect(),
        seconds: curve.seconds,
        steps: curve.steps.clone(),
        held_out: curve.held_out.clone(),
    };
    let path = job.point();
    let text = serde_json::to_vec(&point).map_err(|source| Error::Io { path: path.clone(), source: source.into() })?;
    write_beside(&path, text.len(), |file| file.write_all(&text))?;
    trainer.store.keep();
    Ok(())
}
