//! Any number of runs side by side.

use std::collections::{BTreeMap, BTreeSet};

use paring_tasks::Metric;
use serde::Serialize;

use super::choices::{Choice, Choices};
use super::difference::mean;
use super::{PerplexityReport, Report, TasksReport, words};

/// Runs that are compared at most.
pub const MOST: usize = 64;
/// Layers that are listed at most.
const LAYERS: usize = 20;

/// Runs side by side; the first is the one to compare with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The runs, in their order.
    pub runs: Vec<Run>,
    /// The number that says how good a run is, if two or more have one that can be compared.
    pub measure: Option<Measure>,
    /// Options in which the runs differ.
    pub options: Vec<Differing>,
    /// Layers whose errors differ most, at most twenty: those that two or more runs have an error of.
    pub layers: Vec<Layer>,
    /// Metrics of tasks that a run was judged by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<Judged>,
}

/// A metric of a task in all runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// The task, or a group of tasks.
    pub task: String,
    /// The metric.
    pub metric: String,
    /// It in each run.
    pub values: Vec<Option<Metric>>,
    /// The difference to the first run, where both answered the same documents; null for that one.
    pub differences: Vec<Option<paring_tasks::Comparison>>,
}

/// A number that says how good a run is; less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Perplexity, on the same tokens.
    Perplexity,
    /// The mean error of the layers, of the same model.
    Error,
}

/// A run in a line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// A, B, …, Z, AA, …
    pub label: String,
    /// The output folder.
    pub out: String,
    /// The treatment of the weights, in words.
    pub scheme: String,
    /// The same by the names of options and their values.
    pub options: Vec<(String, String)>,
    /// Bits on disk per weight of the compressed linears.
    pub bits_per_weight: f64,
    /// Bytes of the tensors of the output.
    pub bytes_out: u64,
    /// Perplexity of the output, if it was measured.
    pub perplexity: Option<f64>,
    /// Mean error of the layers, if errors were computed.
    pub error: Option<f64>,
    /// Seconds from opening the model to the checked output.
    pub seconds: f64,
    /// Highest resident memory of the process, in MiB.
    pub peak_rss_mib: f64,
    /// True if no other run has fewer bits and is as good, or is better with as many.
    pub best: bool,
    /// True if some of its weights were removed, by the run or before it.
    #[serde(skip)]
    pub is_pruned: bool,
    /// The choices that `options` lists.
    #[serde(skip)]
    pub choices: Vec<Choice>,
}

/// An option in which runs differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Differing {
    /// Its name.
    pub option: String,
    /// Its value in each run: empty for a switch that is on, null where it is not set.
    pub values: Vec<Option<String>>,
    /// True if it is an option of the command line, and not an input or a value that no option makes.
    #[serde(skip)]
    pub typed: bool,
}

/// A layer in all runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layer {
    /// Module path.
    pub name: String,
    /// Its error in each run.
    pub errors: Vec<Option<f64>>,
    /// Its bits per weight in each run.
    pub bits: Vec<Option<f64>>,
}

impl Run {
    fn new(number: usize, report: &Report, choices: &Choices) -> Self {
        let finite = |value: f64| Some(value).filter(|value| value.is_finite());
        let scheme: Vec<Choice> = choices.scheme().cloned().collect();
        Self {
            label: label(number),
            out: report.out.clone(),
            scheme: words::scheme(report),
            options: scheme.iter().map(|choice| (choice.name.clone(), choice.value.clone())).collect(),
            bits_per_weight: report.bits_per_weight,
            bytes_out: report.bytes_out,
            perplexity: report.perplexity.as_ref().and_then(|measured| finite(measured.after)),
            error: mean(report.layers.iter().filter_map(|layer| layer.error)).and_then(finite),
            seconds: report.seconds,
            peak_rss_mib: report.peak_rss_mib,
            best: false,
            is_pruned: report.is_pruned(),
            choices: scheme,
        }
    }

    /// Its number of this kind.
    pub fn quality(&self, measure: Measure) -> Option<f64> {
        match measure {
            Measure::Perplexity => self.perplexity,
            Measure::Error => self.error,
        }
    }
}

