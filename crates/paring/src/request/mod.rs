//! A whole run in one call: what is asked, with a default for all that is not → plan, model and data → report.
//!
//! A [`Request`] names a model, data and options. [`Request::plan`] resolves its options, before anything is opened;
//! [`Request::prepare`] opens model and data, and checks all that can be known before the work; [`Prepared::run`] does
//! the work. [`run`] is all of it.

mod evaluation;
mod finetune;
mod generation;
mod masks;
mod options;
mod place;
mod recipe;
mod run;
mod sources;
mod summaries;
mod tasks;

use std::path::PathBuf;

use paring_data::Moment;
use paring_data::named::Protocol;
use paring_format::{QuantArgs, message};
use paring_kernels::device::Choice as DeviceChoice;
use paring_kernels::gram::GramPrecision;

use crate::plan::file::Alike;
use crate::plan::{ActOrder, Choice, Curvature, DenseStream, Grouping, Opt, Pattern, Plan, Search};
use crate::{Precision, Result};

pub use finetune::{Finetune, Ready, TrainingCosts};
pub use generation::Generator;
pub use options::{GroupChange, GroupOptions, RecipeOptions, SpqrOptions};
pub use place::{refuse_folder_of, refuse_same_folder};
pub use run::{Prepared, positions, run};
pub use sources::{BuiltIn, Model, Sources, open_device};
pub use tasks::TaskOptions;

/// Options of data sets.
#[derive(Clone, Debug)]
pub struct DataOptions {
    /// Field of a JSON line, or column of a Parquet file, that holds text or messages.
    pub text_field: String,
    /// Folder with the files of the named sets; `None`: the hub's cache, then the hub.
    pub data_dir: Option<PathBuf>,
    /// The published code whose parts and windows of c4 and ptb are measured on.
    pub protocol: Protocol,
}

impl Default for DataOptions {
    fn default() -> Self {
        Self { text_field: "text".into(), data_dir: None, protocol: Protocol::Gptq }
    }
}

/// A run that is asked for. Fields that are not set have the defaults that they name.
#[derive(Clone)]
pub struct Request {
    /// The model: a Hugging Face folder, a name on the hub (`org/name` or `org/name@revision`), or a built-in one.
    pub model: String,
    /// The calibration data: a file, or one of [`paring_data::named::NAMES`]. Not read where the recipe needs none.
    pub data: Option<String>,
    /// Options of data sets.
    pub data_options: DataOptions,
    /// Models and data by name; by default files and the hub.
    pub sources: Sources,
    /// The recipe for the linears.
    pub recipe: RecipeOptions,
    /// True if the recipe prunes, and need not quantize.
    pub prunes: bool,
    /// A file of masks, in place of those that the recipe would find; none.
    pub masks: Option<PathBuf>,
    /// Options that differ for some of the linears; the last group that names one decides.
    pub groups: Vec<GroupOptions>,
    /// The recipe file that options were read from, for the report.
    pub config: Option<String>,
    /// Linears that this file names in two ways, which must come to the same; none.
    pub alike: Option<Alike>,
    /// Quantization of the attention's keys and values as the model runs; none.
    pub kv_cache: Option<QuantArgs>,
    /// The layout to write; the one that suits the recipe.
    pub format: Option<String>,
    /// The output folder; in the working directory, the model's name with what is done to it.
    pub out: Option<PathBuf>,
    /// Calibration windows; 128, or as many as the data has.
    pub nsamples: Option<usize>,
    /// Tokens in a window; 2048, or as many positions as the model has.
    pub seqlen: Option<usize>,
    /// Seed of randomly drawn windows; 0 for named sets, while files are read from their start.
    pub seed: Option<u64>,
    /// The moment that chat templates write where they ask what day it is; that of the run which is resumed, or now.
    pub moment: Option<Moment>,
    /// Data to measure perplexity on, before and after; none.
    pub evaluation: Option<String>,
    /// Windows of the evaluation; all.
    pub limit: Option<usize>,
    /// Tasks to judge input and output by; none.
    pub tasks: Option<TaskOptions>,
    /// Blocks to compress, from the first up to, not including, the second; all.
    pub layers: Option<(usize, usize)>,
    /// Modules to compress (exact names or `re:` patterns); all linears of blocks.
    pub include: Vec<String>,
    /// Modules to leave alone.
    pub ignore: Vec<String>,
    /// Take each fan's statistics after the fans before it were compressed. By default so on the CPU, where it saves half of
    /// the forward passes, unless the published way is asked for or activations are offloaded.
    pub true_sequential: Option<bool>,
    /// Runs the dense model beside, and shifts weights towards what it computes. By default by half of the way, on the CPU, where the
    /// method has the Gram matrix, unless the published way is asked for.
    pub dense_stream: Option<DenseStream>,
    /// Train each block, once its linears are compressed, until it answers as the dense one, in so many steps at most; none.
    pub reconstruct_steps: Option<usize>,
    /// Arithmetic of a GPU's Gram matrices of f32 activations; f32.
    pub gram_precision: GramPrecision,
    /// Do not compute the error of each layer.
    pub skip_out_loss: bool,
    /// Store a linear rounded to nearest, or pruned by magnitude, where that has the smaller error.
    pub allow_fallback: bool,
    /// Keep calibration activations beyond 256 MiB in a file in the output folder.
    pub offload_activations: bool,
    /// Type that products round their inputs to; bf16 for bfloat16 checkpoints, otherwise f32.
    pub precision: Option<Precision>,
    /// The device; the first GPU if there is one.
    pub device: DeviceChoice,
    /// Bytes of the GPU's memory to fill at most; those that are free, less a sixteenth of all.
    pub max_vram: Option<u64>,
    /// Refuse a run whose output transformers or vLLM would not load.
    pub strict: bool,
    /// Note which programs would not load the output, and how long windows are where nobody said; true.
    pub loader_notes: bool,
    /// Estimate what the run takes before it begins, for its observer: half a second of work; false.
    pub estimate: bool,
    /// Replace an earlier checkpoint in the output folder.
    pub overwrite: bool,
    /// Resume the run that was begun in the output folder, if one was.
    pub resume: bool,
    /// Resume it also on a processor or device whose sums have other last bits.
    pub allow_mixed_arithmetic: bool,
    /// Keep activations on disk now and then, for a run that resumes; in runs of more than ten minutes.
    pub resumable: Option<bool>,
    /// The words of the command that asks, for the report.
    pub command: Vec<String>,
}

