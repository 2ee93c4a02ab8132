//! All layers in a table, worst first.

use std::collections::BTreeMap;

use paring::report::choices::Choices;
use paring::report::words::{digits, plural};
use paring::report::{Change, LayerReport, Report};

use super::chart::row_id;
use super::markup::{self, Align, Cell, details, paragraph, section as titled, sortable};
use crate::show::size;

/// Layers up to which the table is unfolded.
const FEW: usize = 60;
/// Layers that are named before a folded table.
const WORST: usize = 10;
/// Bits in which nearly nothing is lost.
const SAFE: f64 = 8.0;

/// The order of the table, and the row of each layer.
pub struct Order<'a> {
    sorted: Vec<&'a LayerReport>,
    /// Rows by layer; of layers with the same name, the first.
    pub rows: BTreeMap<&'a str, usize>,
}

impl<'a> Order<'a> {
    /// The largest error first; layers without one keep their order after those.
    pub fn worst_first(layers: &'a [LayerReport]) -> Self {
        let mut sorted: Vec<&LayerReport> = layers.iter().collect();
        let key = |l: &LayerReport| l.error.unwrap_or(f64::NEG_INFINITY);
        sorted.sort_by(|a, b| key(b).total_cmp(&key(a)));
        let mut rows = BTreeMap::new();
        for (i, layer) in sorted.iter().enumerate() {
            rows.entry(layer.name.as_str()).or_insert(i);
        }
        Self { sorted, rows }
    }
}

type Get = Box<dyn Fn(&LayerReport) -> Cell>;

/// The table, and what more bits for the worst layers would cost.
pub fn section(report: &Report, order: &Order, choices: &Choices) -> String {
    let Order { sorted, .. } = order;
    if sorted.is_empty() {
        return String::new();
    }
    let columns = columns(report);
    let heads: Vec<(&str, Align)> = columns.iter().map(|(name, align, _)| (*name, *align)).collect();
    let row = |l: &&LayerReport| columns.iter().map(|(_, _, get)| get(l)).collect::<Vec<_>>();
    let rows = sorted.iter().enumerate().map(|(i, layer)| (row_id(i), row(layer)));
    let all = sortable(&heads, rows);
    let measured = sorted[0].error.is_some();
    let mut html = if measured { cost(report, sorted) } else { String::new() };
    if report.layers.iter().any(|l| l.baseline_error.is_some()) {
        html += &paragraph(&format!("The baseline is {}.", choices.baseline()));
    }
    let which = if measured { ", worst first" } else { "" };
    let count = plural(sorted.len(), "layer");
    if sorted.len() > FEW {
        if measured {
            html += &markup::table(&heads, sorted.iter().take(WORST).map(row));
        }
        html += &details(&format!("All {count}{which}"), &all);
    } else {
        html += &all;
    }
    titled("Layers", &html)
}

/// A sentence on the size of the worst layers in 8 bits.
fn cost(report: &Report, sorted: &[&LayerReport]) -> String {
    let worst = &sorted[..sorted.len().min(WORST)];
    let bits = |l: &LayerReport| l.weights() * (SAFE - l.bits);
    if worst.len() == sorted.len() || worst.iter().any(|l| l.bits >= SAFE) {
        return String::new();
    }
    let bytes = worst.iter().map(|l| bits(l)).sum::<f64>() / 8.0;
    let share = 100.0 * bytes / report.bytes_out.max(1) as f64;
    paragraph(&format!(
        "Eight bits for the {WORST} worst layers would add {} ({share:.1} % of the model).",
        size(bytes as u64)
    ))
}

fn columns(report: &Report) -> Vec<(&'static str, Align, Get)> {
    let any = |has: fn(&LayerReport) -> bool| report.layers.iter().any(has);
    let differs = |get: fn(&LayerReport) -> &str| report.layers.iter().any(|l| get(l) != get(&report.layers[0]));
    let number = |value: Option<f64>| Cell::text(value.map_or(String::new(), digits));
    let mut columns: Vec<(&str, Align, Get)> = vec![("Layer", Align::Left, Box::new(|l| Cell::path(&l.name)))];
    if any(|l| l.error.is_some()) {
        columns.push(("Error", Align::Right, Box::new(move |l| number(l.error))));
    }
    if any(|l| l.baseline_error.is_some()) {
        columns.push(("Baseline", Align::Right, Box::new(move |l| number(l.baseline_error))));
    }
    columns.push(("Bits", Align::Right, Box::new(|l| Cell::text(format!("{:.3}", l.bits)))));
    if any(|l| l.outliers > 0) {
        columns.push(("Outliers", Align::Right, Box::new(|l| Cell::text(l.outliers.to_string()))));
    }
    if report.is_pruned() {
        columns.push(("Zeros", Align::Right, Box::new(|l| Cell::text(format!("{:.2} %", 100.0 * l.sparsity)))));
    }
    columns.push(("Outputs × inputs", Align::Right, Box::new(|l| Cell::text(format!("{} × {}", l.rows, l.cols)))));
    if any(|l| l.fallback) || differs(|l| &l.method) {
        let method = |l: &LayerReport| Cell::text(if l.fallback { "baseline" } else { &l.method });
        columns.push(("Method", Align::Left, Box::new(method)));
    }
    if differs(|l| &l.format) {
        columns.push(("Format", Align::Left, Box::new(|l| Cell::text(&l.format))));
    }
    if report.layers.iter().any(|l| l.damp != report.layers[0].damp) {
        columns.push(("Damping", Align::Right, Box::new(move |l| number(l.damp))));
    }
    if any(|l| l.dead > 0) {
        columns.push(("Dead inputs", Align::Right, Box::new(|l| Cell::text(l.dead.to_string()))));
    }
    if any(|l| !l.changes.is_empty()) {
        columns.push(("Steps: error before → after", Align::Right, Box::new(|l| Cell::text(steps(l)))));
    }
    columns.push(("Seconds", Align::Right, Box::new(|l| Cell::text(format!("{:.3}", l.seconds)))));
    columns
}

/// The steps beyond the published sweep, each with the error before and after it.
fn steps(layer: &LayerReport) -> String {
    let step = |Change { step, before, after }: &Change| format!("{step} {} → {}", digits(*before), digits(*after));
    layer.changes.iter().map(step).collect::<Vec<_>>().join(", ")
}
