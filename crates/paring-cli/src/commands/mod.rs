//! One function per command.

mod bench;
mod dry;
mod generated;
mod look;
mod report;
mod store;

use std::path::{Path, PathBuf};

use paring::commands::perplexity::{self, Perplexity};
use paring::compress::{self, Job};
use paring::plan::{Choice, Pattern, Plan, Recipe};
use paring::report::names::REPORT_PAGE;
use paring::report::progress::Observer;
use paring::report::{Clock, Measured};
use paring::{Error, Result};
use paring_data::dataset::Sampling;
use paring_format::Element;
use paring_kernels::device;
use serde_json::json;

use crate::args::*;
use crate::open::{self, Model, Purpose};
use crate::page;
use crate::progress::{Log, Progress};
use crate::show;

pub use bench::bench;
pub use generated::{completions, man};
pub use look::{inspect, schemes, verify};
pub use report::report;
pub use store::{convert, decompress};

pub fn sparsify(args: &SparsifyArgs, log: &Log) -> Result<()> {
    let recipe = recipe(Some(&args.method), Some(&args.removal), &args.grids, None, &args.sweep);
    let recipe = recipe.map_err(|e| args.run.located(e))?;
    compress((recipe, None), &args.inputs, &args.run, &args.running, log)
}

pub fn quantize(args: &QuantizeArgs, log: &Log) -> Result<()> {
    let chosen = quantizing(args).map_err(|e| args.run.located(e))?;
    compress(chosen, &args.inputs, &args.run, &args.running, log)
}

