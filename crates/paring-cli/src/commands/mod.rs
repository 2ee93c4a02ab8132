//! One function per command.

mod bench;
mod dry;
mod finetune;
mod generated;
mod generation;
mod judging;
mod look;
mod report;
mod rouge;
mod store;
mod tasks;

use std::path::PathBuf;

use paring::Result;
use paring::commands::perplexity::{self, Perplexity};
use paring::report::Clock;
use paring::report::names::REPORT_PAGE;
use paring::report::progress::Observer;
use paring::request::{Request, open_device};
use serde_json::json;

use crate::args::*;
use crate::machine;
use crate::page;
use crate::progress::{Log, Part, Progress};
use crate::show::amounts;
use crate::show::{self, Answer, Failure, Made};
use paring::report::words::plural;

pub use bench::bench;
pub use finetune::finetune;
pub use generated::{completions, man};
pub use generation::{chat, generate, serve};
pub use look::{inspect, schemes, tokens, verify};
pub use report::report;
pub use rouge::rouge;
pub use store::{convert, decompress, export_masks, merge};
pub use tasks::tasks;

pub fn sparsify(args: &SparsifyArgs, shared: &Shared, log: &Log) -> Result<Answer, Failure> {
    compress(args.request(shared), &args.run, (&args.running, shared), log)
}

pub fn quantize(args: &QuantizeArgs, shared: &Shared, log: &Log) -> Result<Answer, Failure> {
    compress(args.request(shared), &args.run, (&args.running, shared), log)
}

/// Compresses a model as asked, or only says what that will take.
fn compress(
    request: Result<Request>,
    run: &Run,
    (running, shared): (&Running, &Shared),
    log: &Log,
) -> Result<Answer, Failure> {
    let request = request.map_err(|e| run.located(e))?;
    request.plan().map_err(|e| run.located(e))?;
    let threads = machine::threads(running.threads, running.place.isa.as_deref())?;
    let prepared = request.prepare()?;
    let mut progress = Progress::new(shared.channels(), running.verbose, log);
    threads.iter().for_each(|note| progress.note(note));
    run.notes.iter().for_each(|note| progress.note(note));
    if run.dry_run {
        let costs = prepared.costs(&mut progress)?;
        progress.done();
        return Ok(Answer::new(&costs)?.lines(dry::lines(&costs, running.verbose)));
    }
    progress.stop_on_signals(Part::BLOCK)?;
    let out = prepared.out().to_path_buf();
    let made = Made { loaders: prepared.loaders()?, from_quantized: prepared.is_quantized()? };
    let report = prepared.run(&mut progress).map_err(|error| progress.failure(error))?;
    progress.done();
    report::write_own_page(&page::of(&report), &out.join(REPORT_PAGE))?;
    let answer = Answer::new(&report)?.lines(show::outcome(&report, &made));
    log.result(answer.value());
    Ok(answer)
}

pub fn eval(args: &EvalArgs, shared: &Shared, log: &Log) -> Result<Answer, Failure> {
    args.check()?;
    if args.tasks.is_asked() {
        return judging::judge(args, shared, log);
    }
    let windows = args.windows()?;
    let (inputs, running) = (&args.inputs, &args.running);
    let sources = args.adapter.applied(sources(shared.quiet, &inputs.opening))?;
    sources.expect_data(&inputs.model, inputs.dataset.as_deref())?;
    let threads = machine::threads(running.threads, running.place.isa.as_deref())?;
    let local = sources.local(&inputs.model)?;
    let budget = machine::budget(running)?;
    let model = sources.model(&local, running.dtype.precision(), budget.device(), !args.weight_only)?;
    let length = (args.seqlen.map(|n| n as usize), windows);
    let (dataset, windows, notes) =
        sources.windows(&model, inputs.dataset.as_deref(), &inputs.data_options(), length)?;
    let mut progress = Progress::new(shared.channels(), running.verbose, log);
    threads.iter().for_each(|note| progress.note(note));
    progress.end_on_signals()?;
    progress.measuring("perplexity");
    notes.iter().for_each(|note| progress.note(note));
    model.notes().for_each(|note| progress.note(&note));
    let mut clock = Clock::default();
    let decoder = model.decoder.as_ref();
    let result = perplexity::measure(decoder, &budget, &windows, &dataset, &mut clock, &mut progress)?;
    progress.stages(&clock.stages());
    progress.done();
    let Perplexity { perplexity, windows, seqlen, seconds, peak_rss_mib, place, .. } = &result;
    let quantized = model.checkpoint.quant_config()?.and_then(|quant| quant.activations());
    let activations = match &quantized {
        None => String::new(),
        Some(_) if args.weight_only => ", activations as they are".to_string(),
        Some(what) => format!(", {what} quantized"),
    };
    let adapter = sources.adapter.as_ref().map(|adapter| adapter.place.display().to_string());
    let adapted = adapter.as_ref().map_or(String::new(), |place| format!(", with the adapter {place}"));
    let line = format!(
        "perplexity {perplexity:.4}  ({} of {seqlen} tokens of {}{activations}{adapted}, {} on {}, {})",
        plural(*windows, "window"),
        result.dataset,
        amounts::seconds(*seconds),
        place.words(),
        place.memory(*peak_rss_mib)
    );
    let mut value = json!(result);
    value["quantized"] = json!(quantized.filter(|_| !args.weight_only));
    if let Some(adapter) = adapter {
        value["adapter"] = json!(adapter);
    }
    log.result(&value);
    Ok(Answer::new(&value)?.lines([line]))
}

pub fn layer(args: &LayerArgs) -> Result<Answer, Failure> {
    machine::threads(None, args.place.isa.as_deref())?;
    let recipe = args.recipe()?.recipe()?;
    let out: &PathBuf = &args.out;
    let device = open_device(args.place.device)?;
    let sequences = args.sequences.map(|n| n as usize);
    let made = paring::commands::layer::run(&args.file, (out, args.overwrite), &recipe, sequences, &device)?;
    let error = made.error.map_or(String::new(), |e| format!(", error {e:.6}"));
    let outliers = if made.outliers > 0 { format!(", {}", plural(made.outliers, "outlier")) } else { String::new() };
    let zeros = recipe.pattern.map_or(String::new(), |_| format!(", {:.2} % zeros", 100.0 * made.sparsity));
    let line = format!(
        "{} on [{}, {}]{zeros}{outliers}{error}; computed on {}, written to {}",
        recipe.method,
        made.rows,
        made.cols,
        made.place.words(),
        out.display()
    );
    Ok(Answer::new(&made)?.lines([line]))
}
