//! The model and the data of a run.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use paring::request::DataOptions;
use paring_data::named::Protocol;

/// The way in which a model is opened.
#[derive(Args)]
pub struct OpeningArgs {
    /// Read a model whose files disagree as transformers does, and leave out tensors that the model does not have, with a
    /// note, instead of refusing it
    #[arg(long)]
    pub lenient: bool,
}

#[derive(Args)]
pub struct Inputs {
    /// A Hugging Face folder, a name on the hub (`org/name` or `org/name@revision`), or `demo`
    #[arg(default_value = "demo", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub model: String,
    /// Text: a .txt, .jsonl or .json (also .gz, .zst) or .parquet file, a .safetensors file of `input_ids`, one of
    /// wikitext2 c4 ptb pajama refinedweb, or `demo` [default: demo for the model demo]
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub dataset: Option<String>,
    #[command(flatten)]
    pub opening: OpeningArgs,
    /// Field of a JSON line, or column of a .parquet file, that holds text, or messages for the model's chat template
    #[arg(long, default_value = "text", value_name = "NAME")]
    pub text_field: String,
    /// Folder with the files of the named sets, laid out as their repositories or flat
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Published code whose parts and windows of c4 and ptb are measured on (c4-new and ptb-new mean sparsegpt's)
    #[arg(long, value_enum, default_value = "gptq", value_name = "CODE")]
    pub eval_protocol: ProtocolArg,
    /// As --eval-protocol sparsegpt: the name that the scripts of GPTQ and SpQR have for it
    #[arg(long, conflicts_with = "eval_protocol")]
    pub new_eval: bool,
}

impl Inputs {
    /// The options of data sets, with the protocol of the evaluation.
    pub fn data_options(&self) -> DataOptions {
        let protocol = match self.eval_protocol {
            ProtocolArg::Gptq if !self.new_eval => Protocol::Gptq,
            _ => Protocol::SparseGpt,
        };
        DataOptions { text_field: self.text_field.clone(), data_dir: self.data_dir.clone(), protocol }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum ProtocolArg {
    /// GPTQ and SpQR: 256 drawn windows of c4, ptb's validation set
    Gptq,
    /// SparseGPT and Wanda: the first 256 windows of c4, ptb's test set
    #[value(alias = "new")]
    Sparsegpt,
}
