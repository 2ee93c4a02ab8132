//! A number of each layer over depth, a line for each kind of linear. Lengths are shares of the drawing, so that it takes the
//! width there is and its letters keep their size.

use std::collections::BTreeMap;
use std::fmt::Write;

use paring::report::drawing::{Blocks, COLOURS, Point, Scale, Series, stroke};
use paring::report::outlier_map::escaped;
use paring::report::words::digits;

/// Blocks from which on dots are smaller.
const DENSE: usize = 40;

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
    /// Rows of the page's table that dots link to, by layer.
    pub rows: Option<&'a BTreeMap<&'a str, usize>>,
}

/// Name of a table's row, in links.
pub fn row_id(row: usize) -> String {
    format!("layer-{row}")
}

/// The drawing's labels along its height, and the lines that they name.
pub fn height_axis(scale: &Scale) -> (String, String) {
    let labels = scale.labels();
    let line =
        |(y, _): &(f64, String)| format!("<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{y:.2}%\" y2=\"{y:.2}%\"/>\n");
    let label = |(y, text): &(f64, String)| format!("<span style=\"top:{y:.2}%\">{text}</span>");
    let texts: String = labels.iter().map(label).collect();
    (format!("<div class=\"y\">{texts}</div>"), labels.iter().map(line).collect())
}

/// Letters of the longest label along the height, and a gap.
pub fn label_width(scale: &Scale) -> usize {
    scale.labels().iter().map(|(_, text)| text.chars().count()).max().unwrap_or(1) + 2
}

/// Numbers of blocks under a drawing.
pub fn block_axis(blocks: &Blocks) -> String {
    let label = |block| format!("<span style=\"left:{:.2}%\">{block}</span>", blocks.middle(block));
    format!("<div class=\"x\">{}</div><div class=\"name\">block</div>", blocks.ticks().map(label).collect::<String>())
}

impl Chart<'_> {
    /// The figure of these lines, of which each has a point at least.
    pub fn draw(&self, series: &[Series]) -> String {
        let values = || series.iter().flat_map(|s| s.points.iter()).map(|p| p.value).chain(self.mark);
        let scale = Scale::of(values().collect::<Vec<_>>().into_iter());
        let blocks = Blocks::of(series.iter().flat_map(|s| s.points.iter()).map(|p| p.block));
        let (labels, grid) = height_axis(&scale);
        let mut svg = format!(
            "<svg class=\"area\" role=\"group\" aria-labelledby=\"{0}-title {0}-about\"><title id=\"{0}-title\">{1}</title>\
             <desc id=\"{0}-about\">{2}</desc>\n{grid}",
            self.id,
            escaped(self.title),
            escaped(&self.words(series))
        );
        if let Some(y) = self.mark.map(|mark| scale.at(mark)) {
            let _ = writeln!(svg, "<line class=\"mark\" x1=\"0\" x2=\"100%\" y1=\"{y:.2}%\" y2=\"{y:.2}%\"/>");
        }
        svg += &lines(series, &blocks, &scale);
        // Only the first dot takes part in the order of the tab key; the arrows go to the others.
        let mut tab = 0;
        for (i, s) in series.iter().enumerate() {
            let _ = writeln!(svg, "<g data-line=\"{i}\">");
            for point in &s.points {
                svg += &self.dot(point, i % COLOURS, (&blocks, &scale), tab);
                tab = -1;
            }
            svg += "</g>\n";
        }
        svg += "</svg>";
        let note = match scale.is_logarithmic() {
            true if values().any(|value| value == 0.0) => " Logarithmic scale; rings at its lower edge are 0.",
            true => " Logarithmic scale.",
            false => "",
        };
        let link = if self.rows.is_some() { ", linked to its row in the table" } else { "" };
        format!(
            "<figure class=\"chart\">\n<figcaption><b>{}</b> {}{note}</figcaption>\n{}\
             <div class=\"plot\" style=\"--label:{}ch\">{labels}{svg}{}</div>\n\
             <p class=\"shown\" aria-live=\"polite\">Each dot is a layer{link}.</p>\n</figure>\n",
            escaped(self.title),
            escaped(self.about),
            key(series),
            label_width(&scale),
            block_axis(&blocks)
        )
    }

    /// A dot with a larger place to point at.
    fn dot(&self, point: &Point, colour: usize, (blocks, scale): (&Blocks, &Scale), tab: i32) -> String {
        let (x, y) = (blocks.middle(point.block), scale.at(point.value));
        let (radius, reach) = if blocks.count > DENSE { (2, 6) } else { (3, 10) };
        // A logarithmic scale has no place for 0.
        let class = match scale.is_logarithmic() && point.value == 0.0 {
            true => format!("dot zero s{colour}"),
            false => format!("dot f{colour}"),
        };
        let title = escaped(&format!("{}: {} {}", point.name, digits(point.value), self.unit));
        let row = self.rows.and_then(|rows| rows.get(point.name.as_str()));
        let (name, link) = match row {
            Some(row) => ("a", format!(" href=\"#{}\"", row_id(*row))),
            None => ("g", String::new()),
        };
        format!(
            "<{name} class=\"point\"{link} tabindex=\"{tab}\"><title>{title}</title>\
             <circle class=\"reach\" cx=\"{x:.2}%\" cy=\"{y:.2}%\" r=\"{reach}\"/>\
             <circle class=\"{class}\" cx=\"{x:.2}%\" cy=\"{y:.2}%\" r=\"{radius}\"/>\
             </{name}>\n"
        )
    }

    /// Text alternative for screen readers.
    fn words(&self, series: &[Series]) -> String {
        format!("{}: {}.", self.unit, series.iter().map(Series::range).collect::<Vec<_>>().join("; "))
    }
}

/// The lines between dots: a drawing in the drawing, whose unit is a per cent.
fn lines(series: &[Series], blocks: &Blocks, scale: &Scale) -> String {
    let at = |p: &Point| format!("{:.2},{:.2}", blocks.middle(p.block), scale.at(p.value));
    let mut svg =
        "<svg width=\"100%\" height=\"100%\" viewBox=\"0 0 100 100\" preserveAspectRatio=\"none\">\n".to_string();
    for (i, s) in series.iter().enumerate() {
        for line in s.lines() {
            let points = line.iter().map(at).collect::<Vec<_>>().join(" ");
            let stroke = stroke(i);
            let _ = writeln!(
                svg,
                "<polyline class=\"path {stroke}\" data-line=\"{i}\" vector-effect=\"non-scaling-stroke\" points=\"{points}\"/>"
            );
        }
    }
    svg + "</svg>\n"
}

/// Legend of the lines.
fn key(series: &[Series]) -> String {
    let entry = |(i, s): (usize, &Series)| {
        format!(
            "<li><svg width=\"18\" height=\"10\" aria-hidden=\"true\"><line class=\"path {}\" x1=\"0\" x2=\"18\" \
             y1=\"5\" y2=\"5\"/></svg>{}</li>",
            stroke(i),
            escaped(&s.kind)
        )
    };
    format!("<ul class=\"key\">{}</ul>\n", series.iter().enumerate().map(entry).collect::<String>())
}
