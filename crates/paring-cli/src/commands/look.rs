//! The commands that look at a checkpoint and write no other.

use std::sync::Arc;

use paring::commands::compare::{Comparison, ComparisonLimits};
use paring::commands::inspect::Summary;
use paring::report::Clock;
use paring::report::outlier_map;
use paring::report::progress::Observer;
use paring::request::{DataOptions, positions};
use paring::{Error, Result};
use paring_data::SEQLEN;
use paring_data::named::{Protocol, Purpose};
use paring_format::Checkpoint;
use paring_format::writer::{InputFiles, NamedFile};
use serde_json::json;

use crate::args::{InspectArgs, SchemesArgs, Shared, TokensArgs, VerifyArgs, sources};
use crate::machine;
use crate::progress::{Log, Progress};
use crate::show::{Answer, Failure};
use crate::{demo, show};

pub fn inspect(args: &InspectArgs, shared: &Shared) -> Result<Answer, Failure> {
    if let Some(path) = args.outliers.as_deref().filter(|path| path.is_dir()) {
        return Err(Error::Misuse(format!("--outliers {}: is a folder; name a file", path.display())).into());
    }
    machine::threads(None, None)?;
    let sources = sources(shared.quiet, &args.look.opening);
    let checkpoint = Arc::new(sources.checkpoint(&sources.local(&args.look.model)?)?);
    let inputs = InputFiles::of(&checkpoint);
    let file = args.outliers.as_deref().map(|path| NamedFile {
        path,
        inputs: &inputs,
        is_own: &outlier_map::is_own,
        overwrite: args.overwrite,
    });
    if let Some(file) = &file {
        file.check()?;
    }
    let summary = paring::commands::inspect::inspect(&checkpoint)?;
    let drawn = match &file {
        Some(file) => Some(draw(&checkpoint, &summary, args.module.as_deref(), file)?),
        None => None,
    };
    let notes = summary.notes.iter().map(|note| format!("note: {note}"));
    let coverage = paring::commands::verify::coverage(&checkpoint)?;
    let lines = show::inspected(&summary, checkpoint.files().count(), coverage, args.verbose);
    Ok(Answer::new(&summary)?.lines(lines).lines(drawn).lines(notes))
}

pub fn tokens(args: &TokensArgs, shared: &Shared) -> Result<Answer, Failure> {
    let inputs = &args.inputs;
    let sources = sources(shared.quiet, &inputs.opening);
    sources.expect_data(&inputs.model, inputs.dataset.as_deref())?;
    let local = sources.local(&inputs.model)?;
    let limit = args.limit as usize;
    let (data, documents) = sources.shown(&local, inputs.dataset.as_deref(), &inputs.data_options(), limit)?;
    let answer = Answer::new(&json!({"model": inputs.model, "data": data, "documents": documents}))?;
    Ok(answer.whole_lines(show::tokens(&data, &documents, limit)))
}

/// Draws the outliers of a module, or of the one that has the most, and says so.
fn draw(checkpoint: &Checkpoint, summary: &Summary, module: Option<&str>, file: &NamedFile<'_>) -> Result<String> {
    let none = || {
        Error::Plan(format!("{}: no matrix in it keeps outliers; use a model made with spqr", checkpoint.describe()))
    };
    let module = module.or_else(|| summary.most_outliers()).ok_or_else(none)?;
    let found = paring::commands::inspect::outliers(checkpoint, module)?;
    let svg = outlier_map::outliers(module, found.rows, found.cols, &found.mask);
    file.write(svg.len(), |to| to.write_all(svg.as_bytes()))?;
    Ok(format!("outliers of {module} drawn in {}", file.path.display()))
}

