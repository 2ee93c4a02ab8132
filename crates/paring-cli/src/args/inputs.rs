//! The model and the data of a run.

use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use paring::request::{DataOptions, Sources};
use paring::{Error, Result};
use paring_data::named::Protocol;
use paring_format::Adapter;

use super::headings::{DATA, EVALUATION, MODEL};

/// The way in which a model is opened.
#[derive(Args)]
pub struct OpeningArgs {
    /// Read a model whose files disagree as transformers does, with a note, instead of refusing it
    ///
    /// Tensors that the model does not have are left out.
    #[arg(long, hide_short_help = true, help_heading = MODEL)]
    pub lenient: bool,
}

/// An adapter beside the model.
#[derive(Args)]
pub struct AdapterArg {
    /// Apply the adapter (LoRA) in this folder, which PEFT or paring wrote; the model is its base, compressed or not
    #[arg(long, value_name = "DIR", hide_short_help = true, help_heading = MODEL)]
    pub adapter: Option<PathBuf>,
}

impl AdapterArg {
    /// These sources with the adapter, which is read now.
    pub fn applied(&self, sources: Sources) -> Result<Sources> {
        let adapter = self.adapter.as_deref().map(Adapter::open).transpose()?;
        if let Some(adapter) = adapter.as_ref().filter(|adapter| adapter.config.masked) {
            return Err(Error::Plan(format!(
                "{}: was trained to count only where weights are not 0; run `paring merge`, and the result without an adapter",
                adapter.place.display()
            )));
        }
        Ok(Sources { adapter: adapter.map(Arc::new), ..sources })
    }
}

#[derive(Args)]
pub struct Inputs {
    /// Hugging Face folder, hub name (org/name or org/name@revision), or `demo`
    #[arg(value_parser = NonEmptyStringValueParser::new(), help_heading = None::<&str>)]
    pub model: String,
    /// Text file (.txt .jsonl .json .parquet) or named set (wikitext2 c4 ptb, ...)
    ///
    /// Text: .txt, .jsonl, .json (each also .gz or .zst) or .parquet. Token ids: a .safetensors file with `input_ids`.
    /// Named sets: wikitext2, c4, ptb, pajama, refinedweb, demo. The model `demo` brings its own text.
    #[arg(value_parser = NonEmptyStringValueParser::new(), help_heading = None::<&str>)]
    pub dataset: Option<String>,
    #[command(flatten)]
    pub opening: OpeningArgs,
    /// JSON field or Parquet column with the text, or with messages for the model's chat template
    #[arg(long, default_value = "text", value_name = "NAME", hide_short_help = true, help_heading = DATA)]
    pub text_field: String,
    /// Folder that holds wikitext2, c4 or ptb: as downloaded from the hub, or flat
    #[arg(long, value_name = "DIR", hide_short_help = true, help_heading = DATA)]
    pub data_dir: Option<PathBuf>,
    /// Paper whose parts and windows of c4 and ptb are measured on
    #[arg(
        long, value_enum, default_value = "gptq", value_name = "CODE", hide_short_help = true, help_heading = EVALUATION
    )]
    pub eval_protocol: ProtocolArg,
    /// Same as --eval-protocol sparsegpt, as the scripts of GPTQ and SpQR call it
    #[arg(long, conflicts_with = "eval_protocol", hide = true, help_heading = EVALUATION)]
    pub new_eval: bool,
}

impl ProtocolArg {
    /// The rules of tasks.
    pub fn of_tasks(self) -> paring_tasks::Protocol {
        match self {
            ProtocolArg::Spqr => paring_tasks::Protocol::Spqr,
            ProtocolArg::Gptq | ProtocolArg::Sparsegpt => paring_tasks::Protocol::Harness,
        }
    }
}

impl Inputs {
    /// The options of data sets, with the protocol of the evaluation.
    pub fn data_options(&self) -> DataOptions {
        let protocol = match self.eval_protocol {
            ProtocolArg::Gptq | ProtocolArg::Spqr if !self.new_eval => Protocol::Gptq,
            _ => Protocol::SparseGpt,
        };
        DataOptions { text_field: self.text_field.clone(), data_dir: self.data_dir.clone(), protocol }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum ProtocolArg {
    /// GPTQ and SpQR: 256 drawn windows of c4, ptb's validation set
    Gptq,
    /// SparseGPT and Wanda: the first 256 windows of c4, ptb's test set (c4-new and ptb-new mean these too)
    #[value(alias = "new")]
    Sparsegpt,
    /// SpQR: as gptq, and tasks by the rules of its copy of lm-evaluation-harness, which adds no BOS
    Spqr,
}
