//! Reports as one page: a pure function of `report.json`. The page needs no other file and no network, works without its one
//! little script, follows the reader's light or dark theme, and is well-formed XML.

mod chart;
mod comparison;
mod errors;
mod layers;
mod map;
mod markup;
mod scatter;
mod sections;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod xml;

use paring::report::choices::Choices;
use paring::report::difference::mean;
use paring::report::drawing::PALETTE;
use paring::report::moment;
use paring::report::outlier_map::{escaped, percent};
use paring::report::words::{digits, memory, plural, time, title};
use paring::report::{LayerReport, Report};

use crate::show::{size, stored};
use layers::Order;

pub use comparison::of_many;

const STYLE: &str = include_str!("style.css");
/// Sorts and filters tables, and shows what a dot is. It holds neither `<` nor `&`, so that the page is XML.
const SCRIPT: &str = include_str!("script.js");

/// The page of a run.
pub fn of(report: &Report) -> String {
    let choices = Choices::of(&report.plan);
    let order = Order::worst_first(&report.layers);
    let title = title(report);
    let folder = format!("{}/", report.out.trim_end_matches('/'));
    let mut body = header(&title, &[moment::in_words(&report.started), time(report.seconds), folder].join(" · "));
    body += &cards(report);
    body += &sections::notes(report, choices.baseline());
    body += &sections::sizes(report);
    body += &sections::perplexity(report);
    body += &sections::tasks(report);
    body += &errors::section(report, &order, choices.baseline());
    body += &sections::maps(report);
    body += &sections::outliers(report);
    body += &layers::section(report, &order, &choices);
    body += &sections::plan(report, &choices);
    body += &sections::stages(report);
    body += &sections::environment(report);
    document(&title, &report.environment.program, &body)
}

/// The mark that tells a page that is made here from others, near its beginning.
const GENERATOR: &str = "<meta name=\"generator\" content=\"paring\"/>";
/// A promise to the browser, which holds it: nothing is loaded from anywhere.
const POLICY: &str = "<meta http-equiv=\"Content-Security-Policy\" \
    content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\"/>";

/// Tells whether a file that begins so is a page that is made here.
pub fn is_own(head: &[u8]) -> bool {
    head.windows(GENERATOR.len()).any(|part| part == GENERATOR.as_bytes())
}

/// Everything around the sections. `title` is text, `body` is markup.
fn document(title: &str, program: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         {GENERATOR}\n{POLICY}\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n<title>{}</title>\n<style>\n{PALETTE}{STYLE}</style>\n</head>\n<body>\n\
         <main>\n{body}<footer>Written by {} from report.json.</footer>\n</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
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
    let before = format!("from {:.2}, in {}", report.bits_before, plural(report.layers.len(), "layer"));
    cards.push(("Bits per weight", format!("{:.2}", report.bits_per_weight), before));
    if report.is_pruned() {
        cards.push(("Zeros", format!("{:.1} %", 100.0 * report.sparsity), "of these weights".into()));
    }
    if report.outlier_share > 0.0 {
        cards.push(("Outliers", percent(report.outlier_share), "of these weights, kept exact".into()));
    }
    if let Some(measured) = &report.perplexity {
        let change = measured.after - measured.before;
        let about = format!("from {} ({})", digits(measured.before), stored::signed(change, ""));
        cards.push(("Perplexity", digits(measured.after), about));
    }
    let errors = || report.layers.iter().filter_map(|l: &LayerReport| l.error);
    if let Some(error) = mean(errors()) {
        let most = errors().fold(0.0, f64::max);
        cards.push(("Mean error by layer", digits(error), format!("largest {}", digits(most))));
    }
    cards.push(("Time", time(report.seconds), format!("on {}", report.place.words())));
    let gpu = report.place.peak_vram_mib.map(|mib| format!("peak, and {} on the GPU", memory(mib)));
    cards.push(("Memory", memory(report.peak_rss_mib), gpu.unwrap_or_else(|| "peak".into())));
    let card = |(name, value, about): &(&str, String, String)| {
        format!("<div><dt>{name}</dt><dd>{}<small>{}</small></dd></div>\n", escaped(value), escaped(about))
    };
    // Full rows, at any width.
    let across = if cards.len() > 6 { cards.len().div_ceil(2) } else { cards.len() };
    format!("<dl class=\"cards\" style=\"--across:{across}\">\n{}</dl>\n", cards.iter().map(card).collect::<String>())
}