pub fn verify(args: &VerifyArgs, shared: &Shared, log: &Log) -> Result<Answer, Failure> {
    let running = &args.running;
    let sources = sources(shared.quiet, &args.opening);
    if args.against.reference.is_some() {
        let needs =
            "--reference needs text to compare on: add --data, with a file or the name of a set as `paring eval` takes";
        sources.expect_data(&args.model, dataset(args)).map_err(|error| match error {
            Error::Misuse(_) => Error::Misuse(needs.into()),
            other => other,
        })?;
    }
    let threads = machine::threads(running.threads, running.place.isa.as_deref())?;
    let local = sources.local(&args.model)?;
    let verified = paring::commands::verify::verify(Arc::new(sources.checkpoint(&local)?))?;
    let mut progress = Progress::new(shared.channels(), running.verbose, log);
    progress.end_on_signals()?;
    threads.iter().chain(&verified.notes).for_each(|note| progress.note(note));
    let mut lines = show::verified(&args.model, &verified);
    let mut value = json!(verified);
    if let Some(reference) = &args.against.reference {
        let compared = compare((args, shared), &local, reference, &mut progress)?;
        progress.done();
        let limits = ComparisonLimits {
            max_kl: args.against.max_kl,
            min_top1: args.against.min_top1,
            max_perplexity_ratio: args.against.max_perplexity_ratio,
        };
        let checked = compared.check(&limits);
        checked.map_err(|error| error.at(format!("{} against {reference}", args.model)))?;
        lines.extend(show::compared(reference, &compared));
        if let Some(object) = value.as_object_mut() {
            object.insert("reference".into(), json!(reference));
            object.insert("comparison".into(), json!(compared));
        }
    }
    log.result(&value);
    Ok(Answer::new(&value)?.lines(lines))
}

/// The data of a comparison, as other commands take it. The built-in model brings its text, on either side.
fn dataset(args: &VerifyArgs) -> Option<&str> {
    let built_in = || args.against.reference.as_deref().filter(|reference| *reference == demo::NAME);
    args.against.data.as_deref().or_else(built_in)
}

/// Runs a model and its reference over the same tokens.
fn compare(
    (args, shared): (&VerifyArgs, &Shared),
    local: &str,
    reference: &str,
    progress: &mut Progress<'_>,
) -> Result<Comparison> {
    let running = &args.running;
    let sources = sources(shared.quiet, &args.opening);
    let budget = machine::budget(running)?;
    let (precision, device) = (running.dtype.precision(), budget.device());
    let model = sources.model(local, precision, device, true)?;
    let reference = sources.model(&sources.local(reference)?, precision, device, true)?;
    let options = DataOptions {
        text_field: args.against.text_field.clone(),
        data_dir: args.against.data_dir.clone(),
        protocol: Protocol::Gptq,
    };
    let data = sources.data(&model, dataset(args), (Purpose::Evaluation, options.protocol), &options)?;
    let tokenizer = model.tokenizer.as_ref().or(reference.tokenizer.as_ref());
    let (tokens, asked) = (args.against.tokens as usize, args.against.seqlen.map(|n| n as usize));
    if let Some(asked) = asked.filter(|&asked| asked > tokens) {
        return Err(Error::Misuse(format!("--seqlen {asked}: a window is longer than --tokens {tokens}, all of them")));
    }
    let positions = positions(&[model.decoder.as_ref(), reference.decoder.as_ref()], asked)?;
    let seqlen = asked.unwrap_or(SEQLEN).min(tokens).min(positions);
    let windows = data.evaluation(tokenizer, Some(seqlen), positions, Some(tokens / seqlen.max(1)))?;
    windows.check_vocabulary(&data.name, model.decoder.vocab_size(), tokenizer)?;
    tokenizer.iter().for_each(|tokenizer| tokenizer.rest());
    data.notes().iter().for_each(|note| progress.note(note));
    for note in model.notes().chain(reference.notes()) {
        progress.note(&note);
    }
    progress.measuring("windows");
    let (ours, theirs) = (model.decoder.as_ref(), reference.decoder.as_ref());
    paring::commands::compare::compare(ours, theirs, &budget, &windows, &data.name, &mut Clock::default(), progress)
}

/// The table of schemes, or those whose names contain what was typed.
pub fn schemes(args: &SchemesArgs) -> Result<Answer, Failure> {
    let mut table = paring::plan::compatibility::table();
    if let Some(name) = &args.name {
        let wanted = name.to_ascii_uppercase();
        table.retain(|row| row.scheme.contains(&wanted));
        if table.is_empty() {
            return Err(Error::Misuse(format!("no scheme has {name} in its name; `paring schemes` lists all")).into());
        }
    }
    let mut lines = Vec::new();
    for row in &table {
        lines.push(row.scheme.to_string());
        for (name, text) in [
            ("weights", row.weights.as_str()),
            ("inputs", &row.inputs),
            ("layout", row.format),
            ("transformers", &row.transformers),
            ("vLLM", &row.vllm),
        ] {
            lines.push(show::entry(name, text));
        }
    }
    Ok(Answer::new(&json!({"schemes": table}))?.lines(lines))
}
