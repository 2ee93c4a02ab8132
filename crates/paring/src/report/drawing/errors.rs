//! The error of each layer as a picture of its own, for a model card.

use std::fmt::Write;

use super::{Blocks, PALETTE, Point, Scale, Series, stroke};
use crate::report::Report;
use crate::report::outlier_map::{escaped, shortened};
use crate::report::words::digits;

/// Size of the plot, and the margins around it.
const PLOT: (f64, f64) = (680.0, 260.0);
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const BOTTOM: f64 = 52.0;
/// Lines of the title, and the height of one of the legend.
const TITLE: f64 = 58.0;
const ROW: f64 = 20.0;
/// Letters of a legend's entry, and pixels of a letter in the widest of the usual fonts.
const ENTRY: usize = 28;
const LETTER: f64 = 8.0;

const STYLE: &str = include_str!("errors.css");

/// An SVG of the error of each layer over depth, a line for each kind of linear; `None` where no errors were computed. It
/// needs no other file, holds no scripts, brings its own background, and follows the reader's light or dark theme.
pub fn error_svg(report: &Report) -> Option<String> {
    let series = Series::by_kind(&report.layers, |layer| layer.error);
    if series.is_empty() {
        return None;
    }
    let points = || series.iter().flat_map(|s| s.points.iter());
    let scale = Scale::of(points().map(|p| p.value).collect::<Vec<_>>().into_iter());
    let blocks = Blocks::of(points().map(|p| p.block));
    let (legend, rows) = legend(&series);
    let top = TITLE + ROW * rows as f64 + 8.0;
    let (width, height) = (LEFT + PLOT.0 + RIGHT, top + PLOT.1 + BOTTOM);
    let x = |block: usize| LEFT + PLOT.0 * blocks.middle(block) / 100.0;
    let y = |value: f64| top + PLOT.1 * scale.at(value) / 100.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\"><title>Error by layer</title><desc>{}</desc>\n<style>{PALETTE}{STYLE}</style>\n\
         <rect class=\"p\" width=\"100%\" height=\"100%\"/>\n<text class=\"t\" x=\"{LEFT}\" y=\"26\">Error by layer</text>\n\
         <text x=\"{LEFT}\" y=\"46\">share of each layer’s output that compression changed; lower is better</text>\n{legend}",
        escaped(&words(&series))
    );
    for (at, label) in scale.labels() {
        let at = top + PLOT.1 * at / 100.0;
        let _ = writeln!(
            svg,
            "<path class=\"g\" d=\"M{LEFT} {at:.1}h{}\"/><text class=\"e\" x=\"{}\" y=\"{:.1}\">{label}</text>",
            PLOT.0,
            LEFT - 8.0,
            at + 4.5
        );
    }
    for block in blocks.ticks() {
        let (x, y) = (x(block), top + PLOT.1 + 20.0);
        let _ = writeln!(svg, "<text class=\"m\" x=\"{x:.1}\" y=\"{y}\">{block}</text>");
    }
    let (middle, bottom) = (LEFT + PLOT.0 / 2.0, top + PLOT.1 + 40.0);
    let _ = writeln!(svg, "<text class=\"m\" x=\"{middle}\" y=\"{bottom}\">block</text>");
    let radius = if blocks.count > 40 { 2.0 } else { 3.0 };
    for (i, s) in series.iter().enumerate() {
        let stroke = stroke(i);
        for line in s.lines() {
            let at = |p: &Point| format!("{:.1},{:.1}", x(p.block), y(p.value));
            let points = line.iter().map(at).collect::<Vec<_>>().join(" ");
            let _ = writeln!(svg, "<polyline class=\"l {stroke}\" points=\"{points}\"/>");
        }
        let colour = i % super::COLOURS;
        for p in &s.points {
            let (x, y, title) = (x(p.block), y(p.value), escaped(&format!("{}: {}", p.name, digits(p.value))));
            let _ = writeln!(
                svg,
                "<circle class=\"f{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"><title>{title}</title></circle>"
            );
        }
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

/// The legend, and its rows.
fn legend(series: &[Series]) -> (String, usize) {
    let (mut svg, mut x, mut row) = (String::new(), LEFT, 0usize);
    for (i, s) in series.iter().enumerate() {
        let name = shortened(&s.kind, ENTRY);
        let wide = 26.0 + LETTER * name.chars().count() as f64 + 12.0;
        if x + wide > LEFT + PLOT.0 && x > LEFT {
            (x, row) = (LEFT, row + 1);
        }
        let y = TITLE + ROW * row as f64 + 12.0;
        let _ = writeln!(
            svg,
            "<path class=\"l {}\" d=\"M{x} {:.1}h18\"/><text x=\"{}\" y=\"{y}\">{}</text>",
            stroke(i),
            y - 4.5,
            x + 24.0,
            escaped(&name)
        );
        x += wide;
    }
    (svg, row + 1)
}

/// Text alternative: the range of each kind.
fn words(series: &[Series]) -> String {
    series.iter().map(Series::range).collect::<Vec<_>>().join("; ")
}
