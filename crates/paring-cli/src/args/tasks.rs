//! Options of tasks.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use paring::request::TaskOptions;
use paring::{Error, Result};
use paring_tasks::{Kind, Limit, Options, table};

use super::generation::count;
use super::headings::TASKS;
use super::inputs::ProtocolArg;
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
    /// Each line of the .jsonl file has `context` (or `query`), a list of `choices`, and the number of the right one from 0 in `gold`.
    #[arg(long, value_name = "FILE.jsonl")]
    pub task_file: Vec<PathBuf>,
    /// Examples before each question [default: 0]
    #[arg(long, value_name = "N", value_parser = count(0))]
    pub num_fewshot: Option<usize>,
    /// Write what the model says to each document into this .jsonl file
    #[arg(long, value_name = "FILE.jsonl")]
    pub log_samples: Option<PathBuf>,
    /// Replace the file of --log-samples also where another program wrote it
    #[arg(long, hide_short_help = true, requires = "log_samples")]
    pub overwrite: bool,
    /// Say how many tokens that takes, and stop
    #[arg(long, conflicts_with = "log_samples")]
    pub dry_run: bool,
    /// Put BOS before each text, or do not [default: as the tokenizer's files say]
    #[arg(long, value_name = "BOOL", hide_short_help = true)]
    pub add_bos_token: Option<bool>,
    /// Token that stands for an empty context [default: BOS, or else EOS]
    #[arg(long, value_name = "ID", hide_short_help = true)]
    pub prefix_token: Option<u32>,
    /// Draws for the standard error of lambada's perplexity; 0: none [default: 100000]
    #[arg(long, value_name = "N", value_parser = count(0), hide_short_help = true)]
    pub bootstrap_iters: Option<usize>,
}

impl TaskArgs {
    /// True if a task is named.
    pub fn is_asked(&self) -> bool {
        !self.tasks.is_empty() || !self.task_file.is_empty()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.tasks.iter().map(|name| name.trim())
    }
}

/// True if the task of a name is summarized.
fn is_summarized(name: &str) -> bool {
    table::find(name).is_some_and(|task| task.kind == Kind::Summary)
}

/// A kind of measurement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Measurement {
    Perplexity,
    Questions,
    Summaries,
}

impl Measurement {
    fn name(self) -> &'static str {
        match self {
            Measurement::Perplexity => "perplexity",
            Measurement::Questions => "tasks with questions",
            Measurement::Summaries => "summaries (cnn_dailymail)",
        }
    }
}

impl EvalArgs {
    /// The measurements that are asked for, which are not empty.
    fn measurements(&self) -> Vec<Measurement> {
        let tasks = &self.tasks;
        let questions = tasks.names().any(|name| !is_summarized(name)) || !tasks.task_file.is_empty();
        let asked = [
            (Measurement::Perplexity, !tasks.is_asked()),
            (Measurement::Questions, questions),
            (Measurement::Summaries, tasks.names().any(is_summarized)),
        ];
        asked.into_iter().filter(|(_, is_asked)| *is_asked).map(|(measurement, _)| measurement).collect()
    }

