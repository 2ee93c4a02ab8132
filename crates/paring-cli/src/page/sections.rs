//! The sections of a run's page. Each is empty where there is nothing to show.

use paring::report::choices::{Choices, Exception};
use paring::report::drawing::Series;
use paring::report::outlier_map::percent;
use paring::report::words::{digits, plural};
use paring::report::{LayerReport, Report, Sizes, StageReport};
use paring_format::layouts;

use super::map::Map;
use super::markup::{self, Align, Cell, command, details, facts, list, paragraph, section, table};
use crate::option;
use crate::show::{size, stored, tasks};

/// Notes that are shown at once.
const NOTES: usize = 12;

/// Time and memory by stage.
pub fn stages(report: &Report) -> String {
    let longest = report.stages.iter().map(|s| s.seconds).fold(0.0, f64::max);
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
            Cell::text(format!("{:.0}", s.peak_rss_mib)),
        ]
    };
    let columns = [
        ("Stage", Align::Left),
        ("Time", Align::Bar),
        ("Seconds", Align::Right),
        ("Share", Align::Wide),
        ("GFLOP/s", Align::Wide),
        ("Memory, MiB", Align::Right),
    ];
    let about = "Time and peak memory per stage. Background I/O is not counted.";
    section("Time and memory", &(paragraph(about) + &table(&columns, report.stages.iter().map(row))))
}

/// Maps of bits and zeros over blocks and kinds; a sentence where all layers have the same.
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
    let zeros = report.is_pruned() && !report.layers.is_empty();
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
        (true, true) => "Bits and zeros by layer",
        (true, false) => "Bits by layer",
        (false, true) => "Zeros by layer",
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
    rows.push(of("Total", report.bytes_in, report.bytes_out));
    let columns = [
        ("Tensors", Align::Left),
        ("Before and after", Align::Bar),
        ("Before", Align::Right),
        ("After", Align::Right),
        ("Remaining", Align::Wide),
    ];
    section("Size", &table(&columns, rows.into_iter()))
}

/// Perplexity, where it was measured.
pub fn perplexity(report: &Report) -> String {
    let Some(measured) = &report.perplexity else { return String::new() };
    let change = measured.after - measured.before;
    let percent =
        if measured.before > 0.0 { format!(", {}", stored::change(change / measured.before)) } else { String::new() };
    let windows = if measured.windows == 1 { "window" } else { "windows" };
    let about = format!(
        "{} before and {} after ({}{percent}), on {} {windows} of {} tokens of {}.",
        digits(measured.before),
        digits(measured.after),
        stored::signed(change, ""),
        measured.windows,
        measured.seqlen,
        measured.dataset
    );
    section("Perplexity", &paragraph(&about))
}

/// Tasks, where the run was judged by some.
pub fn tasks(report: &Report) -> String {
    let Some(judged) = &report.tasks else { return String::new() };
    let rows = judged.before.iter().zip(&judged.after).flat_map(|(before, after)| {
        before.metrics.iter().zip(&after.metrics).map(move |(old, new)| {
            let found = judged.differences.iter().find(|one| one.task == after.task && one.metric == new.metric);
            let name = format!("{} {}", after.task, new.metric);
            let difference = found.map(tasks::difference).unwrap_or_default();
            let documents = after.documents.to_string();
            [name, documents, tasks::with_error(old), tasks::with_error(new), difference]
                .into_iter()
                .map(Cell::text)
                .collect()
        })
    });
    let columns = [
        ("Task", Align::Left),
        ("Documents", Align::Right),
        ("Before", Align::Right),
        ("After", Align::Right),
        ("Difference, of paired documents", Align::Left),
    ];
    section("Tasks", &table(&columns, rows))
}

/// The choices of the run, by the options that make them.
pub fn plan(report: &Report, choices: &Choices) -> String {
    let mut html = String::new();
    if !report.command.is_empty() {
        html += &command(&report.command);
    }
    let choice = |exception: &Exception| {
        let line = exception.recipe.as_ref().map(|recipe| {
            let typed = recipe.iter().map(|choice| choice.spelled(option)).collect::<Vec<_>>().join(" ");
            if typed.is_empty() { "as the others".to_string() } else { typed }
        });
        (format!("linears {}", exception.targets), line.unwrap_or_else(|| "not compressed".into()))
    };
    let others = choices.overrides.iter().map(choice);
    html += &facts("Option", choices.all().map(markup::typed).chain(others));
    section("Plan", &html)
}

/// Program and machine.
pub fn environment(report: &Report) -> String {
    section("Environment", &facts("", stored::environment(report).into_iter()))
}

/// Notes, repairs, and layers that are stored as the baseline has them.
pub fn notes(report: &Report, baseline: &str) -> String {
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
        html += &details(&format!("{} stored with {baseline}", plural(fallback.len(), "layer")), &list(&fallback));
    }
    let repaired: Vec<&LayerReport> = report.layers.iter().filter(|l| !l.repairs.is_empty()).collect();
    if !repaired.is_empty() {
        let row = |l: &&LayerReport| vec![Cell::text(&l.name), Cell::text(l.repairs.join("; "))];
        let columns = [("Layer", Align::Left), ("Repair", Align::Left)];
        let rows = table(&columns, repaired.iter().map(row));
        html += &details(&format!("{} repaired", plural(repaired.len(), "layer")), &rows);
    }
    if html.is_empty() { html } else { section("Notes", &html) }
}
