//! A report as one page: a pure function of `report.json`. The page needs no other file, no network and no scripts, follows
//! the reader's light or dark theme, and is well-formed XML.

mod chart;
mod map;
mod markup;
mod sections;
#[cfg(test)]
mod tests;
mod two;
#[cfg(test)]
mod xml;

use paring::report::difference::mean;
use paring::report::outlier_map::{escaped, percent};
use paring::report::{LayerReport, Report};

use crate::show::{size, stored};
use chart::{Chart, Series};
use markup::{Align, Cell, command, facts, section, table};

pub use two::of_two;

const STYLE: &str = include_str!("style.css");

/// The page of a run.
pub fn of(report: &Report) -> String {
    let model = report.plan.get("model").and_then(|model| model.as_str()).unwrap_or("a model");
    let title = format!("{} of {model}", report.method);
    let mut body =
        header(&title, &format!("written to {}, {}, in {}", report.out, report.started, time(report.seconds)));
    body += &cards(report);
    if !report.command.is_empty() {
        body += &section("Command", &command(&report.command));
    }
    let plan = facts("Choice", &stored::chosen(&report.plan));
    body += &format!(
        "<div class=\"pair\">{}{}</div>\n",
        section("Plan", &plan),
        section("Environment", &facts("What", &stored::environment(report)))
    );
    body += &sections::stages(report);
    body += &errors(report);
    body += &sections::maps(report);
    body += &sections::outliers(report);
    body += &sections::sizes(report);
    body += &sections::perplexity(report);
    body += &sections::notes(report);
    body += &sections::layers(report);
    document(&title, &report.environment.program, &body)
}

/// The mark that tells a page that is made here from others, near its beginning.
const GENERATOR: &str = "<meta name=\"generator\" content=\"paring\"/>";

/// Tells whether a file that begins so is a page that is made here.
pub fn is_own(head: &[u8]) -> bool {
    head.windows(GENERATOR.len()).any(|part| part == GENERATOR.as_bytes())
}

/// Everything around the sections. `title` is text, `body` is markup.
fn document(title: &str, program: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         {GENERATOR}\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <main>\n{body}<footer>Written by {} from report.json.</footer>\n</main>\n</body>\n</html>\n",
        escaped(title),
        escaped(program)
    )
}

fn header(title: &str, about: &str) -> String {
    format!("<h1>{}</h1>\n<p class=\"sub\">{}</p>\n", escaped(title), escaped(about))
}

/// The numbers that people ask for first.
fn cards(report: &Report) -> String {
    let mut cards: Vec<(&str, String, String)> = Vec::new();
    let share = report.bytes_out as f64 / report.bytes_in.max(1) as f64;
    cards.push(("Size", size(report.bytes_out), format!("{} of {}", percent(share), size(report.bytes_in))));
    cards.push((
        "Bits per weight",
        format!("{:.2}", report.bits_per_weight),
        format!("from {:.2}", report.bits_before),
    ));
    if report.sparsity > 0.0 {
        cards.push(("Zeros", format!("{:.1} %", 100.0 * report.sparsity), "of the weights".into()));
    }
    if report.outlier_share > 0.0 {
        cards.push(("Outliers", percent(report.outlier_share), "of the weights, kept exact".into()));
    }
    if let Some(measured) = &report.perplexity {
        let change = measured.after - measured.before;
        let about = format!("from {}, {}", stored::digits(measured.before), stored::signed(change, ""));
        cards.push(("Perplexity", stored::digits(measured.after), about));
    }
    let errors = || report.layers.iter().filter_map(|l| l.error);
    if let Some(error) = mean(errors()) {
        let most = errors().fold(0.0, f64::max);
        cards.push(("Mean error of a layer", stored::digits(error), format!("{} at most", stored::digits(most))));
    }
    cards.push(("Time", time(report.seconds), markup::layers(report.layers.len())));
    let gpu = report.place.peak_vram_mib.map(|mib| format!("and {} on the GPU at most", memory(mib)));
    cards.push(("Memory", memory(report.peak_rss_mib), gpu.unwrap_or_else(|| "at most".into())));
    let card = |(name, value, about): &(&str, String, String)| {
        format!("<div><dt>{name}</dt><dd>{}<small>{}</small></dd></div>\n", escaped(value), escaped(about))
    };
    format!("<dl class=\"cards\">\n{}</dl>\n", cards.iter().map(card).collect::<String>())
}

/// Seconds as people read them.
fn time(seconds: f64) -> String {
    let (minutes, hours) = ((seconds / 60.0).floor(), (seconds / 3600.0).floor());
    match seconds {
        s if s < 100.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{minutes} min {:02.0} s", (s % 60.0).floor()),
        _ => format!("{hours} h {:02.0} min", minutes - 60.0 * hours),
    }
}

/// Memory as people read it.
fn memory(mib: f64) -> String {
    if mib < 10_000.0 { format!("{mib:.0} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}

/// Charts of the errors over depth; nothing where none were computed.
fn errors(report: &Report) -> String {
    let errors = Series::by_kind(&report.layers, |l| l.error);
    if errors.is_empty() {
        return String::new();
    }
    let chart = Chart {
        id: "errors",
        title: "Error of each layer over depth",
        about: "Share of a layer's output that compression changed on the calibration data, tr(ΔW·H·ΔWᵀ)/tr(W·H·Wᵀ), by \
                kind of linear.",
        unit: "error",
        mark: None,
    };
    let mut charts = chart.draw(&errors);
    let over = |l: &LayerReport| Some(l.error? / l.baseline_error.filter(|&b| b > 0.0)?);
    let ratios = Series::by_kind(&report.layers, over);
    if !ratios.is_empty() {
        let chart = Chart {
            id: "ratios",
            title: "Error over that of plain rounding",
            about: "The same error over that of the weights rounded to nearest, or the smallest ones removed, without a \
                    look at the data. Below 1 the method helped.",
            unit: "times the error of plain rounding",
            mark: Some(1.0),
        };
        charts += &chart.draw(&ratios);
    }
    let rounded = |kind: &str| mean(report.layers.iter().filter(|l| l.kind == kind).filter_map(|l| l.baseline_error));
    let row = |series: &Series| {
        let values = || series.points.iter().map(|point| point.value);
        let number = |value: Option<f64>| Cell::text(value.map_or(String::new(), stored::digits));
        vec![
            Cell::text(series.kind.clone()),
            Cell::text(series.points.len().to_string()),
            number(mean(values())),
            number(values().reduce(f64::max)),
            number(rounded(&series.kind)),
        ]
    };
    let columns = [
        ("Kind", Align::Left),
        ("Layers", Align::Wide),
        ("Mean error", Align::Right),
        ("Largest", Align::Right),
        ("Mean of rounding", Align::Right),
    ];
    let known = if ratios.is_empty() { &columns[..4] } else { &columns };
    let kinds = table(known, errors.iter().map(row));
    section("Error over depth", &format!("{charts}{kinds}"))
}
