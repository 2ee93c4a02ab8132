//! The page of two runs or more.

use std::collections::BTreeMap;

use paring::report::Report;
use paring::report::comparison::{Comparison, Differing, Judged, Run};
use paring::report::difference::{Difference, LayerDifference, NumberDifference, ValueDifference};
use paring::report::drawing::Series;
use paring::report::words::{digits, memory, plural, time};

use super::chart::Chart;
use super::markup::{Align, Cell, details, facts, list, paragraph, section, table};
use super::{document, header, scatter};
use crate::option;
use crate::show::{comparison as words, size, stored};

/// Outputs that the heading names, and their letters.
const NAMED: usize = 3;
const LETTERS: usize = 80;
/// Layers that are shown at once.
const LAYERS: usize = 20;

/// The page of runs side by side; of two, with all numbers in which they differ.
pub fn of_many(reports: &[Report], comparison: &Comparison, two: Option<&Difference>) -> String {
    let runs = &comparison.runs;
    let names = runs.iter().map(|run| run.out.as_str()).collect::<Vec<_>>().join(", ");
    let title = match runs.len() <= NAMED && names.chars().count() <= LETTERS {
        true => format!("Comparison of {names}"),
        false => format!("Comparison of {} runs", runs.len()),
    };
    let mut body = header(&title, &about(reports));
    body += &format!(
        "<div class=\"headline\">{}</div>\n",
        words::headline(comparison).iter().map(|line| paragraph(line)).collect::<String>()
    );
    body += &section("Runs", &(table_of(comparison) + &scatter::draw(comparison)));
    body += &section("Options that differ", &options(comparison));
    if !comparison.tasks.is_empty() {
        body += &section("Tasks", &tasks(comparison));
    }
    match two {
        Some(difference) => body += &in_detail(reports, comparison, difference),
        None => body += &section("Layers that differ most", &layers(comparison)),
    }
    let program = reports.first().map_or("paring", |report| report.environment.program.as_str());
    document(&title, program, &body)
}

/// The models, once each.
fn about(reports: &[Report]) -> String {
    let mut models: Vec<&str> = reports.iter().filter_map(|report| report.plan.get("model")?.as_str()).collect();
    models.dedup();
    models.truncate(NAMED);
    models.join(", ")
}

fn table_of(comparison: &Comparison) -> String {
    let any = |has: fn(&Run) -> bool| comparison.runs.iter().any(has);
    let number = |value: Option<f64>| Cell::text(value.map_or("–".to_string(), digits));
    type Get = Box<dyn Fn(&Run) -> Cell>;
    let mut columns: Vec<(&str, Align, Get)> = vec![
        ("Run", Align::Left, Box::new(|run| Cell::named(&run.label, &run.out))),
        (
            "Scheme",
            Align::Left,
            Box::new(|run| {
                let typed: Vec<String> = run.choices.iter().map(|choice| choice.spelled(option)).collect();
                Cell::with_note(&run.scheme, &typed)
            }),
        ),
        ("Bits", Align::Right, Box::new(|run| Cell::text(format!("{:.2}", run.bits_per_weight)))),
        ("Size", Align::Right, Box::new(|run| Cell::text(size(run.bytes_out)))),
    ];
    if any(|run| run.perplexity.is_some()) {
        columns.push(("Perplexity", Align::Right, Box::new(move |run| number(run.perplexity))));
    }
    if any(|run| run.error.is_some()) {
        columns.push(("Mean error", Align::Right, Box::new(move |run| number(run.error))));
    }
    columns.push(("Time", Align::Right, Box::new(|run| Cell::text(time(run.seconds)))));
    columns.push(("Memory", Align::Right, Box::new(|run| Cell::text(memory(run.peak_rss_mib)))));
    let heads: Vec<(&str, Align)> = columns.iter().map(|(name, align, _)| (*name, *align)).collect();
    table(&heads, comparison.runs.iter().map(|run| columns.iter().map(|(_, _, get)| get(run)).collect()))
}

/// A row for each option and a column for each run, or the other way round where there are more runs.
fn options(comparison: &Comparison) -> String {
    let Comparison { runs, options, .. } = comparison;
    if options.is_empty() {
        return paragraph("None.");
    }
    let value = |differing: &Differing, i: usize| Cell::text(words::value(differing.values[i].as_deref()));
    if runs.len() > options.len().max(words::FEW) {
        let names: Vec<String> = options.iter().map(words::name).collect();
        let heads = std::iter::once(("Run", Align::Left)).chain(names.iter().map(|name| (name.as_str(), Align::Left)));
        let row = |(i, run): (usize, &Run)| {
            std::iter::once(Cell::named(&run.label, &run.out)).chain(options.iter().map(|d| value(d, i))).collect()
        };
        return table(&heads.collect::<Vec<_>>(), runs.iter().enumerate().map(row));
    }
    let heads =
        std::iter::once(("Option", Align::Left)).chain(runs.iter().map(|run| (run.label.as_str(), Align::Left)));
    let row = |differing: &Differing| {
        let values = (0..runs.len()).map(|i| value(differing, i));
        std::iter::once(Cell::path(&words::name(differing))).chain(values).collect()
    };
    table(&heads.collect::<Vec<_>>(), options.iter().map(row))
}

/// Metrics of tasks, a column for each run.
fn tasks(comparison: &Comparison) -> String {
    let heads = comparison.runs.iter().map(|run| (run.label.as_str(), Align::Left));
    let heads: Vec<(&str, Align)> = std::iter::once(("Task", Align::Left)).chain(heads).collect();
    let row = |judged: &Judged| {
        let values = (0..judged.values.len()).map(|run| Cell::text(words::answered(judged, run)));
        std::iter::once(Cell::text(format!("{} {}", judged.task, judged.metric))).chain(values).collect()
    };
    table(&heads, comparison.tasks.iter().map(row))
}

