//! Summaries of a model, by name.

use paring_data::named::{Files, Remote};
use paring_data::summaries::{self, Article};

use super::DataOptions;
use super::generation::Generator;
use super::sources::Sources;
use crate::Result;
use crate::commands::summaries::{Summaries, Summarizer, SummaryOptions, measure};
use crate::report::progress::Observer;

impl Sources {
    /// The first `limit` articles of cnn_dailymail's test part, or all, from the folder of `options`, the cache or the hub.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be read.
    pub fn articles(&self, options: &DataOptions, limit: Option<usize>) -> Result<Vec<Article>> {
        let fetch = |remote: &Remote| self.fetched(remote);
        Ok(summaries::open(&Files { dir: options.data_dir.as_deref(), fetch: &fetch }, limit)?)
    }
}

impl Generator {
    /// Summarizes articles and compares the summaries with theirs.
    ///
    /// # Errors
    /// As [`measure`].
    pub fn summaries(
        &self,
        articles: impl IntoIterator<Item = Article, IntoIter: ExactSizeIterator>,
        options: &SummaryOptions,
        observer: &mut dyn Observer,
    ) -> Result<Summaries> {
        let model = Summarizer { engine: &self.engine, tokenizer: &self.tokenizer, choices: &self.choices };
        measure(&model, articles.into_iter(), options, observer)
    }
}
