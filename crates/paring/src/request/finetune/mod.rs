//! A fine-tuning in one call: names and choices → models and examples → a trained model or an adapter.

mod checks;
mod text;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use paring_data::Tokenizer;
use paring_data::training::{Example, Form, Order, Settings as Reading, TrainingSet};
use paring_format::adapter::{AdapterConfig, Pair};
use paring_format::writer::write_beside;
use paring_format::{Adapter, QuantConfig};
use paring_kernels::device::Device;
use paring_model::Decoder;
use serde_json::{Value, json};
use xxhash_rust::xxh3::Xxh3;

use self::checks::{fits, known_targets};
use super::sources::{Model, Sources};
use super::{DataOptions, refuse_same_folder};
use crate::finetune::{self, Data, Settings, Subject};
use crate::output::journal::Input;
use crate::output::rewrite::destination;
use crate::report::Stage;
use crate::report::names::TRAINING;
use crate::report::progress::{Observer, Step};
use crate::report::training::TrainingReport;
use crate::{Error, Precision, Result};

/// Tokens of a window where nothing is said: what Model-Optimizer's script of sparsity-aware training takes.
const SEQLEN: usize = 1024;
/// Windows that are held out at most where nothing is said, and the share of all that they may be.
const HELD_OUT: (usize, usize) = (16, 20);
/// Windows of a text of its own that is measured, at most, where nothing is said.
const MEASURED: usize = 16;

/// A fine-tuning that is asked for. Fields that are not set have the defaults that they name.
#[derive(Clone)]
pub struct Finetune {
    /// The model: a folder, a name on the hub, or a built-in one.
    pub model: String,
    /// The text to train on: a file or folder, or a named set; the built-in model's own.
    pub data: Option<String>,
    /// Options of data sets.
    pub data_options: DataOptions,
    /// The form of its records; that of their fields.
    pub form: Option<Form>,
    /// Joins several examples in a window; only text.
    pub packing: Option<bool>,
    /// Records that are read at most; all.
    pub limit: Option<usize>,
    /// Tokens of a window; 1024, or as many positions as the model has.
    pub seqlen: Option<usize>,
    /// Models and data by name.
    pub sources: Sources,
    /// The model that the loss compares with; none.
    pub teacher: Option<String>,
    /// Text to measure on; the windows that are held out.
    pub eval: Option<String>,
    /// Windows to hold out, or of `eval` to measure on; a twentieth of all, 16 at most.
    pub held_out: Option<usize>,
    /// Steps; what `epochs` takes.
    pub steps: Option<usize>,
    /// Times that each example is seen; 1.
    pub epochs: usize,
    /// All choices of the training; its steps, and what is done every so many of them, are those of this request.
    pub settings: Settings,
    /// Steps from one measurement to the next; a tenth of all.
    pub eval_every: Option<usize>,
    /// Steps from one point that it can be resumed from to the next; a twentieth of all.
    pub checkpoint_every: Option<usize>,
    /// Type that products round their inputs to; bf16 for bfloat16 checkpoints, otherwise f32.
    pub precision: Option<Precision>,
    /// The output folder.
    pub out: PathBuf,
    /// Replace an earlier output, and a training that was not finished.
    pub overwrite: bool,
    /// Continue the training that was begun for this output.
    pub resume: bool,
}

/// A fine-tuning that is ready: models are open, and examples are known.
pub struct Ready {
    student: Model,
    teacher: Option<Model>,
    examples: TrainingSet,
    held_out: Vec<Example>,
    settings: Settings,
    request: Finetune,
    companions: Vec<(String, Vec<u8>)>,
    notes: Vec<String>,
}

