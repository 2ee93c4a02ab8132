//! `eval --tasks`: a model judged by tasks, and by summaries.

use paring::commands::summaries::Summaries;
use paring::commands::tasks::Judged;
use paring::commands::{likelihoods, tasks};
use paring::report::Clock;
use paring::report::progress::Observer;
use paring::report::words::plural;
use paring::request::TaskOptions;
use paring::{Error, Result};
use paring_data::summaries::NAME as SUMMARIES;
use paring_format::writer::{InputFiles, NamedFile};
use paring_kernels::device::Device;
use paring_tasks::{Limit, Protocol, Sample};
use serde_json::{Map, Value, json};

use crate::args::{EvalArgs, Shared, sources};
use crate::machine;
use crate::progress::{Log, Progress};
use crate::show::{self, Answer, Failure, amounts};

/// Results that are shown one by one; of more, groups stand for their tasks.
const LINES: usize = 24;

/// Judges a model by tasks.
pub fn judge(args: &EvalArgs, shared: &Shared, log: &Log) -> Result<Answer, Failure> {
    let (inputs, running) = (&args.inputs, &args.running);
    if let Some(dataset) = &inputs.dataset {
        let problem =
            format!("--tasks: {dataset} is for perplexity, which is measured without --tasks; leave one of them out");
        return Err(Error::Misuse(problem).into());
    }
    let protocol = inputs.eval_protocol.of_tasks();
    let mut options = args.tasks.options(protocol, args.limit, inputs.data_dir.clone());
    let summarizes = options.names.iter().any(|name| name == SUMMARIES);
    options.names.retain(|name| name != SUMMARIES);
    let answers = !options.names.is_empty() || !options.files.is_empty();
    options.plan()?;
    let sources = sources(shared.quiet, &inputs.opening);
    let threads = machine::threads(running.threads, running.place.isa.as_deref())?;
    let local = sources.local(&inputs.model)?;
    let checkpoint = sources.checkpoint(&local)?;
    let mut read = InputFiles::of(&checkpoint);
    options.files.iter().chain(&options.data_dir).for_each(|path| read.add(path));
    let file = args.tasks.log_samples.as_deref().map(|path| NamedFile {
        path,
        inputs: &read,
        is_own: &is_own,
        overwrite: args.tasks.overwrite,
    });
    if let Some(file) = &file {
        file.check()?;
    }
    let mut progress = Progress::new(shared.channels(), running.verbose, log);
    threads.iter().for_each(|note| progress.note(note));
    progress.end_on_signals()?;
    let mut found = Found { lines: Vec::new(), value: json!({}), tasks: Map::new(), samples: Vec::new() };
    if answers {
        let work = Work { args, local: &local, options: &options, sources: &sources };
        if let Some(amount) = work.questions(&mut progress, &mut found)? {
            return Ok(amount);
        }
    }
    if summarizes {
        let work = Work { args, local: &local, options: &options, sources: &sources };
        work.articles(&mut progress, &mut found)?;
    }
    progress.done();
    let Found { mut lines, mut value, tasks, samples } = found;
    if let Some(file) = &file {
        file.write(samples.len(), |to| to.write_all(&samples))?;
        lines.push(format!("answers to each document are in {}", file.path.display()));
    }
    value["tasks"] = Value::Object(tasks);
    value["protocol"] = json!(protocol_name(protocol));
    log.result(&value);
    Ok(Answer::new(&value)?.lines(lines))
}

/// The model and what it is judged by.
struct Work<'a> {
    args: &'a EvalArgs,
    local: &'a str,
    options: &'a TaskOptions,
    sources: &'a paring::request::Sources,
}

/// Results on their way to stdout.
struct Found {
    lines: Vec<String>,
    value: Value,
    tasks: Map<String, Value>,
    samples: Vec<u8>,
}