/// Compresses a model by a recipe, with the share of outliers where a threshold must be found for it.
fn compress(
    (recipe, outlier_share): (Recipe, Option<f64>),
    inputs: &Inputs,
    run: &Run,
    running: &Running,
    log: &Log,
) -> Result<()> {
    let mut plan = Plan {
        model: inputs.model.clone(),
        dataset: None,
        recipe,
        kv_cache: run.kv_cache.map(|kind| kind.args()),
        outlier_share,
        nsamples: 0,
        seqlen: 0,
        seed: run.seed,
        true_sequential: run.true_sequential,
        device: String::new(),
        max_vram: None,
        precision: paring::Precision::F32,
        gram_precision: run.gram_precision,
        layers: run.layers,
        include: run.include.clone(),
        ignore: run.ignore.clone(),
        format: run.format.clone(),
        overrides: Vec::new(),
        config: run.config.as_ref().map(|path| path.display().to_string()),
        offload_activations: matches!(run.offload, OffloadArg::Activations),
        skip_out_loss: run.skip_out_loss,
        allow_fallback: run.allow_fallback,
        overwrite: run.overwrite,
    };
    let base = Choice { recipe: &plan.recipe, outlier_share, format: run.format.as_deref() };
    plan.overrides = run.groups.iter().map(|group| group.over(base)).collect::<Result<_>>()?;
    plan.check().map_err(|e| run.located(e))?;
    let needs_data = plan.needs_data();
    if needs_data {
        open::expect_data(inputs)?;
    }
    let out = run.out.clone().unwrap_or_else(|| usual_out(&plan));
    let local = open::local(&inputs.model, running.quiet)?;
    refuse_same_folder(&local, &out)?;
    open::threads(running)?;
    // Statistics are of activations as they are, whatever the config of MODEL says.
    let budget = open::budget(running)?;
    let device = budget.device().clone();
    if device.is_cpu() {
        run.gram_precision
            .check_cpu()
            .map_err(|reason| Error::Misuse(format!("--gram-precision {reason}: leave it out")))?;
    }
    let model = Model::open_weights(&local, running.dtype, &device)?;
    (plan.device, plan.max_vram, plan.precision) = (device::label(&device), budget.bytes(), model.precision);
    let concerns = compress::concerns(&plan, &model.checkpoint, model.decoder.as_ref())?;
    if let Some(first) = concerns.first().filter(|_| run.strict) {
        let more = match concerns.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more, without --strict told as notes)"),
        };
        return Err(Error::Misuse(format!("--strict: {first}{more}")));
    }
    let positions = model.decoder.max_positions();
    let mut crowded = None;
    // Data is read and cut before anything is written, so that what is wrong with it shows at once.
    let windows = if !needs_data {
        None
    } else {
        let protocol = plan.recipe.method.protocol;
        let data = model.data(inputs.dataset.as_deref(), Purpose::Calibration, protocol, inputs, running.quiet)?;
        let how = Sampling {
            nsamples: run.nsamples.map(|n| n as usize),
            seqlen: run.seqlen.map(|n| n as usize),
            seed: run.seed,
            positions,
        };
        let windows = data.calibration(model.tokenizer(), &how)?;
        windows.check_vocabulary(&data.name, model.decoder.vocab_size())?;
        crowded = windows.seed.filter(|_| run.seed.is_none() && !data.is_drawn());
        plan.dataset = Some(data.name);
        (plan.nsamples, plan.seqlen, plan.seed) = (windows.count(), windows.seqlen, windows.seed);
        Some(windows)
    };
    let limit = run.limit.map(|n| n as usize);
    let measured = match &run.eval {
        None => None,
        Some(name) => {
            let data = model.data(Some(name), Purpose::Evaluation, inputs.eval_protocol(), inputs, running.quiet)?;
            let seqlen = run.seqlen.map(|n| n as usize);
            let windows = data.evaluation(model.tokenizer(), seqlen, positions, limit)?;
            windows.check_vocabulary(&data.name, model.decoder.vocab_size())?;
            Some((data.name, windows))
        }
    };
    let mut progress = Progress::new(running.quiet, running.verbose, log);
    let told = concerns.iter().filter(|_| !running.quiet);
    run.notes.iter().chain(told).for_each(|note| progress.note(note));
    model.decoder.notes().iter().for_each(|note| progress.note(note));
    if let Some(seed) = crowded {
        let count = plan.nsamples;
        progress
            .note(&format!("{count} windows do not fit side by side: drawn at random with seed {seed}, they overlap"));
    }
    let mut clock = Clock::default();
    let companions = model.companions();
    let (checkpoint, precision) = (model.checkpoint.clone(), model.precision);
    let resume = run.resuming.resume;
    let resumable = run.resuming.resumable.decided();
    let job = Job {
        plan,
        checkpoint,
        decoder: model.decoder,
        budget: budget.clone(),
        windows,
        out: out.clone(),
        resume,
        resumable,
        companions,
        command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
    };
    if run.dry_run {
        job.data_notes()?.iter().for_each(|note| progress.note(note));
        let costs = paring::cost::of(&job, measured.as_ref().map(|(_, windows)| windows))?;
        progress.done();
        show::lines(&dry::table(&costs))?;
        return if running.json { show::json(&costs) } else { Ok(()) };
    }
    progress.listen()?;
    let mut report = compress::run(job, &mut progress, &mut clock)?;
    progress.stages(&report.stages);
    if let Some((dataset, windows)) = measured {
        let mut measure = |what: &'static str, model: &Model| -> Result<f64> {
            progress.measuring(what);
            let (decoder, clock) = (model.decoder.as_ref(), &mut Clock::default());
            Ok(perplexity::measure(decoder, &budget, &windows, &dataset, clock, &mut progress)?.perplexity)
        };
        let dtype = match precision {
            paring::Precision::F32 => DtypeArg::F32,
            paring::Precision::Bf16 => DtypeArg::Bf16,
            paring::Precision::F16 => DtypeArg::F16,
        };
        let before = measure("perplexity before", &Model::open(&local, dtype, &device)?)?;
        let after = measure("perplexity after", &Model::open(&out.to_string_lossy(), dtype, &device)?)?;
        let (count, seqlen) = (windows.count(), windows.seqlen);
        report.perplexity = Some(Measured { before, after, dataset, windows: count, seqlen });
        report.write(&out)?;
    }
    progress.done();
    report::write_page(&page::of(&report), &out.join(REPORT_PAGE))?;
    show::report(&report)?;
    log.result(&show::value(&report)?);
    if running.json { show::json(&report) } else { Ok(()) }
}