/// The size and the time of a fine-tuning, before it begins.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TrainingCosts {
    /// Steps.
    pub steps: usize,
    /// Windows.
    pub windows: usize,
    /// Tokens of all windows.
    pub tokens: usize,
    /// Tokens that are learned in an epoch.
    pub labels: usize,
    /// Windows that are measured.
    pub held_out: usize,
    /// Numbers that train, by the first block.
    pub trained: usize,
    /// Seconds of a step, by a measured pass of one block.
    pub seconds_per_step: f64,
    /// Seconds of all steps.
    pub seconds: f64,
    /// Bytes that a step reads and writes of values, moments and gradients.
    pub bytes_per_step: u64,
    /// Bytes on the disk while it trains.
    pub disk: u64,
    /// The most resident memory, in bytes.
    pub memory: u64,
}

impl Finetune {
    /// Opens models and text, and checks all that can be known before the work.
    ///
    /// # Errors
    /// When a choice does not fit the models or the text, and when they cannot be read.
    pub fn prepare(self, observer: &mut dyn Observer) -> Result<Ready> {
        let sources = self.sources.clone();
        if sources.adapter.is_some() {
            return Err(Error::Misuse("a training of a model with an adapter; merge it first".into()));
        }
        let local = sources.local(&self.model)?;
        refuse_same_folder(&local, &self.out)?;
        finetune::check_begun(&self.out, self.resume, self.overwrite)?;
        let device = Device::Cpu;
        let student = sources.model(&local, self.precision, &device, false)?;
        let teacher = match &self.teacher {
            None => None,
            Some(name) => Some(sources.model(sources.local(name)?, self.precision, &device, false)?),
        };
        if let Some(teacher) = &teacher {
            fits(&student, teacher, self.settings.loss.states != 0.0)?;
        }
        match &self.settings.subject {
            Subject::Weights { .. } => {
                finetune::require_plain(student.decoder.as_ref())?;
                if !self.resume {
                    destination(&student.checkpoint, (&self.out, 0), &sources.companions(&local), self.overwrite)?;
                }
            }
            Subject::Adapter { targets, masked, .. } => {
                if *masked {
                    observer.note("this adapter counts only where weights are not 0, which no file of PEFT says: merge it into the model");
                }
                if !self.resume {
                    Adapter::check_destination(&self.out, self.overwrite)?;
                }
                known_targets(&student, targets)?;
                let rounds = |quant: &QuantConfig| quant.groups.iter().any(|(_, scheme)| scheme.input.is_some());
                if student.checkpoint.quant_config()?.as_ref().is_some_and(rounds) {
                    observer.note("inputs that the model's config quantizes are not rounded while the adapter trains");
                }
            }
        }
        let companions = sources.companions(&local);
        let seqlen = self.seqlen.unwrap_or(SEQLEN.min(student.decoder.max_positions()));
        let both: Vec<&dyn Decoder> =
            [Some(&student), teacher.as_ref()].into_iter().flatten().map(|model| model.decoder.as_ref()).collect();
        super::positions(&both, Some(seqlen))?;
        let mut examples = self.examples(&student, self.data.as_deref(), seqlen, observer)?;
        let mut notes: Vec<String> = examples.notes();
        let held_out = self.measured(&student, &mut examples, seqlen, observer)?;
        if self.eval.is_none() && self.held_out.is_none() && !held_out.is_empty() {
            notes.push(format!(
                "{} of {} windows are held out to measure on",
                held_out.len(),
                held_out.len() + examples.windows.len()
            ));
        }
        let order = Order::new(self.settings.seed, examples.windows.len(), self.settings.batch);
        let steps = self.steps.unwrap_or_else(|| order.steps(self.epochs as f64));
        let eval_every = self.eval_every.unwrap_or(steps.div_ceil(10));
        let checkpoint_every = self.checkpoint_every.unwrap_or(steps.div_ceil(20));
        let settings = Settings { steps, eval_every, checkpoint_every, ..self.settings.clone() };
        settings.check(teacher.is_some())?;
        Ok(Ready { student, teacher, examples, held_out, settings, request: self, companions, notes })
    }

