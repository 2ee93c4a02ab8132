//! Differences of two runs.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{LayerReport, Report};

/// Differences of two runs; the first is the one to compare with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Choices of the plan that differ.
    pub plan: Vec<ValueDifference>,
    /// Properties of program and machine that differ.
    pub environment: Vec<ValueDifference>,
    /// Numbers of the whole runs that either has, unless both are 0.
    pub numbers: Vec<NumberDifference>,
    /// Seconds of each stage.
    pub stages: Vec<NumberDifference>,
    /// Mean error of the layers of each kind, over the layers for which both runs have an error.
    pub kinds: Vec<NumberDifference>,
    /// Layers that both have, those with the largest ratio of errors first, then by bits.
    pub layers: Vec<LayerDifference>,
    /// Layers that only the first run compressed.
    pub only_first: Vec<String>,
    /// Layers that only the second run compressed.
    pub only_second: Vec<String>,
}

/// A value that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValueDifference {
    /// Its path in the report, such as `recipe.rounding.element`.
    pub key: String,
    /// In the first run; null if it has none.
    pub first: Value,
    /// In the second run; null if it has none.
    pub second: Value,
}

/// A number of both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NumberDifference {
    /// Its name: a key of the report, a stage, or a kind of linear.
    pub name: String,
    /// Its unit: `bits`, `bytes`, `s`, `MiB`, `share`; empty if it has none.
    pub unit: &'static str,
    /// In the first run.
    pub first: Option<f64>,
    /// In the second run.
    pub second: Option<f64>,
    /// Second minus first, if there are both.
    pub difference: Option<f64>,
    /// Second divided by first, if there are both and the first is not 0.
    pub ratio: Option<f64>,
}

/// A layer of both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerDifference {
    /// Module path.
    pub name: String,
    /// Block, counted from 0.
    pub block: usize,
    /// Kind of linear.
    pub kind: String,
    /// Its error.
    pub error: NumberDifference,
    /// Its bits per weight.
    pub bits: NumberDifference,
}

impl NumberDifference {
    /// Compares two optional values; non-finite ones count as absent.
    pub fn new(name: &str, unit: &'static str, first: Option<f64>, second: Option<f64>) -> Self {
        let (first, second) = (first.filter(|v| v.is_finite()), second.filter(|v| v.is_finite()));
        let both = first.zip(second);
        Self {
            name: name.to_string(),
            unit,
            first,
            second,
            difference: both.map(|(first, second)| second - first),
            ratio: both.filter(|(first, _)| *first != 0.0).map(|(first, second)| second / first),
        }
    }

    /// Absolute logarithm of the ratio; infinite if only one of the two is 0.
    fn distance(&self) -> Option<f64> {
        match (self.first?, self.second?) {
            (a, b) if a == b => Some(0.0),
            (a, b) if a > 0.0 && b > 0.0 => Some((b / a).ln().abs()),
            _ => Some(f64::INFINITY),
        }
    }
}

impl Difference {
    /// Compares the second run with the first.
    pub fn between(first: &Report, second: &Report) -> Self {
        let by_name = |report: &Report| report.layers.iter().map(|l| (l.name.clone(), l.clone())).collect();
        let (ours, theirs): (BTreeMap<String, LayerReport>, BTreeMap<String, LayerReport>) =
            (by_name(first), by_name(second));
        let mut layers: Vec<LayerDifference> =
            ours.values().filter_map(|a| Some(LayerDifference::new(a, theirs.get(&a.name)?))).collect();
        // By block and name if nothing else decides.
        layers.sort_by(|a, b| (a.block, &a.name).cmp(&(b.block, &b.name)));
        layers.sort_by(|a, b| b.distance().total_cmp(&a.distance()).then(b.bits_apart().total_cmp(&a.bits_apart())));
        let missing = |from: &BTreeMap<String, LayerReport>, of: &BTreeMap<String, LayerReport>| {
            of.keys().filter(|name| !from.contains_key(*name)).cloned().collect()
        };
        Self {
            plan: choices(&first.plan, &second.plan),
            environment: choices(&surroundings(first), &surroundings(second)),
            numbers: numbers(first, second),
            stages: stages(first, second),
            kinds: kinds(&layers),
            only_first: missing(&theirs, &ours),
            only_second: missing(&ours, &theirs),
            layers,
        }
    }
}

impl LayerDifference {
    fn new(a: &LayerReport, b: &LayerReport) -> Self {
        Self {
            name: a.name.clone(),
            block: a.block,
            kind: a.kind.clone(),
            error: NumberDifference::new("error", "", a.error, b.error),
            bits: NumberDifference::new("bits", "bits", Some(a.bits), Some(b.bits)),
        }
    }

