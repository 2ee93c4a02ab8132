//! The sections of a run's page. Each is empty where there is nothing to show.

use paring::report::outlier_map::percent;
use paring::report::{LayerReport, Report, Sizes, StageReport};
use paring_format::layouts;

use super::chart::Series;
use super::map::Map;
use super::markup::{self, Align, Cell, details, list, paragraph, section, table};
use crate::show::{size, stored};

/// Least share of zeros that is worth a map.
const ZEROS: f64 = 0.005;
/// Notes that are shown at once.
const NOTES: usize = 12;

/// Time and memory by stage.
pub fn stages(report: &Report) -> String {
    let longest = report.stages.iter().map(|s| s.seconds).fold(0.0, f64::max);
    let fullest = report.stages.iter().map(|s| s.peak_rss_mib).fold(0.0, f64::max);
    if longest <= 0.0 {
        return String::new();
    }
    let sum: f64 = report.stages.iter().map(|s| s.seconds).sum();
    let row = |s: &StageReport| {
        vec![
            Cell::text(&s.stage),
            Cell::bars(&[s.seconds / longest]),
            Cell::text(stored::seconds(s.seconds)),
            Cell::text(percent(s.seconds / sum)),
            Cell::text(s.gigaflop_per_second.map_or(String::new(), |rate| format!("{rate:.0}"))),
            Cell::bars(&[s.peak_rss_mib / fullest.max(1.0)]),
            Cell::text(format!("{:.0}", s.peak_rss_mib)),
        ]
    };
    let columns = [
        ("Stage", Align::Left),
        ("Time", Align::Bar),
        ("Seconds", Align::Right),
        ("Share", Align::Wide),
        ("GFLOP/s", Align::Wide),
        ("Memory", Align::Bar),
        ("MiB", Align::Right),
    ];
    let about = "Seconds of the main thread, and the most resident memory seen in each stage. What reads and writes \
                 beside the computation takes no time here.";
    section("Time and memory", &(paragraph(about) + &table(&columns, report.stages.iter().map(row))))
}

/// Maps of zeros and bits over blocks and kinds.
pub fn maps(report: &Report) -> String {
    let mut maps = String::new();
    let packed = report.layers.iter().any(|l| l.format != layouts::DENSE.name());
    if packed {
        let bits = Map {
            id: "bits",
            title: "Bits on disk per weight",
            span: 1.0,
            most: f64::INFINITY,
            words: |v| format!("{v:.2} bits"),
            digits: |v| format!("{v:.2}"),
        };
        maps += &bits.draw(&report.layers, |l| l.bits);
    }
    let zeros = report.layers.iter().any(|l| l.sparsity >= ZEROS);
    if zeros {
        let map = Map {
            id: "zeros",
            title: "Share of zeros",
            span: 0.1,
            most: 1.0,
            words: |v| format!("{:.1} %", 100.0 * v),
            digits: |v| format!("{:.1}", 100.0 * v),
        };
        maps += &map.draw(&report.layers, |l| l.sparsity);
    }
    let heading = match (packed, zeros) {
        (true, true) => "Bits and zeros",
        (true, false) => "Bits",
        (false, true) => "Zeros",
        (false, false) => return String::new(),
    };
    section(heading, &maps)
}

/// Shares of outliers, where a method keeps any.
pub fn outliers(report: &Report) -> String {
    if report.layers.iter().all(|l| l.outliers == 0) {
        return String::new();
    }
    let share = |l: &LayerReport| l.outliers as f64 / l.weights().max(1.0);
    let of_kind = |kind: &str| {
        let layers = || report.layers.iter().filter(|l| l.kind == kind);
        let (kept, of) = (
            layers().fold(0usize, |sum, l| sum.saturating_add(l.outliers)),
            layers().map(LayerReport::weights).sum::<f64>(),
        );
        (kept, kept as f64 / of.max(1.0))
    };
    let kinds: Vec<String> =
        Series::by_kind(&report.layers, |l| Some(share(l))).into_iter().map(|series| series.kind).collect();
    let most = kinds.iter().map(|kind| of_kind(kind).1).fold(0.0, f64::max);
    let row = |kind: &String| {
        let (kept, share) = of_kind(kind);
        vec![
            Cell::text(kind),
            Cell::bars(&[if most > 0.0 { share / most } else { 0.0 }]),
            Cell::text(percent(share)),
            Cell::text(kept.to_string()),
        ]
    };
    let columns =
        [("Kind", Align::Left), ("Share", Align::Bar), ("Of the weights", Align::Right), ("Outliers", Align::Right)];
    let map = Map {
        id: "outliers",
        title: "Share of outliers",
        span: 0.001,
        most: 1.0,
        words: |v| format!("{:.2} %", 100.0 * v),
        digits: |v| format!("{:.2}", 100.0 * v),
    };
    let map = map.draw(&report.layers, share);
    section("Outliers", &format!("{}{map}", table(&columns, kinds.iter().map(row))))
}

