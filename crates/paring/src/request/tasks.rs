//! Tasks by name → requests for a model.

use std::path::PathBuf;

use paring_data::hub::{Hub, Repo, RepoKind};
use paring_tasks::{Files, Plan, Remote, Work};

use super::run::positions;
use super::sources::{Model, Sources};
use crate::Result;

/// Tasks, and the choices of how they are asked.
#[derive(Clone, Debug, Default)]
pub struct TaskOptions {
    /// Names of tasks and groups ([`paring_tasks::table`]).
    pub names: Vec<String>,
    /// Files of multiple-choice questions, each a task with the file's name.
    pub files: Vec<PathBuf>,
    /// Examples, limit and protocol.
    pub choices: paring_tasks::Options,
    /// Tokens that the model sees of a request, at most; `None`: as many as the positions that its config names.
    pub longest: Option<usize>,
    /// Folder with the data sets; `None`: the hub's cache, then the hub.
    pub data_dir: Option<PathBuf>,
}

impl TaskOptions {
    /// Looks the names up, before anything is opened.
    ///
    /// # Errors
    /// On a name that no task has.
    pub fn plan(&self) -> Result<Plan> {
        let plan = Plan::new(self.names.iter().map(String::as_str))?;
        Ok(self.files.iter().try_fold(plan, |plan, file| plan.with_file(file.clone()))?)
    }
}

/// Data sets of the hub, and those that are in its cache where it does not answer.
pub(super) struct OnHub<'a>(pub(super) &'a Sources);

impl Remote for OnHub<'_> {
    fn list(&self, repo: &str, revision: Option<&str>) -> paring_data::Result<Vec<String>> {
        let repo = Repo::new(RepoKind::Dataset, repo, revision)?;
        let listing = Hub::from_env()?.list(&repo, (self.0.downloads)().as_mut())?;
        Ok(listing.files.into_iter().map(|entry| entry.path).collect())
    }

    fn file(&self, repo: &str, revision: Option<&str>, path: &str) -> paring_data::Result<PathBuf> {
        let repo = Repo::new(RepoKind::Dataset, repo, revision)?;
        Hub::from_env()?.file(&repo, path, (self.0.downloads)().as_mut())
    }
}

impl Sources {
    /// Reads the documents of tasks that are not summarized and makes requests of them with a model's tokenizer.
    ///
    /// # Errors
    /// When the model has no tokenizer, it takes no requests as long as asked for, documents are nowhere or are not what a task
    /// needs, and when a text makes no tokens or more than the model takes.
    pub fn tasks(&self, model: &Model, options: &TaskOptions) -> Result<Work> {
        let plan = options.plan()?;
        let tokenizer = model.tokenizer.as_ref();
        let tokenizer = tokenizer.ok_or(paring_generate::Error::NoTokenizer { name: "tasks" })?;
        let longest = match options.longest {
            None => model.decoder.max_positions(),
            Some(asked) => positions(&[model.decoder.as_ref()], Some(asked)).map(|_| asked)?,
        };
        let hub = OnHub(self);
        let files = Files { dir: options.data_dir.as_deref(), remote: Some(&hub) };
        let work = plan.prepare(&options.choices, &files, tokenizer, longest)?;
        tokenizer.rest();
        Ok(work)
    }
}
