//! A request carried out: inputs are opened, the run is done, and its perplexity measured.

use std::path::{Path, PathBuf};

use paring_data::named::Purpose;
use paring_data::{Data, Moment, SEQLEN, Sampling, Tokenizer, Windows};
use paring_format::message;
use paring_format::message::Message;
use paring_format::writer::{Destination, InputFiles};
use paring_kernels::device;
use paring_model::Decoder;

use super::evaluation::{Evaluation, Measured};
use super::place::{refuse_same_folder, usual_out};
use super::sources::{Model, Sources, open_device};
use super::{DataOptions, Request};
use crate::Result;
use crate::compress::{self, Fitted, Job};
use crate::cost::{self, Costs};
use crate::output::{card, journal};
use crate::pipeline::device::DeviceBudget;
use crate::plan::compatibility::{Loader, Verdict};
use crate::plan::{Allocation, Opt, Plan, SizedBy};
use crate::report::names::RUN_FILES;
use crate::report::progress::{Observer, spelled, tell};
use crate::report::{Clock, Report};

/// Tokens of the shortest window: what follows the first one is measured.
const SHORTEST: usize = 2;

/// A run whose model and data are open; nothing is written yet.
pub struct Prepared {
    job: Job,
    notes: Vec<Message>,
    evaluation: Option<Evaluation>,
    estimate: bool,
}

/// Carries out a request, and tells `observer` how far it is: opens model and data, compresses, writes and checks the
/// output, and measures perplexity if the request asks for it. Its report is also in the output folder.
///
/// # Errors
/// Before anything is written: options that make no sense or do not fit the model, names that lead nowhere, data that is
/// too short. During the work as [`compress::run`].
pub fn run(request: Request, observer: &mut dyn Observer) -> Result<Report> {
    request.prepare()?.run(observer)
}

impl Request {
    /// Opens the model and the data, and checks all that can be known before the work.
    ///
    /// # Errors
    /// As [`run`] before anything is written.
    pub fn prepare(&self) -> Result<Prepared> {
        let choices = self.plan()?;
        if choices.needs_data() {
            self.sources.expect_data(&self.model, self.data.as_deref())?;
        }
        let local = self.sources.local(&self.model)?;
        let inputs = self.inputs(&local);
        if let Some(out) = &self.out {
            // What is wrong with the folder shows before data is fetched; the run looks at it again.
            self.check_out(out, &local, &inputs)?;
        }
        let budget = DeviceBudget::new(&open_device(self.device)?, self.max_vram)?;
        let device = budget.device();
        if device.is_cpu() {
            let refused =
                |reason| Opt::GramPrecision.misuse(message![Opt::GramPrecision, format!(" {reason}: leave it out")]);
            self.gram_precision.check_cpu().map_err(refused)?;
        }
        // Statistics are of activations as they are, whatever the config of the model says.
        let mut model = self.sources.model(&local, self.precision, device, false)?;
        let choices =
            Plan { device: device::label(device), max_vram: budget.bytes(), precision: model.precision, ..choices };
        let dense_stream = self.dense_stream(&choices, device.is_cpu());
        let choices = Plan { true_sequential: self.is_sequential(&choices, device.is_cpu()), dense_stream, ..choices };
        let (mut choices, mut notes) = self.fitted(self.for_device(choices, device.is_cpu())?, &model)?;
        let masks = self.open_masks(&mut choices)?;
        let out = match &self.out {
            Some(out) => out.clone(),
            None => {
                let out = usual_out(&choices, &self.sources);
                self.check_out(&out, &local, &inputs)?;
                out
            }
        };
        self.set_moment(&out, &mut model);
        let needs_data = choices.needs_data();
        let concerns = self.concerns(&choices, &model)?;
        if let Some(alike) = &self.alike {
            compress::check_alike(alike, model.decoder.as_ref())?;
        }
        // Data is read and cut before anything is written, so that what is wrong with it shows at once.
        let calibration = if needs_data { Some(self.calibration(&choices, &model)?) } else { None };
        notes.extend(
            compress::remarks(&choices, &model.checkpoint, model.decoder.as_ref())?.into_iter().chain(concerns),
        );
        let evaluation = self.evaluation(&model, &local, &mut notes)?;
        notes.extend(model.notes().map(Message::from));
        if let Some((data, windows)) = &calibration {
            let short = short(windows, model.decoder.as_ref()).filter(|_| self.seqlen.is_none() && self.loader_notes);
            notes.extend(data.notes().into_iter().chain(short).chain(self.crowded(data, windows)).map(Message::from));
        }
        notes.extend(self.idle(&choices, needs_data).into_iter().filter(|_| self.loader_notes));
        let (plan, windows) = match calibration {
            None => (choices, None),
            Some((data, windows)) => (resolved(choices, data.name, &windows), Some(windows)),
        };
        let moment = model.tokenizer.as_ref().and_then(Tokenizer::moment).map(Moment::seconds);
        let plan = Plan { moment, ..plan };
        let job = Job {
            plan,
            checkpoint: model.checkpoint,
            decoder: model.decoder,
            budget,
            windows,
            masks,
            out,
            inputs,
            resume: self.resume,
            allow_mixed_arithmetic: self.allow_mixed_arithmetic,
            resumable: self.resumable,
            companions: self.sources.companions(&local),
            command: self.command.clone(),
            notes: Vec::new(),
        };
        // Of one that is resumed a part is done already.
        let estimate = self.estimate && !compress::can_resume(&job);
        Ok(Prepared { job, notes, evaluation, estimate })
    }