impl Request {
    fn new(model: impl Into<String>, prunes: bool, method: Option<&str>) -> Self {
        Self {
            model: model.into(),
            data: None,
            data_options: DataOptions::default(),
            sources: Sources::default(),
            recipe: RecipeOptions { method: method.map(String::from), ..RecipeOptions::default() },
            prunes,
            masks: None,
            groups: Vec::new(),
            config: None,
            alike: None,
            kv_cache: None,
            format: None,
            out: None,
            nsamples: None,
            seqlen: None,
            seed: None,
            moment: None,
            evaluation: None,
            limit: None,
            tasks: None,
            layers: None,
            include: Vec::new(),
            ignore: Vec::new(),
            true_sequential: None,
            dense_stream: None,
            reconstruct_steps: None,
            gram_precision: GramPrecision::F32,
            skip_out_loss: false,
            allow_fallback: false,
            offload_activations: false,
            precision: None,
            device: DeviceChoice::Auto,
            max_vram: None,
            strict: false,
            loader_notes: true,
            estimate: false,
            overwrite: false,
            resume: false,
            allow_mixed_arithmetic: false,
            resumable: None,
            command: Vec::new(),
        }
    }

    /// Quantizes a model: by default with gptq, or with what suits the scheme. Where no bits, scheme, or bits to reach on disk
    /// are named, it takes W4A16, which programs serve best, and visits columns by their curvature.
    pub fn quantize(model: impl Into<String>) -> Self {
        Self::new(model, false, None)
    }

    /// Prunes a model, and quantizes it in the same sweep if bits or a scheme are named: by default with sparsegpt. What
    /// is removed must be named.
    pub fn sparsify(model: impl Into<String>) -> Self {
        Self::new(model, true, Some("sparsegpt"))
    }

    /// Calibrates on this data.
    pub fn data(self, data: impl Into<String>) -> Self {
        Self { data: Some(data.into()), ..self }
    }

    /// Compresses by the method of this name in [`crate::plan::METHODS`].
    pub fn method(mut self, name: impl Into<String>) -> Self {
        self.recipe.method = Some(name.into());
        self
    }

    /// Removes weights by this pattern.
    pub fn pattern(mut self, pattern: Pattern) -> Self {
        self.recipe.pattern = Some(pattern);
        self
    }

    /// Removes the weights that the masks in this file say; a pattern is then what they must have.
    pub fn masks(self, file: impl Into<PathBuf>) -> Self {
        Self { masks: Some(file.into()), ..self }
    }

    /// Rounds as this scheme says, such as `W4A16`.
    pub fn scheme(mut self, name: impl Into<String>) -> Self {
        self.recipe.scheme = Some(name.into());
        self
    }

    /// Rounds to integers of so many bits.
    pub fn bits(mut self, bits: u32) -> Self {
        self.recipe.bits = Some(bits);
        self
    }

    /// Lets so many columns share a scale.
    pub fn group_size(mut self, columns: usize) -> Self {
        self.recipe.grouping = Some(Grouping::Columns(columns));
        self
    }

    /// Rounds on symmetric grids, without zero points.
    pub fn symmetric(mut self) -> Self {
        self.recipe.symmetric = Some(true);
        self
    }

    /// Visits columns in this order.
    pub fn act_order(mut self, order: ActOrder) -> Self {
        self.recipe.act_order = Some(order);
        self
    }

    /// Calibrates on so many windows of so many tokens, which the model has positions for.
    pub fn windows(self, count: usize, tokens: usize) -> Self {
        Self { nsamples: Some(count), seqlen: Some(tokens), ..self }
    }

