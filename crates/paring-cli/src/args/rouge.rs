//! Options of `rouge`.

use std::path::PathBuf;

use clap::Args;

use super::headings::COMPARISON;

#[derive(Args)]
#[command(next_help_heading = COMPARISON)]
pub struct RougeArgs {
    /// Texts to judge: a file with a text a line, or .jsonl with an object a line
    #[arg(value_name = "PREDICTIONS", help_heading = None::<&str>)]
    pub predictions: PathBuf,
    /// Texts that they should be like, in the same order; in .jsonl a list of several is compared with the best of them
    #[arg(value_name = "REFERENCES", help_heading = None::<&str>)]
    pub references: PathBuf,
    /// Field of the texts in .jsonl [default: text, prediction, summary, reference, highlights or the like]
    #[arg(long, value_name = "NAME")]
    pub field: Option<String>,
    /// Field of the references, where it has another name
    #[arg(long, value_name = "NAME")]
    pub reference_field: Option<String>,
    /// Compare words as they are written [default: their stems, as published figures of summaries do]
    #[arg(long)]
    pub no_stemmer: bool,
    /// Split English texts into sentences for rougeLsum, approximately as NLTK does [default: at line breaks only]
    #[arg(long)]
    pub split_sentences: bool,
}
