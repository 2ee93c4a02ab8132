//! Names → checkpoints, models and data: folders and files, the hub, and what a program has built in.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use paring_data::hub::{DownloadObserver, Hub, Repo, RepoKind};
use paring_data::named::{self, Files, Protocol, Purpose, Remote};
use paring_data::{Data, Isolation, Moment, ShownDocument, Tokenizer, tokenizer};
use paring_format::checkpoint::OpenOptions;
use paring_format::message::Setting;
use paring_format::{Adapter, Checkpoint, Dtype, message, near};
use paring_kernels::device::{self, Choice, Device, Unavailable};
use paring_model::{Arithmetic, Decoder};

use super::DataOptions;
use crate::output::side_files::named_dtype;
use crate::plan::Opt;
use crate::{Error, Precision, Result};

/// A model that a program brings along, with a text of its own under the same name.
#[derive(Clone, Copy)]
pub struct BuiltIn {
    /// The name of model and data.
    pub name: &'static str,
    /// Opens the checkpoint.
    pub checkpoint: fn() -> Result<Checkpoint>,
    /// Makes the tokenizer.
    pub tokenizer: fn() -> Result<Tokenizer>,
    /// The files that a copy of the model needs beside its weights: name and content.
    pub companions: fn() -> Vec<(String, Vec<u8>)>,
    /// The text for a purpose.
    pub data: fn(Purpose) -> Data,
}

/// Models and data by name: by default folders and files, and the hub, without progress of downloads, and tokenizers in a
/// thread.
#[derive(Clone)]
pub struct Sources {
    /// Models that the program has built in; their names come before all others.
    pub built_in: &'static [BuiltIn],
    /// Makes what hears the progress of a download.
    pub downloads: Rc<dyn Fn() -> Box<dyn DownloadObserver>>,
    /// The moment that chat templates write where they ask what day it is.
    pub moment: Moment,
    /// The place where tokenizers and chat templates of models run.
    pub isolation: Isolation,
    /// Reads models as transformers does where their files disagree, and leaves out tensors that they do not have, instead of
    /// errors; false.
    pub lenient: bool,
    /// The adapter that is applied to the linears of models; none.
    pub adapter: Option<Arc<Adapter>>,
}

impl Default for Sources {
    fn default() -> Self {
        let (moment, isolation) = (Moment::now(), Isolation::default());
        Self { built_in: &[], downloads: Rc::new(|| Box::new(())), moment, isolation, lenient: false, adapter: None }
    }
}

/// A model, opened and checked, and its tokenizer.
pub struct Model {
    /// Its files.
    pub checkpoint: Arc<Checkpoint>,
    /// Type that its products round to.
    pub precision: Precision,
    /// The model, as something that runs.
    pub decoder: Box<dyn Decoder>,
    /// The tokenizer beside it, if there is one; opened when a text is to be tokenized.
    pub tokenizer: Option<Tokenizer>,
    built_in: Option<&'static BuiltIn>,
}

impl Model {
    /// Notes on the model, and on the tokenizer if it was used.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        let tokenizer = self.tokenizer.as_ref().map_or(&[][..], Tokenizer::notes);
        self.decoder.notes().into_iter().map(|note| note.to_string()).chain(tokenizer.iter().cloned())
    }
}

/// Opens a device. One that this build cannot have is a misuse.
pub fn open_device(asked: Choice) -> Result<Device> {
    device::open(asked).map_err(|error| match error {
        Unavailable::NotBuilt(_) => {
            // Cargo's option, written as ours are.
            let build = message!["build with ", Setting::with("features", "cuda"), ", or use "];
            Opt::Device.misuse(message![Opt::Device.with(error)]).hint(build.then(Opt::Device.with("cpu")))
        }
        Unavailable::Driver { .. } => {
            let others = message!["nvidia-smi lists the GPUs; ", Opt::Device.with("cpu"), " needs none"];
            Opt::Device.misfit(message![Opt::Device.with(error)]).hint(others)
        }
    })
}

/// The type that products round to where `asked` names none, for a checkpoint whose config names the type `stored`.
fn precision(asked: Option<Precision>, stored: Option<Dtype>) -> Precision {
    match asked {
        Some(precision) => precision,
        None if stored == Some(Dtype::Bf16) => Precision::Bf16,
        None => Precision::F32,
    }
}