    /// Errors on options that none of the measurements takes, and on those that change all numbers where one of them does not
    /// take them.
    pub fn check(&self) -> Result<()> {
        use Measurement::{Perplexity, Questions, Summaries};
        let (tasks, summaries, inputs) = (&self.tasks, &self.summaries, &self.inputs);
        let (of_questions, of_summaries): (&[Measurement], &[Measurement]) = (&[Questions], &[Summaries]);
        let options: [(&str, bool, &[Measurement]); 17] = [
            ("--seqlen", self.seqlen.is_some(), &[Perplexity, Questions]),
            ("--text-field", inputs.text_field != "text", &[Perplexity]),
            ("--new-eval", inputs.new_eval, &[Perplexity]),
            ("--eval-protocol sparsegpt", matches!(inputs.eval_protocol, ProtocolArg::Sparsegpt), &[Perplexity]),
            ("--eval-protocol spqr", matches!(inputs.eval_protocol, ProtocolArg::Spqr), &[Perplexity, Questions]),
            ("--num-fewshot", tasks.num_fewshot.is_some(), of_questions),
            ("--add-bos-token", tasks.add_bos_token.is_some(), of_questions),
            ("--prefix-token", tasks.prefix_token.is_some(), of_questions),
            ("--bootstrap-iters", tasks.bootstrap_iters.is_some(), of_questions),
            ("--dry-run", tasks.dry_run, of_questions),
            ("--log-samples", tasks.log_samples.is_some(), &[Questions, Summaries]),
            ("--num-beams", summaries.num_beams.is_some(), of_summaries),
            ("--min-new-tokens", summaries.min_new_tokens.is_some(), of_summaries),
            ("--max-new-tokens", summaries.max_new_tokens.is_some(), of_summaries),
            ("--max-prompt-tokens", summaries.max_prompt_tokens.is_some(), of_summaries),
            ("--instruction", summaries.instruction.is_some(), of_summaries),
            ("--seed", summaries.seed.is_some(), of_summaries),
        ];
        let asked = self.measurements();
        for (option, _, takes) in options.iter().filter(|(_, is_given, _)| *is_given) {
            if !asked.iter().any(|measurement| takes.contains(measurement)) {
                let takes: Vec<&str> = takes.iter().map(|measurement| measurement.name()).collect();
                let problem = format!("{option} is for {}", takes.join(" and "));
                return Err(Error::Misuse(format!("{problem}; leave it out, or see `paring eval --help`")));
            }
        }
        for (option, is_given) in [("--weight-only", self.weight_only), ("--dry-run", tasks.dry_run)] {
            if is_given && asked.contains(&Summaries) {
                return Err(Error::Misuse(format!("{option} is not for {}; leave one of them out", Summaries.name())));
            }
        }
        match &inputs.dataset {
            Some(dataset) if tasks.is_asked() => Err(Error::Misuse(format!(
                "--tasks: {dataset} is for perplexity, which is measured without --tasks; leave one of them out"
            ))),
            _ => Ok(()),
        }
    }

    /// Windows of perplexity to measure.
    pub fn windows(&self) -> Result<Option<usize>> {
        windows(self.limit)
    }

    /// The tasks, and the choices of how they are asked.
    pub fn asked(&self) -> TaskOptions {
        let tasks = &self.tasks;
        let usual = Options::default();
        TaskOptions {
            names: tasks.names().map(String::from).collect(),
            files: tasks.task_file.clone(),
            choices: Options {
                shots: tasks.num_fewshot.unwrap_or(usual.shots),
                limit: self.limit,
                protocol: self.inputs.eval_protocol.of_tasks(),
                add_bos: tasks.add_bos_token,
                prefix: tasks.prefix_token,
                bootstrap: tasks.bootstrap_iters.unwrap_or(usual.bootstrap),
            },
            longest: self.seqlen.map(|tokens| tokens as usize),
            data_dir: self.inputs.data_dir.clone(),
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
        let words: Vec<&str> = match &self.eval {
            None => Vec::new(),
            Some(_) if Path::new(asked).exists() => vec![asked],
            Some(_) => asked.split(',').map(str::trim).collect(),
        };
        if words.iter().any(|word| word.is_empty()) {
            return Err(Error::Misuse(format!(
                "--eval {asked:?}: a name is empty; write a data set, or tasks with commas between"
            )));
        }
        let (names, data): (Vec<&str>, Vec<&str>) = words.into_iter().partition(|word| is_task(word));
        if data.len() > 1 {
            let problem =
                format!("--eval {asked}: {} are no tasks, and perplexity is measured on one", data.join(" and "));
            return Err(Error::Misuse(problem + "; `paring tasks` lists all tasks"));
        }
        if let Some(name) = names.iter().find(|name| is_summarized(name)) {
            let problem = format!("--eval {asked}: summaries are measured by `paring eval MODEL --tasks {name}`");
            return Err(Error::Misuse(problem + "; leave them out here"));
        }
        let evaluation = data.first().map(|name| name.to_string());
        let limit = if evaluation.is_some() { windows(self.limit)? } else { None };
        let is_judged = !names.is_empty() || !self.task_file.is_empty();
        if !is_judged && self.num_fewshot.is_some() {
            let problem = "--num-fewshot is for tasks; name some with --eval, or leave it out";
            return Err(Error::Misuse(problem.into()));
        }
        let tasks = is_judged.then(|| TaskOptions {
            names: names.iter().map(|name| name.to_string()).collect(),
            files: self.task_file.clone(),
            choices: Options {
                shots: self.num_fewshot.unwrap_or_default(),
                limit: self.limit,
                protocol: inputs.eval_protocol.of_tasks(),
                ..Options::default()
            },
            longest: None,
            data_dir: inputs.data_dir.clone(),
        });
        Ok(Measures { evaluation, limit, tasks })
    }
}
