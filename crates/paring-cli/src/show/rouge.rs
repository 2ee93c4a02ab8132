//! ROUGE as a table.

use paring::report::words::plural;
use paring_tasks::rouge::{Mean, Rouge};

use super::comparison::table;

/// The lines that rougeLsum compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sentences {
    /// Those of the texts.
    Lines,
    /// Sentences, where rules of ours see their ends.
    Approximate,
}

/// Means over so many texts, of which each has so many references at most, times 100.
pub fn rouge(means: &[Mean], (texts, references): (usize, usize), rouge: Rouge, sentences: Sentences) -> Vec<String> {
    let words = if rouge.stemming { "stems of words" } else { "words as they are written" };
    let best = if references > 1 { format!(", the best of up to {references} references each") } else { String::new() };
    let percent = |figure: f64| format!("{:.2}", 100.0 * figure);
    let row = |mean: &Mean| {
        let stderr = mean.stderr.map_or("–".into(), percent);
        let figures = [mean.overlap.precision, mean.overlap.recall, mean.overlap.f].map(percent);
        [mean.kind.name().to_string()].into_iter().chain(figures).chain([stderr]).collect()
    };
    let head = ["", "precision", "recall", "F", "± of F"].map(String::from).to_vec();
    let mut lines = vec![format!("{}, {words}{best}; means of each text's figures, times 100", plural(texts, "text"))];
    lines.extend(table(std::iter::once(head).chain(means.iter().map(row)).collect(), 1));
    if sentences == Sentences::Approximate {
        lines.push("rougeLsum is approximate: sentences are split by rules near NLTK's Punkt, which papers use".into());
    }
    lines
}
