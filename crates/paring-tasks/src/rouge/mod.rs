//! ROUGE: how much of reference texts is in predicted ones (C.-Y. Lin, "ROUGE: a package for automatic evaluation of summaries",
//! 2004), with the figures of Google's `rouge_score` 0.1.2, which `evaluate` and papers of today report.
//!
//! ```
//! use paring_tasks::rouge::{Kind, Rouge};
//!
//! let overlaps = Rouge { stemming: true }.overlaps("The lake froze.", "Lakes were freezing.");
//! assert_eq!(overlaps.of(Kind::Rouge1).precision, 1.0 / 3.0);
//! ```
//!
//! [`sentences`] splits texts for rougeLsum, which compares line by line.

mod means;
pub mod sentences;
mod stemmer;
mod subsequence;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::HashMap;

pub use means::{Mean, means};
pub use stemmer::stem;
pub use tokens::tokens;

use subsequence::Subsequence;
use tokens::{Text, Vocabulary};

/// The figures that are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Tokens.
    Rouge1,
    /// Pairs of tokens.
    Rouge2,
    /// The longest common subsequence of the texts.
    RougeL,
    /// The longest common subsequences of their lines.
    RougeLsum,
}

impl Kind {
    /// All, in the order in which they are reported.
    pub const ALL: [Kind; 4] = [Kind::Rouge1, Kind::Rouge2, Kind::RougeL, Kind::RougeLsum];

    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Rouge1 => "rouge1",
            Kind::Rouge2 => "rouge2",
            Kind::RougeL => "rougeL",
            Kind::RougeLsum => "rougeLsum",
        }
    }
}

/// The overlap of a prediction and a reference, each figure from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overlap {
    /// The part of the prediction that is in the reference.
    pub precision: f64,
    /// The part of the reference that is in the prediction.
    pub recall: f64,
    /// The harmonic mean of both, 0 where they are.
    pub f: f64,
}

impl Overlap {
    /// The overlap of this many among those of the prediction and of the reference.
    fn of(hits: usize, predicted: usize, referred: usize) -> Self {
        let precision = hits as f64 / predicted.max(1) as f64;
        let recall = hits as f64 / referred.max(1) as f64;
        let f = if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
        Self { precision, recall, f }
    }
}

/// The overlap of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overlaps([Overlap; 4]);

impl Overlaps {
    /// That of a kind.
    pub fn of(&self, kind: Kind) -> Overlap {
        self.0[kind as usize]
    }
}

/// The way that texts are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rouge {
    /// Compares the stems of tokens of more than three characters: English ones. Papers on summaries do; `evaluate` does not
    /// unless it is asked to.
    pub stemming: bool,
}

impl Rouge {
    /// The overlaps of a prediction with a reference. A text without tokens overlaps with nothing.
    ///
    /// Time grows with the product of the lengths, divided by 64, and memory with their sum.
    pub fn overlaps(&self, reference: &str, prediction: &str) -> Overlaps {
        let mut vocabulary = Vocabulary::default();
        let reference = vocabulary.text(reference, self.stemming);
        let prediction = vocabulary.text(prediction, self.stemming);
        let longest = Subsequence::of(reference.all()).length(prediction.all());
        Overlaps([
            in_runs(&reference, &prediction, 1),
            in_runs(&reference, &prediction, 2),
            Overlap::of(longest, prediction.all().len(), reference.all().len()),
            in_lines(&reference, &prediction, vocabulary.len()),
        ])
    }

    /// The overlaps with the best of several references, which may be another one for each kind: that of the largest F, and of
    /// equal ones the first. Zeros where there is no reference.
    pub fn best<R: AsRef<str>>(&self, references: &[R], prediction: &str) -> Overlaps {
        let mut all = references.iter().map(|reference| self.overlaps(reference.as_ref(), prediction));
        let first = all.next().unwrap_or_default();
        all.fold(first, |best, next| {
            let better = |i: usize| if next.0[i].f > best.0[i].f { next.0[i] } else { best.0[i] };
            Overlaps(std::array::from_fn(better))
        })
    }
}

/// The overlap of runs of `n` tokens: rougeN.
fn in_runs(reference: &Text, prediction: &Text, n: usize) -> Overlap {
    let mut left: HashMap<&[u32], usize> = HashMap::new();
    reference.all().windows(n).for_each(|run| *left.entry(run).or_default() += 1);
    let mut hits = 0;
    for run in prediction.all().windows(n) {
        if let Some(count) = left.get_mut(run).filter(|count| **count > 0) {
            *count -= 1;
            hits += 1;
        }
    }
    let runs = |text: &Text| (text.all().len() + 1).saturating_sub(n);
    Overlap::of(hits, runs(prediction), runs(reference))
}

/// The overlap of lines: rougeLsum. Of each line of the reference, the tokens count that are on a longest common subsequence with
/// any line of the prediction, each as often as both texts have it.
fn in_lines(reference: &Text, prediction: &Text, vocabulary: usize) -> Overlap {
    let counts = |text: &Text| {
        let mut counts = vec![0_usize; vocabulary];
        text.all().iter().for_each(|&token| counts[token as usize] += 1);
        counts
    };
    let (mut of_reference, mut of_prediction) = (counts(reference), counts(prediction));
    let mut hits = 0;
    for line in reference.lines() {
        let subsequence = Subsequence::of(line);
        let mut marks = vec![false; line.len()];
        prediction.lines().for_each(|other| subsequence.mark(other, &mut marks));
        for (&token, _) in line.iter().zip(&marks).filter(|(_, is_marked)| **is_marked) {
            let (left, left_too) = (&mut of_reference[token as usize], &mut of_prediction[token as usize]);
            if *left > 0 && *left_too > 0 {
                (*left, *left_too) = (*left - 1, *left_too - 1);
                hits += 1;
            }
        }
    }
    Overlap::of(hits, prediction.all().len(), reference.all().len())
}
