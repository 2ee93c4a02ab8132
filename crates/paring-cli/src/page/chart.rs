//! A number of each layer over depth, a line for each kind of linear. Lengths are shares of the drawing, so that it takes the
//! width there is and its letters keep their size.

use std::fmt::Write;

use paring::report::LayerReport;
use paring::report::outlier_map::{escaped, ticks};

use crate::show::stored::digits;

/// Lines that have a colour of their own; more repeat them, dashed.
const COLOURS: usize = 8;
/// Largest over smallest value from which on the scale is logarithmic.
const LOGARITHMIC: f64 = 8.0;

/// The smallest and the largest number that a scale tells from 0 and from larger ones: a report may hold any.
const ENDS: (f64, f64) = (1e-30, 1e30);

/// Title and axes of a chart.
pub struct Chart<'a> {
    /// Unique in the page.
    pub id: &'a str,
    pub title: &'a str,
    pub about: &'a str,
    /// The name of the numbers.
    pub unit: &'a str,
    /// A value that deserves a line of its own.
    pub mark: Option<f64>,
}

/// A value of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub block: usize,
    /// Module path.
    pub name: String,
    /// Finite and not negative.
    pub value: f64,
}

/// The values of a kind of linear, by block.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub kind: String,
    pub points: Vec<Point>,
}

impl Series {
    /// The layers that have a value, by kind, in the order in which kinds first occur; none without values.
    pub fn by_kind(layers: &[LayerReport], value: impl Fn(&LayerReport) -> Option<f64>) -> Vec<Series> {
        Self::of(layers.iter().filter_map(|l| Some((l.kind.as_str(), l.block, l.name.as_str(), value(l)?))))
    }

    /// Of kinds, blocks, names and values.
    pub fn of<'a>(values: impl Iterator<Item = (&'a str, usize, &'a str, f64)>) -> Vec<Series> {
        let mut all: Vec<Series> = Vec::new();
        for (kind, block, name, value) in values.filter(|(.., value)| value.is_finite() && *value >= 0.0) {
            let point = Point { block, name: name.to_string(), value };
            match all.iter_mut().find(|series| series.kind == kind) {
                Some(series) => series.points.push(point),
                None => all.push(Series { kind: kind.to_string(), points: vec![point] }),
            }
        }
        all.iter_mut().for_each(|series| series.points.sort_by_key(|point| point.block));
        all
    }
}

/// Scale from values to the height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Scale {
    /// One that holds all of these: logarithmic where they span enough, otherwise from 0 on.
    pub fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let values = values.map(within);
        let high = values.clone().fold(0.0, f64::max);
        let low = values.filter(|&v| v > 0.0).fold(f64::INFINITY, f64::min);
        match high > 0.0 && high / low >= LOGARITHMIC {
            true => Self { low: round_down(low), high: round_up(high), logarithmic: true },
            false => Self { low: 0.0, high: even(high).0, logarithmic: false },
        }
    }

    /// Position of a value, in per cent of the height from the top; one below the scale lies on its lower edge.
    pub fn at(&self, value: f64) -> f64 {
        let value = within(value);
        let share = match self.logarithmic {
            true => (value / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        100.0 * (1.0 - share.clamp(0.0, 1.0))
    }

    /// Values to write beside the height, from the lowest up.
    pub fn ticks(&self) -> Vec<f64> {
        if !self.logarithmic {
            let step = even(self.high).1;
            return (0..=(self.high / step).round() as usize).map(|i| i as f64 * step).collect();
        }
        let decades = (self.high / self.low).log10();
        let leads: &[f64] = if decades > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let first = self.low.log10().floor() as i32;
        let last = self.high.log10().ceil() as i32;
        let all = (first..=last).flat_map(|exponent| leads.iter().map(move |lead| lead * 10f64.powi(exponent)));
        all.filter(|&v| v > self.low * 0.999 && v < self.high * 1.001).collect()
    }
}

/// A number as near as a scale has it.
fn within(value: f64) -> f64 {
    if value > 0.0 { value.clamp(ENDS.0, ENDS.1) } else { 0.0 }
}

/// A round number that is not smaller, and even steps up to it.
fn even(value: f64) -> (f64, f64) {
    const STEPS: [(f64, f64); 9] =
        [(1.0, 0.2), (1.5, 0.5), (2.0, 0.5), (3.0, 1.0), (4.0, 1.0), (5.0, 1.0), (6.0, 2.0), (8.0, 2.0), (10.0, 2.0)];
    if value <= 0.0 {
        return (1.0, 0.2);
    }
    let power = 10f64.powi(value.log10().floor() as i32);
    let fits = STEPS.into_iter().find(|(lead, _)| value / power <= lead * (1.0 + 1e-9));
    fits.map_or((10.0 * power, 2.0 * power), |(lead, step)| (lead * power, step * power))
}

/// The next of 1, 2 and 5 times a power of ten that is not larger.
fn round_down(value: f64) -> f64 {
    let power = 10f64.powi(value.log10().floor() as i32);
    // Digits that came out a hair short are whole.
    power * [5.0, 2.0, 1.0].into_iter().find(|lead| value / power >= lead * (1.0 - 1e-9)).unwrap_or(1.0)
}

/// The next of 1, 2 and 5 times a power of ten that is not smaller.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powi(value.log10().floor() as i32);
    power * [1.0, 2.0, 5.0].into_iter().find(|lead| value / power <= lead * (1.0 + 1e-9)).unwrap_or(10.0)
}