    fn examples(
        &self,
        model: &Model,
        name: Option<&str>,
        seqlen: usize,
        observer: &mut dyn Observer,
    ) -> Result<TrainingSet> {
        let data = self.sources.training(model, name, self.form, &self.data_options)?;
        let settings = Reading { seqlen, packing: self.packing, limit: self.limit, eos: None };
        let tokenizer = model.tokenizer.as_ref();
        let mut progress = |at: paring_data::training::Progress| {
            observer.step(&Step::new(Stage::Read).count(at.records, at.records));
            true
        };
        let set = data.set(tokenizer, &settings, &mut progress)?;
        set.check_vocabulary(model.decoder.vocab_size(), tokenizer)?;
        tokenizer.into_iter().for_each(Tokenizer::rest);
        for note in data.notes() {
            observer.note(&note);
        }
        Ok(set)
    }

    /// The windows that are measured: of a text of its own, or held out of the examples.
    fn measured(
        &self,
        model: &Model,
        examples: &mut TrainingSet,
        seqlen: usize,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Example>> {
        if let Some(name) = &self.eval {
            if self.held_out == Some(0) {
                return Err(Error::Misuse("a text to measure on, and no windows of it; leave one of both out".into()));
            }
            // Its form and its fields are its own.
            let whole = Self { limit: None, form: None, ..self.clone() };
            let mut of_text = whole.examples(model, Some(name), seqlen, observer)?.windows;
            of_text.truncate(self.held_out.unwrap_or(MEASURED));
            return Ok(of_text);
        }
        let (most, share) = HELD_OUT;
        let count = self.held_out.unwrap_or((examples.windows.len() / share).min(most));
        match count {
            0 => Ok(Vec::new()),
            count => Ok(examples.hold_out(count)?.windows),
        }
    }
}

impl Ready {
    /// Notes on the model, and on its tokenizer.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        self.student.notes()
    }

    /// Parts of the text that are not trained on, a sentence each.
    pub fn remarks(&self) -> &[String] {
        &self.notes
    }

    /// The steps that will be made.
    pub fn steps(&self) -> usize {
        self.settings.steps
    }

    /// All choices, for the report and for resuming.
    fn plan(&self) -> Value {
        let Finetune { model, data, teacher, eval, .. } = &self.request;
        let Settings { steps, batch, rate, schedule, warmup, adam, clip, loss, subject, seed, .. } = &self.settings;
        json!({
            "model": model, "data": data, "teacher": teacher, "eval": eval, "form": format!("{:?}", self.examples.form).to_lowercase(),
            "windows": self.examples.windows.len(), "seqlen": self.examples.seqlen, "held_out": self.held_out.len(),
            "steps": steps, "batch": batch, "learning_rate": rate, "scheduler": schedule, "warmup_steps": warmup,
            "weight_decay": adam.decay, "betas": [adam.beta1, adam.beta2], "max_grad_norm": clip, "loss": loss,
            "subject": subject, "seed": seed,
            "dtype": format!("{:?}", self.student.precision).to_lowercase(),
        })
    }

    /// The plan with what stands for the contents of model and data.
    fn identity(&self, plan: &Value) -> Value {
        let mut digest = Xxh3::new();
        for example in self.examples.windows.iter().chain(&self.held_out) {
            digest.update(&(example.ids.len() as u64).to_le_bytes());
            example.ids.iter().for_each(|id| digest.update(&id.to_le_bytes()));
            example.learned.iter().for_each(|&learned| digest.update(&[u8::from(learned)]));
        }
        let files = |model: &Model| json!(Input::of(&model.checkpoint, None, &self.companions));
        let mut identity = plan.clone();
        for name in ["model", "data", "teacher", "eval"] {
            identity.as_object_mut().map(|object| object.remove(name));
        }
        identity["files"] = files(&self.student);
        identity["files of the teacher"] = json!(self.teacher.as_ref().map(files));
        identity["tokens"] = json!(format!("{:016x}", digest.digest()));
        identity["program"] = json!(concat!("paring ", env!("CARGO_PKG_VERSION")));
        identity["arithmetic"] = json!(paring_kernels::matmul::arithmetic().unwrap_or_default());
        identity
    }