    /// Sets the moment that the model's template writes: a resumed run has the tokens of the day on which it was begun.
    fn set_moment(&self, out: &Path, model: &mut Model) {
        let begun = if self.resume { journal::moment(out) } else { None };
        if let (Some(moment), Some(tokenizer)) = (self.moment.or(begun), &mut model.tokenizer) {
            tokenizer.set_moment(moment);
        }
    }

    /// Errors when the output cannot be written into this folder.
    fn check_out(&self, out: &Path, local: &str, inputs: &InputFiles) -> Result<()> {
        refuse_same_folder(local, out)?;
        if self.resume {
            return Ok(());
        }
        let (inputs, overwrite) = (inputs.clone(), self.overwrite);
        let destination =
            Destination { inputs, overwrite, run: RUN_FILES, has_journal: true, ..Destination::new(out, 0) };
        destination.check()?;
        Ok(())
    }

    /// The choices with groups that fit the model, and notes on those that nobody made.
    fn fitted(&self, choices: Plan, model: &Model) -> Result<(Plan, Vec<Message>)> {
        let Fitted { plan, mut changed, mut made } =
            compress::fit_groups(choices, model.decoder.as_ref(), self.strict)?;
        // With groups that were asked for nothing was fitted.
        let asked = plan.recipe.rounding.filter(|rounding| rounding.sized_by == SizedBy::Request && !self.prunes);
        made.extend(asked.and_then(|rounding| Some(compress::using(self.recipe.usual_scheme()?, &rounding))));
        changed.extend(made.into_iter().filter(|_| self.loader_notes));
        Ok((plan, changed))
    }

    /// Files that the run reads: the model's and all that options name. Names of what is no file lead to none.
    fn inputs(&self, local: &str) -> InputFiles {
        let mut inputs = InputFiles::default();
        let named = [&self.data, &self.evaluation, &self.config].into_iter().flatten().map(Path::new);
        let named = named.chain(self.tasks.iter().flat_map(|tasks| &tasks.files).map(PathBuf::as_path));
        let named = named.chain(self.masks.as_deref());
        let named = named.chain([Path::new(local)]).chain(self.data_options.data_dir.as_deref());
        named.for_each(|path| inputs.add(path));
        inputs
    }

