//! A training, in lines for people.

use paring::report::training::TrainingReport;
use paring::report::words::{plural, time};
use paring::request::TrainingCosts;

use super::size;

/// Steps that a curve shows at most.
const SHOWN: usize = 20;

/// The curve: some steps, and the held-out text after them.
pub fn curve(report: &TrainingReport) -> Vec<String> {
    let every = report.steps.len().div_ceil(SHOWN).max(1);
    let mut lines = vec![format!("{:>6} {:>9} {:>9} {:>9} {:>10}", "step", "loss", "gradient", "rate", "held out")];
    for step in &report.steps {
        let held_out = report.held_out.iter().find(|measured| measured.steps == step.step);
        if !step.step.is_multiple_of(every) && held_out.is_none() {
            continue;
        }
        let held_out = held_out.map_or(String::new(), |measured| format!("{:.3}", measured.perplexity));
        let (number, loss, norm, rate) = (step.step, step.loss, step.gradient_norm, step.rate);
        lines.push(format!("{number:>6} {loss:>9.4} {norm:>9.3} {rate:>9.2e} {held_out:>10}"));
    }
    let after = report.held_out.iter().filter(|measured| measured.steps >= report.steps.len());
    lines.extend(after.map(|measured| format!("{:>6} {:>40.3}", measured.steps, measured.perplexity)));
    lines
}

/// The estimate, for people.
pub fn estimate(costs: &TrainingCosts) -> Vec<String> {
    let TrainingCosts { steps, windows, tokens, labels, held_out, trained, seconds_per_step, seconds, .. } = *costs;
    vec![
        format!(
            "{} over {} of {tokens} tokens, {labels} of them learned; {held_out} held out",
            plural(steps, "step"),
            plural(windows, "window")
        ),
        format!("about {trained} numbers train: {} written and read a step", size(costs.bytes_per_step)),
        format!("about {seconds_per_step:.1} s a step, {} in all", time(seconds)),
        format!("up to {} of memory and {} of disk", size(costs.memory), size(costs.disk)),
    ]
}

/// The result, for people.
pub fn outcome(report: &TrainingReport) -> Vec<String> {
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
