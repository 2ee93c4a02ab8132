//! Summaries of a model, by name.

use paring_tasks::{Article, Files, Task, summaries};

use super::generation::Generator;
use super::sources::Sources;
use super::tasks::{OnHub, TaskOptions};
use crate::Result;
use crate::commands::summaries::{Summaries, Summarizer, SummaryOptions, measure};
use crate::report::progress::Observer;

impl Sources {
    /// The articles of each task that is summarized, with its name: of the folder of `options`, the cache or the hub.
    ///
    /// # Errors
    /// On a name that no task has, when files are nowhere, and when they cannot be read.
    pub fn articles(&self, options: &TaskOptions) -> Result<Vec<(String, Vec<Article>)>> {
        let hub = OnHub(self);
        let files = Files { dir: options.data_dir.as_deref(), remote: Some(&hub) };
        let plan = options.plan()?;
        let of = |task: &Task| Ok((task.name.to_string(), summaries::articles(task, options.choices.limit, &files)?));
        plan.summarized().iter().map(of).collect()
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
