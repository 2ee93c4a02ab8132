//! A report in the files of other programs: [`tensorboard`] and [`wandb`].
//!
//! Both show the same: numbers by block, named with the kind of linear after a slash (`error/q_proj`), the numbers of the
//! whole run, and the plan. They are made of the report alone; the same report gives the same bytes.

mod protobuf;
pub mod tensorboard;
pub mod wandb;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use time::UtcDateTime;

use crate::report::training::TrainingReport;
use crate::report::{Environment, Report, moment};
use crate::{Error, Result};

/// The program that writes.
const PROGRAM: &str = concat!("paring ", env!("CARGO_PKG_VERSION"));

/// The numbers of each block, by name, in the order of blocks: means over the linears of a kind, and the seconds of their
/// sweeps. Non-finite numbers are left out, as JSON has none.
fn by_block(report: &Report) -> BTreeMap<usize, BTreeMap<String, f64>> {
    let mut sums: BTreeMap<usize, BTreeMap<String, (f64, usize)>> = BTreeMap::new();
    for layer in &report.layers {
        let block = sums.entry(layer.block).or_default();
        let weights = layer.weights().max(1.0);
        let numbers = [
            ("error", layer.error),
            ("baseline_error", layer.baseline_error),
            ("bits", Some(layer.bits)),
            ("sparsity", Some(layer.sparsity)),
            ("outlier_share", Some(layer.outliers as f64 / weights)),
        ];
        for (name, value) in numbers {
            if let Some(value) = value.filter(|value| value.is_finite()) {
                let sum = block.entry(format!("{name}/{}", layer.kind)).or_default();
                *sum = (sum.0 + value, sum.1 + 1);
            }
        }
        let seconds = block.entry("sweep_seconds".to_string()).or_default();
        *seconds = (seconds.0 + layer.seconds, 1);
    }
    let means = |block: BTreeMap<String, (f64, usize)>| {
        block.into_iter().map(|(name, (sum, count))| (name, sum / count as f64)).collect()
    };
    sums.into_iter().map(|(i, block)| (i, means(block))).collect()
}

/// The numbers of the whole run, by their names in the report. Non-finite ones are left out.
fn of_run(report: &Report) -> Vec<(String, f64)> {
    let mut numbers = vec![
        ("seconds", Some(report.seconds)),
        ("peak_rss_mib", Some(report.peak_rss_mib)),
        ("peak_vram_mib", report.place.peak_vram_mib),
        ("bits_before", Some(report.bits_before)),
        ("bits_per_weight", Some(report.bits_per_weight)),
        ("sparsity", Some(report.sparsity)),
        ("outlier_share", Some(report.outlier_share)),
        ("bytes_in", Some(report.bytes_in as f64)),
        ("bytes_out", Some(report.bytes_out as f64)),
    ];
    if let Some(perplexity) = &report.perplexity {
        numbers.push(("perplexity_before", Some(perplexity.before)));
        numbers.push(("perplexity_after", Some(perplexity.after)));
    }
    let judged = report.tasks.iter().flat_map(|tasks| [("before", &tasks.before), ("after", &tasks.after)]);
    let judged = judged.flat_map(|(when, results)| {
        let named = results.iter().flat_map(|result| result.metrics.iter().map(move |metric| (result, metric)));
        named.map(move |(result, metric)| (format!("tasks/{}/{}_{when}", result.task, metric.metric), metric.value))
    });
    let stages = report.stages.iter().map(|stage| (format!("seconds/{}", stage.stage), stage.seconds));
    let numbers = numbers.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
    numbers.chain(judged).chain(stages).filter(|(_, value)| value.is_finite()).collect()
}

/// A run in a few words and numbers.
pub struct About<'a> {
    /// The output folder.
    pub out: &'a str,
    /// The start, UTC, as RFC 3339 writes it.
    pub started: &'a str,
    /// Seconds that it took.
    pub seconds: f64,
    /// The kind of work.
    pub job: &'static str,
    /// Its method.
    pub method: &'a str,
    /// Remarks.
    pub notes: &'a [String],
}

