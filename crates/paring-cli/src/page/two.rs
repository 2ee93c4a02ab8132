//! The page of two runs.

use std::collections::BTreeMap;

use paring::report::Report;
use paring::report::difference::{Difference, LayerDifference, NumberDifference, ValueDifference};

use super::chart::{Chart, Series};
use super::markup::{self, Align, Cell, details, list, paragraph, section, table};
use super::{document, header, time};
use crate::show::stored;

/// Layers that are shown at once.
const LAYERS: usize = 20;

/// The page of two runs, A and B, and how B differs from A.
pub fn of_two(first: &Report, second: &Report, difference: &Difference) -> String {
    let about = format!("A is {}, B is {}", name(first), name(second));
    let mut body = header("How two runs differ", &about);
    let choices = [("Plan", &difference.plan), ("Environment", &difference.environment)];
    body += &choices.map(|(what, choices)| section(what, &differing(choices))).concat();
    body += &section("Numbers", &numbers("Number", &difference.numbers, stored::words));
    body += &errors(first, second, difference);
    if !difference.stages.is_empty() {
        body += &section("Time by stage", &numbers("Stage", &difference.stages, |name| name));
    }
    body += &layers(difference);
    document("How two runs differ", &first.environment.program, &body)
}

fn name(report: &Report) -> String {
    format!("{} ({}, {}, in {})", report.out, report.method, report.started, time(report.seconds))
}

fn differing(choices: &[ValueDifference]) -> String {
    if choices.is_empty() {
        return paragraph("The same in both.");
    }
    let row = |c: &ValueDifference| {
        [c.key.as_str(), &stored::plain(&c.first), &stored::plain(&c.second)].map(Cell::text).into()
    };
    table(&[("Choice", Align::Left), ("A", Align::Left), ("B", Align::Left)], choices.iter().map(row))
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
fn errors(first: &Report, second: &Report, difference: &Difference) -> String {
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
        title: "Error of B over that of A, by layer",
        about: "Error of each layer of B over that of the same layer of A. Below 1 B is nearer to its input.",
        unit: "times the error of A",
        mark: Some(1.0),
    };
    let mut html = if ratios.is_empty() { String::new() } else { chart.draw(&ratios) };
    let inputs = [first, second].map(|report| report.plan.get("model"));
    if inputs[0] != inputs[1] {
        html = paragraph("The two runs had different inputs: their errors are of different weights.") + &html;
    }
    section("Error", &(html + &numbers("Mean error of a kind", &difference.kinds, |name| name)))
}

/// The layers that differ most, and those that only one of the runs compressed.
fn layers(difference: &Difference) -> String {
    let differing: Vec<&LayerDifference> =
        difference.layers.iter().filter(|l| l.error.first != l.error.second || l.bits.first != l.bits.second).collect();
    let row = |l: &&LayerDifference| {
        let (error, bits) = (&l.error, &l.bits);
        let mut cells = vec![Cell::text(&l.name)];
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
        [] => paragraph("No layer that both compressed differs in error or bits."),
        _ => table(&columns, most.iter().map(row)),
    };
    if !more.is_empty() {
        html += &details(&format!("{} more", markup::layers(more.len())), &table(&columns, more.iter().map(row)));
    }
    for (run, only) in [("A", &difference.only_first), ("B", &difference.only_second)] {
        if !only.is_empty() {
            html += &details(&format!("{} that only {run} compressed", markup::layers(only.len())), &list(only));
        }
    }
    section("Layers that differ most", &html)
}