/// Bytes of each part, before and after.
pub fn sizes(report: &Report) -> String {
    type Part = (&'static str, fn(&Sizes) -> u64);
    let parts: [Part; 3] = [
        ("Embeddings and head", |s| s.embeddings),
        ("Linears of the blocks", |s| s.linears),
        ("Norms and rest", |s| s.rest),
    ];
    let of = |name: &str, before: u64, after: u64| {
        let share = |bytes: u64| bytes as f64 / report.bytes_in.max(report.bytes_out).max(1) as f64;
        vec![
            Cell::text(name),
            Cell::bars(&[share(before), share(after)]),
            Cell::text(size(before)),
            Cell::text(size(after)),
            Cell::text(if before > 0 { percent(after as f64 / before as f64) } else { String::new() }),
        ]
    };
    let (before, after) = (&report.size.before, &report.size.after);
    let mut rows: Vec<Vec<Cell>> = parts.iter().map(|(name, get)| of(name, get(before), get(after))).collect();
    rows.push(of("Everything", report.bytes_in, report.bytes_out));
    let columns = [
        ("Tensors", Align::Left),
        ("Before and after", Align::Bar),
        ("Before", Align::Right),
        ("After", Align::Right),
        ("Left", Align::Wide),
    ];
    section("Size", &table(&columns, rows.into_iter()))
}

/// Perplexity, where it was measured.
pub fn perplexity(report: &Report) -> String {
    let Some(measured) = &report.perplexity else { return String::new() };
    let rows = [("Before", measured.before), ("After", measured.after)];
    let most = measured.before.max(measured.after);
    let row = |(name, value): (&str, f64)| {
        vec![
            Cell::text(name),
            Cell::bars(&[if most > 0.0 { value / most } else { 0.0 }]),
            Cell::text(stored::digits(value)),
        ]
    };
    let about = format!("Of {} windows of {} tokens of {}.", measured.windows, measured.seqlen, measured.dataset);
    let columns = [("Model", Align::Left), ("Compared", Align::Bar), ("Perplexity", Align::Right)];
    section("Perplexity", &(paragraph(&about) + &table(&columns, rows.into_iter().map(row))))
}

/// Notes, repairs, and layers that were rounded to nearest instead.
pub fn notes(report: &Report) -> String {
    let mut html = String::new();
    let (first, more) = report.notes.split_at(report.notes.len().min(NOTES));
    if !first.is_empty() {
        html += &list(first);
    }
    if !more.is_empty() {
        html += &details(&format!("{} more notes", more.len()), &list(more));
    }
    let fallback: Vec<&str> = report.layers.iter().filter(|l| l.fallback).map(|l| l.name.as_str()).collect();
    if !fallback.is_empty() {
        html += &details(&format!("{} rounded to nearest instead", markup::layers(fallback.len())), &list(&fallback));
    }
    let repaired: Vec<&LayerReport> = report.layers.iter().filter(|l| !l.repairs.is_empty()).collect();
    if !repaired.is_empty() {
        let row = |l: &&LayerReport| vec![Cell::text(&l.name), Cell::text(l.repairs.join("; "))];
        let columns = [("Layer", Align::Left), ("What was done", Align::Left)];
        let rows = table(&columns, repaired.iter().map(row));
        html += &details(&format!("{} repaired", markup::layers(repaired.len())), &rows);
    }
    if html.is_empty() { html } else { section("Notes and repairs", &html) }
}

/// All layers, folded away.
pub fn layers(report: &Report) -> String {
    if report.layers.is_empty() {
        return String::new();
    }
    let any = |has: fn(&LayerReport) -> bool| report.layers.iter().any(has);
    let number = |value: Option<f64>| Cell::text(value.map_or(String::new(), stored::digits));
    type Get = Box<dyn Fn(&LayerReport) -> Cell>;
    let mut columns: Vec<(&str, Align, Get)> = vec![
        ("Layer", Align::Left, Box::new(|l| Cell::text(&l.name))),
        ("Method", Align::Left, Box::new(|l| Cell::text(if l.fallback { "rounded instead" } else { &l.method }))),
        ("Layout", Align::Left, Box::new(|l| Cell::text(&l.format))),
        ("Outputs × inputs", Align::Right, Box::new(|l| Cell::text(format!("{} × {}", l.rows, l.cols)))),
        ("Bits", Align::Right, Box::new(|l| Cell::text(format!("{:.3}", l.bits)))),
        ("Zeros", Align::Right, Box::new(|l| Cell::text(format!("{:.2} %", 100.0 * l.sparsity)))),
    ];
    if any(|l| l.outliers > 0) {
        columns.push(("Outliers", Align::Right, Box::new(|l| Cell::text(l.outliers.to_string()))));
    }
    if any(|l| l.error.is_some()) {
        columns.push(("Error", Align::Right, Box::new(move |l| number(l.error))));
    }
    if any(|l| l.baseline_error.is_some()) {
        columns.push(("Error of rounding", Align::Right, Box::new(move |l| number(l.baseline_error))));
    }
    if any(|l| l.damp.is_some()) {
        columns.push(("Damping", Align::Right, Box::new(move |l| number(l.damp))));
    }
    if any(|l| l.dead > 0) {
        columns.push(("Dead inputs", Align::Right, Box::new(|l| Cell::text(l.dead.to_string()))));
    }
    columns.push(("Seconds", Align::Right, Box::new(|l| Cell::text(format!("{:.3}", l.seconds)))));
    let heads: Vec<(&str, Align)> = columns.iter().map(|(name, align, _)| (*name, *align)).collect();
    let rows = report.layers.iter().map(|l| columns.iter().map(|(_, _, get)| get(l)).collect());
    let count = markup::layers(report.layers.len());
    section("Layers", &details(&format!("All {count}"), &table(&heads, rows)))
}
