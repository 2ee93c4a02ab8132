//! A whole compression run: walk, compress, write, reopen and check.

mod activations;
mod allocation;
mod dense;
mod elapsed;
mod encode;
mod fallback;
mod fan;
mod given;
mod groups;
mod held;
mod legacy;
mod losses;
mod output;
mod schemes;
mod select;
mod snapshots;
mod start;
mod statistics;
pub(crate) mod stored;
mod summary;
#[cfg(test)]
mod tests;
mod threshold;
mod train;
mod visitor;
mod warnings;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use paring_format::masks::Masks;
use paring_format::message;
use paring_format::message::Message;
use paring_format::writer::InputFiles;
use paring_format::{Checkpoint, Dtype, QuantMethod};
use paring_model::{AttentionInfo, BlockInfo, Decoder, LinearInfo};

use crate::output::card::Front;
use crate::output::modules::compressed_module;
use crate::output::tied;
use crate::pipeline::activations::Storage;
use crate::pipeline::budget::{self, largest_block};
use crate::pipeline::device::DeviceBudget;
use crate::pipeline::vram::Pass;
use crate::pipeline::walk::walk;
use crate::plan::{Curvature, Opt, Plan, Recipe};
use crate::report::progress::{Observer, Step, spelled, tell};
use crate::report::{Clock, Report, Stage};
use crate::{Error, Result};
use paring_data::Windows;

use elapsed::Elapsed;
use output::Output;
use start::Started;
use visitor::{Compressor, Walked};

pub(crate) use allocation::check as check_allocation;
pub(crate) use allocation::{effort, windows as measuring_windows};
pub(crate) use fallback::ROWS;
pub use groups::{Fitted, fit_groups, using};
pub(crate) use held::{held_width, is_lean};
pub(crate) use output::outer_shards;
pub(crate) use schemes::{Kind, kinds};
pub(crate) use select::{Selection, check_alike};
pub(crate) use snapshots::LONG;
pub(crate) use start::{can_resume, destination};
pub use warnings::{concerns, loaders, remarks};

/// Everything a run needs, opened.
pub struct Job {
    /// The choices.
    pub plan: Plan,
    /// The model.
    pub checkpoint: Arc<Checkpoint>,
    /// The model, as something that runs.
    pub decoder: Box<dyn Decoder>,
    /// The memory of the model's device.
    pub budget: DeviceBudget,
    /// Calibration windows; `None` when the method needs none.
    pub windows: Option<Windows>,
    /// Masks in place of those that would be found; `None`: none are given.
    pub masks: Option<Arc<Masks>>,
    /// The output folder.
    pub out: PathBuf,
    /// Files that the run reads, which it must not remove.
    pub inputs: InputFiles,
    /// True to resume a run that was started there, if one was.
    pub resume: bool,
    /// True to resume it also where sums have other last bits than where it was started.
    pub allow_mixed_arithmetic: bool,
    /// True to write snapshots of the activations to disk, from which a resumed run continues; `None`: in a run
    /// that seems to take longer than ten minutes.
    pub resumable: Option<bool>,
    /// Files to put beside the weights: name and content.
    pub companions: Vec<(String, Vec<u8>)>,
    /// The words of the command that asks for the run, for its report.
    pub command: Vec<String>,
    /// Notes from before the run, for its report.
    pub notes: Vec<String>,
}

impl Plan {
    /// Checks that the choices go together, before a model is opened.
    pub fn check(&self) -> Result<()> {
        for (_, choice) in self.choices() {
            choice.check()?;
            choice.check_device(&self.device)?;
        }
        self.check_masks()?;
        self.check_dense_stream()?;
        self.check_reconstruction()?;
        let kinds = schemes::kinds(self)?;
        let Some(cache) = &self.kv_cache else { return Ok(()) };
        activations::check_cache(cache)?;
        let foreign = |kind: &&schemes::Kind| kind.layout.method() != QuantMethod::CompressedTensors;
        match kinds.iter().flatten().find(foreign) {
            None => Ok(()),
            Some(kind) => {
                let problem = format!(": {} cannot store the scales of caches", kind.layout.name());
                let hint = message!["leave it out, or choose another ", Opt::Format];
                Err(Opt::KvCache.misuse(message![Opt::KvCache, problem]).hint(hint))
            }
        }
    }
}

/// The hint appended to out-of-memory errors.
fn less_memory() -> Message {
    let less = message!["a smaller ", Opt::MaxVram, ", ", Opt::Offload.with("activations"), ", fewer ", Opt::Nsamples];
    less.then(message![", a shorter ", Opt::Seqlen, ", or ", Opt::Device.with("cpu")])
}

/// Activations that stay in memory although they are offloaded, in bytes.
const RESIDENT_ACTIVATIONS: usize = 256 << 20;