impl Comparison {
    /// Puts runs side by side; visits each layer of each run.
    pub fn of(reports: &[Report]) -> Self {
        let choices: Vec<Choices> = reports.iter().map(|report| Choices::of(&report.plan)).collect();
        let numbered = reports.iter().zip(&choices).enumerate();
        let mut runs: Vec<Run> = numbered.map(|(i, (report, choices))| Run::new(i, report, choices)).collect();
        let measure = measure(reports, &runs);
        if let Some(measure) = measure {
            let at: Vec<_> = runs.iter().map(|run| Some((run.bits_per_weight, run.quality(measure)?))).collect();
            let beats = |a: (f64, f64), b: (f64, f64)| a.0 <= b.0 && a.1 <= b.1 && a != b;
            for (run, own) in runs.iter_mut().zip(&at) {
                run.best = own.is_some_and(|own| !at.iter().flatten().any(|other| beats(*other, own)));
            }
        }
        Self { runs, measure, options: differing(&choices), layers: layers(reports), tasks: judged(reports) }
    }

    /// True if the runs had different inputs, so that errors and sizes are of different weights.
    pub fn has_other_models(&self) -> bool {
        self.options.iter().any(|differing| differing.option == "model" && !differing.typed)
    }
}

/// A, B, …, Z, AA, AB, …
fn label(number: usize) -> String {
    let letter = char::from(b'A' + (number % 26) as u8);
    match number / 26 {
        0 => letter.to_string(),
        more => label(more - 1) + &letter.to_string(),
    }
}

/// Perplexity where half of the runs have one, of the same tokens; otherwise the error, where all have the same model.
fn measure(reports: &[Report], runs: &[Run]) -> Option<Measure> {
    let same = |a: &PerplexityReport, b: &PerplexityReport| {
        (&a.dataset, a.windows, a.seqlen) == (&b.dataset, b.windows, b.seqlen)
    };
    let measured: Vec<&PerplexityReport> = reports.iter().filter_map(|report| report.perplexity.as_ref()).collect();
    let comparable = measured.iter().all(|one| same(one, measured[0]));
    // One that is not finite was measured too.
    let perplexities = if comparable { measured.len() } else { 0 };
    let model = |report: &Report| report.plan.get("model").cloned();
    let one_model = reports.iter().all(|report| model(report) == model(&reports[0]));
    let errors = if one_model { runs.iter().filter(|run| run.error.is_some()).count() } else { 0 };
    match (perplexities, errors) {
        (perplexities, errors) if perplexities > 1 && 2 * perplexities >= errors => Some(Measure::Perplexity),
        (_, errors) if errors > 1 => Some(Measure::Error),
        _ => None,
    }
}

/// Options whose values are not the same in all runs, in the order in which they first occur. A default that some methods do
/// not have is no difference.
fn differing(runs: &[Choices]) -> Vec<Differing> {
    let chosen: BTreeSet<&str> =
        runs.iter().flat_map(Choices::all).filter(|c| !c.is_default()).map(|c| c.name.as_str()).collect();
    let mut order: Vec<(String, bool)> = Vec::new();
    let mut known: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    for (i, choices) in runs.iter().enumerate() {
        let exceptions = choices.overrides.iter().map(|exception| {
            let recipe = exception.recipe.as_deref();
            let line =
                recipe.map(|recipe| recipe.iter().map(|c| c.spelled(str::to_string)).collect::<Vec<_>>().join(" "));
            (format!("linears {}", exception.targets), false, line.unwrap_or_else(|| "not compressed".into()))
        });
        let plain = choices.all().filter(|c| chosen.contains(c.name.as_str()));
        let plain = plain.map(|c| (c.name.clone(), c.option.is_some(), c.value.clone()));
        for (name, typed, value) in plain.chain(exceptions) {
            let values = known.entry(name.clone()).or_insert_with(|| {
                order.push((name, typed));
                vec![None; runs.len()]
            });
            // An option that is given several times has all its values.
            values[i] = Some(values[i].take().map_or(value.clone(), |before| format!("{before} {value}")));
        }
    }
    let differs = |values: &[Option<String>]| values.iter().any(|value| *value != values[0]);
    let found = order.into_iter().filter_map(|(option, typed)| {
        let values = known.remove(&option).filter(|values| differs(values))?;
        Some(Differing { option, values, typed })
    });
    found.collect()
}