    /// Notes on what transformers or vLLM would not load; an error where that is refused.
    fn concerns(&self, plan: &Plan, model: &Model) -> Result<Vec<Message>> {
        if let Some(Allocation::Bits { .. }) = plan.allocation {
            // Known when bits are chosen, and noted then.
            return match self.strict {
                true => Err(Opt::Strict.misuse(message![
                    Opt::Strict,
                    " promises what is not known before: ",
                    Opt::TargetBits,
                    " chooses formats by measuring; leave one of them out"
                ])),
                false => Ok(Vec::new()),
            };
        }
        let concerns = compress::concerns(plan, &model.checkpoint, model.decoder.as_ref())?;
        if let Some(first) = concerns.first().filter(|_| self.strict) {
            let refused = message![Opt::Strict, ": "].then(first.clone());
            return Err(Opt::Strict.misuse(match concerns.len() - 1 {
                0 => refused,
                more => {
                    let more = format!(" (and {more} more, which are notes without ");
                    refused.then(message![more, Opt::Strict, ")"])
                }
            }));
        }
        Ok(if self.loader_notes { concerns } else { Vec::new() })
    }

    /// Notes on what is asked for and has no effect.
    fn idle(&self, plan: &Plan, needs_data: bool) -> Vec<Message> {
        let mut notes = Vec::new();
        if let Some(data) = self.data.as_ref().filter(|_| !needs_data) {
            notes.push(format!("{data} is not used: {} needs no calibration data", plan.recipe.method).into());
        }
        let data =
            [(Opt::Nsamples, self.nsamples.is_some()), (Opt::TrueSequential, self.true_sequential == Some(true))];
        for (option, _) in data.into_iter().filter(|(_, is_set)| *is_set && !needs_data) {
            notes.push(message![option, format!(" has no effect: {} needs no calibration data", plan.recipe.method)]);
        }
        notes
    }

    /// The calibration data and its windows.
    fn calibration(&self, plan: &Plan, model: &Model) -> Result<(Data, Windows)> {
        let reading = (Purpose::Calibration, plan.recipe.method.protocol);
        let data = self.sources.data(model, self.data.as_deref(), reading, &self.data_options)?;
        let how = Sampling {
            nsamples: self.nsamples,
            seqlen: self.seqlen,
            seed: self.seed,
            positions: positions(&[model.decoder.as_ref()], self.seqlen)?,
        };
        let windows = data.calibration(model.tokenizer.as_ref(), &how)?;
        windows.check_vocabulary(&data.name, model.decoder.vocab_size(), model.tokenizer.as_ref())?;
        Ok((data, windows))
    }

    /// A note on windows that were drawn, and overlap, because more are asked for than the data has.
    fn crowded(&self, data: &Data, windows: &Windows) -> Option<String> {
        let seed = windows.seed.filter(|_| self.seed.is_none() && !data.is_drawn())?;
        let count = windows.count();
        Some(format!("the text is too short for {count} separate windows; sampling overlapping ones (seed {seed})"))
    }
}

impl Sources {
    /// The name of a data set, its windows to measure a model on, of `seqlen` tokens, `limit` at most, and notes on it.
    ///
    /// # Errors
    /// As [`Sources::data`], when the data does not fill one window, and when it has tokens that the model does not know.
    pub fn windows(
        &self,
        model: &Model,
        name: Option<&str>,
        options: &DataOptions,
        (seqlen, limit): (Option<usize>, Option<usize>),
    ) -> Result<(String, Windows, Vec<String>)> {
        let data = self.data(model, name, (Purpose::Evaluation, options.protocol), options)?;
        let positions = positions(&[model.decoder.as_ref()], seqlen)?;
        let windows = data.evaluation(model.tokenizer.as_ref(), seqlen, positions, limit)?;
        windows.check_vocabulary(&data.name, model.decoder.vocab_size(), model.tokenizer.as_ref())?;
        // What it takes is needed for the work now.
        model.tokenizer.iter().for_each(Tokenizer::rest);
        let notes = data.notes();
        Ok((data.name, windows, notes))
    }
}

impl Prepared {
    /// The plan of the run, with nothing left to default.
    pub fn plan(&self) -> &Plan {
        &self.job.plan
    }

    /// The verdicts of the programs that load checkpoints on the output.
    ///
    /// # Errors
    /// As [`compress::loaders`].
    pub fn loaders(&self) -> Result<[(Loader, Verdict); 2]> {
        compress::loaders(&self.job.plan, &self.job.checkpoint, self.job.decoder.as_ref())
    }

