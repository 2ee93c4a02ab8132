//! `eval --tasks`: a model judged by tasks, and by summaries.

use std::path::PathBuf;

use paring::commands::summaries::Summaries;
use paring::commands::tasks;
use paring::report::progress::{EvalProgress, Observer};
use paring::report::{Clock, LayerReport};
use paring::request::{Sources, TaskOptions};
use paring::{Error, Result};
use paring_format::names::{ADAPTER_CONFIG, ADAPTER_WEIGHTS};
use paring_format::writer::{InputFiles, NamedFile};
use paring_tasks::{Article, Sample};
use serde_json::{Map, Value, json};

use crate::args::{EvalArgs, Shared, sources};
use crate::machine;
use crate::progress::{Interrupt, Log, Progress};
use crate::show::{self, Answer, Failure};

/// The exit code of a measurement that ctrl-C ended, as shells have it.
const STOPPED: u8 = 130;

/// Judges a model by tasks. Whatever can be wrong with options and data is known before the first answer.
pub fn judge(args: &EvalArgs, shared: &Shared, log: &Log) -> Result<Answer, Failure> {
    let (running, sources) = (&args.running, args.adapter.applied(sources(shared.quiet, &args.inputs.opening))?);
    let options = args.asked();
    let plan = options.plan()?;
    args.summaries.options().check()?;
    let threads = machine::threads(running.threads, running.place.isa.as_deref())?;
    let local = sources.local(&args.inputs.model)?;
    let mut read = InputFiles::of(&sources.checkpoint(&local)?);
    let names = [ADAPTER_CONFIG, ADAPTER_WEIGHTS];
    let of_adapter: Vec<PathBuf> =
        args.adapter.adapter.iter().flat_map(|dir| names.map(|name| dir.join(name))).collect();
    args.tasks.task_file.iter().chain(&args.inputs.data_dir).chain(&of_adapter).for_each(|path| read.add(path));
    let file = args.tasks.log_samples.as_deref().map(|path| NamedFile {
        path,
        inputs: &read,
        is_own: &is_own,
        overwrite: args.tasks.overwrite,
    });
    if let Some(file) = &file {
        file.check()?;
    }
    let work = Work { args, local: &local, sources: &sources };
    let summarized = sources.articles(&options)?;
    let mut progress = Progress::new(shared.channels(), running.verbose, log);
    threads.iter().for_each(|note| progress.note(note));
    let interrupt = progress.interrupts()?;
    let mut found = Found { lines: Vec::new(), value: json!({}), tasks: Map::new(), samples: Vec::new() };
    if let Some(adapter) = &sources.adapter {
        progress.note(&format!("with the adapter {}", adapter.place.display()));
    }
    if !plan.tasks().is_empty() {
        work.answer(&options, &mut progress, &mut found)?;
    }
    let mut is_stopped = false;
    for task in summarized {
        is_stopped = is_stopped || work.summarize(task, (&mut progress, &interrupt), &mut found)?;
    }
    progress.done();
    let Found { mut lines, mut value, tasks, samples } = found;
    if let Some(file) = &file {
        file.write(samples.len(), |to| to.write_all(&samples))?;
        lines.push(format!("answers to each document are in {}", file.path.display()));
    }
    if !tasks.is_empty() {
        value["tasks"] = Value::Object(tasks);
    }
    if let Some(adapter) = &sources.adapter {
        value["adapter"] = json!(adapter.place.display().to_string());
    }
    log.result(&value);
    let answer = Answer::new(&value)?.lines(lines);
    if is_stopped { Err(Failure::new("stopped", STOPPED).after(answer)) } else { Ok(answer) }
}

/// The model and what it is judged by.
struct Work<'a> {
    args: &'a EvalArgs,
    local: &'a str,
    sources: &'a Sources,
}

/// Results on their way to stdout.
struct Found {
    lines: Vec<String>,
    value: Value,
    tasks: Map<String, Value>,
    samples: Vec<u8>,
}