    /// Its size and time: reads one block, and runs it on a few hundred tokens.
    ///
    /// # Errors
    /// When the block cannot be read or run.
    pub fn costs(&self) -> Result<TrainingCosts> {
        let lengths: Vec<usize> = self.examples.windows.iter().map(|window| window.ids.len()).collect();
        let tokens: usize = lengths.iter().sum();
        let per_step = (tokens * self.settings.batch).div_ceil(lengths.len().max(1));
        let amount = finetune::amount(self.student.decoder.as_ref(), self.teacher.is_some(), &self.settings, per_step)?;
        Ok(TrainingCosts {
            steps: self.settings.steps,
            windows: lengths.len(),
            tokens,
            labels: self.examples.labels(),
            held_out: self.held_out.len(),
            trained: amount.trained,
            seconds_per_step: amount.seconds,
            seconds: amount.seconds * self.settings.steps as f64,
            bytes_per_step: amount.moved,
            disk: amount.disk,
            memory: amount.memory,
        })
    }

    /// Writes an adapter as PEFT does, and the report beside it.
    fn write(&self, pairs: BTreeMap<String, Pair>, report: &TrainingReport) -> Result<()> {
        let Subject::Adapter { rank, alpha, masked, targets } = &self.settings.subject else { return Ok(()) };
        let mut names: BTreeSet<String> = targets.iter().cloned().collect();
        if names.is_empty() {
            names.extend(pairs.keys().filter_map(|module| Some(module.rsplit('.').next()?.to_string())));
        }
        let mut config = AdapterConfig::new(*rank, *alpha, names);
        config.base = Some(self.request.model.clone());
        config.masked = *masked;
        let out = &self.request.out;
        // What the same training left may be replaced by its resumed self.
        let is_own = self.request.resume && finetune::begun_output(out, &report.identity)?.is_some();
        let overwrite = self.request.overwrite || is_own;
        Adapter::check_destination(out, overwrite)?;
        fs::create_dir_all(out).map_err(|source| Error::Io { path: out.clone(), source })?;
        // The report first: with the adapter's settings, which come last, all of it is there.
        let text = serde_json::to_vec_pretty(report).map_err(|error| Error::Plan(error.to_string()))?;
        write_beside(&out.join(TRAINING), text.len(), |file| file.write_all(&text))?;
        Ok(Adapter { config, pairs, place: out.clone() }.write(out, overwrite)?)
    }

    /// Trains. A model, or an adapter in PEFT's files, is written to the output folder.
    ///
    /// # Errors
    /// Those of [`finetune::finetune`] and [`finetune::adapt`].
    pub fn run(&self, observer: &mut dyn Observer) -> Result<TrainingReport> {
        let windows = self.examples.windows.len();
        // Steps that are asked for continue in the next epoch; epochs end with what is left.
        let epochs = if self.request.steps.is_some() { usize::MAX } else { self.request.epochs };
        let order = RefCell::new(Order::new(self.settings.seed, windows, self.settings.batch));
        let of_step = |step: usize| order.borrow_mut().step(step, epochs);
        let plan = self.plan();
        let request = finetune::Request {
            student: self.student.decoder.as_ref(),
            teacher: self.teacher.as_ref().map(|teacher| teacher.decoder.as_ref()),
            settings: &self.settings,
            data: Data { examples: &self.examples.windows, held_out: &self.held_out, of_step: &of_step },
            out: &self.request.out,
            overwrite: self.request.overwrite,
            resume: self.request.resume,
            companions: self.companions.clone(),
            identity: self.identity(&plan),
            plan,
        };
        match self.settings.subject {
            Subject::Weights { .. } => finetune::finetune(request, observer),
            Subject::Adapter { .. } => finetune::adapt(&request, |pairs, report| self.write(pairs, report), observer),
        }
    }
}