impl Job {
    /// The run as far as the memory of its device depends on it. `block` is the largest.
    pub(crate) fn pass<'a>(&self, block: &'a BlockInfo, windows: &Windows) -> Pass<'a> {
        let recipes = || self.plan.choices().map(|(_, choice)| choice.recipe);
        Pass {
            block,
            dim: self.decoder.hidden_size(),
            windows: windows.count(),
            seqlen: windows.seqlen,
            precision: self.plan.precision,
            products: self.plan.gram_precision,
            need: recipes().map(Recipe::statistics).max().unwrap_or(Curvature::Flat),
            sweeps: true,
            slice: recipes().map(|recipe| recipe.blocksize).max().unwrap_or(0),
            group: recipes().filter_map(Recipe::least_group).min().unwrap_or(0),
            head: None,
        }
    }

    /// The storage of activations between blocks; those on disk lie in `dir`.
    fn storage<'a>(&'a self, windows: &Windows, dir: &'a Path) -> Result<Storage<'a>> {
        let block = largest_block(self.decoder.as_ref());
        let pass = self.pass(&block, windows);
        let disk = self.plan.offload_activations.then_some((dir, RESIDENT_ACTIVATIONS));
        budget::storage(&self.budget, &pass, disk)
    }

    /// Bytes of activations that stay in memory, however many there are.
    pub(crate) fn resident_activations(&self) -> usize {
        if self.plan.offload_activations { RESIDENT_ACTIVATIONS } else { usize::MAX }
    }

    /// Notes on data and masks, before the work: that there are fewer tokens than the widest Gram matrix has rows, and what masks
    /// are given.
    /// Errors on what [`run`] would not begin.
    pub fn data_notes(&self) -> Result<Vec<Message>> {
        let selection = self.check()?;
        let mut notes = self.mask_notes(&selection);
        notes.extend(self.few_tokens(&selection));
        Ok(notes)
    }

    /// Warns when there are fewer calibration tokens than features: the Gram matrix is rank-deficient then.
    fn few_tokens(&self, selection: &Selection) -> Option<Message> {
        let tokens = self.windows.as_ref().map(|windows| windows.ids.len())?;
        let full = |linear: &LinearInfo| {
            let choice = selection.choice(&linear.name).and_then(|number| self.plan.choice(number));
            choice.is_some_and(|choice| self.plan.need(choice.recipe) == Curvature::Full)
        };
        let linears = (0..self.decoder.blocks()).flat_map(|i| self.decoder.linears(i)).filter(full);
        // The first of the widest.
        let widest = linears.reduce(|widest, linear| if linear.cols > widest.cols { linear } else { widest })?;
        (tokens < widest.cols).then(|| {
            let problem = format!(
                "too little calibration data: {tokens} tokens for {} inputs ({}); use more ",
                widest.cols, widest.name
            );
            message![problem, Opt::Nsamples, " or a longer ", Opt::Seqlen]
        })
    }

    /// The model's float type: that of its embedding.
    pub(crate) fn float_type(&self) -> Dtype {
        let names = self.decoder.outer_names();
        let mut types = names.iter().filter_map(|name| self.checkpoint.info(name)).map(|info| info.dtype);
        types.find(|dtype| dtype.is_weight()).unwrap_or(Dtype::F32)
    }

    /// Checks the choices against the model: all that can be known before the work begins.
    pub(crate) fn check(&self) -> Result<Selection> {
        self.plan.check()?;
        if self.plan.needs_data() && self.windows.is_none() {
            return Err(Error::Plan(format!(
                "{} needs calibration data, or the scales of its activations do; name a data set",
                self.plan.recipe.method
            )));
        }
        let compressed = |name: &String| compressed_module(&self.checkpoint, name).map(String::from);
        if let Some(module) = self.decoder.outer_names().iter().find_map(compressed) {
            return Err(Error::Plan(format!(
                "{module}: compressed, but not one of the layers in a block, which are all that a run compresses; use \
                `paring decompress` first"
            )));
        }
        if self.plan.kv_cache.is_some() {
            let mut attentions = (0..self.decoder.blocks()).map(|i| self.decoder.block_info(i).attention);
            if let Some(AttentionInfo { module, .. }) = attentions.find(|attention| attention.cache_module.is_none()) {
                let problem = format!("{module}: no k_proj, whose scales readers of a quantized cache need");
                return Err(Opt::KvCache.misfit(problem).hint(message!["leave ", Opt::KvCache, " out"]));
            }
        }
        let selection = select::Selection::new(&self.plan, self.decoder.as_ref())?;
        groups::check(&self.plan, &selection, self.decoder.as_ref())?;
        let kinds = schemes::kinds(&self.plan)?;
        for linear in (0..self.decoder.blocks()).flat_map(|i| self.decoder.linears(i)) {
            let number = selection.choice(&linear.name);
            let choice = number.and_then(|number| Some((self.plan.choice(number)?, kinds.get(number)?.as_ref()?)));
            if let Some((choice, kind)) = choice {
                choice.recipe.check_cols(&linear.name, linear.cols)?;
                if let Some(input) = &choice.recipe.input {
                    paring_model::activations::stored(input, linear.cols, &linear.name)?;
                }
                let fits = kind.layout.check_shape(linear.rows, linear.cols);
                fits.map_err(|e| Error::Plan(format!("{}: {e}", linear.name)))?;
            }
        }
        given::check(self, &selection)?;
        Ok(selection)
    }
}

