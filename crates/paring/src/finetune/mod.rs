//! Fine-tuning: a whole model trained with its zeros kept, or an adapter beside it, one block in memory at a time.
//!
//! A step goes through all blocks and keeps the activations between them, makes the loss and its gradients in pieces of the
//! vocabulary, and comes back block by block: each is run again from what entered it, and its gradients wait on the disk until it is
//! read in the next step. So weights, moments and gradients of one block are in memory, in f32; the model sees weights rounded to the types of
//! its file. Where the loss compares with a teacher, its blocks are read beside the student's.
//!
//! The optimizer is Adam with decoupled decay (Loshchilov and Hutter 2019) in the order of torch's and of transformers' trainer: the loss
//! of a step is a mean over all its labels, gradients are clipped by the norm over everything that trains.

mod batch;
mod borders;
mod cost;
mod ending;
mod head;
mod kept;
mod output;
mod pair;
mod parameters;
mod run;
mod settings;
mod store;
#[cfg(test)]
mod tests;
mod trainer;
mod work;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use paring_format::adapter::Pair;
use paring_format::names::ADAPTER_CONFIG;
use paring_format::{Checkpoint, files};
use paring_model::Decoder;
use serde_json::{Value, json};

pub use cost::{Amount, amount};
pub use output::require_plain;
pub use pair::targeted;
pub use run::Data;
pub use settings::{Loss, Schedule, Settings, Subject};

use crate::Result;
use crate::output::rewrite::destination;
use crate::report::names::TRAINING;
use crate::report::progress::Observer;
use crate::report::training::TrainingReport;
use crate::report::{Environment, arithmetic, moment, peak_rss_mib};
use run::{Curve, Job};
use trainer::Trainer;
use work::Work;

/// A fine-tuning: models, text, choices, and the output.
pub struct Request<'a> {
    /// The model, whose weights train.
    pub student: &'a dyn Decoder,
    /// The one that it is compared with.
    pub teacher: Option<&'a dyn Decoder>,
    /// All choices of the training.
    pub settings: &'a Settings,
    /// The text.
    pub data: Data<'a>,
    /// The output folder.
    pub out: &'a Path,
    /// Replaces an earlier output, and a training that was not finished.
    pub overwrite: bool,
    /// Continues a training of the same that was not finished.
    pub resume: bool,
    /// Files beside the weights of a model that has no folder: name and content.
    pub companions: Vec<(String, Vec<u8>)>,
    /// All choices, for the report; those that decide the output, for resuming.
    pub plan: Value,
    /// All that decides the output: a run is resumed only where it is the same.
    pub identity: Value,
}

/// Trains all of a model and writes it to the output folder, with the report beside it.
///
/// # Errors
/// When choices contradict each other, weights are not plain floats, the output folder cannot be used, the loss is not finite, and as
/// [`crate::Error::Stopped`] where the observer asks for an end.
pub fn finetune(request: Request<'_>, observer: &mut dyn Observer) -> Result<TrainingReport> {
    let (started, start) = (moment::now(), Instant::now());
    output::require_plain(request.student)?;
    let checkpoint = request.student.checkpoint();
    if let Some(report) = already(&request, Checkpoint::open(request.out).is_ok(), observer)? {
        return Ok(report);
    }
    destination(checkpoint, (request.out, 0), &request.companions, request.overwrite)?;
    let work = Work::open(request.out, request.resume, request.overwrite)?;
    let job = job(&request, &work);
    let (trainer, curve) = run::run(&job, request.resume, observer)?;
    let zeros = [trainer.zeros, output::zeros(&trainer)?];
    let report = report(&request, &trainer, (curve, zeros), (started, start))?;
    let text = serde_json::to_vec_pretty(&report).map_err(|error| crate::Error::Plan(error.to_string()))?;
    let mut companions = request.companions.clone();
    companions.push((TRAINING.to_string(), text));
    let done = json!({"steps": report.steps.len(), "trained": report.trained});
    output::write(&trainer, request.student, (request.out, companions, request.overwrite), done, observer)?;
    drop(trainer);
    work.end()?;
    Ok(report)
}

/// Errors where a training for this output did not end, and is neither to be continued nor replaced.
///
/// # Errors
/// Only that.
pub fn check_begun(out: &Path, resume: bool, overwrite: bool) -> Result<()> {
    Work::check(out, resume, overwrite)
}

/// The report of an output that is whole, of a run that was ended before it had removed what was in work; removes that.
fn already(request: &Request<'_>, is_whole: bool, observer: &mut dyn Observer) -> Result<Option<TrainingReport>> {
    let report = if request.resume && is_whole { begun_output(request.out, &request.identity)? } else { None };
    if report.is_some() {
        observer.note(&format!("{}: this training ended before; nothing is left to do", request.out.display()));
        Work::open(request.out, true, false)?.end()?;
    }
    Ok(report)
}

/// The report that lies in a folder, if a training of the same left it there.
///
/// # Errors
/// When it cannot be read.
pub fn begun_output(out: &Path, identity: &Value) -> Result<Option<TrainingReport>> {
    let path = out.join(TRAINING);
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = files::read(&path, files::LISTS)?;
    Ok(serde_json::from_slice::<TrainingReport>(&bytes).ok().filter(|report| report.identity == *identity))
}

/// Trains an adapter, and gives it to `write` with the report; what is in work goes once that is done.
///
/// # Errors
/// As [`finetune`], where no linear is among the targets, and those of `write`.
pub fn adapt(
    request: &Request<'_>,
    write: impl FnOnce(BTreeMap<String, Pair>, &TrainingReport) -> Result<()>,
    observer: &mut dyn Observer,
) -> Result<TrainingReport> {
    let (started, start) = (moment::now(), Instant::now());
    if let Some(report) = already(request, request.out.join(ADAPTER_CONFIG).is_file(), observer)? {
        return Ok(report);
    }
    let work = Work::open(request.out, request.resume, request.overwrite)?;
    let job = job(request, &work);
    let (trainer, curve) = run::run(&job, request.resume, observer)?;
    let mut pairs = BTreeMap::new();
    for (number, unit) in trainer.units.iter().enumerate() {
        let values = trainer.store.values(number)?;
        for (parameter, own) in unit.parts(&values) {
            let Some(pair) = &parameter.pair else { continue };
            pairs.insert(parameter.name.clone(), pair.factors(own)?);
        }
    }
    let report = report(request, &trainer, (curve, [trainer.zeros; 2]), (started, start))?;
    write(pairs, &report)?;
    drop(trainer);
    work.end()?;
    Ok(report)
}

fn job<'a>(request: &'a Request<'a>, work: &'a Work) -> Job<'a> {
    Job {
        student: request.student,
        teacher: request.teacher,
        settings: request.settings,
        data: &request.data,
        work: work.dir(),
        out: request.out,
        identity: &request.identity,
    }
}

fn report(
    request: &Request<'_>,
    trainer: &Trainer<'_>,
    (curve, zeros): (Curve, [usize; 2]),
    (started, start): (String, Instant),
) -> Result<TrainingReport> {
    let arithmetic = arithmetic(request.student.device())?;
    Ok(TrainingReport {
        version: 1,
        out: request.out.display().to_string(),
        started,
        seconds: curve.seconds.max(start.elapsed().as_secs_f64()),
        peak_rss_mib: peak_rss_mib(),
        environment: Environment::now(vec![arithmetic]),
        plan: request.plan.clone(),
        identity: request.identity.clone(),
        trained: trainer.count(),
        zeros,
        steps: curve.steps,
        held_out: curve.held_out,
    })
}