/// Where the output goes when nobody says: beside whoever calls, named after the model and what is done to it.
fn usual_out(plan: &Plan) -> PathBuf {
    let mut name = format!("{}-{}", open::short_name(&plan.model), plan.recipe.method);
    match plan.recipe.pattern {
        Some(Pattern::NofM { keep, of }) => name += &format!("-{keep}of{of}"),
        Some(Pattern::Unstructured(share)) => name += &format!("-{share}"),
        None => {}
    }
    if let Some(rounding) = plan.recipe.rounding {
        name += &match rounding.element {
            Element::Int(bits) => format!("-w{bits}"),
            Element::E4m3 => "-fp8".to_string(),
            Element::E2m1 => "-fp4".to_string(),
        };
        name += &rounding.group_size().map_or(String::new(), |size| format!("g{size}"));
    }
    name.into()
}

fn refuse_same_folder(model: &str, out: &Path) -> Result<()> {
    let real = |path: &Path| path.canonicalize().ok();
    match (real(Path::new(model)), real(out)) {
        (Some(a), Some(b)) if a == b => {
            Err(Error::Misuse(format!("--out {}: is the model's own folder; name another one", out.display())))
        }
        _ => Ok(()),
    }
}

pub fn eval(args: &EvalArgs, log: &Log) -> Result<()> {
    open::expect_data(&args.inputs)?;
    open::threads(&args.running)?;
    let local = open::local(&args.inputs.model, args.running.quiet)?;
    let budget = open::budget(&args.running)?;
    let model = match args.weight_only {
        false => Model::open(&local, args.running.dtype, budget.device())?,
        true => Model::open_weights(&local, args.running.dtype, budget.device())?,
    };
    let inputs = &args.inputs;
    let (protocol, quiet) = (inputs.eval_protocol(), args.running.quiet);
    let data = model.data(inputs.dataset.as_deref(), Purpose::Evaluation, protocol, inputs, quiet)?;
    let seqlen = args.seqlen.map(|n| n as usize);
    let limit = args.limit.map(|n| n as usize);
    let windows = data.evaluation(model.tokenizer(), seqlen, model.decoder.max_positions(), limit)?;
    windows.check_vocabulary(&data.name, model.decoder.vocab_size())?;
    let mut progress = Progress::new(quiet, args.running.verbose, log);
    progress.measuring("perplexity");
    model.decoder.notes().iter().for_each(|note| progress.note(note));
    let mut clock = Clock::default();
    let decoder = model.decoder.as_ref();
    let result = perplexity::measure(decoder, &budget, &windows, &data.name, &mut clock, &mut progress)?;
    progress.stages(&clock.stages());
    progress.done();
    let Perplexity { perplexity, windows, seqlen, seconds, peak_rss_mib, place, .. } = &result;
    let quantized = model.checkpoint.quant_config()?.and_then(|quant| quant.activations());
    let activations = match &quantized {
        None => String::new(),
        Some(_) if args.weight_only => ", activations as they are".to_string(),
        Some(what) => format!(", {what} quantized"),
    };
    show::lines(&[format!(
        "perplexity {perplexity:.4}  ({windows} windows of {seqlen} tokens of {}{activations}, {seconds:.1} s on {}, \
        {})",
        result.dataset,
        place.words(),
        place.memory(*peak_rss_mib)
    )])?;
    let mut value = show::value(&result)?;
    if let Some(object) = value.as_object_mut() {
        object.insert("quantized".into(), json!(quantized.filter(|_| !args.weight_only)));
    }
    log.result(&value);
    if args.running.json { show::json(&value) } else { Ok(()) }
}

pub fn layer(args: &LayerArgs) -> Result<()> {
    let recipe = recipe(Some(&args.method), Some(&args.removal), &args.grids, Some(&args.spqr), &args.sweep)?;
    let out: &PathBuf = &args.out;
    let device = open::device(args.place.device)?;
    let made = paring::commands::layer::run(&args.file, out, &recipe, args.sequences.map(|n| n as usize), &device)?;
    let error = made.error.map_or(String::new(), |e| format!(", error {e:.6}"));
    let outliers = if made.outliers > 0 { format!(", {} outliers", made.outliers) } else { String::new() };
    show::lines(&[format!(
        "{} on [{}, {}]: {:.2} % zero{outliers}{error}; computed on {}, written to {}",
        recipe.method,
        made.rows,
        made.cols,
        100.0 * made.sparsity,
        made.place.words(),
        out.display()
    )])?;
    if args.json { show::json(&made) } else { Ok(()) }
}
