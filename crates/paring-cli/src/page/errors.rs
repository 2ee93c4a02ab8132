//! The error of each layer: over depth, against the baseline, and by kind.

use paring::report::difference::mean;
use paring::report::drawing::Series;
use paring::report::words::digits;
use paring::report::{LayerReport, Report};

use super::chart::Chart;
use super::layers::Order;
use super::markup::{Align, Cell, section as titled, table};

/// Charts of the errors over depth, and a table by kind; nothing where none were computed.
pub fn section(report: &Report, order: &Order, baseline: &str) -> String {
    let errors = Series::by_kind(&report.layers, |l| l.error);
    if errors.is_empty() {
        return String::new();
    }
    let chart = Chart {
        id: "errors",
        title: "Error of each layer.",
        about: "Share of the layer's output that compression changed on the calibration data, \
                tr(ΔW·H·ΔWᵀ)/tr(W·H·Wᵀ).",
        unit: "error",
        mark: None,
        rows: Some(&order.rows),
    };
    let mut html = chart.draw(&errors);
    html += &kinds(report, &errors, baseline);
    let over = |l: &LayerReport| Some(l.error? / l.baseline_error.filter(|&b| b > 0.0)?);
    let ratios = Series::by_kind(&report.layers, over);
    if !ratios.is_empty() {
        let chart = Chart {
            id: "ratios",
            title: &format!("Error relative to {baseline}."),
            about: "Below 1: the method helps.",
            unit: &format!("times the error of {baseline}"),
            mark: Some(1.0),
            rows: Some(&order.rows),
        };
        html += &chart.draw(&ratios);
    }
    titled("Error by layer", &html)
}

/// Mean errors by kind of linear, the largest first.
fn kinds(report: &Report, errors: &[Series], baseline: &str) -> String {
    let values = |series: &Series| series.points.iter().map(|point| point.value).collect::<Vec<_>>();
    let mean_of = |series: &Series| mean(values(series).into_iter());
    let mut sorted: Vec<&Series> = errors.iter().collect();
    sorted.sort_by(|a, b| mean_of(b).unwrap_or(0.0).total_cmp(&mean_of(a).unwrap_or(0.0)));
    let rounded = |kind: &str| mean(report.layers.iter().filter(|l| l.kind == kind).filter_map(|l| l.baseline_error));
    let row = |series: &&Series| {
        let number = |value: Option<f64>| Cell::text(value.map_or(String::new(), digits));
        vec![
            Cell::text(series.kind.clone()),
            Cell::text(series.points.len().to_string()),
            number(mean_of(series)),
            number(values(series).into_iter().reduce(f64::max)),
            number(rounded(&series.kind)),
        ]
    };
    let columns = [
        ("Kind", Align::Left),
        ("Layers", Align::Wide),
        ("Mean error", Align::Right),
        ("Largest", Align::Right),
        (&format!("Mean, {baseline}"), Align::Right),
    ];
    let has_baseline = report.layers.iter().any(|l| l.baseline_error.is_some());
    let known = if has_baseline { &columns[..] } else { &columns[..4] };
    table(known, sorted.iter().map(row))
}