/// A report as other programs see it.
pub trait Exported: serde::Serialize {
    /// The run.
    fn about(&self) -> About<'_>;
    /// All choices by name.
    fn choices(&self) -> BTreeMap<String, Value>;
    /// Numbers by name, of each block or step.
    fn by_step(&self) -> BTreeMap<usize, BTreeMap<String, f64>>;
    /// Numbers of the whole run by name.
    fn of_run(&self) -> Vec<(String, f64)>;
}

impl Exported for Report {
    fn about(&self) -> About<'_> {
        let Report { out, started, seconds, method, notes, .. } = self;
        About { out, started, seconds: *seconds, job: "compress", method, notes }
    }

    fn choices(&self) -> BTreeMap<String, Value> {
        let mut choices = choices(&self.plan, &self.environment);
        choices.insert("command".into(), crate::report::quoted(&self.command).into());
        choices
    }

    fn by_step(&self) -> BTreeMap<usize, BTreeMap<String, f64>> {
        by_block(self)
    }

    fn of_run(&self) -> Vec<(String, f64)> {
        of_run(self)
    }
}

impl Exported for TrainingReport {
    fn about(&self) -> About<'_> {
        let TrainingReport { out, started, seconds, .. } = self;
        About { out, started, seconds: *seconds, job: "finetune", method: "finetune", notes: &[] }
    }

    fn choices(&self) -> BTreeMap<String, Value> {
        choices(&self.plan, &self.environment)
    }

    fn by_step(&self) -> BTreeMap<usize, BTreeMap<String, f64>> {
        let mut steps: BTreeMap<usize, BTreeMap<String, f64>> = BTreeMap::new();
        let mut add = |step: usize, name: &str, value: f64| {
            if value.is_finite() {
                steps.entry(step).or_default().insert(name.to_string(), value);
            }
        };
        for step in &self.steps {
            add(step.step, "loss", step.loss);
            add(step.step, "cross_entropy", step.cross_entropy);
            add(step.step, "gradient_norm", step.gradient_norm);
            add(step.step, "learning_rate", step.rate);
            for (name, part) in [("divergence", step.divergence), ("states", step.states)] {
                if part != 0.0 {
                    add(step.step, name, part);
                }
            }
        }
        for measured in &self.held_out {
            add(measured.steps, "held_out_perplexity", measured.perplexity);
        }
        steps
    }

    fn of_run(&self) -> Vec<(String, f64)> {
        let [before, after] = self.zeros;
        let numbers = [
            ("seconds", Some(self.seconds)),
            ("peak_rss_mib", Some(self.peak_rss_mib)),
            ("trained", Some(self.trained as f64)),
            ("zeros_before", Some(before as f64)),
            ("zeros_after", Some(after as f64)),
            ("perplexity_before", self.held_out.first().map(|measured| measured.perplexity)),
            ("perplexity_after", self.held_out.last().map(|measured| measured.perplexity)),
        ];
        let numbers = numbers.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
        numbers.filter(|(_, value)| value.is_finite()).collect()
    }
}

/// Start of the run. Errors when the report does not give it in a form that can be read.
fn started(report: &impl Exported) -> Result<UtcDateTime> {
    let About { out, started: got, .. } = report.about();
    moment::parse(got).ok_or_else(|| {
        let reason = format!("its report began at {got:?}, expected such as 2026-01-31T23:59:59Z");
        Error::content(out, reason)
    })
}

/// Name of the run: its output folder, without the path. It becomes a part of paths, and no text of a report may lead
/// out of a folder.
fn name(report: &impl Exported) -> String {
    let last = Path::new(report.about().out).file_name().map(|name| name.to_string_lossy().into_owned());
    last.unwrap_or_else(|| "run".to_string())
}

/// The plan of a run, one entry per choice, with the program.
fn choices(plan: &Value, environment: &Environment) -> BTreeMap<String, Value> {
    let plan = plan.as_object().into_iter().flatten();
    let mut choices: BTreeMap<String, Value> = plan.map(|(key, value)| (key.clone(), value.clone())).collect();
    choices.insert("program".into(), environment.program.clone().into());
    choices
}

#[cfg(test)]
mod tests;
