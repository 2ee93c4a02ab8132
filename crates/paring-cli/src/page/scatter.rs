//! Runs by bits and by how good they are, with a line through the best.

use std::fmt::Write;

use paring::report::comparison::{Comparison, Measure, Run};
use paring::report::drawing::Scale;
use paring::report::outlier_map::escaped;
use paring::report::words::digits;

use super::chart::{height_axis, label_width};
use crate::show::comparison::measure;

/// Size of the drawing that labels are placed for, in pixels.
const SIZE: (f64, f64) = (700.0, 300.0);
/// Places of a label beside its dot: x and y of its middle, and where the text begins.
const PLACES: [(f64, f64, &str); 6] = [
    (10.0, 0.0, "start"),
    (0.0, -14.0, "middle"),
    (-10.0, 0.0, "end"),
    (0.0, 14.0, "middle"),
    (9.0, -12.0, "start"),
    (9.0, 12.0, "start"),
];

/// The figure; nothing where fewer than two runs can be compared.
pub fn draw(comparison: &Comparison) -> String {
    let Some(measured) = comparison.measure else { return String::new() };
    let placed = |run| Some((run, within(run)?, run.quality(measured).filter(|value| *value >= 0.0)?));
    let shown: Vec<(&Run, f64, f64)> = comparison.runs.iter().filter_map(placed).collect();
    if shown.len() < 2 {
        return String::new();
    }
    let across = Scale::around(shown.iter().map(|(_, bits, _)| *bits));
    let up = Scale::around(shown.iter().map(|(.., value)| *value));
    let at = |bits: f64, value: f64| (100.0 - across.at(bits), up.at(value));
    let points: Vec<(f64, f64)> = shown.iter().map(|(_, bits, value)| at(*bits, *value)).collect();
    let (heights, grid) = height_axis(&up);
    let mut best: Vec<(f64, f64)> =
        shown.iter().zip(&points).filter(|((run, ..), _)| run.best).map(|(_, at)| *at).collect();
    best.sort_by(|a, b| a.0.total_cmp(&b.0));
    let line = best.iter().map(|(x, y)| format!("{x:.2},{y:.2}")).collect::<Vec<_>>().join(" ");
    let mut svg = format!(
        "<svg class=\"area\" role=\"group\" aria-labelledby=\"runs-title runs-about\"><title id=\"runs-title\">{}</title>\
         <desc id=\"runs-about\">{}</desc>\n{grid}\
         <svg width=\"100%\" height=\"100%\" viewBox=\"0 0 100 100\" preserveAspectRatio=\"none\"><polyline class=\"best\" \
         vector-effect=\"non-scaling-stroke\" points=\"{line}\"/></svg>\n",
        escaped(&format!("Bits and {}", measure(measured))),
        escaped(&shown.iter().map(|(run, ..)| words(run, measured)).collect::<Vec<_>>().join("; "))
    );
    let mut taken: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x * SIZE.0 / 100.0, y * SIZE.1 / 100.0)).collect();
    for ((run, ..), (x, y)) in shown.iter().zip(&points) {
        let (dx, dy, anchor) = place((x * SIZE.0 / 100.0, y * SIZE.1 / 100.0), &mut taken);
        let class = if run.best { "dot" } else { "dot other" };
        let _ = writeln!(
            svg,
            "<g class=\"point\" tabindex=\"0\"><title>{}</title><circle class=\"reach\" cx=\"{x:.2}%\" cy=\"{y:.2}%\" r=\"12\"/>\
             <circle class=\"{class}\" cx=\"{x:.2}%\" cy=\"{y:.2}%\" r=\"5\"/>\
             <text class=\"label\" x=\"{x:.2}%\" y=\"{y:.2}%\" dx=\"{dx}\" dy=\"{dy}\" text-anchor=\"{anchor}\">{}</text></g>",
            escaped(&words(run, measured)),
            run.label
        );
    }
    let tick = |(at, text): &(f64, String)| format!("<span style=\"left:{:.2}%\">{text}</span>", 100.0 - at);
    format!(
        "<figure class=\"chart scatter\">\n<figcaption><b>Bits and {0}.</b> Lower and further left is better; the line goes \
         through the best trade-offs.{1}</figcaption>\n<div class=\"plot\" style=\"--label:{2}ch\">{heights}{svg}</svg>\
         <div class=\"x\">{3}</div><div class=\"name\">bits per weight</div></div>\n\
         <p class=\"shown\" aria-live=\"polite\">Each dot is a run.</p>\n</figure>\n",
        measure(measured),
        if up.is_logarithmic() { " Logarithmic scale." } else { "" },
        label_width(&up),
        across.labels().iter().map(tick).collect::<String>()
    )
}

/// The bits of a run, if they are a number.
fn within(run: &Run) -> Option<f64> {
    Some(run.bits_per_weight).filter(|bits| bits.is_finite() && *bits >= 0.0)
}

fn words(run: &Run, measured: Measure) -> String {
    let value = run.quality(measured).map_or(String::new(), digits);
    let Run { label, out, scheme, bits_per_weight, .. } = run;
    format!("{label} ({out}, {scheme}): {bits_per_weight:.2} bits, {} {value}", measure(measured))
}

/// Place of a dot's label: the first that is far from dots and other labels.
fn place(dot: (f64, f64), taken: &mut Vec<(f64, f64)>) -> (f64, f64, &'static str) {
    let middle = |(dx, dy, anchor): (f64, f64, &str)| {
        let wide = match anchor {
            "start" => 5.0,
            "end" => -5.0,
            _ => 0.0,
        };
        (dot.0 + dx + wide, dot.1 + dy)
    };
    let inside = |(x, y): (f64, f64)| (0.0..SIZE.0).contains(&x) && (0.0..SIZE.1).contains(&y);
    let far = |(x, y): (f64, f64)| {
        taken.iter().filter(|at| **at != dot).all(|at| (at.0 - x).abs() > 13.0 || (at.1 - y).abs() > 12.0)
    };
    let free = |place: &&(f64, f64, &str)| inside(middle(**place)) && far(middle(**place));
    let chosen = PLACES.iter().find(free).copied().unwrap_or(PLACES[0]);
    taken.push(middle(chosen));
    chosen
}