impl Work<'_> {
    /// Answers questions; with `--dry-run` returns what that takes instead.
    fn questions(&self, progress: &mut Progress<'_>, found: &mut Found) -> Result<Option<Answer>, Failure> {
        let running = &self.args.running;
        let budget = machine::budget(running)?;
        let precision = running.dtype.precision();
        let model = self.sources.model(self.local, precision, budget.device(), !self.args.weight_only)?;
        let work = self.sources.tasks(&model, self.options)?;
        model.notes().for_each(|note| progress.note(&note));
        let decoder = model.decoder.as_ref();
        if self.args.tasks.dry_run {
            let amount = likelihoods::amount(decoder, &work.requests, decoder.max_positions())?;
            progress.done();
            return Ok(Some(Answer::new(&amount)?.lines(show::amount(&amount))));
        }
        progress.measuring("tasks");
        let mut clock = Clock::default();
        let judged = tasks::judge(decoder, &budget, &work, &mut clock, progress)?;
        progress.stages(&clock.stages());
        found.lines.extend(show::judged(&tasks::summary(&judged.results, LINES)));
        found.lines.push(took(&judged));
        if self.args.tasks.log_samples.is_some() {
            lines_of(work.samples(&judged.scores)?, &mut found.samples)?;
        }
        found.value = json!(judged);
        if let Value::Object(results) = tasks::by_name(&judged.results) {
            found.tasks.extend(results);
        }
        Ok(None)
    }

    /// Summarizes articles.
    fn articles(&self, progress: &mut Progress<'_>, found: &mut Found) -> Result<(), Failure> {
        let (inputs, running) = (&self.args.inputs, &self.args.running);
        if self.args.tasks.dry_run {
            return Err(
                Error::Misuse(format!("--dry-run counts questions, and {SUMMARIES} has none; leave it out")).into()
            );
        }
        let mut articles = self.sources.articles(&inputs.data_options(), most(self.args.limit))?;
        articles.truncate(self.args.limit.map_or(articles.len(), |limit| limit.of(articles.len())));
        let budget = machine::budget(running)?;
        let (precision, device): (_, &Device) = (running.dtype.precision(), budget.device());
        let read = &mut |done, of| progress.reading(done, of);
        let generator = self.sources.generator(self.local, precision, device, None, read)?;
        generator.notes.iter().for_each(|note| progress.note(note));
        progress.measuring("summaries");
        let made = generator.summaries(articles, &self.args.summaries.options(), progress)?;
        found.lines.extend(show::summarized(&made));
        for (doc, prediction) in made.predictions.iter().enumerate() {
            let line = json!({"task": SUMMARIES, "doc": doc, "prediction": prediction});
            found.samples.extend(format!("{line}\n").bytes());
        }
        found.tasks.insert(SUMMARIES.into(), of_summaries(&made));
        if found.value.get("seconds").is_none() {
            let Summaries { place, seconds, peak_rss_mib, .. } = &made;
            found.value = json!(place);
            found.value["seconds"] = json!(seconds);
            found.value["peak_rss_mib"] = json!(peak_rss_mib);
        }
        Ok(())
    }
}

/// Documents that are read at most.
fn most(limit: Option<Limit>) -> Option<usize> {
    match limit {
        Some(Limit::Documents(most)) => Some(most),
        Some(Limit::Fraction(_)) | None => None,
    }
}

/// The figures of summaries as those of a task.
fn of_summaries(made: &Summaries) -> Value {
    let mut value = Map::new();
    for figure in &made.rouge {
        value.insert(figure.kind.into(), json!(figure.f));
        value.insert(format!("{}_stderr", figure.kind), json!(figure.stderr));
    }
    value.insert("n".into(), json!(made.articles));
    for (name, count) in [
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

fn took(judged: &Judged) -> String {
    let Judged { requests, tokens, seconds, place, peak_rss_mib, .. } = judged;
    format!(
        "{} of {tokens} tokens, {} on {}, {}",
        plural(*requests, "request"),
        amounts::seconds(*seconds),
        place.words(),
        place.memory(*peak_rss_mib)
    )
}

/// The name of a protocol.
fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Harness => "lm-evaluation-harness",
        Protocol::Spqr => "spqr",
    }
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
