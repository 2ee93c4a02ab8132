//! Charts of a report's numbers over depth: the values, their scale, and a drawing that needs no page.

mod errors;
mod scale;
#[cfg(test)]
mod tests;

pub use errors::error_svg;
pub use scale::Scale;

use super::LayerReport;
use super::words::digits;

/// Colours of drawings and pages for light and dark, as a style sheet: properties, and classes of strokes and fills.
pub const PALETTE: &str = include_str!("palette.css");

/// Lines that have a colour of their own; more repeat them, dashed.
pub const COLOURS: usize = 8;

/// A value of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Block, counted from 0.
    pub block: usize,
    /// Module path.
    pub name: String,
    /// Finite and not negative.
    pub value: f64,
}

/// The values of a kind of linear, by block.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The kind.
    pub kind: String,
    /// Its layers.
    pub points: Vec<Point>,
}

impl Series {
    /// The layers that have a value, by kind, in the order in which kinds first occur; none without values.
    pub fn by_kind(layers: &[LayerReport], value: impl Fn(&LayerReport) -> Option<f64>) -> Vec<Series> {
        Self::of(layers.iter().filter_map(|l| Some((l.kind.as_str(), l.block, l.name.as_str(), value(l)?))))
    }

    /// Of kinds, blocks, names and values; those that are negative or not finite are left out.
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

    /// Its smallest and largest value, in words.
    pub fn range(&self) -> String {
        let values = || self.points.iter().map(|p| p.value);
        let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
        format!("{} from {} to {}", self.kind, digits(low), digits(high))
    }

    /// Its points in runs of neighbouring blocks, which a line connects; single points are none.
    pub fn lines(&self) -> impl Iterator<Item = &[Point]> {
        self.points.chunk_by(|a, b| Some(b.block) == a.block.checked_add(1)).filter(|part| part.len() > 1)
    }
}

/// Classes of the line with this number: a stroke's colour, and dashes where colours repeat.
pub fn stroke(line: usize) -> String {
    format!("s{}{}", line % COLOURS, if line >= COLOURS { " again" } else { "" })
}

/// Blocks along the width: the first one and their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// The first.
    pub first: usize,
    /// Their number, at least 1.
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

    /// Blocks whose numbers are written, at most eight: round ones.
    pub fn ticks(&self) -> impl Iterator<Item = usize> {
        let step = super::outlier_map::ticks(self.count, 8).nth(1).unwrap_or(1);
        (self.first.next_multiple_of(step)..self.first.saturating_add(self.count)).step_by(step)
    }
}