/// The metrics of all runs that were judged by tasks.
fn judged(reports: &[Report]) -> Vec<Judged> {
    let of = |report: &Report| report.tasks.clone().unwrap_or_default();
    let tasks: Vec<TasksReport> = reports.iter().map(of).collect();
    let Some(first) = tasks.first() else { return Vec::new() };
    let against: Vec<_> = tasks.iter().map(|other| first.against(other)).collect();
    let mut all: Vec<Judged> = Vec::new();
    for (result, metric) in
        tasks.iter().flat_map(|tasks| &tasks.after).flat_map(|r| r.metrics.iter().map(move |m| (r, m)))
    {
        let (task, metric) = (&result.task, &metric.metric);
        if all.iter().any(|known| (&known.task, &known.metric) == (task, metric)) {
            continue;
        }
        let value =
            |tasks: &TasksReport| tasks.after.iter().find(|result| result.task == *task)?.metric(metric).cloned();
        let difference = |(number, found): (usize, &Vec<paring_tasks::Comparison>)| {
            let is_this = |one: &&paring_tasks::Comparison| one.task == *task && one.metric == *metric;
            found.iter().find(is_this).filter(|_| number > 0).cloned()
        };
        all.push(Judged {
            task: task.clone(),
            metric: metric.clone(),
            values: tasks.iter().map(value).collect(),
            differences: against.iter().enumerate().map(difference).collect(),
        });
    }
    all
}

/// The layers whose errors differ most.
fn layers(reports: &[Report]) -> Vec<Layer> {
    let mut found: BTreeMap<&str, Layer> = BTreeMap::new();
    for (i, report) in reports.iter().enumerate() {
        for layer in &report.layers {
            let entry = found.entry(&layer.name).or_insert_with(|| Layer {
                name: layer.name.clone(),
                errors: vec![None; reports.len()],
                bits: vec![None; reports.len()],
            });
            entry.errors[i] = layer.error.filter(|error| error.is_finite());
            entry.bits[i] = Some(layer.bits).filter(|bits| bits.is_finite());
        }
    }
    let mut spread: Vec<(f64, Layer)> = found.into_values().filter_map(|l| Some((spread(&l.errors)?, l))).collect();
    spread.sort_by(|a, b| b.0.total_cmp(&a.0));
    spread.into_iter().take(LAYERS).map(|(_, layer)| layer).collect()
}

/// The largest over the smallest of these; `None` of fewer than two, and where all are the same.
fn spread(errors: &[Option<f64>]) -> Option<f64> {
    let known = || errors.iter().flatten().copied();
    let (low, high) = (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max));
    (known().count() > 1 && low < high).then(|| if low > 0.0 { high / low } else { f64::INFINITY })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden() -> Report {
        serde_json::from_str(include_str!("../../../../tests/golden/report.json")).unwrap()
    }

    #[test]
    fn labels_after_z_have_two_letters() {
        assert_eq!([0, 1, 25, 26, 27, 51, 52, 702].map(label), ["A", "B", "Z", "AA", "AB", "AZ", "BA", "AAA"]);
    }

    #[test]
    fn the_best_are_beaten_by_none() {
        let with = |bits: f64, perplexity: f64| {
            let mut report = golden();
            report.bits_per_weight = bits;
            report.perplexity.iter_mut().for_each(|measured| measured.after = perplexity);
            report
        };
        let reports =
            [with(4.0, 9.0), with(4.0, 8.0), with(3.0, 8.5), with(5.0, 8.0), with(4.0, 8.0), with(2.0, f64::NAN)];
        let comparison = Comparison::of(&reports);
        let best: Vec<bool> = comparison.runs.iter().map(|run| run.best).collect();
        assert_eq!(best, [false, true, true, false, true, false], "equals are equally good");
        assert_eq!(comparison.measure, Some(Measure::Perplexity));
        // Two that have no perplexity are more than one that has.
        let mut few = [with(4.0, 9.0), with(3.0, 9.0), with(2.0, 9.0)];
        few[1].perplexity = None;
        few[2].perplexity = None;
        assert_eq!(Comparison::of(&few).measure, Some(Measure::Error));
        few.iter_mut().flat_map(|report| &mut report.layers).for_each(|layer| layer.error = None);
        assert_eq!(Comparison::of(&few).measure, None);
    }

    #[test]
    fn layers_need_two_errors_that_differ() {
        let [first, mut second, mut third] = [golden(), golden(), golden()];
        second.layers[1].error = None;
        third.layers[1].error = None;
        third.layers[3].error = Some(0.5);
        second.layers[0].error = Some(0.0);
        second.layers.remove(2);
        let found = Comparison::of(&[first, second, third]).layers;
        let errors: Vec<_> = found.iter().map(|layer| (layer.name.as_str(), layer.errors.clone())).collect();
        assert_eq!(
            errors,
            [
                ("layers.0.q_proj", vec![Some(0.001), Some(0.0), Some(0.001)]),
                ("layers.1.up_proj", vec![Some(0.05), Some(0.05), Some(0.5)]),
            ]
        );
    }
}