/// Runs a job and returns its report. The output is reopened and compared, linear by linear, with what the sweep made.
///
/// # Errors
/// Before the work: choices that do not fit each other or the model, an output folder that cannot be used. During it:
/// weights that cannot be read or are not finite, a Gram matrix that stays singular, a full disk. Shards that were
/// closed stay; without index and config no program takes them for a model. An earlier output that is to be overwritten stays
/// whole until this one is.
pub fn run(job: Job, observer: &mut dyn Observer, clock: &mut Clock) -> Result<Report> {
    run_after(job, |_| Ok(()), observer, clock).map(|(report, ())| report)
}

/// As [`run`], and returns what `first` does too, which is called before the work once the output folder is the run's. It
/// takes no time of the run.
///
/// # Errors
/// Those of `first` too.
pub fn run_after<T>(
    mut job: Job,
    first: impl FnOnce(&mut dyn Observer) -> Result<T>,
    observer: &mut dyn Observer,
    clock: &mut Clock,
) -> Result<(Report, T)> {
    let mut elapsed = Elapsed::start();
    job.budget = job.budget.with_hint(less_memory());
    let selection = job.check()?;
    allocation::check(&job, &selection)?;
    let identity = start::identity(&job)?;
    if let Some(report) = start::finished(&job, &identity, observer)? {
        observer.note("already complete");
        return Ok((report, first(observer)?));
    }
    let started = start::begin(&job, identity, clock)?;
    let (out, beside) = (job.out.clone(), started.output.staged());
    let start = Instant::now();
    let done = first(observer).and_then(|measured| {
        elapsed.leave_out(start.elapsed());
        Ok((carry_out(job, selection, started, elapsed, observer, clock)?, measured))
    });
    done.map_err(|error| match beside {
        Some(made) if made.exists() => Error::Beside { out, made, error: Box::new(error) },
        _ => error,
    })
}

/// All of a run but its beginning.
fn carry_out(
    mut job: Job,
    selection: Selection,
    mut started: Started,
    mut elapsed: Elapsed,
    observer: &mut dyn Observer,
    clock: &mut Clock,
) -> Result<Report> {
    started.notes[started.noted..].iter().for_each(|note| observer.note(note));
    started.keep(std::mem::take(&mut job.notes));
    started.keep(job.decoder.notes());
    if tied::head_differs(&job.checkpoint, &job.decoder.outer())? {
        started.note(tied::NOTE.to_string(), observer);
    }
    let selection = &allocation::set(&mut job, selection, &mut started, observer, clock)?;
    let legacy: Vec<String> = started.output.encoder().layouts().filter_map(legacy::note).collect();
    for note in job.mask_notes(selection) {
        started.note(spelled(&note, observer), observer);
    }
    let few_tokens = job.few_tokens(selection).map(|note| spelled(&note, observer));
    legacy.into_iter().chain(few_tokens).for_each(|note| started.note(note, observer));
    threshold::set_all(&mut job, selection, &mut started, observer, clock)?;
    elapsed.resume(started.seconds, started.peak_rss_mib);
    let (output, mut walked) = compress_blocks(&job, selection, started, elapsed, observer, clock)?;
    for note in losses::notes(&walked.layers, &job.plan, selection) {
        tell(&note, observer);
        walked.notes.push(spelled(&note, observer));
    }
    observer.step(&Step::new(Stage::Write));
    let written = output.finish(&job, selection, observer, clock)?;
    if written.gave_way {
        let note = "the disk was full: saved activations were removed to make room for a shard";
        observer.note(note);
        walked.notes.push(note.to_string());
    }
    observer.step(&Step::new(Stage::Check));
    written.check(clock)?;
    let report = summary::report(&job, walked, &written, clock)?;
    let (front, note) = Front::of_base(&job.checkpoint, &job.plan.model);
    note.iter().for_each(|note| observer.note(note));
    written.write_report(&job.plan, &front.with_data(&job.plan), &report)?;
    written.close()?.iter().for_each(|note| observer.note(note));
    Ok(report)
}

/// Walks the blocks that are left.
fn compress_blocks(
    job: &Job,
    selection: &Selection,
    mut started: Started,
    elapsed: Elapsed,
    observer: &mut dyn Observer,
    clock: &mut Clock,
) -> Result<(Output, Walked)> {
    let (done, count) = (started.blocks(), job.decoder.blocks());
    observer.start(done, count, selection.len());
    let streams = started.hidden(job, selection, observer, clock)?;
    let (mut hidden, dense) = streams.map_or((None, None), |(hidden, dense)| (Some(hidden), dense));
    let mut visitor = Compressor::new(job, selection, (started, dense), elapsed, observer);
    walk(job.decoder.as_ref(), done..count, hidden.as_mut(), &mut visitor, false, clock)?;
    Ok(visitor.finish())
}
