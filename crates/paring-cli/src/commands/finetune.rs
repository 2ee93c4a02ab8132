//! `finetune`: a model or an adapter is trained.

use paring::report::progress::Observer;
use paring::report::training::TrainingReport;
use paring::report::words::{plural, time};
use paring::request::TrainingCosts;

use crate::args::{FinetuneArgs, Shared};
use crate::machine;
use crate::progress::{Log, Part, Progress};
use crate::show::{self, Answer, Failure};

pub fn finetune(args: &FinetuneArgs, shared: &Shared, log: &Log) -> Result<Answer, Failure> {
    let threads = machine::threads(args.threads, args.isa.as_deref())?;
    let mut progress = Progress::new(shared.channels(), args.verbose, log);
    threads.iter().for_each(|note| progress.note(note));
    let ready = args.request(shared).prepare(&mut progress)?;
    ready.notes().for_each(|note| progress.note(&note));
    if args.dry_run {
        let costs = ready.costs()?;
        progress.done();
        return Ok(Answer::new(&costs)?.lines(dry(&costs)));
    }
    progress.stop_on_signals(Part::STEP)?;
    let report = ready.run(&mut progress).map_err(|error| progress.failure(error))?;
    progress.done();
    let answer = Answer::new(&report)?.lines(outcome(&report));
    log.result(answer.value());
    Ok(answer)
}

/// The estimate, for people.
fn dry(costs: &TrainingCosts) -> Vec<String> {
    let TrainingCosts { steps, windows, tokens, labels, held_out, trained, seconds_per_step, seconds, .. } = *costs;
    vec![
        format!(
            "{} over {} of {tokens} tokens, {labels} of them learned; {held_out} held out",
            plural(steps, "step"),
            plural(windows, "window")
        ),
        format!("{trained} numbers train: {} written and read a step", show::size(costs.bytes_per_step)),
        format!("about {seconds_per_step:.1} s a step, {} in all", time(seconds)),
        format!("up to {} of memory and {} of disk", show::size(costs.memory), show::size(costs.disk)),
    ]
}

/// What was made, for people.
fn outcome(report: &TrainingReport) -> Vec<String> {
    let mut lines = Vec::new();
    if let (Some(first), Some(last)) = (report.steps.first(), report.steps.last()) {
        let steps = plural(report.steps.len(), "step");
        lines.push(format!("{steps}: loss {:.4} before the first, {:.4} before the last", first.loss, last.loss));
    }
    if let (Some(first), Some(last), Some(best)) = (report.held_out.first(), report.held_out.last(), report.best()) {
        let least = match best.steps == last.steps {
            true => String::new(),
            false => format!(", least {:.3} after {}", best.perplexity, plural(best.steps, "step")),
        };
        lines.push(format!("held-out perplexity {:.3} → {:.3}{least}", first.perplexity, last.perplexity));
    }
    let [before, after] = report.zeros;
    if before > 0 {
        lines.push(format!("zeros in the linears of blocks: {before} before, {after} after"));
    }
    let (took, memory) = (time(report.seconds), report.peak_rss_mib);
    lines.push(format!("{took}, {memory:.0} MiB of memory; written to {}", report.out));
    lines
}
