//! A number of each layer as a map: a row for each kind of linear, a column for each block.

use std::fmt::Write;

use paring::report::LayerReport;
use paring::report::drawing::{Blocks, Point, Series};
use paring::report::outlier_map::escaped;

use super::chart::block_axis;
use super::markup;

/// Pixels of a row.
const ROW: usize = 22;
/// Blocks up to which cells say their number.
const WRITTEN: usize = 8;
/// Opacity of the emptiest and of the fullest cell; the latter where numbers are written on it, and where they are not.
const FAINT: f64 = 0.16;
const READABLE: f64 = 0.5;
const FULL: f64 = 1.0;
/// Letters of a kind that are shown.
const LETTERS: usize = 22;
/// Share of the least span within which values are as good as the same.
const ALIKE: f64 = 0.05;
/// Shades that the key shows.
const STEPS: usize = 5;

/// Title, axes and unit of a map.
pub struct Map<'a> {
    /// Unique in the page.
    pub id: &'a str,
    pub title: &'a str,
    /// The least span of values from the faintest to the darkest shade, so that small differences stay small.
    pub span: f64,
    /// The largest value that makes sense.
    pub most: f64,
    /// A value with its unit, and without it.
    pub words: fn(f64) -> String,
    pub digits: fn(f64) -> String,
}

impl Map<'_> {
    /// The figure for these layers; a sentence where all have about the same value.
    pub fn draw(&self, layers: &[LayerReport], value: impl Fn(&LayerReport) -> f64) -> String {
        let rows = Series::by_kind(layers, |l| Some(value(l)));
        let blocks = Blocks::of(layers.iter().map(|l| l.block));
        let values = || rows.iter().flat_map(|row| &row.points).map(|p| p.value);
        let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
        let (from, to) = self.ends(low, high);
        let (least, most) = ((self.words)(low), (self.words)(high));
        if high - low <= ALIKE * self.span {
            let range = if least == most { least } else { format!("{least} to {most}") };
            return markup::paragraph(&format!("{}: {range} in all layers.", self.title));
        }
        let written = blocks.count <= WRITTEN;
        let darkest = if written { READABLE } else { FULL };
        let shade = |v: f64| FAINT + (darkest - FAINT) * ((v - from) / (to - from)).clamp(0.0, 1.0);
        let about = format!("{}: from {least} to {most}.", self.title);
        let height = ROW * rows.len();
        let mut svg = format!(
            "<svg class=\"area\" height=\"{height}\" role=\"img\" aria-labelledby=\"{0}-title {0}-about\">\
             <title id=\"{0}-title\">{1}</title><desc id=\"{0}-about\">{2}</desc>\n\
             <rect class=\"none\" width=\"100%\" height=\"100%\"/>\n",
            self.id,
            escaped(self.title),
            escaped(&about)
        );
        let wide = 100.0 / blocks.count as f64;
        let gap = if blocks.count > 40 { 0.5 } else { 1.0 };
        for (i, row) in rows.iter().enumerate() {
            for Point { block, name, value } in &row.points {
                let (x, y) = (blocks.middle(*block) - wide / 2.0, i * ROW);
                let title = escaped(&format!("{name}: {}", (self.words)(*value)));
                let _ = writeln!(
                    svg,
                    "<rect class=\"cell\" x=\"{x:.3}%\" y=\"{y}\" width=\"{wide:.3}%\" height=\"{ROW}\" \
                     fill-opacity=\"{:.3}\" stroke-width=\"{gap}\"><title>{title}</title></rect>",
                    shade(*value)
                );
                if written {
                    let (x, y, number) = (blocks.middle(*block), y + ROW / 2, (self.digits)(*value));
                    let _ = writeln!(svg, "<text x=\"{x:.3}%\" y=\"{y}\" pointer-events=\"none\">{number}</text>");
                }
            }
        }
        svg += "</svg>";
        let label = |(i, row): (usize, &Series)| {
            format!("<span style=\"top:{}px\">{}</span>", i * ROW + ROW / 2, escaped(&row.kind))
        };
        let width = rows.iter().map(|row| row.kind.chars().count()).max().unwrap_or(1).min(LETTERS) + 2;
        let key = self.key(low, high, shade);
        format!(
            "<figure class=\"map\">\n<figcaption>{}</figcaption>\n<div class=\"plot\" style=\"--label:{width}ch\">\
             <div class=\"y\">{}</div>{svg}{}</div>\n{key}</figure>\n",
            escaped(&about),
            rows.iter().enumerate().map(label).collect::<String>(),
            block_axis(&blocks)
        )
    }

    /// The values of the faintest and the darkest shade.
    fn ends(&self, low: f64, high: f64) -> (f64, f64) {
        let more = (self.span - (high - low)).max(0.0);
        let from = (low - more / 2.0).max(0.0);
        let to = (from + (high - low).max(self.span)).min(self.most).max(high);
        (from.min(low), if to > from { to } else { from + 1.0 })
    }

    /// Legend of the shades, from the least to the largest value.
    fn key(&self, low: f64, high: f64, shade: impl Fn(f64) -> f64) -> String {
        let mut steps: Vec<(f64, String)> = (0..STEPS)
            .map(|i| low + (high - low) * i as f64 / (STEPS - 1) as f64)
            .map(|value| (shade(value), (self.words)(value)))
            .collect();
        steps.dedup_by(|a, b| a.1 == b.1);
        let entry = |(shade, words): &(f64, String)| {
            format!(
                "<li><svg width=\"16\" height=\"12\" aria-hidden=\"true\"><rect class=\"cell\" width=\"16\" height=\"12\" \
                 fill-opacity=\"{shade:.3}\"/></svg>{words}</li>"
            )
        };
        format!("<ul class=\"steps\">{}</ul>\n", steps.iter().map(entry).collect::<String>())
    }
}