    /// True if the model is quantized already.
    ///
    /// # Errors
    /// A config that cannot be read.
    pub fn is_quantized(&self) -> Result<bool> {
        Ok(self.job.checkpoint.quant_config()?.is_some_and(|config| !config.groups.is_empty()))
    }

    /// The output folder.
    pub fn out(&self) -> &Path {
        &self.job.out
    }

    /// Estimates time, memory and output of the run; `observer` hears its notes. Nothing is written.
    ///
    /// # Errors
    /// What the run would not begin with.
    pub fn costs(&self, observer: &mut dyn Observer) -> Result<Costs> {
        self.notes.iter().for_each(|note| tell(note, observer));
        self.job.data_notes()?.iter().for_each(|note| tell(note, observer));
        cost::of(&self.job, &measured(&self.job, self.evaluation.as_ref())?)
    }

    /// Compresses the model, writes and checks the output, and measures what was asked for.
    ///
    /// # Errors
    /// As [`compress::run`], [`crate::commands::perplexity::measure`] and [`crate::commands::tasks::judge`].
    pub fn run(self, observer: &mut dyn Observer) -> Result<Report> {
        let Self { mut job, notes, evaluation, estimate } = self;
        notes.iter().for_each(|note| tell(note, observer));
        job.notes = notes.iter().map(|note| spelled(note, observer)).collect();
        if estimate {
            observer.estimated(&cost::estimate(&job, &measured(&job, evaluation.as_ref())?)?);
        }
        let (budget, out) = (job.budget.clone(), job.out.clone());
        let before = |observer: &mut dyn Observer| -> Result<Option<Measured>> {
            evaluation.as_ref().map(|evaluation| evaluation.before(&budget, observer)).transpose()
        };
        let (mut report, before) = compress::run_after(job, before, observer, &mut Clock::default())?;
        observer.compressed(&report);
        if let Some((evaluation, before)) = evaluation.as_ref().zip(before) {
            evaluation.after(before, (&budget, &out), &mut report, observer)?;
            report.write(&out)?;
            card::refresh(&out, &report)?;
        }
        Ok(report)
    }
}

/// The measurements of a run, as far as its time depends on them.
fn measured(job: &Job, evaluation: Option<&Evaluation>) -> Result<Vec<cost::Measurement>> {
    evaluation.map_or(Ok(Vec::new()), |evaluation| evaluation.measured(job.decoder.as_ref()))
}

/// The choices with the data that they were made for.
fn resolved(choices: Plan, dataset: String, windows: &Windows) -> Plan {
    Plan { dataset: Some(dataset), nsamples: windows.count(), seqlen: windows.seqlen, seed: windows.seed, ..choices }
}

/// The longest window that fits all of these models: where none is asked for, as long as the models were made for;
/// otherwise as long as they take.
///
/// # Errors
/// When a longer one is asked for, and when a model has no place for a window of two tokens.
pub fn positions(decoders: &[&dyn Decoder], asked: Option<usize>) -> Result<usize> {
    let longest = decoders.iter().filter_map(|decoder| decoder.longest()).min();
    match (asked, longest) {
        (_, Some(longest)) if longest < SHORTEST => {
            let problem = format!("the model has {longest} position, and a window needs {SHORTEST}");
            Err(Opt::Seqlen.misfit(problem).hint("check max_position_embeddings of its config.json"))
        }
        (Some(asked), Some(longest)) if asked > longest => {
            let hint = message![format!("use at most {longest}, or leave "), Opt::Seqlen, " out"];
            Err(Opt::Seqlen.unfit(asked, format!("the model has {longest} positions")).hint(hint))
        }
        (Some(asked), _) => Ok(asked),
        (None, _) => {
            let usual = decoders.iter().map(|decoder| decoder.max_positions()).min().unwrap_or(usize::MAX);
            Ok(usual.max(SHORTEST))
        }
    }
}

/// A note on windows that are shorter than usual, because the model has no more positions and nobody asked for a length.
fn short(windows: &Windows, decoder: &dyn Decoder) -> Option<String> {
    let seqlen = Some(windows.seqlen).filter(|&seqlen| seqlen < SEQLEN && seqlen == decoder.max_positions())?;
    Some(format!("windows have {seqlen} tokens instead of {SEQLEN}: the model has no more positions"))
}
