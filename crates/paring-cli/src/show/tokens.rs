//! Documents and their tokens, for a terminal.

use paring_data::ShownDocument;
use paring_format::names::is_obeyed;

use paring::report::words::plural;

/// Characters of a document, and tokens, that are printed.
const CHARACTERS: usize = 8000;
const TOKENS: usize = 2000;
/// Columns at which lines of ids end.
const WIDTH: usize = 100;

/// Each document in a few lines: its number, its text with line ends and controls as escapes, and its ids.
pub fn tokens(data: &str, documents: &[ShownDocument], limit: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for ShownDocument { document, text, ids } in documents {
        lines.push(format!("document {document}: {}", plural(ids.len(), "token")));
        match text {
            Some(text) => lines.extend(escaped(text)),
            None => lines.push("  the model has no tokenizer.json: its text is not known".into()),
        }
        lines.extend(numbers(ids));
        lines.push(String::new());
    }
    let count = documents.len();
    let which = if count < limit { "all" } else { "the first" };
    lines.push(format!("{which} {count} of {data}; --limit N shows more or fewer, --json whole documents"));
    lines
}

/// A text in lines as it has them, each with its end as an escape. What a terminal would obey is an escape too.
fn escaped(text: &str) -> Vec<String> {
    let mut lines = vec![String::from("  ")];
    let mut add = |piece: &str, ends: bool| {
        if let Some(line) = lines.last_mut() {
            line.push_str(piece);
        }
        if ends {
            lines.push("  ".into());
        }
    };
    let mut rest = text.chars();
    for c in rest.by_ref().take(CHARACTERS) {
        match c {
            '\n' => add("\\n", true),
            '\r' => add("\\r", false),
            '\t' => add("\\t", false),
            c if is_obeyed(c) => add(&format!("\\u{{{:x}}}", c as u32), false),
            c => add(c.encode_utf8(&mut [0; 4]), false),
        }
    }
    if !text.is_empty() && lines.last().is_some_and(|line| line == "  ") {
        lines.pop();
    }
    match rest.count() {
        0 => {}
        more => lines.push(format!("  … and {more} more characters")),
    }
    lines
}

fn numbers(ids: &[u32]) -> Vec<String> {
    let mut lines = vec![String::from("  ids")];
    for id in ids.iter().take(TOKENS) {
        let id = id.to_string();
        match lines.last_mut() {
            Some(line) if line.len() + 1 + id.len() <= WIDTH => line.push_str(&format!(" {id}")),
            _ => lines.push(format!("      {id}")),
        }
    }
    if ids.len() > TOKENS {
        lines.push(format!("      … and {} more", ids.len() - TOKENS));
    }
    lines
}