/// Blocks along the width: the first one and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    pub first: usize,
    pub count: usize,
}

impl Blocks {
    /// Those from the first to the last.
    pub fn of(blocks: impl Iterator<Item = usize> + Clone) -> Self {
        let first = blocks.clone().min().unwrap_or(0);
        Self { first, count: blocks.max().map_or(1, |last| last.saturating_sub(first).saturating_add(1)) }
    }

    /// The middle of a block, in per cent of the width.
    pub fn middle(&self, block: usize) -> f64 {
        100.0 * (block.saturating_sub(self.first) as f64 + 0.5) / self.count as f64
    }

    /// Their numbers under the drawing, at most eight.
    pub fn axis(&self) -> String {
        // Round numbers of all blocks, of which those before the first are not shown.
        let step = ticks(self.count, 8).nth(1).unwrap_or(1);
        let last = self.first.saturating_add(self.count);
        let shown = (self.first.next_multiple_of(step)..last).step_by(step);
        let label = |block| format!("<span style=\"left:{:.2}%\">{block}</span>", self.middle(block));
        format!("<div class=\"x\">{}</div><div class=\"name\">block</div>", shown.map(label).collect::<String>())
    }
}

impl Chart<'_> {
    /// The figure of these lines, of which each has a point at least.
    pub fn draw(&self, series: &[Series]) -> String {
        let values = || series.iter().flat_map(|s| s.points.iter()).map(|p| p.value).chain(self.mark);
        let scale = Scale::of(values().collect::<Vec<_>>().into_iter());
        let blocks = Blocks::of(series.iter().flat_map(|s| s.points.iter()).map(|p| p.block));
        let labels: Vec<(f64, String)> = scale.ticks().into_iter().map(|v| (scale.at(v), short(v))).collect();
        let width = labels.iter().map(|(_, text)| text.chars().count()).max().unwrap_or(1) + 2;
        let mut svg = format!(
            "<svg class=\"area\" role=\"img\" aria-labelledby=\"{0}-title {0}-about\"><title id=\"{0}-title\">{1}</title>\
             <desc id=\"{0}-about\">{2}</desc>\n",
            self.id,
            escaped(self.title),
            escaped(&self.words(series))
        );
        for (y, _) in &labels {
            let _ = writeln!(svg, "<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{y:.2}%\" y2=\"{y:.2}%\"/>");
        }
        if let Some(y) = self.mark.map(|mark| scale.at(mark)) {
            let _ = writeln!(svg, "<line class=\"mark\" x1=\"0\" x2=\"100%\" y1=\"{y:.2}%\" y2=\"{y:.2}%\"/>");
        }
        // A drawing in the drawing, whose unit is a per cent.
        svg += "<svg width=\"100%\" height=\"100%\" viewBox=\"0 0 100 100\" preserveAspectRatio=\"none\">\n";
        for (i, s) in series.iter().enumerate() {
            for part in s.points.chunk_by(|a, b| Some(b.block) == a.block.checked_add(1)).filter(|part| part.len() > 1)
            {
                let at = |p: &Point| format!("{:.2},{:.2}", blocks.middle(p.block), scale.at(p.value));
                let points = part.iter().map(at).collect::<Vec<_>>().join(" ");
                let style = style(i);
                let _ = writeln!(
                    svg,
                    "<polyline class=\"path\" {style} vector-effect=\"non-scaling-stroke\" points=\"{points}\"/>"
                );
            }
        }
        svg += "</svg>\n";
        let radius = if blocks.count > 40 { 2.0 } else { 3.0 };
        for (i, s) in series.iter().enumerate() {
            let colour = i % COLOURS;
            for p in &s.points {
                let (x, y) = (blocks.middle(p.block), scale.at(p.value));
                // A logarithmic scale has no place for what is exact.
                let (class, paint) = match scale.logarithmic && p.value == 0.0 {
                    true => ("dot zero", "stroke"),
                    false => ("dot", "fill"),
                };
                let title = format!("{}: {} {}", p.name, digits(p.value), self.unit);
                let _ = writeln!(
                    svg,
                    "<circle class=\"{class}\" style=\"{paint}:var(--k{colour})\" cx=\"{x:.2}%\" cy=\"{y:.2}%\" \
                     r=\"{radius}\"><title>{}</title></circle>",
                    escaped(&title)
                );
            }
        }
        svg += "</svg>";
        let exact = values().any(|value| value == 0.0);
        let note = match scale.logarithmic {
            true if exact => " Logarithmic scale; rings on its lower edge are 0.",
            true => " Logarithmic scale.",
            false => "",
        };
        let axis = |(y, text): &(f64, String)| format!("<span style=\"top:{y:.2}%\">{text}</span>");
        format!(
            "<figure class=\"chart\">\n<figcaption>{}{note}</figcaption>\n{}<div class=\"plot\" style=\"--label:{width}ch\">\
             <div class=\"y\">{}</div>{svg}{}</div>\n</figure>\n",
            escaped(self.about),
            key(series),
            labels.iter().map(axis).collect::<String>(),
            blocks.axis()
        )
    }

    /// Text alternative for screen readers.
    fn words(&self, series: &[Series]) -> String {
        let of = |s: &Series| {
            let values = || s.points.iter().map(|p| p.value);
            let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
            format!("{} from {} to {}", s.kind, digits(low), digits(high))
        };
        format!("{}: {}.", self.unit, series.iter().map(of).collect::<Vec<_>>().join("; "))
    }
}

/// The colour of a line, and dashes where colours repeat.
fn style(i: usize) -> String {
    let dashes = if i >= COLOURS { ";stroke-dasharray:4 3" } else { "" };
    format!("style=\"stroke:var(--k{}){dashes}\"", i % COLOURS)
}

/// Legend of the lines.
fn key(series: &[Series]) -> String {
    let entry = |(i, s): (usize, &Series)| {
        format!(
            "<li><svg width=\"18\" height=\"10\" aria-hidden=\"true\"><line class=\"path\" {} x1=\"0\" x2=\"18\" y1=\"5\" \
             y2=\"5\"/></svg>{}</li>",
            style(i),
            escaped(&s.kind)
        )
    };
    format!("<ul class=\"key\">{}</ul>\n", series.iter().enumerate().map(entry).collect::<String>())
}

/// A round number, as short as it can be.
fn short(value: f64) -> String {
    match value {
        0.0 => "0".to_string(),
        v if !(1e-4..1e5).contains(&v) => format!("{v:.0e}"),
        v => {
            let text = format!("{v:.6}");
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        }
    }
}