impl Work<'_> {
    /// Answers questions, or says what that takes.
    fn answer(&self, options: &TaskOptions, progress: &mut Progress<'_>, found: &mut Found) -> Result<(), Failure> {
        let running = &self.args.running;
        let budget = machine::budget(running)?;
        let precision = running.dtype.precision();
        let model = self.sources.model(self.local, precision, budget.device(), !self.args.weight_only)?;
        let work = self.sources.tasks(&model, options)?;
        model.notes().for_each(|note| progress.note(&note));
        let decoder = model.decoder.as_ref();
        if self.args.tasks.dry_run {
            let amount = tasks::amount(decoder, &work)?;
            (found.value, found.lines) = (json!(amount), vec![show::tasks::amount(&amount)]);
            return Ok(());
        }
        progress.measuring("tasks");
        let mut clock = Clock::default();
        let judged = tasks::judge(decoder, &budget, &work, &mut clock, progress)?;
        progress.stages(&clock.stages());
        found.lines.extend(show::tasks::judged(&judged));
        if self.args.tasks.log_samples.is_some() {
            lines_of(work.samples(&judged.scores)?, &mut found.samples)?;
        }
        found.value = json!(judged);
        found.value["protocol"] = json!(options.choices.protocol.name());
        if let Value::Object(results) = tasks::by_name(&judged.results) {
            found.tasks.extend(results);
        }
        Ok(())
    }

    /// Summarizes articles; true if ctrl-C ended it before the last one.
    fn summarize(
        &self,
        (task, articles): (String, Vec<Article>),
        (progress, interrupt): (&mut Progress<'_>, &Interrupt),
        found: &mut Found,
    ) -> Result<bool, Failure> {
        let running = &self.args.running;
        let budget = machine::budget(running)?;
        let read = &mut |done, of| progress.reading(done, of);
        let precision = running.dtype.precision();
        let generator = self.sources.generator(self.local, precision, budget.device(), None, read)?;
        generator.notes.iter().for_each(|note| progress.note(note));
        progress.measuring("summaries");
        interrupt.begin();
        let options = self.args.summaries.options();
        let made = generator.summaries(articles, &options, &mut UntilInterrupted { progress, interrupt });
        let is_stopped = interrupt.end();
        let made = match made {
            // Nothing was done yet.
            Err(_) if is_stopped => return Ok(true),
            made => made?,
        };
        found.lines.extend(show::tasks::summarized(&task, &made));
        for (doc, prediction) in made.predictions.iter().enumerate() {
            let line = json!({"task": task, "doc": doc, "prediction": prediction});
            found.samples.extend(format!("{line}\n").bytes());
        }
        found.tasks.insert(task, of_summaries(&made));
        if found.value.get("seconds").is_none() {
            let Summaries { place, seconds, peak_rss_mib, .. } = &made;
            found.value = json!(place);
            found.value["seconds"] = json!(seconds);
            found.value["peak_rss_mib"] = json!(peak_rss_mib);
        }
        Ok(is_stopped)
    }
}

/// Progress that ctrl-C stops, so that what is done until then is shown.
struct UntilInterrupted<'a, 'b> {
    progress: &'a mut Progress<'b>,
    interrupt: &'a Interrupt,
}

impl Observer for UntilInterrupted<'_, '_> {
    fn start(&mut self, _: usize, _: usize, _: usize) {}
    fn linear(&mut self, _: &LayerReport) {}
    fn block(&mut self, _: usize) {}

    fn note(&mut self, text: &str) {
        self.progress.note(text);
    }

    fn measured(&mut self, measured: &EvalProgress) {
        self.progress.measured(measured);
    }

    fn stop(&mut self) -> bool {
        self.interrupt.is_asked()
    }
}

/// The figures of summaries as those of a task.
fn of_summaries(made: &Summaries) -> Value {
    let mut value = Map::new();
    for figure in &made.rouge {
        value.insert(figure.kind.into(), json!(figure.f));
        value.insert(format!("{}_stderr", figure.kind), json!(figure.stderr));
    }
    for (name, count) in [
        ("n", made.articles),
        ("num_beams", made.beams),
        ("cut", made.cut),
        ("max_prompt_tokens", made.longest_input),
        ("prompt_tokens", made.prompt_tokens),
        ("new_tokens", made.new_tokens),
    ] {
        value.insert(name.into(), json!(count));
    }
    Value::Object(value)
}

/// Recognizes a file of samples by its beginning.
fn is_own(head: &[u8]) -> bool {
    head.starts_with(b"{\"task\":")
}

/// Adds a line for each document.
fn lines_of(samples: impl Iterator<Item = Sample>, bytes: &mut Vec<u8>) -> Result<()> {
    for sample in samples {
        serde_json::to_writer(&mut *bytes, &sample).map_err(|error| Error::Plan(error.to_string()))?;
        bytes.push(b'\n');
    }
    Ok(())
}
