//! Figures of many texts.

use super::{Kind, Overlap, Overlaps};
use crate::results::mean_stderr;

/// The mean of the overlaps of a kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The kind.
    pub kind: Kind,
    /// The means of precision, recall and F. That of F is not made of the others.
    pub overlap: Overlap,
    /// The standard error of the mean F; `None` of a single text.
    pub stderr: Option<f64>,
}

/// The means over texts, of each kind; `None` where there is none.
///
/// Means as they are, where `evaluate` reports the median of a thousand means of texts that it draws without a fixed seed.
pub fn means(overlaps: &[Overlaps]) -> Option<[Mean; 4]> {
    let count = overlaps.len() as f64;
    let mean = |kind: Kind| {
        let mean = |figure: fn(Overlap) -> f64| overlaps.iter().map(|each| figure(each.of(kind))).sum::<f64>() / count;
        let overlap = Overlap { precision: mean(|o| o.precision), recall: mean(|o| o.recall), f: mean(|o| o.f) };
        let all: Vec<f64> = overlaps.iter().map(|each| each.of(kind).f).collect();
        Mean { kind, overlap, stderr: mean_stderr(&all) }
    };
    (!overlaps.is_empty()).then(|| Kind::ALL.map(mean))
}
