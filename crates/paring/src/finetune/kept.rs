//! The entries of a matrix that train: all others are 0 and are nowhere stored, so that nothing can change them.

use rayon::prelude::*;

/// Words of bits in a part that a thread takes at once.
const PART: usize = 256;

/// A set of entries of a matrix, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// Entries of the matrix.
    len: usize,
    words: Vec<u64>,
    /// Entries of the set before each part.
    starts: Vec<usize>,
    count: usize,
}

impl Kept {
    /// The entries that are not 0.
    pub fn of(values: &[f32]) -> Self {
        let word = |values: &[f32]| values.iter().enumerate().fold(0, |word, (i, &v)| word | u64::from(v != 0.0) << i);
        let words: Vec<u64> = values.chunks(64).map(word).collect();
        let (mut starts, mut count) = (Vec::new(), 0);
        for part in words.chunks(PART) {
            starts.push(count);
            count += part.iter().map(|word| word.count_ones() as usize).sum::<usize>();
        }
        Self { len: values.len(), words, starts, count }
    }

    /// Number of entries in the set.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The matrix with these values at the entries of the set, and 0 elsewhere.
    pub fn expand(&self, values: &[f32]) -> Vec<f32> {
        let mut dense = vec![0f32; self.len];
        let parts = dense.par_chunks_mut(PART * 64).zip(self.words.par_chunks(PART)).zip(&self.starts);
        parts.for_each(|((dense, words), &start)| {
            let mut values = values[start..].iter();
            each(words, |at| {
                if let Some(&value) = values.next() {
                    dense[at] = value;
                }
            });
        });
        dense
    }

    /// The values of a matrix at the entries of the set.
    pub fn select(&self, dense: &[f32]) -> Vec<f32> {
        let parts = dense.par_chunks(PART * 64).zip(self.words.par_chunks(PART));
        let parts: Vec<Vec<f32>> = parts
            .map(|(dense, words)| {
                let mut values = Vec::with_capacity(dense.len());
                each(words, |at| values.push(dense[at]));
                values
            })
            .collect();
        parts.concat()
    }
}

/// Calls `f` with the number of each bit that is set.
fn each(words: &[u64], mut f: impl FnMut(usize)) {
    for (i, &word) in words.iter().enumerate() {
        let mut rest = word;
        while rest != 0 {
            f(i * 64 + rest.trailing_zeros() as usize);
            rest &= rest - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back() {
        for len in [0, 1, 63, 64, 65, PART * 64 - 1, PART * 64 * 2 + 7] {
            let dense: Vec<f32> =
                (0..len).map(|i| if i % 3 == 1 || i % 64 == 63 { 0.0 } else { i as f32 + 1.0 }).collect();
            let kept = Kept::of(&dense);
            let values = kept.select(&dense);
            assert_eq!((values.len(), kept.count()), (kept.count(), dense.iter().filter(|v| **v != 0.0).count()));
            assert!(values.iter().all(|v| *v != 0.0));
            assert_eq!(kept.expand(&values), dense);
        }
        assert_eq!(Kept::of(&[-0.0, 1.0]).count(), 1);
    }
}