    /// Distance of the errors; layers without errors come last.
    fn distance(&self) -> f64 {
        self.error.distance().unwrap_or(-1.0)
    }

    fn bits_apart(&self) -> f64 {
        self.bits.difference.unwrap_or(0.0).abs()
    }
}

/// The environment with the device.
fn surroundings(report: &Report) -> Value {
    let mut value = serde_json::json!(report.environment);
    value["device"] = report.place.words().into();
    value
}

/// All values that differ, in the order of the first, then those that only the second has.
fn choices(first: &Value, second: &Value) -> Vec<ValueDifference> {
    let (ours, theirs) = (leaves(first), leaves(second));
    let by_key = |list: &[(String, Value)]| list.iter().cloned().collect::<BTreeMap<String, Value>>();
    let (known, others) = (by_key(&ours), by_key(&theirs));
    let keys = ours.iter().chain(theirs.iter().filter(|(key, _)| !known.contains_key(key))).map(|(key, _)| key);
    let find = |values: &BTreeMap<String, Value>, key: &str| values.get(key).cloned().unwrap_or_default();
    let choice =
        |key: &String| ValueDifference { key: key.clone(), first: find(&known, key), second: find(&others, key) };
    keys.map(choice).filter(|choice| choice.first != choice.second).collect()
}

/// The values that contain no others, with their paths: `{"a": {"b": [1, 2]}}` is `a.b` and `[1, 2]`. Lists of plain values
/// are values; those of objects are taken apart, as `list.0.key`.
pub fn leaves(value: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    walk(String::new(), value, &mut found);
    found
}

fn walk(path: String, value: &Value, found: &mut Vec<(String, Value)>) {
    let under = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
    match value {
        Value::Object(object) if !object.is_empty() => {
            object.iter().for_each(|(key, value)| walk(under(key), value, found));
        }
        Value::Array(list) if list.iter().any(|entry| entry.is_object()) => {
            list.iter().enumerate().for_each(|(i, value)| walk(under(&i.to_string()), value, found));
        }
        _ => found.push((path, value.clone())),
    }
}

fn numbers(first: &Report, second: &Report) -> Vec<NumberDifference> {
    type Get = fn(&Report) -> Option<f64>;
    let rows: [(&str, &'static str, Get); 10] = [
        ("perplexity", "", |r| r.perplexity.as_ref().map(|p| p.after)),
        ("perplexity_before", "", |r| r.perplexity.as_ref().map(|p| p.before)),
        ("bits_per_weight", "bits", |r| Some(r.bits_per_weight)),
        ("bytes_out", "bytes", |r| Some(r.bytes_out as f64)),
        ("sparsity", "share", |r| Some(r.sparsity)),
        ("outlier_share", "share", |r| Some(r.outlier_share)),
        ("error", "", |r| mean(r.layers.iter().filter_map(|l| l.error))),
        ("seconds", "s", |r| Some(r.seconds)),
        ("peak_rss_mib", "MiB", |r| Some(r.peak_rss_mib)),
        ("peak_vram_mib", "MiB", |r| r.place.peak_vram_mib),
    ];
    let number =
        |(name, unit, get): (&str, &'static str, Get)| NumberDifference::new(name, unit, get(first), get(second));
    let has = |number: Option<f64>| number.is_some_and(|number| number != 0.0);
    let present = |n: &NumberDifference| has(n.first) || has(n.second);
    rows.into_iter().map(number).filter(present).collect()
}

/// Seconds by stage, in the order of the first run.
fn stages(first: &Report, second: &Report) -> Vec<NumberDifference> {
    let seconds = |r: &Report, name: &str| r.stages.iter().find(|s| s.stage == name).map(|s| s.seconds);
    let more = second.stages.iter().filter(|s| seconds(first, &s.stage).is_none());
    let names = first.stages.iter().chain(more).map(|s| &s.stage);
    names.map(|name| NumberDifference::new(name, "s", seconds(first, name), seconds(second, name))).collect()
}

/// Mean errors by kind, by name.
fn kinds(layers: &[LayerDifference]) -> Vec<NumberDifference> {
    let mut order: Vec<&LayerDifference> = layers.iter().filter(|l| l.error.difference.is_some()).collect();
    order.sort_by(|a, b| a.kind.cmp(&b.kind));
    let groups = order.chunk_by(|a, b| a.kind == b.kind);
    let mean_of = |group: &[&LayerDifference], get: fn(&NumberDifference) -> Option<f64>| {
        mean(group.iter().filter_map(|l| get(&l.error)))
    };
    groups
        .map(|group| {
            NumberDifference::new(&group[0].kind, "", mean_of(group, |n| n.first), mean_of(group, |n| n.second))
        })
        .collect()
}

/// The mean; `None` of nothing.
pub fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0usize, 0.0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum / count as f64)
}