impl Sources {
    pub(super) fn built_in(&self, name: impl AsRef<Path>) -> Option<&'static BuiltIn> {
        self.built_in.iter().find(|built_in| Path::new(built_in.name) == name.as_ref())
    }

    /// The repository that a model's name stands for: what has the form of one, is no file or folder here, and is not
    /// built in.
    fn on_hub(&self, name: &str) -> Option<Repo> {
        Repo::parse_model(name).filter(|_| self.built_in(name).is_none() && !Path::new(name).exists())
    }

    /// The name under which a model is found here: its own, or for a name on the hub the folder in the cache that holds
    /// it, fetched first.
    ///
    /// # Errors
    /// When the hub has no such model, or does not answer.
    pub fn local(&self, name: &str) -> Result<String> {
        let Some(repo) = self.on_hub(name) else { return Ok(name.to_string()) };
        let folder = Hub::from_env()?.model(&repo, (self.downloads)().as_mut()).map_err(|error| match error {
            // Perhaps it was meant as a path.
            paring_data::Error::NotOnHub { repo, reason } => {
                paring_data::Error::NotOnHub { repo, reason: format!("no folder of that name here, and {reason}") }
            }
            paring_data::Error::Unreachable { repo, reason } => {
                let reason = format!("{reason}. There is no folder of that name here either.");
                paring_data::Error::Unreachable { repo, reason }
            }
            other => other,
        })?;
        let text = folder.into_os_string().into_string();
        text.map_err(|path| {
            Error::Misuse(format!(
                "{}: the path of the cache is not UTF-8; set HF_HUB_CACHE to another folder",
                path.display()
            ))
        })
    }

    /// The last part of a model's name, which an output is named after.
    pub fn short_name(&self, name: &str) -> String {
        let last = |name: &str| Path::new(name).file_name().map(|last| last.to_string_lossy().into_owned());
        self.on_hub(name).map(|repo| repo.short_name()).or_else(|| last(name)).unwrap_or_else(|| "model".into())
    }

    /// Opens the checkpoint of a model that is here.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn checkpoint(&self, local: impl AsRef<Path>) -> Result<Checkpoint> {
        match self.built_in(&local) {
            Some(built_in) => (built_in.checkpoint)(),
            None => Ok(Checkpoint::open_with(local.as_ref(), OpenOptions { lenient: self.lenient })?),
        }
    }

    /// Files to write beside the weights of a model that has no folder.
    pub fn companions(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        self.built_in(name).map_or_else(Vec::new, |built_in| (built_in.companions)())
    }

    /// Opens a model that is here: config, shapes and quantization are checked, no weight is read. It computes on
    /// `device`; products round to `precision`, or to what suits its type. With `activations` it rounds activations and
    /// caches where its config says so, otherwise they stay as they are.
    ///
    /// # Errors
    /// When the checkpoint cannot be read, its config contradicts its tensors, or its family is unknown.
    pub fn model(
        &self,
        local: impl AsRef<Path>,
        asked: Option<Precision>,
        device: &Device,
        activations: bool,
    ) -> Result<Model> {
        self.opened(&local, asked, |precision| Arithmetic {
            precision,
            activations,
            device: device.clone(),
            packed: false,
            adapter: self.adapter.clone(),
        })
    }

    /// [`Sources::model`] with the arithmetic that its precision leads to.
    pub(super) fn opened(
        &self,
        local: impl AsRef<Path>,
        asked: Option<Precision>,
        arithmetic: impl FnOnce(Precision) -> Arithmetic,
    ) -> Result<Model> {
        let checkpoint = Arc::new(self.checkpoint(&local)?);
        checkpoint.quant_config()?;
        let precision = precision(asked, named_dtype(checkpoint.config()));
        let arithmetic = arithmetic(precision);
        let decoder = paring_model::families::open(checkpoint.clone(), arithmetic)?;
        let built_in = self.built_in(&local);
        let tokenizer = self.tokenizer(&local, &checkpoint)?;
        Ok(Model { checkpoint, precision, decoder, tokenizer, built_in })
    }

    /// The tokenizer of a model that is here.
    fn tokenizer(&self, local: impl AsRef<Path>, checkpoint: &Checkpoint) -> Result<Option<Tokenizer>> {
        let mut tokenizer = match self.built_in(local) {
            Some(built_in) => Some((built_in.tokenizer)()?),
            None => tokenizer::tokenizer(checkpoint, &self.isolation),
        };
        if let Some(tokenizer) = &mut tokenizer {
            tokenizer.set_moment(self.moment);
        }
        Ok(tokenizer)
    }

    /// An error when no data is named and the model brings none: known before anything is fetched.
    ///
    /// # Errors
    /// That, and for a model that is not on the hub first what is wrong with it: data would not help.
    pub fn expect_data(&self, model: &str, data: Option<&str>) -> Result<()> {
        if data.is_some() || self.built_in(model).is_some() {
            return Ok(());
        }
        if self.on_hub(model).is_none() {
            self.checkpoint(model)?;
        }
        Err(self.no_data())
    }

    /// The error that data is missing.
    fn no_data(&self) -> Error {
        let named = named::NAMES.iter().copied().chain(self.built_in.iter().map(|built_in| built_in.name));
        let named: Vec<&str> = named.collect();
        let (last, others) = named.split_last().map_or(("", &named[..]), |(last, others)| (*last, others));
        Error::Misuse(format!(
            "DATASET is missing: after the model, name a file (.txt, .jsonl, .parquet, .safetensors, …), {} or {last}",
            others.join(", ")
        ))
    }

    /// Opens a data set, or the text of a built-in `model` where none is named. `protocol` says how the named sets are
    /// read; those that are not in the folder of `options` are fetched.
    ///
    /// # Errors
    /// When no data is named and the model brings none, or the data cannot be read.
    pub fn data(
        &self,
        model: &Model,
        name: Option<&str>,
        (purpose, protocol): (Purpose, Protocol),
        options: &DataOptions,
    ) -> Result<Data> {
        self.open_data(model.built_in, name, (purpose, protocol), options)
    }

    /// The first `limit` documents of a data set as calibration has them, with the tokens that the tokenizer of a model
    /// that is here makes of them. The model's weights are not looked at.
    ///
    /// # Errors
    /// As [`Sources::data`], and when a document cannot be tokenized.
    pub fn shown(
        &self,
        local: &str,
        name: Option<&str>,
        options: &DataOptions,
        limit: usize,
    ) -> Result<(String, Vec<ShownDocument>)> {
        let tokenizer = self.tokenizer(local, &self.checkpoint(local)?)?;
        let reading = (Purpose::Calibration, options.protocol);
        let data = self.open_data(self.built_in(local), name, reading, options)?;
        let shown = data.shown(tokenizer.as_ref(), limit)?;
        Ok((data.name, shown))
    }

    /// The error of a data set that is neither a file nor a name.
    fn unknown_data(&self, name: &str) -> Error {
        let known = || named::NAMES.into_iter().chain(self.built_in.iter().map(|built_in| built_in.name));
        let all = || format!("name a file, or one of {}", known().collect::<Vec<_>>().join(", "));
        let instead = near::did_you_mean(name, known()).unwrap_or_else(all);
        Error::content(name, format!("no such file or data set; {instead}"))
    }

    /// The place of a file of a data set on the hub, which is fetched if need be.
    pub(super) fn fetched(&self, remote: &Remote) -> paring_data::Result<PathBuf> {
        let repo = Repo::new(RepoKind::Dataset, remote.repo, remote.revision)?;
        let file = Hub::from_env()?.file(&repo, remote.path, (self.downloads)().as_mut());
        file.map_err(|error| match error {
            paring_data::Error::Unreachable { repo, reason } | paring_data::Error::NotOnHub { repo, reason } => {
                let elsewhere = message![reason, "; name a folder that has it with ", Opt::DataDir];
                paring_data::Error::Data { source_name: repo, reason: elsewhere }
            }
            other => other,
        })
    }

    fn open_data(
        &self,
        of_model: Option<&'static BuiltIn>,
        name: Option<&str>,
        (purpose, protocol): (Purpose, Protocol),
        options: &DataOptions,
    ) -> Result<Data> {
        let built_in = name.map_or(of_model, |name| self.built_in(name));
        if let Some(built_in) = built_in {
            return Ok((built_in.data)(purpose));
        }
        let name = name.ok_or_else(|| self.no_data())?;
        let fetch = |remote: &Remote| self.fetched(remote);
        let files = Files { dir: options.data_dir.as_deref(), fetch: &fetch };
        match named::open(name, purpose, protocol, &files)? {
            Some(data) => Ok(data),
            None if is_missing(name) => Err(self.unknown_data(name)),
            None => Ok(Data::open(Path::new(name), &options.text_field)?),
        }
    }
}

/// Tells whether there is no file of this name.
fn is_missing(name: &str) -> bool {
    std::fs::symlink_metadata(name).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}