/// Errors of the layers that differ most, a column for each run that has any.
fn layers(comparison: &Comparison) -> String {
    let Comparison { runs, layers, .. } = comparison;
    if layers.is_empty() {
        return paragraph("No layer has an error in two runs.");
    }
    let has = |i: &usize| layers.iter().any(|layer| layer.errors[*i].is_some());
    let shown: Vec<usize> = (0..runs.len()).filter(has).collect();
    let heads =
        std::iter::once(("Error of", Align::Left)).chain(shown.iter().map(|i| (runs[*i].label.as_str(), Align::Right)));
    let rows = layers.iter().map(|layer| {
        let errors = shown.iter().map(|i| Cell::text(layer.errors[*i].map_or("–".to_string(), digits)));
        std::iter::once(Cell::path(&layer.name)).chain(errors).collect()
    });
    table(&heads.collect::<Vec<_>>(), rows)
}

/// All numbers in which the second of two runs differs from the first.
fn in_detail(reports: &[Report], comparison: &Comparison, difference: &Difference) -> String {
    let mut html = section("Numbers", &numbers("Number", &words::numbers(comparison, difference), stored::words));
    html += &errors(&reports[0], difference);
    html += &differing_layers(difference);
    if !difference.stages.is_empty() {
        html += &section("Time by stage", &numbers("Stage", &difference.stages, |name| name));
    }
    let row =
        |c: &ValueDifference| (c.key.clone(), format!("{} → {}", stored::plain(&c.first), stored::plain(&c.second)));
    html + &section(
        "Environment",
        &match difference.environment.is_empty() {
            true => paragraph("The same in both."),
            false => facts("", difference.environment.iter().map(row)),
        },
    )
}

fn numbers(what: &str, numbers: &[NumberDifference], words: fn(&str) -> &str) -> String {
    let row = |n: &NumberDifference| {
        vec![
            Cell::text(words(&n.name)),
            Cell::text(stored::value(n.first, n.unit)),
            Cell::text(stored::value(n.second, n.unit)),
            Cell::text(n.difference.map_or(String::new(), |by| stored::signed(by, n.unit))),
            Cell::text(n.ratio.map_or(String::new(), |ratio| format!("{ratio:.3}"))),
        ]
    };
    let columns = [
        (what, Align::Left),
        ("A", Align::Right),
        ("B", Align::Right),
        ("B − A", Align::Right),
        ("B / A", Align::Wide),
    ];
    table(&columns, numbers.iter().map(row))
}

/// Errors by kind and over depth; nothing where the runs have none in common.
fn errors(first: &Report, difference: &Difference) -> String {
    if difference.kinds.is_empty() {
        return String::new();
    }
    // In the order of the layers, which that of differences is not.
    let order: BTreeMap<&str, usize> = first.layers.iter().enumerate().map(|(i, l)| (l.name.as_str(), i)).collect();
    let mut layers: Vec<&LayerDifference> = difference.layers.iter().collect();
    layers.sort_by_key(|l| order.get(l.name.as_str()));
    let values = layers.iter().filter_map(|l| Some((l.kind.as_str(), l.block, l.name.as_str(), l.error.ratio?)));
    let ratios = Series::of(values);
    let chart = Chart {
        id: "ratios",
        title: "Error of B relative to A.",
        about: "Below 1: B is closer to its input.",
        unit: "times the error of A",
        mark: Some(1.0),
        rows: None,
    };
    let html = if ratios.is_empty() { String::new() } else { chart.draw(&ratios) };
    section("Error by layer", &(html + &numbers("Mean error by kind", &difference.kinds, |name| name)))
}

/// The layers that differ most, and those that only one of the runs compressed.
fn differing_layers(difference: &Difference) -> String {
    let differing: Vec<&LayerDifference> =
        difference.layers.iter().filter(|l| l.error.difference.is_some_and(|by| by != 0.0)).collect();
    let row = |l: &&LayerDifference| {
        let (error, bits) = (&l.error, &l.bits);
        let mut cells = vec![Cell::path(&l.name)];
        cells.extend([error.first, error.second].map(|v| Cell::text(stored::value(v, ""))));
        cells.push(Cell::text(error.ratio.map_or(String::new(), |ratio| format!("{ratio:.3}"))));
        cells.extend([bits.first, bits.second].map(|v| Cell::text(stored::value(v, "bits"))));
        cells
    };
    let columns = [
        ("Layer", Align::Left),
        ("Error of A", Align::Right),
        ("Error of B", Align::Right),
        ("B / A", Align::Right),
        ("Bits of A", Align::Right),
        ("Bits of B", Align::Right),
    ];
    let (most, more) = differing.split_at(differing.len().min(LAYERS));
    let mut html = match most {
        [] if difference.kinds.is_empty() => paragraph("No layer has an error in both runs."),
        [] => paragraph("All errors are the same."),
        _ => table(&columns, most.iter().map(row)),
    };
    if !more.is_empty() {
        html += &details(&format!("{} more", plural(more.len(), "layer")), &table(&columns, more.iter().map(row)));
    }
    for (run, only) in [("A", &difference.only_first), ("B", &difference.only_second)] {
        if !only.is_empty() {
            html += &details(&format!("{} that only {run} compressed", plural(only.len(), "layer")), &list(only));
        }
    }
    section("Layers that differ most", &html)
}
