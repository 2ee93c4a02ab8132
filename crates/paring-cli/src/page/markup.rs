//! The parts of a page that all sections are made of. Names that end in `html` hold markup; everything else is text and is
//! escaped here.

use paring::report::choices::Choice;
use paring::report::outlier_map::escaped;
use paring::report::quoted;

/// Letters of a name that is not broken.
const SHORT: usize = 20;

/// The side of a column that its entries are on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
    /// As [`Align::Right`], and left out on narrow screens.
    Wide,
    /// Bars.
    Bar,
}

/// An entry of a table.
pub struct Cell {
    html: String,
}

impl Cell {
    /// Of text.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self { html: escaped(text.as_ref()) }
    }

    /// Of a path, which may be broken after its dots and underscores.
    pub fn path(path: &str) -> Self {
        Self { html: escaped(path).replace('.', ".<wbr/>").replace('_', "_<wbr/>") }
    }

    /// Of a label and what it stands for.
    pub fn named(label: &str, name: &str) -> Self {
        let name = match name.chars().count() <= SHORT {
            true => format!("<span class=\"whole\">{}</span>", escaped(name)),
            false => Self::path(name).html,
        };
        Self { html: format!("<b>{}</b> {name}", escaped(label)) }
    }

    /// Of text with words in code under it, each of which stays in one line.
    pub fn with_note(text: &str, words: &[String]) -> Self {
        let word = |word: &String| format!("<span>{}</span>", escaped(word));
        let note = words.iter().map(word).collect::<Vec<_>>().join(" ");
        Self { html: format!("{}<small><code>{note}</code></small>", escaped(text)) }
    }

    /// Of bars, one under the other, with their shares of the whole width; `old` is the first of two.
    pub fn bars(shares: &[f64]) -> Self {
        let thin = if shares.len() > 1 { " thin" } else { "" };
        let bar = |(i, share): (usize, &f64)| {
            let old = if i + 1 < shares.len() { " old" } else { "" };
            let class = format!("{old}{thin}");
            let class = class.trim_start();
            let percent = 100.0 * share.clamp(0.0, 1.0);
            format!("<i class=\"{class}\" style=\"width:{percent:.1}%\"></i>")
        };
        Self { html: shares.iter().enumerate().map(bar).collect() }
    }
}

impl Align {
    fn class(self) -> &'static str {
        match self {
            Align::Left => "",
            Align::Right => " class=\"n\"",
            Align::Wide => " class=\"n less\"",
            Align::Bar => " class=\"bar\"",
        }
    }
}

/// A table with a header; the first entry of each row names it. Wide ones scroll by themselves.
pub fn table(columns: &[(&str, Align)], rows: impl Iterator<Item = Vec<Cell>>) -> String {
    framed("", columns, rows.map(|cells| (String::new(), cells)))
}

/// A table that a script lets people sort and filter; each row has an identifier.
pub fn sortable(columns: &[(&str, Align)], rows: impl Iterator<Item = (String, Vec<Cell>)>) -> String {
    framed(" class=\"sort\"", columns, rows.map(|(id, cells)| (format!(" id=\"{id}\""), cells)))
}

/// A table with these attributes, of rows with theirs.
fn framed(attributes: &str, columns: &[(&str, Align)], rows: impl Iterator<Item = (String, Vec<Cell>)>) -> String {
    let head = columns.iter().map(|(name, align)| format!("<th scope=\"col\"{}>{}</th>", align.class(), escaped(name)));
    let row = |(attributes, cells): (String, Vec<Cell>)| {
        let cells = cells.iter().zip(columns).enumerate().map(|(i, (cell, (_, align)))| match i {
            0 => format!("<th scope=\"row\"{}>{}</th>", align.class(), cell.html),
            _ => format!("<td{}>{}</td>", align.class(), cell.html),
        });
        format!("<tr{attributes}>{}</tr>\n", cells.collect::<String>())
    };
    format!(
        "<div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"Table: {}\"><table{attributes}>\n\
         <thead><tr>{}</tr></thead>\n<tbody>\n{}</tbody>\n</table></div>\n",
        escaped(columns.first().map_or("", |(name, _)| name)),
        head.collect::<String>(),
        rows.map(row).collect::<String>()
    )
}

/// Names and their values.
pub fn facts(what: &str, entries: impl Iterator<Item = (String, String)>) -> String {
    let row = |(name, value): (String, String)| {
        format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", Cell::path(&name).html, escaped(&value))
    };
    format!(
        "<table class=\"facts\">\n<thead><tr><th scope=\"col\">{}</th><th scope=\"col\">Value</th></tr></thead>\n\
         <tbody>\n{}</tbody>\n</table>\n",
        escaped(what),
        entries.map(row).collect::<String>()
    )
}

/// A part of the page under a heading.
pub fn section(heading: &str, html: &str) -> String {
    format!("<section>\n<h2>{}</h2>\n{html}\n</section>\n", escaped(heading))
}

/// A command, whose words are not broken where they fit on a line.
pub fn command(words: &[String]) -> String {
    let word = |word: &String| format!("<span>{}</span>", escaped(&quoted(std::slice::from_ref(word))));
    format!("<pre>{}</pre>", words.iter().map(word).collect::<Vec<_>>().join(" "))
}

/// A paragraph.
pub fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", escaped(text))
}

/// A part that is folded until it is opened.
pub fn details(summary: &str, html: &str) -> String {
    format!("<details>\n<summary>{}</summary>\n{html}</details>\n", escaped(summary))
}

/// A choice as it is typed, and its value.
pub fn typed(choice: &Choice) -> (String, String) {
    let name = if choice.option.is_some() { crate::option(&choice.name) } else { choice.name.clone() };
    let value = if choice.value.is_empty() { "on" } else { &choice.value };
    (name, value.to_string())
}

/// A list.
pub fn list<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> String {
    let entry = |text: T| format!("<li>{}</li>\n", escaped(text.as_ref()));
    format!("<ul class=\"notes\">\n{}</ul>\n", entries.into_iter().map(entry).collect::<String>())
}
