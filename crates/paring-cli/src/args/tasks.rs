//! Options of tasks.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use paring::request::TaskOptions;
use paring::{Error, Result};
use paring_data::summaries::NAME as SUMMARIES;
use paring_tasks::{Limit, Options, Protocol, table};

use super::generation::count;
use super::headings::TASKS;
use super::{EvalArgs, Inputs, Run};

#[derive(Args)]
#[command(next_help_heading = TASKS)]
pub struct TaskArgs {
    /// Answer these tasks instead, such as winogrande,piqa,hellaswag,arc_easy,arc_challenge; `paring tasks` lists all
    #[arg(
        long, value_name = "NAMES", value_delimiter = ',', num_args = 1, value_parser = NonEmptyStringValueParser::new()
    )]
    pub tasks: Vec<String>,
    /// Multiple-choice questions of your own; may be repeated
    ///
    /// Each line of the .jsonl file has `context`, a list of `choices`, and the number of the right one from 0 in `gold`.
    #[arg(long, value_name = "FILE.jsonl")]
    pub task_file: Vec<PathBuf>,
    /// Examples before each question
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = count(0))]
    pub num_fewshot: usize,
    /// Write what the model says to each document into this .jsonl file
    #[arg(long, value_name = "FILE.jsonl")]
    pub log_samples: Option<PathBuf>,
    /// Replace the file of --log-samples also where another program wrote it
    #[arg(long, hide_short_help = true, requires = "log_samples")]
    pub overwrite: bool,
    /// Say how many tokens that takes, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Put BOS before each text, or do not [default: as the tokenizer's files say]
    #[arg(long, value_name = "BOOL", hide_short_help = true)]
    pub add_bos_token: Option<bool>,
    /// Token that stands for an empty context [default: BOS, or else EOS]
    #[arg(long, value_name = "ID", hide_short_help = true)]
    pub prefix_token: Option<u32>,
    /// Draws for the standard error of lambada's perplexity; 0: none
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = count(0), hide_short_help = true)]
    pub bootstrap_iters: usize,
}

impl TaskArgs {
    /// True if a task is named.
    pub fn is_asked(&self) -> bool {
        !self.tasks.is_empty() || !self.task_file.is_empty()
    }

    /// The tasks and their choices.
    pub fn options(&self, protocol: Protocol, limit: Option<Limit>, data_dir: Option<PathBuf>) -> TaskOptions {
        TaskOptions {
            names: self.tasks.clone(),
            files: self.task_file.clone(),
            choices: Options {
                shots: self.num_fewshot,
                limit,
                protocol,
                add_bos: self.add_bos_token,
                prefix: self.prefix_token,
                bootstrap: self.bootstrap_iters,
            },
            data_dir,
        }
    }
}

/// A bound on windows or documents.
pub fn limit(text: &str) -> Result<Limit, &'static str> {
    text.parse().map_err(|_| "expected a number from 1, or a part of the documents below 1")
}

/// The bound as one on windows.
fn windows(limit: Option<Limit>) -> Result<Option<usize>> {
    match limit {
        None => Ok(None),
        Some(Limit::Documents(windows)) => Ok(Some(windows)),
        Some(Limit::Fraction(part)) => Err(Error::Misuse(format!(
            "--limit {part} is a part of the documents of tasks, and perplexity has windows; use a number from 1"
        ))),
    }
}

impl EvalArgs {
    /// Windows of perplexity to measure. Errors on options of tasks, of which none is named.
    pub fn windows(&self) -> Result<Option<usize>> {
        let TaskArgs { num_fewshot, log_samples, dry_run, .. } = &self.tasks;
        let of_tasks =
            [("--num-fewshot", *num_fewshot > 0), ("--log-samples", log_samples.is_some()), ("--dry-run", *dry_run)];
        if let Some((option, _)) = of_tasks.iter().find(|(_, is_given)| *is_given) {
            return Err(Error::Misuse(format!("{option} is for tasks; name some with --tasks, or leave it out")));
        }
        windows(self.limit)
    }
}

/// Everything that a run is measured by, before and after.
pub struct Measures {
    /// A data set.
    pub evaluation: Option<String>,
    /// Windows of it.
    pub limit: Option<usize>,
    /// Tasks.
    pub tasks: Option<TaskOptions>,
}

impl Run {
    /// Sorts what `--eval` names: a data set, tasks, or both.
    pub fn measures(&self, inputs: &Inputs) -> Result<Measures> {
        let is_task = |name: &str| table::find(name).is_some() || table::group(name).is_some();
        let asked = self.eval.as_deref().unwrap_or_default();
        // A file may have commas in its name.
        let words: Vec<&str> = if Path::new(asked).exists() { vec![asked] } else { asked.split(',').collect() };
        let (names, data): (Vec<&str>, Vec<&str>) =
            words.into_iter().filter(|word| !word.is_empty()).partition(|word| is_task(word));
        if data.len() > 1 {
            let problem =
                format!("--eval {asked}: {} are no tasks, and perplexity is measured on one", data.join(" and "));
            return Err(Error::Misuse(problem + "; `paring tasks` lists all tasks"));
        }
        if data.contains(&SUMMARIES) {
            let problem = format!("--eval {asked}: summaries are measured by `paring eval MODEL --tasks {SUMMARIES}`");
            return Err(Error::Misuse(problem + "; leave them out here"));
        }
        let evaluation = data.first().map(|name| name.to_string());
        let limit = if evaluation.is_some() { windows(self.limit)? } else { None };
        let is_judged = !names.is_empty() || !self.task_file.is_empty();
        let tasks = is_judged.then(|| TaskOptions {
            names: names.iter().map(|name| name.to_string()).collect(),
            files: self.task_file.clone(),
            choices: Options {
                shots: self.num_fewshot,
                limit: self.limit,
                protocol: inputs.eval_protocol.of_tasks(),
                ..Options::default()
            },
            data_dir: inputs.data_dir.clone(),
        });
        Ok(Measures { evaluation, limit, tasks })
    }
}