    /// Measures perplexity on this data, before and after.
    pub fn evaluate_on(self, data: impl Into<String>) -> Self {
        Self { evaluation: Some(data.into()), ..self }
    }

    /// Measures it on the first windows only.
    pub fn limit(self, windows: usize) -> Self {
        Self { limit: Some(windows), ..self }
    }

    /// Judges input and output by tasks.
    pub fn judge_by(self, tasks: TaskOptions) -> Self {
        Self { tasks: Some(tasks), ..self }
    }

    /// Writes into this folder, which is made if need be.
    pub fn out(self, folder: impl Into<PathBuf>) -> Self {
        Self { out: Some(folder.into()), ..self }
    }

    /// Lets chat templates write this moment where they ask what day it is.
    pub fn moment(self, moment: Moment) -> Self {
        Self { moment: Some(moment), ..self }
    }

    /// Computes there.
    pub fn device(self, device: DeviceChoice) -> Self {
        Self { device, ..self }
    }

    /// The choices, resolved and checked against each other before anything is opened: a plan without data, on the CPU.
    /// [`Prepared::plan`] has the one of the run.
    ///
    /// # Errors
    /// Options that make no sense together.
    pub fn plan(&self) -> Result<Plan> {
        if self.sources.adapter.is_some() {
            return Err(crate::Error::Misuse("a run on a model with an adapter; merge it first".into()));
        }
        self.tasks.as_ref().map(TaskOptions::plan).transpose()?;
        let options = self.recipe_options()?;
        let (recipe, outlier_share) = options.resolve(self.prunes)?;
        let base = Choice { recipe: &recipe, outlier_share, format: self.format.as_deref() };
        let overrides = self.groups.iter().map(|group| group.over(base, &options)).collect::<Result<_>>()?;
        let plan = Plan {
            kv_cache: self.kv_cache.clone(),
            masks: self.given_masks(),
            outlier_share,
            seed: self.seed,
            true_sequential: self.true_sequential.unwrap_or(false),
            dense_stream: self.dense_stream.filter(|stream| *stream != DenseStream::NONE),
            reconstruct_steps: self.reconstruct_steps,
            gram_precision: self.gram_precision,
            layers: self.layers,
            include: self.include.clone(),
            ignore: self.ignore.clone(),
            format: self.format.clone(),
            overrides,
            allocation: self.recipe.allocation(),
            config: self.config.clone(),
            offload_activations: self.offload_activations,
            skip_out_loss: self.skip_out_loss,
            allow_fallback: self.allow_fallback,
            overwrite: self.overwrite,
            lenient: self.sources.lenient,
            ..Plan::new(&self.model, recipe)
        };
        plan.check_allocation()?;
        plan.check()?;
        Ok(plan)
    }

    /// The dense model beside: as asked for, or on a CPU where errors are moved anyway.
    fn dense_stream(&self, choices: &Plan, on_cpu: bool) -> Option<DenseStream> {
        let moves = choices.recipe.statistics() == Curvature::Full;
        let usual =
            on_cpu && moves && !self.recipe.published && !choices.choices().any(|(_, choice)| choice.recipe.mask_only);
        let asked = self.dense_stream.or(usual.then_some(DenseStream::USUAL));
        asked.filter(|stream| *stream != DenseStream::NONE)
    }

    /// The choices for the device. A GPU does not search SpQR's grids: unless that was asked for, they span their weights there,
    /// in the groups that are best then.
    fn for_device(&self, mut choices: Plan, on_cpu: bool) -> Result<Plan> {
        let of_groups = self.groups.iter().map(|group| group.change.as_ref().and_then(|change| change.recipe.search));
        let own = std::iter::once(None).chain(of_groups);
        for (number, asked) in own.map(|own| own.or(self.recipe.search).is_some()).enumerate().filter(|_| !on_cpu) {
            let recipe = choices.recipe_mut(number).filter(|recipe| recipe.spqr.is_some());
            let Some(rounding) = recipe.and_then(|recipe| recipe.rounding.as_mut()) else { continue };
            if rounding.search == Search::Weighted && asked {
                let searched =
                    message![Opt::Scales.with(Search::Weighted.name()), " of spqr is searched on the CPU only"];
                let hint = message!["use ", Opt::Device.with("cpu"), ", or ", Opt::Scales.with(Search::MinMax.name())];
                return Err(Opt::Scales.misuse(searched).hint(hint));
            }
            rounding.search = Search::MinMax;
            if number == 0 {
                let spanning = RecipeOptions { search: Some(Search::MinMax), ..self.recipe.clone() };
                (choices.recipe, choices.outlier_share) = spanning.resolve(self.prunes)?;
            }
        }
        Ok(choices)
    }

    /// True if the fans of a block are compressed one after the other: asked for, or where that saves passes.
    fn is_sequential(&self, choices: &Plan, on_cpu: bool) -> bool {
        let saves = on_cpu && !self.offload_activations && choices.needs_data();
        self.true_sequential.unwrap_or(saves && !self.recipe.published)
    }
}

#[cfg(test)]
mod tests;
