//! Examples → the batches that go through the model together.

use std::ops::Range;

use paring_data::training::Example;

use crate::{Error, Result};

/// Tokens that go through a block together: enough for products at full speed, few enough that what a backward pass keeps stays small.
pub(super) const TOGETHER: usize = 2048;

/// Examples that go through the model together, padded on the right to the longest.
pub(super) struct Micro {
    /// `[rows, longest]`.
    pub ids: Vec<u32>,
    pub rows: usize,
    /// Positions (row · t + column) whose next token is learned, and that token.
    pub learned: Vec<(u32, u32)>,
    /// For each position, true if it is no padding.
    pub valid: Vec<bool>,
}

impl Micro {
    /// All examples, in their order, a few thousand tokens together. Errors where one is empty or has other labels than tokens.
    pub fn of<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Result<Vec<Micro>> {
        let examples: Vec<&Example> = examples.into_iter().collect();
        if let Some(bad) = examples.iter().find(|e| e.ids.is_empty() || e.ids.len() != e.learned.len()) {
            let (ids, labels) = (bad.ids.len(), bad.learned.len());
            return Err(Error::Plan(format!("an example of {ids} tokens and {labels} labels")));
        }
        let mut micros = Vec::new();
        let (mut first, mut longest) = (0, 0);
        for (i, example) in examples.iter().enumerate() {
            let padded = longest.max(example.ids.len());
            if i > first && (i + 1 - first) * padded > TOGETHER {
                micros.push(Self::padded(&examples[first..i], longest));
                (first, longest) = (i, example.ids.len());
            } else {
                longest = padded;
            }
        }
        if first < examples.len() {
            micros.push(Self::padded(&examples[first..], longest));
        }
        Ok(micros)
    }

    fn padded(examples: &[&Example], t: usize) -> Micro {
        let rows = examples.len();
        let (mut ids, mut valid, mut learned) = (vec![0; rows * t], vec![false; rows * t], Vec::new());
        for (row, example) in examples.iter().enumerate() {
            let own: Range<usize> = row * t..row * t + example.ids.len();
            // Padding is a token that occurs, so that no further row of the embedding is read; nothing looks at what becomes of it.
            ids[row * t..(row + 1) * t].fill(example.ids[0]);
            ids[own.clone()].copy_from_slice(&example.ids);
            valid[own].fill(true);
            let next = example.ids.iter().zip(&example.learned).enumerate().skip(1);
            learned.extend(next.filter(|(_, (_, is))| **is).map(|(at, (&id, _))| ((row * t + at - 1) as u32, id)));
        }
        Micro { ids, rows, learned, valid }
    }
}

/// The number of the first example of each batch.
pub(super) fn firsts(micros: &[Micro]) -> impl Iterator<Item = usize> {
    micros.iter().scan(0, |first, micro| {
        let own = *first;
        *first += micro.rows;
        Some(own)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_padded_and_labels_are_shifted() {
        let a = Example { ids: vec![5, 6, 7], learned: vec![false, false, true] };
        let b = Example::all(vec![8]);
        let micros = Micro::of([&a, &b]).unwrap();
        let [micro] = &micros[..] else { panic!("{} batches", micros.len()) };
        assert_eq!(micro.rows, 2);
        assert_eq!(micro.ids, [5, 6, 7, 8, 8, 8]);
        assert_eq!(micro.valid, [true, true, true, true, false, false]);
        assert_eq!(micro.learned, [(1, 7)]);
        assert_eq!((a.labels(), b.labels()), (1, 0));
        let long = Example::all(vec![1; 1500]);
        assert_eq!(Micro::of([&long, &long, &b]).unwrap().iter().map(|m| m.rows).collect::<Vec<_>>(), [1, 1, 1]);
        assert!(Micro::of([&Example { ids: vec![1], learned: vec![] }]).is_err());
    }
}
