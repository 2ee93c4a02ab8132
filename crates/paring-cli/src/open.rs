//! Names on the command line → models and data.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use paring::output::side_files::named_dtype;
use paring::pipeline::device::DeviceBudget;
use paring::{Error, Precision, Result};
use paring_data::hub::{Hub, Kind, Repo};
use paring_data::named::{self, Files, Protocol, Remote};
use paring_data::{Data, Tokenizer, tokenizer};
use paring_format::Checkpoint;
use paring_kernels::device::{self, Choice, Device, Unavailable};
use paring_model::{Arithmetic, Decoder};

use crate::args::{DtypeArg, Inputs, Running, precision};
use crate::demo;
use crate::progress::Downloads;

pub use paring_data::named::Purpose;

/// A model, opened and checked.
pub struct Model {
    pub checkpoint: Arc<Checkpoint>,
    pub precision: Precision,
    pub decoder: Box<dyn Decoder>,
    tokenizer: Option<Tokenizer>,
    built_in: bool,
}

/// Sets up the threads that a run uses. This one is one of them, so that it does not wait for others to wake up: but not the
/// only one, for it also waits for threads that may ask for work to be done.
pub fn threads(running: &Running) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| Error::Plan(format!("cannot start threads: {e}"));
    let asked = match running.threads {
        Some(n) => usize::from(n),
        None => std::thread::available_parallelism().map_err(|e| failed(&e))?.get(),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(asked);
    let pool = if asked > 1 { pool.use_current_thread() } else { pool };
    pool.build_global().map_err(|e| failed(&e))
}

/// The device that was asked for.
pub fn device(asked: Choice) -> Result<Device> {
    device::open(asked).map_err(|error| match error {
        Unavailable::NotBuilt(_) => {
            Error::Misuse(format!("--device {error}; build with --features cuda, or use --device cpu"))
        }
        Unavailable::Driver { .. } => Error::Plan(format!(
            "--device {error}; nvidia-smi lists the GPUs that there are, and --device cpu needs none"
        )),
    })
}

/// The device that was asked for, and how much of it may be filled.
pub fn budget(running: &Running) -> Result<DeviceBudget> {
    DeviceBudget::new(&device(running.place.device)?, running.max_vram)
}

/// The repository that MODEL names: what has the form of one, is no file or folder here, and is not built in.
fn on_hub(name: &str) -> Option<Repo> {
    Repo::parse_model(name).filter(|_| name != demo::NAME && !Path::new(name).exists())
}

/// What MODEL is called here: itself, or for a name on the hub the folder in the cache that holds it, fetched first.
pub fn local(name: &str, quiet: bool) -> Result<String> {
    let Some(repo) = on_hub(name) else { return Ok(name.to_string()) };
    let folder = Hub::from_env()?.model(&repo, &mut Downloads::new(quiet)).map_err(|error| match error {
        // Perhaps it was meant as a path.
        paring_data::Error::NotOnHub { repo, reason } => {
            paring_data::Error::NotOnHub { repo, reason: format!("no such folder; and on the hub {reason}") }
        }
        other => other,
    })?;
    let text = folder.into_os_string().into_string();
    text.map_err(|path| Error::Misuse(format!("{}: the path of the cache is not UTF-8", path.display())))
}

/// An error when there is no DATASET and MODEL brings none: known before anything is fetched.
pub fn expect_data(inputs: &Inputs) -> Result<()> {
    if inputs.dataset.is_some() || inputs.model == demo::NAME { Ok(()) } else { Err(no_data()) }
}

fn no_data() -> Error {
    let known = named::NAMES.join(", ");
    Error::Misuse(format!(
        "DATASET is missing: name a file (.txt, .jsonl, .parquet, .safetensors, …) or one of {known}"
    ))
}

/// What an output is named after.
pub fn short_name(name: &str) -> String {
    let last = |name: &str| Path::new(name).file_name().map(|last| last.to_string_lossy().into_owned());
    on_hub(name).map(|repo| repo.short_name()).or_else(|| last(name)).unwrap_or_else(|| "model".into())
}

/// Opens the checkpoint that MODEL names, if that is here.
pub fn checkpoint(name: &str) -> Result<Checkpoint> {
    if name == demo::NAME { demo::checkpoint() } else { Ok(Checkpoint::open(Path::new(name))?) }
}

impl Model {
    /// Opens MODEL: config, shapes and quantization are checked, no weight is read. It rounds activations and caches where
    /// its config says so, and computes on `device`.
    pub fn open(name: &str, dtype: DtypeArg, device: &Device) -> Result<Self> {
        Self::open_to_run(name, dtype, device, true)
    }

    /// As [`Model::open`], but activations and caches stay as they are.
    pub fn open_weights(name: &str, dtype: DtypeArg, device: &Device) -> Result<Self> {
        Self::open_to_run(name, dtype, device, false)
    }

    fn open_to_run(name: &str, dtype: DtypeArg, device: &Device, activations: bool) -> Result<Self> {
        let checkpoint = Arc::new(checkpoint(name)?);
        checkpoint.quant_config()?;
        let precision = precision(dtype, named_dtype(checkpoint.config()));
        let arithmetic = Arithmetic { precision, activations, device: device.clone() };
        let decoder = paring_model::families::open(checkpoint.clone(), arithmetic)?;
        let built_in = name == demo::NAME;
        let tokenizer = if built_in { Some(demo::tokenizer()?) } else { tokenizer::tokenizer(&checkpoint)? };
        Ok(Self { checkpoint, precision, decoder, tokenizer, built_in })
    }

    /// The tokenizer beside the model, if there is one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// Files to write beside the weights that are not in the model's folder.
    pub fn companions(&self) -> Vec<(String, Vec<u8>)> {
        if self.built_in { demo::companions() } else { Vec::new() }
    }

    /// Opens DATASET, or what stands for it when it is left out. `protocol` says how the named sets are read.
    /// Named sets that are not in `--data-dir` are fetched, with progress unless `quiet`.
    pub fn data(
        &self,
        name: Option<&str>,
        purpose: Purpose,
        protocol: Protocol,
        inputs: &Inputs,
        quiet: bool,
    ) -> Result<Data> {
        let name = match name {
            Some(demo::NAME) => return Ok(demo::data(purpose)),
            None if self.built_in => return Ok(demo::data(purpose)),
            None => return Err(no_data()),
            Some(name) => name,
        };
        let fetch = |remote: &Remote| -> paring_data::Result<PathBuf> {
            let repo = Repo::new(Kind::Dataset, remote.repo, remote.revision)?;
            Hub::from_env()?.file(&repo, remote.path, &mut Downloads::new(quiet))
        };
        let files = Files { dir: inputs.data_dir.as_deref(), fetch: &fetch };
        match named::open(name, purpose, protocol, &files)? {
            Some(data) => Ok(data),
            None => Ok(Data::open(Path::new(name), &inputs.text_field)?),
        }
    }
}
